//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Idempotency, IdempotencyConfig};

/// Gives each call its idempotency key, so that it is safe to repeat.
///
/// To add it is to say that the service honours such keys.
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    config: Option<Arc<IdempotencyConfig>>,
}

impl IdempotencyLayer {
    /// A layer of these settings.
    #[must_use]
    pub fn new(config: IdempotencyConfig) -> Self {
        Self::optional(Some(config))
    }

    /// A layer that mints keys, or one that lets every call pass as it is, for stacks that
    /// decide at run time.
    #[must_use]
    pub fn optional(config: Option<IdempotencyConfig>) -> Self {
        Self { config: config.map(Arc::new) }
    }
}

impl Default for IdempotencyLayer {
    fn default() -> Self {
        Self::new(IdempotencyConfig::new())
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(inner, self.config.clone())
    }
}
