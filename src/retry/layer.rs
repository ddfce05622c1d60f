//! Builds retries.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tower_layer::Layer;

use super::{
    Retry, RetryConfig,
    ongoing::Terms,
    usual::{ONE_IN, Usual},
};
use crate::{
    budget::{Budget, Deposit},
    sync::{Mutex, lock},
    time::now,
};

/// Makes further attempts of calls that failed.
///
/// All services that one layer builds, and their clones, share its budget.
#[derive(Debug)]
pub struct RetryLayer<Cl> {
    rules: Arc<Rules<Cl>>,
}

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Rules<Cl> {
    pub(super) config: RetryConfig,
    pub(super) classifier: Cl,
    /// None if an attempt is begun however late it is.
    usual: Option<Mutex<Usual>>,
}

impl<Cl> Rules<Cl> {
    pub(crate) fn new(config: RetryConfig, classifier: Cl) -> Self {
        let usual = (!config.begin_late).then(|| Mutex::new(Usual::new(now())));
        Self { config, classifier, usual }
    }

    /// Who judges the outcomes.
    pub(crate) const fn classifier(&self) -> &Cl {
        &self.classifier
    }

    /// How much of a call's body is kept for further attempts; none if there are to be none.
    #[inline]
    pub(crate) fn keeps(&self, terms: Terms) -> Option<usize> {
        let policy = self.config.policies.of(terms.route());
        (policy.max_attempts.get() > 1 || policy.transparent).then_some(self.config.replay_cap)
    }

    /// Who pays for retries, if anybody does.
    pub(crate) const fn payer(&self) -> Option<&Budget> {
        self.config.payer()
    }

    /// What the success of a first try pays in.
    pub(crate) fn deposit(&self) -> Deposit {
        Deposit::new(self.config.budget.as_ref(), None)
    }

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
        Self { rules: Arc::new(Rules::new(config, classifier)) }
    }
}

impl<Cl> Clone for RetryLayer<Cl> {
    fn clone(&self) -> Self {
        Self { rules: Arc::clone(&self.rules) }
    }
}

impl<Cl, S> Layer<S> for RetryLayer<Cl> {
    type Service = Retry<S, Cl>;

    fn layer(&self, inner: S) -> Retry<S, Cl> {
        Retry::new(inner, Arc::clone(&self.rules))
    }
}
