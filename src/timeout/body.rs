//! The deadline of a response's body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::{Elapsed, Which};
use crate::{
    body::TakeWhole,
    classify::Sent,
    error::BoxError,
    time::{Sleep, now},
};

/// How responses of one kind are bounded: [`Http`] by their body, [`Plain`] ones not at all.
pub trait Bounded<T> {
    /// The response with its limit.
    type Limited;

    /// Puts the limit into the response.
    fn limit(response: T, limit: Limit) -> Self::Limited;
}

/// HTTP responses: the deadline holds to the last byte of the body.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Http;

/// Responses that are whole when they come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plain;

impl<T> Bounded<T> for Plain {
    type Limited = T;

    fn limit(response: T, _: Limit) -> T {
        response
    }
}

impl<B> Bounded<Response<B>> for Http {
    type Limited = Response<BoundedBody<B>>;

    fn limit(response: Response<B>, limit: Limit) -> Self::Limited {
        response.map(|body| BoundedBody { body: Some(body), sleep: None, limit })
    }
}

/// The limit on a body: an instant for the whole, or the longest silence.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    span: Span,
}

#[derive(Clone, Copy, Debug)]
enum Span {
    Until { deadline: Instant, limit: Duration },
    Idle(Duration),
}

impl Limit {
    pub(super) const fn until(deadline: Instant, limit: Duration) -> Self {
        Self { span: Span::Until { deadline, limit } }
    }

    pub(super) const fn idle(limit: Duration) -> Self {
        Self { span: Span::Idle(limit) }
    }

    /// When to give up on a body that is silent as of `now`.
    fn expiry(&self, now: Instant) -> Instant {
        match self.span {
            Span::Until { deadline, .. } => deadline,
            Span::Idle(limit) => now + limit,
        }
    }

    fn elapsed(&self) -> Elapsed {
        // The head has come: the service answered for the request.
        match self.span {
            Span::Until { limit, .. } => Elapsed::new(Which::Body, limit, Sent::Processed),
            Span::Idle(limit) => Elapsed::new(Which::Idle, limit, Sent::Processed),
        }
    }
}

pin_project! {
    /// A response's body that ends with [`Elapsed`] when its limit passes.
    ///
    /// The timer starts when the body is first waited for; a body that is there costs none.
    #[derive(Debug)]
    pub struct BoundedBody<B> {
        #[pin]
        body: Option<B>,
        #[pin]
        sleep: Option<Sleep>,
        limit: Limit,
    }
}

impl<B: TakeWhole> TakeWhole for BoundedBody<B> {
    fn take_whole(&mut self) -> Option<Bytes> {
        self.body.as_mut()?.take_whole()
    }
}

impl<B> Body for BoundedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = body.poll_frame(cx) {
            if let Span::Idle(_) = this.limit.span {
                this.sleep.set(None);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.sleep.is_none() {
            this.sleep.set(Some(Sleep::until(this.limit.expiry(now()))));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        // Dropped at its time, so that what it holds can tell our deadline from a caller who
        // lost interest.
        this.body.set(None);
        Poll::Ready(Some(Err(this.limit.elapsed().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
