//! A sliding window of counts.
//!
//! Ten buckets and their running total: as long as ten buckets' time, exact to the width of one
//! bucket, the same few words of memory at one call a minute and at a million a second. (A
//! window that keeps one record per call costs 112 µs a call at 100,000 of them; a count that
//! is never cut into buckets never slides, and needs 10,000 failures to outweigh 10,000
//! successes.)

use std::time::{Duration, Instant};

/// How many calls there were, and how many of them failed, in the last while.
///
/// Recording is O(1): a step into the next bucket empties one bucket, and after a silence at
/// most all ten. An instant before the latest one counts as the latest: threads read the clock
/// before they take the lock, so they may arrive in another order.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::algo::window::Window;
///
/// let start = Instant::now();
/// let mut window = Window::new(Duration::from_secs(30), start);
/// window.record(start, true);
/// window.record(start + Duration::from_secs(20), false);
///
/// let both = window.counts(start + Duration::from_secs(29));
/// assert_eq!((both.calls, both.failures), (2, 1));
/// let later = window.counts(start + Duration::from_secs(30));
/// assert_eq!((later.calls, later.failures), (1, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Window {
    buckets: [Counts; BUCKETS],
    current: usize,
    /// The running total of all buckets.
    total: Counts,
    steps: Steps,
}

/// Calls, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// All calls.
    pub calls: u32,
    /// Those that failed.
    pub failures: u32,
}

/// Ten, so that what is forgotten at one step is a tenth of what is known.
pub(crate) const BUCKETS: usize = 10;
/// Nanoseconds of a second.
const NANOS: u128 = 1_000_000_000;

impl Window {
    /// An empty window that is `span` long, in buckets of a tenth of it.
    #[must_use]
    pub fn new(span: Duration, now: Instant) -> Self {
        Self {
            buckets: [Counts::default(); BUCKETS],
            current: 0,
            total: Counts::default(),
            steps: Steps::new(span, now),
        }
    }

    /// Counts a call that ended `now`, and says what the window holds with it.
    pub fn record(&mut self, now: Instant, failed: bool) -> Counts {
        self.slide(now);
        // Full at four billion calls within the span: then it takes no more, rather than let
        // the total and the buckets disagree.
        if self.total.calls < u32::MAX {
            for counts in [&mut self.buckets[self.current], &mut self.total] {
                counts.calls += 1;
                counts.failures += u32::from(failed);
            }
        }
        self.total
    }

    /// Counts more calls of the current bucket, none of which failed.
    pub(crate) fn add_successes(&mut self, calls: u32) {
        // Full as above.
        let calls = calls.min(u32::MAX - self.total.calls);
        self.buckets[self.current].calls += calls;
        self.total.calls += calls;
    }

    /// How many failures it held at the latest instant.
    pub(crate) const fn failures(&self) -> u32 {
        self.total.failures
    }

    /// When the current bucket is over; never, if none.
    pub(crate) const fn ends(&self) -> Option<Instant> {
        self.steps.ends
    }

    /// How long a bucket is.
    pub(crate) const fn width(&self) -> Duration {
        self.steps.width
    }

    /// What the window holds `now`.
    #[must_use]
    pub fn counts(&mut self, now: Instant) -> Counts {
        self.slide(now);
        self.total
    }

    /// Forgets everything; the first bucket begins `now`.
    pub fn clear(&mut self, now: Instant) {
        self.forget();
        self.steps.restart(now);
    }

    fn forget(&mut self) {
        self.buckets = [Counts::default(); BUCKETS];
        self.total = Counts::default();
    }

    /// Steps into the bucket of `now`.
    #[inline]
    fn slide(&mut self, now: Instant) {
        let steps = self.steps.until(now);
        if steps > 0 {
            self.step(steps);
        }
    }

    #[cold]
    fn step(&mut self, steps: u64) {
        if steps >= BUCKETS as u64 {
            self.forget();
            return;
        }
        for _ in 0..steps {
            self.current = (self.current + 1) % BUCKETS;
            let oldest = std::mem::take(&mut self.buckets[self.current]);
            self.total.calls -= oldest.calls;
            self.total.failures -= oldest.failures;
        }
    }
}

/// Cuts time into buckets of a tenth of a window, and says how many have passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    width: Duration,
    /// When the current bucket is over. None: in no time that an `Instant` can tell.
    ends: Option<Instant>,
}

