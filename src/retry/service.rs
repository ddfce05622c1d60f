//! The service of a [`RetryLayer`](super::RetryLayer).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{future::RetryFuture, layer::Rules};
use crate::{
    budget::Deposit,
    call::{Carrier, Replay},
    classify::Classify,
    error::BoxError,
};

/// Makes further attempts of calls that failed.
#[derive(Debug)]
pub struct Retry<S, Cl> {
    inner: S,
    rules: Arc<Rules<Cl>>,
}

impl<S, Cl> Retry<S, Cl> {
    pub(super) const fn new(inner: S, rules: Arc<Rules<Cl>>) -> Self {
        Self { inner, rules }
    }
}

impl<S: Clone, Cl> Clone for Retry<S, Cl> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), rules: Arc::clone(&self.rules) }
    }
}

impl<S, Cl, C> Service<C> for Retry<S, Cl>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt> + Clone,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response>,
{
    type Response = Cl::Guarded<Deposit>;
    type Error = BoxError;
    type Future = RetryFuture<S, C, Cl>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        // The instance that was polled is the one that is called.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        RetryFuture::new(ready, call, Arc::clone(&self.rules))
    }
}
