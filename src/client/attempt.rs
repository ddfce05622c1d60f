//! One attempt: all that stands below retry and hedge, in one future.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Span;

use super::{
    Exchange, Parcel,
    answer::{Answer, AttemptGuard},
    contents::Contents,
    permits::Doors,
    run::Run,
};
use crate::{
    balance::{Balance, Pick, failed},
    body::Body,
    breaker::Breaker,
    call::{current_sent, expire_at, is_waking},
    classify::{Classify, HttpClassifier, Settle, Verdict},
    collect::CollectConfig,
    entropy::Entropy,
    error::BoxError,
    timeout::{DeadlineHeader, Elapsed, Timer, Which, expiry},
    trace::{TraceConfig, Watched},
};

/// Makes the attempts of calls, each at an endpoint of its own.
#[derive(Debug)]
pub struct Attempts<T, Cl = HttpClassifier> {
    shared: Arc<Shared<T, Cl>>,
}

/// What all attempts share.
#[derive(Debug)]
pub(super) struct Shared<T, Cl> {
    pub(super) trace: TraceConfig,
    pub(super) entropy: Entropy,
    pub(super) doors: Doors,
    pub(super) balance: Balance<T, Breaker, Cl>,
    pub(super) limit: Duration,
    pub(super) header: Option<DeadlineHeader>,
    pub(super) collect: CollectConfig,
    pub(super) classifier: Cl,
}

impl<T, Cl> Attempts<T, Cl> {
    pub(super) fn new(shared: Shared<T, Cl>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn shared(&self) -> &Shared<T, Cl> {
        &self.shared
    }
}

impl<T, Cl> Clone for Attempts<T, Cl> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Exchange, Cl: Classify<Response<Body>>> Service<Parcel<T>> for Attempts<T, Cl> {
    type Response = Answer<T>;
    type Error = BoxError;
    type Future = AttemptFuture<T, Cl>;

    /// Always ready: an attempt waits in its own future, where its time counts.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, parcel: Parcel<T>) -> Self::Future {
        AttemptFuture { shared: Arc::clone(&self.shared), parcel: Some(parcel) }
    }
}

/// The future of [`Attempts`], for a hedge, which races two.
#[must_use = "futures do nothing unless polled"]
pub struct AttemptFuture<T: Exchange, Cl> {
    shared: Arc<Shared<T, Cl>>,
    // Until its answer is handed out.
    parcel: Option<Parcel<T>>,
}

impl<T: Exchange, Cl: Classify<Response<Body>>> Future for AttemptFuture<T, Cl> {
    type Output = Result<Answer<T>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, parcel } = self.get_mut();
        let under_way = parcel.as_mut().expect("a future is not polled after its end");
        let head = ready!(under_way.attempt.as_mut().poll_head(shared, cx));
        let parcel = parcel.take().expect("it was there above");
        Poll::Ready(head.map(|_| Answer::of(parcel)))
    }
}

pin_project! {
    /// One attempt.
    ///
    /// Dropped before it is ready, it gives its endpoint and its permits back, and counts for
    /// nothing, unless the call's deadline had passed.
    pub(super) struct Attempt<T>
    where
        T: Exchange,
    {
        #[pin]
        pub(super) contents: Contents<T::Future>,
        begun: bool,
        // None if nobody listens.
        watched: Option<Box<Watched>>,
        run: Run<T, T::Body>,
        // Of the endpoint's time, once there is one.
        #[pin]
        timer: Option<Timer>,
        pick: Pick<T, Breaker>,
        // Dropped after what runs, so that it is over when its place is given back.
        guard: AttemptGuard<T>,
    }

    impl<T> PinnedDrop for Attempt<T>
    where
        T: Exchange,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(watched) = this.watched.take() {
                watched.record_drop();
                // What is reported while it is dropped belongs to its span.
                let _entered = watched.enter();
                this.contents.let_go();
                this.run.stop();
                this.guard.let_go();
            }
        }
    }
}

/// Empty.
impl<T: Exchange> Default for Attempt<T> {
    #[inline(always)]
    fn default() -> Self {
        Self::new(Contents::empty())
    }
}

impl<T: Exchange> Attempt<T> {
    #[inline(always)]
    pub(super) fn new(contents: Contents<T::Future>) -> Self {
        Self {
            contents,
            begun: false,
            watched: None,
            run: Run::new(),
            timer: None,
            pick: Pick::new(),
            guard: AttemptGuard::new(),
        }
    }

    /// What it has to send.
    pub(super) fn contents(self: Pin<&mut Self>) -> Pin<&mut Contents<T::Future>> {
        self.project().contents
    }

    /// What it holds until its response has been read.
    pub(super) fn guard(self: Pin<&mut Self>) -> &mut AttemptGuard<T> {
        self.project().guard
    }

    /// The verdict on a head that said yes, until it is settled.
    pub(super) const fn open(&self) -> Option<Verdict> {
        self.guard.open()
    }

