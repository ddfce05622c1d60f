//! Wraps services.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{config::FallbackConfig, service::Fallback};

/// Calls another service when a call has failed for good; see [the module](super).
///
/// The other service answers with the same type of response. It is cloned when it is needed, and
/// not before.
pub struct FallbackLayer<F, R, Cl> {
    shared: Arc<Shared<F, R, Cl>>,
}

/// What all calls share.
pub(super) struct Shared<F, R, Cl> {
    pub(super) config: FallbackConfig,
    pub(super) rule: R,
    pub(super) fallback: F,
    pub(super) classifier: Cl,
}

impl<F, R, Cl> FallbackLayer<F, R, Cl> {
    /// `fallback` answers where `rule` says so. `classifier` says what the outcomes mean.
    pub fn new(config: FallbackConfig, rule: R, fallback: F, classifier: Cl) -> Self {
        Self { shared: Arc::new(Shared { config, rule, fallback, classifier }) }
    }
}

impl<F, R, Cl> Clone for FallbackLayer<F, R, Cl> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<F, R, Cl> fmt::Debug for FallbackLayer<F, R, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl<S, F, R, Cl> Layer<S> for FallbackLayer<F, R, Cl> {
    type Service = Fallback<S, F, R, Cl>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback::new(inner, Arc::clone(&self.shared))
    }
}
