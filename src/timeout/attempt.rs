//! The limit of one attempt.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    config::{InvalidTimeout, checked},
    error::{Elapsed, Which},
    limited::Limited,
};
use crate::{
    call::Carrier,
    error::BoxError,
    time::{after, now},
};

/// Bounds each attempt by a limit, or by what is left of the call's deadline if that is less.
#[derive(Clone, Copy, Debug)]
pub struct AttemptTimeoutLayer {
    limit: Duration,
}

impl AttemptTimeoutLayer {
    /// An attempt may last `limit`, readiness of the service beneath not included.
    ///
    /// # Errors
    ///
    /// [`InvalidTimeout`] if `limit` is zero.
    pub fn new(limit: Duration) -> Result<Self, InvalidTimeout> {
        Ok(Self { limit: checked(limit)? })
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeout<S>;

    fn layer(&self, inner: S) -> AttemptTimeout<S> {
        AttemptTimeout { inner, limit: self.limit }
    }
}

/// The service of [`AttemptTimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct AttemptTimeout<S> {
    inner: S,
    limit: Duration,
}

impl<S, C> Service<C> for AttemptTimeout<S>
where
    C: Carrier,
    S: Service<C>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = AttemptTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        let now = now();
        let deadline = call.words().and_then(|words| words.deadline);
        let mut limited = Limited::new(now, expiry(self.limit, deadline, now));
        AttemptTimeoutFuture {
            // With nothing left of the deadline, the attempt is not begun. Within the limit, for
            // whoever beneath tells the service how long it is waited for.
            inner: limited.is_open().then(|| limited.begin(|| self.inner.call(call))),
            limited,
        }
    }
}

/// When an attempt ends that begins now: after its own limit, or with the call.
pub(crate) fn expiry(limit: Duration, deadline: Option<Instant>, now: Instant) -> Instant {
    let own = after(now, limit);
    deadline.map_or(own, |deadline| own.min(deadline))
}

pin_project! {
    /// The future of [`AttemptTimeout`].
    #[derive(Debug)]
    pub struct AttemptTimeoutFuture<F> {
        #[pin]
        inner: Option<F>,
        #[pin]
        limited: Limited,
    }
}

impl<F, T, E> Future for AttemptTimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(Elapsed::not_begun(Which::Attempt).into()));
        };
        if let Poll::Ready(result) = this.limited.as_mut().enter(|| inner.poll(cx)) {
            return Poll::Ready(result.map_err(Into::into));
        }
        ready!(this.limited.as_mut().poll_over(cx));
        let elapsed = this.limited.elapsed(Which::Attempt);
        // Dropped now, so that it frees its connection before anybody reacts to the error.
        this.limited.enter(|| this.inner.set(None));
        Poll::Ready(Err(elapsed.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::poll_fn,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::call::{Call, current_expiry};

    /// Remembers what the trail says when it is dropped.
    struct Held(Arc<Mutex<Option<Instant>>>);

    impl Drop for Held {
        fn drop(&mut self) {
            *self.0.lock().expect("no panic") = current_expiry();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cut_off_is_told_whose_time_is_up() {
        let seen = Arc::new(Mutex::new(None));
        let leaf = tower::service_fn(|_: Call<()>| {
            let held = Held(Arc::clone(&seen));
            poll_fn(move |_| {
                let _ = &held;
                Poll::<Result<(), Infallible>>::Pending
            })
        });
        let limit = Duration::from_millis(100);
        let expires = now() + limit;
        let mut service = AttemptTimeoutLayer::new(limit).expect("sound").layer(leaf);
        assert!(service.call(Call::new(())).await.is_err());
        assert_eq!(*seen.lock().expect("no panic"), Some(expires));
    }
}
