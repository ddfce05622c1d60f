//! One call and its attempts.

use std::{
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Decision, GaveUp, StopReason, layer::Shared, state::Failure};
use crate::{
    algo::bucket::Withdrawal,
    budget::Deposit,
    call::{
        Asked, Attempt, AttemptKind, Attempts, Carrier, Outcome, Replay, Replayer, Trail, Tried,
        mark_sent_before,
    },
    classify::{Blame, Classify, Mark, Marked, Sent, Settle, Verdict, verdict_on_error},
    error::{BoxError, sources},
    event::Event,
    time::{Sleep, now},
};

pin_project! {
    /// The future of [`Retry`](super::Retry).
    pub struct RetryFuture<S, C, Cl>
    where
        C: Carrier,
        C: Replay,
        S: Service<C::Attempt>,
    {
        service: S,
        call: Ongoing<C::Replayer, Result<S::Response, BoxError>>,
        shared: Arc<Shared<Cl>>,
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

/// What is known of the call between its attempts.
struct Ongoing<P, R> {
    replayer: Option<P>,
    asked: Asked,
    repeatable: bool,
    /// The attempt under way; the first is 1.
    number: u32,
    tried: Tried,
    trail: Trail,
    began: Instant,
    backoff: Duration,
    withdrawal: Option<Withdrawal>,
    history: Vec<Attempt>,
    /// The last outcome that was not a refusal by this program itself.
    // In a box, so that no call that succeeds at once makes room for it.
    last_real: Option<Box<(R, Verdict)>>,
}

impl<S, C, Cl> RetryFuture<S, C, Cl>
where
    C: Carrier + Replay,
    S: Service<C::Attempt>,
{
    pub(super) fn new(mut service: S, call: C, shared: Arc<Shared<Cl>>) -> Self {
        let words = call.words();
        let asked = words.map(crate::call::Words::asked).unwrap_or_default();
        let repeatable = words
            .and_then(|words| words.idempotent)
            .unwrap_or_else(|| asked.keyed || call.is_idempotent());
        let began = now();
        let once = shared.config.policy.max_attempts.get() == 1;
        let (replayer, first) = if once {
            (None, call.once())
        } else {
            let mut replayer = call.replayer(shared.config.replay_cap);
            let first = replayer.attempt().expect("nothing has been read of the body yet");
            (Some(replayer), first)
        };
        let attempt = service.call(first);
        Self {
            service,
            call: Ongoing {
                replayer,
                asked,
                repeatable,
                number: 1,
                tried: Tried::default(),
                trail: Trail::new(),
                began,
                backoff: Duration::ZERO,
                withdrawal: None,
                history: Vec::new(),
                last_real: None,
            },
            shared,
            state: State::Attempting { attempt },
        }
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
                    let result = ready!(this.call.trail.enter(|| attempt.poll(cx)));
                    let result = result.map_err(Into::into);
                    // Freed before anything else is waited for.
                    this.state.set(State::Ended);
                    match this.call.judge(result, this.shared) {
                        Next::Return(ended) => {
                            return Poll::Ready(this.call.finish(ended, this.shared));
                        }
                        Next::Wait(until) => {
                            this.state.set(State::BackingOff { sleep: Sleep::until(until) });
                        }
                    }
                }
                StateProj::BackingOff { sleep } => {
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
                            let ended = this.call.cut_short(reason, error);
                            return Poll::Ready(this.call.finish(ended, this.shared));
                        }
                    }
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        }
    }
}

/// What follows an attempt.
enum Next<R> {
    Wait(Instant),
    Return(Ended<R>),
}

/// How a call ended.
struct Ended<R> {
    result: R,
    verdict: Verdict,
    /// Why there was no further attempt, unless it succeeded.
    reason: Option<StopReason>,
}

