//! Quantiles of how long things took lately, in fixed memory.
//!
//! A histogram with 64 buckets for each doubling (log-linear, as G. Tene's HdrHistogram and
//! OpenTelemetry's exponential ones), in three windows of ten seconds, the oldest of which is
//! forgotten as a whole: the sizes of Finagle's `WindowedPercentileHistogram`. Ours differs in
//! that a window counts from its first sample on rather than only when it is over, that too few
//! samples give no answer instead of a zero, and that nothing runs in the background.
//!
//! Not an average with a deviation: latencies have long tails, and what is asked for is the
//! tail. Not a digest that merges centroids (t-digest): it is smaller, but no sample costs the
//! same as the one before.

use std::time::{Duration, Instant};

/// How long things took in the last 20 to 30 seconds.
///
/// Recording is a few writes, whatever came before; a window that is over is emptied by the
/// first sample after it. Asking walks over all buckets, some microseconds: ask now and then
/// and keep the answer. The whole takes 16 KiB.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::algo::quantile::Latencies;
///
/// let now = Instant::now();
/// let mut latencies = Latencies::new(now);
/// for ms in 1..=99 {
///     latencies.record(Duration::from_millis(ms), now);
/// }
/// assert_eq!(latencies.quantile(0.99, now), None, "that takes a hundred samples");
/// latencies.record(Duration::from_secs(2), now);
/// let p99 = latencies.quantile(0.99, now).expect("the 99th of a hundred: 99 ms");
/// assert!(p99 >= Duration::from_millis(99) && p99 <= Duration::from_micros(100_547));
/// ```
#[derive(Clone, Debug)]
pub struct Latencies {
    windows: [Histogram; WINDOWS],
    current: usize,
    width: Duration,
    /// When the current window is over. None: in no time that an `Instant` can tell.
    ends: Option<Instant>,
}

/// How long one of the three windows is, unless another width is asked for (Finagle:
/// `DefaultBucketSize`): long enough for a p99 at a few calls a second, short enough to follow
/// a service that has changed.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

/// What takes this long or longer is counted, but not how long it took: 2^26 µs, some 67 s.
/// Longer than any call should take; each doubling costs another 768 bytes.
pub const TRACKABLE: Duration = Duration::from_micros(1 << TRACKABLE_BITS);

/// Fewer samples than this say nothing, whatever is asked of them.
pub const FEWEST_SAMPLES: u64 = 20;

/// Finagle's `DefaultNumBuckets`.
const WINDOWS: usize = 3;
/// 2^6 buckets for each doubling: none is wider than a 64th of where it begins.
const FINENESS: u32 = 6;
const TRACKABLE_BITS: u32 = 26;
/// The first 64 microseconds and each doubling above have 64 buckets; one more is for the rest.
const BUCKETS: usize = buckets::<FINENESS>();
const BEYOND: usize = BUCKETS - 1;
/// Nanoseconds of a second.
const NANOS: u128 = 1_000_000_000;

impl Latencies {
    /// Nothing has been recorded; the first of three windows of [`DEFAULT_WINDOW`] begins `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::with_window(DEFAULT_WINDOW, now)
    }

    /// The same with windows of another width; one below a nanosecond counts as that.
    #[must_use]
    pub fn with_window(width: Duration, now: Instant) -> Self {
        let width = width.max(Duration::from_nanos(1));
        Self {
            windows: std::array::from_fn(|_| Histogram::new()),
            current: 0,
            width,
            ends: now.checked_add(width),
        }
    }

    /// Something that took so long ended `now`. An instant before the latest one counts as the
    /// latest, since threads read the clock before they take a lock.
    pub fn record(&mut self, took: Duration, now: Instant) {
        self.slide(now);
        self.windows[self.current].add(bucket(took));
    }

    /// How long the fastest `q` of them took at most: the sample of rank `⌈q · samples⌉`.
    ///
    /// The answer is above that sample, by no more than a 64th of it (1.6 %), or a microsecond
    /// where that is more. An answer of [`TRACKABLE`] means that long or longer.
    ///
    /// None where the samples don't say: with fewer than [`FEWEST_SAMPLES`], and where less
    /// than one sample is to be expected on either side of `q` (a p99 takes a hundred). So 0
    /// and 1, and all that is not between them, have no answer.
    #[must_use]
    pub fn quantile(&mut self, q: f64, now: Instant) -> Option<Duration> {
        self.slide(now);
        let samples = self.total();
        let told = samples as f64 * q.min(1.0 - q) >= 1.0;
        if samples < FEWEST_SAMPLES || !told {
            return None;
        }
        let rank = (q * samples as f64).ceil() as u64;
        let mut passed = 0;
        let found = (0..BEYOND).find(|&bucket| {
            passed += self.windows.iter().map(|window| window.count(bucket)).sum::<u64>();
            passed >= rank
        });
        Some(found.map_or(TRACKABLE, end_of))
    }

    /// How many samples there are.
    #[must_use]
    pub fn samples(&mut self, now: Instant) -> u64 {
        self.slide(now);
        self.total()
    }

    fn total(&self) -> u64 {
        self.windows.iter().map(|window| window.samples).sum()
    }

    /// Steps into the window of `now`.
    fn slide(&mut self, now: Instant) {
        let Some(ends) = self.ends.filter(|&ends| now >= ends) else { return };
        let late = now.saturating_duration_since(ends).as_nanos();
        let width = self.width.as_nanos();
        for _ in 0..(late / width + 1).min(WINDOWS as u128) {
            self.current = (self.current + 1) % WINDOWS;
            self.windows[self.current].clear();
        }
        // The rest of the current window: no more than a width, so it fits where a width did.
        let rest = width - late % width;
        let rest = Duration::new((rest / NANOS) as u64, (rest % NANOS) as u32);
        self.ends = now.checked_add(rest);
    }
}

