//! How many calls at a time a service does well with, by how long they take.

use std::time::{Duration, Instant};

use super::{config::AdaptiveConfig, correlation::Correlation};

/// An adaptive limit as a decision alone: it is told what became of the calls, and says how many
/// may be under way. [`Limit`](crate::limit::Limit) asks it behind a lock.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::limit::{Adaptive, AdaptiveConfig, Sample};
///
/// let start = Instant::now();
/// let mut adaptive = Adaptive::new(&AdaptiveConfig::new(), start);
/// assert_eq!(adaptive.limit(), 20);
/// for second in 1..=10 {
///     for _ in 0..100 {
///         // All of its places are taken, and the answers take no longer for that.
///         let sample = Sample::Answered { latency: Duration::from_millis(50), in_flight: adaptive.limit() };
///         adaptive.record(sample, start + Duration::from_millis(1001 * second));
///     }
/// }
/// assert!(adaptive.limit() >= 29);
/// ```
#[derive(Clone, Debug)]
pub struct Adaptive {
    config: AdaptiveConfig,
    limit: f64,
    window: Window,
    /// The latency to hold others against, in seconds. None before the first window.
    baseline: Option<f64>,
    latencies: Correlation,
    throughputs: Correlation,
    trial: Option<Trial>,
}

/// What became of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sample {
    /// It was answered.
    Answered {
        /// How long that took, from when it got its place.
        latency: Duration,
        /// How many were under way when it got its place, itself included.
        in_flight: u32,
    },
    /// The service refused it for its load, or no answer came in time.
    Dropped,
}

/// A new limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// How many calls may be under way from now on.
    pub limit: u32,
    /// Why, as a stable code; the module's documentation lists them.
    pub reason: &'static str,
}

/// What was seen since the last decision.
#[derive(Clone, Debug)]
struct Window {
    began: Instant,
    /// In seconds.
    latencies: f64,
    answered: u32,
    dropped: u32,
    in_flight: u32,
}

/// The limit is being lowered, to see whether that makes the answers faster.
#[derive(Clone, Copy, Debug)]
struct Trial {
    from: f64,
    latency: f64,
}

/// How many windows the baseline remembers (failsafe-go: `WithLongWindow`, 60).
const BASELINE: f64 = 60.0;
/// A service that has become twice as fast is back from an overload, and its baseline is to follow
/// faster than by the mean (Netflix, `Gradient2Limit`).
const RECOVERED: f64 = 2.0;
/// By so much at each window (Netflix, `Gradient2Limit`).
const RECOVERING: f64 = 0.95;
/// At most this part of an estimate is followed at once (Netflix, `Gradient2Limit`: `smoothing`).
const SMOOTHING: f64 = 0.2;
/// No window is believed a queue that is longer than this part of the limit (the same).
const STEEPEST: f64 = 0.5;
/// If more than this share of the calls is dropped, the service says itself that they are too many.
/// Not at the first: at 0.1 % of stray failures each window of a busy client has one.
const TOO_MANY_DROPPED: f64 = 0.1;
/// Then the limit falls by a tenth (Netflix, `AIMDLimit`: `backoffRatio`).
const BACKOFF: f64 = 0.9;
/// A limit that is so many times what is needed is of another time (failsafe-go:
/// `WithMaxLimitFactor`).
const IDLE: f64 = 5.0;
/// A trial is judged when the limit has fallen by a fifth: by less, noise would judge it.
const TRIAL: f64 = 0.8;
/// Where a fifth fewer calls were in a queue, the latency would have fallen by a fifth; half of
/// that will do.
const HELPED: f64 = 0.9;

