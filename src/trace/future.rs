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
        span: Span,
        asked: Asked,
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
    pub(super) fn bare(inner: F) -> Self {
        Self { inner: Some(inner), span: Span::none(), asked: Asked::default(), trail: None }
    }

    pub(super) const fn new(inner: F, span: Span, asked: Asked, trail: Option<Trail>) -> Self {
        Self { inner: Some(inner), span, asked, trail }
    }

    /// Dropped without an outcome: by its caller, or by the deadline above it.
    fn give_up(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.span.is_disabled() || this.inner.is_none() {
            return;
        }
        // The clock is asked only where a deadline may have passed.
        if this.asked.deadline.is_some() && this.asked.dropped(now()) == Verdict::TIMED_OUT {
            outcome::record_timeout(this.span);
        }
        record_peer(this.span, *this.trail);
        // What the layers below report while they are dropped belongs to the span.
        let _entered = this.span.enter();
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
        if this.span.is_disabled() {
            return inner.poll(cx).map_err(Into::into);
        }
        let entered = this.span.enter();
        let polled = match this.trail {
            Some(trail) => trail.enter(|| inner.poll(cx)),
            None => inner.poll(cx),
        };
        let outcome = ready!(polled).map_err(Into::into);
        this.inner.set(None);
        drop(entered);
        outcome::record(this.span, &outcome);
        record_peer(this.span, *this.trail);
        // Ended here and not by whoever drops this future, who may keep it.
        *this.span = Span::none();
        Poll::Ready(outcome)
    }
}
