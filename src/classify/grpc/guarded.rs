//! A response's body whose trailers settle the verdict on its call.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    super::{Blame, Retry, Sent, Settle, Verdict, orca::load_report},
    classifier::GrpcClassifier,
};
use crate::body::{TakeWhole, verdict_on_drop};

/// The status never came. Unlike a head of HTTP, one of gRPC does not say that it was processed.
const BROKEN_OFF: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);

pin_project! {
    /// A response body that tells a guard how the call ended, exactly once: with the trailers as
    /// they pass, at an end without any, at the body's first error, or at its drop. See
    /// [`GrpcClassifier`] for what each of them means.
    ///
    /// The guard itself is dropped at the body's end, or with the body, so that "in flight"
    /// lasts until the response has been read.
    #[derive(Debug)]
    pub struct GrpcGuarded<B, G: Settle> {
        #[pin]
        body: B,
        // Who judges the trailers, until something has been settled.
        open: Option<Open>,
        guard: Option<G>,
    }

    impl<B, G> PinnedDrop for GrpcGuarded<B, G>
    where
        G: Settle,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            settle(this.open, this.guard, |_| verdict_on_drop(Verdict::CANCELLED));
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    classifier: GrpcClassifier,
    /// The first message decides.
    lasting: bool,
}

/// Settles what is open, and keeps the guard.
fn settle<G: Settle>(
    open: &mut Option<Open>,
    guard: &mut Option<G>,
    verdict: impl FnOnce(GrpcClassifier) -> Verdict,
) {
    if let (Some(open), Some(guard)) = (open.take(), guard) {
        guard.settle(verdict(open.classifier));
    }
}

impl<B, G: Settle> GrpcGuarded<B, G> {
    /// A body whose trailers decide.
    pub(super) const fn open(body: B, classifier: GrpcClassifier, lasting: bool, guard: G) -> Self {
        Self { body, open: Some(Open { classifier, lasting }), guard: Some(guard) }
    }

    /// A body behind a head that decided: `guard` was told, and is held until the end.
    pub(super) const fn settled(body: B, guard: G) -> Self {
        Self { body, open: None, guard: Some(guard) }
    }

    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.body
    }
}

impl<B: TakeWhole, G: Settle> TakeWhole for GrpcGuarded<B, G> {
    /// What is whole in memory has no trailers, so no status either.
    fn take_whole(&mut self) -> Option<Bytes> {
        let whole = self.body.take_whole()?;
        settle(&mut self.open, &mut self.guard, |classifier| classifier.without_status());
        self.guard = None;
        Some(whole)
    }
}

