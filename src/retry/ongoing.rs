//! What is known of a call between its attempts, and what follows from it.

use std::{
    ops::ControlFlow,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    Decision, GaveUp, StopReason,
    layer::Shared,
    outcome::{Answer, Ended, Last},
    state::Failure,
};
use crate::{
    algo::bucket::Withdrawal,
    budget::Deposit,
    call::{
        Asked, Attempt, AttemptKind, Attempts, Carrier, Outcome, Raced, Replay, Replayer, Trail,
        Tried, Words, apart, is_repeatable, mark_sent_before, mark_unsent,
    },
    classify::{Classify, Sent, Settle, Verdict},
    error::{BoxError, find},
    event::Event,
    time::{after, now},
};

/// One call, whichever attempt of it is under way.
pub(super) struct Ongoing<P, T, K> {
    replayer: Option<P>,
    asked: Asked,
    route: Option<&'static str>,
    repeatable: bool,
    /// The attempt under way; the first is 1.
    number: u32,
    /// Why the attempt under way was made.
    kind: AttemptKind,
    tried: Tried,
    trail: Trail,
    began: Instant,
    backoff: Duration,
    withdrawal: Option<Withdrawal>,
    history: Vec<Attempt>,
    /// The last outcome; a refusal by this program itself takes the place of no real one.
    // In a box, so that no call that succeeds at once makes room for it.
    last: Option<Box<Last<T, K>>>,
}

/// What a call says of itself.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    asked: Asked,
    pub(super) route: Option<&'static str>,
    repeatable: bool,
    tried: Tried,
}

impl Terms {
    #[inline]
    pub(super) fn of<C: Carrier + Replay>(call: &C) -> Self {
        let words = call.words();
        Self {
            asked: words.map(Words::asked).unwrap_or_default(),
            route: words.and_then(|words| words.route),
            repeatable: is_repeatable(call),
            tried: words.map(|words| words.tried).unwrap_or_default(),
        }
    }
}

impl<P, T, K> Ongoing<P, T, K> {
    /// A call at its first attempt, with what makes the further ones, unless there is to be only
    /// one.
    #[inline]
    pub(super) fn new(terms: Terms, replayer: Option<P>) -> Self {
        let Terms { asked, route, repeatable, tried } = terms;
        Self {
            replayer,
            asked,
            route,
            repeatable,
            number: 1,
            kind: AttemptKind::First,
            tried,
            trail: Trail::new(),
            began: now(),
            backoff: Duration::ZERO,
            withdrawal: None,
            history: Vec::new(),
            last: None,
        }
    }

    pub(super) const fn asked(&self) -> Asked {
        self.asked
    }

    /// The trail of the attempt under way.
    pub(super) const fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }

    /// The attempt under way has succeeded: so long does one take.
    #[inline]
    pub(super) fn note_success<Cl>(&self, shared: &Shared<Cl>) {
        // Without a deadline nobody asks for it.
        if self.asked.deadline.is_some() {
            shared.answered(self.began);
        }
    }

    /// Whether nothing has failed yet.
    pub(super) fn is_first_try(&self) -> bool {
        self.history.is_empty()
    }
}

