//! When to admit a call, and what its outcome changes: no clock, no lock, no chance of its own.

use std::time::{Duration, Instant};

use super::{
    config::{BreakerConfig, MAX_PROBES, Rules},
    event::{Transition, Transitions},
    ramp::Ramp,
    weight::Weight,
};
use crate::{
    algo::window::{Counts, Window},
    classify::Verdict,
    endpoint::Refusal,
};

/// A circuit breaker as a decision alone: it is told the time and the draws, and is O(1) per
/// call. [`Breaker`](super::Breaker) is this one behind a lock and a clock.
///
/// `draw` gives a number in `[0, 1)` whenever it is called, which is when the circuit opens.
///
/// ```
/// use std::time::Instant;
/// use buttress::{breaker::{BreakerConfig, Circuit, State}, classify::Verdict};
///
/// let now = Instant::now();
/// let mut circuit = Circuit::new(&BreakerConfig::new(), now);
/// for _ in 0..5 {
///     let ticket = circuit.admit(now, || 0.5)?;
///     circuit.record(ticket, Verdict::TIMED_OUT, now, || 0.5);
/// }
/// let refusal = circuit.admit(now, || 0.5).expect_err("five failures in a row");
/// assert_eq!(circuit.state(), State::Open { until: refusal.retry_at.expect("it will try again") });
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Circuit {
    rules: Rules,
    phase: Phase,
    /// Counts the phases. A ticket of another generation has no say.
    generation: u64,
    window: Window,
    /// The same of slow calls, where anybody asks for them.
    slow: Option<Window>,
    /// Failures since the last success.
    streak: u32,
    /// How often it opened since it was stable last.
    openings: u32,
    closed_at: Instant,
    transitions: Transitions,
}

/// What state a breaker is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Calls pass. Just after it closed, only a share of them.
    Closed,
    /// Calls are refused.
    Open {
        /// When the first probe may go.
        until: Instant,
    },
    /// A few calls pass as probes.
    HalfOpen {
        /// How many are under way.
        under_way: u32,
        /// How many succeeded.
        succeeded: u32,
    },
    /// Calls are refused until somebody says otherwise.
    ForcedOpen,
    /// Calls pass until somebody says otherwise.
    ForcedClosed,
}

impl State {
    /// A stable code, as in [`Event::Breaker`](crate::Event::Breaker).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }
}

/// The right to make one call. It is given back with the call's verdict.
#[derive(Debug)]
#[must_use = "the circuit waits for its verdict"]
pub struct Ticket {
    generation: u64,
    kind: Kind,
    /// In nanoseconds, of which 584 years fit; [`UNTOLD`] until it is said.
    took: u64,
    /// When the head of the answer came, in the time of the [`Tally`](super::tally::Tally); as above.
    pub(super) answered: u64,
}

const UNTOLD: u64 = u64::MAX;

impl Ticket {
    /// How long the call took, for a circuit that [minds slow calls](BreakerConfig::slow_calls).
    /// To be said before it is recorded; the first word holds.
    pub fn took(&mut self, took: Duration) {
        if self.took == UNTOLD {
            self.took = u64::try_from(took.as_nanos()).unwrap_or(UNTOLD - 1);
        }
    }

    fn has_taken(&self) -> Option<Duration> {
        (self.took != UNTOLD).then_some(Duration::from_nanos(self.took))
    }

    /// The generation of a call that was no probe, if it succeeded.
    pub(super) fn succeeded(&self, verdict: Verdict) -> Option<u64> {
        let is_call = matches!(self.kind, Kind::Call);
        (is_call && Weight::of(verdict) == Weight::Success).then_some(self.generation)
    }

