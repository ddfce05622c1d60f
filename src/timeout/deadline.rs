//! The limit of a whole call.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    body::{Bounded, Http, Limit, Plain},
    config::{InvalidTimeout, checked},
    error::{Elapsed, Which},
};
use crate::{
    call::{BodyMode, Carrier, Trail},
    error::BoxError,
    time::{Sleep, after, now},
};

/// Gives each call a deadline, to the last byte of its response's body.
///
/// A deadline that came with the call ([`Words::deadline`](crate::call::Words::deadline)) holds
/// where it is the earlier. A call whose words say that its body is
/// [meant to last](crate::call::Words::lasting_body) has its deadline at the response's head,
/// and a limit on the body's silence after it.
#[derive(Debug)]
pub struct DeadlineLayer<K = Http> {
    limit: Duration,
    kind: PhantomData<fn() -> K>,
}

impl DeadlineLayer {
    /// An HTTP call may last `limit`, its response's body included.
    ///
    /// # Errors
    ///
    /// [`InvalidTimeout`] if `limit` is zero.
    pub fn new(limit: Duration) -> Result<Self, InvalidTimeout> {
        Ok(Self { limit: checked(limit)?, kind: PhantomData })
    }
}

impl DeadlineLayer<Plain> {
    /// A call whose response is whole when it comes may last `limit`.
    ///
    /// # Errors
    ///
    /// [`InvalidTimeout`] if `limit` is zero.
    pub fn plain(limit: Duration) -> Result<Self, InvalidTimeout> {
        Ok(Self { limit: checked(limit)?, kind: PhantomData })
    }
}

impl<K> Clone for DeadlineLayer<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for DeadlineLayer<K> {}

impl<K, S> Layer<S> for DeadlineLayer<K> {
    type Service = Deadline<S, K>;

    fn layer(&self, inner: S) -> Deadline<S, K> {
        Deadline { inner, limit: self.limit, kind: PhantomData }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Debug)]
pub struct Deadline<S, K = Http> {
    inner: S,
    limit: Duration,
    kind: PhantomData<fn() -> K>,
}

impl<S: Clone, K> Clone for Deadline<S, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), limit: self.limit, kind: PhantomData }
    }
}

impl<S, K, C> Service<C> for Deadline<S, K>
where
    C: Carrier,
    S: Service<C>,
    S::Error: Into<BoxError>,
    K: Bounded<S::Response>,
{
    type Response = K::Limited;
    type Error = BoxError;
    type Future = DeadlineFuture<S::Future, K>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut call: C) -> Self::Future {
        let now = now();
        let words = call.words_mut();
        let own = after(now, self.limit);
        words.shorten(own);
        let deadline = words.deadline.unwrap_or(own);
        let lasting = match words.body {
            BodyMode::Lasting { idle } => Some(idle),
            _ => None,
        };
        let limit = deadline.saturating_duration_since(now);
        DeadlineFuture {
            // With nothing left, nothing is begun.
            inner: if limit.is_zero() { None } else { Some(self.inner.call(call)) },
            sleep: Sleep::until(deadline),
            trail: Trail::expiring(Some(deadline)),
            deadline,
            limit,
            lasting,
            kind: PhantomData,
        }
    }
}

pin_project! {
    /// The future of [`Deadline`].
    #[derive(Debug)]
    pub struct DeadlineFuture<F, K> {
        #[pin]
        inner: Option<F>,
        #[pin]
        sleep: Sleep,
        trail: Trail,
        deadline: Instant,
        limit: Duration,
        lasting: Option<Duration>,
        kind: PhantomData<fn() -> K>,
    }
}

impl<F, K, T, E> Future for DeadlineFuture<F, K>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
    K: Bounded<T>,
{
    type Output = Result<K::Limited, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(Elapsed::not_begun(Which::Total).into()));
        };
        if let Poll::Ready(result) = this.trail.enter(|| inner.poll(cx)) {
            let limit = match this.lasting {
                Some(idle) => Limit::idle(*idle),
                None => Limit::until(*this.deadline, *this.limit),
            };
            return Poll::Ready(
                result.map(|response| K::limit(response, limit)).map_err(Into::into),
            );
        }
        std::task::ready!(this.sleep.poll(cx));
        let sent = this.trail.sent();
        // Dropped now, so that permits, budget and connection are free when the error is seen.
        this.trail.enter(|| this.inner.set(None));
        Poll::Ready(Err(Elapsed::new(Which::Total, *this.limit, sent).into()))
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
        let mut service = DeadlineLayer::plain(limit).expect("sound").layer(leaf);
        assert!(service.call(Call::new(())).await.is_err());
        assert_eq!(*seen.lock().expect("no panic"), Some(expires));
    }
}
