//! Until when a request is worked on.

use std::time::{Duration, Instant};

use crate::time::after;

/// How the deadline of an incoming request is decided on. Pure.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::timeout::{Admission, Intake};
///
/// let mut intake = Intake::default();
/// intake.limit = Some(Duration::from_secs(10));
/// let now = Instant::now();
/// let second = Duration::from_secs(1);
/// assert_eq!(intake.admit(Some(second), None, now), Admission::Until(now + second));
/// assert_eq!(intake.admit(Some(60 * second), None, now), Admission::Until(now + 10 * second));
/// assert_eq!(intake.admit(None, Some(now), now), Admission::Overdue);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intake {
    /// How long any request may take.
    pub limit: Option<Duration>,
    /// How much of the caller's time is kept back for the way of the answer.
    pub reserve: Duration,
}

/// How a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// As long as it takes.
    Unlimited,
    /// Until then at the latest.
    Until(Instant),
    /// Not at all: nobody waits for the answer any more.
    Overdue,
}

impl Intake {
    /// Decides on a request that came `now`, whose caller has so much time `left`, and of which
    /// an earlier deadline may be `known`. What comes out is never later than any of them.
    #[must_use]
    pub fn admit(&self, left: Option<Duration>, known: Option<Instant>, now: Instant) -> Admission {
        let callers = left.map(|left| after(now, left.saturating_sub(self.reserve)));
        let own = self.limit.map(|limit| after(now, limit));
        match [callers, own, known].into_iter().flatten().min() {
            None => Admission::Unlimited,
            Some(deadline) if deadline <= now => Admission::Overdue,
            Some(deadline) => Admission::Until(deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nobody_who_limits_is_no_limit() {
        assert_eq!(Intake::default().admit(None, None, now()), Admission::Unlimited);
    }

    #[test]
    fn what_is_kept_back_is_the_callers_time_and_not_the_servers_own() {
        let now = now();
        let intake = Intake { limit: Some(2 * SECOND), reserve: SECOND };
        assert_eq!(intake.admit(Some(3 * SECOND), None, now), Admission::Until(now + 2 * SECOND));
        assert_eq!(
            intake.admit(Some(SECOND * 3 / 2), None, now),
            Admission::Until(now + SECOND / 2)
        );
        assert_eq!(intake.admit(Some(SECOND), None, now), Admission::Overdue);
        assert_eq!(intake.admit(None, None, now), Admission::Until(now + 2 * SECOND));
    }

    #[test]
    fn a_deadline_that_never_comes_is_one_all_the_same() {
        let now = now();
        let Admission::Until(deadline) = Intake::default().admit(Some(Duration::MAX), None, now)
        else {
            panic!("it was limited");
        };
        assert!(deadline > now + 1000 * SECOND);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_came_in(
            left in prop::option::of(0..10_000_u64),
            known in prop::option::of(0..10_000_u64),
            limit in prop::option::of(1..10_000_u64),
            reserve in 0..5_000_u64,
        ) {
            let now = now();
            let ms = Duration::from_millis;
            let intake = Intake { limit: limit.map(ms), reserve: ms(reserve) };
            let known = known.map(|known| now + ms(known));
            let bounds = [left.map(|left| now + ms(left)), known, limit.map(|limit| now + ms(limit))];
            let least = bounds.into_iter().flatten().min();
            match intake.admit(left.map(ms), known, now) {
                Admission::Unlimited => prop_assert_eq!(least, None),
                Admission::Until(deadline) => {
                    prop_assert!(deadline > now && Some(deadline) <= least);
                }
                Admission::Overdue => prop_assert!(least <= Some(now + ms(reserve))),
            }
        }
    }
}
