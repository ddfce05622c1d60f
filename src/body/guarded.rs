//! A response's body that settles the verdict on its call.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{TakeWhole, ahead::Source};
use crate::{
    call::is_expired,
    classify::{Blame, Retry, Sent, Settle, Verdict},
    time::now,
};

/// The head said yes, the body broke off: the service processed it, the endpoint is to blame.
const BROKEN_OFF: Verdict = Verdict::new(Blame::Endpoint, Sent::Processed, Retry::IfSafe);

pin_project! {
    /// A response body that tells a guard how the call ended, exactly once: at the body's
    /// end, at its first error, or at its drop. The guard itself is dropped at the same moment,
    /// or when the body is dropped if the head decided already, so that "in flight" lasts
    /// until the response has been read.
    ///
    /// Dropped by a timeout above that says so on the [`Trail`](crate::call::Trail), the call
    /// timed out. Dropped by its holder, at whatever time, the head's verdict stands: who keeps
    /// an answer past its deadline and never reads it says nothing about the endpoint.
    #[derive(Debug)]
    pub struct Guarded<B, G: Settle>
    where
        B: Body,
    {
        #[pin]
        body: Source<B>,
        // The head's verdict, for as long as the body may still change it.
        open: Option<Verdict>,
        guard: Option<G>,
    }

    impl<B, G> PinnedDrop for Guarded<B, G>
    where
        G: Settle,
        B: Body,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let (Some(head), Some(guard)) = (this.open.take(), this.guard) {
                guard.settle(verdict_on_drop(head));
            }
        }
    }
}

/// The verdict on a response that is dropped now, unread: `given_up` by its holder, unless a
/// timeout above did it.
pub(crate) fn verdict_on_drop(given_up: Verdict) -> Verdict {
    if is_expired(now) { Verdict::TIMED_OUT } else { given_up }
}

/// The body is over: settles what is open, and lets the guard go.
fn finish<G: Settle>(open: &mut Option<Verdict>, guard: &mut Option<G>, broken: bool) {
    let (open, held) = (open.take(), guard);
    // Where it is: it is large.
    if let (Some(head), Some(guard)) = (open, &mut *held) {
        guard.settle(if broken { BROKEN_OFF } else { head });
    }
    *held = None;
}

impl<B: Body, G: Settle> Guarded<B, G> {
    /// A body whose end decides; `head` is the verdict if nothing goes wrong.
    pub const fn open(body: B, head: Verdict, guard: G) -> Self {
        Self { body: Source::AsItComes { body }, open: Some(head), guard: Some(guard) }
    }

    /// A body behind a head that decided: `guard` was told, and is held until the end.
    pub const fn settled(body: B, guard: G) -> Self {
        Self { body: Source::AsItComes { body }, open: None, guard: Some(guard) }
    }

    /// The same as `settled`, for a body of which up to `limit` bytes can be read by
    /// [`poll_ahead`](Self::poll_ahead) before anybody asks for them. One that is known to be
    /// longer is not begun.
    pub fn aside(body: B, guard: G, limit: usize) -> Self {
        Self { body: Source::ahead(body, limit), open: None, guard: Some(guard) }
    }

    /// Reads on, and keeps what was read for whoever will ask for it: until the body has ended,
    /// and lets go what it holds, or nothing more may be read ahead.
    pub fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let read = self.body.poll_ahead(cx);
        if self.body.is_over() {
            finish(&mut self.open, &mut self.guard, false);
        }
        read
    }

    /// The body inside.
    pub fn get_ref(&self) -> &B {
        self.body.get_ref()
    }
}

impl<B: Body + TakeWhole, G: Settle> TakeWhole for Guarded<B, G> {
    fn take_whole(&mut self) -> Option<Bytes> {
        // One that was read ahead has come to pieces.
        let Source::AsItComes { body } = &mut self.body else { return None };
        let whole = body.take_whole()?;
        finish(&mut self.open, &mut self.guard, false);
        Some(whole)
    }
}

impl<B: Body, G: Settle> Body for Guarded<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        // Looked at where it is: it is large.
        let polled = this.body.as_mut().poll_frame(cx);
        let ended = match &polled {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(_))) => this.body.is_end_stream(),
            Poll::Ready(Some(Err(_)) | None) => true,
        };
        if ended {
            let broken = matches!(polled, Poll::Ready(Some(Err(_))));
            finish(this.open, this.guard, broken);
        }
        polled
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
    use std::{cell::RefCell, io, rc::Rc, task::Waker, time::Duration};

    use http_body_util::Full;

    use super::*;
    use crate::call::Trail;

    #[derive(Clone, Default)]
    struct Log(Rc<RefCell<Vec<Verdict>>>);

    impl Settle for Log {
        fn settle(&mut self, verdict: Verdict) {
            self.0.borrow_mut().push(verdict);
        }
    }

    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
        }
    }

    type Piece<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

    fn poll<B: Body + Unpin>(body: &mut B) -> Poll<Piece<B>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn open<B: Body>(body: B, log: &Log) -> Guarded<B, Log> {
        Guarded::open(body, Verdict::SUCCESS, log.clone())
    }

    #[test]
    fn settles_once_at_the_end_and_lets_go() {
        let log = Log::default();
        let mut body = open(Full::new(Bytes::from("hello")), &log);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        assert_eq!(*log.0.borrow(), [Verdict::SUCCESS]);
        assert_eq!(Rc::strong_count(&log.0), 1, "the guard is gone with the body's end");
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
        drop(body);
        assert_eq!(log.0.borrow().len(), 1);
    }

    #[test]
    fn a_body_that_breaks_off_is_the_endpoints_fault() {
        let log = Log::default();
        let mut body = open(Broken, &log);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
        drop(body);
        assert_eq!(*log.0.borrow(), [BROKEN_OFF]);
    }

    #[test]
    fn a_body_dropped_unread_leaves_the_heads_verdict() {
        let log = Log::default();
        drop(open(Broken, &log));
        assert_eq!(*log.0.borrow(), [Verdict::SUCCESS]);
    }

    #[test]
    fn a_body_dropped_by_a_timeout_above_timed_out() {
        let log = Log::default();
        let body = open(Broken, &log);
        Trail::expiring(Some(now())).enter(|| drop(body));
        assert_eq!(*log.0.borrow(), [Verdict::TIMED_OUT]);
    }

    #[test]
    fn a_body_dropped_before_a_timeout_above_was_dropped_by_its_holder() {
        let log = Log::default();
        let body = open(Broken, &log);
        let later = now() + Duration::from_secs(60);
        Trail::expiring(Some(later)).enter(|| drop(body));
        assert_eq!(*log.0.borrow(), [Verdict::SUCCESS]);
    }

    #[test]
    fn a_settled_body_only_holds_its_guard() {
        let log = Log::default();
        let body = Guarded::settled(Broken, log.clone());
        assert_eq!(Rc::strong_count(&log.0), 2);
        drop(body);
        assert_eq!(Rc::strong_count(&log.0), 1);
        assert!(log.0.borrow().is_empty());
    }
}
