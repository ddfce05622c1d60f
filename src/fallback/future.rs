//! A call, and the other one that is made when it has failed.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    error::BothFailed,
    layer::Shared,
    rule::{Ended, Reason, Rule},
    told::{Discloses, FellBack},
};
use crate::{
    call::{
        Asked, Carrier, Outcome, Replay, Replayer, is_repeatable, mark_sent_before, mark_unknown,
        mark_unsent,
    },
    classify::{Classify, Sent, Verdict},
    error::BoxError,
    event::Event,
    time::now,
};

pin_project! {
    /// The future of [`Fallback`](super::Fallback).
    #[must_use = "futures do nothing unless polled"]
    pub struct FallbackFuture<S, F, R, Cl, C>
    where
        C: Carrier,
        C: Replay,
        S: Service<C::Attempt>,
        F: Service<C::Attempt>,
    {
        shared: Arc<Shared<F, R, Cl>>,
        kept: Kept<C::Replayer>,
        #[pin]
        state: State<S::Future, F, F::Future, C::Attempt>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<A, F, B, C> {
        Calling { #[pin] call: A },
        GettingReady { fallback: F, call: Option<C>, instead: Option<FellBack> },
        FallingBack { #[pin] call: B, instead: Option<FellBack> },
        Ended,
    }
}

/// What is kept of the call while it is under way.
struct Kept<P> {
    replayer: P,
    asked: Asked,
    repeatable: bool,
}

impl<S, F, R, Cl, C> FallbackFuture<S, F, R, Cl, C>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt>,
    F: Service<C::Attempt>,
{
    pub(super) fn new(service: &mut S, call: C, shared: Arc<Shared<F, R, Cl>>) -> Self {
        let asked = call.words().map(|words| words.asked()).unwrap_or_default();
        let repeatable = is_repeatable(&call);
        let (mut first, replayer) = call.begin(shared.config.replay_cap);
        let percent = shared.config.reserve_percent;
        if let Some(deadline) = asked.deadline.filter(|_| percent > 0) {
            // The fallback's copy keeps the whole of it.
            first.words_mut().shorten(reserved(now(), deadline, percent));
        }
        let call = service.call(first);
        let kept = Kept { replayer, asked, repeatable };
        Self { shared, kept, state: State::Calling { call } }
    }
}

/// The deadline of the call itself, when so much of what is left is kept for the fallback.
fn reserved(now: Instant, deadline: Instant, percent: u32) -> Instant {
    let left: Duration = deadline.saturating_duration_since(now);
    // No later than the deadline, and where that has passed, just it.
    deadline - left.mul_f64(f64::from(percent) / 100.0)
}

impl<S, F, R, Cl, C> Future for FallbackFuture<S, F, R, Cl, C>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt, Response: Discloses>,
    S::Error: Into<BoxError>,
    F: Service<C::Attempt, Response = S::Response> + Clone,
    F::Error: Into<BoxError>,
    R: Rule<S::Response>,
    Cl: Classify<S::Response>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let shared = &**this.shared;
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { call } => {
                    let result = ready!(call.poll(cx)).map_err(Into::into);
                    // Freed before anybody else is called.
                    this.state.set(State::Ended);
                    let (call, instead) = match this.kept.judge(&result, shared) {
                        Some(next) => next,
                        None => return Poll::Ready(result),
                    };
                    drop(result);
                    let (fallback, call) = (shared.fallback.clone(), Some(call));
                    let instead = Some(instead);
                    this.state.set(State::GettingReady { fallback, call, instead });
                }
                StateProj::GettingReady { fallback, call, instead } => {
                    let ready = ready!(fallback.poll_ready(cx)).map_err(Into::into);
                    let instead = instead.take();
                    if let Err(error) = ready {
                        this.state.set(State::Ended);
                        return Poll::Ready(Err(this.kept.both_failed(instead, error, shared)));
                    }
                    let call = call.take().expect("it is taken once, a line above the next state");
                    mark_unknown();
                    let call = fallback.call(call);
                    this.state.set(State::FallingBack { call, instead });
                }
                StateProj::FallingBack { call, instead } => {
                    let result = ready!(call.poll(cx));
                    let instead = instead.take();
                    this.state.set(State::Ended);
                    return Poll::Ready(match result {
                        Ok(mut response) => {
                            disclose(&mut response, instead, shared);
                            Ok(response)
                        }
                        Err(error) => Err(this.kept.both_failed(instead, error.into(), shared)),
                    });
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        }
    }
}

impl<P: Replayer> Kept<P> {
    /// What is to be called in the place of an outcome, and why; none where that stands.
    fn judge<F, R, Cl, Res>(
        &mut self,
        result: &Result<Res, BoxError>,
        shared: &Shared<F, R, Cl>,
    ) -> Option<(P::Attempt, FellBack)>
    where
        R: Rule<Res>,
        Cl: Classify<Res>,
    {
        let outcome = result.as_ref().map_err(|error| &**error as _);
        let verdict = match outcome {
            Ok(response) => shared.classifier.response(self.asked, response),
            Err(error) => shared.classifier.error(self.asked, error),
        };
        let reason = shared.rule.reason(&Ended::new(verdict, outcome))?;
        let by = shared.config.name;
        match self.next(reason, verdict) {
            Ok(call) => {
                if reason != Reason::NotThere && verdict.sent != Sent::No {
                    mark_sent_before();
                }
                // Until the fallback is called, nothing is under way.
                mark_unsent();
                let outcome = match outcome {
                    Ok(response) => Outcome::Response(shared.classifier.status(response)),
                    Err(error) => Outcome::of_error(error),
                };
                Some((call, FellBack { by, reason, verdict, outcome, age: None }))
            }
            Err(reason) => {
                shared.config.observer.on(|| Event::NoFallback { by, reason, verdict });
                None
            }
        }
    }

    /// The call for the fallback, or the code of why there is none.
    fn next(&mut self, reason: Reason, verdict: Verdict) -> Result<P::Attempt, &'static str> {
        if self.asked.deadline.is_some_and(|deadline| now() >= deadline) {
            return Err("deadline");
        }
        let undone = reason == Reason::NotThere || verdict.sent == Sent::No;
        if !undone && !self.repeatable {
            return Err("not_repeatable");
        }
        self.replayer.attempt().ok_or("not_replayable")
    }

    fn both_failed<F, R, Cl, Res>(
        &self,
        instead: Option<FellBack>,
        error: BoxError,
        shared: &Shared<F, R, Cl>,
    ) -> BoxError
    where
        Cl: Classify<Res>,
    {
        let first = instead.expect("it is there until the fallback has ended");
        let (by, verdict) = (first.by, first.verdict);
        shared.config.observer.on(|| Event::NoFallback { by, reason: "failed", verdict });
        let verdict = shared.classifier.error(self.asked, &*error);
        BothFailed::new(first, verdict, error).into()
    }
}

fn disclose<F, R, Cl>(
    response: &mut impl Discloses,
    instead: Option<FellBack>,
    shared: &Shared<F, R, Cl>,
) {
    let instead = instead.expect("it is there until the fallback has ended");
    let (by, reason, verdict) = (instead.by, instead.reason.code(), instead.verdict);
    response.disclose(instead);
    let age = response.fell_back().and_then(|noted| noted.age);
    shared.config.observer.on(|| Event::FellBack { by, reason, verdict, age });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is left, the call itself has its share of it, and never more time than there is.
        #[test]
        fn the_reserve_is_a_share_of_what_is_left(left in 0_u64..100_000, percent in 0_u32..=90) {
            let now = now();
            let left = Duration::from_millis(left);
            let own = reserved(now, now + left, percent) - now;
            let share = left.as_secs_f64() * f64::from(100 - percent) / 100.0;
            prop_assert!(own <= left);
            prop_assert!((own.as_secs_f64() - share).abs() < 1e-6);
        }
    }

    #[test]
    fn a_deadline_that_has_passed_stays_where_it_is() {
        let now = now();
        assert_eq!(reserved(now + Duration::from_secs(1), now, 25), now);
    }
}
