//! The future.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;

use super::HeldBody;

pin_project! {
    /// The future of [`Honour`](super::Honour).
    ///
    /// That of a request with a key is boxed: it runs a store's futures, which have no names, and
    /// begins a task beside, so that a name for the rest would save one allocation of several.
    #[must_use = "futures do nothing unless polled"]
    pub struct HonourFuture<F, C, E> {
        #[pin]
        state: State<F, C, E>,
    }
}

type Keyed<C, E> = Pin<Box<dyn Future<Output = Result<Response<HeldBody<C>>, E>> + Send>>;

pin_project! {
    #[project = StateProjection]
    enum State<F, C, E> {
        /// No key, nothing to do.
        Passed { #[pin] inner: F },
        Told { response: Option<Response<HeldBody<C>>> },
        Keyed { keyed: Keyed<C, E> },
    }
}

impl<F, C, E> HonourFuture<F, C, E> {
    pub(super) const fn passed(inner: F) -> Self {
        Self { state: State::Passed { inner } }
    }

    pub(super) const fn told(response: Response<HeldBody<C>>) -> Self {
        Self { state: State::Told { response: Some(response) } }
    }

    pub(super) fn keyed(
        keyed: impl Future<Output = Result<Response<HeldBody<C>>, E>> + Send + 'static,
    ) -> Self {
        Self { state: State::Keyed { keyed: Box::pin(keyed) } }
    }
}

impl<F, C, E> Future for HonourFuture<F, C, E>
where
    F: Future<Output = Result<Response<C>, E>>,
{
    type Output = Result<Response<HeldBody<C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed { inner } => {
                inner.poll(cx).map_ok(|response| response.map(HeldBody::passed))
            }
            StateProjection::Told { response } => {
                Poll::Ready(Ok(response.take().expect("a future is not polled after its end")))
            }
            StateProjection::Keyed { keyed } => keyed.as_mut().poll(cx),
        }
    }
}

impl<F, C, E> fmt::Debug for HonourFuture<F, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HonourFuture").finish_non_exhaustive()
    }
}