impl<B: Body, G: Settle> Body for GrpcGuarded<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        let (open, guard) = (this.open, this.guard);
        let ended = match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    if let (Some(guard), Some(report)) = (&mut *guard, load_report(trailers)) {
                        guard.report(report);
                    }
                    settle(open, guard, |classifier| classifier.trailers(trailers));
                } else if open.is_some_and(|open| open.lasting)
                    && frame.data_ref().is_some_and(Buf::has_remaining)
                {
                    settle(open, guard, |_| Verdict::SUCCESS);
                }
                this.body.is_end_stream()
            }
            Some(Err(_)) => {
                settle(open, guard, |_| BROKEN_OFF);
                true
            }
            None => true,
        };
        if ended {
            settle(open, guard, |classifier| classifier.without_status());
            *guard = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque, io, rc::Rc, task::Waker};

    use ::http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::{body::Body as OurBody, call::Trail, classify::Pushback, time::now};

    #[derive(Clone, Default)]
    struct Log(Rc<RefCell<Vec<Verdict>>>);

    impl Settle for Log {
        fn settle(&mut self, verdict: Verdict) {
            self.0.borrow_mut().push(verdict);
        }
    }

    impl Log {
        fn seen(&self) -> Vec<Verdict> {
            self.0.borrow().clone()
        }

        fn holders(&self) -> usize {
            Rc::strong_count(&self.0) - 1
        }
    }

    enum Piece {
        Data(&'static str),
        Status(&'static str),
        Break,
    }

    use Piece::{Break, Data, Status};

    /// Never says that it has ended before it was asked once more.
    struct Pieces(VecDeque<Piece>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.pop_front().map(|piece| match piece {
                Data(data) => Ok(Frame::data(Bytes::from(data))),
                Status(status) => Ok(Frame::trailers(trailers(status))),
                Break => Err(io::ErrorKind::UnexpectedEof.into()),
            }))
        }
    }

    fn trailers(status: &'static str) -> HeaderMap {
        let name = HeaderName::from_static("grpc-status");
        HeaderMap::from_iter([(name, HeaderValue::from_static(status))])
    }

    fn open(
        pieces: impl IntoIterator<Item = Piece>,
        lasting: bool,
        log: &Log,
    ) -> GrpcGuarded<Pieces, Log> {
        let pieces = Pieces(pieces.into_iter().collect());
        GrpcGuarded::open(pieces, GrpcClassifier::new(), lasting, log.clone())
    }

    fn poll<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame,
            Poll::Pending => panic!("it never waits"),
        }
    }

    fn unavailable() -> Verdict {
        Verdict::new(Blame::Service, Sent::Maybe, Retry::IfSafe)
    }

    fn unknown() -> Verdict {
        Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::Never)
    }

    #[test]
    fn the_trailers_settle_once_and_pass_on() {
        for (status, verdict) in [("0", Verdict::SUCCESS), ("14", unavailable())] {
            let log = Log::default();
            let mut body = open([Data("m"), Status(status)], false, &log);
            assert!(poll(&mut body).is_some_and(|frame| frame.expect("data").is_data()));
            assert!(log.seen().is_empty(), "the head said nothing");
            let frame = poll(&mut body).expect("trailers").expect("trailers");
            assert_eq!(frame.into_trailers().ok(), Some(trailers(status)), "kept for the caller");
            assert_eq!(log.seen(), [verdict]);
            assert!(poll(&mut body).is_none());
            assert_eq!(log.holders(), 0, "let go at the end");
            drop(body);
            assert_eq!(log.seen().len(), 1);
        }
    }

    #[test]
    fn the_guard_is_let_go_with_the_trailers_of_a_body_that_knows_its_end() {
        let log = Log::default();
        let body = OurBody::with_trailers("m", trailers("13"));
        let mut body = GrpcGuarded::open(body, GrpcClassifier::new(), false, log.clone());
        assert!(poll(&mut body).is_some());
        assert!(poll(&mut body).is_some());
        assert_eq!((log.seen(), log.holders()), (vec![unknown()], 0));
    }

    #[test]
    fn an_end_without_a_status_is_no_success() {
        let log = Log::default();
        let mut body = open([Data("m")], false, &log);
        while poll(&mut body).is_some() {}
        assert_eq!(log.seen(), [unknown()]);
        let log = Log::default();
        let whole = OurBody::full("m");
        let mut body = GrpcGuarded::open(whole, GrpcClassifier::new(), false, log.clone());
        assert_eq!(body.take_whole(), Some(Bytes::from("m")));
        assert_eq!((log.seen(), log.holders()), (vec![unknown()], 0));
    }

    #[test]
    fn trailers_without_a_status_are_no_success() {
        let log = Log::default();
        let body = OurBody::with_trailers("", HeaderMap::new());
        let mut body = GrpcGuarded::open(body, GrpcClassifier::new(), false, log.clone());
        assert!(poll(&mut body).is_some());
        assert_eq!(log.seen(), [unknown()]);
    }

    #[test]
    fn a_body_that_breaks_off_is_the_endpoints_fault_and_may_have_happened() {
        let log = Log::default();
        let mut body = open([Data("m"), Break], false, &log);
        assert!(poll(&mut body).is_some());
        assert!(poll(&mut body).is_some_and(|frame| frame.is_err()));
        drop(body);
        assert_eq!(log.seen(), [BROKEN_OFF]);
    }

    #[test]
    fn a_body_given_up_before_its_status_says_nothing_of_the_endpoint() {
        let log = Log::default();
        let mut body = open([Data("m"), Status("0")], false, &log);
        assert!(poll(&mut body).is_some());
        drop(body);
        assert_eq!(log.seen(), [Verdict::CANCELLED]);
    }

    #[test]
    fn a_body_dropped_by_a_timeout_above_timed_out() {
        let log = Log::default();
        let body = open([Data("m")], false, &log);
        Trail::expiring(Some(now())).enter(|| drop(body));
        assert_eq!(log.seen(), [Verdict::TIMED_OUT]);
    }

    #[test]
    fn a_stream_that_lasts_is_settled_with_its_first_message_and_held_to_its_end() {
        let log = Log::default();
        let mut body = open([Data(""), Data("m"), Status("14")], true, &log);
        assert!(poll(&mut body).is_some());
        assert!(log.seen().is_empty(), "an empty frame is no message");
        assert!(poll(&mut body).is_some());
        assert_eq!((log.seen(), log.holders()), (vec![Verdict::SUCCESS], 1));
        while poll(&mut body).is_some() {}
        assert_eq!((log.seen().len(), log.holders()), (1, 0));
        let log = Log::default();
        let mut failed = open([Status("14")], true, &log);
        assert!(poll(&mut failed).is_some());
        assert_eq!(log.seen(), [unavailable()], "it failed before its first message");
    }

    #[test]
    fn a_settled_body_only_holds_its_guard() {
        let log = Log::default();
        let mut body =
            GrpcGuarded::settled(OurBody::with_trailers("m", trailers("14")), log.clone());
        assert!(poll(&mut body).is_some());
        assert_eq!(log.holders(), 1);
        drop(body);
        assert_eq!((log.seen().len(), log.holders()), (0, 0));
    }

    #[test]
    fn a_wish_in_the_trailers_is_read_with_them() {
        let mut trailers = trailers("14");
        trailers.insert("grpc-retry-pushback-ms", HeaderValue::from_static("-1"));
        let verdict = GrpcClassifier::new().trailers(&trailers);
        assert_eq!(verdict, unavailable().with_pushback(Pushback::Never));
    }
}
