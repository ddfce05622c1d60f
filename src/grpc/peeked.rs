//! A body whose first frame was looked at.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::body::TakeWhole;

pin_project! {
    /// The body of a response of [`Peek`](super::Peek): what was looked at, then the rest.
    pub struct Peeked<B>
    where
        B: Body,
    {
        #[pin]
        rest: B,
        first: Option<Frame<B::Data>>,
        // The body has said that nothing follows `first`, or its trailers went into the head.
        ended: bool,
    }
}

impl<B: Body> Peeked<B> {
    /// A body that was not looked at.
    pub(super) const fn untouched(rest: B) -> Self {
        Self { rest, first: None, ended: false }
    }

    /// A body and its first frame.
    pub(super) const fn behind(first: Frame<B::Data>, rest: B) -> Self {
        Self { rest, first: Some(first), ended: false }
    }

    /// A body of which nothing is left.
    pub(super) const fn ended(rest: B) -> Self {
        Self { rest, first: None, ended: true }
    }

    /// The body inside, without what was looked at.
    pub const fn get_ref(&self) -> &B {
        &self.rest
    }
}

impl<B: Body + TakeWhole> TakeWhole for Peeked<B> {
    fn take_whole(&mut self) -> Option<Bytes> {
        if self.ended {
            return Some(Bytes::new());
        }
        // What was looked at is no longer in the body, so that is not whole.
        if self.first.is_some() { None } else { self.rest.take_whole() }
    }
}

impl<B: Body> Body for Peeked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if *this.ended {
            return Poll::Ready(None);
        }
        this.rest.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended {
            return SizeHint::with_exact(0);
        }
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Buf::remaining) as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint.set_lower(rest.lower().saturating_add(first));
        hint
    }
}

// Not derived: that would ask for a frame that is `Debug`.
impl<B: Body + fmt::Debug> fmt::Debug for Peeked<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peeked")
            .field("rest", &self.rest)
            .field("first", &self.first.is_some())
            .field("ended", &self.ended)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::body::Body as OurBody;

    #[test]
    fn what_was_looked_at_is_told_with_the_rest() {
        let body = Peeked::behind(Frame::data(Bytes::from("abc")), OurBody::full("de"));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        let last = Peeked::behind(Frame::trailers(HeaderMap::new()), OurBody::empty());
        assert_eq!(last.size_hint().exact(), Some(0));
        assert!(!last.is_end_stream(), "the trailers are still to come");
        let ended = Peeked::ended(OurBody::full("read"));
        assert_eq!((ended.size_hint().exact(), ended.is_end_stream()), (Some(0), true));
    }

    #[test]
    fn a_body_is_whole_only_with_what_was_looked_at() {
        let take = |mut body: Peeked<OurBody>| body.take_whole();
        assert_eq!(take(Peeked::untouched(OurBody::full("de"))), Some(Bytes::from("de")));
        assert_eq!(take(Peeked::ended(OurBody::full("read"))), Some(Bytes::new()));
        let first = Frame::data(Bytes::from("abc"));
        assert_eq!(take(Peeked::behind(first, OurBody::empty())), None);
    }
}
