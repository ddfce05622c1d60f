//! A body of which some, or all, lies in memory.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;

use crate::error::BoxError;

pin_project! {
    /// A request's or response's body as this layer hands it on: as it came, or read into
    /// memory, up to a cap.
    #[derive(Debug)]
    pub struct HeldBody<B> {
        read: Bytes,
        #[pin]
        next: Next<B>,
    }
}

pin_project! {
    /// What comes after the bytes that were read.
    #[project = NextProjection]
    #[derive(Debug)]
    enum Next<B> {
        Rest { #[pin] body: B },
        Trailers { trailers: Option<HeaderMap> },
        Error { error: Option<BoxError> },
        Nothing,
    }
}

impl<B> HeldBody<B> {
    /// As it came.
    pub(super) const fn passed(body: B) -> Self {
        Self { read: Bytes::new(), next: Next::Rest { body } }
    }

    pub(super) const fn whole(read: Bytes) -> Self {
        Self { read, next: Next::Nothing }
    }
}

impl<B> From<Bytes> for HeldBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::whole(bytes)
    }
}

/// How the reading of a body ended.
#[derive(Debug)]
pub(super) enum Read<B> {
    /// These are its bytes, and this is the body with what may stand behind them.
    Whole(Bytes, HeldBody<B>),
    /// It is longer than the cap: what was read, and the rest as it comes.
    Over(HeldBody<B>),
    /// It broke off: what was read, and the error.
    Broken(HeldBody<B>),
}

/// Reads a body, up to `cap` bytes of it.
pub(super) async fn read<B>(mut body: B, cap: usize) -> Read<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > cap as u64 {
        return Read::Over(HeldBody::passed(body));
    }
    let mut first = Bytes::new();
    // Only a second piece needs a buffer.
    let mut many = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                let next = Next::Error { error: Some(error.into()) };
                return Read::Broken(HeldBody { read: joined(first, many), next });
            }
        };
        match frame.into_data() {
            Ok(mut data) => {
                let piece = data.copy_to_bytes(data.remaining());
                let over = first.len() + many.len() + piece.len() > cap;
                if first.is_empty() && many.is_empty() {
                    first = piece;
                } else {
                    many.extend_from_slice(&std::mem::take(&mut first));
                    many.extend_from_slice(&piece);
                }
                if over {
                    let next = Next::Rest { body };
                    return Read::Over(HeldBody { read: joined(first, many), next });
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    let read = joined(first, many);
    let next = match trailers {
        None => Next::Nothing,
        trailers => Next::Trailers { trailers },
    };
    Read::Whole(read.clone(), HeldBody { read, next })
}

fn joined(first: Bytes, many: BytesMut) -> Bytes {
    if many.is_empty() { first } else { many.freeze() }
}

impl<B> Body for HeldBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if !this.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(this.read)))));
        }
        let frame = match this.next.as_mut().project() {
            NextProjection::Rest { body } => ready!(body.poll_frame(cx)).map(|frame| {
                frame
                    .map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
                    .map_err(Into::into)
            }),
            NextProjection::Trailers { trailers } => {
                trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))
            }
            NextProjection::Error { error } => error.take().map(Err),
            NextProjection::Nothing => None,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty()
            && match &self.next {
                Next::Rest { body } => body.is_end_stream(),
                Next::Trailers { trailers } => trailers.is_none(),
                Next::Error { error } => error.is_none(),
                Next::Nothing => true,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.len() as u64;
        match &self.next {
            Next::Rest { body } => {
                let rest = body.size_hint();
                let mut hint = SizeHint::new();
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint.set_lower(rest.lower().saturating_add(read));
                hint
            }
            // It was to be longer, and nobody knows by how much.
            Next::Error { .. } => {
                let mut hint = SizeHint::new();
                hint.set_lower(read);
                hint
            }
            Next::Trailers { .. } | Next::Nothing => SizeHint::with_exact(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io};

    use http::HeaderValue;

    use super::*;

    /// A body of these frames, in a hurry.
    struct Pieces(VecDeque<Result<Frame<Bytes>, io::Error>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn end() -> Result<Frame<Bytes>, io::Error> {
        Ok(Frame::trailers(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from(1))])))
    }

    fn broken() -> Result<Frame<Bytes>, io::Error> {
        Err(io::ErrorKind::ConnectionReset.into())
    }

    async fn read_of<const N: usize>(frames: [Result<Frame<Bytes>, io::Error>; N]) -> Read<Pieces> {
        read(Pieces(frames.into()), 4).await
    }

    /// What comes out: bytes, trailers, and whether it broke.
    async fn out(mut body: HeldBody<Pieces>) -> (Vec<u8>, bool, bool) {
        let (mut bytes, mut trailers, mut failed) = (Vec::new(), false, false);
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data),
                Ok(Err(_)) => trailers = true,
                Err(_) => failed = true,
            }
        }
        (bytes, trailers, failed)
    }

    #[tokio::test]
    async fn a_body_that_fits_is_whole_with_its_trailers() {
        for (frames, expected) in
            [([data("abcd"), end()], "abcd"), ([data("ab"), data("cd")], "abcd")]
        {
            let trailed = frames[1].as_ref().is_ok_and(Frame::is_trailers);
            let Read::Whole(bytes, body) = read_of(frames).await else { panic!("it fits") };
            assert_eq!(bytes, expected);
            assert_eq!(body.size_hint().exact(), Some(4));
            assert_eq!(out(body).await, (expected.into(), trailed, false));
        }
        let Read::Whole(bytes, body) = read_of([]).await else { panic!("it fits") };
        assert!(bytes.is_empty() && body.is_end_stream());
    }

    #[tokio::test]
    async fn a_body_past_the_cap_goes_on_with_nothing_lost() {
        let frames = [data("ab"), data("cde"), data("fg"), end()];
        let Read::Over(body) = read_of(frames).await else { panic!("it does not fit") };
        assert_eq!(body.size_hint().lower(), 5);
        assert_eq!(out(body).await, (b"abcdefg".into(), true, false));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_breaks_off_where_it_did() {
        let Read::Broken(body) = read_of([data("ab"), broken()]).await else { panic!("broken") };
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(out(body).await, (b"ab".into(), false, true));
    }

    #[tokio::test]
    async fn a_body_that_announces_too_much_is_not_touched() {
        let full = http_body_util::Full::new(Bytes::from("abcde"));
        assert!(matches!(read(full, 4).await, Read::Over(_)));
    }
}
