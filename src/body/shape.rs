//! The client's own body.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use pin_project_lite::pin_project;

use super::TakeWhole;
use crate::{
    error::BoxError,
    sync::{Mutex, lock},
};

/// A request's or response's body: empty, whole in memory, or a stream of pieces.
///
/// The first two cost no allocation, and can be sent again at none.
///
/// It is [`Sync`], since some of those who box bodies ask for it
/// (`reqwest::Body::wrap`), although what is boxed [here](Self::new) need not be.
#[derive(Default)]
pub struct Body {
    shape: Shape,
}

#[derive(Default)]
enum Shape {
    #[default]
    Empty,
    Full(Bytes),
    // Boxed, so that the rare trailers don't make every body large.
    Trailed(Box<Trailed>),
    // The lock is what makes it `Sync`. Who reads the body has it alone and takes none; only who
    // asks for its length does.
    Stream(Mutex<Streamed>),
}

type Streamed = UnsyncBoxBody<Bytes, BoxError>;

/// Apart from the rest: a body in memory, as most are, is asked without a call.
#[inline(never)]
fn ask<T>(body: &Mutex<Streamed>, what: fn(&Streamed) -> T) -> T {
    what(&lock(body))
}

/// Whole in memory, with trailers. The bytes are gone first.
struct Trailed {
    bytes: Bytes,
    trailers: HeaderMap,
}

impl Body {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self { shape: Shape::Empty }
    }

    /// A body whole in memory.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { shape: if bytes.is_empty() { Shape::Empty } else { Shape::Full(bytes) } }
    }

    /// A body whole in memory that ends with trailers.
    #[must_use]
    pub fn with_trailers(bytes: impl Into<Bytes>, trailers: HeaderMap) -> Self {
        Self { shape: Shape::Trailed(Box::new(Trailed { bytes: bytes.into(), trailers })) }
    }

    /// Any other body, boxed. One that is a [`Body`](Self) already stays as it is.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        if let Some(body) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return body.take().unwrap_or_default();
        }
        let body = body.expect("it was put there above");
        Self { shape: Shape::Stream(Mutex::new(UnsyncBoxBody::new(Plain { body }))) }
    }

    /// The whole body, if it is in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.shape {
            Shape::Empty => Some(&[]),
            Shape::Full(bytes) => Some(bytes),
            Shape::Trailed(trailed) => Some(&trailed.bytes),
            Shape::Stream(_) => None,
        }
    }

    /// All of it, if it is in memory, without trailers, and no longer than `cap` bytes.
    #[inline]
    pub(crate) fn whole_up_to(&self, cap: usize) -> Option<Bytes> {
        match &self.shape {
            Shape::Empty => Some(Bytes::new()),
            Shape::Full(bytes) if bytes.len() <= cap => Some(bytes.clone()),
            // Trailers would be lost, and a stream is not whole.
            Shape::Full(_) | Shape::Trailed(_) | Shape::Stream(_) => None,
        }
    }

    /// Reads the body to its end. Trailers are dropped.
    ///
    /// # Errors
    ///
    /// The body's own, among them that the call's deadline passed while it was read.
    pub async fn collect(self) -> Result<Bytes, BoxError> {
        match self.shape {
            Shape::Empty => Ok(Bytes::new()),
            Shape::Full(bytes) => Ok(bytes),
            Shape::Trailed(trailed) => Ok(trailed.bytes),
            Shape::Stream(body) => {
                let body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
                Ok(body.collect().await?.to_bytes())
            }
        }
    }
}

