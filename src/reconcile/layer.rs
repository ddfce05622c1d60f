//! The layer and its service.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{Http, Joined, Lookup, Plain, ReconcileConfig, ReconcileFuture};
use crate::{
    call::{Carrier, Words},
    classify::Classify,
    error::BoxError,
};

/// Looks up calls whose outcome is unknown in the end.
///
/// Above the deadline: a call that ran out of time is the one that most needs it, and below the
/// deadline it would be dropped just then. Below the idempotency key: it finds the key in the
/// request, whoever put it there. Above retry: as long as another attempt may be made, the end
/// has not come.
pub struct ReconcileLayer<L, Cl, K = Http> {
    shared: Arc<Shared<L, Cl>>,
    kind: PhantomData<fn() -> K>,
}

/// What all calls share.
pub(super) struct Shared<L, Cl> {
    pub(super) config: ReconcileConfig,
    pub(super) lookup: L,
    pub(super) classifier: Cl,
}

impl<L, Cl> ReconcileLayer<L, Cl> {
    /// A layer over HTTP responses that looks up by `lookup` what is unknown by `classifier`.
    #[must_use]
    pub fn new(config: ReconcileConfig, lookup: L, classifier: Cl) -> Self {
        Self { shared: Arc::new(Shared { config, lookup, classifier }), kind: PhantomData }
    }
}

impl<L, Cl> ReconcileLayer<L, Cl, Plain> {
    /// The same over answers of any type, of which lookups find the same.
    #[must_use]
    pub fn plain(config: ReconcileConfig, lookup: L, classifier: Cl) -> Self {
        Self { shared: Arc::new(Shared { config, lookup, classifier }), kind: PhantomData }
    }
}

impl<L, Cl, K> Clone for ReconcileLayer<L, Cl, K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), kind: PhantomData }
    }
}

impl<L, Cl, K> fmt::Debug for ReconcileLayer<L, Cl, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.shared.config;
        f.debug_struct("ReconcileLayer").field("config", config).finish_non_exhaustive()
    }
}

impl<L, Cl, K, S> Layer<S> for ReconcileLayer<L, Cl, K> {
    type Service = Reconcile<S, L, Cl, K>;

    fn layer(&self, inner: S) -> Reconcile<S, L, Cl, K> {
        Reconcile { inner, shared: Arc::clone(&self.shared), kind: PhantomData }
    }
}

/// The service of [`ReconcileLayer`].
pub struct Reconcile<S, L, Cl, K = Http> {
    inner: S,
    shared: Arc<Shared<L, Cl>>,
    kind: PhantomData<fn() -> K>,
}

impl<S: Clone, L, Cl, K> Clone for Reconcile<S, L, Cl, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared), kind: PhantomData }
    }
}

impl<S: fmt::Debug, L, Cl, K> fmt::Debug for Reconcile<S, L, Cl, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconcile").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, L, Cl, K, C> Service<C> for Reconcile<S, L, Cl, K>
where
    C: Carrier,
    S: Service<C>,
    S::Error: Into<BoxError>,
    L: Lookup<C::Request>,
    Cl: Classify<S::Response>,
    K: Joined<S::Response, L::Found>,
{
    type Response = K::Response;
    type Error = BoxError;
    type Future = ReconcileFuture<S::Future, S::Response, C::Request, L, Cl, K>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        let id = self.shared.lookup.id(call.request());
        let asked = call.words().map(Words::asked).unwrap_or_default();
        ReconcileFuture::new(self.inner.call(call), id, asked, Arc::clone(&self.shared))
    }
}
