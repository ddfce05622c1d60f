//! When a second attempt is due, and whether it may be made.

use std::time::{Duration, Instant};

use super::config::{HedgeConfig, Rules, When};
use crate::{
    algo::{
        quantile::{Latencies, TRACKABLE},
        window::Window,
    },
    classify::{Blame, Pushback, Sent, Verdict},
    time::after,
};

/// How often the delay is taken anew from the latencies (Finagle: `RefreshPercentileInterval`).
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(3);

/// How long an answer that blames the service as a whole is remembered.
pub const OVERLOAD_WINDOW: Duration = Duration::from_secs(10);

/// Hedging stops while this share of the answers, or more, say that the service is overloaded.
///
/// One in a hundred: below a hundred answers in ten seconds that is any of them; above, one
/// instance that is closing does not stop it for the whole fleet.
pub const OVERLOAD_SHARE: f64 = 0.01;

/// The longest that one answer's pushback stops hedging. As long as the latencies are
/// remembered: a service that wants to be left alone for a day says so again.
pub const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// When a second attempt is due, and whether it may be made. Pure.
///
/// Finagle's `BackupRequestFilter` (`finagle-core/.../client/BackupRequestFilter.scala`), with
/// these differences:
///
/// - Only first attempts are samples. A second one that is cut, because the first has answered
///   after all, would make the service look faster than it is.
/// - An attempt that failed or was cut counts once it was slower than the delay, however it
///   ended; below, it says nothing on which side of the delay its answer would have been.
/// - Nothing is hedged under overload, see [`Pacer::ask`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::{classify::Verdict, hedge::{HedgeConfig, Pacer}};
///
/// let start = Instant::now();
/// let mut pacer = Pacer::new(&HedgeConfig::new(), start);
/// for ms in 1..=100 {
///     assert_eq!(pacer.delay(start), None, "nothing is known yet");
///     pacer.ended(Duration::from_millis(ms), Verdict::SUCCESS, true, start);
/// }
/// let later = start + Duration::from_secs(3);
/// let delay = pacer.delay(later).expect("the p95 of a hundred calls: 95 ms");
/// assert!((95..=96).contains(&delay.as_millis()));
/// assert!(pacer.ask(later).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Pacer {
    rules: Rules,
    /// None where the delay is fixed.
    latencies: Option<Latencies>,
    delay: Option<Duration>,
    refresh_at: Instant,
    allowance: Allowance,
    /// All answers, and how many of them blamed the service.
    answers: Window,
    held_until: Option<Instant>,
}

