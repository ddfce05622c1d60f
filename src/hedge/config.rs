//! When a second attempt is made, and who pays.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{budget::Budget, call::DEFAULT_REPLAY_CAP, event::Observer};

/// The settings of a [`HedgeLayer`](super::HedgeLayer).
#[derive(Clone, Debug)]
pub struct HedgeConfig {
    pub(super) delay: Duration,
    pub(super) replay_cap: usize,
    pub(super) budget: Budget,
    pub(super) observer: Observer,
}

impl HedgeConfig {
    /// Makes a second attempt when the first has not answered after `delay`.
    ///
    /// # Errors
    ///
    /// [`InvalidHedge`] if `delay` is zero.
    pub fn after(delay: Duration) -> Result<Self, InvalidHedge> {
        if delay.is_zero() {
            return Err(InvalidHedge);
        }
        Ok(Self {
            delay,
            replay_cap: DEFAULT_REPLAY_CAP,
            budget: Budget::default(),
            observer: Observer::none(),
        })
    }

    /// Who pays. Give it the budget of the retries.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// When the second attempt is made.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        self.delay
    }

    /// How much of a request's body is kept for the second attempt, in bytes.
    #[must_use]
    pub const fn replay_cap(mut self, cap: usize) -> Self {
        self.replay_cap = cap;
        self
    }

    /// Who is told of each hedge.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

/// A delay that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidHedge;

impl fmt::Display for InvalidHedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hedge without delay doubles every call: set it near the p95 of the service")
    }
}

impl StdError for InvalidHedge {}
