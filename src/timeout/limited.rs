//! A limit in time, on whatever is polled within it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;

use super::error::{Elapsed, Which};
use crate::{
    call::{Trail, mark_not_waking, mark_waking},
    classify::Sent,
    time::Sleep,
};

pin_project! {
    /// An instant at which something ends, and a timer that is armed when it is first waited for.
    ///
    /// It has no trail of its own: who has one lets it [expire](crate::call::expire_at) then.
    #[derive(Debug)]
    pub(crate) struct Timer {
        // None while a timer below wakes in time: one is enough, and this one would be the later.
        #[pin]
        sleep: Option<Sleep>,
        expires: Instant,
        began: Instant,
    }

    impl PinnedDrop for Timer {
        fn drop(this: Pin<&mut Self>) {
            if this.sleep.is_some() {
                mark_not_waking();
            }
        }
    }
}

impl Timer {
    /// Begins now, and ends at `expires`.
    #[inline]
    pub(crate) const fn new(began: Instant, expires: Instant) -> Self {
        Self { sleep: None, expires, began }
    }

    /// Whether anything is left, as of the beginning. Else nothing is to be begun.
    pub(crate) fn is_open(&self) -> bool {
        self.expires > self.began
    }

    /// Whether the time is up. To be asked when what is limited was just polled, and is pending;
    /// it may be `woken` in time by a timer of its own.
    #[inline]
    pub(crate) fn poll_over(self: Pin<&mut Self>, woken: bool, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.sleep.is_none() {
            if woken {
                return Poll::Pending;
            }
            this.sleep.set(Some(Sleep::until(*this.expires)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            if sleep.poll(cx).is_pending() {
                mark_waking(*this.expires);
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// The error of what is cut off now, and was `sent` or not.
    pub(crate) fn elapsed(&self, which: Which, sent: Sent) -> Elapsed {
        let limit = self.expires.saturating_duration_since(self.began);
        Elapsed::new(which, limit, sent)
    }
}

pin_project! {
    /// What a deadline and an attempt's timeout have in common: a timer, and the trail of what
    /// happens beneath.
    #[derive(Debug)]
    pub(super) struct Limited {
        #[pin]
        timer: Timer,
        trail: Trail,
    }
}

impl Limited {
    /// Begins now, and ends at `expires`.
    pub(super) const fn new(began: Instant, expires: Instant) -> Self {
        Self { timer: Timer::new(began, expires), trail: Trail::expiring(Some(expires)) }
    }

    /// Whether anything is left, as of the beginning. Else nothing is to be begun.
    pub(super) fn is_open(&self) -> bool {
        self.timer.is_open()
    }

    #[cfg(test)]
    pub(super) const fn is_armed(&self) -> bool {
        self.timer.sleep.is_some()
    }

    /// Begins what is limited, where it is known when the time is up.
    #[inline]
    pub(super) fn begin<T>(&mut self, begin: impl FnOnce() -> T) -> T {
        self.trail.enter(begin)
    }

    /// The same, to poll what is limited, and to drop it.
    #[inline]
    pub(super) fn enter<T>(self: Pin<&mut Self>, poll: impl FnOnce() -> T) -> T {
        self.project().trail.enter(poll)
    }

    /// Whether the time is up. To be asked when what is limited was just polled, and is pending.
    #[inline]
    pub(super) fn poll_over(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.timer.poll_over(this.trail.wakes(), cx)
    }

    /// The error of what is cut off now.
    pub(super) fn elapsed(&self, which: Which) -> Elapsed {
        self.timer.elapsed(which, self.trail.sent())
    }
}
