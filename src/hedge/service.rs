//! The service of a [`HedgeLayer`](super::HedgeLayer).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{HedgeFuture, layer::Shared};
use crate::{
    call::{Carrier, Replay},
    classify::Classify,
    error::BoxError,
};

/// Makes a second attempt of calls that are slow.
#[derive(Debug)]
pub struct Hedge<S, Cl> {
    inner: S,
    shared: Arc<Shared<Cl>>,
}

impl<S, Cl> Hedge<S, Cl> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<Cl>>) -> Self {
        Self { inner, shared }
    }
}

impl<S: Clone, Cl> Clone for Hedge<S, Cl> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, Cl, C> Service<C> for Hedge<S, Cl>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt> + Clone,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = HedgeFuture<S, C, Cl>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        // The instance that was polled is the one that is called.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        HedgeFuture::new(ready, call, Arc::clone(&self.shared))
    }
}
