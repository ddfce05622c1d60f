//! The layer.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{Honour, HonourConfig, MemoryStore, Store, bells::Bells};

/// Honours the idempotency keys of requests: carries out each key once, and tells its answer to
/// whoever comes with it again.
///
/// Above what does the work, and beneath what may refuse it for reasons of its own:
/// authentication, limits, load shedding.
pub struct HonourLayer<T> {
    shared: Arc<Shared<T>>,
}

/// What all clones share.
pub(super) struct Shared<T> {
    pub(super) config: HonourConfig,
    pub(super) store: T,
    pub(super) bells: Bells,
}

impl<T: Store> HonourLayer<T> {
    /// Honours keys by `config`, and keeps what became of them in `store`.
    #[must_use]
    pub fn new(config: HonourConfig, store: T) -> Self {
        Self { shared: Arc::new(Shared { config, store, bells: Bells::new() }) }
    }
}

impl HonourLayer<MemoryStore> {
    /// The defaults, with a [`MemoryStore`]: for a service that forgets its work with its
    /// process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(HonourConfig::new(), MemoryStore::new())
    }
}

impl<S, T> Layer<S> for HonourLayer<T> {
    type Service = Honour<S, T>;

    fn layer(&self, inner: S) -> Honour<S, T> {
        Honour::new(inner, Arc::clone(&self.shared))
    }
}

impl<T> Clone for HonourLayer<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for HonourLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HonourLayer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