impl<P, T> Ongoing<P, Result<T, BoxError>>
where
    P: Replayer<Attempt: Carrier>,
{
    /// Judges an attempt's outcome.
    fn judge<Cl: Classify<T>>(
        &mut self,
        result: Result<T, BoxError>,
        shared: &Shared<Cl>,
    ) -> Next<Result<T, BoxError>> {
        let classifier = &shared.classifier;
        let verdict = match &result {
            Ok(response) => classifier.response(self.asked, response),
            Err(error) => classifier.error(self.asked, &**error),
        };
        if verdict.is_success() && self.history.is_empty() {
            return Next::Return(Ended { result, verdict, reason: None });
        }
        let now = now();
        self.remember(&result, verdict, now, classifier);
        if verdict.is_success() {
            return Next::Return(Ended { result, verdict, reason: None });
        }
        let decision = self.decide(verdict, now, shared);
        let (delay, withdrawal) = match decision {
            Ok(granted) => granted,
            Err(reason) => {
                shared.config.observer.on(|| Event::GaveUp {
                    attempts: self.number,
                    verdict,
                    reason: reason.code(),
                });
                return Next::Return(self.stopped(result, verdict, reason));
            }
        };
        // The attempt that failed was itself a retry: it is not refunded.
        if let (Some(budget), Some(failed)) = (&shared.config.budget, self.withdrawal.take()) {
            budget.settle(failed, false);
        }
        self.withdrawal = withdrawal;
        shared.config.observer.on(|| Event::Retrying { attempt: self.number, verdict, delay });
        if verdict.sent != Sent::No {
            mark_sent_before();
        }
        if !is_local(&result, verdict) {
            self.last_real = Some(Box::new((result, verdict)));
        }
        self.backoff = delay;
        Next::Wait(now + delay)
    }

    fn decide<Cl>(
        &self,
        verdict: Verdict,
        now: Instant,
        shared: &Shared<Cl>,
    ) -> Result<(Duration, Option<Withdrawal>), StopReason> {
        let config = &shared.config;
        let failure = Failure {
            verdict,
            attempt: self.number,
            repeatable: self.repeatable,
            replayable: self.replayer.as_ref().is_some_and(Replayer::can_attempt),
            balanced: self.trail.target().is_some(),
            now,
            deadline: self.asked.deadline,
        };
        match config.policy.decide(failure, config.entropy.unit()) {
            Decision::Stop(reason) => Err(reason),
            Decision::Retry { delay, class } => match &config.budget {
                None => Ok((delay, None)),
                Some(budget) => {
                    let granted = budget.withdraw(class, now).ok_or(StopReason::Budget)?;
                    Ok((delay, Some(granted)))
                }
            },
        }
    }

    /// The next attempt, with what it has to know.
    fn next_attempt(&mut self) -> Result<P::Attempt, (StopReason, Option<BoxError>)> {
        let replayed = self.replayer.as_mut().and_then(Replayer::attempt);
        let mut attempt = replayed.ok_or((StopReason::NotReplayable, None))?;
        self.number += 1;
        if let Some(target) = self.trail.target() {
            self.tried.insert(target.key);
        }
        self.trail = Trail::new();
        self.began = now();
        let words = attempt.words_mut();
        words.attempt = self.number;
        words.kind = AttemptKind::Retry;
        words.tried = self.tried;
        Ok(attempt)
    }

    /// The caller gets the last real outcome, even if a later attempt was refused by this
    /// program before it was sent.
    fn stopped(
        &mut self,
        result: Result<T, BoxError>,
        verdict: Verdict,
        reason: StopReason,
    ) -> Ended<Result<T, BoxError>> {
        let (result, verdict) = match self.last_real.take() {
            Some(real) if is_local(&result, verdict) => *real,
            _ => (result, verdict),
        };
        Ended { result, verdict, reason: Some(reason) }
    }

    /// No further attempt could be made although one was granted.
    fn cut_short(
        &mut self,
        reason: StopReason,
        error: Option<BoxError>,
    ) -> Ended<Result<T, BoxError>> {
        let error = error.unwrap_or_else(|| reason.because().into());
        let verdict = verdict_on_error(&*error);
        let (result, verdict) =
            self.last_real.take().map_or_else(|| (Err(error), verdict), |real| *real);
        Ended { result, verdict, reason: Some(reason) }
    }

    fn remember<Cl: Classify<T>>(
        &mut self,
        result: &Result<T, BoxError>,
        verdict: Verdict,
        now: Instant,
        classifier: &Cl,
    ) {
        let outcome = match result {
            Ok(response) => Outcome::Response(classifier.status(response)),
            Err(error) => Outcome::Error(in_words(&**error)),
        };
        let kind = if self.number == 1 { AttemptKind::First } else { AttemptKind::Retry };
        self.history.push(Attempt {
            number: self.number,
            kind,
            target: self.trail.target(),
            outcome,
            verdict,
            lasted: now.saturating_duration_since(self.began),
            backoff: self.backoff,
        });
    }

    fn finish<Cl: Classify<T>>(
        &mut self,
        ended: Ended<Result<T, BoxError>>,
        shared: &Shared<Cl>,
    ) -> Result<Cl::Guarded<Deposit>, BoxError> {
        let Ended { result, verdict, reason } = ended;
        let mut deposit = Deposit::new(shared.config.budget.clone(), self.withdrawal.take());
        match result {
            Ok(mut response) => {
                if !self.history.is_empty() {
                    let attempts = Attempts::new(std::mem::take(&mut self.history));
                    shared.classifier.annotate(&mut response, attempts);
                }
                Ok(shared.classifier.guard(self.asked, response, verdict, deposit))
            }
            Err(error) => {
                deposit.settle(verdict);
                let attempts = Attempts::new(std::mem::take(&mut self.history));
                let reason = reason.unwrap_or(StopReason::NotRetryable);
                Err(GaveUp::new(error, verdict, attempts, reason).into())
            }
        }
    }
}

/// A refusal by this program itself: nothing was sent, nobody is to blame.
fn is_local<T>(result: &Result<T, BoxError>, verdict: Verdict) -> bool {
    result.is_err() && verdict.blame == Blame::Nobody && verdict.sent == Sent::No
}

/// An error and its sources in one line.
fn in_words(error: &(dyn StdError + 'static)) -> String {
    let mut words = String::new();
    for error in sources(error).filter(|error| !error.is::<Mark>() && !error.is::<Marked>()) {
        let text = error.to_string();
        // Many wrappers repeat what they wrap.
        if !words.ends_with(&text) {
            if !words.is_empty() {
                words.push_str(": ");
            }
            words.push_str(&text);
        }
    }
    words
}
