//! The service at the bottom.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use buttress::body::Body;
use http::Response;
use tower::Service;

/// Answers every request with a short body that lies in memory, at the second poll: a timer
/// above it is registered, which over a leaf that is ready at once it never would be.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<F> {
    look: F,
}

impl<F> Leaf<F> {
    /// Calls `look` with each request.
    pub const fn new(look: F) -> Self {
        Self { look }
    }
}

impl<F, R> Service<R> for Leaf<F>
where
    F: Fn(&R),
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Answer {
        (self.look)(&request);
        Answer { waited: false, response: ready(Response::new(Body::full("done"))) }
    }
}

/// The future of [`Leaf`].
#[derive(Debug)]
pub struct Answer {
    waited: bool,
    response: Ready<Response<Body>>,
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.response).poll(cx).map(Ok)
    }
}
