//! The settings of a fallback.

use std::{error::Error as StdError, fmt};

use crate::{call::DEFAULT_REPLAY_CAP, event::Observer};

/// The share of a call's time that is kept for the fallback, by default: enough for one try of
/// something that answers as fast as the service does, when three tries of the service fit into
/// the rest.
pub const DEFAULT_RESERVE_PERCENT: u32 = 25;

/// The settings of a [`FallbackLayer`](super::FallbackLayer).
#[derive(Clone, Debug)]
pub struct FallbackConfig {
    pub(super) name: &'static str,
    pub(super) reserve_percent: u32,
    pub(super) replay_cap: usize,
    pub(super) observer: Observer,
}

impl FallbackConfig {
    /// The defaults, for a fallback of this name: a stable code, since it stands in events and
    /// in each answer.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            reserve_percent: DEFAULT_RESERVE_PERCENT,
            replay_cap: DEFAULT_REPLAY_CAP,
            observer: Observer::none(),
        }
    }

    /// How much of the time that is left of a call's deadline is kept for the fallback, in
    /// percent (default: 25). The rest is what the layers below see as the call's deadline. With
    /// 0, who takes all of the time has no fallback.
    ///
    /// # Errors
    ///
    /// [`InvalidFallback`] if it is above 90: the call itself must have a chance.
    pub fn reserve_percent(mut self, percent: u32) -> Result<Self, InvalidFallback> {
        if percent > MOST_RESERVE_PERCENT {
            return Err(InvalidFallback);
        }
        self.reserve_percent = percent;
        Ok(self)
    }

    /// How much of a request's body is kept for the fallback, in bytes (default: 64 KiB). A
    /// call with a larger one is made all the same, and has no fallback.
    #[must_use]
    pub const fn replay_cap(mut self, cap: usize) -> Self {
        self.replay_cap = cap;
        self
    }

    /// Who hears of each fallback, and of each that was not to be had.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

/// The settings of a [`StandInLayer`](super::StandInLayer).
#[derive(Clone, Debug)]
pub struct StandInConfig {
    pub(super) name: &'static str,
    pub(super) observer: Observer,
}

impl StandInConfig {
    /// The defaults, for a stand-in of this name: a stable code, since it stands in events and in
    /// each answer.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self { name, observer: Observer::none() }
    }

    /// Who hears of each fallback, and of each that was not to be had.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

/// Then it is the fallback that is called, and not the service.
const MOST_RESERVE_PERCENT: u32 = 90;

/// A reserve that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidFallback;

impl fmt::Display for InvalidFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the reserve must be at most 90 %: the service that is called first needs time to \
             answer",
        )
    }
}

impl StdError for InvalidFallback {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_leaves_something_for_the_call_itself() {
        let config = FallbackConfig::named("eu");
        assert!(config.clone().reserve_percent(0).is_ok());
        assert!(config.clone().reserve_percent(90).is_ok());
        let error = config.reserve_percent(91).expect_err("too much");
        assert!(error.to_string().contains("must"));
    }
}
