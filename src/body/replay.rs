//! A request's body that can be sent again.

use std::{
    any::Any,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::error::ReplayError;
use crate::{
    error::BoxError,
    sync::{Mutex, lock},
};

/// Keeps a request's body for further attempts, up to a cap, while the first one sends it.
///
/// An empty body, and one whole in memory (`Full`, `Bytes`, [`Body`](super::Body)), costs
/// nothing to keep. Any other is recorded while it is sent, and no faster than it is sent: a
/// second reader gets the record first, then continues the stream. Several readers may read at
/// once, each at its own pace.
///
/// A body that passes the cap is sent unharmed; it only can't be sent again.
#[derive(Debug)]
pub struct ReplaySource<B> {
    kept: Kept<B>,
}

#[derive(Debug)]
enum Kept<B> {
    Whole(Bytes),
    Tee(Arc<Mutex<Tee<B>>>),
}

impl<B> Clone for Kept<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Tee(tee) => Self::Tee(Arc::clone(tee)),
        }
    }
}

impl<B> From<Tee<B>> for ReplaySource<B> {
    fn from(tee: Tee<B>) -> Self {
        Self { kept: Kept::Tee(Arc::new(Mutex::new(tee))) }
    }
}

impl<B> ReplaySource<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Keeps `body` for replay, up to `cap` bytes of it.
    pub fn new(mut body: B, cap: usize) -> Self {
        if body.is_end_stream() {
            return Self { kept: Kept::Whole(Bytes::new()) };
        }
        let Some(size) = body.size_hint().exact().filter(|&size| size <= cap as u64) else {
            return Tee::new(body, cap).into();
        };
        // Nothing needs to wake this poll: a body that is pending is polled again by its reader.
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = Pin::new(&mut body).poll_frame(&mut cx) else {
            return Tee::new(body, cap).into();
        };
        // What is taken of a body that is not whole is kept for its first reader.
        let mut tee = match first.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(mut data))) => {
                let piece = data.copy_to_bytes(data.remaining());
                let ended = body.is_end_stream();
                if ended && piece.len() as u64 == size {
                    return Self { kept: Kept::Whole(piece) };
                }
                let mut tee = Tee::new(body, cap);
                tee.record(piece);
                tee.ended = ended;
                return tee.into();
            }
            Some(Ok(Err(frame))) => {
                let mut tee = Tee::new(body, cap);
                tee.trailers = frame.into_trailers().ok();
                tee
            }
            Some(Err(error)) => {
                let mut tee = Tee::new(body, cap);
                tee.error = Some(error.into());
                return tee.into();
            }
            None => Tee::new(body, cap),
        };
        tee.ended = true;
        tee.into()
    }

    /// The body for one more attempt, from its beginning; none if it can't be replayed.
    pub fn reader(&self) -> Option<ReplayBody<B>> {
        self.can_replay().then(|| self.first())
    }

    /// The body for the first attempt, before anything was read of it.
    pub(crate) fn first(&self) -> ReplayBody<B> {
        ReplayBody { reader: Reader::Kept { kept: self.kept.clone(), at: 0 } }
    }

    /// Whether [`ReplaySource::reader`] would give a body.
    pub fn can_replay(&self) -> bool {
        match &self.kept {
            Kept::Whole(_) => true,
            Kept::Tee(tee) => {
                let tee = lock(tee);
                !tee.overflowed && !tee.failed
            }
        }
    }
}

/// A body as one attempt sends it.
#[derive(Debug)]
pub struct ReplayBody<B> {
    reader: Reader<B>,
}

#[derive(Debug)]
enum Reader<B> {
    /// As it came: attempted once, or kept whole beside and attempted for the first time.
    Once(B),
    Kept {
        kept: Kept<B>,
        /// How many recorded pieces this reader has read.
        at: usize,
    },
}

impl<B> ReplayBody<B> {
    /// The body of a request that is attempted once; nothing is kept.
    pub const fn once(body: B) -> Self {
        Self { reader: Reader::Once(body) }
    }
}

impl<B> ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Keeps the body for further attempts, up to `cap` bytes of it, and becomes the first that
    /// sends it. One that is kept already, from its beginning, stays as it is, and so does one that
    /// is `whole`.
    #[inline]
    pub(crate) fn keep(
        &mut self,
        cap: usize,
        whole: impl FnOnce(&B) -> Option<Bytes>,
    ) -> ReplaySource<B> {
        match &self.reader {
            Reader::Once(body) => match whole(body) {
                Some(bytes) => ReplaySource { kept: Kept::Whole(bytes) },
                None => self.record(cap),
            },
            Reader::Kept { kept, at: _ } => ReplaySource { kept: kept.clone() },
        }
    }

    fn record(&mut self, cap: usize) -> ReplaySource<B> {
        let nothing = Reader::Kept { kept: Kept::Whole(Bytes::new()), at: 0 };
        let source = match std::mem::replace(&mut self.reader, nothing) {
            Reader::Once(body) => ReplaySource::new(body, cap),
            Reader::Kept { kept, at: _ } => ReplaySource { kept },
        };
        *self = source.first();
        source
    }
}

