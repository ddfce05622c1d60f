//! Whether and when a call is looked up (again).

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::{
    Conclusion,
    config::{DEFAULT_GRACE, DEFAULT_LOOKUPS, DEFAULT_WAIT, DEFAULT_WAIT_CAP},
};
use crate::{
    algo::backoff::Backoff,
    classify::{Sent, Verdict},
    time::after,
};

/// How long it is gone on for. Pure.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::reconcile::{Conclusion, Patience};
///
/// let patience = Patience::default();
/// let now = Instant::now();
/// let until = patience.until(now, None);
/// assert_eq!(patience.again(1, until, now, 0.5), Ok(now + Duration::from_millis(50)));
/// assert_eq!(patience.again(5, until, now, 0.5), Err(Conclusion::StillRunning));
/// assert_eq!(patience.again(1, now, now, 0.5), Err(Conclusion::NoTime));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Patience {
    /// How long all lookups may take together.
    pub grace: Duration,
    /// How many there may be, the first included.
    pub max_lookups: NonZeroU32,
    /// How long to wait between them.
    pub backoff: Backoff,
}

impl Default for Patience {
    fn default() -> Self {
        let backoff = Backoff::new(DEFAULT_WAIT, DEFAULT_WAIT_CAP);
        Self {
            grace: DEFAULT_GRACE,
            max_lookups: DEFAULT_LOOKUPS,
            backoff: backoff.expect("the wait is above zero and below its cap"),
        }
    }
}

impl Patience {
    /// Until when a call is looked up whose outcome was unknown `now`: for the grace, and no
    /// longer than the caller's own `deadline`, which holds for the call and everything that is
    /// done about it.
    #[must_use]
    pub fn until(&self, now: Instant, deadline: Option<Instant>) -> Instant {
        let grace = after(now, self.grace);
        deadline.map_or(grace, |deadline| deadline.min(grace))
    }

    /// When to look again, after so many `lookups` of which the last found the call running; or
    /// why not.
    ///
    /// # Errors
    ///
    /// [`Conclusion::StillRunning`] after the last lookup, [`Conclusion::NoTime`] if the wait for
    /// the next does not fit.
    pub fn again(
        &self,
        lookups: u32,
        until: Instant,
        now: Instant,
        draw: f64,
    ) -> Result<Instant, Conclusion> {
        if lookups >= self.max_lookups.get() {
            return Err(Conclusion::StillRunning);
        }
        let at = after(now, self.backoff.delay(lookups.saturating_sub(1), draw));
        if at < until { Ok(at) } else { Err(Conclusion::NoTime) }
    }
}

/// Whether nobody knows if the call was carried out.
pub(super) fn is_unknown(verdict: Verdict) -> bool {
    !verdict.is_success() && verdict.sent == Sent::Maybe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Blame, Retry};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_waits_double_and_end_with_the_lookups() {
        let (patience, now) = (Patience::default(), crate::time::now());
        let until = patience.until(now, None);
        let waits: Vec<_> = (1..5)
            .map(|lookups| patience.again(lookups, until, now, 1.0).map(|at| at - now))
            .collect();
        assert_eq!(waits, [100, 200, 400, 800].map(|ms| Ok(Duration::from_millis(ms))));
        assert_eq!(patience.again(5, until, now, 0.0), Err(Conclusion::StillRunning));
    }

    #[test]
    fn no_wait_ends_where_the_time_does() {
        let (patience, now) = (Patience::default(), crate::time::now());
        let until = now + Duration::from_millis(100);
        assert_eq!(patience.again(1, until, now, 1.0), Err(Conclusion::NoTime));
        assert!(patience.again(1, until, now, 0.99).is_ok());
    }

    #[test]
    fn the_callers_own_deadline_holds_where_it_is_the_earlier() {
        let (patience, now) = (Patience::default(), crate::time::now());
        assert_eq!(patience.until(now, None), now + 2 * SECOND);
        assert_eq!(patience.until(now, Some(now + SECOND)), now + SECOND);
        assert_eq!(patience.until(now, Some(now + 9 * SECOND)), now + 2 * SECOND);
        let boundless = Patience { grace: Duration::MAX, ..patience };
        assert!(boundless.until(now, None) > now + 1000 * SECOND);
    }

    #[test]
    fn only_a_maybe_is_unknown() {
        assert!(is_unknown(Verdict::TIMED_OUT));
        for known in [Sent::No, Sent::Processed] {
            assert!(!is_unknown(Verdict::new(Blame::Endpoint, known, Retry::IfSafe)));
        }
        assert!(!is_unknown(Verdict::SUCCESS));
    }
}
