//! A circuit that threads share.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Instant,
};

use super::{
    config::BreakerConfig,
    event::{Transition, Transitions},
    mirror::Mirror,
    permit::Permit,
    state::{Circuit, State, Ticket},
    tally::Tally,
    watch::{Watch, Watchers},
};
use crate::{
    call::Asked,
    classify::Verdict,
    endpoint::{Endpoint, Gate, GateStatus, Refusal},
    entropy::Entropy,
    event::{Event, Observer},
    sync::{Mutex, Padded, lock},
    time,
};

/// A circuit breaker: one [`Circuit`] behind a lock, and the switch on its outside.
///
/// It is a handle; its clones are the same breaker. Give one to a
/// [`BreakerLayer`](super::BreakerLayer) and keep one to look at and to force it. As a
/// [`Gate`] it guards an endpoint of a balancer.
///
/// ```
/// use buttress::breaker::{Breaker, BreakerConfig, State};
///
/// let breaker = Breaker::new(BreakerConfig::new());
/// breaker.force_open();
/// assert_eq!(breaker.state(), State::ForcedOpen);
/// breaker.release();
/// assert_eq!(breaker.state(), State::Closed);
/// ```
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

struct Shared {
    /// What most calls read, on a cache line that outcomes don't write.
    mirror: Padded<Mirror>,
    /// What successes write.
    tally: Padded<Tally>,
    circuit: Padded<Mutex<Guarded>>,
    /// Whether it matters how long calls take.
    timed: bool,
    entropy: Entropy,
    observer: Observer,
    endpoint: Option<Endpoint>,
}

/// What is behind the lock.
struct Guarded {
    circuit: Circuit,
    /// None until somebody watches.
    watchers: Option<Watchers>,
    last: Last,
}

/// The latest change, for who asks why and since when.
#[derive(Clone, Copy)]
struct Last {
    /// None of the state that it began in.
    transition: Option<Transition>,
    since: Instant,
}

