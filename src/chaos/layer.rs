//! Wraps services.

use tower_layer::Layer;

use super::{handle::Chaos, service::ChaosService};

/// Puts a chaos before a service; see [the module](super).
#[derive(Clone, Debug)]
pub struct ChaosLayer {
    chaos: Chaos,
}

impl ChaosLayer {
    /// A layer with this chaos; all services that it makes share it.
    #[must_use]
    pub const fn new(chaos: Chaos) -> Self {
        Self { chaos }
    }

    /// The chaos.
    #[must_use]
    pub const fn chaos(&self) -> &Chaos {
        &self.chaos
    }
}

impl<S> Layer<S> for ChaosLayer {
    type Service = ChaosService<S>;

    fn layer(&self, inner: S) -> ChaosService<S> {
        ChaosService::new(inner, self.chaos.clone(), None)
    }
}