impl TakeWhole for Body {
    fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.shape {
            Shape::Empty => Some(Bytes::new()),
            Shape::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.shape = Shape::Empty;
                Some(bytes)
            }
            // Trailers would be lost, and a stream is not whole.
            Shape::Trailed(_) | Shape::Stream(_) => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let shape = &mut self.get_mut().shape;
        match shape {
            Shape::Empty => Poll::Ready(None),
            Shape::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *shape = Shape::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Shape::Trailed(trailed) if !trailed.bytes.is_empty() => {
                let bytes = std::mem::take(&mut trailed.bytes);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Shape::Trailed(trailed) => {
                let trailers = std::mem::take(&mut trailed.trailers);
                *shape = Shape::Empty;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Shape::Stream(body) => {
                let body = body.get_mut().unwrap_or_else(PoisonError::into_inner);
                Pin::new(body).poll_frame(cx)
            }
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.shape {
            Shape::Empty => true,
            Shape::Full(_) | Shape::Trailed(_) => false,
            Shape::Stream(body) => ask(body, Streamed::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.shape {
            Shape::Empty => SizeHint::with_exact(0),
            Shape::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Shape::Trailed(trailed) => SizeHint::with_exact(trailed.bytes.len() as u64),
            Shape::Stream(body) => ask(body, Streamed::size_hint),
        }
    }
}

pin_project! {
    /// A body of [`Bytes`] and [`BoxError`]. The combinators of http-body-util that do the same
    /// lose the length, so an upload would have no `Content-Length`.
    struct Plain<B> {
        #[pin]
        body: B,
    }
}

impl<B> http_body::Body for Plain<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project()
            .body
            .poll_frame(cx)
            .map_ok(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            .map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.shape {
            Shape::Empty => "Body(empty)",
            Shape::Full(bytes) => return write!(f, "Body({} bytes)", bytes.len()),
            Shape::Trailed(trailed) => {
                return write!(f, "Body({} bytes, trailers)", trailed.bytes.len());
            }
            Shape::Stream(_) => "Body(stream)",
        })
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

macro_rules! body_from {
    ($($bytes:ty),*) => {$(
        impl From<$bytes> for Body {
            fn from(bytes: $bytes) -> Self {
                Self::full(bytes)
            }
        }
    )*};
}

body_from!(Bytes, &'static [u8], &'static str, Vec<u8>, String);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn frames(mut body: Body) -> Vec<Frame<Bytes>> {
        let mut frames = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) =
            http_body::Body::poll_frame(Pin::new(&mut body), &mut cx)
        {
            frames.push(frame.expect("bodies in memory don't fail"));
        }
        frames
    }

    #[test]
    fn is_whole_up_to_a_cap_in_memory_and_without_trailers() {
        let full = Body::full("four");
        assert_eq!(full.whole_up_to(4).as_deref(), Some(&b"four"[..]));
        assert_eq!(full.whole_up_to(3), None);
        assert_eq!(Body::empty().whole_up_to(0), Some(Bytes::new()));
        assert_eq!(Body::with_trailers("four", HeaderMap::new()).whole_up_to(4), None);
        assert_eq!(full.as_bytes(), Some(&b"four"[..]), "it stays where it is");
    }

    #[test]
    fn a_body_of_our_own_is_not_boxed_again() {
        let body = Body::new(Body::full("hello"));
        assert_eq!(body.as_bytes(), Some(&b"hello"[..]));
    }

    #[test]
    fn a_boxed_body_keeps_its_length() {
        let body = Body::new(http_body_util::Full::new(Bytes::from("hello")));
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(5));
    }

    /// Goal: reqwest takes such a body as it is, of a stream that is not `Sync` itself as well.
    #[test]
    fn a_body_may_be_shared_whatever_is_in_it() {
        const fn shared<T: Send + Sync>(_: &T) {}
        struct Alone(std::cell::Cell<Option<Bytes>>);
        impl http_body::Body for Alone {
            type Data = Bytes;
            type Error = BoxError;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
                Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
            }
        }
        let body = Body::new(Alone(std::cell::Cell::new(Some(Bytes::from("hello")))));
        shared(&body);
        shared(&crate::body::ReplayBody::once(Body::empty()));
        let [piece] = &frames(body)[..] else { panic!("one frame") };
        assert_eq!(piece.data_ref(), Some(&Bytes::from("hello")));
    }

    #[test]
    fn trailers_come_after_the_bytes() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from(1))]);
        let frames_of = |bytes| frames(Body::with_trailers(bytes, trailers.clone()));
        let [data, end] = &frames_of("hello")[..] else { panic!("two frames") };
        assert_eq!(data.data_ref(), Some(&Bytes::from("hello")));
        assert_eq!(end.trailers_ref(), Some(&trailers));
        let [end] = &frames_of("")[..] else { panic!("no frame for no bytes") };
        assert_eq!(end.trailers_ref(), Some(&trailers));
    }
}
