//! A body that is read before anybody asks for it.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// What one piece takes besides its bytes (a frame has the size of a map of headers): so that
/// many small ones are no more memory, and no more work, than few large ones.
const PIECE: usize = 128;

pin_project! {
    /// A body as it comes, or one that was begun to be read.
    #[derive(Debug)]
    #[project = SourceProj]
    pub(super) enum Source<B>
    where
        B: Body,
    {
        AsItComes { #[pin] body: B },
        // In a box: only answers that failed are read ahead.
        Ahead { ahead: Pin<Box<Ahead<B>>> },
    }
}

pin_project! {
    /// What was read of a body, in front of its rest.
    pub(super) struct Ahead<B>
    where
        B: Body,
    {
        read: VecDeque<Piece<B>>,
        // None when no more is to be read ahead.
        room: Option<usize>,
        over: bool,
        #[pin]
        rest: B,
    }
}

type Piece<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

impl<B: Body> Source<B> {
    /// A body of which up to `limit` bytes may be read ahead. One that is known to be longer is
    /// not begun, and one that is known to be empty needs it not.
    pub(super) fn ahead(body: B, limit: usize) -> Self {
        let fits = limit > 0 && body.size_hint().lower() <= limit as u64;
        if body.is_end_stream() || !fits {
            return Self::AsItComes { body };
        }
        let (read, room) = (VecDeque::new(), Some(limit));
        Self::Ahead { ahead: Box::pin(Ahead { read, room, over: false, rest: body }) }
    }

    /// Reads on, to the end of the body or of what may be read ahead.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::AsItComes { .. } => Poll::Ready(()),
            Self::Ahead { ahead } => ahead.as_mut().poll_read(cx),
        }
    }

    /// Whether nothing of it is to come any more, from whoever sends it.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::AsItComes { body } => body.is_end_stream(),
            Self::Ahead { ahead } => ahead.over,
        }
    }

    pub(super) fn get_ref(&self) -> &B {
        match self {
            Self::AsItComes { body } => body,
            Self::Ahead { ahead } => &ahead.rest,
        }
    }
}

impl<B: Body> Ahead<B> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        while let Some(room) = this.room.take().filter(|_| !*this.over) {
            let Poll::Ready(piece) = this.rest.as_mut().poll_frame(cx) else {
                *this.room = Some(room);
                return Poll::Pending;
            };
            let Some(piece) = piece else {
                *this.over = true;
                break;
            };
            *this.over = piece.is_err() || this.rest.is_end_stream();
            *this.room = room.checked_sub(size(&piece));
            this.read.push_back(piece);
        }
        Poll::Ready(())
    }
}

fn size<D: Buf, E>(piece: &Result<Frame<D>, E>) -> usize {
    let data = piece.as_ref().ok().and_then(Frame::data_ref);
    data.map_or(0, Buf::remaining).saturating_add(PIECE)
}

impl<B: Body> Body for Ahead<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece<B>>> {
        let this = self.project();
        if let Some(piece) = this.read.pop_front() {
            return Poll::Ready(Some(piece));
        }
        if *this.over {
            return Poll::Ready(None);
        }
        let piece = ready!(this.rest.poll_frame(cx));
        *this.over = !matches!(piece, Some(Ok(_)));
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && (self.over || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let data = |piece: &Piece<B>| match piece {
            Ok(frame) => frame.data_ref().map_or(0, Buf::remaining) as u64,
            Err(_) => 0,
        };
        let read: u64 = self.read.iter().map(data).sum();
        let rest = if self.over { SizeHint::with_exact(0) } else { self.rest.size_hint() };
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(rest.lower().saturating_add(read));
        hint
    }
}

impl<B: Body> Body for Source<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline(always)]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project() {
            SourceProj::AsItComes { body } => body.poll_frame(cx),
            SourceProj::Ahead { ahead } => next_ahead(ahead, cx),
        }
    }

    #[inline(always)]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::AsItComes { body } => body.is_end_stream(),
            Self::Ahead { ahead } => is_end_ahead(ahead),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::AsItComes { body } => body.size_hint(),
            Self::Ahead { ahead } => ahead.size_hint(),
        }
    }
}

