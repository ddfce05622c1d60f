//! How the load comes back after closing.

use std::time::{Duration, Instant};

/// The way back to the full load.
///
/// Shares are dealt exactly, by a credit that every call adds to: by chance, the first calls
/// of a quiet client would be a matter of luck.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    since: Instant,
    /// In percent of a call.
    credit: u32,
}

/// Percent of the calls that are admitted, in each third of the ramp.
const STAGES: [u32; 3] = [10, 25, 50];

impl Ramp {
    /// Begins with enough credit for the first call to be admitted.
    pub(super) const fn new(since: Instant) -> Self {
        Self { since, credit: 100 - STAGES[0] }
    }

    pub(super) fn admits(&mut self, now: Instant, length: Duration) -> bool {
        self.credit += STAGES[self.stage(now, length)];
        let admits = self.credit >= 100;
        if admits {
            self.credit -= 100;
        }
        admits
    }

    pub(super) fn is_over(&self, now: Instant, length: Duration) -> bool {
        now.saturating_duration_since(self.since) >= length
    }

    pub(super) fn next_stage(&self, now: Instant, length: Duration) -> Instant {
        let stage = self.stage(now, length) as u32 + 1;
        self.since + length * stage / STAGES.len() as u32
    }

    fn stage(&self, now: Instant, length: Duration) -> usize {
        let age = now.saturating_duration_since(self.since);
        let last = STAGES.len() - 1;
        (0..last)
            .find(|&stage| age < length * (stage as u32 + 1) / STAGES.len() as u32)
            .unwrap_or(last)
    }
}
