//! A head, and what follows it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use super::{error::BrokenAnswer, peek::Settings, peeked::Peeked};
use crate::{
    classify::GrpcCode,
    error::BoxError,
    time::{Sleep, after, now},
};

pin_project! {
    /// The response to come of [`Peek`](super::Peek).
    #[must_use = "futures do nothing unless polled"]
    pub struct PeekFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B> {
        Head {
            #[pin]
            inner: F,
            // None if no frame is waited for.
            settings: Option<Settings>,
        },
        Frame {
            // None once it is done.
            response: Option<Response<B>>,
            #[pin]
            patience: Option<Sleep>,
        },
    }
}

impl<F, B> PeekFuture<F, B> {
    pub(super) const fn new(inner: F, settings: Option<Settings>) -> Self {
        Self { state: State::Head { inner, settings } }
    }
}

impl<F, B, E> Future for PeekFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Peeked<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Head { inner, settings } => {
                    let response = ready!(inner.poll(cx)).map_err(Into::into)?;
                    let Some(settings) = settings.filter(|_| is_open(&response)) else {
                        return Poll::Ready(Ok(response.map(Peeked::untouched)));
                    };
                    let patience = settings.patience.map(|span| Sleep::until(after(now(), span)));
                    state.set(State::Frame { response: Some(response), patience });
                }
                StateProj::Frame { response: slot, patience } => {
                    let response = slot.as_mut().expect("a future is not polled after its end");
                    let first = first_frame(response.body_mut(), cx);
                    if first.is_pending() {
                        // Looked at after the body: what has come by now was in time.
                        match patience.as_pin_mut() {
                            Some(patience) => ready!(patience.poll(cx)),
                            None => return Poll::Pending,
                        }
                    }
                    let response = slot.take().expect("it was there a line ago");
                    return Poll::Ready(match first {
                        Poll::Ready(first) => join(response, first).map_err(Into::into),
                        Poll::Pending => Ok(response.map(Peeked::untouched)),
                    });
                }
            }
        }
    }
}

/// Whether the status is still to come.
fn is_open<B: Body>(response: &Response<B>) -> bool {
    response.status() == StatusCode::OK
        && GrpcCode::of(response.headers()).is_none()
        && !response.body().is_end_stream()
}

type First<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// The first frame that says something: one without bytes does not even begin a message.
fn first_frame<B: Body + Unpin>(body: &mut B, cx: &mut Context<'_>) -> Poll<First<B>> {
    loop {
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_empty =
            |frame: &Frame<B::Data>| frame.data_ref().is_some_and(|data| !data.has_remaining());
        if !matches!(&frame, Some(Ok(frame)) if is_empty(frame)) {
            return Poll::Ready(frame);
        }
    }
}

/// The head and what followed it.
fn join<B>(response: Response<B>, first: First<B>) -> Result<Response<Peeked<B>>, BrokenAnswer>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = response.into_parts();
    let body = match first {
        Some(Err(error)) => return Err(BrokenAnswer::new(error.into())),
        None => Peeked::ended(body),
        Some(Ok(frame)) => match failed_trailers(frame) {
            Ok(trailers) => {
                append(&mut head.headers, trailers);
                Peeked::ended(body)
            }
            Err(frame) => Peeked::behind(frame, body),
        },
    };
    Ok(Response::from_parts(head, body))
}

/// The trailers of a failure, or else the frame as it came.
fn failed_trailers<D>(frame: Frame<D>) -> Result<HeaderMap, Frame<D>> {
    let succeeded = |trailers| GrpcCode::of(trailers) == Some(GrpcCode::Ok);
    if frame.trailers_ref().is_some_and(succeeded) { Err(frame) } else { frame.into_trailers() }
}

/// Adds all values of all names: two wishes to be left alone are not one.
fn append(headers: &mut HeaderMap, trailers: HeaderMap) {
    let mut last = None;
    for (name, value) in trailers {
        last = name.or(last);
        if let Some(name) = &last {
            headers.append(name, value);
        }
    }
}
