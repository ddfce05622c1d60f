//! The one door to the clock.
//!
//! Decisions take `now` as an argument. What has to ask for the time asks here, so that
//! everything runs under `tokio::time::pause`.

mod idle;
mod sleep;

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

pub(crate) use self::{idle::know_tasks, sleep::Sleep};

/// The present, as tokio's clock has it: paused and advanced together with every timer.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// `span` after `at`; where no instant is that late, so late that it never comes.
pub(crate) fn after(at: Instant, span: Duration) -> Instant {
    at.checked_add(span).unwrap_or_else(|| at + NEVER)
}

/// Thirty years, as long as tokio's own timers can wait.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The time of day, for dates on the wire. Never for a duration.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

thread_local! {
    /// When this thread looked at the time of day last, and how many nanoseconds after 1970 it was
    /// then, which fit until 2554.
    static LOOKED: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// The time of day in nanoseconds after 1970 at about `now`, for the time part of a UUID.
///
/// To read a clock is dear beside what else a key costs, and `now` was read for something else: so
/// a thread looks at the time of day once a second, and follows the other clock in between. It takes
/// what it sees then for the time at `now`, so it is ahead by as long as `now` was past. Who sets the
/// time of day is followed after that second. A time before 1970 is 1970.
pub(crate) fn unix_nanos_at(now: Instant) -> u64 {
    if let Some((looked, unix)) = LOOKED.get() {
        match now.checked_duration_since(looked) {
            Some(since) if since.as_secs() == 0 => {
                return unix.saturating_add(u64::from(since.subsec_nanos()));
            }
            _ => {}
        }
    }
    let unix = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let unix = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
    LOOKED.set(Some((now, unix)));
    unix
}

/// Lets this thread look at the time of day at the next occasion.
#[cfg(test)]
pub(crate) fn look_again() {
    LOOKED.set(None);
}

/// A span as whole milliseconds, which is how snapshots tell it.
#[cfg(feature = "serde")]
pub(crate) fn in_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// For `serialize_with`.
#[cfg(feature = "serde")]
pub(crate) fn millis<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(in_millis(*span))
}

/// The same of what there may be.
#[cfg(feature = "serde")]
pub(crate) fn maybe_millis<S: serde::Serializer>(
    span: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => to.serialize_some(&in_millis(*span)),
        None => to.serialize_none(),
    }
}

/// For the time of day, in milliseconds of Unix.
#[cfg(feature = "serde")]
pub(crate) fn unix_millis<S: serde::Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(in_millis(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_followed_and_looked_at_again_after_a_second() {
        let ms = Duration::from_millis(1);
        // The thread looked when the one clock stood here and the other there.
        let (looked, old) = (now(), 7_000_400_000);
        LOOKED.set(Some((looked, old)));
        assert_eq!(unix_nanos_at(looked), old);
        assert_eq!(unix_nanos_at(looked + 999 * ms), old + 999_000_000);
        let day = || wall().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_nanos();
        for at in [looked + 1000 * ms, looked - ms] {
            LOOKED.set(Some((looked, old)));
            let before = day();
            let found = unix_nanos_at(at);
            assert!((before..=day()).contains(&u128::from(found)));
            assert_eq!(unix_nanos_at(at + ms), found + 1_000_000);
        }
    }

    #[test]
    fn what_is_too_late_to_be_told_never_comes() {
        let at = now();
        assert_eq!(after(at, Duration::from_secs(1)), at + Duration::from_secs(1));
        assert!(after(at, Duration::MAX) >= at + Duration::from_secs(86_400));
    }
}
