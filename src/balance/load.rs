//! An endpoint's load: how slow it is, times how much it has to do; and whether it is in doubt.
//!
//! **Slow** is Peak EWMA ([`algo::ewma`](crate::algo::ewma)) of the round trips of good answers.
//! A failure is not among them: how fast an endpoint fails says nothing of how fast it works.
//! While calls wait for their heads, the endpoint is at least as slow as its silence is long:
//! so the few that an endpoint gets after it has hung up turn the others away, long before
//! the first timeout, and a cost does not fade while nobody answers.
//!
//! **Whether it is in doubt**, and loses against every other, is its [`Standing`].
//!
//! What belongs together shares one atomic word, so a pick reads it without a lock and
//! without a write. Each word stands alone: nothing is published through these atomics, so all
//! orderings are relaxed.

use std::time::{Duration, Instant};

use super::{recent::Usual, said::Said, slow_start::SlowStart, standing::Standing};
use crate::{
    algo::ewma,
    sync::{AtomicU32, AtomicU64, Ordering},
};

/// The time unit of all words: 2³² of them are 19 hours. What is older than that looks younger
/// than it is, once, and fades from there as always.
pub(super) const TICK_MICROS: u32 = 16;
pub(super) const TICK_SECONDS: f64 = TICK_MICROS as f64 / 1e6;
pub(super) const TICKS_A_SECOND: u64 = 1_000_000 / TICK_MICROS as u64;

/// Another thread's word may be a little younger than this thread's `now`: so many ticks, about
/// a second. Not more, or an old cost would look fresh for hours.
const MAX_AHEAD: u32 = 1 << 16;

/// The cost of an endpoint of which nothing is known, where nothing is known of others either.
const UNKNOWN_COST: f64 = 0.001;

/// A call that was given up after less than this part of the usual time says nothing. It also
/// bounds what calls that are always given up at the same moment can make of a cost: five times
/// of that moment.
const TELLING: f64 = 4.0;

/// An answer says little of the queue when it is older than this, in seconds, ...
const STALE: f64 = 0.010;
/// ... and so many times what an answer takes.
const STALE_COSTS: f64 = 4.0;

/// For how long a latency is held, where servers report: 12 s. With a hundred clients and as many
/// servers, an answer of each comes every two seconds; to fade from the beginning adds 5 % to the
/// p99. After three times the decay more, a peak of 25 times the usual latency has gone.
const HELD: u32 = 12 * TICKS_A_SECOND as u32;

/// An endpoint that is so many times as slow as is usual is slow for another reason than its queue.
/// Of requests whose size is normal with a deviation as large as the mean, one in a hundred
/// takes 2.6 times the mean.
const SLOW: f64 = 4.0;
/// The fourth root of [`SLOW`].
const SLOW_ROOT: f64 = std::f64::consts::SQRT_2;

/// What a pick reads of an endpoint stands in one cache line, and what a call writes of it is
/// there too: another thread that has just called it costs this one a single miss.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Load {
    /// The cost as `f32` seconds in the upper half, the tick of its sample in the lower.
    sample: AtomicU64,
    /// How many calls wait for their heads, and the tick since which nothing has come.
    silence: AtomicU64,
    in_flight: AtomicU32,
    epoch: Instant,
    /// The share of the decay time that a tick is.
    fading: f64,
    /// What stands against it.
    pub(super) standing: Standing,
    /// What the server said of its own load; none of it before it has said something.
    pub(super) said: Said,
}

impl Load {
    /// Starts at the cost of its peers, so that nobody rushes to a newcomer.
    pub(super) fn new(epoch: Instant, decay: Duration, peers: Option<f64>, now: Instant) -> Self {
        let load = Self {
            epoch,
            fading: TICK_SECONDS / decay.as_secs_f64(),
            sample: AtomicU64::new(0),
            silence: AtomicU64::new(0),
            standing: Standing::new(),
            in_flight: AtomicU32::new(0),
            said: Said::default(),
        };
        // Of whom nothing is known at all, the last word is from a long time ago: it counts as
        // what is usual from the first answer of any other on. Where a thousand endpoints get a
        // call every twenty seconds from each client, a kinder first guess has all of them tried first.
        let tick = load.tick(now);
        let word = peers.map_or(pack_cost(UNKNOWN_COST, tick.wrapping_sub(1 << 30)), |cost| {
            pack_cost(cost, tick)
        });
        load.sample.store(word, Ordering::Relaxed);
        load
    }

