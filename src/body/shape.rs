//! The client's own body.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use crate::error::BoxError;

/// A request's or response's body: empty, whole in memory, or a stream of pieces.
///
/// The first two cost no allocation, and can be sent again at none.
#[derive(Default)]
pub struct Body {
    shape: Shape,
}

#[derive(Default)]
enum Shape {
    #[default]
    Empty,
    Full(Bytes),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
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

    /// Any other body, boxed.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let body = body
            .map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            .map_err(Into::into);
        Self { shape: Shape::Stream(body.boxed_unsync()) }
    }

    /// The whole body, if it is in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.shape {
            Shape::Empty => Some(&[]),
            Shape::Full(bytes) => Some(bytes),
            Shape::Stream(_) => None,
        }
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    ///
    /// The body's own, among them that the call's deadline passed while it was read.
    pub async fn collect(self) -> Result<Bytes, BoxError> {
        match self.shape {
            Shape::Empty => Ok(Bytes::new()),
            Shape::Full(bytes) => Ok(bytes),
            Shape::Stream(body) => Ok(body.collect().await?.to_bytes()),
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
            Shape::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.shape {
            Shape::Empty => true,
            Shape::Full(_) => false,
            Shape::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.shape {
            Shape::Empty => SizeHint::with_exact(0),
            Shape::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Shape::Stream(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.shape {
            Shape::Empty => "Body(empty)",
            Shape::Full(bytes) => return write!(f, "Body({} bytes)", bytes.len()),
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
