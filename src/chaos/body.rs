//! Bodies that break off or stall.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{error::broken_off, state::BodyFault};
use crate::error::BoxError;

pin_project! {
    /// The body of an answer that chaos let pass, or struck, or made up.
    #[derive(Debug)]
    pub struct ChaosBody<B> {
        // None for one that was made up, and once it broke off.
        #[pin]
        body: Option<B>,
        fault: Option<Counted>,
    }
}

/// What is left until it happens.
#[derive(Clone, Copy, Debug)]
enum Counted {
    Cut(u64),
    Stall(u64),
}

impl Counted {
    const fn left(&mut self) -> &mut u64 {
        match self {
            Self::Cut(left) | Self::Stall(left) => left,
        }
    }
}

impl<B> ChaosBody<B> {
    pub(super) const fn unharmed(body: B) -> Self {
        Self { body: Some(body), fault: None }
    }

    pub(super) const fn empty() -> Self {
        Self { body: None, fault: None }
    }

    pub(super) const fn struck(body: B, fault: BodyFault) -> Self {
        let counted = match fault {
            BodyFault::Cut(after) => Counted::Cut(after),
            BodyFault::Stall(after) => Counted::Stall(after),
        };
        Self { body: Some(body), fault: Some(counted) }
    }
}

impl<B> Body for ChaosBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let Some(fault) = this.fault else {
            return body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)));
        };
        if *fault.left() > 0 {
            match ready!(body.poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => {
                        let left = fault.left();
                        data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                        *left -= data.len() as u64;
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    // Trailers are its end, and that never comes.
                    Err(_) => *fault.left() = 0,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => *fault.left() = 0,
            }
        }
        match fault {
            Counted::Cut(_) => {
                // Let go of, as a connection that broke is.
                this.body.set(None);
                Poll::Ready(Some(Err(broken_off().into())))
            }
            Counted::Stall(_) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.body, &self.fault) {
            (None, _) => true,
            (Some(body), None) => body.is_end_stream(),
            (Some(_), Some(_)) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            // What was promised stays promised: a `Content-Length` does, too.
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, task::Waker};

    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::error::find;

    type Piece<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

    fn poll<B: Body + Unpin>(body: &mut B) -> Poll<Piece<B>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn data(body: &mut ChaosBody<Full<Bytes>>) -> Bytes {
        match poll(body) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().expect("no trailers"),
            other => panic!("no data: {other:?}"),
        }
    }

    fn hello() -> Full<Bytes> {
        Full::new(Bytes::from("hello"))
    }

    #[test]
    fn breaks_off_after_so_many_bytes_and_then_is_over() {
        for (after, passed) in [(0, ""), (3, "hel"), (5, "hello"), (9, "hello")] {
            let mut body = ChaosBody::struck(hello(), BodyFault::Cut(after));
            assert!(!body.is_end_stream());
            if after > 0 {
                assert_eq!(data(&mut body), passed);
            }
            let Poll::Ready(Some(Err(error))) = poll(&mut body) else { panic!("it goes on") };
            let error = find::<io::Error>(&*error).expect("as a transport says it");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(matches!(poll(&mut body), Poll::Ready(None)) && body.is_end_stream());
        }
    }

    #[test]
    fn the_bytes_of_all_its_pieces_are_counted() {
        let pieces =
            ["hel", "lo ", "you"].map(|piece| Ok::<_, io::Error>(Frame::data(piece.into())));
        let pieces = StreamBody::new(futures_util::stream::iter(pieces));
        let mut body = ChaosBody::struck(pieces, BodyFault::Cut(4));
        let mut passed = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = poll(&mut body) {
            passed.push(frame.into_data().expect("no trailers"));
        }
        assert_eq!(passed, ["hel", "l"]);
    }

    #[test]
    fn a_body_that_breaks_off_never_comes_to_its_trailers() {
        let whole = crate::body::Body::with_trailers("hello", http::HeaderMap::new());
        let mut body = ChaosBody::struck(whole, BodyFault::Cut(9));
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(frame))) if frame.is_data()));
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn stalls_after_so_many_bytes() {
        let mut body = ChaosBody::struck(hello(), BodyFault::Stall(2));
        assert_eq!(data(&mut body), "he");
        assert!(poll(&mut body).is_pending() && poll(&mut body).is_pending());
    }

    #[test]
    fn an_unharmed_body_is_as_it_was() {
        let mut body = ChaosBody::unharmed(hello());
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(data(&mut body), "hello");
        assert!(body.is_end_stream());
        assert!(ChaosBody::<Full<Bytes>>::empty().is_end_stream());
    }
}
