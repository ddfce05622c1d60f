//! One call and its attempts.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    StopReason,
    layer::Rules,
    ongoing::{Ongoing, Terms},
};
use crate::{
    budget::Deposit,
    call::{Carrier, Replay},
    classify::Classify,
    error::BoxError,
    time::{Sleep, now},
};

pin_project! {
    /// The future of [`Retry`](super::Retry).
    pub struct RetryFuture<S, C, Cl>
    where
        C: Carrier,
        C: Replay,
        S: Service<C::Attempt>,
        Cl: Classify<S::Response>,
    {
        service: S,
        call: Ongoing<C::Replayer, S::Response, Cl::Guarded<Deposit>>,
        rules: Arc<Rules<Cl>>,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Attempting { #[pin] attempt: F },
        BackingOff { #[pin] sleep: Sleep },
        GettingReady,
        Ended,
    }
}

impl<S, C, Cl> RetryFuture<S, C, Cl>
where
    C: Carrier + Replay,
    S: Service<C::Attempt>,
    Cl: Classify<S::Response>,
{
    pub(super) fn new(mut service: S, mut call: C, rules: Arc<Rules<Cl>>) -> Self {
        let terms = Terms::of(&mut call, now());
        let (first, replayer) = match rules.keeps(terms) {
            Some(cap) => {
                let (first, replayer) = call.begin(cap);
                (first, Some(replayer))
            }
            None => (call.once(), None),
        };
        let state = State::Attempting { attempt: service.call(first) };
        Self { state, service, call: Ongoing::new(terms, replayer, None), rules }
    }
}

impl<S, C, Cl> Future for RetryFuture<S, C, Cl>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt>,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response>,
{
    type Output = Result<Cl::Guarded<Deposit>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Attempting { attempt } => {
                    let result = ready!(this.call.trail().enter(|| attempt.poll(cx)));
                    // Freed before anything else is waited for.
                    this.state.set(State::Ended);
                    let (asked, classifier) = (this.call.asked(), &this.rules.classifier);
                    let (verdict, result) = match result {
                        Ok(response) => {
                            let verdict = classifier.response(asked, &response);
                            // The way of almost every call, on which its response moves once.
                            if verdict.is_success() && this.call.is_first_try() {
                                this.call.note_success(this.rules);
                                let deposit = this.rules.deposit();
                                let guarded = classifier.guard(asked, response, verdict, deposit);
                                return Poll::Ready(Ok(guarded));
                            }
                            (verdict, Ok(response))
                        }
                        Err(error) => {
                            let error = error.into();
                            (classifier.error(asked, &*error), Err(error))
                        }
                    };
                    match this.call.judge(result, verdict, this.rules) {
                        ControlFlow::Break(ended) => {
                            return Poll::Ready(this.call.finish(ended, this.rules));
                        }
                        ControlFlow::Continue(until) => {
                            this.state.set(State::BackingOff { sleep: Sleep::until(until) });
                        }
                    }
                }
                StateProj::BackingOff { sleep } => {
                    this.call.read_aside(cx, this.rules);
                    ready!(sleep.poll(cx));
                    this.state.set(State::GettingReady);
                }
                StateProj::GettingReady => {
                    // A service beneath that is not ready has not been called either.
                    let ready = ready!(this.service.poll_ready(cx)).map_err(Into::into);
                    let attempt = match ready {
                        Ok(()) => this.call.next_attempt(),
                        Err(error) => Err((StopReason::Unavailable, Some(error))),
                    };
                    match attempt {
                        Ok(attempt) => {
                            let attempt = this.service.call(attempt);
                            this.state.set(State::Attempting { attempt });
                        }
                        Err((reason, error)) => {
                            this.state.set(State::Ended);
                            let ended = this.call.cut_short(reason, error, this.rules);
                            return Poll::Ready(this.call.finish(ended, this.rules));
                        }
                    }
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        }
    }
}
