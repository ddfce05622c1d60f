//! The one door to the clock.
//!
//! Decisions take `now` as an argument. What has to ask for the time asks here, so that
//! everything runs under `tokio::time::pause`.

mod idle;
mod sleep;

use std::time::{Duration, Instant, SystemTime};

pub(crate) use sleep::Sleep;

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

/// The time of day, for dates on the wire and the time part of a UUID. Never for a duration.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
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
    fn what_is_too_late_to_be_told_never_comes() {
        let at = now();
        assert_eq!(after(at, Duration::from_secs(1)), at + Duration::from_secs(1));
        assert!(after(at, Duration::MAX) >= at + Duration::from_secs(86_400));
    }
}