impl Adaptive {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &AdaptiveConfig, now: Instant) -> Self {
        Self {
            config: config.clone(),
            limit: config.initial.into(),
            window: Window::new(now),
            baseline: None,
            latencies: Correlation::new(),
            throughputs: Correlation::new(),
            trial: None,
        }
    }

    /// Learns from a call that ended `now`. The new limit, if that changes it.
    pub fn record(&mut self, sample: Sample, now: Instant) -> Option<Change> {
        self.window.add(sample);
        let lasted = now.saturating_duration_since(self.window.began);
        if lasted < self.config.window || self.window.calls() < self.config.min_samples {
            return None;
        }
        let window = std::mem::replace(&mut self.window, Window::new(now));
        let (next, reason) = self.decide(&window, lasted)?;
        let before = self.limit();
        self.limit = next.clamp(self.config.least.into(), self.config.greatest.into());
        let limit = self.limit();
        (limit != before).then_some(Change { limit, reason })
    }

    /// Goes on from another limit, which may be outside of the bounds until the next change.
    pub fn set(&mut self, limit: u32) {
        self.limit = limit.into();
        self.trial = None;
    }

    /// How many calls may be under way.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// What the limit should be, after a window.
    fn decide(&mut self, window: &Window, lasted: Duration) -> Option<(f64, &'static str)> {
        if f64::from(window.dropped) > TOO_MANY_DROPPED * f64::from(window.calls()) {
            self.trial = None;
            return Some((self.limit * BACKOFF, "dropped"));
        }
        let in_flight = f64::from(window.in_flight);
        // A limit that nobody came up against has made nothing slower, and need not grow. What
        // is slow all the same is not our doing.
        if window.in_flight < self.limit() {
            self.trial = None;
            let floor = f64::from(self.config.initial);
            let idle = self.limit > in_flight * IDLE && self.limit > floor;
            return idle.then(|| ((self.limit - step(self.limit)).max(floor), "idle"));
        }
        let latency = window.latencies / f64::from(window.answered);
        let queue = self.queue(latency);
        self.latencies.add(in_flight, latency);
        self.throughputs.add(in_flight, f64::from(window.answered) / lasted.as_secs_f64());

        // Vegas' thresholds, which grow with the logarithm of the limit (Netflix, `VegasLimit`).
        let (alpha, beta) = (3.0 * magnitude(self.limit), 6.0 * magnitude(self.limit));
        if queue > beta {
            self.lower(self.limit - SMOOTHING * queue, latency, "queue")
        } else if self.more_is_in_vain() {
            self.lower(self.limit - step(self.limit), latency, "correlation")
        } else if queue < alpha {
            self.trial = None;
            Some((self.limit + step(self.limit), "room"))
        } else {
            None
        }
    }

    /// How many of the calls wait at the service, by Little's law: those that a service with the
    /// baseline's latency would not have. The baseline follows.
    fn queue(&mut self, latency: f64) -> f64 {
        let mut baseline = self.baseline.unwrap_or(latency);
        baseline += (latency - baseline) * 2.0 / (BASELINE + 1.0);
        if baseline > latency * RECOVERED {
            baseline *= RECOVERING;
        }
        self.baseline = Some(baseline);
        let gradient = (baseline / latency).clamp(STEEPEST, 1.0);
        self.limit * (1.0 - gradient)
    }

    /// The baseline follows a latency that rises slowly, so that it alone would let the limit
    /// creep up for ever. (A baseline that does not follow, the least latency ever seen, is
    /// pinned to an accident: Envoy's issue 46532.) These guards see it: with more calls under way
    /// come slower answers, and no more of them (failsafe-go, `adaptivelimiter`, its three
    /// conditions and their thresholds).
    fn more_is_in_vain(&self) -> bool {
        let Some(slower) = self.latencies.coefficient() else { return false };
        let more = self.throughputs.coefficient().unwrap_or(0.0);
        let even = self.throughputs.variation().is_some_and(|variation| variation < 0.2);
        more < 0.0 && slower > 0.0 || slower > 0.5 && (more < 0.3 || even)
    }

    /// Lowers the limit for as long as that helps. Where fewer calls are not faster, they were
    /// not slow for their number: the answers got bigger, or what stands behind the service
    /// slower. None of the models that we know asks this, and a limit that is lowered by a
    /// latency that it does not make goes down to the least.
    fn lower(
        &mut self,
        next: f64,
        latency: f64,
        reason: &'static str,
    ) -> Option<(f64, &'static str)> {
        let trial = *self.trial.get_or_insert(Trial { from: self.limit, latency });
        if self.limit > trial.from * TRIAL {
            return Some((next, reason));
        }
        self.trial = None;
        if latency <= trial.latency * HELPED {
            return self.lower(next, latency, reason);
        }
        self.baseline = Some(latency);
        self.latencies.clear();
        self.throughputs.clear();
        Some((trial.from, "not_our_doing"))
    }
}

