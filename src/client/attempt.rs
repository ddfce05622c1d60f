//! One attempt: all that stands below retry and hedge, in one future.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Span;

use super::{AttemptBody, Parcel, run::Run};
use crate::{
    balance::{Balance, Held, Pick, failed},
    body::{Body, Guarded},
    breaker::{self, Breaker},
    call::Asked,
    classify::{Classify, HttpClassifier, Settle, Verdict},
    collect::CollectConfig,
    entropy::Entropy,
    error::BoxError,
    limit::{self, Entry, Limit},
    throttle::{self, Throttle},
    time::now,
    timeout::{DeadlineHeader, Elapsed, Limited, Which, expiry},
    trace::{TraceConfig, Watched},
};

/// Makes the attempts of calls, each at an endpoint of its own.
#[derive(Debug)]
pub struct Attempts<T> {
    shared: Arc<Shared<T>>,
}

/// What all attempts share.
#[derive(Debug)]
pub(super) struct Shared<T> {
    pub(super) trace: TraceConfig,
    pub(super) entropy: Entropy,
    pub(super) throttle: Option<Throttle>,
    pub(super) places: Option<Limit>,
    pub(super) breaker: Option<Breaker>,
    pub(super) balance: Balance<T, Breaker, HttpClassifier>,
    pub(super) limit: Duration,
    pub(super) header: Option<DeadlineHeader>,
    pub(super) collect: CollectConfig,
    pub(super) classifier: HttpClassifier,
}

impl<T> Attempts<T> {
    pub(super) fn new(shared: Shared<T>) -> Self {
        Self { shared: Arc::new(shared) }
    }
}

impl<T> Clone for Attempts<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T, B> Service<Parcel> for Attempts<T>
where
    T: Service<Request<AttemptBody>, Response = Response<B>> + Clone,
    T::Error: Into<BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Guarded<Body, AttemptGuard<T>>>;
    type Error = BoxError;
    type Future = AttemptFuture<T, T::Future, B>;

    /// Always ready: an attempt waits in its own future, where its time counts.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Parcel) -> Self::Future {
        AttemptFuture {
            shared: Arc::clone(&self.shared),
            asked: call.words().asked(),
            begun: false,
            watched: None,
            permits: ServicePermits::default(),
            entry: Entry::default(),
            pick: Pick::new(),
            held: None,
            limited: None,
            run: Run::new(call),
        }
    }
}

/// What an attempt holds until its response has been read: a place and a permit at its endpoint,
/// and the permits of what judges the service as a whole.
pub type AttemptGuard<T> = (Held<T, Breaker>, ServicePermits);

/// The permits of the service's throttle, limit and breaker, where there are any.
#[derive(Debug, Default)]
pub struct ServicePermits {
    throttle: Option<throttle::Permit>,
    place: Option<limit::Permit>,
    breaker: Option<breaker::Permit>,
}

impl Settle for ServicePermits {
    fn answered(&mut self, head: Verdict) {
        self.throttle.answered(head);
        self.place.answered(head);
        self.breaker.answered(head);
    }

    fn settle(&mut self, verdict: Verdict) {
        self.throttle.settle(verdict);
        self.place.settle(verdict);
        self.breaker.settle(verdict);
    }
}

pin_project! {
    /// The future of [`Attempts`].
    ///
    /// Dropped before it is ready, it gives its endpoint and its permits back, and counts for
    /// nothing, unless the call's deadline had passed.
    #[must_use = "futures do nothing unless polled"]
    pub struct AttemptFuture<T, F, B> {
        shared: Arc<Shared<T>>,
        asked: Asked,
        begun: bool,
        // None if nobody listens.
        watched: Option<Box<Watched>>,
        #[pin]
        run: Run<T, F, B>,
        #[pin]
        limited: Option<Limited>,
        // Its way into the service's limit, if there is one.
        entry: Entry,
        pick: Pick<T, Breaker>,
        // Dropped after what runs, so that it is over when its place is given back.
        held: Option<Held<T, Breaker>>,
        permits: ServicePermits,
    }

    impl<T, F, B> PinnedDrop for AttemptFuture<T, F, B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(watched) = this.watched.take() {
                watched.record_drop();
                // What is reported while it is dropped belongs to its span.
                let _entered = watched.enter();
                this.run.stop();
                drop((this.held.take(), std::mem::take(this.permits)));
            }
        }
    }
}

impl<T, B> Future for AttemptFuture<T, T::Future, B>
where
    T: Service<Request<AttemptBody>, Response = Response<B>> + Clone,
    T::Error: Into<BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Guarded<Body, AttemptGuard<T>>>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The span above the service's breaker: a refusal is an attempt that one can see.
        if !self.begun {
            let this = self.as_mut().project();
            *this.begun = true;
            let call = this.run.call().expect("nothing has taken it yet");
            *this.watched = Watched::attempt(call, &this.shared.trace, &this.shared.entropy);
        }
        if self.watched.is_some() { self.poll_watched(cx) } else { self.within_span(cx) }
    }
}