impl Last {
    fn of(transition: Transition) -> Self {
        // An open time is exact; what else time brings about was so when somebody noticed. The
        // clock is read under the lock here, but only when the state changes.
        let opened = match (transition.state, transition.open_for) {
            (State::Open { until }, Some(open_for)) => until.checked_sub(open_for),
            _ => None,
        };
        Self { transition: Some(transition), since: opened.unwrap_or_else(time::now) }
    }
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self::with_entropy(config, &Entropy::system())
    }

    /// A closed breaker whose jitter comes from a fork of `entropy`.
    #[must_use]
    pub fn with_entropy(config: BreakerConfig, entropy: &Entropy) -> Self {
        let now = time::now();
        let circuit = Circuit::new(&config, now);
        let (mirror, tally) = (Mirror::new(&circuit, now), Tally::new(&circuit, now));
        Self {
            shared: Arc::new(Shared {
                mirror: Padded(mirror),
                tally: Padded(tally),
                circuit: Padded(Mutex::new(Guarded {
                    circuit,
                    watchers: None,
                    last: Last { transition: None, since: now },
                })),
                timed: config.rules.slow.is_some(),
                entropy: entropy.fork(),
                observer: config.observer,
                endpoint: config.endpoint,
            }),
        }
    }

    /// Refuses every call until [`Breaker::release`]. Only a balancer that has too few endpoints
    /// left may still call this one.
    pub fn force_open(&self) {
        self.change(|circuit, _| circuit.force_open());
    }

    /// Admits every call until [`Breaker::release`], and counts none.
    pub fn force_closed(&self) {
        self.change(|circuit, _| circuit.force_closed());
    }

    /// Ends what was forced: closed, as if it were new. If it was forced open, its calls come
    /// back by the ramp. Does nothing if nothing is forced.
    pub fn release(&self) {
        let now = time::now();
        self.change(|circuit, _| circuit.release(now));
    }

    /// The state at present.
    #[must_use]
    pub fn state(&self) -> State {
        let now = time::now();
        self.change(|circuit, draw| {
            circuit.advance(now, draw);
            circuit.state()
        })
    }

    /// In which state it is, why, and since when. Unlike [`state`](Self::state) it does nothing that
    /// is due: an open time may be over, and waits for the next call.
    #[must_use]
    pub fn status(&self) -> GateStatus {
        let (state, last) = {
            let guarded = lock(&self.shared.circuit);
            (guarded.circuit.state(), guarded.last)
        };
        let status = GateStatus {
            reason: last.transition.map(|transition| transition.reason),
            ..GateStatus::new(state.code(), last.since)
        };
        match state {
            State::Open { until } => status.until(until),
            _ => status,
        }
    }

    /// Watches its state from now on. Any number may.
    ///
    /// ```
    /// use buttress::breaker::{Breaker, BreakerConfig, State};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let breaker = Breaker::new(BreakerConfig::new());
    /// let mut watch = breaker.watch();
    /// breaker.force_open();
    /// assert_eq!(watch.changed().await, Some(State::ForcedOpen));
    /// drop(breaker);
    /// assert_eq!(watch.changed().await, None);
    /// # }
    /// ```
    pub fn watch(&self) -> Watch {
        // What is due is done first, so that the watch begins with what is.
        let _ = self.state();
        let mut guarded = lock(&self.shared.circuit);
        let Guarded { circuit, watchers, .. } = &mut *guarded;
        let present = || Watchers::new(circuit.generation(), circuit.state());
        let told = watchers.get_or_insert_with(present).subscribe();
        drop(guarded);
        Watch::new(told, WeakBreaker(Arc::downgrade(&self.shared)))
    }

    /// Admits one call, as of `now`. Its permit, dropped without a verdict, takes along what was
    /// [`Asked`]: so it can tell a call that its caller gave up from one that the deadline cut off.
    ///
    /// # Errors
    ///
    /// [`Refusal`] while it is open, or has let through as many calls as it may.
    pub fn admit(&self, now: Instant, asked: Asked) -> Result<Permit, Refusal> {
        self.enter(asked, || now)
    }

    /// Admits a call. While the breaker is closed and out of its ramp this is one atomic load,
    /// for admitting changes nothing then; the clock is not read.
    pub(crate) fn enter(
        &self,
        asked: Asked,
        now: impl FnOnce() -> Instant,
    ) -> Result<Permit, Refusal> {
        if let Some(ticket) = self.shared.mirror.admit() {
            return Ok(self.permit(ticket, asked, now));
        }
        let now = now();
        let ticket = self.change(|circuit, draw| circuit.admit(now, draw))?;
        Ok(self.permit(ticket, asked, || now))
    }

    /// Whether calls are refused at present, as far as a glance can tell. The clock is read only
    /// if it matters.
    pub(super) fn is_shut(&self) -> bool {
        !self.shared.mirror.is_open(time::now)
    }

    /// The refusal to somebody who took a shut breaker for an answer.
    pub(super) fn refusal(&self) -> Refusal {
        let now = time::now();
        self.change(|circuit, _| circuit.refusal(now))
    }

    fn permit(&self, ticket: Ticket, asked: Asked, now: impl FnOnce() -> Instant) -> Permit {
        let began = self.shared.timed.then(now);
        Permit::new(self.clone(), ticket, asked.deadline, began)
    }

    /// Takes a ticket back. Where a success changes nothing but a count, this takes no lock.
    #[inline]
    fn record(&self, ticket: Ticket, verdict: Verdict, now: impl FnOnce() -> Instant) {
        let counts = |generation| self.shared.tally.count(generation, ticket.answered);
        if !ticket.succeeded(verdict).is_some_and(counts) {
            let now = now();
            self.change(|circuit, draw| circuit.record(ticket, verdict, now, draw));
        }
    }

    /// Changes the circuit, and reports that when the lock is free again.
    fn change<T>(&self, change: impl FnOnce(&mut Circuit, &mut dyn FnMut() -> f64) -> T) -> T {
        let shared = &*self.shared;
        let (result, news) = {
            let mut guarded = lock(&shared.circuit);
            let Guarded { circuit, watchers, last } = &mut *guarded;
            shared.tally.close(circuit);
            let result = change(circuit, &mut || shared.entropy.unit());
            shared.tally.open(circuit);
            shared.mirror.follow(circuit);
            let news = circuit.has_changed().then(|| {
                let transitions = circuit.take_transitions();
                *last = transitions.last().copied().map_or(*last, Last::of);
                (transitions, circuit.generation(), watchers.clone())
            });
            (result, news)
        };
        if let Some((transitions, generation, watchers)) = news {
            shared.report(&transitions);
            // Outside of the lock, since it wakes tasks.
            if let (Some(watchers), Some(last)) = (watchers, transitions.last()) {
                watchers.tell(generation, last.state);
            }
        }
        result
    }
}

