//! The future.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::error::BoxError;

pin_project! {
    /// The future of [`Idempotency`](super::Idempotency): the inner service's, or the reason
    /// why that was not called.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct KeyedFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Called { #[pin] inner: F },
        Failed { error: Option<BoxError> },
    }
}

impl<F> KeyedFuture<F> {
    pub(super) const fn called(inner: F) -> Self {
        Self { state: State::Called { inner } }
    }

    pub(super) const fn failed(error: BoxError) -> Self {
        Self { state: State::Failed { error: Some(error) } }
    }
}

impl<F, T, E> Future for KeyedFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { inner } => inner.poll(cx).map_err(Into::into),
            StateProjection::Failed { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after its end")))
            }
        }
    }
}
