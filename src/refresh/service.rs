//! The service of a [`RefreshLayer`](super::RefreshLayer).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Apply, Refresh, RefreshFuture, Stale, Unauthorized, layer::Shared};
use crate::{
    call::{Carrier, Replay},
    error::BoxError,
};

/// Fetches a new credential when one is refused, and makes the call again with it.
pub struct RefreshService<S, Re, P = Unauthorized>
where
    Re: Refresh,
{
    inner: S,
    shared: Arc<Shared<Re, P>>,
}

impl<S, Re: Refresh, P> RefreshService<S, Re, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<Re, P>>) -> Self {
        Self { inner, shared }
    }
}

impl<S: Clone, Re: Refresh, P> Clone for RefreshService<S, Re, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: std::fmt::Debug, Re: Refresh, P> std::fmt::Debug for RefreshService<S, Re, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, Re, P, C> Service<C> for RefreshService<S, Re, P>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt> + Clone,
    S::Error: Into<BoxError>,
    Re: Apply<<C::Attempt as Carrier>::Request>,
    P: Stale<S::Response>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = RefreshFuture<S, C, Re, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        // The instance that was polled is the one that is called.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        RefreshFuture::new(ready, call, Arc::clone(&self.shared))
    }
}
