//! One call, and the lookups that follow it.

use std::{
    future::Future,
    marker::PhantomData,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use pin_project_lite::pin_project;

use super::{
    Answer, Conclusion, Joined, Lookup, NotCarriedOut, Reconciled, Round, StillUnknown,
    layer::Shared, state::is_unknown,
};
use crate::{
    call::{Asked, apart},
    classify::{Classify, Verdict},
    error::BoxError,
    event::Event,
    time::{Sleep, now},
};

pin_project! {
    /// The future of [`Reconcile`](super::Reconcile).
    #[must_use = "futures do nothing unless polled"]
    pub struct ReconcileFuture<F, T, R, L, Cl, K>
    where
        L: Lookup<R>,
    {
        id: Option<L::Id>,
        asked: Asked,
        // In a box, so that no call that succeeds at once makes room for it.
        open: Option<Box<Open<T>>>,
        shared: Arc<Shared<L, Cl>>,
        #[pin]
        state: State<F, L::Future>,
        kind: PhantomData<fn(R) -> K>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, U> {
        Calling { #[pin] inner: F },
        LookingUp { #[pin] lookup: U, #[pin] sleep: Option<Sleep> },
        Waiting { #[pin] sleep: Sleep },
        Ended,
    }
}

/// The answer that was found, or what else is known, with the error of the lookup.
type Concluded<F> = Result<F, (Conclusion, Option<BoxError>)>;

/// A call whose outcome is unknown.
struct Open<T> {
    result: Result<T, BoxError>,
    verdict: Verdict,
    until: Instant,
    lookups: u32,
}

impl<F, T, R, L, Cl, K> ReconcileFuture<F, T, R, L, Cl, K>
where
    L: Lookup<R>,
{
    pub(super) const fn new(
        inner: F,
        id: Option<L::Id>,
        asked: Asked,
        shared: Arc<Shared<L, Cl>>,
    ) -> Self {
        let state = State::Calling { inner };
        Self { id, asked, open: None, shared, state, kind: PhantomData }
    }
}

impl<F, T, E, R, L, Cl, K> Future for ReconcileFuture<F, T, R, L, Cl, K>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
    L: Lookup<R>,
    Cl: Classify<T>,
    K: Joined<T, L::Found>,
{
    type Output = Result<K::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let found = loop {
            match this.state.as_mut().project() {
                StateProj::Calling { inner } => {
                    let result = ready!(inner.poll(cx)).map_err(Into::into);
                    // Freed before anything else is waited for.
                    this.state.set(State::Ended);
                    let Some(id) = this.id.as_ref() else {
                        return Poll::Ready(result.map(K::answered));
                    };
                    let verdict = match &result {
                        Ok(response) => this.shared.classifier.response(*this.asked, response),
                        Err(error) => this.shared.classifier.error(*this.asked, &**error),
                    };
                    if !is_unknown(verdict) {
                        return Poll::Ready(result.map(K::answered));
                    }
                    let now = now();
                    let until = this.shared.config.patience.until(now, this.asked.deadline);
                    let open = Box::new(Open { result, verdict, until, lookups: 0 });
                    let open = this.open.insert(open);
                    if now < until {
                        let lookup = open.look_up(&this.shared.lookup, id);
                        this.state.set(State::LookingUp { lookup, sleep: None });
                        continue;
                    }
                    break Err((Conclusion::NoTime, None));
                }
                StateProj::LookingUp { lookup, mut sleep } => {
                    let open = this.open.as_ref().expect(OPEN);
                    // It is no part of this call, whose trail stays as it is.
                    let Poll::Ready(answer) = apart(|| lookup.poll(cx)) else {
                        if sleep.is_none() {
                            sleep.set(Some(Sleep::until(open.until)));
                        }
                        if let Some(sleep) = sleep.as_mut().as_pin_mut() {
                            ready!(sleep.poll(cx));
                        }
                        break Err((Conclusion::NoTime, None));
                    };
                    match open.hear(answer, this.shared) {
                        ControlFlow::Break(found) => break found,
                        ControlFlow::Continue(at) => {
                            this.state.set(State::Waiting { sleep: Sleep::until(at) });
                        }
                    }
                }
                StateProj::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    let open = this.open.as_mut().expect(OPEN);
                    // The timer may have fired late.
                    if now() < open.until {
                        let id = this.id.as_ref().expect("what has none is not looked up");
                        let lookup = open.look_up(&this.shared.lookup, id);
                        this.state.set(State::LookingUp { lookup, sleep: None });
                        continue;
                    }
                    break Err((Conclusion::NoTime, None));
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        };
        this.state.set(State::Ended);
        let open = *this.open.take().expect(OPEN);
        Poll::Ready(open.conclude::<R, L, Cl, K>(found, this.shared))
    }
}

const OPEN: &str = "only an open call is looked up";

impl<T> Open<T> {
    fn look_up<R, L: Lookup<R>>(&mut self, lookup: &L, id: &L::Id) -> L::Future {
        self.lookups += 1;
        lookup.look_up(id, Round::new(self.lookups, self.until))
    }

    /// What a lookup's answer means: the end, or another lookup from an instant on.
    fn hear<F, L, Cl>(
        &self,
        answer: Result<Answer<F>, BoxError>,
        shared: &Shared<L, Cl>,
    ) -> ControlFlow<Concluded<F>, Instant> {
        ControlFlow::Break(match answer {
            Ok(Answer::Found(found)) => Ok(found),
            Ok(Answer::NotCarriedOut) => Err((Conclusion::NotCarriedOut, None)),
            Err(error) => Err((Conclusion::LookupFailed, Some(error))),
            Ok(Answer::Running) => {
                let config = &shared.config;
                let draw = config.entropy.unit();
                match config.patience.again(self.lookups, self.until, now(), draw) {
                    Ok(at) => return ControlFlow::Continue(at),
                    Err(conclusion) => Err((conclusion, None)),
                }
            }
        })
    }

    /// What the caller gets.
    fn conclude<R, L, Cl, K>(
        self,
        found: Concluded<L::Found>,
        shared: &Shared<L, Cl>,
    ) -> Result<K::Response, BoxError>
    where
        L: Lookup<R>,
        K: Joined<T, L::Found>,
    {
        let Self { result, verdict, lookups, .. } = self;
        let conclusion = match &found {
            Ok(_) => Conclusion::Found,
            Err((conclusion, _)) => *conclusion,
        };
        shared.config.observer.on(|| Event::Reconciled { outcome: conclusion.code(), lookups });
        let reconciled = Reconciled::new(conclusion, lookups);
        match (found, result) {
            (Ok(found), _) => Ok(K::found(found, reconciled)),
            (Err(_), Ok(mut response)) => {
                K::note(&mut response, reconciled);
                Ok(K::answered(response))
            }
            (Err((Conclusion::NotCarriedOut, _)), Err(error)) => {
                Err(NotCarriedOut::new(error, verdict, lookups).into())
            }
            (Err((conclusion, lookup)), Err(error)) => {
                Err(StillUnknown::new(error, conclusion, lookups, lookup).into())
            }
        }
    }
}