impl Pacer {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &HedgeConfig, now: Instant) -> Self {
        let rules = config.rules;
        let (latencies, delay) = match rules.when {
            When::After(delay) => (None, Some(delay)),
            When::Slowest => (Some(Latencies::new(now)), None),
        };
        Self {
            rules,
            latencies,
            delay,
            refresh_at: now,
            allowance: Allowance::full(rules.burst, rules.extra_load),
            answers: Window::new(OVERLOAD_WINDOW, now),
            held_until: None,
        }
    }

    /// How long to wait for a first attempt before a second one is due; none while it isn't
    /// known: there are too few samples, or they are too slow to be told apart.
    #[must_use]
    pub fn delay(&mut self, now: Instant) -> Option<Duration> {
        if let Some(latencies) = self.latencies.as_mut().filter(|_| now >= self.refresh_at) {
            self.refresh_at = after(now, REFRESH_INTERVAL);
            let quantile = latencies.quantile(1.0 - self.rules.extra_load, now);
            let tracked = quantile.filter(|&delay| delay < TRACKABLE);
            self.delay = tracked.map(|delay| delay.max(self.rules.shortest));
        }
        self.delay
    }

    /// Asks for a second attempt, and pays for it from the allowance of extra load. Never:
    ///
    /// - while a pushback holds: a failure asked for time, and no balancer beneath had chosen
    ///   the endpoint (where one had, it sets that endpoint aside and the second attempt goes
    ///   elsewhere), for [`LONGEST_HOLD`] at most;
    /// - while [`OVERLOAD_SHARE`] of the answers of [`OVERLOAD_WINDOW`], or more, blame the
    ///   service (429, 503);
    /// - without a known delay.
    ///
    /// # Errors
    ///
    /// Why it may not be made.
    pub fn ask(&mut self, now: Instant) -> Result<(), Unhedged> {
        if self.held_until.is_some_and(|until| now < until) {
            return Err(Unhedged::Pushback);
        }
        let answers = self.answers.counts(now);
        let (overloaded, all) = (f64::from(answers.failures), f64::from(answers.calls));
        if answers.failures > 0 && overloaded >= all * OVERLOAD_SHARE {
            return Err(Unhedged::Overload);
        }
        if self.delay(now).is_none() {
            return Err(Unhedged::LatencyUnknown);
        }
        if self.allowance.take() { Ok(()) } else { Err(Unhedged::ExtraLoad) }
    }

    /// A second attempt that was granted was not made after all.
    pub fn give_back(&mut self) {
        self.allowance.give_back();
    }

    /// A first attempt ended `now`, or was cut, after so long. `balanced`: a balancer beneath
    /// chose the endpoint.
    pub fn ended(&mut self, took: Duration, verdict: Verdict, balanced: bool, now: Instant) {
        self.allowance.deposit();
        if let Some(latencies) = &mut self.latencies {
            let slow = self.delay.is_some_and(|delay| took >= delay);
            if verdict.is_success() || slow {
                latencies.record(took, now);
            }
        }
        self.note(verdict, balanced, now);
    }

    /// A second attempt ended `now`.
    pub fn hedge_ended(&mut self, verdict: Verdict, balanced: bool, now: Instant) {
        self.note(verdict, balanced, now);
    }

    fn note(&mut self, verdict: Verdict, balanced: bool, now: Instant) {
        // What was given up, or refused by this program itself, is no answer.
        if verdict.blame == Blame::Caller || is_local(verdict) {
            return;
        }
        self.answers.record(now, verdict.blame == Blame::Service);
        if let (Pushback::After(wish), true) = (verdict.pushback, verdict.is_failure()) {
            if !balanced {
                let until = after(now, wish.min(LONGEST_HOLD));
                self.held_until = self.held_until.max(Some(until));
            }
        }
    }
}

/// Why a call that is slow gets no second attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unhedged {
    /// The allowance of extra load is spent.
    ExtraLoad,
    /// The budget that it shares with the retries has none to spare.
    Budget,
    /// The service says that it is overloaded.
    Overload,
    /// The service asked for time.
    Pushback,
    /// How long calls take is not known any more.
    LatencyUnknown,
    /// The request's body can't be sent again.
    NotReplayable,
    /// The service beneath is not available.
    Unavailable,
}

impl Unhedged {
    /// The reason as a stable code, for events and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ExtraLoad => "extra_load",
            Self::Budget => "budget",
            Self::Overload => "overload",
            Self::Pushback => "pushback",
            Self::LatencyUnknown => "latency_unknown",
            Self::NotReplayable => "not_replayable",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Which of two failures tells the caller, and a retry above, more. First one that a service
/// met, before a refusal by this program itself; then the one that is surer that something
/// happened, so that nobody takes a call for not carried out; then an answer before an error;
/// then one that says when to come back. Of two that tell the same, the first attempt's.
pub(super) fn second_tells_more(first: (Verdict, bool), second: (Verdict, bool)) -> bool {
    let weight = |(verdict, answered): (Verdict, bool)| {
        let local = !answered && is_local(verdict);
        let pushback = verdict.pushback != Pushback::None;
        (!local, verdict.sent, answered, pushback)
    };
    weight(second) > weight(first)
}

/// Nothing was sent and nobody is to blame: an open breaker, no endpoint.
fn is_local(verdict: Verdict) -> bool {
    verdict.blame == Blame::Nobody && verdict.sent == Sent::No
}

/// The allowance of extra load: a token bucket that each call fills by its share and each second
/// attempt drains by one. In millionths, so that it is exact.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    balance: u64,
    share: u64,
    capacity: u64,
}

const ONE: u64 = 1_000_000;

impl Allowance {
    fn full(burst: u32, share: f64) -> Self {
        let capacity = u64::from(burst) * ONE;
        Self { balance: capacity, share: (share * ONE as f64).round() as u64, capacity }
    }

    fn deposit(&mut self) {
        self.add(self.share);
    }

    const fn take(&mut self) -> bool {
        match self.balance.checked_sub(ONE) {
            Some(balance) => {
                self.balance = balance;
                true
            }
            None => false,
        }
    }

