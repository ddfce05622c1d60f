//! The deadline of a response's body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::{Elapsed, Which};
use crate::{
    body::TakeWhole,
    call::Trail,
    classify::Sent,
    error::BoxError,
    time::{Sleep, after, now},
};

/// How responses of one kind are bounded: [`Http`] by their body, [`Plain`] ones not at all.
pub trait Bounded<T> {
    /// The response with its limit.
    type Limited;

    /// Puts the limit into the response.
    fn limit(response: T, limit: Limit) -> Self::Limited;
}

/// HTTP responses: the deadline holds to the last byte of the body.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Http;

/// Responses that are whole when they come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plain;

impl<T> Bounded<T> for Plain {
    type Limited = T;

    fn limit(response: T, _: Limit) -> T {
        response
    }
}

impl<B> Bounded<Response<B>> for Http {
    type Limited = Response<BoundedBody<B>>;

    fn limit(response: Response<B>, limit: Limit) -> Self::Limited {
        let (parts, body) = response.into_parts();
        let body = BoundedBody { body: Some(body), sleep: None, expires: limit.deadline(), limit };
        Response::from_parts(parts, body)
    }
}

/// The limit on a body: an instant for the whole, or the longest silence.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    span: Span,
}

#[derive(Clone, Copy, Debug)]
enum Span {
    /// The call `began` then, and ends by `deadline`.
    Until {
        deadline: Instant,
        began: Instant,
    },
    Idle(Duration),
}

impl Limit {
    pub(super) const fn until(deadline: Instant, began: Instant) -> Self {
        Self { span: Span::Until { deadline, began } }
    }

    pub(super) const fn idle(limit: Duration) -> Self {
        Self { span: Span::Idle(limit) }
    }

    /// The instant for the whole, if there is one.
    const fn deadline(&self) -> Option<Instant> {
        match self.span {
            Span::Until { deadline, .. } => Some(deadline),
            Span::Idle(_) => None,
        }
    }

    /// Whether a piece that came `now`, and is not the last, came too late.
    fn has_passed(&self) -> bool {
        self.deadline().is_some_and(|deadline| now() > deadline)
    }

    /// When to give up on a body that is silent as of `now`.
    fn expiry(&self, now: Instant) -> Instant {
        match self.span {
            Span::Until { deadline, .. } => deadline,
            Span::Idle(limit) => after(now, limit),
        }
    }

    fn elapsed(&self) -> Elapsed {
        // The head has come: the service answered for the request.
        match self.span {
            Span::Until { deadline, began } => {
                let limit = deadline.saturating_duration_since(began);
                Elapsed::new(Which::Body, limit, Sent::Processed)
            }
            Span::Idle(limit) => Elapsed::new(Which::Idle, limit, Sent::Processed),
        }
    }
}

pin_project! {
    /// A response's body that ends with [`Elapsed`] when its limit passes.
    ///
    /// The timer starts when the body is first waited for; a body that is there costs none.
    #[derive(Debug)]
    pub struct BoundedBody<B> {
        #[pin]
        body: Option<B>,
        #[pin]
        sleep: Option<Sleep>,
        // When the body will be given up, for whoever beneath wants to know.
        expires: Option<Instant>,
        limit: Limit,
    }
}

impl<B: TakeWhole> TakeWhole for BoundedBody<B> {
    fn take_whole(&mut self) -> Option<Bytes> {
        self.body.as_mut()?.take_whole()
    }
}

/// Drops the body at its time, so that what it holds can tell our deadline from a caller who lost
/// interest.
#[cold]
fn give_up<B>(mut body: Pin<&mut Option<B>>, expires: Option<Instant>, limit: Limit) -> Elapsed {
    Trail::until(expires, || body.set(None));
    limit.elapsed()
}

impl<B> Body for BoundedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        // The transport reads from the trail whether a body was dropped by us, at its time, or
        // by a caller who lost interest: a connection on which one stalled is not used again.
        let polled = Trail::until(*this.expires, || body.as_mut().poll_frame(cx));
        if let Poll::Ready(frame) = &polled {
            // What is there counts; but a body that always has more is not waited for, so no
            // timer ever ends it.
            let more = matches!(frame, Some(Ok(_))) && !body.is_end_stream();
            if more && this.limit.has_passed() {
                let elapsed = give_up(this.body, *this.expires, *this.limit);
                return Poll::Ready(Some(Err(elapsed.into())));
            }
            if !more {
                // Freed at its end, and not by whoever drops this body, who may keep it.
                this.body.set(None);
            }
            if let Span::Idle(_) = this.limit.span {
                this.sleep.set(None);
                *this.expires = None;
            }
            return polled.map_err(Into::into);
        }
        if this.sleep.is_none() {
            let expires = this.limit.expiry(now());
            *this.expires = Some(expires);
            this.sleep.set(Some(Sleep::until(expires)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        let elapsed = give_up(this.body, *this.expires, *this.limit);
        Poll::Ready(Some(Err(elapsed.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::poll_fn,
        pin::pin,
        sync::{Arc, Mutex},
    };

    use bytes::Bytes;

    use super::*;
    use crate::call::current_expiry;

    /// Stalls, and remembers what the trail said when it was polled and when it was dropped.
    #[derive(Clone, Default)]
    struct Stalled(Arc<Mutex<Vec<Option<Instant>>>>);

    impl Body for Stalled {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.lock().expect("no panic").push(current_expiry());
            Poll::Pending
        }
    }

    impl Drop for Stalled {
        fn drop(&mut self) {
            self.0.lock().expect("no panic").push(current_expiry());
        }
    }

    async fn told(limit: Limit) -> Vec<Option<Instant>> {
        let told = Arc::default();
        let response = Http::limit(Response::new(Stalled(Arc::clone(&told))), limit);
        let mut body = pin!(response.into_body());
        assert!(matches!(poll_fn(|cx| body.as_mut().poll_frame(cx)).await, Some(Err(_))));
        let told = told.lock().expect("no panic");
        told.clone()
    }

    /// One piece, which is its end; what it holds is counted.
    struct Held {
        piece: Option<Bytes>,
        _counted: Arc<()>,
    }

    impl Body for Held {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.piece.take().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.piece.is_none()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_freed_at_its_end_though_its_holder_keeps_it() {
        let held = Arc::new(());
        let body = Held { piece: Some(Bytes::from_static(b"a")), _counted: Arc::clone(&held) };
        let limit = Limit::until(now() + Duration::from_secs(1), now());
        let mut body = pin!(Http::limit(Response::new(body), limit).into_body());
        assert!(matches!(poll_fn(|cx| body.as_mut().poll_frame(cx)).await, Some(Ok(_))));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!((body.is_end_stream(), body.size_hint().exact()), (true, Some(0)));
        assert!(poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_told_when_it_will_be_given_up() {
        let limit = Duration::from_millis(100);
        let at = Some(now() + limit);
        assert_eq!(told(Limit::until(now() + limit, now())).await, [at, at, at]);
        let at = Some(now() + limit);
        assert_eq!(told(Limit::idle(limit)).await, [None, at, at]);
    }
}
