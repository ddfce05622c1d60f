//! The settings of an adaptive limit.

use std::time::Duration;

use crate::limit::config::{InvalidLimit, checked};

/// Between which bounds an adaptive limit moves, and how much it has to see before it does.
///
/// ```
/// use std::time::Duration;
/// use buttress::limit::AdaptiveConfig;
///
/// let config = AdaptiveConfig::new().bounds(5, 500)?.initial(50)?.window(Duration::from_secs(2))?;
/// # drop(config);
/// assert!(AdaptiveConfig::new().initial(300).is_err(), "above the greatest limit");
/// # Ok::<(), buttress::limit::InvalidLimit>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveConfig {
    pub(in crate::limit) least: u32,
    pub(in crate::limit) greatest: u32,
    pub(super) initial: u32,
    pub(super) window: Duration,
    pub(super) min_samples: u32,
}

/// The least limit, by default. One call at a time finds out that the service is back.
pub const DEFAULT_LEAST: u32 = 1;
/// The greatest limit, by default (failsafe-go and Netflix's concurrency-limits: 200). It holds
/// where nothing else does: for a service that never gets slower, however much it is asked.
pub const DEFAULT_GREATEST: u32 = 200;
/// The limit at the start, by default (failsafe-go and Netflix's concurrency-limits: 20).
pub const DEFAULT_INITIAL: u32 = 20;
/// How long is looked at before each change, by default (failsafe-go, Netflix: 1 s).
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(1);
/// How many answers are looked at before each change, at least, by default. The mean of 50
/// latencies that scatter as much as they are long is off by a seventh (failsafe-go: 50).
pub const DEFAULT_MIN_SAMPLES: u32 = 50;

const SHORTEST_WINDOW: Duration = Duration::from_millis(10);
const LONGEST_WINDOW: Duration = Duration::from_secs(60 * 60);

impl AdaptiveConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            least: DEFAULT_LEAST,
            greatest: DEFAULT_GREATEST,
            initial: DEFAULT_INITIAL,
            window: DEFAULT_WINDOW,
            min_samples: DEFAULT_MIN_SAMPLES,
        }
    }

    /// The least and the greatest limit (default: 1 and 200). The initial one moves between
    /// them, if it is not there yet.
    ///
    /// # Errors
    ///
    /// If the least is zero or above the greatest, or that is above two billion.
    pub fn bounds(mut self, least: u32, greatest: u32) -> Result<Self, InvalidLimit> {
        (self.least, self.greatest) = (checked(least)?, checked(greatest)?);
        if least > greatest {
            return Err(InvalidLimit::new("the least limit must not be above the greatest one"));
        }
        self.initial = self.initial.clamp(least, greatest);
        Ok(self)
    }

    /// The limit at the start (default: 20).
    ///
    /// # Errors
    ///
    /// If it is outside of the bounds: set those first.
    pub fn initial(mut self, calls: u32) -> Result<Self, InvalidLimit> {
        if !(self.least..=self.greatest).contains(&calls) {
            return Err(InvalidLimit::new(
                "the initial limit must be within the bounds: set those first",
            ));
        }
        self.initial = calls;
        Ok(self)
    }

    /// How long is looked at before each change (default: 1 s).
    ///
    /// # Errors
    ///
    /// If it is not between 10 ms and an hour.
    pub fn window(mut self, window: Duration) -> Result<Self, InvalidLimit> {
        if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
            return Err(InvalidLimit::new("the window must be between 10 ms and an hour"));
        }
        self.window = window;
        Ok(self)
    }

    /// How many calls must have ended within a window, which lasts until then (default: 50).
    ///
    /// # Errors
    ///
    /// If it is below 10: the mean of so few is an accident.
    pub fn min_samples(mut self, calls: u32) -> Result<Self, InvalidLimit> {
        if calls < 10 {
            return Err(InvalidLimit::new(
                "the samples of a window must be at least 10: the mean of fewer is an accident",
            ));
        }
        self.min_samples = calls;
        Ok(self)
    }
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_work_and_says_what_to_change() {
        let config = AdaptiveConfig::new;
        let wrong = [
            config().bounds(0, 10),
            config().bounds(11, 10),
            config().bounds(1, u32::MAX),
            config().initial(0),
            config().initial(DEFAULT_GREATEST + 1),
            config().window(SHORTEST_WINDOW - Duration::from_nanos(1)),
            config().window(LONGEST_WINDOW + Duration::from_nanos(1)),
            config().min_samples(9),
        ];
        for result in wrong {
            let error = result.expect_err("it cannot work");
            assert!(error.to_string().contains("must"), "{error}");
        }
        assert_eq!(config().bounds(30, 40).map(|config| config.initial), Ok(30));
    }
}
