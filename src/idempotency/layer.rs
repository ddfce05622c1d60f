//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Idempotency, IdempotencyConfig};

/// Gives each call its idempotency key, so that it is safe to repeat.
///
/// To add it is to say that the service honours such keys.
#[derive(Clone, Debug, Default)]
pub struct IdempotencyLayer {
    config: Arc<IdempotencyConfig>,
}

impl IdempotencyLayer {
    /// A layer of these settings.
    #[must_use]
    pub fn new(config: IdempotencyConfig) -> Self {
        Self { config: Arc::new(config) }
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(inner, Arc::clone(&self.config))
    }
}
