//! When to probe. Pure.

use std::time::{Duration, Instant};

/// How many probes have been sent for how many calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Probes that calls have brought about.
    sent: u64,
    /// When there were some last, for calls or in silence; none if there never were.
    last: Option<Instant>,
}

impl Pace {
    /// Goes on where the last set of endpoints was left.
    pub(super) const fn going_on(last: Option<Instant>) -> Self {
        Self { sent: 0, last }
    }

    pub(super) const fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Whether this call, of so many, brings about a probe.
    #[inline]
    pub(super) fn calls_for_one(calls: u64, rate: f64) -> bool {
        rate >= 1.0 || brought_about(calls, rate) > brought_about(calls.saturating_sub(1), rate)
    }

    /// How many probes are due after so many calls, at so many a call; or else, after a silence,
    /// so many.
    pub(super) fn due(
        &mut self,
        now: Instant,
        (calls, rate): (u64, f64),
        (silence, in_silence): (Option<Duration>, usize),
    ) -> usize {
        let due = brought_about(calls, rate);
        // Of what came at once more than this is not sent anyway.
        let mut count = usize::try_from(due.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        self.sent = self.sent.max(due);
        if count == 0 && self.next(silence).is_none_or(|at| at <= now) && self.wants(silence) {
            count = in_silence;
        }
        if count > 0 {
            self.last = Some(now);
        }
        count
    }

    /// When some are due although nobody calls.
    pub(super) fn next(&self, silence: Option<Duration>) -> Option<Instant> {
        self.last.zip(silence).map(|(last, silence)| crate::time::after(last, silence))
    }

    /// The first probes are sent before the first call, and after that those in silence if they
    /// are asked for.
    const fn wants(&self, silence: Option<Duration>) -> bool {
        self.last.is_none() || silence.is_some()
    }
}

fn brought_about(calls: u64, rate: f64) -> u64 {
    (calls as f64 * rate) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SILENCE: (Option<Duration>, usize) = (Some(Duration::from_millis(500)), 3);
    const NEVER: (Option<Duration>, usize) = (None, 3);

    #[test]
    fn the_first_come_before_the_first_call() {
        for silence in [SILENCE, NEVER] {
            let (mut pace, now) = (Pace::default(), crate::time::now());
            assert_eq!(pace.due(now, (0, 3.0), silence), 3);
            assert_eq!(pace.due(now, (0, 3.0), silence), 0);
        }
    }

    #[test]
    fn each_call_brings_about_its_part() {
        let (now, rate) = (crate::time::now(), 0.4);
        let mut pace = Pace::going_on(Some(now));
        let mut sent = Vec::new();
        for call in 1..=10 {
            let due = pace.due(now, (call, rate), SILENCE);
            assert_eq!(due > 0, Pace::calls_for_one(call, rate), "the task is woken for it");
            sent.push(due);
        }
        assert_eq!(sent, [0, 0, 1, 0, 1, 0, 0, 1, 0, 1]);
        assert_eq!(pace.due(now, (1_010, rate), SILENCE), 400, "of calls that came at once");
        let mut pace = Pace::going_on(Some(now));
        assert_eq!((1..=4).map(|call| pace.due(now, (call, 2.5), NEVER)).sum::<usize>(), 10);
    }

    #[test]
    fn silence_is_broken_again_and_again() {
        let start = crate::time::now();
        let mut pace = Pace::going_on(Some(start));
        assert_eq!(pace.due(start + 499 * MS, (0, 3.0), SILENCE), 0);
        assert_eq!(pace.next(SILENCE.0), Some(start + 500 * MS));
        assert_eq!(pace.due(start + 500 * MS, (0, 3.0), SILENCE), 3);
        assert_eq!(pace.due(start + 900 * MS, (1, 3.0), SILENCE), 3, "a call");
        assert_eq!(pace.due(start + 1_399 * MS, (1, 3.0), SILENCE), 0);
        assert_eq!(pace.due(start + 1_400 * MS, (1, 3.0), SILENCE), 3);
        assert_eq!(pace.due(start + 90_000 * MS, (1, 3.0), NEVER), 0);
        assert_eq!(pace.next(None), None);
    }
}
