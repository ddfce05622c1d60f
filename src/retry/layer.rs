//! Builds retries.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tower_layer::Layer;

use super::{
    Retry, RetryConfig,
    usual::{ONE_IN, Usual},
};
use crate::{
    sync::{Mutex, lock},
    time::now,
};

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
    /// None if an attempt is begun however late it is.
    usual: Option<Mutex<Usual>>,
}

impl<Cl> Shared<Cl> {
    /// A good answer has come to an attempt that began then. Only some are looked at.
    #[inline]
    pub(super) fn answered(&self, began: Instant) {
        let Some(usual) = &self.usual else { return };
        if self.config.entropy.draw() % ONE_IN == 0 {
            let now = now();
            lock(usual).record(now.saturating_duration_since(began), now);
        }
    }

    /// How long an attempt usually takes, if that is known and matters.
    pub(super) fn usual(&self, now: Instant) -> Option<Duration> {
        lock(self.usual.as_ref()?).middle(now)
    }
}

impl<Cl> RetryLayer<Cl> {
    /// A layer that judges by `classifier`.
    #[must_use]
    pub fn new(config: RetryConfig, classifier: Cl) -> Self {
        let usual = (!config.begin_late).then(|| Mutex::new(Usual::new(now())));
        Self { shared: Arc::new(Shared { config, classifier, usual }) }
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
