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
        DeadlineFuture {
            // With nothing left, nothing is begun.
            inner: if deadline <= now { None } else { Some(self.inner.call(call)) },
            sleep: None,
            trail: Trail::expiring(Some(deadline)),
            deadline,
            began: now,
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
        // None while a timer of an attempt below wakes in time: one is enough, and this one
        // would be the later.
        #[pin]
        sleep: Option<Sleep>,
        trail: Trail,
        deadline: Instant,
        began: Instant,
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
                None => Limit::until(*this.deadline, *this.began),
            };
            return Poll::Ready(match result {
                Ok(response) => Ok(K::limit(response, limit)),
                Err(error) => Err(error.into()),
            });
        }
        if this.sleep.is_none() {
            if this.trail.wakes() {
                return Poll::Pending;
            }
            this.sleep.set(Some(Sleep::until(*this.deadline)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            std::task::ready!(sleep.poll(cx));
        }
        let limit = this.deadline.saturating_duration_since(*this.began);
        let sent = this.trail.sent();
        // Dropped now, so that permits, budget and connection are free when the error is seen.
        this.trail.enter(|| this.inner.set(None));
        Poll::Ready(Err(Elapsed::new(Which::Total, limit, sent).into()))
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
    use crate::{
        call::{Call, current_expiry},
        timeout::AttemptTimeoutLayer,
    };

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

    fn pending() -> impl Service<Call<()>, Response = (), Error = BoxError> {
        let leaf =
            tower::service_fn(|_: Call<()>| std::future::pending::<Result<(), Infallible>>());
        AttemptTimeoutLayer::new(Duration::from_millis(100)).expect("sound").layer(leaf)
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_wakes_in_time_spares_a_second_timer() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // The attempt has no more than what is left of the call, so it is never later.
        for limit in [99, 100, 101].map(Duration::from_millis) {
            let layer = DeadlineLayer::plain(limit).expect("sound");
            let mut future = Box::pin(layer.layer(pending()).call(Call::new(())));
            assert!(future.as_mut().poll(&mut cx).is_pending());
            assert!(future.sleep.is_none(), "{limit:?}");
        }
        let bare =
            tower::service_fn(|_: Call<()>| std::future::pending::<Result<(), Infallible>>());
        let layer = DeadlineLayer::plain(Duration::from_secs(1)).expect("sound");
        let mut future = Box::pin(layer.layer(bare).call(Call::new(())));
        assert!(future.as_mut().poll(&mut cx).is_pending());
        assert!(future.sleep.is_some(), "nothing below wakes");
    }

    /// Goal: who relies on a timer below is woken, whatever becomes of that timer. Method: a
    /// layer between the two drops the attempt in the poll in which it armed its timer.
    #[tokio::test(start_paused = true)]
    async fn the_deadline_holds_when_the_attempt_that_would_have_woken_is_dropped() {
        let between = tower::service_fn(|call: Call<()>| {
            let mut attempt = Some(Box::pin(pending().call(call)));
            poll_fn(move |cx| {
                if let Some(mut attempt) = attempt.take() {
                    assert!(attempt.as_mut().poll(cx).is_pending());
                }
                Poll::<Result<(), BoxError>>::Pending
            })
        });
        let limit = Duration::from_secs(1);
        let mut service = DeadlineLayer::plain(limit).expect("sound").layer(between);
        let begun = now();
        let call = tokio::time::timeout(2 * limit, service.call(Call::new(()))).await;
        assert!(call.expect("the deadline ends it").is_err());
        assert_eq!(now() - begun, limit);
    }
}
