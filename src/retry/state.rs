//! Whether and when another attempt is made, before anybody is asked to pay for it.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::config::{DEFAULT_ATTEMPTS, DEFAULT_PUSHBACK_CAP};
use crate::{
    algo::{backoff::Backoff, bucket::Class},
    classify::{Blame, Pushback, Sent, Verdict},
};

/// How a failure is decided on. Pure.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::{classify::Verdict, retry::{Decision, Failure, Policy, StopReason}};
///
/// let now = Instant::now();
/// let timed_out = Failure::new(Verdict::TIMED_OUT, now).repeatable(true);
/// assert!(matches!(Policy::default().decide(timed_out, 0.5), Decision::Retry { .. }));
/// let post = timed_out.repeatable(false);
/// assert_eq!(Policy::default().decide(post, 0.5), Decision::Stop(StopReason::NotRetryable));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// Attempts in total, the first included.
    pub max_attempts: NonZeroU32,
    /// How long to wait.
    pub backoff: Backoff,
    /// How much longer than the backoff the service may make us wait.
    pub pushback_cap: Duration,
    /// Whether what a server that works turned away unlooked at is sent again, however many
    /// attempts there may be: see [`decide_transparent`](Self::decide_transparent).
    pub transparent: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: DEFAULT_ATTEMPTS,
            backoff: Backoff::default(),
            pushback_cap: DEFAULT_PUSHBACK_CAP,
            transparent: true,
        }
    }
}

/// A failed attempt, as far as the decision depends on it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// What the failure means.
    pub verdict: Verdict,
    /// Which attempt it was; the first is 1.
    pub attempt: u32,
    /// The request is safe to repeat.
    pub repeatable: bool,
    /// The request can be sent again: its body is still there.
    pub replayable: bool,
    /// A balancer below chose the endpoint, so that another attempt goes elsewhere.
    pub balanced: bool,
    /// This program itself refused the call (an open breaker, no endpoint): its pushback is
    /// knowledge, not a wish.
    pub refused: bool,
    /// How long the call waited before this attempt.
    pub waited: Duration,
    /// How long an attempt usually takes, if that is known: half of them take longer.
    pub usual: Option<Duration>,
    /// When it failed.
    pub now: Instant,
    /// When the call must have ended.
    pub deadline: Option<Instant>,
}

impl Failure {
    /// A first attempt that failed; the request can be sent again but is not safe to repeat.
    #[must_use]
    pub const fn new(verdict: Verdict, now: Instant) -> Self {
        Self {
            verdict,
            attempt: 1,
            repeatable: false,
            replayable: true,
            balanced: false,
            refused: false,
            waited: Duration::ZERO,
            usual: None,
            now,
            deadline: None,
        }
    }

    /// Whether the request is safe to repeat.
    #[must_use]
    pub const fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }
}

impl Failure {
    /// Whether an attempt after such a wait would be for nothing.
    fn out_of_time(&self, delay: Duration) -> Option<StopReason> {
        let left = self.deadline?.saturating_duration_since(self.now).checked_sub(delay);
        match left {
            None | Some(Duration::ZERO) => Some(StopReason::Deadline),
            Some(left) => {
                self.usual.is_some_and(|usual| left < usual).then_some(StopReason::TooLate)
            }
        }
    }
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Try again after `delay`, if `class` can be paid.
    Retry {
        /// How long to wait.
        delay: Duration,
        /// What the budget is to charge.
        class: Class,
    },
    /// Let it be.
    Stop(StopReason),
}

/// Why no further attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// It would end the same, or the request is not safe to repeat.
    NotRetryable,
    /// All attempts were made.
    Exhausted,
    /// The request's body passed the replay cap, or failed.
    NotReplayable,
    /// The wait does not fit into what is left of the deadline.
    Deadline,
    /// After the wait, less would be left of the deadline than an attempt usually takes.
    TooLate,
    /// The budget is spent.
    Budget,
    /// The service beneath is gone, or refuses calls for longer than one may wait.
    Unavailable,
}

impl StopReason {
    /// A stable code, for counters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::Exhausted => "exhausted",
            Self::NotReplayable => "not_replayable",
            Self::Deadline => "deadline",
            Self::TooLate => "too_late",
            Self::Budget => "budget",
            Self::Unavailable => "unavailable",
        }
    }

    /// The reason as the end of a sentence.
    pub(super) const fn because(self) -> &'static str {
        match self {
            Self::NotRetryable => "it may not be tried again",
            Self::Exhausted => "all attempts were made",
            Self::NotReplayable => "the request's body can't be sent again",
            Self::Deadline => "no time is left for another attempt",
            Self::TooLate => "what is left of the time is less than an attempt usually takes",
            Self::Budget => "the retry budget is spent",
            Self::Unavailable => "the service is not available",
        }
    }
}

