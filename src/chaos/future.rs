//! A request that was struck, or not.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    body::ChaosBody,
    state::{HeadFault, Strike},
};
use crate::{
    call::{mark_handed_over, mark_unsent},
    error::BoxError,
    time::{Sleep, after, now},
};

pin_project! {
    /// The future of [`ChaosService`](super::ChaosService).
    ///
    /// Dropped, it drops the request that is under way beneath, if there is one.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B> {
        #[pin]
        inner: Option<F>,
        // In a box: it costs nothing where nothing strikes.
        struck: Option<Pin<Box<Struck<B>>>>,
    }
}

pin_project! {
    /// What is to become of a request.
    struct Struck<B> {
        strike: Strike,
        // The answer that is held back, or the failure.
        held: Option<Result<Response<B>, BoxError>>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) const fn unharmed(inner: F) -> Self {
        Self { inner: Some(inner), struck: None }
    }

    #[cold]
    pub(super) fn struck(inner: Option<F>, strike: Strike) -> Self {
        let struck = Box::pin(Struck { strike, held: None, sleep: None });
        Self { inner, struck: Some(struck) }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<ChaosBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let outcome = match this.inner.as_mut().as_pin_mut() {
            None => None,
            Some(inner) => {
                let outcome = ready!(inner.poll(cx)).map_err(Into::into);
                this.inner.set(None);
                Some(outcome)
            }
        };
        match this.struck {
            None => {
                let outcome = outcome.expect("polled after it was ready");
                Poll::Ready(outcome.map(|response| response.map(ChaosBody::unharmed)))
            }
            Some(struck) => struck.as_mut().poll(outcome, cx),
        }
    }
}

impl<B> Struck<B> {
    /// Goes on, with the outcome of what is beneath if that has just come.
    fn poll(
        self: Pin<&mut Self>,
        outcome: Option<Result<Response<B>, BoxError>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<ChaosBody<B>>, BoxError>> {
        let mut this = self.project();
        if outcome.is_some() {
            *this.held = outcome;
        }
        // As a transport does, for who gives it up meanwhile.
        match &this.strike.head {
            Some(head) if head.is_unsent() => mark_unsent(),
            _ => mark_handed_over(),
        }
        if !this.strike.delay.is_zero() {
            if this.sleep.is_none() {
                this.sleep.set(Some(Sleep::until(after(now(), this.strike.delay))));
            }
            ready!(this.sleep.as_mut().as_pin_mut().expect("it was set above").poll(cx));
        }
        match &this.strike.head {
            Some(HeadFault::Hang | HeadFault::HangConnecting) => Poll::Pending,
            Some(HeadFault::Fail(failure)) => Poll::Ready(Err(failure.error().into())),
            Some(HeadFault::Answer(made)) => {
                let mut response = Response::new(ChaosBody::empty());
                *response.status_mut() = made.status;
                *response.headers_mut() = made.headers.clone();
                Poll::Ready(Ok(response))
            }
            None => {
                let outcome = this.held.take().expect("polled after it was ready");
                let fault = this.strike.body;
                Poll::Ready(outcome.map(|response| {
                    response.map(|body| match fault {
                        None => ChaosBody::unharmed(body),
                        Some(fault) => ChaosBody::struck(body, fault),
                    })
                }))
            }
        }
    }
}

// Not derived: it is `Debug` whatever is beneath.
impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("struck", &self.struck.as_ref().map(|struck| &struck.strike))
            .finish_non_exhaustive()
    }
}
