//! Asks the limit and obeys.

use std::task::{Context, Poll};

use tower_service::Service;

use super::{
    future::ResponseFuture,
    handle::{Limit, Permit},
};
use crate::{call::Carrier, classify::Classify, error::BoxError};

/// The service of [`LimitLayer`](super::LimitLayer).
#[derive(Clone, Debug)]
pub struct LimitService<S, Cl> {
    inner: S,
    limit: Option<Limit>,
    classifier: Cl,
}

impl<S, Cl> LimitService<S, Cl> {
    pub(super) const fn new(inner: S, limit: Option<Limit>, classifier: Cl) -> Self {
        Self { inner, limit, classifier }
    }

    /// The limit, if there is one.
    pub const fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }
}

impl<S, C, Cl> Service<C> for LimitService<S, Cl>
where
    C: Carrier,
    S: Service<C> + Clone,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response> + Clone,
{
    type Response = Cl::Guarded<Option<Permit>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, C, Cl>;

    /// Takes no place: who was ready and never calls would keep it from the others.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        let asked = call.words().map(|words| words.asked()).unwrap_or_default();
        let classifier = self.classifier.clone();
        let Some(limit) = &self.limit else {
            return ResponseFuture::called(self.inner.call(call), classifier, asked, None);
        };
        if let Some(permit) = limit.enter() {
            return ResponseFuture::called(self.inner.call(call), classifier, asked, Some(permit));
        }
        // The instance that was polled is the one to be called, whenever that is.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        ResponseFuture::waiting(ready, call, limit.clone(), classifier, asked)
    }
}