    #[cfg(test)]
    fn get(&self, now: Instant) -> f64 {
        self.get_at(0.0, self.tick(now), || u64::MAX)
    }

    /// What a pick compares, at a [tick](Self::tick) that serves for all that it looks at. A draw is
    /// only taken of one that is slow at first.
    #[inline]
    pub(super) fn get_at(&self, usual: f64, now: u32, draw: impl FnOnce() -> u64) -> f64 {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let load = self.latency_at(usual, now) * (f64::from(in_flight) + 1.0);
        self.standing.weigh(load, || self.awaited() > 0, now, draw)
    }

    /// What the next answer is expected to take, in seconds: at least as long as calls have waited
    /// in vain.
    #[inline]
    pub(super) fn latency_at(&self, usual: f64, now: u32) -> f64 {
        let (cost, tick) = unpack_cost(self.sample.load(Ordering::Relaxed));
        larger(expected(cost, usual, self.kept(tick, now)), self.silence_at(now))
    }

    /// Whether the last answer is so long ago that it says little of the queue now: some service
    /// times.
    #[inline]
    pub(super) fn is_stale_at(&self, now: u32) -> bool {
        let (cost, tick) = unpack_cost(self.sample.load(Ordering::Relaxed));
        f64::from(since(tick, now)) * TICK_SECONDS > STALE + STALE_COSTS * cost
    }

    /// What a pick compares where servers report.
    ///
    /// A report counts for nothing where this client alone has more in flight.
    ///
    /// That counts the queue, but not how fast it moves. The latency tells, but has the queue in
    /// it already, and the size of one's own requests: so the fourth root counts of what it is
    /// above the usual one. It is held for a while before it fades: with reports in most answers,
    /// nobody is sent a call to find out whether he is still slow. Where it is more than [`SLOW`]
    /// times the usual one, all of it counts: whoever is so slow for another reason (a far network,
    /// a lock) has a short queue for the very reason that he is sent nothing. So does silence.
    pub(super) fn reported_at(&self, usual: Usual, now: u32, draw: impl FnOnce() -> u64) -> f64 {
        let queue = self.said.queue(usual.in_flight, now);
        let queue = queue.max(f64::from(self.in_flight.load(Ordering::Relaxed)));
        let (cost, tick) = unpack_cost(self.sample.load(Ordering::Relaxed));
        let (age, usual) = (since(tick, now), usual.latency.max(TICK_SECONDS));
        let after = |age| expected(cost, usual, ewma::kept(f64::from(age) * self.fading)) / usual;
        let held: f64 = after(age.saturating_sub(HELD)).max(1.0);
        let slow = held.sqrt().sqrt().max(after(age) * SLOW_ROOT / SLOW);
        let silent = (self.silence_at(now) / (usual * held)).max(1.0);
        let load = (queue + 1.0) * slow * silent;
        self.standing.weigh(load, || self.awaited() > 0, now, draw)
    }

