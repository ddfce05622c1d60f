//! What is known of a call between its attempts, and what follows from it.

use std::{
    ops::ControlFlow,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    Decision, GaveUp, StopReason,
    layer::Rules,
    outcome::{Answer, Ended, Last},
    past::Past,
    state::Failure,
};
use crate::{
    algo::bucket::Withdrawal,
    budget::Deposit,
    call::{
        Asked, AttemptKind, Carrier, Replay, Replayer, Trail, Words, apart, is_repeatable,
        mark_sent_before, mark_unsent,
    },
    classify::{Classify, Sent, Settle, Verdict},
    error::BoxError,
    event::Event,
    time::{after, now},
};

/// One call, whichever attempt of it is under way.
pub(crate) struct Ongoing<P, T, K> {
    replayer: Option<P>,
    asked: Asked,
    route: Option<&'static str>,
    repeatable: bool,
    /// None at the first attempt.
    // In a box, as the last outcome: no call that succeeds at once makes room for it.
    past: Option<Box<Past>>,
    /// Of the attempt under way, or of the wait for the next.
    trail: Trail,
    /// When whoever holds this gives the call up, if he does.
    expires: Option<Instant>,
    /// An attempt before may have been carried out.
    sent_before: bool,
    began: Instant,
    withdrawal: Option<Withdrawal>,
    /// The last outcome; a refusal by this program itself takes the place of no real one.
    last: Option<Box<Last<T, K>>>,
}

/// What a call says of itself, and when it began.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    asked: Asked,
    route: Option<&'static str>,
    repeatable: bool,
    began: Instant,
}

impl Terms {
    /// Those of a call that is about to make its first attempt.
    #[inline]
    pub(crate) fn of<C: Carrier + Replay>(call: &mut C, began: Instant) -> Self {
        // A request without words is not given any: that would allocate.
        if call.words().is_some() {
            call.words_mut().attempt = 1;
        }
        let words = call.words();
        Self {
            asked: words.map(Words::asked).unwrap_or_default(),
            route: words.and_then(|words| words.route),
            repeatable: is_repeatable(call),
            began,
        }
    }

    pub(super) const fn route(&self) -> Option<&'static str> {
        self.route
    }
}

impl<P, T, K> Ongoing<P, T, K> {
    /// A call at its first attempt, with what makes the further ones, unless there is to be only
    /// one. Who gives it up himself, and not a layer above him, says when it `expires`.
    // Always: it is built where the call's future is, and not moved there.
    #[inline(always)]
    pub(crate) fn new(terms: Terms, replayer: Option<P>, expires: Option<Instant>) -> Self {
        let Terms { asked, route, repeatable, began } = terms;
        Self {
            replayer,
            asked,
            route,
            repeatable,
            past: None,
            trail: Trail::expiring(expires),
            expires,
            sent_before: false,
            began,
            withdrawal: None,
            last: None,
        }
    }

    /// What makes the further attempts, if it was not there from the beginning.
    pub(crate) fn keep(&mut self, replayer: P) {
        self.replayer = Some(replayer);
    }

    pub(crate) const fn asked(&self) -> Asked {
        self.asked
    }

    /// The trail of the attempt under way.
    pub(crate) const fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }

    /// The attempt under way has succeeded: so long does one take.
    #[inline]
    pub(crate) fn note_success<Cl>(&self, rules: &Rules<Cl>) {
        // Without a deadline nobody asks for it.
        if self.asked.deadline.is_some() {
            rules.answered(self.began);
        }
    }

    /// The call is over: what is held of its last outcome is free.
    pub(crate) fn let_go(&mut self) {
        self.last = None;
    }

    /// The same at the call's deadline, at which the attempt under way is dropped by `drop`.
    pub(crate) fn give_up(&mut self, drop: impl FnOnce()) {
        let Self { trail, last, .. } = self;
        trail.enter(|| {
            drop();
            *last = None;
        });
    }

    /// Whether any of its attempts may have been carried out, if it is given up now.
    pub(crate) fn sent(&self) -> Sent {
        if self.sent_before { Sent::Maybe } else { self.trail.sent() }
    }

    /// Whether nothing has failed yet.
    pub(crate) const fn is_first_try(&self) -> bool {
        self.past.is_none()
    }

    fn past(&mut self) -> &mut Past {
        self.past.get_or_insert_default()
    }

    /// Which attempt is under way.
    fn number(&self) -> u32 {
        self.past.as_deref().map_or(1, |past| past.number)
    }
}

