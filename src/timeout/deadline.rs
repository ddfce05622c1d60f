//! The limit of a whole call.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    body::{Bounded, Http, Limit, Plain},
    config::{InvalidTimeout, checked},
    error::{Elapsed, Which},
    limited::{Limited, Timer},
};
use crate::{
    call::{BodyMode, Carrier, Words},
    error::BoxError,
    time::{after, now},
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
        let bounds = Bounds::of(call.words_mut(), self.limit, now());
        DeadlineFuture {
            // With nothing left, nothing is begun.
            inner: if bounds.is_open() { Some(self.inner.call(call)) } else { None },
            limited: Limited::new(bounds.began, bounds.expires),
            bounds,
            kind: PhantomData,
        }
    }
}

/// What bounds one call, and its response's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    began: Instant,
    expires: Instant,
    lasting: Option<Duration>,
}

impl Bounds {
    /// Gives a call that begins now its deadline, unless it came with an earlier one.
    pub(crate) fn of(words: &mut Words, limit: Duration, now: Instant) -> Self {
        let own = after(now, limit);
        words.shorten(own);
        let lasting = match words.body {
            BodyMode::Lasting { idle } => Some(idle),
            _ => None,
        };
        Self { began: now, expires: words.deadline.unwrap_or(own), lasting }
    }

    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// When the call is given up.
    pub(crate) const fn expires(&self) -> Instant {
        self.expires
    }

    /// What holds for the body of its response.
    pub(crate) const fn of_body(&self) -> Limit {
        match self.lasting {
            Some(idle) => Limit::idle(idle),
            None => Limit::until(self.expires, self.began),
        }
    }

    /// Whether anything is left. Else nothing is to be begun.
    pub(crate) fn is_open(&self) -> bool {
        self.expires > self.began
    }

    /// The timer that ends it.
    pub(crate) const fn timer(&self) -> Timer {
        Timer::new(self.began, self.expires)
    }
}

pin_project! {
    /// The future of [`Deadline`].
    #[derive(Debug)]
    pub struct DeadlineFuture<F, K> {
        #[pin]
        inner: Option<F>,
        #[pin]
        limited: Limited,
        bounds: Bounds,
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
        if let Poll::Ready(result) = this.limited.as_mut().enter(|| inner.poll(cx)) {
            return Poll::Ready(match result {
                Ok(response) => Ok(K::limit(response, this.bounds.of_body())),
                Err(error) => Err(error.into()),
            });
        }
        ready!(this.limited.as_mut().poll_over(cx));
        let elapsed = this.limited.elapsed(Which::Total);
        // Dropped now, so that permits, budget and connection are free when the error is seen.
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
            assert!(!future.limited.is_armed(), "{limit:?}");
        }
        let bare =
            tower::service_fn(|_: Call<()>| std::future::pending::<Result<(), Infallible>>());
        let layer = DeadlineLayer::plain(Duration::from_secs(1)).expect("sound");
        let mut future = Box::pin(layer.layer(bare).call(Call::new(())));
        assert!(future.as_mut().poll(&mut cx).is_pending());
        assert!(future.limited.is_armed(), "nothing below wakes");
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