impl<P, T, K> Ongoing<P, T, K>
where
    P: Replayer<Attempt: Carrier>,
{
    /// Says what follows an attempt, unless that was a success at the first try: another one
    /// from an instant on, or the call's end.
    pub(super) fn judge<Cl>(
        &mut self,
        result: Result<T, BoxError>,
        verdict: Verdict,
        shared: &Shared<Cl>,
    ) -> ControlFlow<Ended<T, K>, Instant>
    where
        Cl: Classify<T, Guarded<Deposit> = K>,
    {
        let now = now();
        self.remember(&result, verdict, now, &shared.classifier);
        let last = Last { result: result.map(Answer::AsItCame), verdict };
        if verdict.is_success() {
            self.note_success(shared);
            return ControlFlow::Break(Ended { last, reason: None });
        }
        let refused = last.is_local();
        let decision = self.decide(verdict, refused, now, shared);
        let (delay, withdrawal) = match decision {
            Ok(granted) => granted,
            Err(reason) => {
                self.report(reason, verdict, shared);
                if refused {
                    self.close(true, shared);
                }
                let last = self.weightier(last);
                return ControlFlow::Break(Ended { last, reason: Some(reason) });
            }
        };
        self.close(refused, shared);
        self.withdrawal = withdrawal;
        shared.config.observer.on(|| Event::Retrying { attempt: self.number, verdict, delay });
        if verdict.sent != Sent::No {
            mark_sent_before();
        }
        // Until the next attempt is polled, nothing is under way.
        mark_unsent();
        let last = self.weightier(last).aside(shared);
        self.last = Some(Box::new(last));
        self.backoff = delay;
        ControlFlow::Continue(after(now, delay))
    }

    /// Reads the answer that failed, as far as it is there: its connection, and its place at its
    /// endpoint, are free then. Nobody waits for it.
    pub(super) fn read_aside<Cl>(&mut self, cx: &mut Context<'_>, shared: &Shared<Cl>)
    where
        Cl: Classify<T, Guarded<Deposit> = K>,
    {
        let Some(last) = &mut self.last else { return };
        if let Ok(Answer::Aside { answer, more: more @ true }) = &mut last.result {
            // The attempt is over: what its body marks is of no call any more.
            *more = apart(|| shared.classifier.poll_aside::<Deposit>(answer, cx)) == Poll::Pending;
        }
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
    fn weightier(&mut self, latest: Last<T, K>) -> Last<T, K> {
        match self.last.take().map(|last| *last) {
            Some(last) if latest.is_local() && !last.is_local() => last,
            _ => latest,
        }
    }

    fn decide<Cl>(
        &mut self,
        verdict: Verdict,
        refused: bool,
        now: Instant,
        shared: &Shared<Cl>,
    ) -> Result<(Duration, Option<Withdrawal>), StopReason> {
        let config = &shared.config;
        let made = |what: fn(AttemptKind) -> bool| {
            let made = self.history.iter().filter(|attempt| what(attempt.kind)).count();
            u32::try_from(made).unwrap_or(u32::MAX)
        };
        let turned_away = made(|kind| kind == AttemptKind::Transparent);
        let failure = Failure {
            verdict,
            // Who was turned away unlooked at, or raced another beneath, counts as none.
            attempt: made(|kind| !matches!(kind, AttemptKind::Transparent | AttemptKind::Hedge)),
            repeatable: self.repeatable,
            replayable: self.replayer.as_ref().is_some_and(Replayer::can_attempt),
            balanced: self.trail.target().is_some(),
            refused,
            waited: self.backoff,
            usual: self.asked.deadline.and_then(|_| shared.usual(now)),
            now,
            deadline: self.asked.deadline,
        };
        let (draw, policy) = (config.entropy.unit(), config.policies.of(self.route));
        let transparent = policy.decide_transparent(failure, turned_away, draw);
        self.kind = match transparent {
            Some(Decision::Retry { .. }) => AttemptKind::Transparent,
            _ => AttemptKind::Retry,
        };
        match transparent.unwrap_or_else(|| policy.decide(failure, draw)) {
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
    pub(super) fn next_attempt(&mut self) -> Result<P::Attempt, (StopReason, Option<BoxError>)> {
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
        words.kind = self.kind;
        words.tried = self.tried;
        Ok(attempt)
    }

    /// No further attempt could be made although one was granted: it costs nothing.
    pub(super) fn cut_short<Cl: Classify<T>>(
        &mut self,
        reason: StopReason,
        error: Option<BoxError>,
        shared: &Shared<Cl>,
    ) -> Ended<T, K> {
        self.close(true, shared);
        let last = match (self.last.take().map(|last| *last), error) {
            (Some(last), None) => last,
            (Some(last), Some(_)) if !last.is_local() => last,
            (_, error) => {
                let error = error.unwrap_or_else(|| reason.because().into());
                let mut verdict = shared.classifier.error(self.asked, &*error);
                // It was not even begun.
                verdict.sent = Sent::No;
                Last { result: Err(error), verdict }
            }
        };
        self.report(reason, last.verdict, shared);
        Ended { last, reason: Some(reason) }
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
        let raced = match result {
            Ok(response) => classifier.attempts(response),
            Err(error) => find::<Raced>(&**error).map(|raced| raced.attempts().clone()),
        };
        if let Some(raced) = raced.filter(|raced| !raced.is_final()) {
            return self.remember_both(&raced);
        }
        let outcome = match result {
            Ok(response) => Outcome::Response(classifier.status(response)),
            Err(error) => Outcome::of_error(&**error),
        };
        self.history.push(Attempt {
            number: self.number,
            kind: self.kind,
            target: self.trail.target(),
            outcome,
            verdict,
            lasted: now.saturating_duration_since(self.began),
            backoff: self.backoff,
        });
    }

    /// Two attempts raced each other beneath. To the limits they are the one that was made here.
    fn remember_both(&mut self, raced: &[Attempt]) {
        let first = self.number;
        for (number, attempt) in (first..).zip(raced) {
            let mut attempt = attempt.clone();
            attempt.number = number;
            if number == first {
                (attempt.kind, attempt.backoff) = (self.kind, self.backoff);
            }
            if let Some(target) = attempt.target {
                self.tried.insert(target.key);
            }
            self.number = number;
            self.history.push(attempt);
        }
    }

    pub(super) fn finish<Cl>(
        &mut self,
        ended: Ended<T, K>,
        shared: &Shared<Cl>,
    ) -> Result<K, BoxError>
    where
        Cl: Classify<T, Guarded<Deposit> = K>,
    {
        let Ended { last: Last { result, verdict }, reason } = ended;
        let mut deposit = Deposit::new(shared.config.budget.clone(), self.withdrawal.take());
        let attempts =
            (!self.history.is_empty()).then(|| Attempts::new(std::mem::take(&mut self.history)));
        match result {
            Ok(Answer::AsItCame(mut response)) => {
                if let Some(attempts) = attempts {
                    shared.classifier.annotate(&mut response, attempts);
                }
                Ok(shared.classifier.guard(self.asked, response, verdict, deposit))
            }
            Ok(Answer::Aside { mut answer, .. }) => {
                deposit.settle(verdict);
                if let Some(attempts) = attempts {
                    shared.classifier.annotate_aside::<Deposit>(&mut answer, attempts);
                }
                Ok(answer)
            }
            Err(error) => {
                deposit.settle(verdict);
                let reason = reason.unwrap_or(StopReason::NotRetryable);
                Err(GaveUp::new(error, verdict, attempts.unwrap_or_default(), reason).into())
            }
        }
    }
}
