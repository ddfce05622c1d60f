//! First the head, then the body.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderMap, Response, response::Parts};
use pin_project_lite::pin_project;

use super::{error::BrokenBody, over::Over, state::Pieces};
use crate::{body::Body, error::BoxError};

pin_project! {
    /// The response to come of [`Collect`](super::Collect).
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct CollectFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = Project]
    #[derive(Debug)]
    enum State<F, B> {
        Head { #[pin] inner: F, cap: Option<usize> },
        Body { collecting: Option<Collecting<B>> },
    }
}

/// A response whose body is being read.
#[derive(Debug)]
pub(crate) struct Collecting<B> {
    parts: Parts,
    body: B,
    pieces: Pieces,
    trailers: Option<HeaderMap>,
}

/// How the reading of a body ended.
enum End {
    Whole,
    /// This piece did not fit.
    Over(bytes::Bytes),
}

impl<F, B> CollectFuture<F, B> {
    /// Collects up to `cap` bytes, or not at all.
    pub(super) const fn new(inner: F, cap: Option<usize>) -> Self {
        Self { state: State::Head { inner, cap } }
    }
}

impl<F, B, E> Future for CollectFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                Project::Head { inner, cap } => {
                    let response = ready!(inner.poll(cx)).map_err(Into::into)?;
                    let Some(cap) = *cap else {
                        return Poll::Ready(Ok(response.map(Body::new)));
                    };
                    match Collecting::begin(response, cap) {
                        ControlFlow::Break(response) => return Poll::Ready(Ok(response)),
                        ControlFlow::Continue(begun) => {
                            state.set(State::Body { collecting: Some(begun) });
                        }
                    }
                }
                Project::Body { collecting } => {
                    return Collecting::poll_whole(collecting, cx).map_err(Into::into);
                }
            }
        }
    }
}

impl<B> Collecting<B>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Begins to collect up to `cap` bytes of a response's body, unless there is nothing to
    /// collect or it is known not to fit: then the response is handed on as it is.
    #[inline]
    pub(crate) fn begin(response: Response<B>, cap: usize) -> ControlFlow<Response<Body>, Self> {
        if response.body().size_hint().lower() > cap as u64 {
            return ControlFlow::Break(response.map(Body::new));
        }
        if response.body().is_end_stream() {
            return ControlFlow::Break(response.map(|_| Body::empty()));
        }
        let (parts, body) = response.into_parts();
        let pieces = Pieces::new(cap);
        ControlFlow::Continue(Self { parts, body, pieces, trailers: None })
    }

    /// Reads on to the end of the body, or of what fits, and makes the response of it.
    pub(crate) fn poll_whole(
        slot: &mut Option<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Body>, BrokenBody>> {
        let collecting = slot.as_mut().expect("a body is not collected after its end");
        let end = ready!(collecting.poll(cx));
        let collected = slot.take().expect("it was there a line ago");
        Poll::Ready(end.map(|end| collected.finish(end)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, BrokenBody>> {
        while let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            let frame = frame.map_err(|error| BrokenBody::new(self.pieces.len(), error.into()))?;
            match frame.into_data() {
                Ok(mut data) => {
                    let piece = data.copy_to_bytes(data.remaining());
                    let rest = self.body.size_hint().lower();
                    if let Err(piece) = self.pieces.push(piece, rest) {
                        return Poll::Ready(Ok(End::Over(piece)));
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok().or(self.trailers.take()),
            }
        }
        Poll::Ready(Ok(End::Whole))
    }

    fn finish(mut self, end: End) -> Response<Body> {
        let read = self.pieces.take();
        let body = match (end, self.trailers) {
            (End::Over(piece), _) => Body::new(Over { read, piece, rest: self.body }),
            (End::Whole, Some(trailers)) => Body::with_trailers(read, trailers),
            (End::Whole, None) => Body::full(read),
        };
        Response::from_parts(self.parts, body)
    }
}
