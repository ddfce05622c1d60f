//! The limit of one attempt.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    config::{InvalidTimeout, checked},
    error::{Elapsed, Which},
};
use crate::{
    call::{Carrier, Trail, mark_not_waking},
    error::BoxError,
    time::{Sleep, after, now},
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
        let own = after(now, self.limit);
        let expires =
            call.words().and_then(|words| words.deadline).map_or(own, |deadline| own.min(deadline));
        let mut trail = Trail::expiring(Some(expires));
        AttemptTimeoutFuture {
            // With nothing left of the deadline, the attempt is not begun. Within the trail, for
            // whoever beneath tells the service how long it is waited for.
            inner: (expires > now).then(|| trail.enter(|| self.inner.call(call))),
            sleep: None,
            trail,
            expires,
            began: now,
        }
    }
}

pin_project! {
    /// The future of [`AttemptTimeout`].
    #[derive(Debug)]
    pub struct AttemptTimeoutFuture<F> {
        #[pin]
        inner: Option<F>,
        // Armed when the attempt is first waited for.
        #[pin]
        sleep: Option<Sleep>,
        trail: Trail,
        expires: Instant,
        began: Instant,
    }

    impl<F> PinnedDrop for AttemptTimeoutFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if this.sleep.is_some() {
                mark_not_waking();
            }
        }
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
        if let Poll::Ready(result) = this.trail.enter(|| inner.poll(cx)) {
            return Poll::Ready(result.map_err(Into::into));
        }
        if this.sleep.is_none() {
            this.sleep.set(Some(Sleep::until(*this.expires)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            if sleep.poll(cx).is_pending() {
                this.trail.mark_waking(*this.expires);
                return Poll::Pending;
            }
        }
        let limit = this.expires.saturating_duration_since(*this.began);
        let sent = this.trail.sent();
        // Dropped now, so that it frees its connection before anybody reacts to the error.
        this.trail.enter(|| this.inner.set(None));
        Poll::Ready(Err(Elapsed::new(Which::Attempt, limit, sent).into()))
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
