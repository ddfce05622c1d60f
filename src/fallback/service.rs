//! The service of a [`FallbackLayer`](super::FallbackLayer).

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{future::FallbackFuture, layer::Shared, rule::Rule, told::Discloses};
use crate::{
    call::{Carrier, Replay},
    classify::Classify,
    error::BoxError,
};

/// Calls another service when a call has failed for good.
pub struct Fallback<S, F, R, Cl> {
    inner: S,
    shared: Arc<Shared<F, R, Cl>>,
}

impl<S, F, R, Cl> Fallback<S, F, R, Cl> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<F, R, Cl>>) -> Self {
        Self { inner, shared }
    }
}

impl<S: Clone, F, R, Cl> Clone for Fallback<S, F, R, Cl> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug, F, R, Cl> fmt::Debug for Fallback<S, F, R, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, F, R, Cl, C> Service<C> for Fallback<S, F, R, Cl>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt, Response: Discloses>,
    S::Error: Into<BoxError>,
    F: Service<C::Attempt, Response = S::Response> + Clone,
    F::Error: Into<BoxError>,
    R: Rule<S::Response>,
    Cl: Classify<S::Response>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = FallbackFuture<S, F, R, Cl, C>;

    /// Asks for who is called first. The fallback is waited for when it is needed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        FallbackFuture::new(&mut self.inner, call, Arc::clone(&self.shared))
    }
}