// Hardly any body is one of these: their reading stays out of that of all others.
#[cold]
fn next_ahead<B: Body>(
    ahead: &mut Pin<Box<Ahead<B>>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Piece<B>>> {
    ahead.as_mut().poll_frame(cx)
}

#[cold]
fn is_end_ahead<B: Body>(ahead: &Ahead<B>) -> bool {
    ahead.is_end_stream()
}

impl<B: Body> fmt::Debug for Ahead<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("pieces", &self.read.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io, task::Waker};

    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    /// Gives its pieces, with a pause where there is none.
    struct Pieces {
        pieces: VecDeque<Option<Result<Frame<Bytes>, io::Error>>>,
        polled_after_end: bool,
    }

    fn pieces<const N: usize>(pieces: [Option<Result<Frame<Bytes>, io::Error>>; N]) -> Pieces {
        Pieces { pieces: pieces.into(), polled_after_end: false }
    }

    fn data(bytes: &'static str) -> Option<Result<Frame<Bytes>, io::Error>> {
        Some(Ok(Frame::data(Bytes::from_static(bytes.as_bytes()))))
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            assert!(!self.polled_after_end, "polled after its end");
            match self.pieces.pop_front() {
                Some(Some(piece)) => Poll::Ready(Some(piece)),
                Some(None) => Poll::Pending,
                None => {
                    self.polled_after_end = true;
                    Poll::Ready(None)
                }
            }
        }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// What a reader gets, in words.
    fn read(body: &mut Source<Pieces>) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            said.push(match Pin::new(&mut *body).poll_frame(&mut cx()) {
                Poll::Pending => "pending".to_owned(),
                Poll::Ready(None) => return said,
                Poll::Ready(Some(Err(error))) => error.to_string(),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => String::from_utf8_lossy(&data).into_owned(),
                    Err(_) => "trailers".to_owned(),
                },
            });
        }
    }

    #[test]
    fn what_was_read_ahead_is_all_there_for_its_reader() {
        let trailers = Some(Ok(Frame::trailers(HeaderMap::new())));
        let mut body = Source::ahead(pieces([data("a"), None, data("b"), trailers]), 1024);
        assert!(body.poll_ahead(&mut cx()).is_pending());
        assert!(body.poll_ahead(&mut cx()).is_ready());
        assert!(body.get_ref().polled_after_end, "it was read to its end");
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(2), false));
        assert_eq!(read(&mut body), ["a", "b", "trailers"]);
        assert!(body.is_end_stream());
    }

    #[test]
    fn what_is_longer_is_left_where_it_is_and_goes_on_for_its_reader() {
        let mut body = Source::ahead(pieces([data("ab"), data("cd"), data("ef")]), PIECE + 3);
        assert!(body.poll_ahead(&mut cx()).is_ready());
        assert!(body.poll_ahead(&mut cx()).is_ready());
        assert_eq!(body.get_ref().pieces.len(), 1, "the one that did not fit ended it");
        assert_eq!(read(&mut body), ["ab", "cd", "ef"]);
        assert_eq!(read(&mut body), [""; 0], "and is over");
    }

    #[test]
    fn many_small_pieces_are_as_much_as_a_large_one() {
        let many: [_; 100] = std::array::from_fn(|_| data(""));
        let mut body = Source::ahead(pieces(many), 10 * PIECE);
        assert!(body.poll_ahead(&mut cx()).is_ready());
        assert_eq!(body.get_ref().pieces.len(), 89);
    }

    #[test]
    fn a_body_that_is_known_to_be_longer_or_empty_is_not_begun() {
        let body = || http_body_util::Full::new(Bytes::from("hello"));
        assert!(matches!(Source::ahead(body(), 4), Source::AsItComes { .. }));
        assert!(matches!(Source::ahead(body(), 5), Source::Ahead { .. }));
        let nothing = http_body_util::Full::<Bytes>::default();
        assert!(matches!(Source::ahead(nothing, 5), Source::AsItComes { .. }), "nor an empty one");
        assert!(matches!(Source::ahead(pieces([data("a")]), 0), Source::AsItComes { .. }));
    }

    #[test]
    fn an_error_comes_where_it_came() {
        let broken = Some(Err(io::Error::other("broken")));
        let mut body = Source::ahead(pieces([data("a"), broken, data("b")]), 1024);
        assert!(body.poll_ahead(&mut cx()).is_ready());
        assert_eq!(read(&mut body), ["a", "broken"]);
    }
}
