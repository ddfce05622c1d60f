//! One call and its attempts.

use std::{
    future::Future,
    ops::ControlFlow,
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
        is_repeatable, mark_sent_before, mark_unsent,
    },
    classify::{Blame, Classify, Sent, Settle, Verdict},
    error::BoxError,
    event::Event,
    time::{Sleep, after, now},
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
    /// The last outcome; a refusal by this program itself takes the place of no real one.
    // In a box, so that no call that succeeds at once makes room for it.
    last: Option<Box<(R, Verdict)>>,
}

impl<S, C, Cl> RetryFuture<S, C, Cl>
where
    C: Carrier + Replay,
    S: Service<C::Attempt>,
{
    pub(super) fn new(mut service: S, mut call: C, shared: Arc<Shared<Cl>>) -> Self {
        // A request without words is not given any: that would allocate.
        if call.words().is_some() {
            call.words_mut().attempt = 1;
        }
        let words = call.words();
        let tried = words.map(|words| words.tried).unwrap_or_default();
        let asked = words.map(crate::call::Words::asked).unwrap_or_default();
        let repeatable = is_repeatable(&call);
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
                tried,
                trail: Trail::new(),
                began,
                backoff: Duration::ZERO,
                withdrawal: None,
                history: Vec::new(),
                last: None,
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
                    // Freed before anything else is waited for.
                    this.state.set(State::Ended);
                    let (asked, classifier) = (this.call.asked, &this.shared.classifier);
                    let (verdict, result) = match result {
                        Ok(response) => {
                            let verdict = classifier.response(asked, &response);
                            // The way of almost every call, on which its response moves once.
                            if verdict.is_success() && this.call.history.is_empty() {
                                let deposit = Deposit::new(this.shared.config.budget.clone(), None);
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
                    match this.call.judge(result, verdict, this.shared) {
                        ControlFlow::Break(ended) => {
                            return Poll::Ready(this.call.finish(ended, this.shared));
                        }
                        ControlFlow::Continue(until) => {
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
                            let ended = this.call.cut_short(reason, error, this.shared);
                            return Poll::Ready(this.call.finish(ended, this.shared));
                        }
                    }
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        }
    }
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
    /// Says what follows an attempt, unless that was a success at the first try: another one
    /// from an instant on, or the call's end.
    fn judge<Cl: Classify<T>>(
        &mut self,
        result: Result<T, BoxError>,
        verdict: Verdict,
        shared: &Shared<Cl>,
    ) -> ControlFlow<Ended<Result<T, BoxError>>, Instant> {
        let now = now();
        self.remember(&result, verdict, now, &shared.classifier);
        if verdict.is_success() {
            return ControlFlow::Break(Ended { result, verdict, reason: None });
        }
        let decision = self.decide(verdict, is_local(&result, verdict), now, shared);
        let (delay, withdrawal) = match decision {
            Ok(granted) => granted,
            Err(reason) => {
                self.report(reason, verdict, shared);
                if is_local(&result, verdict) {
                    self.close(true, shared);
                }
                let (result, verdict) = self.weightier(result, verdict);
                return ControlFlow::Break(Ended { result, verdict, reason: Some(reason) });
            }
        };
        self.close(is_local(&result, verdict), shared);
        self.withdrawal = withdrawal;
        shared.config.observer.on(|| Event::Retrying { attempt: self.number, verdict, delay });
        if verdict.sent != Sent::No {
            mark_sent_before();
        }
        // Until the next attempt is polled, nothing is under way.
        mark_unsent();
        self.last = Some(Box::new(self.weightier(result, verdict)));
        self.backoff = delay;
        ControlFlow::Continue(after(now, delay))
    }

    /// The attempt that failed was itself a retry: what it cost is given back only if it was
    /// not made.
    fn close<Cl>(&mut self, refused: bool, shared: &Shared<Cl>) {
        match (&shared.config.budget, self.withdrawal.take()) {
            (Some(budget), Some(paid)) if refused => budget.refund(paid),
            (Some(budget), Some(paid)) => budget.settle(paid, false),
            _ => {}
        }
    }

    /// This outcome, unless it is a refusal by this program itself and there was a real one.
    fn weightier(
        &mut self,
        result: Result<T, BoxError>,
        verdict: Verdict,
    ) -> (Result<T, BoxError>, Verdict) {
        match self.last.take().map(|last| *last) {
            Some((last, known)) if is_local(&result, verdict) && !is_local(&last, known) => {
                (last, known)
            }
            _ => (result, verdict),
        }
    }

    fn decide<Cl>(
        &self,
        verdict: Verdict,
        refused: bool,
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
            refused,
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
        // The timer may have fired late, and the service may have taken its time.
        let now = now();
        if self.asked.deadline.is_some_and(|deadline| now >= deadline) {
            return Err((StopReason::Deadline, None));
        }
        let replayed = self.replayer.as_mut().and_then(Replayer::attempt);
        let mut attempt = replayed.ok_or((StopReason::NotReplayable, None))?;
        self.number += 1;
        if let Some(target) = self.trail.target() {
            self.tried.insert(target.key);
        }
        self.trail = Trail::new();
        self.began = now;
        let words = attempt.words_mut();
        words.attempt = self.number;
        words.kind = AttemptKind::Retry;
        words.tried = self.tried;
        Ok(attempt)
    }

    /// No further attempt could be made although one was granted: it costs nothing.
    fn cut_short<Cl: Classify<T>>(
        &mut self,
        reason: StopReason,
        error: Option<BoxError>,
        shared: &Shared<Cl>,
    ) -> Ended<Result<T, BoxError>> {
        self.close(true, shared);
        let (result, verdict) = match (self.last.take().map(|last| *last), error) {
            (Some((last, known)), None) => (last, known),
            (Some((last, known)), Some(_)) if !is_local(&last, known) => (last, known),
            (_, error) => {
                let error = error.unwrap_or_else(|| reason.because().into());
                let mut verdict = shared.classifier.error(self.asked, &*error);
                // It was not even begun.
                verdict.sent = Sent::No;
                (Err(error), verdict)
            }
        };
        self.report(reason, verdict, shared);
        Ended { result, verdict, reason: Some(reason) }
    }

    fn report<Cl>(&self, reason: StopReason, verdict: Verdict, shared: &Shared<Cl>) {
        shared.config.observer.on(|| Event::GaveUp {
            attempts: self.number,
            verdict,
            reason: reason.code(),
        });
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
            Err(error) => Outcome::of_error(&**error),
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