    /// The cost of an answer alone, in seconds.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        self.cost_at(self.tick(now))
    }

    /// Whether any other is preferred: it failed a short while ago, or it is on probation and
    /// has not answered its one call yet.
    pub(super) fn is_doubted(&self, now: Instant) -> bool {
        self.is_doubted_at(self.tick(now))
    }

    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A call begins: it is in flight, and waits for its head.
    pub(super) fn begin(&self, tick: u32) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        update(&self.silence, |awaited, since| {
            Some((awaited.saturating_add(1), if awaited == 0 { tick } else { since }))
        });
        self.said.sent();
    }

    /// Its head has come, or never will.
    pub(super) fn heard(&self, now: Instant) {
        self.heard_at(self.tick(now));
    }

    pub(super) fn heard_at(&self, tick: u32) {
        update(&self.silence, |awaited, _| Some((awaited.saturating_sub(1), tick)));
    }

    /// It is in flight no more.
    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A good answer took this long.
    pub(super) fn observe(&self, sample: Duration, now: Instant) {
        self.observe_at(sample, self.tick(now));
    }

    pub(super) fn observe_at(&self, sample: Duration, tick: u32) {
        let sample = sample.as_secs_f64();
        update(&self.sample, |cost, seen| {
            let cost = f64::from(f32::from_bits(cost));
            let cost = ewma::mix(cost, sample, self.kept(seen, tick));
            Some(((cost as f32).to_bits(), tick))
        });
    }

    /// A good answer would have taken longer than this: somebody else's came first, or the caller
    /// gave up.
    ///
    /// How much longer nobody knows. Of latencies without memory it is as much again as they take
    /// on average (`E[X | X > b] = b + E[X]`), and that is what counts: with `b` alone a slow
    /// endpoint that loses its races after the hedge's delay looks as quick as that, and is picked
    /// ten times as often as it would be without hedging. A call that was given up long before its
    /// answer was due says nothing.
    pub(super) fn at_least(&self, bound: Duration, now: Instant) {
        let cost = self.cost(now);
        if bound.as_secs_f64() * TELLING > cost {
            self.observe(bound + Duration::try_from_secs_f64(cost).unwrap_or_default(), now);
        }
    }

    /// A call that began then has failed.
    pub(super) fn failed(&self, began: Instant, now: Instant) {
        self.standing.failed(self.tick(began), self.tick(now));
    }

    /// A call that began then has ended well.
    pub(super) fn succeeded(&self, began: Instant) {
        self.standing.succeeded(|| self.tick(began));
    }

    /// With this start for one that joins others or comes back.
    pub(super) fn with_slow_start(mut self, slow_start: SlowStart) -> Self {
        self.standing = self.standing.with_slow_start(slow_start);
        self
    }

    /// It is back after it was left alone. What is known of it is old: it costs what its peers
    /// cost, nobody doubts it, and it is slow at first.
    pub(super) fn returned(&self, peers: Option<f64>, now: Instant) {
        let cost = peers.unwrap_or_else(|| self.cost(now));
        self.sample.store(pack_cost(cost, self.tick(now)), Ordering::Relaxed);
        self.standing.acquit();
        self.standing.start(self.tick(now));
    }

    /// How many calls wait for their heads.
    fn awaited(&self) -> u32 {
        unpack(self.silence.load(Ordering::Relaxed)).0
    }

    /// For how many seconds nothing has come although calls wait for their heads.
    #[inline]
    fn silence_at(&self, now: u32) -> f64 {
        match unpack(self.silence.load(Ordering::Relaxed)) {
            (0, _) => 0.0,
            (_, tick) => f64::from(since(tick, now)) * TICK_SECONDS,
        }
    }

    fn cost_at(&self, now: u32) -> f64 {
        let (cost, tick) = unpack_cost(self.sample.load(Ordering::Relaxed));
        cost * self.kept(tick, now)
    }

    /// What has not faded by now of a sample that was taken then.
    #[inline]
    fn kept(&self, then: u32, now: u32) -> f64 {
        ewma::kept(f64::from(since(then, now)) * self.fading)
    }

    #[inline]
    pub(super) fn is_doubted_at(&self, now: u32) -> bool {
        self.standing.is_doubted(|| self.awaited() > 0, now)
    }

    /// The time of the words. It is the same for all endpoints of a balancer.
    #[inline]
    pub(super) fn tick(&self, now: Instant) -> u32 {
        tick(now.saturating_duration_since(self.epoch))
    }
}

/// The time of the words, so long after their epoch.
#[inline]
pub(super) fn tick(since: Duration) -> u32 {
    let part = u64::from(since.subsec_nanos() / (TICK_MICROS * 1000));
    // The low bits on purpose: see `TICK_MICROS`.
    since.as_secs().wrapping_mul(TICKS_A_SECOND).wrapping_add(part) as u32
}

/// The time of the words, so long after a tick: by a tick too early at the most.
#[inline]
pub(super) fn later(then: u32, span: Duration) -> u32 {
    then.wrapping_add(tick(span))
}

/// What an answer takes, of which less is known the longer the last one is ago: then it is what is
/// `usual`, and neither better nor worse.
///
/// A peak falls as fast as if it fell to nothing, and stops there. If it went on, those that have
/// not been heard of for longest would be preferred to all others.
#[inline]
fn expected(cost: f64, usual: f64, kept: f64) -> f64 {
    let cost =
        if cost > usual { larger(cost * kept, usual) } else { usual - (usual - cost) * kept };
    // What is faster than the clock ticks is as fast as all that is.
    larger(cost, TICK_SECONDS)
}

/// Of two that are numbers, which `f64::max` asks of both first.
#[inline]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// How many ticks after `tick` it is `now`.
#[inline]
pub(super) const fn since(tick: u32, now: u32) -> u32 {
    let ticks = now.wrapping_sub(tick);
    if ticks > u32::MAX - MAX_AHEAD { 0 } else { ticks }
}

