//! Builds retries.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Retry, RetryConfig};

/// Makes further attempts of calls that failed.
///
/// All services that one layer builds, and their clones, share its budget.
#[derive(Debug)]
pub struct RetryLayer<Cl> {
    shared: Arc<Shared<Cl>>,
}

/// What all calls share.
#[derive(Debug)]
pub(super) struct Shared<Cl> {
    pub(super) config: RetryConfig,
    pub(super) classifier: Cl,
}

impl<Cl> RetryLayer<Cl> {
    /// A layer that judges by `classifier`.
    #[must_use]
    pub fn new(config: RetryConfig, classifier: Cl) -> Self {
        Self { shared: Arc::new(Shared { config, classifier }) }
    }
}

impl<Cl> Clone for RetryLayer<Cl> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Cl, S> Layer<S> for RetryLayer<Cl> {
    type Service = Retry<S, Cl>;

    fn layer(&self, inner: S) -> Retry<S, Cl> {
        Retry::new(inner, Arc::clone(&self.shared))
    }
}
