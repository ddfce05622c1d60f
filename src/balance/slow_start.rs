//! The first while of an endpoint that joins others or comes back.

use std::time::Duration;

use super::config::InvalidBalance;

/// How an endpoint that joins others, or comes back, gets to its full share of the calls.
///
/// Its weight is `max(0.1, (age / window)^(1 / aggression))` of what it will be (Envoy's
/// `slow_start_config`): of a window of 30 s it has a tenth for 3 s, half after 15 s, all of it after
/// 30 s. A higher aggression gives more at first. In so many of the picks that it is drawn for it is
/// compared as any other; in the rest its load is divided by its share, so that it still gets more
/// where the others are very busy. (Divided in all of them, it would get nothing at all while the
/// others have little to do, and warm nothing.)
///
/// Those that are there when the balancer gets its first endpoints start at once: there is nobody
/// else to take their calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// In seconds; 0 is off.
    window: f64,
    /// 1 / aggression.
    exponent: f64,
}

/// The window, unless another is asked for: a program has its pools full and its code warm by
/// then, and a fleet that is deployed one by one is not short of anybody for long.
pub const DEFAULT_SLOW_START: Duration = Duration::from_secs(30);

/// The least share (Envoy, `min_weight_percent`): less than a tenth would never warm anything.
const LEAST: f64 = 0.1;

impl SlowStart {
    /// No slow start: an endpoint has its full share at once.
    pub const OFF: Self = Self { window: 0.0, exponent: 1.0 };

    /// Over this window, by an aggression of 1. A window of zero is [`SlowStart::OFF`].
    #[must_use]
    pub const fn over(window: Duration) -> Self {
        Self { window: window.as_secs_f64(), exponent: 1.0 }
    }

    /// More than linear at first above 1, less below.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance`] if it is not above zero.
    pub fn aggression(mut self, aggression: f64) -> Result<Self, InvalidBalance> {
        if !(aggression.is_finite() && aggression > 0.0) {
            return Err(InvalidBalance::Aggression);
        }
        self.exponent = 1.0 / aggression;
        Ok(self)
    }

    pub(super) const fn is_off(&self) -> bool {
        self.window <= 0.0
    }

    /// The share of its weight after so many seconds.
    pub(super) fn share(&self, age: f64) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        (age / self.window).powf(self.exponent).max(LEAST)
    }
}

impl Default for SlowStart {
    /// Over 30 s.
    fn default() -> Self {
        Self::over(DEFAULT_SLOW_START)
    }
}

/// What to multiply its load with in one pick. The draw is 64 random bits.
pub(super) fn handicap(share: f64, draw: impl FnOnce() -> u64) -> f64 {
    const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
    if share >= 1.0 || (draw() >> 11) as f64 * SCALE < share { 1.0 } else { 1.0 / share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_envoy() {
        let share = |aggression, age| {
            let rule = SlowStart::over(Duration::from_secs(60)).aggression(aggression);
            rule.expect("above zero").share(age)
        };
        assert_eq!([share(1.0, 0.0), share(1.0, 6.0), share(1.0, 30.0)], [0.1, 0.1, 0.5]);
        // The square root, and the square.
        assert_eq!([share(2.0, 15.0), share(0.5, 30.0)], [0.5, 0.25]);
        assert_eq!([share(2.0, 60.0), share(0.5, 1e9)], [1.0, 1.0]);
        assert_eq!(SlowStart::OFF.share(0.0), 1.0);
        assert!(SlowStart::default().aggression(0.0).is_err());
    }
}