impl Shared {
    #[cold]
    fn report(&self, transitions: &Transitions) {
        for transition in transitions.iter() {
            self.observer.on(|| Event::Breaker {
                endpoint: self.endpoint.as_ref(),
                state: transition.state.code(),
                reason: transition.reason,
                open_for: transition.open_for,
            });
        }
    }
}

/// A breaker that may be gone.
#[derive(Clone)]
pub(super) struct WeakBreaker(Weak<Shared>);

impl WeakBreaker {
    pub(super) fn upgrade(&self) -> Option<Breaker> {
        self.0.upgrade().map(|shared| Breaker { shared })
    }
}

impl From<BreakerConfig> for Breaker {
    fn from(config: BreakerConfig) -> Self {
        Self::new(config)
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new(BreakerConfig::new())
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("endpoint", &self.shared.endpoint)
            .field("state", &lock(&self.shared.circuit).circuit.state())
            .finish_non_exhaustive()
    }
}

impl Gate for Breaker {
    type Ticket = Ticket;

    fn is_open(&self, now: Instant) -> bool {
        self.shared.mirror.is_open(|| now)
    }

    fn admit(&self, now: Instant) -> Result<Ticket, Refusal> {
        match self.shared.mirror.admit() {
            Some(ticket) => Ok(ticket),
            None => self.change(|circuit, draw| circuit.admit(now, draw)),
        }
    }

    fn admit_anyway(&self, now: Instant) -> Ticket {
        let steady = self.shared.mirror.admit();
        steady.unwrap_or_else(|| self.change(|circuit, draw| circuit.admit_anyway(now, draw)))
    }

    /// What takes long from here on may well be who reads it.
    fn answered(&self, ticket: &mut Ticket, began: Instant, now: Instant) {
        if self.shared.timed {
            ticket.took(now.saturating_duration_since(began));
        } else {
            ticket.answered = self.shared.tally.time(now);
        }
    }

    #[inline]
    fn settle(
        &self,
        mut ticket: Ticket,
        verdict: Verdict,
        began: Instant,
        now: impl FnOnce() -> Instant,
    ) {
        if self.shared.timed {
            let now = now();
            ticket.took(now.saturating_duration_since(began));
            self.record(ticket, verdict, || now);
        } else {
            self.record(ticket, verdict, now);
        }
    }

    fn found_healthy(&self, now: Instant) {
        self.change(|circuit, draw| {
            circuit.advance(now, draw);
            circuit.found_healthy();
        });
    }