    fn give_back(&mut self) {
        self.add(ONE);
    }

    fn add(&mut self, tokens: u64) {
        self.balance = self.balance.saturating_add(tokens).min(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::classify::Retry;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn fixed() -> (Pacer, Instant) {
        let now = crate::time::now();
        (Pacer::new(&HedgeConfig::after(10 * MS).expect("above zero"), now), now)
    }

    fn slowest(share: f64) -> (Pacer, Instant) {
        let now = crate::time::now();
        let config = HedgeConfig::new().extra_load(share).expect("a share");
        (Pacer::new(&config, now), now)
    }

    const THROTTLED: Verdict = Verdict::new(Blame::Service, Sent::No, Retry::Always);
    const REFUSED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);

    #[test]
    fn the_delay_is_the_quantile_and_follows_it_every_three_seconds() {
        let (mut pacer, start) = slowest(0.1);
        assert_eq!(pacer.delay(start), None);
        for ms in 1..=100 {
            pacer.ended(ms * MS, Verdict::SUCCESS, false, start);
        }
        assert_eq!(pacer.delay(start + 3 * SECOND - MS), None, "not looked at yet");
        let p90 = pacer.delay(start + 3 * SECOND).expect("a hundred samples");
        assert!((90 * MS..91 * MS + 407 * MS / 1000).contains(&p90), "{p90:?}");
        for _ in 0..1000 {
            pacer.ended(2 * SECOND, Verdict::SUCCESS, false, start + 4 * SECOND);
        }
        assert_eq!(pacer.delay(start + 6 * SECOND - MS), Some(p90));
        let slower = pacer.delay(start + 6 * SECOND).expect("more samples");
        assert!(slower >= 2 * SECOND, "{slower:?}");
        // After a silence of thirty seconds nothing is known.
        assert_eq!(pacer.delay(start + 40 * SECOND), None);
        assert_eq!(pacer.ask(start + 40 * SECOND), Err(Unhedged::LatencyUnknown));
    }

    #[test]
    fn no_delay_is_shorter_than_the_shortest_and_none_longer_than_can_be_tracked() {
        for (took, delay) in [(MS / 100, Some(MS)), (TRACKABLE, None), (Duration::MAX, None)] {
            let (mut pacer, start) = slowest(0.05);
            for _ in 0..100 {
                pacer.ended(took, Verdict::SUCCESS, false, start);
            }
            assert_eq!(pacer.delay(start), delay, "{took:?}");
        }
    }

    #[test]
    fn fast_failures_are_no_samples_and_what_was_cut_counts_at_least_so_long() {
        let (mut pacer, start) = slowest(0.05);
        // Nothing but failures: nothing is known.
        for _ in 0..100 {
            pacer.ended(MS, Verdict::TIMED_OUT, false, start);
            pacer.ended(500 * MS, Verdict::CANCELLED, false, start);
        }
        assert_eq!(pacer.delay(start), None);
        for _ in 0..100 {
            pacer.ended(10 * MS, Verdict::SUCCESS, false, start);
        }
        let now = start + 3 * SECOND;
        let p95 = pacer.delay(now).expect("a hundred samples");
        assert!((10 * MS..11 * MS).contains(&p95), "{p95:?}");
        // What ended before the delay without an answer says nothing.
        for _ in 0..1000 {
            pacer.ended(MS, Verdict::TIMED_OUT, false, now);
            pacer.ended(9 * MS, Verdict::CANCELLED, false, now);
        }
        let now = now + 3 * SECOND;
        assert_eq!(pacer.delay(now), Some(p95));
        // What was cut or failed after it would have taken at least so long.
        for _ in 0..5 {
            pacer.ended(30 * MS, Verdict::CANCELLED, false, now);
            pacer.ended(40 * MS, Verdict::TIMED_OUT, false, now);
        }
        let slower = pacer.delay(now + 3 * SECOND).expect("more samples");
        assert!((30 * MS..31 * MS).contains(&slower), "{slower:?}");
    }

    #[test]
    fn an_overloaded_service_is_not_hedged_for_ten_seconds() {
        let (mut pacer, start) = fixed();
        for _ in 0..99 {
            pacer.ended(MS, Verdict::SUCCESS, true, start);
        }
        assert_eq!(pacer.ask(start), Ok(()));
        pacer.hedge_ended(THROTTLED, true, start);
        assert_eq!(pacer.ask(start), Err(Unhedged::Overload), "one in a hundred");
        pacer.ended(MS, Verdict::SUCCESS, true, start);
        assert_eq!(pacer.ask(start), Ok(()), "less than one in a hundred");
        pacer.ended(MS, THROTTLED, true, start);
        assert_eq!(pacer.ask(start + 10 * SECOND - MS), Err(Unhedged::Overload));
        assert_eq!(pacer.ask(start + 10 * SECOND), Ok(()));
    }

    #[test]
    fn what_was_given_up_or_refused_here_is_no_answer() {
        let (mut pacer, start) = fixed();
        pacer.ended(MS, THROTTLED, true, start);
        for _ in 0..1000 {
            pacer.ended(MS, Verdict::CANCELLED, true, start);
            pacer.hedge_ended(REFUSED, true, start);
        }
        assert_eq!(pacer.ask(start), Err(Unhedged::Overload));
    }

    #[test]
    fn a_pushback_holds_unless_a_balancer_keeps_it() {
        let pushback = |seconds| {
            Verdict::TIMED_OUT.with_pushback(Pushback::After(Duration::from_secs(seconds)))
        };
        let (mut pacer, start) = fixed();
        pacer.ended(MS, pushback(5), true, start);
        assert_eq!(pacer.ask(start), Ok(()), "its endpoint is set aside");
        pacer.ended(MS, pushback(5), false, start);
        pacer.ended(MS, pushback(2), false, start + SECOND);
        assert_eq!(pacer.ask(start + 5 * SECOND - MS), Err(Unhedged::Pushback));
        assert_eq!(pacer.ask(start + 5 * SECOND), Ok(()));
        pacer.hedge_ended(pushback(86_400), false, start);
        assert_eq!(pacer.ask(start + LONGEST_HOLD - MS), Err(Unhedged::Pushback));
        assert_eq!(pacer.ask(start + LONGEST_HOLD), Ok(()));
        // The first attempt of a key still runs: that is about this call alone.
        let running = Verdict::new(Blame::Nobody, Sent::Processed, Retry::Always)
            .with_pushback(Pushback::After(SECOND));
        pacer.ended(MS, running, false, start + LONGEST_HOLD);
        assert_eq!(pacer.ask(start + LONGEST_HOLD), Ok(()));
    }

    #[test]
    fn of_two_failures_the_more_telling_one_is_known() {
        let answer = |blame, sent| (Verdict::new(blame, sent, Retry::IfSafe), true);
        let timed_out = (Verdict::TIMED_OUT, false);
        let refused = (REFUSED, false);
        let failed = answer(Blame::Endpoint, Sent::Processed);
        let busy = answer(Blame::Service, Sent::Maybe);
        let throttled = answer(Blame::Service, Sent::No);
        let later = (busy.0.with_pushback(Pushback::After(SECOND)), true);
        // From the least telling to the most.
        let order = [refused, throttled, timed_out, busy, later, failed];
        for (less, &first) in order.iter().enumerate() {
            for (more, &second) in order.iter().enumerate() {
                assert_eq!(second_tells_more(first, second), more > less, "{first:?} {second:?}");
            }
        }
    }

    proptest! {
        /// Whatever the order of calls and hedges: no more than the share of the calls and the
        /// burst, and no fewer than asked for while there is something left.
        #[test]
        fn the_extra_load_is_no_more_than_its_share_and_a_burst(
            calls in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..2_000),
            share in 0.0001_f64..0.5,
            burst in 1_u32..20,
        ) {
            let mut allowance = Allowance::full(burst, share);
            let (mut ended, mut hedged) = (0_u32, 0_u32);
            for (slow, made) in calls {
                if slow && allowance.take() {
                    if made { hedged += 1 } else { allowance.give_back() }
                }
                allowance.deposit();
                ended += 1;
                // Rounded to a millionth a call.
                let most = (share + 1e-6) * f64::from(ended) + f64::from(burst);
                prop_assert!(f64::from(hedged) <= most, "{hedged} of {ended}");
                prop_assert!(allowance.balance <= allowance.capacity);
            }
        }
    }
}