/// The samples of one window.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Box<[u32]>,
    samples: u64,
}

impl Histogram {
    fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), samples: 0 }
    }

    fn add(&mut self, bucket: usize) {
        // Full at four billion samples of one length: then it takes no more of them, rather
        // than let the buckets and their sum disagree.
        if let Some(count) = self.counts[bucket].checked_add(1) {
            self.counts[bucket] = count;
            self.samples += 1;
        }
    }

    fn count(&self, bucket: usize) -> u64 {
        u64::from(self.counts[bucket])
    }

    fn clear(&mut self) {
        // A window in which nothing happened is clean.
        if self.samples > 0 {
            self.counts.fill(0);
            self.samples = 0;
        }
    }
}

/// The bucket of a duration. The first 128 are a microsecond wide, the next 64 two, and so on:
/// the six bits below a number's highest one say which of a doubling's it is.
fn bucket(took: Duration) -> usize {
    bucket_of::<FINENESS>(took)
}

/// Where a bucket ends: all of its durations are shorter.
const fn end_of(bucket: usize) -> Duration {
    end_of_bucket::<FINENESS>(bucket)
}

/// How many buckets there are with 2^`FINE` of them for each doubling.
pub(crate) const fn buckets<const FINE: u32>() -> usize {
    ((TRACKABLE_BITS - FINE + 1) << FINE) as usize + 1
}

pub(crate) fn bucket_of<const FINE: u32>(took: Duration) -> usize {
    if took >= TRACKABLE {
        return buckets::<FINE>() - 1;
    }
    let micros = took.as_micros() as usize;
    let shift = micros.checked_ilog2().unwrap_or(0).saturating_sub(FINE);
    ((shift as usize) << FINE) + (micros >> shift)
}

