//! How long to wait before a registry is asked anew, and what an empty answer means.

use std::time::{Duration, Instant};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Empty {
    /// There are endpoints in it, or that there are none is to be believed.
    Believed,
    /// It is empty, and kept out; say so.
    Doubted,
    /// As before, and said already.
    DoubtedAgain,
}

/// Whether an answer without any endpoint is the truth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    keep: bool,
    was_empty: bool,
}

impl Doubt {
    /// `keep` doubts every empty answer.
    pub(super) const fn new(keep: bool) -> Self {
        Self { keep, was_empty: false }
    }

    /// An answer came, with endpoints or without.
    pub(super) const fn answered(&mut self, empty: bool) -> Empty {
        let doubted = self.keep && empty;
        match (doubted, std::mem::replace(&mut self.was_empty, doubted)) {
            (false, _) => Empty::Believed,
            (true, false) => Empty::Doubted,
            (true, true) => Empty::DoubtedAgain,
        }
    }
}

/// Doubles the wait for each stream in a row that did not serve.
///
/// A stream has served if it brought a change and lasted longer than the wait that would now
/// come. So a registry that closes every long poll after ten seconds is asked again soon, and
/// one that answers and hangs up at once is not hammered; no threshold has to be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    began: Option<Instant>,
    brought: bool,
}

impl Backoff {
    /// No stream was made so far.
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, began: None, brought: false }
    }

    /// A stream was made.
    pub(super) const fn began(&mut self, now: Instant) {
        self.began = Some(now);
        self.brought = false;
    }

    /// It brought a change.
    pub(super) const fn brought(&mut self) {
        self.brought = true;
    }

    /// It failed or ended. How long to wait, given a draw from `[0, 1)`.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) -> Duration {
        let lasted = self.began.map(|began| now.saturating_duration_since(began));
        if self.brought && lasted > Some(self.limit()) {
            self.failures = 0;
        }
        let limit = self.limit();
        self.failures = self.failures.saturating_add(1);
        // The upper half ("equal jitter"): clients drift apart, and none comes back at once.
        limit.mul_f64(0.5 + 0.5 * chance)
    }

    fn limit(&self) -> Duration {
        let doubled = 2_u32.checked_pow(self.failures).and_then(|by| self.first.checked_mul(by));
        doubled.unwrap_or(Duration::MAX).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_answer_is_doubted_once_until_there_is_another() {
        let mut doubt = Doubt::new(true);
        let said = [true, true, false, true].map(|empty| doubt.answered(empty));
        assert_eq!(said, [Empty::Doubted, Empty::DoubtedAgain, Empty::Believed, Empty::Doubted]);
        assert_eq!(Doubt::new(false).answered(true), Empty::Believed);
    }

    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        let now = crate::time::now();
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let waits: Vec<u128> = (0..9)
            .map(|_| {
                backoff.began(now);
                backoff.failed(now, 0.0).as_millis() * 2
            })
            .collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn a_stream_that_served_starts_it_over_and_one_that_hung_up_at_once_does_not() {
        let now = crate::time::now();
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for _ in 0..5 {
            backoff.began(now);
            backoff.brought();
            backoff.failed(now + Duration::from_millis(5), 0.0);
        }
        // The wait that comes now is up to 16 s: ten seconds are not enough, and neither are
        // twenty in which nothing was brought.
        backoff.began(now);
        backoff.brought();
        assert_eq!(backoff.failed(now + Duration::from_secs(10), 0.0), Duration::from_secs(8));
        backoff.began(now);
        assert_eq!(backoff.failed(now + Duration::from_secs(60), 0.0), Duration::from_secs(15));
        backoff.began(now);
        backoff.brought();
        assert_eq!(backoff.failed(now + Duration::from_secs(31), 0.0), FIRST / 2);
    }

    proptest! {
        #[test]
        fn the_wait_is_never_zero_and_never_above_the_longest(
            first in 1_u64..10_000,
            more in 0_u64..100_000,
            failures in 0_u32..100,
            chance in 0.0..1.0,
        ) {
            let (first, longest) = (Duration::from_millis(first), Duration::from_millis(first + more));
            let now = crate::time::now();
            let mut backoff = Backoff::new(first, longest);
            for _ in 0..failures {
                backoff.failed(now, chance);
            }
            let wait = backoff.failed(now, chance);
            prop_assert!(wait >= first / 2 && wait <= longest);
        }
    }
}