impl Steps {
    /// The first bucket of a window that is `span` long begins `now`.
    pub(crate) fn new(span: Duration, now: Instant) -> Self {
        let width = (span / BUCKETS as u32).max(Duration::from_nanos(1));
        Self { width, ends: now.checked_add(width) }
    }

    /// The current bucket begins `now`.
    fn restart(&mut self, now: Instant) {
        self.ends = now.checked_add(self.width);
    }

    /// How many buckets have passed since it was asked last. An instant before the latest one
    /// counts as the latest.
    #[inline]
    pub(crate) fn until(&mut self, now: Instant) -> u64 {
        match self.ends {
            Some(ends) if now >= ends => self.pass(ends, now),
            _ => 0,
        }
    }

    /// The current bucket is over since `ends`.
    #[cold]
    fn pass(&mut self, ends: Instant, now: Instant) -> u64 {
        let late = now.saturating_duration_since(ends).as_nanos();
        let width = self.width.as_nanos();
        // The rest of the current bucket: less than a width, so it fits where a width did.
        let rest = width - late % width;
        let rest = Duration::new((rest / NANOS) as u64, (rest % NANOS) as u32);
        self.ends = now.checked_add(rest);
        u64::try_from(late / width + 1).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn slides_by_a_tenth_of_its_span() {
        let start = crate::time::now();
        let mut window = Window::new(ms(1000), start);
        for tenth in 0..10 {
            window.record(start + ms(100 * tenth), tenth % 2 == 0);
        }
        assert_eq!(window.counts(start + ms(999)), Counts { calls: 10, failures: 5 });
        assert_eq!(window.counts(start + ms(1000)), Counts { calls: 9, failures: 4 });
        assert_eq!(window.counts(start + ms(1250)), Counts { calls: 7, failures: 3 });
        assert_eq!(window.counts(start + ms(1899)), Counts { calls: 1, failures: 0 });
        assert_eq!(window.counts(start + ms(1900)), Counts::default());
    }

    #[test]
    fn a_million_calls_take_no_more_room_than_one() {
        let start = crate::time::now();
        let mut window = Window::new(ms(30_000), start);
        for call in 0..1_000_000_u64 {
            window.record(start + Duration::from_micros(call), false);
        }
        assert_eq!(window.counts(start + ms(1000)).calls, 1_000_000);
        assert!(size_of::<Window>() <= 160, "{}", size_of::<Window>());
    }

    #[test]
    fn spans_beyond_reason_do_not_panic() {
        let start = crate::time::now();
        for span in [Duration::ZERO, Duration::from_nanos(3), Duration::MAX] {
            let mut window = Window::new(span, start);
            window.record(start, true);
            window.record(start + ms(1), true);
            window.clear(start + ms(1));
            assert_eq!(window.counts(start + ms(1)), Counts::default());
        }
    }

    /// Every call with the number of its bucket, counted anew each time.
    struct Model {
        start: Instant,
        width: Duration,
        latest: u128,
        calls: Vec<(u128, bool)>,
    }

    impl Model {
        fn counts(&mut self, now: Instant) -> Counts {
            let bucket = (now - self.start).as_nanos() / self.width.as_nanos();
            self.latest = self.latest.max(bucket);
            let within: Vec<bool> = self
                .calls
                .iter()
                .filter(|&&(bucket, _)| bucket + 10 > self.latest)
                .map(|&(_, failed)| failed)
                .collect();
            Counts {
                calls: within.len() as u32,
                failures: within.iter().filter(|&&failed| failed).count() as u32,
            }
        }

        fn record(&mut self, now: Instant, failed: bool) {
            self.counts(now);
            self.calls.push((self.latest, failed));
        }
    }

    proptest! {
        /// Steps of all lengths, backwards too, against the naive model.
        #[test]
        fn agrees_with_a_list_of_all_calls(
            span in 10_u64..5_000,
            steps in proptest::collection::vec((0_u64..700, 0_u64..40, any::<bool>()), 1..200),
        ) {
            let start = crate::time::now();
            let span = Duration::from_micros(span * 10);
            let mut window = Window::new(span, start);
            let mut model = Model { start, width: span / 10, latest: 0, calls: Vec::new() };
            let mut now = start;
            for (forward, back, failed) in steps {
                now += Duration::from_micros(forward * forward / 40);
                let seen = now - Duration::from_micros(back).min(now - start);
                window.record(seen, failed);
                model.record(seen, failed);
                prop_assert_eq!(window.counts(seen), model.counts(seen));
                prop_assert_eq!(window.counts(now), model.counts(now));
            }
        }
    }
}
