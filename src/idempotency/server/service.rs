//! The service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    HeldBody, HonourFuture, Store,
    layer::Shared,
    problem::Problem,
    visit::{Visit, tell},
    wire,
};
use crate::error::BoxError;

/// The service of [`HonourLayer`](super::HonourLayer).
pub struct Honour<S, T> {
    inner: S,
    shared: Arc<Shared<T>>,
}

impl<S, T> Honour<S, T> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<T>>) -> Self {
        Self { inner, shared }
    }
}

impl<S, T, B, C> Service<Request<B>> for Honour<S, T>
where
    S: Service<Request<HeldBody<B>>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    T: Store,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    C: Body + Send + Unpin + 'static,
    C::Data: Send,
    C::Error: Into<BoxError>,
{
    type Response = Response<HeldBody<C>>;
    type Error = S::Error;
    type Future = HonourFuture<S::Future, C, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = &self.shared.config;
        if !config.methods.contains(request.method()) {
            return HonourFuture::passed(self.inner.call(request.map(HeldBody::passed)));
        }
        let problem = match wire::key(request.headers(), &config.header, config.bare) {
            Ok(Some(key)) => {
                let next = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, next.clone());
                let visit = Visit::new(Arc::clone(&self.shared), key, ready, next);
                return HonourFuture::keyed(visit.pay(request));
            }
            Ok(None) if config.required => Problem::Missing,
            Ok(None) => {
                return HonourFuture::passed(self.inner.call(request.map(HeldBody::passed)));
            }
            Err(reason) => Problem::Invalid(reason),
        };
        HonourFuture::told(tell(&self.shared, problem))
    }
}

impl<S: Clone, T> Clone for Honour<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug, T> fmt::Debug for Honour<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Honour")
            .field("inner", &self.inner)
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}