    /// A ticket for a call in a generation that [`Circuit::steady`] gave.
    pub(super) fn steady(generation: u64) -> Option<Self> {
        (generation != 0).then_some(Self {
            generation,
            kind: Kind::Call,
            took: UNTOLD,
            answered: UNTOLD,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call,
    Probe {
        slot: Slot,
    },
    /// Let through an open circuit, since there was nowhere else to go.
    Bystander,
}

/// The place of a probe. As wide as what stands beside it in a ticket: one without gaps is moved in
/// whole words, and of those with gaps every move waits for the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Slot {
    A,
    B,
    C,
    D,
    E,
    F,
    G,
    H,
}

impl Slot {
    const ALL: [Self; MAX_PROBES] =
        [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F, Self::G, Self::H];
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { ramp: Option<Ramp> },
    Open { until: Instant },
    HalfOpen { slots: Slots, succeeded: u32, slow: u32 },
    ForcedOpen,
    ForcedClosed,
}

/// Until when each probe may take.
type Slots = [Option<Instant>; MAX_PROBES];

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub fn new(config: &BreakerConfig, now: Instant) -> Self {
        let rules = config.rules;
        Self {
            rules,
            phase: Phase::Closed { ramp: None },
            // 0 is nobody's: see `steady`.
            generation: 1,
            window: Window::new(rules.window, now),
            slow: rules.slow.map(|_| Window::new(rules.window, now)),
            streak: 0,
            openings: 0,
            closed_at: now,
            transitions: Transitions::default(),
        }
    }

    /// Admits a call, or says when to ask again.
    ///
    /// # Errors
    ///
    /// [`Refusal`] while the circuit is open, while all probes are under way, and to a share of
    /// the calls while the ramp lasts.
    pub fn admit(&mut self, now: Instant, draw: impl FnMut() -> f64) -> Result<Ticket, Refusal> {
        self.advance(now, draw);
        let kind = match &mut self.phase {
            Phase::Closed { ramp: None } | Phase::ForcedClosed => Kind::Call,
            Phase::Closed { ramp: Some(ramp) } => {
                if !ramp.admits(now, self.rules.ramp) {
                    return Err(Refusal::until(ramp.next_stage(now, self.rules.ramp), now));
                }
                Kind::Call
            }
            Phase::Open { until } => return Err(Refusal::until(*until, now)),
            Phase::HalfOpen { slots, succeeded, .. } => {
                match free_slot(slots, *succeeded, self.rules.probes) {
                    Some(slot) => {
                        slots[slot] = Some(now + self.rules.probe_timeout);
                        Kind::Probe { slot: Slot::ALL[slot] }
                    }
                    None => return Err(Refusal::until(self.ask_again(now), now)),
                }
            }
            Phase::ForcedOpen => return Err(Refusal::indefinite()),
        };
        Ok(self.ticket(kind))
    }

    /// Admits a call whatever the state. Where the circuit would have refused it, its outcome
    /// changes nothing; but in the ramp it counts like any other.
    pub fn admit_anyway(&mut self, now: Instant, draw: impl FnMut() -> f64) -> Ticket {
        match self.admit(now, draw) {
            Ok(ticket) => ticket,
            Err(_) if matches!(self.phase, Phase::Closed { .. }) => self.ticket(Kind::Call),
            Err(_) => self.ticket(Kind::Bystander),
        }
    }

    /// Takes a ticket back, with what became of the call.
    pub fn record(
        &mut self,
        ticket: Ticket,
        verdict: Verdict,
        now: Instant,
        mut draw: impl FnMut() -> f64,
    ) {
        // What is due comes first, so that a probe that reports after its timeout is late
        // whether or not somebody noticed in between.
        self.advance(now, &mut draw);
        // A late answer must not judge the present. (tower-resilience closes a half-open breaker
        // on a success from before it opened; resilience4j had the same, its issue 935.)
        if ticket.generation != self.generation {
            return;
        }
        let weight = Weight::of(verdict);
        let rule = self.rules.slow;
        let is_slow =
            rule.zip(ticket.has_taken()).is_some_and(|(rule, took)| took > rule.longer_than);
        match (ticket.kind, &mut self.phase) {
            (Kind::Call, Phase::Closed { .. }) => self.count(weight, is_slow, now, draw),
            (Kind::Probe { slot }, Phase::HalfOpen { slots, succeeded, slow }) => {
                let slot = &mut slots[slot as usize];
                debug_assert!(slot.is_some(), "a slot has one ticket");
                *slot = None;
                match weight {
                    Weight::Success => {
                        *succeeded += 1;
                        *slow += u32::from(is_slow);
                        if *succeeded >= self.rules.probes {
                            let (slow, probes) = (*slow, self.rules.probes);
                            // As many as would open it, had they been all the calls there were.
                            if rule.is_some_and(|rule| slow * 100 >= probes * rule.percent) {
                                self.open(now, "probe_slow", draw);
                            } else {
                                self.close(now, "recovered");
                            }
                        }
                    }
                    Weight::Failure | Weight::Overload => self.open(now, "probe_failed", draw),
                    Weight::Nothing => {}
                }
            }
            _ => {}
        }
    }

    /// Does what is due by `now`: an open time that is over, a probe that timed out, a ramp that
    /// ends. [`Circuit::admit`] and [`Circuit::record`] do it first of all.
    pub fn advance(&mut self, now: Instant, mut draw: impl FnMut() -> f64) {
        // At most three rounds: a timed-out probe opens, an open time may be over since then,
        // and a fresh half-open has no probe.
        loop {
            match &mut self.phase {
                Phase::Closed { ramp } => {
                    if ramp.is_some_and(|ramp| ramp.is_over(now, self.rules.ramp)) {
                        *ramp = None;
                    }
                    return;
                }
                Phase::Open { until } if now >= *until => self.half_open("waited"),
                Phase::HalfOpen { slots, .. } => {
                    // It timed out then, not when somebody came to notice.
                    match slots.iter().flatten().min() {
                        Some(&expiry) if now >= expiry => {
                            self.open(expiry, "probe_timeout", &mut draw);
                        }
                        _ => return,
                    }
                }
                Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed => return,
            }
        }
    }

    /// An active check found it healthy: an open circuit lets probes go now. Those decide; a
    /// check alone never closes it.
    pub fn found_healthy(&mut self) {
        if matches!(self.phase, Phase::Open { .. }) {
            self.half_open("found_healthy");
        }
    }

    /// Refuses every call until [`Circuit::release`].
    pub fn force_open(&mut self) {
        if !matches!(self.phase, Phase::ForcedOpen) {
            self.enter(Phase::ForcedOpen, "forced", None);
        }
    }

    /// Admits every call until [`Circuit::release`], and counts none.
    pub fn force_closed(&mut self) {
        if !matches!(self.phase, Phase::ForcedClosed) {
            self.enter(Phase::ForcedClosed, "forced", None);
        }
    }

    /// Ends what was forced: closed, and as if it were new. Does nothing if nothing is forced.
    pub fn release(&mut self, now: Instant) {
        let ramp = match self.phase {
            // Nobody called it in the meantime, so that the load comes back step by step.
            Phase::ForcedOpen => self.ramp_from(now),
            Phase::ForcedClosed => None,
            _ => return,
        };
        self.openings = 0;
        self.enter(Phase::Closed { ramp }, "released", None);
        self.start_over(now);
    }

    /// What changed since it was asked last, the latest four at most.
    pub fn take_transitions(&mut self) -> Transitions {
        self.transitions.take()
    }

    /// Whether [`Circuit::take_transitions`] has something to tell.
    #[must_use]
    pub const fn has_changed(&self) -> bool {
        !self.transitions.is_empty()
    }

    /// The state as it was left by the last call or [`Circuit::advance`].
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } => State::Open { until: *until },
            Phase::HalfOpen { slots, succeeded, .. } => {
                let under_way = slots.iter().flatten().count() as u32;
                State::HalfOpen { under_way, succeeded: *succeeded }
            }
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::ForcedClosed => State::ForcedClosed,
        }
    }

    /// Which phase this is, counted from 1.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation in which every call is admitted and admitting changes nothing, or 0.
    pub(super) const fn steady(&self) -> u64 {
        match self.phase {
            Phase::Closed { ramp: None } | Phase::ForcedClosed => self.generation,
            _ => 0,
        }
    }

    /// The generation in which the successes of calls change nothing but their count, and until
    /// when they belong where they would be counted now; if it is in such a one.
    ///
    /// While fewer calls have failed than open it with the least number of calls that counts, none
    /// of any number of successes is the one that opens it.
    pub(super) fn unmoved(&self) -> Option<Unmoved> {
        let is_closed = matches!(self.phase, Phase::Closed { ramp: None });
        let least = u64::from(self.rules.minimum_calls) * u64::from(self.rules.failure_percent);
        let until = self.window.ends()?;
        (is_closed && self.rules.slow.is_none() && u64::from(self.window.failures()) * 100 < least)
            .then_some(Unmoved { generation: self.generation, until })
    }

    /// How long one bucket of its window is.
    pub(super) const fn bucket(&self) -> Duration {
        self.window.width()
    }

    /// Counts calls that succeeded while it was [`unmoved`](Self::unmoved).
    pub(super) fn add_successes(&mut self, successes: u32) {
        if successes > 0 {
            self.streak = 0;
            self.window.add_successes(successes);
        }
    }

    /// When it is worth while to ask: none is now, an instant far ahead is never.
    pub(super) fn opens(&self) -> Opens {
        match &self.phase {
            Phase::Closed { .. } | Phase::ForcedClosed => Opens::Now,
            Phase::Open { until } => Opens::At(*until),
            Phase::HalfOpen { slots, succeeded, .. } => {
                match free_slot(slots, *succeeded, self.rules.probes) {
                    Some(_) => Opens::Now,
                    // Then it is due, and only who asks can find that out.
                    None => slots.iter().flatten().min().map_or(Opens::Now, |&at| Opens::At(at)),
                }
            }
            Phase::ForcedOpen => Opens::Never,
        }
    }

    /// The refusal to a caller who is not to be admitted any more, whatever the state.
    pub(super) fn refusal(&self, now: Instant) -> Refusal {
        match self.phase {
            Phase::ForcedOpen => Refusal::indefinite(),
            Phase::Open { until } => Refusal::until(until.max(now), now),
            Phase::HalfOpen { .. } => Refusal::until(self.ask_again(now), now),
            Phase::Closed { .. } | Phase::ForcedClosed => Refusal::until(now, now),
        }
    }

    /// When to ask again while all probes are under way. Nobody can know; most report long
    /// before their timeout, so that a tenth of it is a fair guess.
    fn ask_again(&self, now: Instant) -> Instant {
        let guess = now + self.rules.probe_timeout / 10;
        match &self.phase {
            Phase::HalfOpen { slots, .. } => {
                slots.iter().flatten().min().map_or(guess, |&expiry| expiry.min(guess))
            }
            _ => guess,
        }
    }

    const fn ticket(&self, kind: Kind) -> Ticket {
        Ticket { generation: self.generation, kind, took: UNTOLD, answered: UNTOLD }
    }

    /// Counts a call that a closed circuit admitted, and opens it where that is one too many.
    fn count(&mut self, weight: Weight, is_slow: bool, now: Instant, draw: impl FnMut() -> f64) {
        match weight {
            Weight::Nothing => return,
            Weight::Success => self.streak = 0,
            Weight::Failure => self.streak = self.streak.saturating_add(1),
            // Neither proof of life nor of death.
            Weight::Overload => {}
        }
        // The exact ratio, in whole numbers. Not an average with a decay by time: there a burst
        // gives each sample next to no weight, and hides a total outage (linkerd2-proxy,
        // `linkerd/app/outbound/src/http/breaker/success_rate.rs`).
        let (rules, failed) = (&self.rules, weight != Weight::Success);
        let all = self.window.record(now, failed);
        let is_failing = reaches(all, rules.minimum_calls, rules.failure_percent);
        let slow = self.slow.as_mut().zip(rules.slow);
        let is_slow = slow.is_some_and(|(slow, rule)| {
            reaches(slow.record(now, is_slow), rules.minimum_calls, rule.percent)
        });
        if self.streak >= rules.consecutive_failures {
            self.trip(now, "consecutive", draw);
        } else if is_failing {
            self.trip(now, "ratio", draw);
        } else if is_slow {
            self.trip(now, "slow", draw);
        }
    }

    /// Opens a closed circuit. If it was closed for long enough, this is a new outage.
    fn trip(&mut self, now: Instant, reason: &'static str, draw: impl FnMut() -> f64) {
        if now.saturating_duration_since(self.closed_at) >= self.rules.stable_period {
            self.openings = 0;
        }
        self.open(now, reason, draw);
    }

    fn open(&mut self, at: Instant, reason: &'static str, mut draw: impl FnMut() -> f64) {
        let open_for = open_time(&self.rules, self.openings, draw());
        self.openings = self.openings.saturating_add(1);
        self.enter(Phase::Open { until: at + open_for }, reason, Some(open_for));
    }

    fn half_open(&mut self, reason: &'static str) {
        let slots = [None; MAX_PROBES];
        self.enter(Phase::HalfOpen { slots, succeeded: 0, slow: 0 }, reason, None);
    }

    fn close(&mut self, now: Instant, reason: &'static str) {
        let ramp = self.ramp_from(now);
        self.enter(Phase::Closed { ramp }, reason, None);
        self.start_over(now);
    }

    fn ramp_from(&self, now: Instant) -> Option<Ramp> {
        (!self.rules.ramp.is_zero()).then(|| Ramp::new(now))
    }

    /// What was counted before is of another time.
    fn start_over(&mut self, now: Instant) {
        self.window.clear(now);
        if let Some(slow) = &mut self.slow {
            slow.clear(now);
        }
        self.streak = 0;
        self.closed_at = now;
    }

    fn enter(&mut self, phase: Phase, reason: &'static str, open_for: Option<Duration>) {
        self.phase = phase;
        self.generation += 1;
        self.transitions.push(Transition { state: self.state(), reason, open_for });
    }
}