/// The longest wait before what was turned away is sent again. The backoff doubles since a
/// service that fails may be overloaded, up to 20 s; here it works, and was only closing
/// connections, of which there is another soon. A second is the longest wait in the policy that
/// gRPC gives as its example (proposal A6, `maxBackoff`), and what connecting may take.
pub const LONGEST_TRANSPARENT_WAIT: Duration = Duration::from_secs(1);

/// Jitter on a wait that the service asked for: `U(x, 1.5x)` (Envoy, `RetryPolicy.
/// RateLimitedRetryBackOff`), so that its callers don't come back together.
const PUSHBACK_JITTER: f64 = 0.5;

impl Policy {
    /// Decides, for a `draw` from `[0, 1)`.
    #[must_use]
    pub fn decide(&self, failure: Failure, draw: f64) -> Decision {
        let verdict = failure.verdict;
        if !verdict.permits_retry(failure.repeatable) {
            return Decision::Stop(StopReason::NotRetryable);
        }
        if failure.attempt >= self.max_attempts.get() {
            return Decision::Stop(StopReason::Exhausted);
        }
        if !failure.replayable {
            return Decision::Stop(StopReason::NotReplayable);
        }
        let retry = failure.attempt.saturating_sub(1);
        let own = self.backoff.delay_after(failure.waited, retry, draw);
        let delay = match verdict.pushback {
            // The wish of one endpoint that failed; its balancer knows it, and has others. One
            // that blames nobody (409: the first attempt is still running) is the whole service's.
            Pushback::After(_) if failure.balanced && verdict.is_failure() => own,
            Pushback::After(wish) => {
                let cap = own.saturating_add(self.pushback_cap);
                // To come back sooner would be refused again.
                if failure.refused && wish > cap {
                    return Decision::Stop(StopReason::Unavailable);
                }
                let jittered = wish.min(cap).as_secs_f64() * (1.0 + PUSHBACK_JITTER * draw);
                Duration::try_from_secs_f64(jittered).unwrap_or(cap).clamp(own, cap)
            }
            _ => own,
        };
        match failure.out_of_time(delay) {
            Some(reason) => Decision::Stop(reason),
            None => Decision::Retry { delay, class: class(verdict) },
        }
    }

    /// Decides on a failure that is [transparent](Verdict::is_transparent), after `before` others
    /// of the same call that were, none of which [`Failure::attempt`] counts. `None` if the
    /// ordinary rules hold, by which it counts as any other.
    ///
    /// The first is tried again at once, as in gRPC (proposal A6), which leaves the second to the
    /// policy. Here they go on until the deadline, after the backoff: a server that closes its
    /// connections after so many requests turns the same call away again and again, as long as
    /// others are quicker. Without a deadline nothing would end that, so then it is as in gRPC.
    /// No wait is longer than [a second](LONGEST_TRANSPARENT_WAIT); where the backoff would be,
    /// it is spread over the latter half of that.
    ///
    /// They are outside of [`max_attempts`](Self::max_attempts): a call that is to be made once
    /// has not been made yet. [`transparent`](Self::transparent) switches them off.
    ///
    /// Who follows a decision from here counts one more for `before`, and no attempt.
    #[must_use]
    pub fn decide_transparent(&self, failure: Failure, before: u32, draw: f64) -> Option<Decision> {
        let endless = before > 0 && failure.deadline.is_none();
        if !failure.verdict.is_transparent() || endless || !self.transparent {
            return None;
        }
        if !failure.replayable {
            return Some(Decision::Stop(StopReason::NotReplayable));
        }
        let delay = match before.checked_sub(1) {
            Some(n) => {
                let longest = LONGEST_TRANSPARENT_WAIT.mul_f64(0.5 + draw / 2.0);
                self.backoff.delay(n, draw).min(longest)
            }
            None => Duration::ZERO,
        };
        Some(match failure.out_of_time(delay) {
            Some(reason) => Decision::Stop(reason),
            None => Decision::Retry { delay, class: Class::Free },
        })
    }
}

