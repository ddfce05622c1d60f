//! The one door to the clock.
//!
//! Decisions take `now` as an argument. What has to ask for the time asks here, so that
//! everything runs under `tokio::time::pause`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use pin_project_lite::pin_project;

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

pin_project! {
    /// A timer that fires at one instant. It is registered with the runtime when it is first
    /// polled, so one that is never polled costs no more than its fields.
    #[derive(Debug)]
    pub(crate) struct Sleep {
        #[pin]
        inner: tokio::time::Sleep,
    }
}

impl Sleep {
    /// Fires at `at`, to the millisecond, never before.
    pub(crate) fn until(at: Instant) -> Self {
        Self { inner: tokio::time::sleep_until(at.into()) }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().inner.poll(cx)
    }
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
