//! The wait for an instant.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use super::idle::Timer;

/// A wait that ends at one instant. It takes a timer when it is first polled, so one that is never
/// polled costs no more than its fields.
///
/// Its timer is one of the runtime in which it is first polled: if possible one that an earlier
/// sleep has left on this thread, and when this one is dropped it is left for the next. Most waits
/// are for what comes in time, again and again within the same span. A timer that is set for an
/// earlier instant is taken as it is, and put off only when it comes up before this one ends: once
/// in a span, and not once in a wait. One that is set for a later instant takes a lock, and one
/// that is made and dropped takes it twice: the lock that all threads of a runtime share.
///
/// What a timer keeps that is left is told in `idle.rs`. Who tests with a paused clock may see it:
/// when there is nothing else to do, that clock goes to the instant of each timer that is left.
#[derive(Debug)]
#[must_use = "it does nothing unless polled"]
pub(crate) struct Sleep {
    at: Instant,
    timer: Option<Timer>,
}

impl Sleep {
    /// Ends at `at`, to the millisecond, never before.
    #[inline]
    pub(crate) const fn until(at: Instant) -> Self {
        Self { at, timer: None }
    }

    /// What it waits for, once it was polled.
    #[cfg(test)]
    pub(super) const fn timer(&self) -> Option<&Timer> {
        self.timer.as_ref()
    }
}

impl Future for Sleep {
    type Output = ();

    /// # Panics
    ///
    /// As tokio's: outside of a runtime, in one without timers, and in one that has ended.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        if let Some(timer) = &mut self.timer {
            return timer.poll(at, cx);
        }
        let (timer, polled) = Timer::begin(at, cx);
        self.timer = Some(timer);
        polled
    }
}

impl Drop for Sleep {
    #[inline]
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.leave();
        }
    }
}