impl Window {
    const fn new(began: Instant) -> Self {
        Self { began, latencies: 0.0, answered: 0, dropped: 0, in_flight: 0 }
    }

    fn add(&mut self, sample: Sample) {
        match sample {
            Sample::Answered { latency, in_flight } => {
                self.latencies += latency.as_secs_f64();
                self.answered = self.answered.saturating_add(1);
                self.in_flight = self.in_flight.max(in_flight);
            }
            Sample::Dropped => self.dropped = self.dropped.saturating_add(1),
        }
    }

    const fn calls(&self) -> u32 {
        self.answered.saturating_add(self.dropped)
    }
}

/// How far the limit moves at once: by one, or by a twentieth where that is more, so that a
/// limit of hundreds is not found in minutes only.
fn step(limit: f64) -> f64 {
    (limit / 20.0).max(1.0)
}

/// The decimal logarithm, at least 1.
fn magnitude(limit: f64) -> f64 {
    limit.log10().max(1.0)
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use super::*;
    use crate::entropy::Entropy;

    const SEEDS: [u64; 4] = [1, 2, 3, 4];

    /// A service in virtual time: so many workers, each of which takes so long for a call, and a
    /// queue before them. Its clients want so many calls under way as the limit lets them.
    struct Bench {
        adaptive: Adaptive,
        start: Instant,
        entropy: Entropy,
        /// In microseconds from the start.
        now: u64,
        /// When each worker is free.
        workers: BinaryHeap<Reverse<u64>>,
        /// In microseconds.
        takes: f64,
        demand: u32,
        /// When each call ends, when it began, and how many were under way then.
        under_way: BinaryHeap<Reverse<(u64, u64, u32)>>,
    }

    impl Bench {
        fn new(workers: usize, seed: u64) -> Self {
            let start = crate::time::now();
            eprintln!("seed {seed}");
            Self {
                adaptive: Adaptive::new(&AdaptiveConfig::new(), start),
                start,
                entropy: Entropy::seeded(seed),
                now: 0,
                workers: (0..workers).map(|_| Reverse(0)).collect(),
                takes: 100_000.0,
                demand: 1000,
                under_way: BinaryHeap::new(),
            }
        }

        fn have(&mut self, workers: usize) {
            while self.workers.len() > workers {
                self.workers.pop();
            }
            while self.workers.len() < workers {
                self.workers.push(Reverse(self.now));
            }
        }

        /// The mean of the limit over so many seconds, and the least of it.
        fn run(&mut self, seconds: u64) -> (f64, u32) {
            let end = self.now + seconds * 1_000_000;
            let (mut area, mut least) = (0.0, u32::MAX);
            while self.now < end {
                while (self.under_way.len() as u32) < self.adaptive.limit().min(self.demand) {
                    self.begin();
                }
                let Reverse((ends, began, in_flight)) = self.under_way.pop().expect("one began");
                area += f64::from(self.adaptive.limit()) * (ends - self.now) as f64;
                least = least.min(self.adaptive.limit());
                self.now = ends;
                let latency = Duration::from_micros(ends - began);
                let now = self.start + Duration::from_micros(ends);
                self.adaptive.record(Sample::Answered { latency, in_flight }, now);
            }
            (area / (seconds as f64 * 1e6), least)
        }

        fn begin(&mut self) {
            let Reverse(free) = self.workers.pop().expect("it has some");
            // Between half and one and a half of the mean.
            let takes = self.takes * (0.5 + self.entropy.unit());
            let ends = free.max(self.now) + takes as u64;
            self.workers.push(Reverse(ends));
            let in_flight = self.under_way.len() as u32 + 1;
            self.under_way.push(Reverse((ends, self.now, in_flight)));
        }
    }

    /// A service with `c` workers does best with `c` calls: fewer leave some idle, more only wait.
    fn is_near(limit: f64, workers: f64) -> bool {
        (0.7 * workers..=1.5 * workers).contains(&limit)
    }

    #[test]
    fn finds_how_many_the_service_does_well_with() {
        for (seed, workers) in SEEDS.into_iter().zip([8, 20, 50, 100]) {
            let mut bench = Bench::new(workers, seed);
            bench.run(90);
            let (limit, _) = bench.run(120);
            assert!(is_near(limit, workers as f64), "{workers} workers, limit {limit}");
        }
    }

    #[test]
    fn does_not_creep_up_in_an_overload_that_lasts() {
        let mut bench = Bench::new(30, 5);
        bench.run(900);
        let (limit, _) = bench.run(300);
        assert!(is_near(limit, 30.0), "{limit}");
    }

    #[test]
    fn follows_a_service_that_loses_workers_and_gets_them_back() {
        for seed in SEEDS {
            let mut bench = Bench::new(50, seed);
            bench.run(120);
            bench.have(15);
            bench.run(60);
            let (limit, _) = bench.run(60);
            assert!(is_near(limit, 15.0), "of 15: {limit}");
            bench.have(60);
            bench.run(90);
            let (limit, _) = bench.run(60);
            assert!(is_near(limit, 60.0), "of 60: {limit}");
        }
    }

    #[test]
    fn does_not_collapse_when_the_answers_take_longer_by_themselves() {
        for seed in SEEDS {
            let mut bench = Bench::new(50, seed);
            bench.run(120);
            bench.takes *= 3.0;
            let (limit, least) = bench.run(120);
            assert!(is_near(limit, 50.0) && least >= 25, "mean {limit}, least {least}");
        }
    }

    #[test]
    fn does_not_grow_where_nobody_comes_up_against_it_and_goes_back_where_it_began() {
        let mut bench = Bench::new(1000, 6);
        bench.demand = 3;
        bench.run(300);
        assert_eq!(bench.adaptive.limit(), 20);
        bench.demand = 1000;
        bench.run(120);
        assert_eq!(bench.adaptive.limit(), 200, "the greatest, for a service without end");
        bench.demand = 3;
        bench.run(300);
        assert_eq!(bench.adaptive.limit(), 20);
    }

    #[test]
    fn is_not_lowered_by_what_is_slow_while_there_is_room() {
        let mut bench = Bench::new(50, 7);
        bench.demand = 10;
        bench.run(60);
        bench.takes *= 10.0;
        bench.run(120);
        assert_eq!(bench.adaptive.limit(), 20);
    }

    #[test]
    fn falls_by_a_tenth_for_a_service_that_refuses_more_than_a_tenth() {
        let start = crate::time::now();
        let mut adaptive = Adaptive::new(&AdaptiveConfig::new(), start);
        let later = start + Duration::from_secs(2);
        let answered = Sample::Answered { latency: Duration::from_millis(5), in_flight: 1 };
        for _ in 0..89 {
            assert_eq!(adaptive.record(answered, start), None);
        }
        for _ in 0..10 {
            assert_eq!(adaptive.record(Sample::Dropped, start), None);
        }
        assert_eq!(adaptive.record(answered, later), None, "a tenth and no more");
        for _ in 0..49 {
            assert_eq!(adaptive.record(Sample::Dropped, later), None);
        }
        let change = adaptive.record(Sample::Dropped, later + Duration::from_secs(1));
        assert_eq!(change, Some(Change { limit: 18, reason: "dropped" }));
    }

    #[test]
    fn keeps_to_its_bounds() {
        let start = crate::time::now();
        let config = AdaptiveConfig::new().bounds(5, 22).expect("sound");
        let mut adaptive = Adaptive::new(&config, start);
        let mut now = start;
        let mut feed = |adaptive: &mut Adaptive, sample: fn(u32) -> Sample| {
            for call in 0..5000 {
                now += Duration::from_millis(10);
                let before = adaptive.limit();
                let change = adaptive.record(sample(before), now);
                assert_eq!(change.map_or(before, |change| change.limit), adaptive.limit());
                assert_eq!(change.is_some(), adaptive.limit() != before, "call {call}");
                assert!((5..=22).contains(&adaptive.limit()), "call {call}");
            }
            adaptive.limit()
        };
        assert_eq!(feed(&mut adaptive, |_| Sample::Dropped), 5);
        let full = |in_flight| Sample::Answered { latency: Duration::from_millis(5), in_flight };
        assert_eq!(feed(&mut adaptive, full), 22);
    }

    /// A state by itself, and windows that are made up one by one.
    struct Windows {
        adaptive: Adaptive,
        now: Instant,
    }

    impl Windows {
        fn new(initial: u32) -> Self {
            let now = crate::time::now();
            let config = AdaptiveConfig::new().initial(initial).expect("within the bounds");
            Self { adaptive: Adaptive::new(&config, now), now }
        }

        /// Fifty answers in a second, of which one found so many under way, and the others few.
        fn window(&mut self, latency: u64, in_flight: u32) -> Option<(u32, &'static str)> {
            let answered =
                |in_flight| Sample::Answered { latency: Duration::from_millis(latency), in_flight };
            assert_eq!(self.adaptive.record(answered(in_flight), self.now), None);
            for _ in 0..48 {
                assert_eq!(self.adaptive.record(answered(1), self.now), None);
            }
            self.now += Duration::from_secs(1);
            let change = self.adaptive.record(answered(1), self.now);
            change.map(|Change { limit, reason }| (limit, reason))
        }

        /// One that found all places taken.
        fn full(&mut self, latency: u64) -> Option<(u32, &'static str)> {
            self.window(latency, self.adaptive.limit())
        }

        /// One in which every call was dropped.
        fn dropped(&mut self) -> Option<(u32, &'static str)> {
            for _ in 0..49 {
                assert_eq!(self.adaptive.record(Sample::Dropped, self.now), None);
            }
            self.now += Duration::from_secs(1);
            let change = self.adaptive.record(Sample::Dropped, self.now);
            change.map(|Change { limit, reason }| (limit, reason))
        }

        /// Slow, whatever the limit: what it is when that has been found out.
        fn slow_all_the_same(&mut self) -> u32 {
            for _ in 0..10 {
                if let Some((limit, "not_our_doing")) = self.full(100) {
                    return limit;
                }
            }
            panic!("it never finds out: {:?}", self.adaptive);
        }
    }

    /// By hand: of a limit of 21 and latencies of 10 and 14 ms, 21 (1 - 10.13 / 14) = 5.8 wait,
    /// which is between 3 and 6 times log 21, 1.32; of 10 and 20 ms half of them, at most.
    #[test]
    fn grows_where_few_wait_stays_where_some_do_and_falls_where_many_do() {
        let mut bench = Windows::new(20);
        assert_eq!(bench.full(10), Some((21, "room")));
        assert_eq!(bench.full(14), None);
        // A fifth of the 10.5 that wait.
        assert_eq!(bench.full(20), Some((18, "queue")));
        // However slow, no more than half of them are believed to wait.
        let mut bench = Windows::new(20);
        bench.full(10);
        assert_eq!(bench.full(1_000), Some((18, "queue")));
        // The logarithm counts as 1 at least: fewer than 3 wait, though more than 3 log 5.
        let mut bench = Windows::new(5);
        bench.window(10, 1);
        assert_eq!(bench.window(10, 5), Some((6, "room")));
        bench.adaptive.set(5);
        assert_eq!(bench.full(19), Some((6, "room")));
        // By one where a twentieth is less, and by a twentieth where that is more.
        assert_eq!(Windows::new(10).full(10), Some((11, "room")));
        assert_eq!(Windows::new(100).full(10), Some((105, "room")));
    }

    /// By hand: after 100 ms and 162 ms the baseline is 102, and 21 (1 - 102 / 162) are 7.8, a
    /// little less than 6 log 21. Held against the 100 they would be 8.0, and more.
    #[test]
    fn the_baseline_follows_and_faster_where_a_service_has_recovered() {
        let mut bench = Windows::new(20);
        assert_eq!((bench.full(100), bench.full(162)), (Some((21, "room")), None));
        // Of 100 ms, 10 ms are less than half: after twenty windows it would be at 56 by the mean
        // alone.
        let mut bench = Windows::new(20);
        bench.full(100);
        (0..20).for_each(|_| assert!(bench.full(10).is_some_and(|(_, reason)| reason == "room")));
        assert!(bench.full(40).is_some_and(|(_, reason)| reason == "queue"));
    }

    /// More calls that bring more answers are not in vain, though all take a little longer.
    #[test]
    fn goes_on_where_more_calls_bring_more_answers() {
        let mut bench = Windows::new(20);
        for more in 1_u32..=15 {
            let answered = |in_flight| Sample::Answered {
                latency: Duration::from_millis(100 + u64::from(more)),
                in_flight,
            };
            let full = bench.adaptive.limit();
            for _ in 0..50 * more {
                assert_eq!(bench.adaptive.record(answered(full), bench.now), None);
            }
            bench.now += Duration::from_secs(1);
            let change = bench.adaptive.record(answered(full), bench.now);
            assert_eq!(change.map(|change| change.reason), Some("room"), "window {more}");
        }
    }

    /// Whether more calls are in vain, by how latency and throughput went with the calls.
    #[test]
    fn more_is_in_vain_where_answers_get_slower_and_no_more() {
        type Curve = fn(f64) -> f64;
        let of = |y: Curve| {
            let mut correlation = Correlation::new();
            (0..20).map(f64::from).for_each(|x| correlation.add(x, y(x)));
            correlation
        };
        // With coefficients of 1, 0.43, -0.2 and -1; what is above 100 varies by less than a fifth.
        let (rising, even): (Curve, Curve) = (|x| 10.0 + x, |x| 100.0 + x);
        let (somewhat, less): (Curve, Curve) =
            (|x| 10.0 + x + 30.0 * (x % 2.0), |x| 100.0 - x + 40.0 * (x % 2.0));
        let falling: Curve = |x| 40.0 - x;
        let in_vain = |latencies, throughputs| {
            let mut adaptive = Windows::new(20).adaptive;
            (adaptive.latencies, adaptive.throughputs) = (of(latencies), of(throughputs));
            adaptive.more_is_in_vain()
        };
        assert!(in_vain(rising, falling), "slower and fewer");
        assert!(in_vain(somewhat, less), "a little slower and fewer");
        assert!(in_vain(rising, |x| 50.0 * (x % 2.0)), "much slower and hardly more");
        assert!(in_vain(rising, even), "much slower, and little more of many");
        assert!(!in_vain(rising, rising), "much slower and many more");
        assert!(!in_vain(somewhat, even), "a little slower and more");
        assert!(!in_vain(falling, falling), "faster and fewer");
    }

    #[test]
    fn a_limit_that_is_not_needed_goes_back_where_it_began_and_no_further() {
        let mut bench = Windows::new(20);
        bench.adaptive.set(40);
        assert_eq!(bench.window(10, 8), None, "a fifth of it is used");
        assert_eq!(bench.window(10, 7), Some((38, "idle")));
        bench.adaptive.set(21);
        assert_eq!(bench.window(10, 1), Some((20, "idle")));
        bench.adaptive.set(10);
        assert_eq!(bench.window(10, 1), None, "it is below that already");
    }

    /// Where fewer calls are not faster, the limit goes back to where the trial began. Whatever
    /// else happens in between ends a trial: what it began with is of another time.
    #[test]
    fn a_trial_begins_anew_after_room_drops_rest_and_a_limit_that_was_set() {
        let lowered = || {
            let mut bench = Windows::new(40);
            assert_eq!(bench.full(10), Some((42, "room")));
            assert!(bench.full(100).is_some_and(|(_, reason)| reason == "queue"));
            bench
        };
        assert_eq!(lowered().slow_all_the_same(), 42, "where it began");

        let mut bench = lowered();
        for _ in 0..10 {
            assert!(bench.full(5).is_some_and(|(_, reason)| reason == "room"));
        }
        let grown = bench.adaptive.limit();
        assert!(grown > 50, "{grown}");
        assert_eq!(bench.slow_all_the_same(), grown);

        let mut bench = lowered();
        let fallen = bench.dropped().map(|(limit, _)| limit);
        assert_eq!(Some(bench.slow_all_the_same()), fallen);

        let mut bench = lowered();
        let lower = bench.adaptive.limit();
        assert_eq!(bench.window(100, lower - 1), None, "nobody came up against it");
        assert_eq!(bench.slow_all_the_same(), lower);

        let mut bench = lowered();
        bench.adaptive.set(80);
        assert_eq!(bench.slow_all_the_same(), 80);
    }

    #[test]
    fn what_was_seen_before_a_trial_in_vain_says_nothing_afterwards() {
        let mut bench = Windows::new(20);
        (0..10).for_each(|_| assert!(bench.full(10).is_some()));
        // Many more are under way, as after a limit that was lowered, and all are slow.
        while bench.window(100, 200).is_none_or(|(_, reason)| reason != "not_our_doing") {}
        assert!(bench.window(100, 200).is_some_and(|(_, reason)| reason == "room"));
    }
}
