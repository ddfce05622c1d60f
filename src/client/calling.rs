//! One call, from the roof to its attempts.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Span;

use super::{
    AnswerClassifier, Attempts, Error, Exchange, Parcel, ParcelReplayer,
    answer::{Answer, AttemptGuard},
    attempt::Attempt,
    roof::Shared,
};
use crate::{
    body::Body,
    budget::Deposit,
    classify::{Classify, Verdict},
    error::BoxError,
    hedge::HedgeFuture,
    retry::{Ongoing, Terms},
    sync::Share,
    time::{Sleep, now},
    timeout::{Bounded, BoundedBody, Bounds, Http, Timer, Which},
    trace::Watched,
};

/// What a call holds until its response has been read: what its attempt holds, and what it pays
/// into the budget of the retries.
pub type CallGuard<T> = (AttemptGuard<T>, Deposit);

pin_project! {
    /// The future of [`Roof`](super::Roof): the call span, the deadline and the retries, in one.
    #[must_use = "futures do nothing unless polled"]
    pub struct CallFuture<T, Cl>
    where
        T: Exchange,
        Cl: Classify<Response<Body>>,
    {
        shared: Share<Shared<T, Cl>>,
        #[pin]
        stage: Stage<T, Cl>,
        retrying: Retrying<T, Cl>,
        bounds: Bounds,
        // While no attempt has a timer of its own, which is the earlier. In a box: hardly any
        // call waits without.
        late: Option<Pin<Box<Timer>>>,
        // None if nobody listens.
        watched: Option<Box<Watched>>,
    }

    impl<T, Cl> PinnedDrop for CallFuture<T, Cl>
    where
        T: Exchange,
        Cl: Classify<Response<Body>>,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(watched) = this.watched.take() {
                watched.record_drop();
                // What the layers below report while they are dropped belongs to the span.
                let _entered = watched.enter();
                this.stage.set(Stage::Ended);
                this.retrying.let_go();
            }
        }
    }
}

type Guarded<T, Cl> = <Cl as Classify<Response<Body>>>::Guarded<CallGuard<T>>;

type Retrying<T, Cl> = Ongoing<ParcelReplayer, Answer<T>, Guarded<T, Cl>>;

type Race<T, Cl> = HedgeFuture<Attempts<T, Cl>, Parcel, AnswerClassifier<Cl>>;

