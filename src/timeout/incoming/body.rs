//! The bodies of a server's responses.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::answer::overdue_trailers;
use crate::{
    error::BoxError,
    event::{Event, Observer},
    time::now,
    timeout::{
        Elapsed,
        body::{Bounded, BoundedBody, Http, Limit},
    },
};

pin_project! {
    /// A response's body: the service's own, which ends at the deadline of its request, or the
    /// problem that is answered in its place.
    ///
    /// What is cut off ends with [`Elapsed`], or for gRPC with the trailers of
    /// `DEADLINE_EXCEEDED`.
    #[derive(Debug)]
    pub struct IncomingBody<B> {
        #[pin]
        shape: Shape<B>,
    }
}

pin_project! {
    #[project = ShapeProj]
    #[derive(Debug)]
    enum Shape<B> {
        Free { #[pin] body: B },
        Bounded { #[pin] body: BoundedBody<B>, cut: Cut },
        Own { bytes: Bytes },
    }
}

/// What is to be done when the deadline passes.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) deadline: Instant,
    pub(super) began: Instant,
    pub(super) grpc: bool,
    pub(super) observer: Observer,
}

impl Cut {
    fn limit(&self) -> Duration {
        self.deadline.saturating_duration_since(self.began)
    }

    /// Whether the body was cut off by the deadline, not by a shorter one of a call that the
    /// body comes from.
    fn made(&self, error: &BoxError) -> bool {
        error.is::<Elapsed>() && now() >= self.deadline
    }
}

impl<B> IncomingBody<B> {
    pub(super) const fn own(bytes: Bytes) -> Self {
        Self { shape: Shape::Own { bytes } }
    }

    pub(super) const fn free(body: B) -> Self {
        Self { shape: Shape::Free { body } }
    }

    pub(super) fn bound(response: Response<B>, cut: Cut) -> Response<Self> {
        let limit = Limit::until(cut.deadline, cut.began);
        Http::limit(response, limit).map(|body| Self { shape: Shape::Bounded { body, cut } })
    }
}

impl<B> Body for IncomingBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut shape = self.project().shape;
        let (frame, cut) = match shape.as_mut().project() {
            ShapeProj::Free { body } => {
                let frame = ready!(body.poll_frame(cx));
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
            ShapeProj::Own { bytes } => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into()))));
            }
            ShapeProj::Bounded { body, cut } => (ready!(body.poll_frame(cx)), cut),
        };
        match frame {
            Some(Err(error)) if cut.made(&error) => {
                cut.observer.on(|| Event::Overdue { stage: "body_dropped", limit: cut.limit() });
                if !cut.grpc {
                    return Poll::Ready(Some(Err(error)));
                }
                shape.set(Shape::Own { bytes: Bytes::new() });
                Poll::Ready(Some(Ok(Frame::trailers(overdue_trailers()))))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.shape {
            Shape::Free { body } => body.is_end_stream(),
            Shape::Bounded { body, .. } => body.is_end_stream(),
            Shape::Own { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.shape {
            Shape::Free { body } => body.size_hint(),
            Shape::Bounded { body, .. } => body.size_hint(),
            Shape::Own { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