/// The stream behind all readers, and what has come out of it.
#[derive(Debug)]
struct Tee<B> {
    body: B,
    /// The record, empty once it passed its cap.
    pieces: Vec<Bytes>,
    /// How many pieces came out, recorded or not.
    passed: usize,
    trailers: Option<HeaderMap>,
    /// An error that came out before there was a reader.
    error: Option<BoxError>,
    recorded: usize,
    cap: usize,
    ended: bool,
    overflowed: bool,
    failed: bool,
    /// Readers that wait for the stream; only the latest of them is known to the stream.
    waiting: Vec<Waker>,
}

impl<B: Body + Unpin> Tee<B>
where
    B::Error: Into<BoxError>,
{
    const fn new(body: B, cap: usize) -> Self {
        Self {
            body,
            passed: 0,
            pieces: Vec::new(),
            trailers: None,
            error: None,
            recorded: 0,
            cap,
            ended: false,
            overflowed: false,
            failed: false,
            waiting: Vec::new(),
        }
    }

    /// The next piece for a reader that has read `at` of them. The readers that are to look
    /// again are added to `woken`.
    fn poll(
        &mut self,
        at: &mut usize,
        cx: &mut Context<'_>,
        woken: &mut Vec<Waker>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.overflowed && *at < self.passed {
            return Poll::Ready(Some(Err(ReplayError::PastCap { cap: self.cap }.into())));
        }
        if let Some(piece) = self.pieces.get(*at) {
            *at += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if self.failed {
            return Poll::Ready(Some(Err(ReplayError::Failed.into())));
        }
        if let Some(error) = self.error.take() {
            self.failed = true;
            return Poll::Ready(Some(Err(error)));
        }
        if self.ended {
            // The trailers stand behind the last piece.
            let first_time = *at == self.passed;
            *at = self.passed + 1;
            let trailers = self.trailers.clone().filter(|_| first_time);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.waiting.retain(|waker| !waker.will_wake(cx.waker()));
        let Poll::Ready(frame) = frame else {
            self.waiting.push(cx.waker().clone());
            return Poll::Pending;
        };
        woken.append(&mut self.waiting);
        match frame {
            None => self.ended = true,
            Some(Err(error)) => {
                self.failed = true;
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    let piece = data.copy_to_bytes(data.remaining());
                    self.record(piece.clone());
                    *at += 1;
                    self.ended = self.body.is_end_stream();
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    self.ended = true;
                }
            },
        }
        self.poll(at, cx, woken)
    }

    fn record(&mut self, piece: Bytes) {
        self.passed += 1;
        self.recorded = self.recorded.saturating_add(piece.len());
        if self.recorded > self.cap {
            self.overflowed = true;
            self.pieces = Vec::new();
        } else {
            self.pieces.push(piece);
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().reader {
            Reader::Once(body) => Pin::new(body).poll_frame(cx).map(|frame| {
                frame.map(|frame| {
                    let frame = frame.map_err(Into::into)?;
                    Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
                })
            }),
            Reader::Kept { kept: Kept::Whole(bytes), .. } => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Reader::Kept { kept: Kept::Tee(tee), at } => {
                let mut woken = Vec::new();
                let frame = lock(tee).poll(at, cx, &mut woken);
                // Not under the lock: to wake a task may drop it, and with it another reader.
                woken.into_iter().for_each(Waker::wake);
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.reader {
            Reader::Once(body) => body.is_end_stream(),
            Reader::Kept { kept: Kept::Whole(bytes), .. } => bytes.is_empty(),
            Reader::Kept { kept: Kept::Tee(tee), at } => {
                let tee = lock(tee);
                tee.ended && (*at > tee.passed || *at == tee.passed && tee.trailers.is_none())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.reader {
            Reader::Once(body) => body.size_hint(),
            Reader::Kept { kept: Kept::Whole(bytes), .. } => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Reader::Kept { kept: Kept::Tee(tee), at } => {
                let tee = lock(tee);
                let ahead: usize = tee.pieces.iter().skip(*at).map(Bytes::len).sum();
                let rest = tee.body.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(ahead as u64));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(ahead as u64));
                }
                hint
            }
        }
    }
}

impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        // The stream may know only this reader's waker: let the others ask it again.
        if let Reader::Kept { kept: Kept::Tee(tee), .. } = &self.reader {
            let woken = std::mem::take(&mut lock(tee).waiting);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

/// As it is sent, if it lies whole in memory; else boxed.
impl<B> From<ReplayBody<B>> for super::Body
where
    B: Body + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn from(mut body: ReplayBody<B>) -> Self {
        match &mut body.reader {
            Reader::Kept { kept: Kept::Whole(bytes), .. } => Self::full(std::mem::take(bytes)),
            Reader::Once(own) => match (own as &mut dyn Any).downcast_mut::<Self>() {
                Some(own) => std::mem::take(own),
                None => Self::new(body),
            },
            Reader::Kept { kept: Kept::Tee(_), .. } => Self::new(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    /// A body in pieces, of unknown length.
    #[derive(Default)]
    struct Pieces {
        left: VecDeque<Result<&'static str, &'static str>>,
        trailers: Option<HeaderMap>,
        pending: bool,
    }

    impl Pieces {
        fn new(pieces: &[&'static str]) -> Self {
            Self { left: pieces.iter().copied().map(Ok).collect(), ..Self::default() }
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if self.pending {
                return Poll::Pending;
            }
            match self.left.pop_front() {
                Some(piece) => Poll::Ready(Some(match piece {
                    Ok(text) => Ok(Frame::data(Bytes::from(text))),
                    Err(text) => Err(text.into()),
                })),
                None => Poll::Ready(self.trailers.take().map(|map| Ok(Frame::trailers(map)))),
            }
        }
    }

    fn next<B: Body<Data = Bytes, Error = BoxError> + Unpin>(
        body: &mut B,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn text(poll: Poll<Option<Result<Frame<Bytes>, BoxError>>>) -> String {
        match poll {
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.into_data().expect("a piece of data");
                String::from_utf8(data.to_vec()).expect("text")
            }
            other => panic!("no piece but {other:?}"),
        }
    }

    async fn whole<B: Body<Data = Bytes, Error = BoxError>>(body: B) -> String {
        let bytes = body.collect().await.expect("the body is whole").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[test]
    fn the_clients_own_body_is_itself_again_kept_or_not() {
        let whole = || super::super::Body::full("whole");
        let mut kept = ReplayBody::once(whole());
        let source = kept.keep(5, |body| body.whole_up_to(5));
        for body in [ReplayBody::once(whole()), kept, source.reader().expect("it is whole")] {
            let body = super::super::Body::from(body);
            assert_eq!(body.as_bytes(), Some(&b"whole"[..]), "not boxed");
        }
    }

    #[tokio::test]
    async fn bodies_in_memory_are_kept_whole() {
        let source = ReplaySource::new(Full::new(Bytes::from("hello")), 1024);
        assert!(matches!(source.kept, Kept::Whole(_)));
        for _ in 0..3 {
            let reader = source.reader().expect("always");
            assert_eq!(reader.size_hint().exact(), Some(5));
            assert_eq!(whole(reader).await, "hello");
        }
        let empty = ReplaySource::new(Empty::<Bytes>::new(), 0);
        assert!(empty.reader().expect("always").is_end_stream());
    }

    #[tokio::test]
    async fn a_second_attempt_gets_the_record_and_then_the_stream() {
        let source = ReplaySource::new(Pieces::new(&["a", "b", "c"]), 1024);
        let mut first = source.reader().expect("the first");
        assert_eq!(text(next(&mut first)), "a");
        assert_eq!(text(next(&mut first)), "b");
        drop(first);
        assert_eq!(whole(source.reader().expect("the second")).await, "abc");
        assert_eq!(whole(source.reader().expect("the third")).await, "abc");
    }

    #[test]
    fn two_live_readers_go_at_their_own_pace() {
        let source = ReplaySource::new(Pieces::new(&["a", "b"]), 1024);
        let (mut slow, mut fast) = (source.reader().expect("one"), source.reader().expect("two"));
        assert_eq!(text(next(&mut fast)), "a");
        assert_eq!(text(next(&mut slow)), "a");
        assert_eq!(text(next(&mut slow)), "b");
        assert_eq!(text(next(&mut fast)), "b");
        assert!(matches!(next(&mut fast), Poll::Ready(None)));
        assert!(matches!(next(&mut slow), Poll::Ready(None)));
    }

    #[tokio::test]
    async fn past_the_cap_the_first_attempt_is_unharmed_and_no_other_is_made() {
        let source = ReplaySource::new(Pieces::new(&["aaa", "bbb", "ccc"]), 4);
        let first = source.reader().expect("the first");
        assert!(source.can_replay());
        assert_eq!(whole(first).await, "aaabbbccc");
        assert!(!source.can_replay());
        assert!(source.reader().is_none());
    }

    #[test]
    fn a_reader_behind_one_that_passed_the_cap_fails() {
        let source = ReplaySource::new(Pieces::new(&["aaa", "bbb"]), 4);
        let (mut ahead, mut behind) =
            (source.reader().expect("one"), source.reader().expect("two"));
        assert_eq!(text(next(&mut ahead)), "aaa");
        assert_eq!(text(next(&mut ahead)), "bbb");
        let Poll::Ready(Some(Err(error))) = next(&mut behind) else { panic!("it must fail") };
        assert!(error.to_string().contains("4 bytes"), "{error}");
    }

    #[tokio::test]
    async fn trailers_are_kept_for_every_attempt() {
        let mut trailers = HeaderMap::new();
        trailers.insert("digest", http::HeaderValue::from_static("x"));
        let mut pieces = Pieces::new(&["a"]);
        pieces.trailers = Some(trailers.clone());
        let source = ReplaySource::new(pieces, 1024);
        for _ in 0..2 {
            let body = source.reader().expect("kept").collect().await.expect("whole");
            assert_eq!(body.trailers(), Some(&trailers));
        }
    }

    #[test]
    fn a_failed_body_cannot_be_sent_again() {
        let mut pieces = Pieces::new(&["a"]);
        pieces.left.push_back(Err("disk gone"));
        let source = ReplaySource::new(pieces, 1024);
        let mut first = source.reader().expect("the first");
        assert_eq!(text(next(&mut first)), "a");
        assert!(matches!(next(&mut first), Poll::Ready(Some(Err(_)))));
        assert!(source.reader().is_none());
    }

    /// Says that it has `size` bytes, and has this one frame ready.
    struct Sized {
        size: u64,
        frame: Option<Result<Frame<Bytes>, BoxError>>,
    }

    impl Body for Sized {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.frame.take())
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.size)
        }
    }

    #[test]
    fn an_error_that_a_body_has_ready_reaches_the_first_attempt() {
        let body = Sized { size: 5, frame: Some(Err("disk gone".into())) };
        let source = ReplaySource::new(body, 1024);
        let mut first = source.reader().expect("nobody has read yet");
        let Poll::Ready(Some(Err(error))) = next(&mut first) else { panic!("it must fail") };
        assert_eq!(error.to_string(), "disk gone");
        assert!(source.reader().is_none());
    }

    #[tokio::test]
    async fn the_trailers_of_an_empty_body_are_kept() {
        let mut trailers = HeaderMap::new();
        trailers.insert("digest", http::HeaderValue::from_static("x"));
        let body = Sized { size: 0, frame: Some(Ok(Frame::trailers(trailers.clone()))) };
        let source = ReplaySource::new(body, 1024);
        for _ in 0..2 {
            let reader = source.reader().expect("kept");
            assert!(!reader.is_end_stream());
            let body = reader.collect().await.expect("whole");
            assert_eq!(body.trailers(), Some(&trailers));
        }
    }

    #[test]
    fn a_reader_that_goes_with_the_waker_of_another_task_does_not_stall() {
        struct Owner(Mutex<Option<ReplayBody<Pieces>>>);
        impl std::task::Wake for Owner {
            fn wake(self: Arc<Self>) {
                drop(lock(&self.0).take());
            }
        }

        let pieces = Pieces { pending: true, ..Pieces::default() };
        let source = ReplaySource::new(pieces, 1024);
        let (mut a, b) = (source.reader().expect("one"), source.reader().expect("two"));
        let owned = source.reader().expect("three");
        let waker = Waker::from(Arc::new(Owner(Mutex::new(Some(owned)))));
        assert!(Pin::new(&mut a).poll_frame(&mut Context::from_waker(&waker)).is_pending());
        drop(b);
    }

    #[test]
    fn dropping_one_reader_wakes_the_other() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        let pieces = Pieces { pending: true, ..Pieces::default() };
        let source = ReplaySource::new(pieces, 1024);
        let (mut a, mut b) = (source.reader().expect("one"), source.reader().expect("two"));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        assert!(Pin::new(&mut a).poll_frame(&mut Context::from_waker(&waker)).is_pending());
        assert!(next(&mut b).is_pending());
        drop(b);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "the stream knew only the other's waker");
    }
}
