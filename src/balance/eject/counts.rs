//! What calls count of their endpoint, without a lock, and what a sweep takes from it.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::config::EjectionConfig;
use crate::{
    algo::quantile::{bucket_of, buckets, end_of_bucket},
    classify::{Blame, Sent, Verdict},
    sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, Padded},
};

/// What an endpoint did in a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Calls that it served, those whose request was wrong included.
    pub successes: u32,
    /// Calls that it answered with a failure.
    pub failures: u32,
    /// Calls that failed without an answer: no connection, a reset, a timeout.
    pub local_failures: u32,
    /// How many good answers there were, and the quantile of their times that is compared.
    pub took: Option<(u32, Duration)>,
}

impl Tally {
    /// So many successes, and so many failures.
    #[must_use]
    pub const fn new(successes: u32, failures: u32) -> Self {
        Self { successes, failures, local_failures: 0, took: None }
    }

    /// With so many failures without an answer.
    #[must_use]
    pub const fn with_local_failures(mut self, failures: u32) -> Self {
        self.local_failures = failures;
        self
    }

    /// With good answers whose quantile is this.
    #[must_use]
    pub const fn with_latency(mut self, answers: u32, quantile: Duration) -> Self {
        self.took = Some((answers, quantile));
        self
    }

    /// Together with what was seen before.
    pub(super) fn and(self, before: Self) -> Self {
        Self {
            successes: self.successes.saturating_add(before.successes),
            failures: self.failures.saturating_add(before.failures),
            local_failures: self.local_failures.saturating_add(before.local_failures),
            took: self.took,
        }
    }
}

/// Whether an attempt ended with an answer of its endpoint, or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::balance) enum Origin {
    Answer,
    Local,
}

/// What one attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Served,
    ServerError,
    Gateway,
    Local,
}

impl Outcome {
    const fn of(verdict: Verdict, origin: Origin) -> Option<Self> {
        match (verdict.blame, verdict.sent) {
            (Blame::Endpoint | Blame::Service, _) if matches!(origin, Origin::Local) => {
                Some(Self::Local)
            }
            // A limit of the whole service, kept as it should be: that says how much was sent.
            (Blame::Service, Sent::No) => Some(Self::Served),
            (Blame::Endpoint | Blame::Service, Sent::Processed) => Some(Self::ServerError),
            (Blame::Endpoint | Blame::Service, Sent::Maybe | Sent::No) => Some(Self::Gateway),
            (Blame::Caller, _) => None,
            (_, Sent::Processed) => Some(Self::Served),
            (Blame::Nobody | Blame::Client, _) => None,
        }
    }
}

/// Calls the driver when an endpoint has failed too often in a row.
#[derive(Debug, Default)]
pub(in crate::balance) struct Alarm {
    raised: AtomicBool,
    notify: Notify,
}

impl Alarm {
    fn raise(&self) {
        // Released, so that who lowers it sees the strike that it was raised for.
        self.raised.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Whether it was raised since it was last lowered.
    #[cfg(feature = "testing")]
    pub(in crate::balance) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Lowers it; whether it was raised.
    pub(in crate::balance) fn lower(&self) -> bool {
        self.raised.swap(false, Ordering::Acquire)
    }

    pub(in crate::balance) async fn raised(&self) {
        self.notify.notified().await;
    }
}

/// The counts of one endpoint. Calls add to them on any thread; the driver takes them.
#[derive(Debug)]
pub(in crate::balance) struct Counts {
    /// Successes in the lower half, failures in the upper one: one addition counts a call, and
    /// one exchange takes both. The interval is an hour at most, which is a million calls a second
    /// before the lower half overflows.
    calls: Padded<AtomicU64>,
    local: AtomicU32,
    /// Three rows of failures, in 21 bits each.
    rows: AtomicU64,
    /// Which rows have been full, a bit for each.
    struck: AtomicU32,
    /// How many failures fill a row; none are counted without.
    full: Option<[u32; 3]>,
    split: bool,
    alarm: Arc<Alarm>,
    took: Option<Histogram>,
}

const ROW_BITS: u32 = 21;
const ROW: u64 = (1 << ROW_BITS) - 1;

impl Counts {
    pub(in crate::balance) fn new(config: &EjectionConfig, alarm: Arc<Alarm>) -> Self {
        Self {
            calls: Padded::default(),
            local: AtomicU32::new(0),
            rows: AtomicU64::new(0),
            struck: AtomicU32::new(0),
            full: config.consecutive.map(|rule| rule.rows.map(|(count, _)| count)),
            split: config.split,
            alarm,
            took: config.latency.map(|rule| Histogram::new(rule.quantile, rule.minimum_calls)),
        }
    }

