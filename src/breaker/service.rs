//! Asks the breaker and obeys.

use std::task::{Context, Poll};

use tower_service::Service;

use super::{future::ResponseFuture, handle::Breaker, permit::Permit};
use crate::{call::Carrier, classify::Classify, error::BoxError, time};

/// The service of [`BreakerLayer`](super::BreakerLayer).
#[derive(Debug)]
pub struct BreakerService<S, Cl> {
    inner: S,
    breaker: Option<Breaker>,
    classifier: Cl,
    /// The last `poll_ready` said ready without asking `inner`, so the call must be refused.
    refuses: bool,
}

impl<S, Cl> BreakerService<S, Cl> {
    pub(super) const fn new(inner: S, breaker: Option<Breaker>, classifier: Cl) -> Self {
        Self { inner, breaker, classifier, refuses: false }
    }

    /// The breaker, if there is one.
    pub const fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_ref()
    }
}

impl<S, Cl> Clone for BreakerService<S, Cl>
where
    S: Clone,
    Cl: Clone,
{
    /// A clone carries no readiness.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.breaker.clone(), self.classifier.clone())
    }
}

impl<S, C, Cl> Service<C> for BreakerService<S, Cl>
where
    C: Carrier,
    S: Service<C>,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response> + Clone,
{
    type Response = Cl::Guarded<Option<Permit>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, Cl>;

    /// Ready at once while the breaker is open: whoever is to be refused does not wait for a
    /// service that may never be ready, and takes nothing from it.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.refuses = self.breaker.as_ref().is_some_and(Breaker::is_shut);
        if self.refuses {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        let asked = call.words().map(|words| words.asked()).unwrap_or_default();
        let permit = match &self.breaker {
            None => None,
            // Also when the breaker would admit it by now: `inner` has not said that it is ready.
            Some(breaker) if std::mem::take(&mut self.refuses) => {
                return ResponseFuture::refused(breaker.refusal());
            }
            Some(breaker) => match breaker.enter(asked, time::now) {
                Ok(permit) => Some(permit),
                Err(refusal) => return ResponseFuture::refused(refusal),
            },
        };
        let inner = self.inner.call(call);
        ResponseFuture::admitted(inner, self.classifier.clone(), asked, permit)
    }
}
