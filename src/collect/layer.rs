//! The layer.

use tower_layer::Layer;

use super::{Collect, CollectConfig};

/// Reads response bodies within the attempt.
///
/// Below the attempt timeout, because that has to bound the body too; above what turns a
/// body's bytes into others (decompression), because the caller's bytes are to be collected.
#[derive(Clone, Copy, Debug, Default)]
pub struct CollectLayer {
    config: CollectConfig,
}

impl CollectLayer {
    /// Collects by `config`.
    #[must_use]
    pub const fn new(config: CollectConfig) -> Self {
        Self { config }
    }

    /// Collects all bodies but those that are meant to last.
    #[must_use]
    pub const fn always() -> Self {
        Self::new(CollectConfig::new().always(true))
    }
}

impl<S> Layer<S> for CollectLayer {
    type Service = Collect<S>;

    fn layer(&self, inner: S) -> Collect<S> {
        Collect::new(inner, self.config)
    }
}