    /// An attempt has ended so.
    #[inline]
    pub(in crate::balance) fn count(&self, verdict: Verdict, origin: Origin) {
        match Outcome::of(verdict, origin) {
            Some(Outcome::Served) => self.served(),
            Some(outcome) => self.failed(outcome),
            None => {}
        }
    }

    /// A good answer took this long.
    #[inline]
    pub(in crate::balance) fn took(&self, span: Duration) {
        if let Some(histogram) = &self.took {
            histogram.add(span);
        }
    }

    #[inline]
    fn served(&self) {
        // Relaxed, here and below: each word stands alone.
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.rows.load(Ordering::Relaxed) != 0 {
            self.rows.store(0, Ordering::Relaxed);
        }
    }

    #[cold]
    fn failed(&self, outcome: Outcome) {
        if outcome == Outcome::Local {
            self.local.fetch_add(1, Ordering::Relaxed);
        } else {
            self.calls.fetch_add(1 << 32, Ordering::Relaxed);
        }
        let Some(full) = self.full else { return };
        let mut seen = self.rows.load(Ordering::Relaxed);
        let struck = loop {
            let (next, struck) = after(seen, outcome, self.split, full);
            match self.rows.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => break struck,
                Err(newer) => seen = newer,
            }
        };
        if struck != 0 {
            self.struck.fetch_or(struck, Ordering::Relaxed);
            self.alarm.raise();
        }
    }

    /// What was counted since the last time.
    pub(in crate::balance) fn tally(&self) -> Tally {
        let calls = self.calls.swap(0, Ordering::Relaxed);
        Tally {
            successes: calls as u32,
            failures: (calls >> 32) as u32,
            local_failures: self.local.swap(0, Ordering::Relaxed),
            took: self.took.as_ref().and_then(Histogram::take),
        }
    }

    /// Which rows have been full since the last time.
    pub(in crate::balance) fn struck(&self) -> u32 {
        self.struck.swap(0, Ordering::Relaxed)
    }

    /// It is back: what was before counts no more.
    pub(in crate::balance) fn forget(&self) {
        self.tally();
        self.struck();
        self.rows.store(0, Ordering::Relaxed);
    }
}

/// The rows after a failure, and which of them became full (and begin anew): Envoy's
/// `DetectorHostMonitorImpl::putHttpResponseCode` and `localOriginFailure`.
fn after(rows: u64, outcome: Outcome, split: bool, full: [u32; 3]) -> (u64, u32) {
    let mut row: [u64; 3] = std::array::from_fn(|at| rows >> (at as u32 * ROW_BITS) & ROW);
    match outcome {
        Outcome::Local if split => row[2] += 1,
        // Without the split, no connection is a 503 and a timeout a 504.
        Outcome::Local | Outcome::Gateway => {
            row[0] += 1;
            row[1] += 1;
        }
        Outcome::ServerError => {
            row[0] += 1;
            row[1] = 0;
        }
        Outcome::Served => row = [0; 3],
    }
    // An answer, whatever it says, shows that the connection works.
    if outcome != Outcome::Local {
        row[2] = 0;
    }
    let mut struck = 0;
    for at in 0..3 {
        if row[at] >= u64::from(full[at]) {
            struck |= 1 << at;
            row[at] = 0;
        }
    }
    (row.iter().rev().fold(0, |rows, row| rows << ROW_BITS | row), struck)
}