/// Whether so many percent of enough calls are failures, or slow.
fn reaches(counts: Counts, minimum: u32, percent: u32) -> bool {
    counts.calls >= minimum
        && u64::from(counts.failures) * 100 >= u64::from(counts.calls) * u64::from(percent)
}

/// For how long successes change nothing but a count.
pub(super) struct Unmoved {
    pub(super) generation: u64,
    pub(super) until: Instant,
}

/// When a circuit is worth asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    Now,
    At(Instant),
    Never,
}

/// A slot for one more probe. Those that succeeded keep theirs, so that no more calls than
/// needed are put at risk.
fn free_slot(slots: &Slots, succeeded: u32, probes: u32) -> Option<usize> {
    let under_way = slots.iter().flatten().count() as u32;
    if under_way + succeeded >= probes {
        return None;
    }
    slots.iter().position(Option::is_none)
}

/// Equal jitter over an exponential: half of it is sure, half is chance, so that many clients
/// neither come back together nor at once (M. Brooker, "Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015; there against full jitter for retries, here with a floor because
/// an open time of nothing would be none).
fn open_time(rules: &Rules, openings: u32, draw: f64) -> Duration {
    let doubled = 1_u32.checked_shl(openings).unwrap_or(u32::MAX);
    let full = rules.shortest_open.saturating_mul(doubled).min(rules.longest_open);
    // As one number: seconds and nanoseconds scaled apart lose a part of the second.
    let jittered = full.as_secs_f64() * (0.5 + draw / 2.0);
    Duration::try_from_secs_f64(jittered).unwrap_or(full).min(full)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::classify::{Blame, Pushback, Retry, Sent};

    const FAILURE: Verdict = Verdict::TIMED_OUT;
    const SUCCESS: Verdict = Verdict::SUCCESS;
    const LIMITED: Verdict = Verdict::new(Blame::Service, Sent::No, Retry::Always)
        .with_pushback(Pushback::After(Duration::from_secs(1)));
    const NOT_FOUND: Verdict = Verdict::new(Blame::Client, Sent::Processed, Retry::Never);
    const UNSENT: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// A circuit and its present.
    struct Bench {
        circuit: Circuit,
        now: Instant,
        draw: f64,
    }

    impl Bench {
        fn new() -> Self {
            Self::with(BreakerConfig::new())
        }

        fn with(config: BreakerConfig) -> Self {
            let now = crate::time::now();
            Self { circuit: Circuit::new(&config, now), now, draw: 1.0 - f64::EPSILON }
        }

        fn no_ramp() -> Self {
            Self::with(BreakerConfig::new().ramp(Duration::ZERO).expect("no ramp"))
        }

        fn admit(&mut self) -> Result<Ticket, Refusal> {
            let draw = self.draw;
            self.circuit.admit(self.now, || draw)
        }

        fn admitted(&mut self) -> Ticket {
            self.admit().expect("it is admitted")
        }

        fn record(&mut self, ticket: Ticket, verdict: Verdict) {
            let draw = self.draw;
            self.circuit.record(ticket, verdict, self.now, || draw);
        }

        fn call(&mut self, verdict: Verdict) {
            let ticket = self.admitted();
            self.record(ticket, verdict);
        }

        fn timed_call(&mut self, verdict: Verdict, took: Duration) {
            let mut ticket = self.admitted();
            ticket.took(took);
            self.record(ticket, verdict);
        }

        fn calls(&mut self, count: u32, verdict: Verdict) {
            for _ in 0..count {
                self.call(verdict);
            }
        }

        /// When it may be asked again; it has to be open.
        fn until(&self) -> Instant {
            match self.circuit.state() {
                State::Open { until } => until,
                other => panic!("it is {other:?}"),
            }
        }

        fn trip(&mut self) -> Duration {
            self.calls(5, FAILURE);
            self.until() - self.now
        }

        /// Opens it and waits until probes may go.
        fn trip_and_wait(&mut self) {
            self.trip();
            self.now = self.until();
        }

        fn reasons(&mut self) -> Vec<(&'static str, &'static str)> {
            let transitions = self.circuit.take_transitions();
            transitions.iter().map(|change| (change.state.code(), change.reason)).collect()
        }
    }

    #[test]
    fn opens_at_the_fifth_failure_in_a_row() {
        let mut bench = Bench::new();
        bench.calls(4, FAILURE);
        bench.call(SUCCESS);
        bench.calls(4, FAILURE);
        assert_eq!(bench.circuit.state(), State::Closed);
        bench.call(FAILURE);
        let refusal = bench.admit().expect_err("it is open");
        assert_eq!(refusal.retry_at, Some(bench.until()));
        assert_eq!(bench.reasons(), [("open", "consecutive")]);
    }

    #[test]
    fn ten_thousand_successes_do_not_outweigh_a_failing_half_minute() {
        let mut bench = Bench::new();
        bench.calls(10_000, SUCCESS);
        bench.now += s(30);
        for _ in 0..9 {
            bench.call(FAILURE);
            bench.call(SUCCESS);
        }
        bench.call(FAILURE);
        assert_eq!(bench.circuit.state(), State::Closed, "19 calls are too few");
        bench.call(SUCCESS);
        assert_eq!(bench.reasons(), [("open", "ratio")]);
    }

    #[test]
    fn a_ratio_just_below_the_limit_keeps_it_closed() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.call(SUCCESS);
            bench.call(FAILURE);
            bench.call(SUCCESS);
        }
        assert_eq!(bench.circuit.state(), State::Closed);
    }

    fn minding_slow_calls() -> Bench {
        Bench::with(BreakerConfig::new().slow_calls(s(2), 50).expect("sound"))
    }

    #[test]
    fn too_many_slow_calls_open_it_whether_they_succeed_or_not() {
        let mut bench = minding_slow_calls();
        for _ in 0..9 {
            bench.timed_call(SUCCESS, s(2));
            bench.timed_call(SUCCESS, ms(2001));
        }
        bench.call(SUCCESS);
        assert_eq!(bench.circuit.state(), State::Closed, "19 calls are too few");
        bench.timed_call(FAILURE, s(3));
        assert_eq!(bench.reasons(), [("open", "slow")]);

        // What takes as long as it may is not slow: nine of twenty are.
        let mut bench = minding_slow_calls();
        for _ in 0..9 {
            bench.timed_call(SUCCESS, s(2));
            bench.timed_call(SUCCESS, ms(2001));
        }
        bench.calls(2, SUCCESS);
        assert_eq!(bench.circuit.state(), State::Closed);
    }

    #[test]
    fn slow_calls_are_forgotten_with_their_window_and_with_the_outage() {
        let mut bench = minding_slow_calls();
        (0..19).for_each(|_| bench.timed_call(SUCCESS, s(3)));
        bench.now += s(30);
        bench.timed_call(SUCCESS, s(3));
        assert_eq!(bench.circuit.state(), State::Closed, "one in 30 s");
        (0..18).for_each(|_| bench.timed_call(SUCCESS, s(3)));
        bench.circuit.force_open();
        bench.circuit.release(bench.now);
        bench.now += s(3);
        bench.timed_call(SUCCESS, s(3));
        assert_eq!(bench.circuit.state(), State::Closed, "what was before is of another time");
    }

    #[test]
    fn a_slow_call_is_nothing_to_a_breaker_that_was_not_told_so() {
        let mut bench = Bench::new();
        (0..100).for_each(|_| bench.timed_call(SUCCESS, s(3600)));
        assert_eq!(bench.circuit.state(), State::Closed);
    }

    #[test]
    fn probes_that_are_slow_open_it_again_and_some_of_them_do_not() {
        for (slow, reason) in [(2, "probe_slow"), (1, "recovered")] {
            let mut bench = minding_slow_calls();
            bench.trip_and_wait();
            for probe in 0..3 {
                bench.timed_call(SUCCESS, if probe < slow { s(3) } else { s(1) });
            }
            assert_eq!(bench.reasons().last().map(|change| change.1), Some(reason));
        }
        // Half of them, where half of all calls would open it.
        let config = BreakerConfig::new().slow_calls(s(2), 50).and_then(|config| config.probes(2));
        let mut bench = Bench::with(config.expect("sound"));
        bench.trip_and_wait();
        bench.timed_call(SUCCESS, s(3));
        bench.timed_call(SUCCESS, s(1));
        assert_eq!(bench.reasons().last().map(|change| change.1), Some("probe_slow"));
    }

    #[test]
    fn a_limiter_counts_in_the_ratio_but_not_in_the_streak() {
        let mut bench = Bench::new();
        bench.calls(19, LIMITED);
        assert_eq!(bench.circuit.state(), State::Closed);
        bench.call(LIMITED);
        assert_eq!(bench.reasons(), [("open", "ratio")]);

        let mut bench = Bench::new();
        bench.calls(4, FAILURE);
        bench.call(LIMITED);
        assert_eq!(bench.circuit.state(), State::Closed);
        bench.call(FAILURE);
        assert_eq!(bench.reasons(), [("open", "consecutive")], "it does not end a streak either");
    }

    #[test]
    fn an_answer_is_a_sign_of_life_and_silence_is_none() {
        let mut bench = Bench::new();
        bench.calls(4, FAILURE);
        bench.calls(50, UNSENT);
        bench.calls(50, Verdict::CANCELLED);
        bench.call(NOT_FOUND);
        bench.calls(4, FAILURE);
        assert_eq!(bench.circuit.state(), State::Closed);
        let counts = bench.circuit.window.counts(bench.now);
        assert_eq!((counts.calls, counts.failures), (9, 8));
    }

    #[test]
    fn admits_no_more_probes_than_it_needs() {
        let mut bench = Bench::no_ramp();
        bench.trip_and_wait();
        let mut probes: Vec<Ticket> = (0..1000).filter_map(|_| bench.admit().ok()).collect();
        assert_eq!(probes.len(), 3);
        let refusal = bench.admit().expect_err("all probes are under way");
        assert_eq!(refusal.retry_at, Some(bench.now + s(1)));
        // One success: its place is not free again, since two more are under way.
        bench.record(probes.remove(0), SUCCESS);
        assert!(bench.admit().is_err());
        assert_eq!(bench.circuit.state(), State::HalfOpen { under_way: 2, succeeded: 1 });
        bench.record(probes.remove(0), NOT_FOUND);
        bench.record(probes.remove(0), SUCCESS);
        assert_eq!(bench.circuit.state(), State::Closed);
        assert_eq!(
            bench.reasons(),
            [("open", "consecutive"), ("half_open", "waited"), ("closed", "recovered")]
        );
        bench.calls(1000, SUCCESS);
    }

    #[test]
    fn gives_the_probe_slot_back_when_the_probe_is_dropped() {
        let mut bench = Bench::new();
        bench.trip_and_wait();
        for _ in 0..100 {
            let probes: Vec<Ticket> = (0..3).map(|_| bench.admitted()).collect();
            assert!(bench.admit().is_err());
            for probe in probes {
                bench.record(probe, Verdict::CANCELLED);
            }
            assert_eq!(bench.circuit.state(), State::HalfOpen { under_way: 0, succeeded: 0 });
        }
    }

    #[test]
    fn one_failed_probe_opens_it_for_twice_as_long() {
        for verdict in [FAILURE, LIMITED] {
            let mut bench = Bench::new();
            bench.trip_and_wait();
            bench.call(SUCCESS);
            bench.call(verdict);
            assert_eq!((bench.until() - bench.now).as_secs_f64().round(), 10.0);
        }
    }

    #[test]
    fn a_probe_that_hangs_has_failed_when_its_time_is_over() {
        let mut bench = Bench::new();
        bench.trip_and_wait();
        let hung = bench.admitted();
        let expiry = bench.now + s(10);
        bench.now = expiry - ms(1);
        bench.call(SUCCESS);
        bench.now = expiry + s(1);
        assert!(bench.admit().is_err());
        assert_eq!((bench.until() - expiry).as_secs_f64().round(), 10.0, "from when it was due");
        bench.record(hung, SUCCESS);
        assert!(matches!(bench.circuit.state(), State::Open { .. }));
        bench.reasons();

        // An hour later nobody waits for an open time that began an hour ago.
        bench.now = bench.until();
        let _hung = bench.admitted();
        bench.now += s(3600);
        let _probe = bench.admitted();
        assert_eq!(
            bench.reasons(),
            [("half_open", "waited"), ("open", "probe_timeout"), ("half_open", "waited")]
        );
    }

    #[test]
    fn a_probe_that_reports_late_is_late_whether_or_not_somebody_noticed() {
        let mut bench = Bench::with(BreakerConfig::new().probes(1).expect("one is enough"));
        bench.trip_and_wait();
        let hung = bench.admitted();
        bench.now += s(10);
        bench.record(hung, SUCCESS);
        assert!(matches!(bench.circuit.state(), State::Open { .. }));
    }

    #[test]
    fn a_success_from_before_it_opened_closes_nothing() {
        let mut bench = Bench::with(BreakerConfig::new().probes(1).expect("one is enough"));
        let stale: Vec<Ticket> = (0..3).map(|_| bench.admitted()).collect();
        bench.trip_and_wait();
        let probe = bench.admitted();
        for ticket in stale {
            bench.record(ticket, SUCCESS);
        }
        assert_eq!(bench.circuit.state(), State::HalfOpen { under_way: 1, succeeded: 0 });
        bench.record(probe, SUCCESS);
        assert_eq!(bench.circuit.state(), State::Closed);
    }

    #[test]
    fn a_failure_from_before_it_closed_opens_nothing() {
        let mut bench = Bench::no_ramp();
        let stale: Vec<Ticket> = (0..10).map(|_| bench.admitted()).collect();
        bench.trip_and_wait();
        // A probe of a half-open time that failed, against the next one.
        let stale_probe = bench.admitted();
        bench.call(FAILURE);
        bench.now = bench.until();
        let probes: Vec<Ticket> = (0..3).map(|_| bench.admitted()).collect();
        bench.record(stale_probe, FAILURE);
        assert_eq!(bench.circuit.state(), State::HalfOpen { under_way: 3, succeeded: 0 });
        for probe in probes {
            bench.record(probe, SUCCESS);
        }
        for ticket in stale {
            bench.record(ticket, FAILURE);
        }
        assert_eq!(bench.circuit.state(), State::Closed);
    }

    #[test]
    fn the_open_time_doubles_to_its_limit_and_is_jittered_by_half() {
        let rules = Rules::default();
        for (openings, full) in [(0, 5), (1, 10), (2, 20), (5, 160), (6, 300), (40, 300)] {
            assert_eq!(open_time(&rules, openings, 0.0), s(full) / 2);
            assert_eq!(open_time(&rules, openings, 0.5), s(full) * 3 / 4);
            assert!(open_time(&rules, openings, 1.0 - f64::EPSILON) <= s(full));
        }
        let rules = Rules { shortest_open: ms(1495), ..rules };
        assert_eq!(open_time(&rules, 0, 1.0), ms(1495), "scaled as one number");
    }

    #[test]
    fn the_open_time_starts_over_after_a_stable_period() {
        let mut bench = Bench::no_ramp();
        bench.draw = 0.0;
        assert_eq!(bench.trip(), ms(2500));
        bench.now = bench.until();
        bench.calls(3, SUCCESS);
        bench.now += s(60) - ms(1);
        assert_eq!(bench.trip(), s(5), "closed for not quite long enough");
        bench.now = bench.until();
        bench.calls(3, SUCCESS);
        bench.now += s(60);
        assert_eq!(bench.trip(), ms(2500));
    }

    #[test]
    fn after_closing_the_calls_come_back_by_the_ramp() {
        let mut bench = Bench::new();
        bench.trip_and_wait();
        bench.calls(3, SUCCESS);
        let closed = bench.now;
        for (at, share) in [(0, 10), (999, 10), (1000, 25), (2000, 50), (2999, 50), (3000, 100)] {
            bench.now = closed + ms(at);
            let mut admitted = 0;
            for _ in 0..100 {
                match bench.admit() {
                    Ok(ticket) => {
                        admitted += 1;
                        bench.record(ticket, SUCCESS);
                    }
                    Err(refusal) => {
                        let stage = closed + s(at / 1000 + 1);
                        assert_eq!(refusal.retry_at, Some(stage));
                    }
                }
            }
            assert_eq!(admitted, share, "{at} ms");
        }
    }

    #[test]
    fn a_relapse_in_the_ramp_opens_it_again() {
        let mut bench = Bench::new();
        bench.trip_and_wait();
        bench.calls(3, SUCCESS);
        let mut failures = 0;
        while matches!(bench.circuit.state(), State::Closed) {
            if let Ok(ticket) = bench.admit() {
                failures += 1;
                bench.record(ticket, FAILURE);
            }
        }
        assert_eq!(failures, 5);
        assert_eq!((bench.until() - bench.now).as_secs_f64().round(), 10.0);
    }

    #[test]
    fn what_is_let_through_an_open_circuit_changes_nothing() {
        let mut bench = Bench::new();
        bench.trip();
        let until = bench.until();
        for verdict in [SUCCESS, FAILURE] {
            let ticket = bench.circuit.admit_anyway(bench.now, || 0.0);
            bench.record(ticket, verdict);
        }
        assert_eq!(bench.until(), until);
        // When probes may go, it is one as long as there is a slot.
        bench.now = until;
        let tickets: Vec<Ticket> =
            (0..5).map(|_| bench.circuit.admit_anyway(bench.now, || 0.0)).collect();
        assert_eq!(bench.circuit.state(), State::HalfOpen { under_way: 3, succeeded: 0 });
        for ticket in tickets.into_iter().rev() {
            bench.record(ticket, SUCCESS);
        }
        assert_eq!(bench.circuit.state(), State::Closed);
        // In the ramp it counts like any other call.
        let tickets: Vec<Ticket> =
            (0..5).map(|_| bench.circuit.admit_anyway(bench.now, || 0.0)).collect();
        for ticket in tickets {
            bench.record(ticket, FAILURE);
        }
        assert!(matches!(bench.circuit.state(), State::Open { .. }));
    }

    #[test]
    fn a_check_shortens_the_open_time_but_never_closes() {
        let mut bench = Bench::new();
        bench.circuit.found_healthy();
        assert_eq!(bench.circuit.state(), State::Closed);
        bench.trip();
        bench.circuit.found_healthy();
        assert_eq!(bench.circuit.state(), State::HalfOpen { under_way: 0, succeeded: 0 });
        let _probe = bench.admitted();
        bench.circuit.found_healthy();
        assert_eq!(bench.circuit.state(), State::HalfOpen { under_way: 1, succeeded: 0 });
        bench.circuit.force_open();
        bench.circuit.found_healthy();
        assert_eq!(bench.circuit.state(), State::ForcedOpen);
    }

    #[test]
    fn a_forced_state_holds_and_its_release_starts_over() {
        let mut bench = Bench::new();
        let stale = bench.admitted();
        bench.circuit.force_open();
        assert_eq!(bench.admit().expect_err("forced").retry_at, None);
        bench.now += s(3600);
        assert!(bench.admit().is_err());

        bench.circuit.force_closed();
        bench.calls(100, FAILURE);
        assert_eq!(bench.circuit.state(), State::ForcedClosed);
        bench.circuit.release(bench.now);
        bench.record(stale, FAILURE);
        bench.calls(4, FAILURE);
        assert_eq!(bench.circuit.state(), State::Closed);
        bench.draw = 0.0;
        bench.call(FAILURE);
        assert_eq!(bench.until() - bench.now, ms(2500));
        // Nothing is forced, so that there is nothing to end.
        bench.circuit.release(bench.now);
        assert!(bench.admit().is_err());
        assert_eq!(
            bench.reasons(),
            [
                ("forced_open", "forced"),
                ("forced_closed", "forced"),
                ("closed", "released"),
                ("open", "consecutive"),
            ]
        );
    }

    #[test]
    fn a_release_makes_the_next_open_time_the_first_one_again() {
        let mut bench = Bench::no_ramp();
        bench.draw = 0.0;
        bench.trip_and_wait();
        bench.call(FAILURE);
        assert_eq!(bench.until() - bench.now, s(5));
        bench.circuit.force_closed();
        bench.circuit.release(bench.now);
        assert_eq!(bench.trip(), ms(2500));
    }

    #[test]
    fn what_failed_before_it_closed_is_not_counted_again() {
        let mut bench = Bench::no_ramp();
        bench.calls(15, SUCCESS);
        bench.trip_and_wait();
        bench.calls(3, SUCCESS);
        assert_eq!(bench.circuit.window.counts(bench.now).calls, 0);
        // With those of before, this would be half of 20 calls.
        for _ in 0..5 {
            bench.call(FAILURE);
            bench.call(FAILURE);
            bench.call(SUCCESS);
        }
        assert_eq!(bench.circuit.state(), State::Closed);
    }

    #[test]
    fn the_load_comes_back_by_the_ramp_when_a_forced_opening_ends() {
        let mut bench = Bench::new();
        bench.circuit.force_open();
        bench.circuit.release(bench.now);
        let admitted = (0..100).filter(|_| bench.admit().is_ok()).count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn a_glance_agrees_with_the_circuit() {
        let mut bench = Bench::no_ramp();
        assert_eq!(bench.circuit.opens(), Opens::Now);
        assert_ne!(bench.circuit.steady(), 0);
        bench.trip();
        assert_eq!(bench.circuit.opens(), Opens::At(bench.until()));
        assert_eq!(bench.circuit.steady(), 0);
        bench.now = bench.until();
        let _first = bench.admitted();
        assert_eq!(bench.circuit.opens(), Opens::Now);
        let (_second, _third) = (bench.admitted(), bench.admitted());
        // Somebody must ask then, or nobody would find out that they hang.
        assert_eq!(bench.circuit.opens(), Opens::At(bench.now + s(10)));
        bench.circuit.force_open();
        assert_eq!(bench.circuit.opens(), Opens::Never);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit,
        AdmitAnyway,
        Record(usize, Verdict),
        Wait(u64),
        FoundHealthy,
        ForceOpen,
        ForceClosed,
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        let verdict = prop_oneof![
            3 => Just(SUCCESS),
            4 => Just(FAILURE),
            1 => Just(LIMITED),
            1 => Just(Verdict::CANCELLED),
        ];
        prop_oneof![
            20 => Just(Step::Admit),
            2 => Just(Step::AdmitAnyway),
            20 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::Record(which, verdict)),
            6 => (0_u64..8_000).prop_map(Step::Wait),
            1 => Just(Step::FoundHealthy),
            1 => Just(Step::ForceOpen),
            1 => Just(Step::ForceClosed),
            2 => Just(Step::Release),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: never more probes than allowed, a refusal looks
        /// ahead, only probes close it, and the glance never hides a circuit that would admit.
        #[test]
        fn keeps_its_promises_in_every_order(steps in proptest::collection::vec(step(), 1..400)) {
            let mut bench = Bench::with(BreakerConfig::new().consecutive_failures(2).expect("two"));
            let mut tickets: Vec<Ticket> = Vec::new();
            for step in steps {
                let before = bench.circuit.state();
                let glance = bench.circuit.opens();
                let steady = bench.circuit.steady();
                match step {
                    Step::Admit => match bench.admit() {
                        Ok(ticket) => {
                            let expected = match glance {
                                Opens::Now => true,
                                Opens::At(at) => bench.now >= at,
                                Opens::Never => false,
                            };
                            prop_assert!(expected);
                            prop_assert!(steady == 0 || ticket.generation == steady);
                            tickets.push(ticket);
                        }
                        Err(refusal) => {
                            prop_assert_eq!(steady, 0);
                            prop_assert!(refusal.retry_at.is_none_or(|at| at > bench.now));
                        }
                    },
                    Step::AdmitAnyway => {
                        tickets.push(bench.circuit.admit_anyway(bench.now, || 0.5));
                    }
                    Step::Record(which, verdict) if !tickets.is_empty() => {
                        let ticket = tickets.swap_remove(which % tickets.len());
                        let kind = ticket.kind;
                        bench.record(ticket, verdict);
                        if bench.circuit.state() == State::Closed && before != State::Closed {
                            let is_probe = matches!(kind, Kind::Probe { .. });
                            prop_assert!(is_probe && verdict == SUCCESS);
                        }
                    }
                    Step::Record(..) => {}
                    Step::Wait(time) => bench.now += ms(time),
                    Step::FoundHealthy => bench.circuit.found_healthy(),
                    Step::ForceOpen => bench.circuit.force_open(),
                    Step::ForceClosed => bench.circuit.force_closed(),
                    Step::Release => bench.circuit.release(bench.now),
                }
                if let State::HalfOpen { under_way, succeeded } = bench.circuit.state() {
                    prop_assert!(under_way + succeeded <= 3);
                    let alive = tickets
                        .iter()
                        .filter(|ticket| matches!(ticket.kind, Kind::Probe { .. }))
                        .filter(|ticket| ticket.generation == bench.circuit.generation)
                        .count();
                    prop_assert_eq!(alive, under_way as usize, "every slot has its ticket");
                }
            }
        }
    }
}
