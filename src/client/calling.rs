//! One call, from the roof to its attempts.

use std::{
    future::Future,
    mem,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use tower_service::Service;
use tracing::Span;

use super::{
    AnswerClassifier, Attempts, Error, Exchange, Parcel, ParcelReplayer, answer::Answer,
    roof::Shared,
};
use crate::{
    body::Body,
    budget::Deposit,
    call::Asked,
    classify::{Classify, Verdict},
    error::BoxError,
    hedge::HedgeFuture,
    retry::{Ongoing, Terms},
    sync::Share,
    time::{Sleep, now},
    timeout::{Bounded, BoundedBody, Bounds, Http, Limit, Timer, Which},
    trace::Watched,
};

/// What a call holds until its response has been read: what its attempt holds, and what it pays
/// into the budget of the retries.
pub type CallGuard<T> = (Parcel<T>, Deposit);

/// The future of [`Roof`](super::Roof): the call span, the deadline and the retries, in one.
#[must_use = "futures do nothing unless polled"]
pub struct CallFuture<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>>,
{
    shared: Share<Shared<T, Cl>>,
    stage: Stage<T, Cl>,
    retrying: Retrying<T, Cl>,
    bounds: Bounds,
    // While no attempt has a timer of its own, which is the earlier. In a box: hardly any call
    // waits without.
    late: Option<Pin<Box<Timer>>>,
    // None if nobody listens.
    watched: Option<Box<Watched>>,
}

impl<T, Cl> Drop for CallFuture<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>>,
{
    fn drop(&mut self) {
        if let Some(watched) = self.watched.take() {
            watched.record_drop();
            // What the layers below report while they are dropped belongs to the span.
            let _entered = watched.enter();
            self.stage = Stage::Ended;
            self.retrying.let_go();
        }
    }
}

type Guarded<T, Cl> = <Cl as Classify<Response<Body>>>::Guarded<CallGuard<T>>;

type Retrying<T, Cl> = Ongoing<ParcelReplayer<T>, Answer<T>, Guarded<T, Cl>>;

type Race<T, Cl> = HedgeFuture<Attempts<T, Cl>, Parcel<T>, AnswerClassifier<Cl>>;

enum Stage<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>>,
{
    Attempting {
        parcel: Parcel<T>,
    },
    // In a box: every call would carry its size about, of clients that never hedge too.
    Racing {
        race: Pin<Box<Race<T, Cl>>>,
    },
    BackingOff {
        sleep: Sleep,
    },
    /// No attempt was begun, for this reason.
    Failed {
        error: Option<BoxError>,
    },
    Ended,
}

impl<T: Exchange, Cl: Classify<Response<Body>>> CallFuture<T, Cl> {
    // Always: it is built where its caller wants it, and not moved there.
    #[inline(always)]
    pub(super) fn begun(
        shared: Share<Shared<T, Cl>>,
        mut parcel: Parcel<T>,
        bounds: Bounds,
        watched: Option<Box<Watched>>,
    ) -> Self {
        let terms = Terms::of(&mut parcel, bounds.began());
        if let Some(cap) = shared.retry.keeps(terms) {
            parcel.keep(cap);
        }
        // Where two race, either may be gone when a third is to be made.
        let replayer = shared.hedge.as_ref().and_then(|_| parcel.take_kept());
        let stage = Stage::attempt(parcel, &shared);
        Self {
            retrying: Ongoing::new(terms, replayer, Some(bounds.expires())),
            stage,
            bounds,
            late: None,
            watched,
            shared,
        }
    }

    #[cold]
    pub(super) fn failed(
        shared: Share<Shared<T, Cl>>,
        mut parcel: Parcel<T>,
        error: BoxError,
        bounds: Bounds,
        watched: Option<Box<Watched>>,
    ) -> Self {
        Self {
            stage: Stage::Failed { error: Some(error) },
            retrying: Ongoing::new(Terms::of(&mut parcel, bounds.began()), None, None),
            bounds,
            late: None,
            watched,
            shared,
        }
    }
}

impl<T: Exchange, Cl: Classify<Response<Body>>> Stage<T, Cl> {
    #[inline(always)]
    fn attempt(parcel: Parcel<T>, shared: &Shared<T, Cl>) -> Self {
        match &shared.hedge {
            None => Self::Attempting { parcel },
            Some(hedge) => Self::Racing { race: Box::pin(hedge.clone().call(parcel)) },
        }
    }

    /// The attempt whose head has just come.
    #[inline]
    fn take_parcel(&mut self) -> Parcel<T> {
        match mem::replace(self, Self::Ended) {
            Self::Attempting { parcel } => parcel,
            _ => unreachable!("it has just answered"),
        }
    }

    /// The call beyond a success at the first try: makes attempts until one is the last. The head of
    /// the one under way may have come already.
    #[inline(never)]
    fn poll_outcome(
        &mut self,
        mut came: Option<Result<Verdict, BoxError>>,
        retrying: &mut Retrying<T, Cl>,
        shared: &Shared<T, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Guarded<T, Cl>, BoxError>> {
        let (rules, asked) = (&shared.retry, retrying.asked());
        let classifier = rules.classifier();
        let ended = loop {
            let result = match self {
                Self::Attempting { parcel } => {
                    let head = match came.take() {
                        Some(head) => head,
                        None => ready!(poll_head(parcel, retrying, shared, cx)),
                    };
                    if let Some(kept) = parcel.take_kept() {
                        retrying.keep(kept);
                    }
                    head.map(|_| Answer::of(self.take_parcel()))
                }
                Self::Racing { race } => {
                    ready!(retrying.trail().enter(|| race.as_mut().poll(cx)))
                }
                Self::BackingOff { sleep } => {
                    retrying.read_aside(cx, rules);
                    ready!(Pin::new(sleep).poll(cx));
                    match retrying.next_attempt() {
                        Ok(parcel) => *self = Self::attempt(parcel, shared),
                        Err((reason, error)) => break retrying.cut_short(reason, error, rules),
                    }
                    continue;
                }
                Self::Failed { error } => {
                    let error = error.take().expect("a future is not polled after its end");
                    return Poll::Ready(Err(error));
                }
                Self::Ended => panic!("polled after it was ready"),
            };
            // Freed before anything else is waited for.
            *self = Self::Ended;
            let verdict = match &result {
                Ok(answer) => classifier.response(asked, answer),
                Err(error) => Classify::<Answer<T>>::error(classifier, asked, &**error),
            };
            match retrying.judge(result, verdict, rules) {
                ControlFlow::Break(ended) => break ended,
                ControlFlow::Continue(until) => {
                    *self = Self::BackingOff { sleep: Sleep::until(until) };
                }
            }
        };
        *self = Self::Ended;
        Poll::Ready(retrying.finish(ended, rules))
    }
}

/// The attempt under way, with the call's trail.
#[inline(always)]
fn poll_head<T: Exchange, Cl: Classify<Response<Body>>>(
    parcel: &mut Parcel<T>,
    retrying: &mut Retrying<T, Cl>,
    shared: &Shared<T, Cl>,
    cx: &mut Context<'_>,
) -> Poll<Result<Verdict, BoxError>> {
    let attempt = parcel.attempt.as_mut();
    retrying.trail().enter(|| attempt.poll_head(shared.attempts.shared(), cx))
}

/// A first success whose head decides.
#[inline(never)]
fn guarded<T, Cl, R>(
    classifier: &Cl,
    asked: Asked,
    (mut parcel, deposit): CallGuard<T>,
    head: Verdict,
    limit: Limit,
) -> Response<BoundedBody<R>>
where
    T: Exchange,
    Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<R>>,
{
    let response = parcel.attempt.as_mut().take_response();
    Http::limit(classifier.guard(asked, response, head, (parcel, deposit)), limit)
}

impl<T, Cl, R> Future for CallFuture<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<R>>,
{
    type Output = Result<Response<BoundedBody<R>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.watched.is_some() { this.poll_watched(cx) } else { this.within_span(cx) }
    }
}

impl<T, Cl, R> CallFuture<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<R>>,
{
    #[cold]
    fn poll_watched(&mut self, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let span = self.watched.as_deref().map(Watched::span);
        let _entered = span.as_ref().map(Span::enter);
        let polled = self.within_span(cx);
        if let Poll::Ready(outcome) = &polled {
            // Ended here and not by whoever drops this future, who may keep it.
            if let Some(watched) = self.watched.take() {
                watched.record(outcome.as_ref().map_err(Error::cause));
            }
        }
        polled
    }

    #[inline]
    fn within_span(&mut self, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let Self { shared, stage, retrying, bounds, .. } = self;
        let shared = &***shared;
        let polled = match stage {
            Stage::Attempting { parcel } if retrying.is_first_try() => {
                match poll_head(parcel, retrying, shared, cx) {
                    Poll::Ready(Ok(head)) if head.is_success() => {
                        return self.first_success(head);
                    }
                    Poll::Ready(head) => stage.poll_outcome(Some(head), retrying, shared, cx),
                    Poll::Pending => return self.poll_late(cx),
                }
            }
            _ => stage.poll_outcome(None, retrying, shared, cx),
        };
        match polled {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(Http::limit(response, bounds.of_body()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Error::new(error, now()))),
            Poll::Pending => self.poll_late(cx),
        }
    }

    /// The way of almost every call. Its response stayed with its attempt until it is wrapped, once,
    /// where the caller gets it.
    #[inline(always)]
    fn first_success(&mut self, head: Verdict) -> Poll<<Self as Future>::Output> {
        let Self { shared, stage, retrying, bounds, .. } = self;
        retrying.note_success(&shared.retry);
        let mut parcel = stage.take_parcel();
        let (asked, deposit) = (retrying.asked(), shared.retry.deposit());
        let (classifier, limit) = (&shared.attempts.shared().classifier, bounds.of_body());
        // Asked while it is where it stayed: nothing may unwind from when it is taken.
        if !classifier.is_open(asked, parcel.attempt.response(), head) {
            return Poll::Ready(Ok(guarded(classifier, asked, (parcel, deposit), head, limit)));
        }
        let response = parcel.attempt.as_mut().take_response();
        let guard = (parcel, deposit);
        Poll::Ready(Ok(Http::limit(classifier.guard_open(asked, response, head, guard), limit)))
    }

    /// The deadline, of a call that waits.
    #[inline]
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let Self { stage, retrying, bounds, late, .. } = self;
        if late.is_none() && retrying.trail().wakes() {
            return Poll::Pending;
        }
        let late = late.get_or_insert_with(|| Box::pin(bounds.timer()));
        ready!(late.as_mut().poll_over(false, cx));
        let elapsed = late.elapsed(Which::Total, retrying.sent());
        // Dropped now, so that permits, budget and connection are free when the error is seen.
        retrying.give_up(|| *stage = Stage::Ended);
        Poll::Ready(Err(Error::new(elapsed.into(), now())))
    }
}
