//! A call that has its place, or waits for it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::handle::{Entry, Limit, Permit};
use crate::{
    call::{Asked, mark_unknown},
    classify::{Classify, Settle},
    error::BoxError,
};

pin_project! {
    /// The future of [`LimitService`](super::LimitService).
    ///
    /// Dropped while it waits, it leaves the queue; dropped later, it gives its place back.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S: Service<C>, C, Cl> {
        // Before the permit, so that the call is over when its place is given back.
        #[pin]
        inner: Option<S::Future>,
        permit: Option<Permit>,
        classifier: Cl,
        asked: Asked,
        // In a box, since hardly any call waits. None once it was called.
        waiting: Option<Box<Waiting<S, C>>>,
    }
}

/// What waits.
struct Waiting<S, C> {
    entry: Entry,
    limit: Limit,
    /// Both are there until it is called.
    parked: Option<(S, C)>,
}

impl<S: Service<C>, C, Cl> ResponseFuture<S, C, Cl> {
    pub(super) const fn called(
        inner: S::Future,
        classifier: Cl,
        asked: Asked,
        permit: Option<Permit>,
    ) -> Self {
        Self { inner: Some(inner), permit, classifier, asked, waiting: None }
    }

    #[cold]
    pub(super) fn waiting(ready: S, call: C, limit: Limit, classifier: Cl, asked: Asked) -> Self {
        let parked = Some((ready, call));
        let waiting = Box::new(Waiting { entry: Entry::default(), limit, parked });
        Self { inner: None, permit: None, classifier, asked, waiting: Some(waiting) }
    }
}

impl<S, C, Cl> Future for ResponseFuture<S, C, Cl>
where
    S: Service<C>,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response>,
{
    type Output = Result<Cl::Guarded<Option<Permit>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(waiting) = this.waiting {
            let Waiting { entry, limit, parked } = &mut **waiting;
            let entered = ready!(entry.poll(limit, *this.asked, cx));
            let parked = parked.take();
            // Also where it was refused: the service that was ready is not to be held for it.
            *this.waiting = None;
            *this.permit = Some(entered?);
            let (mut service, call) = parked.expect("a call is called once");
            mark_unknown();
            this.inner.set(Some(service.call(call)));
        }
        let inner = this.inner.as_mut().as_pin_mut().expect("polled after it was ready");
        let outcome = ready!(inner.poll(cx));
        this.inner.set(None);
        let mut permit = this.permit.take();
        Poll::Ready(match outcome {
            Ok(response) => {
                let head = this.classifier.response(*this.asked, &response);
                permit.answered(head);
                Ok(this.classifier.guard(*this.asked, response, head, permit))
            }
            Err(error) => {
                let error = error.into();
                let verdict = this.classifier.error(*this.asked, &*error);
                permit.answered(verdict);
                permit.settle(verdict);
                Err(error)
            }
        })
    }
}

// Not derived: it is `Debug` whatever the service and its future are.
impl<S: Service<C>, C, Cl> fmt::Debug for ResponseFuture<S, C, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("waits", &self.waiting.is_some())
            .field("permit", &self.permit)
            .finish_non_exhaustive()
    }
}