    fn status(&self) -> Option<GateStatus> {
        Some(Self::status(self))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::classify::{Blame, Pushback, Retry, Sent};

    /// What becomes of a call, and how often the same does.
    fn outcome() -> impl Strategy<Value = (Verdict, usize)> {
        let limited = Verdict::new(Blame::Service, Sent::No, Retry::Always)
            .with_pushback(Pushback::After(Duration::from_secs(1)));
        prop_oneof![
            4 => (Just(Verdict::SUCCESS), 1..12_usize),
            3 => (Just(Verdict::TIMED_OUT), 1..4_usize),
            2 => (Just(limited), 1..6_usize),
            1 => (Just(Verdict::CANCELLED), 1..3_usize),
        ]
    }

    proptest! {
        /// Successes are counted past the lock, and nobody can tell: neither from bucket to bucket,
        /// nor in the streak, nor of calls from before it was open or forced.
        #[test]
        fn is_the_circuit_that_counts_each_call_at_once(
            steps in proptest::collection::vec(
                (0_u64..2_500, outcome(), 1..4_usize, 0..20_u8),
                1..120,
            ),
        ) {
            let now = time::now();
            let config = || BreakerConfig::new().window(Duration::from_secs(10)).expect("sound");
            let breaker = Breaker::with_entropy(config(), &Entropy::seeded(7));
            let draws = Entropy::seeded(7).fork();
            let mut circuit = Circuit::new(&config(), now);
            breaker.change(|own, _| *own = circuit.clone());
            let (mut now, mut under_way) = (now, Vec::new());
            for (millis, (verdict, times), one_in, force) in steps {
                now += Duration::from_millis(millis);
                let force = |circuit: &mut Circuit| {
                    match force {
                        0 => circuit.force_open(),
                        1 => circuit.force_closed(),
                        _ => {}
                    }
                    circuit.release(now);
                };
                breaker.change(|circuit, _| force(circuit));
                force(&mut circuit);
                for _ in 0..times {
                    let own = Gate::admit(&breaker, now);
                    let other = circuit.admit(now, || draws.unit());
                    prop_assert_eq!(own.is_ok(), other.is_ok());
                    under_way.extend(own.ok().zip(other.ok()).map(|both| (both, verdict)));
                }
                // The others are late.
                let ended = (0..under_way.len()).rev().filter(|at| at % one_in == 0);
                for at in ended.collect::<Vec<_>>() {
                    let ((mut own, other), verdict) = under_way.swap_remove(at);
                    Gate::answered(&breaker, &mut own, now, now);
                    breaker.settle(own, verdict, now, || now);
                    circuit.record(other, verdict, now, || draws.unit());
                }
                circuit.take_transitions();
                let own = breaker.change(|circuit, _| format!("{circuit:?}"));
                prop_assert_eq!(own, format!("{:?}", circuit));
            }
        }
    }

    /// A call a second for two minutes, whose bodies take longer than the window. Then twenty calls
    /// are refused, of fifty that it holds.
    #[test]
    fn long_bodies_do_not_hold_the_window_up() {
        let breaker = Breaker::new(BreakerConfig::new());
        let start = time::now();
        let admit = || Gate::admit(&breaker, start).expect("it is closed");
        let mut read = VecDeque::new();
        let mut now = start;
        for _ in 0..120 {
            now += Duration::from_secs(1);
            let mut ticket = admit();
            Gate::answered(&breaker, &mut ticket, now, now);
            read.push_back(ticket);
            if read.len() > 40 {
                let ticket = read.pop_front().expect("more than forty");
                breaker.settle(ticket, Verdict::SUCCESS, now, || now);
            }
        }
        let limited = Verdict::new(Blame::Service, Sent::No, Retry::Always);
        (0..20).for_each(|_| breaker.settle(admit(), limited, now, || now));
        assert_eq!(breaker.change(|circuit, _| circuit.state()), State::Closed);
    }

    #[test]
    fn a_success_takes_no_lock_unless_it_may_change_more_than_a_count() {
        let breaker = Breaker::new(BreakerConfig::new());
        let now = time::now();
        let ends_well_of = |answered| {
            let ticket = Gate::admit(&breaker, now).expect("it is closed");
            ticket.succeeded(Verdict::SUCCESS).is_some_and(|generation| {
                breaker.shared.tally.count(generation, breaker.shared.tally.time(answered))
            })
        };
        let ends_well = || ends_well_of(now);
        let fails = || {
            let ticket = Gate::admit(&breaker, now).expect("it is closed");
            let limited = Verdict::new(Blame::Service, Sent::No, Retry::Always);
            breaker.settle(ticket, limited, now, || now);
        };
        assert!(ends_well());
        (0..9).for_each(|_| fails());
        assert!(ends_well(), "nine of twenty are not the half");
        fails();
        assert!(!ends_well(), "ten of twenty are");
        breaker.force_closed();
        assert!(!ends_well(), "nothing is counted");
        breaker.release();
        // The window is of 30 s, so each bucket is of 3. One has begun with the release.
        let second = |second| now + Duration::from_secs(second);
        assert!(ends_well_of(second(1)));
        assert!(!ends_well_of(second(4)), "a head of the next bucket");
        let ticket = Gate::admit(&breaker, now).expect("it is closed");
        breaker.settle(ticket, Verdict::SUCCESS, now, || second(4));
        assert!(ends_well_of(second(4)));
        assert!(!ends_well_of(second(1)), "a head of the bucket before");
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`: every order in which two
/// threads can do these things.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        thread,
    };

    use super::*;
    use crate::classify::Settle;

    fn tripped(config: BreakerConfig) -> Breaker {
        let breaker = Breaker::new(config);
        let now = time::now();
        for _ in 0..5 {
            let mut permit = breaker.admit(now, Asked::default()).expect("it is closed");
            permit.settle(Verdict::TIMED_OUT);
        }
        breaker
    }

    #[test]
    fn who_was_told_that_it_is_forced_open_is_refused() {
        loom::model(|| {
            let breaker = Breaker::new(BreakerConfig::new());
            let told = Arc::new(AtomicBool::new(false));
            let (forced, telling) = (breaker.clone(), Arc::clone(&told));
            let other = thread::spawn(move || {
                forced.force_open();
                telling.store(true, Ordering::Release);
            });
            if told.load(Ordering::Acquire) {
                assert!(!breaker.is_open(time::now()));
                assert!(breaker.admit(time::now(), Asked::default()).is_err());
            } else {
                drop(breaker.admit(time::now(), Asked::default()));
            }
            other.join().expect("it only forces");
        });
    }

    #[test]
    fn two_threads_get_one_probe_where_there_is_one() {
        loom::model(|| {
            let breaker = tripped(BreakerConfig::new().probes(1).expect("one"));
            breaker.found_healthy(time::now());
            let admitted = Arc::new(AtomicUsize::new(0));
            let probe = |breaker: Breaker, admitted: Arc<AtomicUsize>| {
                let permit = breaker.admit(time::now(), Asked::default());
                admitted.fetch_add(usize::from(permit.is_ok()), Ordering::Relaxed);
                permit
            };
            let (theirs, counted) = (breaker.clone(), Arc::clone(&admitted));
            let other = thread::spawn(move || probe(theirs, counted));
            let own = probe(breaker.clone(), Arc::clone(&admitted));
            let others = other.join().expect("it only asks");
            assert_eq!(admitted.load(Ordering::Relaxed), 1);
            drop((own, others));
            let (state, idle) = (breaker.state(), State::HalfOpen { under_way: 0, succeeded: 0 });
            assert_eq!(state, idle);
        });
    }

    #[test]
    fn a_late_outcome_never_undoes_a_release() {
        loom::model(|| {
            let config = BreakerConfig::new().consecutive_failures(1).expect("one");
            let breaker = Breaker::new(config);
            let mut permit = breaker.admit(time::now(), Asked::default()).expect("closed");
            let forced = breaker.clone();
            let other = thread::spawn(move || {
                forced.force_closed();
                forced.release();
            });
            permit.settle(Verdict::TIMED_OUT);
            other.join().expect("it only forces and releases");
            assert_eq!(breaker.state(), State::Closed);
            assert!(breaker.is_open(time::now()));
        });
    }
}
