//! The future of both layers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::watched::Watched;
use crate::{call::Trail, error::BoxError};

pin_project! {
    /// The future of [`CallSpan`](super::CallSpan) and [`AttemptSpan`](super::AttemptSpan):
    /// polls the service below within the span, and ends the span with the response's head.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        // None if nobody listens.
        watched: Option<Box<Watched>>,
        // Where the attempt went; none for a whole call, which has no one place.
        trail: Option<Trail>,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            this.give_up();
        }
    }
}

impl<F> ResponseFuture<F> {
    /// Nobody listens.
    pub(super) const fn bare(inner: F) -> Self {
        Self { inner: Some(inner), watched: None, trail: None }
    }

    pub(super) const fn new(inner: F, watched: Box<Watched>, trail: Option<Trail>) -> Self {
        Self { inner: Some(inner), watched: Some(watched), trail }
    }

    /// Dropped without an outcome: by its caller, or by the deadline above it.
    fn give_up(self: Pin<&mut Self>) {
        let mut this = self.project();
        let Some(watched) = this.watched.as_deref_mut() else { return };
        if this.inner.is_none() {
            return;
        }
        watched.follow(this.trail);
        watched.record_drop();
        // What the layers below report while they are dropped belongs to the span.
        let _entered = watched.enter();
        this.inner.set(None);
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut().expect("it is not polled after its end");
        let Some(watched) = this.watched.as_deref_mut() else {
            return inner.poll(cx).map_err(Into::into);
        };
        let entered = watched.enter();
        let polled = match this.trail {
            Some(trail) => trail.enter(|| inner.poll(cx)),
            None => inner.poll(cx),
        };
        let outcome = ready!(polled).map_err(Into::into);
        this.inner.set(None);
        drop(entered);
        watched.follow(this.trail);
        watched.record(outcome.as_ref().map_err(|error| &**error as _));
        // Ended here and not by whoever drops this future, who may keep it.
        *this.watched = None;
        Poll::Ready(outcome)
    }
}
