//! Races slow attempts.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{HedgeConfig, HedgeFuture};
use crate::{
    call::{Carrier, Replay},
    classify::Classify,
    error::BoxError,
};

/// Makes a second attempt of calls that are slow. Stands below retry, above the balancer.
#[derive(Debug)]
pub struct HedgeLayer<Cl> {
    shared: Arc<Shared<Cl>>,
}

/// What all calls share.
#[derive(Debug)]
pub(super) struct Shared<Cl> {
    pub(super) config: HedgeConfig,
    pub(super) classifier: Cl,
}

impl<Cl> HedgeLayer<Cl> {
    /// A layer that judges by `classifier`.
    #[must_use]
    pub fn new(config: HedgeConfig, classifier: Cl) -> Self {
        Self { shared: Arc::new(Shared { config, classifier }) }
    }
}

impl<Cl> Clone for HedgeLayer<Cl> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Cl, S> Layer<S> for HedgeLayer<Cl> {
    type Service = Hedge<S, Cl>;

    fn layer(&self, inner: S) -> Hedge<S, Cl> {
        Hedge { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The service of [`HedgeLayer`].
#[derive(Debug)]
pub struct Hedge<S, Cl> {
    inner: S,
    shared: Arc<Shared<Cl>>,
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
