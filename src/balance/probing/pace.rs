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

    /// How many probes are due after so many calls.
    pub(super) fn due(&mut self, now: Instant, calls: u64, rates: &Rates) -> usize {
        let due = brought_about(calls, rates.a_call);
        let mut count = usize::try_from(due.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        self.sent = self.sent.max(due);
        if self.last.is_none() {
            count = count.max(rates.at_first);
        } else if count == 0 && self.next(rates.silence).is_some_and(|at| at <= now) {
            count = rates.in_silence;
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
}

/// How many probes are sent when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) a_call: f64,
    /// Before the first call.
    pub(super) at_first: usize,
    /// After so long without any, ...
    pub(super) silence: Option<Duration>,
    /// ... so many.
    pub(super) in_silence: usize,
}

fn brought_about(calls: u64, rate: f64) -> u64 {
    (calls as f64 * rate) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RATES: Rates = Rates {
        a_call: 3.0,
        at_first: 16,
        silence: Some(Duration::from_millis(500)),
        in_silence: 3,
    };
    const QUIET: Rates = Rates { silence: None, ..RATES };

    #[test]
    fn the_first_come_before_the_first_call() {
        for rates in [RATES, QUIET] {
            let (mut pace, now) = (Pace::default(), crate::time::now());
            assert_eq!(pace.due(now, 0, &rates), 16);
            assert_eq!(pace.due(now, 0, &rates), 0);
            assert_eq!(pace.due(now, 1, &rates), 3);
        }
    }

    #[test]
    fn each_call_brings_about_its_part() {
        let (now, rates) = (crate::time::now(), Rates { a_call: 0.4, ..RATES });
        let mut pace = Pace::going_on(Some(now));
        let mut sent = Vec::new();
        for call in 1..=10 {
            let due = pace.due(now, call, &rates);
            assert_eq!(due > 0, Pace::calls_for_one(call, 0.4), "the task is woken for it");
            sent.push(due);
        }
        assert_eq!(sent, [0, 0, 1, 0, 1, 0, 0, 1, 0, 1]);
        assert_eq!(pace.due(now, 1_010, &rates), 400, "of calls that came at once");
        let (mut pace, rates) = (Pace::going_on(Some(now)), Rates { a_call: 2.5, ..QUIET });
        assert_eq!((1..=4).map(|call| pace.due(now, call, &rates)).sum::<usize>(), 10);
    }

    #[test]
    fn silence_is_broken_again_and_again() {
        let start = crate::time::now();
        let mut pace = Pace::going_on(Some(start));
        assert_eq!(pace.due(start + 499 * MS, 0, &RATES), 0);
        assert_eq!(pace.next(RATES.silence), Some(start + 500 * MS));
        assert_eq!(pace.due(start + 500 * MS, 0, &RATES), 3);
        assert_eq!(pace.due(start + 900 * MS, 1, &RATES), 3, "a call");
        assert_eq!(pace.due(start + 1_399 * MS, 1, &RATES), 0);
        assert_eq!(pace.due(start + 1_400 * MS, 1, &RATES), 3);
        assert_eq!(pace.due(start + 90_000 * MS, 1, &QUIET), 0);
        assert_eq!(pace.next(None), None);
    }
}