pub(crate) const fn end_of_bucket<const FINE: u32>(bucket: usize) -> Duration {
    let shift = (bucket >> FINE).saturating_sub(1);
    let within = bucket - (shift << FINE);
    Duration::from_micros(((within as u64) + 1) << shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn answers_that_were_worked_out_by_hand() {
        let now = crate::time::now();
        let mut latencies = Latencies::new(now);
        // Forty of 100 µs, thirty of 1 ms, twenty of 10 ms, ten of 100 ms.
        for (count, took) in [(40, 100), (30, 1_000), (20, 10_000), (10, 100_000)] {
            for _ in 0..count {
                latencies.record(micros(took), now);
            }
        }
        let mut quantile = |q| latencies.quantile(q, now).expect("a hundred samples");
        // 100 µs lies in a bucket of 1 µs. 1000 = 62.5 · 2^4: with a step of 8, [1000, 1008).
        assert_eq!([quantile(0.01), quantile(0.4)], [micros(101); 2]);
        assert_eq!([quantile(0.41), quantile(0.7)], [micros(1_008); 2]);
        // 10000 µs: 2^13 = 8192, a step of 128: 78 · 128 = 9984 to 10112.
        assert_eq!([quantile(0.71), quantile(0.9)], [micros(10_112); 2]);
        // 100000 µs: 2^16 = 65536, a step of 1024: 97 · 1024 = 99328 to 100352.
        assert_eq!([quantile(0.901), quantile(0.99)], [micros(100_352); 2]);
    }

    #[test]
    fn too_few_samples_say_nothing() {
        let now = crate::time::now();
        let mut latencies = Latencies::new(now);
        for samples in 1..=1000 {
            latencies.record(MS, now);
            assert_eq!(latencies.quantile(0.5, now).is_some(), samples >= 20, "{samples}");
            assert_eq!(latencies.quantile(0.95, now).is_some(), samples >= 20, "{samples}");
            assert_eq!(latencies.quantile(0.99, now).is_some(), samples >= 100, "{samples}");
            assert_eq!(latencies.quantile(0.001, now).is_some(), samples >= 1000, "{samples}");
        }
        for q in [0.0, 1.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(latencies.quantile(q, now), None, "{q}");
        }
    }

    #[test]
    fn forgets_the_oldest_of_three_windows() {
        let start = crate::time::now();
        let mut latencies = Latencies::new(start);
        for (second, took) in [(0, 1), (9, 1), (10, 10), (25, 100)] {
            for _ in 0..20 {
                latencies.record(took * MS, start + second * SECOND);
            }
        }
        let mut samples = |second| latencies.samples(start + second * SECOND);
        assert_eq!([samples(25), samples(29)], [80; 2]);
        assert_eq!([samples(30), samples(39)], [40; 2]);
        assert_eq!([samples(40), samples(49)], [20; 2]);
        assert_eq!(samples(50), 0);
        assert_eq!(latencies.quantile(0.5, start + 50 * SECOND), None);
        // Late by many windows, and then on in step.
        latencies.record(MS, start + 1_005 * SECOND);
        assert_eq!(latencies.samples(start + 1_029 * SECOND), 1);
        assert_eq!(latencies.samples(start + 1_030 * SECOND), 0);
    }

    #[test]
    fn what_is_too_long_to_be_told_is_counted() {
        let now = crate::time::now();
        let mut latencies = Latencies::new(now);
        for _ in 0..30 {
            latencies.record(TRACKABLE - micros(1), now);
            latencies.record(TRACKABLE, now);
            latencies.record(Duration::MAX, now);
        }
        assert_eq!(latencies.quantile(0.3, now), Some(TRACKABLE));
        assert_eq!(latencies.quantile(0.9, now), Some(TRACKABLE));
        assert_eq!(latencies.samples(now), 90);
    }

    #[test]
    fn a_million_samples_take_no_more_room_than_one() {
        let start = crate::time::now();
        let mut latencies = Latencies::new(start);
        for sample in 0..1_000_000_u64 {
            latencies.record(micros(sample), start + micros(sample));
        }
        let p50 = latencies.quantile(0.5, start + SECOND).expect("plenty");
        assert!((micros(500_000)..=micros(507_813)).contains(&p50), "{p50:?}");
        assert_eq!(BUCKETS, 1345);
    }

    #[test]
    fn widths_beyond_reason_do_not_panic() {
        let start = crate::time::now();
        for width in [Duration::ZERO, Duration::from_nanos(3), Duration::MAX] {
            let mut latencies = Latencies::with_window(width, start);
            latencies.record(MS, start);
            latencies.record(MS, start + SECOND);
            latencies.record(MS, start);
            assert!(latencies.samples(start + SECOND) >= 1);
        }
    }

    #[test]
    fn a_full_bucket_takes_no_more() {
        let mut histogram = Histogram::new();
        histogram.counts[5] = u32::MAX;
        histogram.samples = u64::from(u32::MAX);
        histogram.add(5);
        assert_eq!((histogram.counts[5], histogram.samples), (u32::MAX, u64::from(u32::MAX)));
    }

    proptest! {
        /// Each duration lies in its bucket, the next one begins where it ends, and none is
        /// wider than a 64th of where it begins.
        #[test]
        fn buckets_touch_and_are_narrow(nanos in 0_u64..70_000_000_000) {
            let took = Duration::from_nanos(nanos);
            let bucket = bucket(took);
            if bucket == BEYOND {
                prop_assert!(took >= TRACKABLE);
                return Ok(());
            }
            let begin = if bucket == 0 { Duration::ZERO } else { end_of(bucket - 1) };
            let end = end_of(bucket);
            prop_assert!(begin <= took && took < end);
            prop_assert!(end - begin <= (begin / 64).max(micros(1)));
        }

        /// Against all samples sorted, with the windows that still count picked by a naive rule.
        #[test]
        fn agrees_with_an_exact_sort(
            samples in proptest::collection::vec((0.0_f64..27.0, 0_u32..2_000, 0_u32..50), 20..300),
            q in 0.001_f64..0.999,
        ) {
            let start = crate::time::now();
            let mut latencies = Latencies::with_window(10 * SECOND, start);
            let (mut now, mut latest) = (start, 0);
            let mut all: Vec<(u64, Duration)> = Vec::new();
            for (log, forward, back) in samples {
                now += forward * MS;
                let seen = now - (back * MS).min(now - start);
                // From 1 µs to twice what is trackable, evenly over the doublings.
                let took = Duration::from_secs_f64(log.exp2() / 1e6);
                latencies.record(took, seen);
                latest = latest.max((seen - start).as_secs() / 10);
                all.push((latest, took));
            }
            latest = latest.max((now - start).as_secs() / 10);
            let mut exact: Vec<Duration> = all
                .iter()
                .filter(|&&(window, _)| window + 3 > latest)
                .map(|&(_, took)| took)
                .collect();
            exact.sort_unstable();
            let found = latencies.quantile(q, now);
            let count = exact.len() as f64;
            let told = exact.len() >= 20 && count * q.min(1.0 - q) >= 1.0;
            prop_assert_eq!(found.is_some(), told);
            if let Some(found) = found {
                let sample = exact[(q * count).ceil() as usize - 1];
                if sample >= TRACKABLE {
                    prop_assert_eq!(found, TRACKABLE);
                } else {
                    let error = found - sample;
                    prop_assert!(found > sample && error <= (sample / 64).max(micros(1)));
                }
            }
        }
    }
}
