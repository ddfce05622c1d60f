//! The rules of the index, and the pace.
//!
//! <https://developer.hashicorp.com/consul/api-docs/features/blocking>, "Implementation details".

use std::time::{Duration, Instant};

/// What the agent said last about how new its answer was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(u64);

impl Index {
    /// What the next question is to wait for, if there is something.
    pub(super) fn asked(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }

    /// An answer came with this index.
    ///
    /// One that goes backwards is of a state that was restored, or of a server that lost it: to
    /// go on from there would miss what happened since, so the next question waits for nothing.
    /// 0 is a mistake of the server, but would not block.
    pub(super) const fn answered(&mut self, index: u64) {
        self.0 = match index {
            0 => 1,
            index if index < self.0 => 0,
            index => index,
        };
    }

    /// Something went wrong: ask for what there is.
    pub(super) const fn reset(&mut self) {
        self.0 = 0;
    }
}

/// A token bucket with room for two, as the generic cell rate algorithm counts it (ITU-T I.371).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the bucket will be full.
    full: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, full: None }
    }

    /// Takes a token: when to ask.
    pub(super) fn take(&mut self, now: Instant) -> Instant {
        let full = self.full.map_or(now, |full| full.max(now));
        // One interval of debt is the second token.
        let at = full.checked_sub(self.interval).map_or(now, |at| at.max(now));
        self.full = Some(full + self.interval);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_begins_anew_and_is_never_zero() {
        let mut index = Index::default();
        assert_eq!(index.asked(), None, "the first question waits for nothing");
        let asked: Vec<_> = [5, 5, 9, 3, 3, 0, 2, u64::MAX, 1]
            .into_iter()
            .map(|answered| {
                index.answered(answered);
                index.asked()
            })
            .collect();
        let some = |index| Some(index);
        let expected =
            [some(5), some(5), some(9), None, some(3), some(1), some(2), some(u64::MAX), None];
        assert_eq!(asked, expected);
        index.answered(4);
        index.reset();
        assert_eq!(index.asked(), None);
    }

    #[test]
    fn two_may_follow_at_once_and_then_one_an_interval() {
        let (start, second) = (crate::time::now(), Duration::from_secs(1));
        let mut pace = Pace::new(second);
        let mut now = start;
        let waits: Vec<u64> = (0..5)
            .map(|_| {
                let at = pace.take(now);
                let wait = (at - now).as_millis() as u64;
                now = at;
                wait
            })
            .collect();
        assert_eq!(waits, [0, 0, 1000, 1000, 1000]);
        now += 3 * second;
        assert_eq!((pace.take(now), pace.take(now)), (now, now), "it has filled up again");
        assert_eq!(pace.take(now), now + second);
    }
}
