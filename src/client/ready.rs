//! Readiness within the call.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    call::{mark_unknown, mark_unsent},
    classify::{Marked, Retry, Sent, Verdict, verdict_on_error},
    error::BoxError,
};

/// Waits for the service beneath to be ready within the call, where the attempt's timeout
/// counts. A limit of yours around a slow endpoint would otherwise hold an attempt for as long
/// as the call has time, and never let it go elsewhere (tower's `Timeout` does that).
#[derive(Clone, Copy, Debug)]
pub struct Readied<S> {
    inner: S,
}

impl<S> Readied<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, C> Service<C> for Readied<S>
where
    S: Service<C> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ReadiedFuture<S, C, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: C) -> Self::Future {
        // No instance was polled yet: the clone will be, and is called then.
        let service = self.inner.clone();
        ReadiedFuture { state: State::Waiting { service, call: Some(call) } }
    }
}

pin_project! {
    /// The future of [`Readied`].
    #[derive(Debug)]
    pub struct ReadiedFuture<S, C, F> {
        #[pin]
        state: State<S, C, F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<S, C, F> {
        Waiting { service: S, call: Option<C> },
        Calling { #[pin] inner: F },
    }
}

impl<S, C> Future for ReadiedFuture<S, C, S::Future>
where
    S: Service<C>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Waiting { service, call } => {
                    mark_unsent();
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        return Poll::Ready(Err(uncalled(error.into())));
                    }
                    mark_unknown();
                    let call = call.take().expect("a call is called once");
                    let inner = service.call(call);
                    state.set(State::Calling { inner });
                }
                StateProj::Calling { inner } => return inner.poll(cx).map_err(Into::into),
            }
        }
    }
}

/// What failed to get ready was not called, whatever its error looks like.
fn uncalled(error: BoxError) -> BoxError {
    let known = verdict_on_error(&*error);
    let retry = if known.retry == Retry::IfSafe { Retry::Always } else { known.retry };
    let verdict = Verdict::new(known.blame, Sent::No, retry).with_pushback(known.pushback);
    Marked::new(verdict, error).into()
}
