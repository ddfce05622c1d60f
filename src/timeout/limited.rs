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
    call::{Trail, mark_not_waking},
    time::Sleep,
};

pin_project! {
    /// What a deadline and an attempt's timeout have in common: an instant, the trail of what
    /// happens beneath, and a timer that is armed when something is first waited for.
    #[derive(Debug)]
    pub(crate) struct Limited {
        // None while a timer below wakes in time: one is enough, and this one would be the later.
        #[pin]
        sleep: Option<Sleep>,
        trail: Trail,
        expires: Instant,
        began: Instant,
    }

    impl PinnedDrop for Limited {
        fn drop(this: Pin<&mut Self>) {
            if this.sleep.is_some() {
                mark_not_waking();
            }
        }
    }
}

impl Limited {
    /// Begins now, and ends at `expires`.
    pub(crate) const fn new(began: Instant, expires: Instant) -> Self {
        Self { sleep: None, trail: Trail::expiring(Some(expires)), expires, began }
    }

    /// Whether anything is left, as of the beginning. Else nothing is to be begun.
    pub(crate) fn is_open(&self) -> bool {
        self.expires > self.began
    }

    #[cfg(test)]
    pub(super) const fn is_armed(&self) -> bool {
        self.sleep.is_some()
    }

    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    pub(crate) const fn expires(&self) -> Instant {
        self.expires
    }

    /// Begins what is limited, where it is known when the time is up.
    #[inline]
    pub(crate) fn begin<T>(&mut self, begin: impl FnOnce() -> T) -> T {
        self.trail.enter(begin)
    }

    /// The same, to poll what is limited, and to drop it.
    #[inline]
    pub(crate) fn enter<T>(self: Pin<&mut Self>, poll: impl FnOnce() -> T) -> T {
        self.project().trail.enter(poll)
    }

    /// Whether the time is up. To be asked when what is limited was just polled, and is pending.
    #[inline]
    pub(crate) fn poll_over(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.sleep.is_none() {
            if this.trail.wakes() {
                return Poll::Pending;
            }
            this.sleep.set(Some(Sleep::until(*this.expires)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            if sleep.poll(cx).is_pending() {
                this.trail.mark_waking(*this.expires);
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// The error of what is cut off now.
    pub(crate) fn elapsed(&self, which: Which) -> Elapsed {
        let limit = self.expires.saturating_duration_since(self.began);
        Elapsed::new(which, limit, self.trail.sent())
    }
}