/// Eight buckets a doubling: an eighth is fine enough for a factor of three.
const FINE: u32 = 3;

#[derive(Debug)]
struct Histogram {
    counts: Box<[AtomicU32]>,
    quantile: f64,
    minimum: u32,
}

impl Histogram {
    fn new(quantile: f64, minimum: u32) -> Self {
        let counts = (0..buckets::<FINE>()).map(|_| AtomicU32::new(0)).collect();
        Self { counts, quantile, minimum }
    }

    fn add(&self, took: Duration) {
        self.counts[bucket_of::<FINE>(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were and their quantile, if there were enough; else they wait.
    fn take(&self) -> Option<(u32, Duration)> {
        let count = |word: &AtomicU32| u64::from(word.load(Ordering::Relaxed));
        let samples: u64 = self.counts.iter().map(count).sum();
        if samples < u64::from(self.minimum) {
            return None;
        }
        let rank = (self.quantile * samples as f64).ceil() as u64;
        let (mut passed, mut found) = (0, self.counts.len() - 1);
        for (at, word) in self.counts.iter().enumerate() {
            passed += u64::from(word.swap(0, Ordering::Relaxed));
            if passed >= rank {
                found = found.min(at);
            }
        }
        Some((u32::try_from(passed).unwrap_or(u32::MAX), end_of_bucket::<FINE>(found)))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::classify::Retry;

    const SERVED: Verdict = Verdict::SUCCESS;
    const ERROR: Verdict = Verdict::new(Blame::Endpoint, Sent::Processed, Retry::IfSafe);
    const GATEWAY: Verdict = Verdict::new(Blame::Service, Sent::Maybe, Retry::IfSafe);
    const LIMITED: Verdict = Verdict::new(Blame::Service, Sent::No, Retry::Always);

    fn counts(config: &EjectionConfig) -> Counts {
        Counts::new(config, Arc::default())
    }

    #[test]
    fn each_call_counts_once_and_for_what_it_was() {
        let counts = counts(&EjectionConfig::new());
        for (verdict, origin) in [
            (SERVED, Origin::Answer),
            (LIMITED, Origin::Answer),
            (Verdict::new(Blame::Client, Sent::Processed, Retry::Never), Origin::Answer),
            (ERROR, Origin::Answer),
            (GATEWAY, Origin::Answer),
            (Verdict::TIMED_OUT, Origin::Local),
            (Verdict::CANCELLED, Origin::Local),
            (Verdict::new(Blame::Client, Sent::No, Retry::Never), Origin::Local),
        ] {
            counts.count(verdict, origin);
        }
        assert_eq!(counts.tally(), Tally::new(3, 2).with_local_failures(1));
        assert_eq!(counts.tally(), Tally::new(0, 0));
    }

    #[test]
    fn rows_are_those_of_envoy() {
        let full = |config: &EjectionConfig, script: &str| {
            let counts = counts(config);
            for step in script.chars() {
                match step {
                    '+' => counts.count(SERVED, Origin::Answer),
                    'e' => counts.count(ERROR, Origin::Answer),
                    'g' => counts.count(GATEWAY, Origin::Answer),
                    _ => counts.count(Verdict::TIMED_OUT, Origin::Local),
                }
            }
            counts.struck()
        };
        let together = EjectionConfig::envoy();
        let (errors, gateways, locals) = (0b001, 0b010, 0b100);
        assert_eq!(full(&together, "eeee+e"), 0);
        assert_eq!(full(&together, "eeeee"), errors);
        assert_eq!(full(&together, "ggggg"), errors | gateways);
        assert_eq!(full(&together, "ggggeg"), errors, "a 500 ends the row of the gateway's");
        assert_eq!(full(&together, "lglgl"), errors | gateways);
        let apart = EjectionConfig::envoy().split_local();
        assert_eq!(full(&apart, "lllll"), locals);
        assert_eq!(full(&apart, "llllelllle"), 0, "an answer shows that the connection works");
        assert_eq!(full(&apart, "eleleelle"), errors, "no answer says nothing of the answers");
    }

    #[test]
    fn a_row_that_was_full_begins_anew_and_so_does_all_after_a_return() {
        let counts = counts(&EjectionConfig::envoy());
        let fail = |times| (0..times).for_each(|_| counts.count(ERROR, Origin::Answer));
        fail(5);
        assert_eq!((counts.struck(), counts.alarm.lower()), (0b001, true));
        fail(4);
        assert_eq!((counts.struck(), counts.alarm.lower()), (0, false));
        fail(5);
        counts.forget();
        assert_eq!((counts.struck(), counts.tally()), (0, Tally::new(0, 0)));
        fail(4);
        assert_eq!(counts.struck(), 0, "those before are not in a row with these");
    }

    #[test]
    fn a_quantile_waits_for_enough_answers() {
        let counts = counts(&EjectionConfig::new().latency(super::super::Latency::new()));
        (0..25).for_each(|_| counts.took(Duration::from_millis(10)));
        (0..24).for_each(|_| counts.took(Duration::from_secs(100)));
        assert_eq!(counts.tally().took, None);
        counts.took(Duration::from_secs(100));
        // The median of an even number is the lower of the two in the middle.
        let (answers, took) = counts.tally().took.expect("fifty");
        assert_eq!(answers, 50);
        assert!(
            took > Duration::from_millis(10) && took < Duration::from_micros(11_300),
            "{took:?}"
        );
        assert_eq!(counts.tally().took, None);
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::thread;

    use super::*;

    const ERROR: Verdict =
        Verdict::new(Blame::Endpoint, Sent::Processed, crate::classify::Retry::IfSafe);

    /// What two threads count while a third takes is in one of the two tallies, and once.
    #[test]
    fn no_call_is_lost_or_counted_twice() {
        loom::model(|| {
            let counts = Arc::new(Counts::new(&EjectionConfig::new(), Arc::default()));
            let other = {
                let counts = Arc::clone(&counts);
                thread::spawn(move || {
                    counts.count(Verdict::SUCCESS, Origin::Answer);
                    counts.count(ERROR, Origin::Answer);
                })
            };
            let first = counts.tally();
            counts.count(ERROR, Origin::Answer);
            other.join().expect("it only counts");
            assert_eq!(counts.tally().and(first), Tally::new(1, 2));
        });
    }

    /// Of failures in a row on two threads exactly one fills the row, and who takes the alarm
    /// sees it.
    #[test]
    fn a_row_is_full_once() {
        loom::model(|| {
            let config = EjectionConfig::envoy().consecutive(
                super::super::Consecutive::new().server_errors(2, 100).expect("above 0"),
            );
            let alarm = Arc::new(Alarm::default());
            let counts = Arc::new(Counts::new(&config, Arc::clone(&alarm)));
            let other = {
                let counts = Arc::clone(&counts);
                thread::spawn(move || counts.count(ERROR, Origin::Answer))
            };
            counts.count(ERROR, Origin::Answer);
            other.join().expect("it only counts");
            assert!(alarm.lower());
            assert_eq!(counts.struck(), 0b001);
            assert!(!alarm.lower());
        });
    }

    /// Who is called by the alarm sees what it was raised for.
    #[test]
    fn who_lowers_the_alarm_sees_the_row() {
        loom::model(|| {
            let config = EjectionConfig::envoy().consecutive(
                super::super::Consecutive::new().server_errors(1, 100).expect("above 0"),
            );
            let alarm = Arc::new(Alarm::default());
            let counts = Arc::new(Counts::new(&config, Arc::clone(&alarm)));
            let other = {
                let counts = Arc::clone(&counts);
                thread::spawn(move || counts.count(ERROR, Origin::Answer))
            };
            if alarm.lower() {
                assert_eq!(counts.struck(), 0b001);
            }
            other.join().expect("it only counts");
        });
    }
}