    /// The verdict on the head of the response. When it has come, the response is to be
    /// [taken](Self::take_response). Polled within a trail of this attempt's own.
    #[inline(always)]
    pub(super) fn poll_head<Cl: Classify<Response<Body>>>(
        mut self: Pin<&mut Self>,
        shared: &Shared<T, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Verdict, BoxError>> {
        // The span above the service's breaker: a refusal is an attempt that one can see.
        if !self.begun {
            self.as_mut().begin(shared);
        }
        if self.watched.is_some() {
            self.poll_watched(shared, cx)
        } else {
            self.within_span(shared, cx)
        }
    }

    #[inline(never)]
    fn begin<Cl>(self: Pin<&mut Self>, shared: &Shared<T, Cl>) {
        let mut this = self.project();
        *this.begun = true;
        *this.watched = Watched::attempt(&mut this.contents, &shared.trace, &shared.entropy);
    }

    /// The response whose head came last.
    #[inline(always)]
    pub(super) fn response(&self) -> &Response<Body> {
        self.contents.response()
    }

    /// The same, for its caller. What is held until it has been read stays; what is
    /// not needed for that goes.
    #[inline(always)]
    pub(super) fn take_response(self: Pin<&mut Self>) -> Response<Body> {
        let mut this = self.project();
        this.timer.set(None);
        this.contents.take_response()
    }

    #[cold]
    fn poll_watched<Cl: Classify<Response<Body>>>(
        mut self: Pin<&mut Self>,
        shared: &Shared<T, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Verdict, BoxError>> {
        let span = self.watched.as_deref().map(Watched::span);
        let _entered = span.as_ref().map(Span::enter);
        let polled = self.as_mut().within_span(shared, cx);
        if let Poll::Ready(outcome) = &polled {
            // Ended here and not by whoever drops this future, who may keep it.
            let this = self.project();
            if let Some(watched) = this.watched.take() {
                let outcome = outcome.as_ref().map(|_| this.contents.response());
                watched.record(outcome.map_err(|error| &**error as _));
            }
        }
        polled
    }

    #[inline(never)]
    fn within_span<Cl: Classify<Response<Body>>>(
        mut self: Pin<&mut Self>,
        shared: &Shared<T, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Verdict, BoxError>> {
        if self.guard.held.is_none() {
            ready!(self.as_mut().poll_picked(shared, cx))?;
        }
        let mut this = self.project();
        let mut timer = this.timer.as_mut().as_pin_mut().expect("it is held, and limited");
        let polled = if timer.is_open() {
            this.run.poll(this.contents.as_mut(), shared, cx)
        } else {
            Poll::Ready(Err(Elapsed::not_begun(Which::Attempt).into()))
        };
        let result = match polled {
            Poll::Ready(result) => result,
            Poll::Pending => {
                ready!(timer.as_mut().poll_over(is_waking(), cx));
                let elapsed = timer.elapsed(Which::Attempt, current_sent());
                // Dropped now, so that it frees its connection before anybody reacts.
                this.contents.as_mut().stop();
                this.run.stop();
                Err(elapsed.into())
            }
        };
        // The endpoint's breaker and load above its timeout: an attempt that timed out is a
        // failure. One verdict for both, and for the service's breaker.
        let asked = this.contents.words().asked();
        Poll::Ready(match result {
            Ok(()) => {
                let response = this.contents.response();
                let verdict = shared.classifier.response(asked, response);
                this.guard.answered(verdict, || shared.classifier.load_report(response));
                Ok(verdict)
            }
            Err(error) => {
                let verdict = shared.classifier.error(asked, &*error);
                let held = this.guard.held.take().expect("it was there above");
                let error = failed(error, verdict, held);
                this.guard.permits.answered(verdict);
                this.guard.permits.end(verdict);
                Err(error)
            }
        })
    }

    /// What judges the service as a whole above the balancer: whom it refuses needs no endpoint.
    fn poll_picked<Cl: Classify<Response<Body>>>(
        self: Pin<&mut Self>,
        shared: &Shared<T, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        let mut this = self.project();
        let asked = this.contents.words().asked();
        let judge = |error: &BoxError| shared.classifier.error(asked, &**error);
        if shared.doors.are_there() {
            ready!(this.guard.permits.poll(&shared.doors, asked, judge, cx))?;
        }
        let words = Some(this.contents.words());
        let held = match ready!(this.pick.poll(shared.balance.shared(), words, cx)) {
            Ok(held) => held,
            Err(error) => {
                let error = error.into();
                this.guard.permits.end(judge(&error));
                return Poll::Ready(Err(error));
            }
        };
        if let Some(watched) = this.watched {
            watched.goes_to(held.node().endpoint.address());
        }
        // The attempt's timeout above readiness: an attempt that waits for a limit of the user's
        // is one that takes time.
        let expires = expiry(shared.limit, asked.deadline, held.began());
        this.timer.set(Some(Timer::new(held.began(), expires)));
        expire_at(expires);
        this.run.get_ready(&held.node().service);
        this.guard.held = Some(held);
        Poll::Ready(Ok(()))
    }
}
