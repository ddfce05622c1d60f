//! A server of gRPC in memory, which answers as it is told: heads, messages and trailers.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use buttress::{
    BoxError,
    call::{Carrier, HttpHead, mark_handed_over},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tower::Service;

use super::company::{lock, now};

/// What comes of an answer after its head.
#[derive(Clone, Debug)]
pub enum Piece {
    Message(Bytes),
    Trailers(HeaderMap),
    Wait(Duration),
    /// Silence for ever.
    Stall,
    /// It breaks off.
    Break,
}

/// Headers or trailers.
pub fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    map
}

/// Trailers with a status alone.
pub fn status(code: u8) -> Piece {
    Piece::Trailers(fields([("grpc-status", &*code.to_string())]))
}

pub fn message(text: &'static str) -> Piece {
    Piece::Message(Bytes::from_static(text.as_bytes()))
}

/// A head that promises nothing, and then these pieces.
pub fn answer(pieces: impl IntoIterator<Item = Piece>) -> Response<Frames> {
    let body = Frames { left: pieces.into_iter().collect(), sleep: None };
    let mut response = Response::new(body);
    response.headers_mut().extend(fields([("content-type", "application/grpc")]));
    response
}

/// A head with a status, and nothing else.
pub fn trailers_only(code: u8) -> Response<Frames> {
    let mut response = answer([]);
    response.headers_mut().extend(fields([("grpc-status", &*code.to_string())]));
    response
}

/// The body of an answer.
#[derive(Debug)]
pub struct Frames {
    left: VecDeque<Piece>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.left.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Message(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Piece::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Some(Piece::Wait(wait)) => self.sleep = Some(Box::pin(sleep(wait))),
                Some(Piece::Stall) => {
                    self.left.push_front(Piece::Stall);
                    return Poll::Pending;
                }
                Some(Piece::Break) => {
                    let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.sleep.is_none()
    }
}

/// What the server saw of an attempt.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub headers: HeaderMap,
}

/// Answers the attempt of this number, from 0; none is silence for ever.
type Script = dyn Fn(usize) -> Option<Result<Response<Frames>, BoxError>> + Send + Sync;

/// The server.
#[derive(Clone)]
pub struct Scripted {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    pub fn new(script: impl Fn(usize) -> Response<Frames> + Send + Sync + 'static) -> Self {
        Self::with(move |nth| Some(Ok(script(nth))))
    }

    pub fn with(
        script: impl Fn(usize) -> Option<Result<Response<Frames>, BoxError>> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Arc::new(script), seen: Arc::default() }
    }

    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    pub fn attempts(&self) -> usize {
        lock(&self.seen).len()
    }
}

impl<C> Service<C> for Scripted
where
    C: Carrier,
    C::Request: HttpHead,
{
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: C) -> Answering {
        let mut seen = lock(&self.seen);
        let nth = seen.len();
        seen.push(Seen { at: now(), headers: call.request().headers().clone() });
        drop(seen);
        Answering { answer: (self.script)(nth) }
    }
}

/// Handed over at its first poll.
pub struct Answering {
    answer: Option<Result<Response<Frames>, BoxError>>,
}

impl Future for Answering {
    type Output = Result<Response<Frames>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        mark_handed_over();
        self.answer.take().map_or(Poll::Pending, Poll::Ready)
    }
}