impl<P, T, K> Ongoing<P, T, K>
where
    P: Replayer<Attempt: Carrier>,
{
    /// Says what follows an attempt: another one from an instant on, or the call's end.
    pub(crate) fn judge<Cl>(
        &mut self,
        result: Result<T, BoxError>,
        verdict: Verdict,
        rules: &Rules<Cl>,
    ) -> ControlFlow<Ended<T, K>, Instant>
    where
        Cl: Classify<T, Guarded<Deposit> = K>,
    {
        let now = now();
        // A call that succeeds at once has no history.
        if !(verdict.is_success() && self.is_first_try()) {
            let (target, span) = (self.trail.target(), (self.began, now));
            self.past().remember(&result, verdict, span, target, &rules.classifier);
        }
        let last = Last { result: result.map(Answer::AsItCame), verdict };
        if verdict.is_success() {
            self.note_success(rules);
            self.let_go();
            return ControlFlow::Break(Ended { last, reason: None });
        }
        let refused = last.is_local();
        let decision = self.decide(verdict, refused, now, rules);
        let (delay, withdrawal) = match decision {
            Ok(granted) => granted,
            Err(reason) => {
                self.report(reason, verdict, rules);
                if refused {
                    self.close(true, rules);
                }
                let last = self.weightier(last);
                return ControlFlow::Break(Ended { last, reason: Some(reason) });
            }
        };
        self.close(refused, rules);
        self.withdrawal = withdrawal;
        rules.config.observer.on(|| Event::Retrying { attempt: self.number(), verdict, delay });
        if verdict.sent != Sent::No {
            self.sent_before = true;
            mark_sent_before();
        }
        if let Some(target) = self.trail.target() {
            self.past().tried.insert(target.key);
        }
        // Until the next attempt is polled, nothing is under way.
        mark_unsent();
        self.trail = Trail::expiring(self.expires).unsent();
        let last = self.weightier(last).aside(rules);
        self.last = Some(Box::new(last));
        self.past().backoff = delay;
        ControlFlow::Continue(after(now, delay))
    }

    /// Reads the answer that failed, as far as it is there: its connection, and its place at its
    /// endpoint, are free then. Nobody waits for it.
    pub(crate) fn read_aside<Cl>(&mut self, cx: &mut Context<'_>, rules: &Rules<Cl>)
    where
        Cl: Classify<T, Guarded<Deposit> = K>,
    {
        let Some(last) = &mut self.last else { return };
        if let Ok(Answer::Aside { answer, more: more @ true }) = &mut last.result {
            // The attempt is over: what its body marks is of no call any more.
            *more = apart(|| rules.classifier.poll_aside::<Deposit>(answer, cx)) == Poll::Pending;
        }
    }

    /// The attempt that failed was itself a retry: what it cost is given back only if it was
    /// not made.
    fn close<Cl>(&mut self, refused: bool, rules: &Rules<Cl>) {
        match (&rules.config.budget, self.withdrawal.take()) {
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
        rules: &Rules<Cl>,
    ) -> Result<(Duration, Option<Withdrawal>), StopReason> {
        let config = &rules.config;
        let past = self.past.get_or_insert_default();
        let turned_away = past.made(|kind| kind == AttemptKind::Transparent);
        let failure = Failure {
            verdict,
            // Who was turned away unlooked at, or raced another beneath, counts as none.
            attempt: past
                .made(|kind| !matches!(kind, AttemptKind::Transparent | AttemptKind::Hedge)),
            repeatable: self.repeatable,
            replayable: self.replayer.as_ref().is_some_and(Replayer::can_attempt),
            balanced: self.trail.target().is_some(),
            refused,
            waited: past.backoff,
            usual: self.asked.deadline.and_then(|_| rules.usual(now)),
            now,
            deadline: self.asked.deadline,
        };
        let (draw, policy) = (config.entropy.unit(), config.policies.of(self.route));
        let transparent = policy.decide_transparent(failure, turned_away, draw);
        past.kind = match transparent {
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
    pub(crate) fn next_attempt(&mut self) -> Result<P::Attempt, (StopReason, Option<BoxError>)> {
        // The timer may have fired late, and the service may have taken its time.
        let now = now();
        if self.asked.deadline.is_some_and(|deadline| now >= deadline) {
            return Err((StopReason::Deadline, None));
        }
        let replayed = self.replayer.as_mut().and_then(Replayer::attempt);
        let mut attempt = replayed.ok_or((StopReason::NotReplayable, None))?;
        self.trail = Trail::expiring(self.expires);
        self.began = now;
        self.past().next(attempt.words_mut());
        Ok(attempt)
    }

    /// No further attempt could be made although one was granted: it costs nothing.
    pub(crate) fn cut_short<Cl: Classify<T>>(
        &mut self,
        reason: StopReason,
        error: Option<BoxError>,
        rules: &Rules<Cl>,
    ) -> Ended<T, K> {
        self.close(true, rules);
        let last = match (self.last.take().map(|last| *last), error) {
            (Some(last), None) => last,
            (Some(last), Some(_)) if !last.is_local() => last,
            (_, error) => {
                let error = error.unwrap_or_else(|| reason.because().into());
                let mut verdict = rules.classifier.error(self.asked, &*error);
                // It was not even begun.
                verdict.sent = Sent::No;
                Last { result: Err(error), verdict }
            }
        };
        self.report(reason, last.verdict, rules);
        Ended { last, reason: Some(reason) }
    }

    fn report<Cl>(&self, reason: StopReason, verdict: Verdict, rules: &Rules<Cl>) {
        rules.config.observer.on(|| Event::GaveUp {
            attempts: self.number(),
            verdict,
            reason: reason.code(),
        });
    }

    pub(crate) fn finish<Cl>(
        &mut self,
        ended: Ended<T, K>,
        rules: &Rules<Cl>,
    ) -> Result<K, BoxError>
    where
        Cl: Classify<T, Guarded<Deposit> = K>,
    {
        let Ended { last: Last { result, verdict }, reason } = ended;
        let mut deposit = Deposit::new(rules.config.budget.as_ref(), self.withdrawal.take());
        let attempts = self.past.take().map(|past| past.into_attempts());
        match result {
            Ok(Answer::AsItCame(mut response)) => {
                if let Some(attempts) = attempts {
                    rules.classifier.annotate(&mut response, attempts);
                }
                Ok(rules.classifier.guard(self.asked, response, verdict, deposit))
            }
            Ok(Answer::Aside { mut answer, .. }) => {
                deposit.settle(verdict);
                if let Some(attempts) = attempts {
                    rules.classifier.annotate_aside::<Deposit>(&mut answer, attempts);
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