pin_project! {
    #[project = StageProj]
    enum Stage<T, Cl>
    where
        T: Exchange,
        Cl: Classify<Response<Body>>,
    {
        Attempting { #[pin] attempt: Attempt<T> },
        // In a box: the future of two attempts is more than twice that of one, and every call
        // would carry its size about, of clients that never hedge too.
        Racing { race: Pin<Box<Race<T, Cl>>> },
        BackingOff { #[pin] sleep: Sleep },
        /// No attempt was begun, for this reason.
        Failed { error: Option<BoxError> },
        Ended,
    }
}

/// What has come of a call.
enum Outcome<K> {
    /// A success at the first try: the way of almost every call, on which its response is wrapped
    /// once, where the caller gets it. Its attempt holds it until then.
    First(Verdict),
    Other(Box<K>),
}

impl<T: Exchange, Cl: Classify<Response<Body>>> CallFuture<T, Cl> {
    #[inline(always)]
    pub(super) fn begun(
        shared: Share<Shared<T, Cl>>,
        mut call: Parcel,
        bounds: Bounds,
        watched: Option<Box<Watched>>,
    ) -> Self {
        let terms = Terms::of(&mut call, bounds.began());
        // In this order: each is built where it stays.
        Self {
            retrying: Ongoing::new(
                terms,
                shared.retry.keeps(terms).map(|cap| call.keep(cap)),
                Some(bounds.expires()),
            ),
            stage: Stage::attempt(call, &shared),
            bounds,
            late: None,
            watched,
            shared,
        }
    }

    #[cold]
    pub(super) fn failed(
        shared: Share<Shared<T, Cl>>,
        mut call: Parcel,
        error: BoxError,
        bounds: Bounds,
        watched: Option<Box<Watched>>,
    ) -> Self {
        Self {
            stage: Stage::Failed { error: Some(error) },
            retrying: Ongoing::new(Terms::of(&mut call, bounds.began()), None, None),
            bounds,
            late: None,
            watched,
            shared,
        }
    }
}

impl<T: Exchange, Cl: Classify<Response<Body>>> Stage<T, Cl> {
    #[inline(always)]
    fn attempt(call: Parcel, shared: &Shared<T, Cl>) -> Self {
        match &shared.hedge {
            None => Self::Attempting { attempt: Attempt::new(call) },
            Some(hedge) => Self::Racing { race: Box::pin(hedge.clone().call(call)) },
        }
    }

    /// Makes attempts until one is the last.
    fn poll_outcome(
        mut self: Pin<&mut Self>,
        retrying: &mut Retrying<T, Cl>,
        shared: &Shared<T, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Outcome<Guarded<T, Cl>>, BoxError>> {
        let (rules, asked) = (&shared.retry, retrying.asked());
        let classifier = rules.classifier();
        let ended = loop {
            let result = match self.as_mut().project() {
                StageProj::Attempting { mut attempt } => {
                    let attempts = shared.attempts.shared();
                    let polled =
                        retrying.trail().enter(|| attempt.as_mut().poll_head(attempts, cx));
                    match ready!(polled) {
                        Ok(head) if head.is_success() && retrying.is_first_try() => {
                            retrying.note_success(rules);
                            return Poll::Ready(Ok(Outcome::First(head)));
                        }
                        Ok(_) => Ok(attempt.answer()),
                        Err(error) => Err(error),
                    }
                }
                StageProj::Racing { race } => {
                    ready!(retrying.trail().enter(|| race.as_mut().poll(cx)))
                }
                StageProj::BackingOff { sleep } => {
                    retrying.read_aside(cx, rules);
                    ready!(sleep.poll(cx));
                    match retrying.next_attempt() {
                        Ok(call) => self.set(Self::attempt(call, shared)),
                        Err((reason, error)) => break retrying.cut_short(reason, error, rules),
                    }
                    continue;
                }
                StageProj::Failed { error } => {
                    let error = error.take().expect("a future is not polled after its end");
                    return Poll::Ready(Err(error));
                }
                StageProj::Ended => panic!("polled after it was ready"),
            };
            // Freed before anything else is waited for.
            self.set(Self::Ended);
            let verdict = match &result {
                Ok(answer) => classifier.response(asked, answer),
                Err(error) => Classify::<Answer<T>>::error(classifier, asked, &**error),
            };
            match retrying.judge(result, verdict, rules) {
                ControlFlow::Break(ended) => break ended,
                ControlFlow::Continue(until) => {
                    self.set(Self::BackingOff { sleep: Sleep::until(until) });
                }
            }
        };
        self.set(Self::Ended);
        // In a box, as it is large and rare.
        Poll::Ready(retrying.finish(ended, rules).map(|whole| Outcome::Other(Box::new(whole))))
    }
}

impl<T, Cl, R> Future for CallFuture<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<R>>,
{
    type Output = Result<Response<BoundedBody<R>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.watched.is_some() { self.poll_watched(cx) } else { self.within_span(cx) }
    }
}

impl<T, Cl, R> CallFuture<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<R>>,
{
    #[cold]
    fn poll_watched(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let span = self.watched.as_deref().map(Watched::span);
        let _entered = span.as_ref().map(Span::enter);
        let polled = self.as_mut().within_span(cx);
        if let Poll::Ready(outcome) = &polled {
            // Ended here and not by whoever drops this future, who may keep it.
            if let Some(watched) = self.project().watched.take() {
                watched.record(outcome.as_ref().map_err(Error::cause));
            }
        }
        polled
    }

    #[inline]
    fn within_span(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let this = self.project();
        let (shared, retrying) = (&***this.shared, this.retrying);
        let mut stage = this.stage;
        match stage.as_mut().poll_outcome(retrying, shared, cx) {
            Poll::Ready(Ok(Outcome::First(head))) => {
                let StageProj::Attempting { attempt } = stage.as_mut().project() else {
                    unreachable!("it has just answered")
                };
                let (response, guard) = attempt.take();
                let guard = (guard, shared.retry.deposit());
                let (asked, classifier) = (retrying.asked(), &shared.attempts.shared().classifier);
                let response = classifier.guard(asked, response, head, guard);
                stage.set(Stage::Ended);
                return Poll::Ready(Ok(Http::limit(response, this.bounds.of_body())));
            }
            Poll::Ready(Ok(Outcome::Other(response))) => {
                return Poll::Ready(Ok(Http::limit(*response, this.bounds.of_body())));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::new(error, now()))),
            Poll::Pending => {}
        }
        if this.late.is_none() && retrying.trail().wakes() {
            return Poll::Pending;
        }
        let late = this.late.get_or_insert_with(|| Box::pin(this.bounds.timer()));
        ready!(late.as_mut().poll_over(false, cx));
        let elapsed = late.elapsed(Which::Total, retrying.sent());
        // Dropped now, so that permits, budget and connection are free when the error is seen.
        retrying.give_up(|| stage.set(Stage::Ended));
        Poll::Ready(Err(Error::new(elapsed.into(), now())))
    }
}
