//! How long an attempt usually takes.

use std::time::{Duration, Instant};

use crate::algo::quantile::Latencies;

/// The middle of the latencies of late, looked up at most once in [`REFRESH`]: to look it up
/// takes a pass over the histogram, and a flood of failures asks for it each time.
#[derive(Debug)]
pub(super) struct Usual {
    latencies: Latencies,
    middle: Option<Duration>,
    due: Option<Instant>,
}

/// One in so many good answers is a sample: the middle of a busy client's needs no more, and the
/// others keep their instructions.
pub(super) const ONE_IN: u64 = 8;

/// As often as Finagle's `BackupRequestFilter` looks at its own.
const REFRESH: Duration = Duration::from_secs(3);

impl Usual {
    pub(super) fn new(now: Instant) -> Self {
        Self { latencies: Latencies::new(now), middle: None, due: None }
    }

    /// A good answer took so long.
    pub(super) fn record(&mut self, took: Duration, now: Instant) {
        self.latencies.record(took, now);
    }

    /// Half of the good answers come sooner; none while too little is known.
    pub(super) fn middle(&mut self, now: Instant) -> Option<Duration> {
        if self.due.is_none_or(|due| now >= due) {
            self.middle = self.latencies.quantile(0.5, now);
            self.due = now.checked_add(REFRESH);
        }
        self.middle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn knows_the_middle_once_it_has_seen_enough_and_looks_again_after_a_while() {
        let now = crate::time::now();
        let mut usual = Usual::new(now);
        assert_eq!(usual.middle(now), None);
        for took in 1..=100 {
            usual.record(took * MS, now);
        }
        assert_eq!(usual.middle(now), None, "it was looked up just now");
        let middle = usual.middle(now + REFRESH).expect("a hundred are enough");
        assert!((50 * MS..52 * MS).contains(&middle), "{middle:?}");
    }

    #[test]
    fn what_was_usual_a_minute_ago_is_forgotten() {
        let now = crate::time::now();
        let mut usual = Usual::new(now);
        (0..100).for_each(|_| usual.record(50 * MS, now));
        assert!(usual.middle(now).is_some());
        assert_eq!(usual.middle(now + Duration::from_secs(60)), None);
    }
}
