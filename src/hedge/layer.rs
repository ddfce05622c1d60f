//! Builds hedges.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tower_layer::Layer;

use super::{Hedge, HedgeConfig, Pacer, config::When};
use crate::{
    sync::{Mutex, Padded, lock},
    time::now,
};

/// Makes a second attempt of calls that are slow. Stands below retry, above the balancer.
///
/// All services that one layer builds, and their clones, share what is known of the latencies,
/// and the allowance: use one layer for one service.
#[derive(Debug)]
pub struct HedgeLayer<Cl> {
    shared: Arc<Shared<Cl>>,
}

/// What all calls share.
pub(super) struct Shared<Cl> {
    pub(super) config: HedgeConfig,
    pub(super) classifier: Cl,
    pub(super) pacer: Padded<Mutex<Pacer>>,
}

impl<Cl> Shared<Cl> {
    pub(super) fn delay(&self, now: Instant) -> Option<Duration> {
        match self.config.rules.when {
            When::After(delay) => Some(delay),
            When::Slowest => lock(&self.pacer).delay(now),
        }
    }
}

// Not derived: the latencies alone are four thousand numbers.
impl<Cl: fmt::Debug> fmt::Debug for Shared<Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("classifier", &self.classifier)
            .finish_non_exhaustive()
    }
}

impl<Cl> HedgeLayer<Cl> {
    /// A layer that judges by `classifier`.
    #[must_use]
    pub fn new(config: HedgeConfig, classifier: Cl) -> Self {
        let pacer = Padded(Mutex::new(Pacer::new(&config, now())));
        Self { shared: Arc::new(Shared { config, classifier, pacer }) }
    }
}

impl<Cl> Clone for HedgeLayer<Cl> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Cl, S> Layer<S> for HedgeLayer<Cl> {
    type Service = Hedge<S, Cl>;

    fn layer(&self, inner: S) -> Hedge<S, Cl> {
        Hedge::new(inner, Arc::clone(&self.shared))
    }
}
