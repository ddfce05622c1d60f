//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Refresh, RefreshConfig, RefreshService, Unauthorized, desk::Desk};

/// Fetches a new credential when one is refused, and makes the call again with it.
///
/// Above retry: a refusal is no failure of an endpoint, so that a second try needs no budget,
/// and all attempts of it carry the new credential. Below the idempotency key: the second try is
/// the same call, and carries the same key. Below the deadline: the fetching is part of what the
/// caller waits for.
///
/// All services that one layer builds, and their clones, share the credential.
pub struct RefreshLayer<Re, P = Unauthorized>
where
    // What is shared holds what is fetched, and the fetching itself.
    Re: Refresh,
{
    shared: Arc<Shared<Re, P>>,
}

/// What all calls share.
pub(super) struct Shared<Re, P>
where
    Re: Refresh,
{
    pub(super) refresh: Re,
    pub(super) stale: P,
    pub(super) desk: Desk<Re::Credential, Re::Future>,
    pub(super) config: RefreshConfig,
}

impl<Re: Refresh> RefreshLayer<Re> {
    /// A layer that fetches by `refresh` when it meets a 401, or gRPC's `UNAUTHENTICATED`.
    #[must_use]
    pub fn new(config: RefreshConfig, refresh: Re) -> Self {
        Self::with_stale(config, refresh, Unauthorized)
    }
}

impl<Re: Refresh, P> RefreshLayer<Re, P> {
    /// A layer that fetches when `stale` says so of an answer.
    #[must_use]
    pub fn with_stale(config: RefreshConfig, refresh: Re, stale: P) -> Self {
        let desk = Desk::new(refresh.first(), &config);
        Self { shared: Arc::new(Shared { refresh, stale, desk, config }) }
    }
}

impl<Re: Refresh, P> Clone for RefreshLayer<Re, P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Re: Refresh, P> std::fmt::Debug for RefreshLayer<Re, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshLayer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl<Re: Refresh, P, S> Layer<S> for RefreshLayer<Re, P> {
    type Service = RefreshService<S, Re, P>;

    fn layer(&self, inner: S) -> RefreshService<S, Re, P> {
        RefreshService::new(inner, Arc::clone(&self.shared))
    }
}
