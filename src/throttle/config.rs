//! A throttle's settings.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::event::Observer;

/// When a throttle refuses, and how much.
///
/// The defaults and their reasons stand in the table of [the module](super).
///
/// ```
/// use std::time::Duration;
/// use buttress::throttle::ThrottleConfig;
///
/// // A call takes two seconds at most, so that four times as much is window enough.
/// let config = ThrottleConfig::new().window(Duration::from_secs(8))?;
///
/// let wrong = ThrottleConfig::new().multiplier(1.0).expect_err("it would never recover");
/// assert!(wrong.to_string().starts_with("the multiplier must be above 1"));
/// # drop(config);
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ThrottleConfig {
    pub(super) rules: Rules,
    pub(super) observer: Observer,
}

/// The numbers alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) multiplier: f64,
    pub(super) window: Duration,
    pub(super) max_probability: f64,
    pub(super) minimum_rate: u32,
}

/// How many times what a service accepts it is asked, by default (SRE book, "Handling
/// Overload"). Of two calls one is refused by the service then, which costs it little and shows
/// within seconds that it can take more.
pub const DEFAULT_MULTIPLIER: f64 = 2.0;
/// How long a call counts, by default: two minutes (SRE book), which is four times a
/// [call's deadline](crate::timeout::DEFAULT_TOTAL). A request counts before its answer does,
/// and a window of less would hold many of the ones without the others.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(120);
/// The greatest probability of a refusal, by default: a tenth of the calls finds out that the
/// service is back. (Envoy's admission control stops at 80 %.)
pub const DEFAULT_MAX_PROBABILITY: f64 = 0.9;
/// The least calls a second that are judged, by default: a client that calls less often is no
/// burden, and the share of a few calls is an accident. (Envoy's `rps_threshold`.)
pub const DEFAULT_MINIMUM_RATE: u32 = 5;

/// More than this is no throttle.
const GREATEST_MULTIPLIER: f64 = 100.0;
/// A bucket is then a hundred milliseconds wide.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// It would remember yesterday.
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

impl ThrottleConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many times what the service accepts it is asked (default: 2). Less refuses sooner and
    /// recovers slower; more spends more of the service on refusing.
    ///
    /// # Errors
    ///
    /// If it is not above 1 and at most 100.
    pub fn multiplier(mut self, multiplier: f64) -> Result<Self, InvalidThrottle> {
        if !(multiplier > 1.0 && multiplier <= GREATEST_MULTIPLIER) {
            return Err(InvalidThrottle::new(
                "the multiplier must be above 1, since at 1 what was once refused would be \
                 refused for ever, and at most 100",
            ));
        }
        self.rules.multiplier = multiplier;
        Ok(self)
    }

    /// How long a call counts (default: two minutes). At least four times as long as a call may
    /// take; after an outage it takes two to three of it until every call goes out again.
    ///
    /// # Errors
    ///
    /// If it is not between a second and a day.
    pub fn window(mut self, window: Duration) -> Result<Self, InvalidThrottle> {
        if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
            return Err(InvalidThrottle::new(
                "the window must be between a second and a day: set it to four times the \
                 deadline of a call",
            ));
        }
        self.rules.window = window;
        Ok(self)
    }

    /// The greatest probability with which a call is refused (default: 0.9).
    ///
    /// # Errors
    ///
    /// If it is not above 0 and below 1: nobody would find out that the service is back.
    pub fn max_probability(mut self, probability: f64) -> Result<Self, InvalidThrottle> {
        if !(probability > 0.0 && probability < 1.0) {
            return Err(InvalidThrottle::new(
                "the greatest probability must be above 0 and below 1: some calls have to find \
                 out that the service is back",
            ));
        }
        self.rules.max_probability = probability;
        Ok(self)
    }

    /// How many calls a second, in the mean over the window, are judged at all (default: 5).
    ///
    /// # Errors
    ///
    /// If it is zero: a single failure would be all that is known.
    pub fn minimum_rate(mut self, per_second: u32) -> Result<Self, InvalidThrottle> {
        if per_second == 0 {
            return Err(InvalidThrottle::new(
                "the minimum rate must be at least 1 a second: the share of a single call says \
                 nothing",
            ));
        }
        self.rules.minimum_rate = per_second;
        Ok(self)
    }

    /// Who hears of each call that is refused (default: nobody).
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            multiplier: DEFAULT_MULTIPLIER,
            window: DEFAULT_WINDOW,
            max_probability: DEFAULT_MAX_PROBABILITY,
            minimum_rate: DEFAULT_MINIMUM_RATE,
        }
    }
}

/// A setting of [`ThrottleConfig`] that can't work; its text says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidThrottle {
    sentence: &'static str,
}

impl InvalidThrottle {
    const fn new(sentence: &'static str) -> Self {
        Self { sentence }
    }
}

impl fmt::Display for InvalidThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidThrottle {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_work_and_says_what_to_change() {
        let config = ThrottleConfig::new;
        let day = LONGEST_WINDOW;
        let wrong = [
            config().multiplier(1.0),
            config().multiplier(f64::NAN),
            config().multiplier(101.0),
            config().multiplier(f64::INFINITY),
            config().window(SHORTEST_WINDOW - Duration::from_nanos(1)),
            config().window(day + Duration::from_nanos(1)),
            config().max_probability(0.0),
            config().max_probability(1.0),
            config().max_probability(f64::NAN),
            config().minimum_rate(0),
        ];
        for result in wrong {
            let error = result.expect_err("it cannot work");
            assert!(error.to_string().contains("must"), "{error}");
        }
        let right = config()
            .multiplier(1.1)
            .and_then(|config| config.multiplier(100.0))
            .and_then(|config| config.window(day))
            .and_then(|config| config.max_probability(0.99))
            .and_then(|config| config.minimum_rate(1));
        assert!(right.is_ok());
    }

    #[test]
    fn the_default_window_is_four_times_the_default_deadline() {
        assert_eq!(DEFAULT_WINDOW, 4 * Duration::from_secs(30));
    }
}