impl<T, B> AttemptFuture<T, T::Future, B>
where
    T: Service<Request<AttemptBody>, Response = Response<B>> + Clone,
    T::Error: Into<BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    #[cold]
    fn poll_watched(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let span = self.watched.as_deref().map(Watched::span);
        let _entered = span.as_ref().map(Span::enter);
        let polled = self.as_mut().within_span(cx);
        if let Poll::Ready(outcome) = &polled {
            // Ended here and not by whoever drops this future, who may keep it.
            if let Some(watched) = self.project().watched.take() {
                watched.record(outcome.as_ref().map_err(|error| &**error as _));
            }
        }
        polled
    }

    #[inline]
    fn within_span(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        if self.held.is_none() {
            ready!(self.as_mut().poll_picked(cx))?;
        }
        let mut this = self.project();
        let mut limited = this.limited.as_mut().as_pin_mut().expect("it is held, and limited");
        let polled = if limited.is_open() {
            limited.as_mut().enter(|| this.run.as_mut().poll(this.shared, cx))
        } else {
            Poll::Ready(Err(Elapsed::not_begun(Which::Attempt).into()))
        };
        let result = match polled {
            Poll::Ready(result) => result,
            Poll::Pending => {
                ready!(limited.as_mut().poll_over(cx));
                let elapsed = limited.elapsed(Which::Attempt);
                // Dropped now, so that it frees its connection before anybody reacts.
                limited.enter(|| this.run.stop());
                Err(elapsed.into())
            }
        };
        // The endpoint's breaker and load above its timeout: an attempt that timed out is a
        // failure. One verdict for both, and for the service's breaker.
        let mut held = this.held.take().expect("it was there above");
        let mut permits = std::mem::take(this.permits);
        let classifier = &this.shared.classifier;
        Poll::Ready(match result {
            Ok(response) => {
                let verdict = classifier.response(*this.asked, &response);
                held.answered(verdict);
                permits.answered(verdict);
                Ok(classifier.guard(*this.asked, response, verdict, (held, permits)))
            }
            Err(error) => {
                let verdict = Classify::<Response<Body>>::error(classifier, *this.asked, &*error);
                let error = failed(error, verdict, held);
                permits.answered(verdict);
                permits.settle(verdict);
                Err(error)
            }
        })
    }

    /// The service's throttle above its breaker: whom it refuses must not take a probe's place.
    /// Its limit between them: who is refused does not wait first, and who waits holds no
    /// probe's place. All above the balancer: they are about the whole service, and whom they
    /// refuse needs no endpoint.
    fn poll_picked(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut this = self.project();
        if let (Some(throttle), None) = (&this.shared.throttle, &this.permits.throttle) {
            this.permits.throttle = Some(throttle.admit(*this.asked, now())?);
        }
        if let (Some(limit), None) = (&this.shared.places, &this.permits.place) {
            let entered = ready!(this.entry.poll(limit, *this.asked, cx));
            if let Err(error) = entered.map(|place| this.permits.place = Some(place)) {
                return Poll::Ready(Err(unpicked(this.shared, *this.asked, this.permits, error)));
            }
        }
        if let (Some(breaker), None) = (&this.shared.breaker, &this.permits.breaker) {
            this.permits.breaker = Some(breaker.enter(*this.asked, now)?);
        }
        let words = this.run.as_mut().call().map(|call| call.words());
        let held = match ready!(this.pick.poll(this.shared.balance.shared(), words, cx)) {
            Ok(held) => held,
            Err(error) => {
                return Poll::Ready(Err(unpicked(this.shared, *this.asked, this.permits, error)));
            }
        };
        if let Some(watched) = this.watched {
            watched.goes_to(held.node().endpoint.address());
        }
        // The attempt's timeout above readiness: an attempt that waits for a limit of the user's
        // is one that takes time.
        let expires = expiry(this.shared.limit, this.asked.deadline, held.began());
        this.limited.set(Some(Limited::new(held.began(), expires)));
        this.run.get_ready(&held.node().service);
        *this.held = Some(held);
        Poll::Ready(Ok(()))
    }
}

/// An attempt that ends before an endpoint was picked for it.
#[cold]
fn unpicked<T>(
    shared: &Shared<T>,
    asked: Asked,
    permits: &mut ServicePermits,
    error: impl Into<BoxError>,
) -> BoxError {
    let error = error.into();
    let verdict = Classify::<Response<Body>>::error(&shared.classifier, asked, &*error);
    std::mem::take(permits).settle(verdict);
    error
}