/// Whether tick `a` is after `b`, across the wrap.
pub(super) const fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Changes the two halves of a word together, if there is anything to change.
pub(super) fn update(word: &AtomicU64, change: impl Fn(u32, u32) -> Option<(u32, u32)>) {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let (high, low) = unpack(seen);
        let Some((high, low)) = change(high, low) else { return };
        let next = pack(high, low);
        match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(newer) => seen = newer,
        }
    }
}

pub(super) const fn pack(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

pub(super) const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn pack_cost(cost: f64, tick: u32) -> u64 {
    pack((cost as f32).to_bits(), tick)
}

fn unpack_cost(word: u64) -> (f64, u32) {
    let (cost, tick) = unpack(word);
    (f64::from(f32::from_bits(cost)), tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: Duration = Duration::from_secs(10);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn counts_what_is_in_flight() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.010), now);
        let idle = load.get(now);
        load.begin(load.tick(now));
        assert!((load.get(now) / idle - 2.0).abs() < 1e-9);
        load.end();
        assert_eq!(load.get(now), idle);
    }

    #[test]
    fn a_peak_is_taken_over_and_fades_while_nobody_calls() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.005), now);
        load.observe(400 * MS, now + MS);
        assert!((load.cost(now + MS) - 0.4).abs() < 1e-6);
        let later = load.cost(now + TAU);
        assert!((later - 0.4 * (-1.0_f64).exp()).abs() < 1e-3, "{later}");
    }

    #[test]
    fn an_answer_that_was_not_waited_for_would_have_taken_as_long_again() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.024), now);
        load.at_least(5 * MS, now);
        assert!((load.cost(now) - 0.024).abs() < 1e-6, "given up long before it was due");
        load.at_least(57 * MS, now);
        assert!((load.cost(now) - 0.081).abs() < 1e-6, "{}", load.cost(now));
        (0..100).for_each(|_| load.at_least(57 * MS, now));
        assert!(load.cost(now) <= 5.0 * 0.057 + 1e-6, "{}", load.cost(now));
    }

    #[test]
    fn reading_changes_nothing() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.1), now);
        let before = load.sample.load(Ordering::Relaxed);
        load.get(now + TAU);
        assert_eq!(load.sample.load(Ordering::Relaxed), before);
    }

    #[test]
    fn survives_the_wrap_of_its_clock() {
        let epoch = crate::time::now();
        let wrap = Duration::from_micros((1_u64 << 32) * TICK_MICROS as u64);
        let load = Load::new(epoch, TAU, Some(0.1), epoch + wrap - 5 * MS);
        let after = load.cost(epoch + wrap + 5 * MS);
        assert!((after - 0.1).abs() < 0.001, "{after}");
    }

    #[test]
    fn a_day_of_rest_does_not_bring_an_old_peak_back() {
        let epoch = crate::time::now();
        let load = Load::new(epoch, TAU, Some(10.0), epoch);
        for hours in [1, 10, 15, 18] {
            let cost = load.cost(epoch + Duration::from_secs(hours * 3600));
            assert!(cost < 1e-6, "after {hours} h: {cost}");
        }
    }

    #[test]
    fn a_span_after_a_tick_is_told_to_a_tick() {
        for (began, took) in [(0, 0), (15, 1), (15, 15), (16, 16), (7, 999_999), (999_999, 7)] {
            let (began, took) = (Duration::from_micros(began), Duration::from_micros(took));
            let (told, exact) = (later(tick(began), took), tick(began + took));
            assert!(told == exact || told + 1 == exact, "{began:?} + {took:?}: {told}, {exact}");
        }
        assert_eq!(later(u32::MAX, Duration::from_micros(u64::from(TICK_MICROS))), 0);
    }

    #[test]
    fn silence_is_slow_while_somebody_waits() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.005), now);
        load.begin(load.tick(now));
        load.begin(load.tick(now + 50 * MS));
        assert!((load.get(now + 100 * MS) - 0.3).abs() < 1e-3);
        load.heard(now + 100 * MS);
        assert!(load.get(now + 101 * MS) < 0.02);
        assert!(load.get(now + 1100 * MS) > 2.9);
        // Answered, though its body is still being read: not silent.
        load.heard(now + 1100 * MS);
        assert!(load.get(now + 60_000 * MS) < 0.02);
    }

    #[test]
    fn doubt_grows_with_each_wave_and_one_wave_counts_once() {
        let mut now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.005), now);
        for doubt in [200, 800, 3200, 6400, 6400] {
            let began = now + MS;
            now += 2 * MS;
            (0..10).for_each(|_| load.failed(began, now));
            // It began before the failure was known.
            load.succeeded(began);
            assert!(load.is_doubted(now + (doubt - 1) * MS), "{doubt}");
            assert!(load.get(now) > 1e5);
            now += doubt * MS;
            assert!(!load.is_doubted(now), "{doubt}");
        }
    }

    #[test]
    fn probation_is_one_call_at_a_time_until_as_many_good_answers() {
        let mut now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.005), now);
        load.failed(now, now);
        now += 200 * MS;
        for on_probation in [true, true, false] {
            assert!(!load.is_doubted(now));
            load.begin(load.tick(now));
            assert_eq!(load.is_doubted(now), on_probation);
            load.heard(now + MS);
            load.succeeded(now);
            load.end();
            now += 2 * MS;
        }
    }

    #[test]
    fn one_that_joins_has_its_share_when_the_window_is_over() {
        let start = crate::time::now();
        let second = 1000 * MS;
        let load = Load::new(start, TAU, Some(0.005), start).with_slow_start(SlowStart::default());
        let full = load.cost(start);
        load.standing.start(load.tick(start));
        for (age, share) in [(0, 0.1), (3, 0.1), (6, 0.2), (15, 0.5), (27, 0.9), (30, 1.0)] {
            let now = start + age * second;
            load.observe(5 * MS, now);
            assert!((full / load.get(now) - share).abs() < 1e-3, "{age}: {}", load.get(now));
        }
        assert!(load.standing.is_starting());
        load.succeeded(start + 30 * second);
        assert!(!load.standing.is_starting());
    }

    #[test]
    fn doubt_comes_before_the_slow_start_and_does_not_end_it() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.005), now).with_slow_start(SlowStart::default());
        load.standing.start(load.tick(now));
        load.failed(now, now);
        assert!(load.is_doubted(now) && load.get(now) > 1e5);
        let later = now + 200 * MS;
        for _ in 0..2 {
            assert!(!load.is_doubted(later));
            load.succeeded(later);
        }
        assert!((load.standing.share(load.tick(later)) - 0.1).abs() < 1e-9);
        load.returned(Some(0.002), later + 10_000 * MS);
        assert!((load.get(later + 10_000 * MS) - 0.02).abs() < 1e-6);
        // What it failed before it was left alone counts no more.
        load.failed(later + 10_000 * MS, later + 10_001 * MS);
        assert!(load.is_doubted(later + 10_001 * MS));
        load.returned(Some(0.002), later + 10_001 * MS);
        assert!(!load.is_doubted(later + 10_001 * MS));
    }

    #[test]
    fn a_good_answer_to_every_other_call_does_not_end_the_doubt() {
        let mut now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.005), now);
        for _ in 0..6 {
            now += 2 * MS;
            load.failed(now - MS, now);
            now += 2 * MS;
            load.succeeded(now - MS);
        }
        assert!(load.is_doubted(now + 3000 * MS));
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`: every order in which two threads
/// can learn from two answers.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn what_begins_and_what_is_heard_adds_up() {
        loom::model(|| {
            let now = crate::time::now();
            let load = Arc::new(Load::new(now, Duration::from_secs(4), Some(0.001), now));
            let one = move |load: &Load| {
                load.begin(load.tick(now));
                load.heard(now);
                load.end();
            };
            let other = {
                let load = Arc::clone(&load);
                thread::spawn(move || one(&load))
            };
            load.begin(load.tick(now));
            assert!(load.awaited() > 0 && load.in_flight() > 0, "its own call waits");
            other.join().expect("it only calls");
            assert_eq!((load.awaited(), load.in_flight()), (1, 1));
        });
    }

    #[test]
    fn neither_of_two_samples_is_lost() {
        loom::model(|| {
            let now = crate::time::now();
            let second = Duration::from_secs(1);
            let load = Arc::new(Load::new(now, second * 4, Some(0.001), now));
            let other = {
                let load = Arc::clone(&load);
                thread::spawn(move || load.observe(second, now))
            };
            load.observe(second * 2, now);
            other.join().expect("it only observes");
            // The peak wins, in either order: a sample below it at the same moment moves nothing.
            assert!((load.cost(now) - 2.0).abs() < 1e-6, "{}", load.cost(now));
        });
    }
}