const fn class(verdict: Verdict) -> Class {
    match (verdict.blame, verdict.sent) {
        (Blame::Service, Sent::No) => Class::Throttled,
        (Blame::Nobody, Sent::No) => Class::Free,
        _ => Class::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Retry;

    fn failure(verdict: Verdict) -> Failure {
        Failure::new(verdict, crate::time::now()).repeatable(true)
    }

    fn throttled(after: Duration) -> Failure {
        failure(
            Verdict::new(Blame::Service, Sent::No, Retry::Always)
                .with_pushback(Pushback::After(after)),
        )
    }

    fn delay(decision: Decision) -> Duration {
        match decision {
            Decision::Retry { delay, .. } => delay,
            Decision::Stop(reason) => panic!("stopped: {reason:?}"),
        }
    }

    #[test]
    fn makes_three_attempts_in_total() {
        let policy = Policy::default();
        let mut failure = failure(Verdict::TIMED_OUT);
        let decide = |failure| policy.decide(failure, 0.5);
        assert_eq!(delay(decide(failure)), Duration::from_millis(25));
        failure.attempt = 2;
        assert_eq!(delay(decide(failure)), Duration::from_millis(50));
        failure.attempt = 3;
        assert_eq!(decide(failure), Decision::Stop(StopReason::Exhausted));
    }

    #[test]
    fn repeats_what_was_not_sent_and_not_what_may_have_been() {
        let policy = Policy::default();
        let post = failure(Verdict::TIMED_OUT).repeatable(false);
        assert_eq!(policy.decide(post, 0.0), Decision::Stop(StopReason::NotRetryable));
        let refused = Verdict::new(Blame::Endpoint, Sent::No, Retry::IfSafe);
        let refused = failure(refused).repeatable(false);
        assert!(matches!(policy.decide(refused, 0.0), Decision::Retry { .. }));
    }

    #[test]
    fn follows_retry_after_within_its_cap() {
        let policy = Policy::default();
        let second = Duration::from_secs(1);
        assert_eq!(delay(policy.decide(throttled(second), 0.0)), second);
        assert_eq!(delay(policy.decide(throttled(second), 0.5)), second.mul_f64(1.25));
        let day = throttled(Duration::from_secs(86_400));
        assert_eq!(delay(policy.decide(day, 0.0)), Duration::from_secs(5));
        assert_eq!(
            delay(policy.decide(throttled(Duration::MAX), 0.999)),
            policy.backoff.delay(0, 0.999) + DEFAULT_PUSHBACK_CAP
        );
        let at_once = throttled(Duration::ZERO);
        assert_eq!(delay(policy.decide(at_once, 0.5)), Duration::from_millis(25));
    }

    #[test]
    fn goes_elsewhere_at_its_own_pace_when_one_endpoint_pushes_back() {
        let mut failure = throttled(Duration::from_secs(3));
        failure.balanced = true;
        assert_eq!(delay(Policy::default().decide(failure, 0.5)), Duration::from_millis(25));
    }

    #[test]
    fn waits_for_an_open_breaker_only_if_it_may_close_in_time() {
        let policy = Policy::default();
        let refused = |after| {
            let verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Always)
                .with_pushback(Pushback::After(after));
            Failure { refused: true, ..failure(verdict) }
        };
        let second = Duration::from_secs(1);
        assert_eq!(delay(policy.decide(refused(second), 0.0)), second);
        let decision = policy.decide(refused(second * 30), 0.0);
        assert_eq!(decision, Decision::Stop(StopReason::Unavailable));
        let mut late = refused(second);
        late.deadline = Some(late.now + second);
        assert_eq!(policy.decide(late, 0.0), Decision::Stop(StopReason::Deadline));
    }

    #[test]
    fn no_wish_is_too_long_to_be_scaled() {
        let policy = Policy { pushback_cap: Duration::MAX, ..Policy::default() };
        assert_eq!(delay(policy.decide(throttled(Duration::MAX), 0.9)), Duration::MAX);
        let mut failure = throttled(Duration::MAX);
        failure.deadline = Some(failure.now + Duration::from_secs(1));
        assert_eq!(policy.decide(failure, 0.9), Decision::Stop(StopReason::Deadline));
    }

    #[test]
    fn waits_for_a_first_attempt_that_is_still_running_wherever_it_is_asked_again() {
        let running = Verdict::new(Blame::Nobody, Sent::Processed, Retry::Always)
            .with_pushback(Pushback::After(Duration::from_secs(2)));
        let mut failure = failure(running);
        failure.balanced = true;
        assert_eq!(delay(Policy::default().decide(failure, 0.0)), Duration::from_secs(2));
    }

    #[test]
    fn begins_no_wait_that_passes_the_deadline() {
        let mut failure = throttled(Duration::from_secs(2));
        failure.deadline = Some(failure.now + Duration::from_secs(1));
        let decision = Policy::default().decide(failure, 0.0);
        assert_eq!(decision, Decision::Stop(StopReason::Deadline));
    }

    const TURNED_AWAY: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent);

    /// A POST without a key, at its last attempt.
    fn turned_away() -> Failure {
        let mut failure = failure(TURNED_AWAY).repeatable(false);
        failure.attempt = Policy::default().max_attempts.get();
        failure.deadline = Some(failure.now + Duration::from_secs(1));
        failure
    }

    #[test]
    fn what_was_turned_away_is_sent_again_at_once_and_then_with_backoff_whatever_it_is() {
        let policy = Policy::default();
        let after = |before| policy.decide_transparent(turned_away(), before, 0.5);
        for (before, delay) in [(0, 0), (1, 25), (2, 50), (3, 100)] {
            let delay = Duration::from_millis(delay);
            assert_eq!(after(before), Some(Decision::Retry { delay, class: Class::Free }));
        }
    }

    #[test]
    fn what_is_turned_away_many_times_never_waits_for_more_than_a_second() {
        let policy = Policy::default();
        let mut patient = turned_away();
        patient.deadline = Some(patient.now + Duration::from_secs(60));
        for (before, draw, wait) in [(6, 0.5, 750), (40, 0.0, 0), (40, 0.1, 550), (40, 0.5, 750)] {
            let decision = policy.decide_transparent(patient, before, draw);
            let delay = delay(decision.expect("it is one"));
            assert_eq!(delay, Duration::from_millis(wait), "after {before}, for {draw}");
        }
        let longest = delay(policy.decide_transparent(patient, u32::MAX, 0.999).expect("one"));
        assert!(longest < LONGEST_TRANSPARENT_WAIT);
        patient.deadline = Some(patient.now + Duration::from_millis(700));
        let late = policy.decide_transparent(patient, 40, 0.5);
        assert_eq!(late, Some(Decision::Stop(StopReason::Deadline)));
    }

    #[test]
    fn what_was_turned_away_after_the_deadline_or_read_in_part_is_let_be() {
        let policy = Policy::default();
        let mut late = turned_away();
        late.deadline = Some(late.now);
        let decision = policy.decide_transparent(late, 0, 0.0);
        assert_eq!(decision, Some(Decision::Stop(StopReason::Deadline)));
        let mut read = turned_away();
        read.replayable = false;
        let decision = policy.decide_transparent(read, 0, 0.0);
        assert_eq!(decision, Some(Decision::Stop(StopReason::NotReplayable)));
    }

    #[test]
    fn without_a_deadline_only_the_first_that_is_turned_away_does_not_count() {
        let policy = Policy::default();
        let mut failure = turned_away();
        failure.deadline = None;
        assert!(policy.decide_transparent(failure, 0, 0.0).is_some());
        assert_eq!(policy.decide_transparent(failure, 1, 0.0), None);
        assert_eq!(policy.decide(failure, 0.0), Decision::Stop(StopReason::Exhausted));
    }

    #[test]
    fn a_call_of_one_attempt_that_was_turned_away_was_not_made_yet() {
        let mut policy = Policy { max_attempts: NonZeroU32::MIN, ..Policy::default() };
        let again = Decision::Retry { delay: Duration::ZERO, class: Class::Free };
        assert_eq!(policy.decide_transparent(turned_away(), 0, 0.0), Some(again));
        policy.transparent = false;
        assert_eq!(policy.decide_transparent(turned_away(), 0, 0.0), None);
        assert_eq!(policy.decide(turned_away(), 0.0), Decision::Stop(StopReason::Exhausted));
    }

    #[test]
    fn who_was_not_reached_is_dialled_again_by_the_ordinary_rules() {
        let unreached = Verdict::new(Blame::Endpoint, Sent::No, Retry::Always);
        for verdict in [unreached, Verdict::TIMED_OUT, throttled(Duration::ZERO).verdict] {
            assert_eq!(Policy::default().decide_transparent(failure(verdict), 0, 0.0), None);
        }
    }

    #[test]
    fn begins_nothing_that_usually_takes_longer_than_what_is_left() {
        let mut failure = failure(Verdict::TIMED_OUT);
        failure.deadline = Some(failure.now + Duration::from_millis(100));
        let decide = |failure| Policy::default().decide(failure, 0.5);
        for (usual, begun) in [(75, true), (76, false), (500, false)] {
            failure.usual = Some(Duration::from_millis(usual));
            // The wait takes 25 ms of it.
            assert_eq!(matches!(decide(failure), Decision::Retry { .. }), begun, "{usual} ms");
        }
        assert_eq!(decide(failure), Decision::Stop(StopReason::TooLate));
        failure.deadline = None;
        assert!(matches!(decide(failure), Decision::Retry { .. }), "there is all the time");
    }

    #[test]
    fn a_service_that_says_no_more_is_left_alone() {
        let verdict = Verdict::TIMED_OUT.with_pushback(Pushback::Never);
        let decision = Policy::default().decide(failure(verdict), 0.0);
        assert_eq!(decision, Decision::Stop(StopReason::NotRetryable));
    }

    #[test]
    fn charges_by_class() {
        assert_eq!(class(Verdict::TIMED_OUT), Class::Transient);
        assert_eq!(class(throttled(Duration::ZERO).verdict), Class::Throttled);
        assert_eq!(class(Verdict::new(Blame::Nobody, Sent::No, Retry::Always)), Class::Free);
    }
}
