//! The future of both layers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tracing::{Level, Span, level_filters::LevelFilter};

use super::outcome;
use crate::{
    call::{Asked, Trail},
    classify::Verdict,
    error::BoxError,
    time::now,
};

pin_project! {
    /// The future of [`CallSpan`](super::CallSpan) and [`AttemptSpan`](super::AttemptSpan):
    /// polls the service below within the span, and ends the span with the response's head.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        // None if nobody listens. In a box, so that it takes no room in every call's future:
        // a span that somebody listens to allocates anyway.
        watched: Option<Box<Watched>>,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            this.give_up();
        }
    }
}

/// What a call's span has to know.
#[derive(Debug)]
struct Watched {
    span: Span,
    asked: Asked,
    /// Where the attempt went; none for a whole call, which has no one place.
    trail: Option<Trail>,
}

impl<F> ResponseFuture<F> {
    /// Nobody listens.
    pub(super) const fn bare(inner: F) -> Self {
        Self { inner: Some(inner), watched: None }
    }

    pub(super) fn new(inner: F, span: Span, asked: Asked, trail: Option<Trail>) -> Self {
        Self { inner: Some(inner), watched: Some(Box::new(Watched { span, asked, trail })) }
    }

    /// Dropped without an outcome: by its caller, or by the deadline above it.
    fn give_up(self: Pin<&mut Self>) {
        let mut this = self.project();
        let Some(Watched { span, asked, trail }) = this.watched.as_deref() else { return };
        if this.inner.is_none() {
            return;
        }
        // The clock is asked only where a deadline may have passed.
        if asked.deadline.is_some() && asked.dropped(now()) == Verdict::TIMED_OUT {
            outcome::record_timeout(span);
        }
        record_peer(span, *trail);
        // What the layers below report while they are dropped belongs to the span.
        let _entered = span.enter();
        this.inner.set(None);
    }
}

/// Whether no subscriber wants our level at all. The macros of `tracing` would find out as well;
/// but where its feature `log` is on, they make the fields for the `log` crate all the same.
pub(super) fn nobody_listens() -> bool {
    LevelFilter::current() < Level::INFO
}

fn record_peer(span: &Span, trail: Option<Trail>) {
    if let Some(target) = trail.and_then(|trail| trail.target()) {
        outcome::record_peer(span, target.address);
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
        let Some(Watched { span, trail, .. }) = this.watched.as_deref_mut() else {
            return inner.poll(cx).map_err(Into::into);
        };
        let entered = span.enter();
        let polled = match trail {
            Some(trail) => trail.enter(|| inner.poll(cx)),
            None => inner.poll(cx),
        };
        let outcome = ready!(polled).map_err(Into::into);
        this.inner.set(None);
        drop(entered);
        outcome::record(span, &outcome);
        record_peer(span, *trail);
        // Ended here and not by whoever drops this future, who may keep it.
        *this.watched = None;
        Poll::Ready(outcome)
    }
}
