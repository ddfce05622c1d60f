//! The wait for an instant.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;

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
