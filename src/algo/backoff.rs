//! How long to wait before another attempt.

use std::{error::Error as StdError, fmt, time::Duration};

/// Exponential backoff with full jitter: `U[0, min(cap, base · 2ⁿ))` before retry `n`, from 0.
///
/// Full jitter makes the fewest calls of all jitters when many clients contend (M. Brooker,
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Its draws may be 0.
///
/// ```
/// use std::time::Duration;
/// use buttress::algo::backoff::Backoff;
///
/// let backoff = Backoff::default();
/// assert_eq!(backoff.ceiling(0), Duration::from_millis(50));
/// assert_eq!(backoff.ceiling(2), Duration::from_millis(200));
/// assert_eq!(backoff.delay(2, 0.25), Duration::from_millis(50));
/// assert_eq!(backoff.ceiling(u32::MAX), Duration::from_secs(20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    /// The part of the ceiling that a draw of 0 waits, and the part that a draw of 1 would.
    least: f64,
    most: f64,
}

/// The ceiling before the first retry (AWS SDKs, retry specification 2.1).
pub const DEFAULT_BASE: Duration = Duration::from_millis(50);
/// The highest ceiling (AWS SDKs, retry specification 2.1).
pub const DEFAULT_CAP: Duration = Duration::from_secs(20);

impl Backoff {
    /// A backoff that grows from `base` to `cap`.
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`] if `base` is zero or above `cap`.
    pub fn new(base: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() || base > cap {
            return Err(InvalidBackoff { base, cap });
        }
        Ok(Self { base, cap, ..Self::default() })
    }

    /// Waits `U[least, most)` times the ceiling, instead of full jitter's `U[0, 1)`.
    ///
    /// gRPC's is `(0.8, 1.2)` (gRFC A6), so its longest wait is a fifth above the cap; equal
    /// jitter is `(0.5, 1.0)`; and `(1.0, 1.0)` leaves nothing to chance, for services that keep
    /// their callers apart by other means.
    ///
    /// # Errors
    ///
    /// [`InvalidSpread`] unless `0 ≤ least ≤ most` and `most` is above 0 and at most 2.
    pub fn spread(mut self, least: f64, most: f64) -> Result<Self, InvalidSpread> {
        let sound = 0.0 <= least && least <= most && 0.0 < most && most <= 2.0;
        if !sound {
            return Err(InvalidSpread);
        }
        (self.least, self.most) = (least, most);
        Ok(self)
    }

    /// The longest wait before retry `n`, counted from 0.
    #[must_use]
    pub fn ceiling(&self, n: u32) -> Duration {
        // One number, not seconds and nanoseconds apart; 2^1023 is the largest power an f64 has.
        let doublings = i32::try_from(n).unwrap_or(i32::MAX).min(1023);
        let grown = self.base.as_secs_f64() * 2_f64.powi(doublings);
        Duration::try_from_secs_f64(grown).unwrap_or(Duration::MAX).min(self.cap)
    }

    /// The wait before retry `n`, counted from 0, for a `draw` from `[0, 1)`.
    #[must_use]
    pub fn delay(&self, n: u32, draw: f64) -> Duration {
        let ceiling = self.ceiling(n);
        let part = self.least + (self.most - self.least) * draw.clamp(0.0, 1.0);
        // No seconds and back for the ceiling itself: a long one would lose its last digits.
        let scale = |part: f64, otherwise: Duration| match part {
            1.0 => ceiling,
            _ => Duration::try_from_secs_f64(ceiling.as_secs_f64() * part).unwrap_or(otherwise),
        };
        let longest = scale(self.most, Duration::MAX);
        scale(part, longest).min(longest)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: DEFAULT_BASE, cap: DEFAULT_CAP, least: 0.0, most: 1.0 }
    }
}

/// A backoff that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidBackoff {
    /// The base that was asked for.
    pub base: Duration,
    /// The cap that was asked for.
    pub cap: Duration,
}

impl fmt::Display for InvalidBackoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, cap } = self;
        if base.is_zero() {
            return f
                .write_str("a backoff that starts at zero never waits: set its base above zero");
        }
        write!(f, "the backoff's base of {base:?} is above its cap of {cap:?}: raise the cap")
    }
}

impl StdError for InvalidBackoff {}

/// A jitter that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidSpread;

impl fmt::Display for InvalidSpread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a wait is spread over parts of its ceiling: give the least first, from 0, and the \
             most above 0 and up to 2",
        )
    }
}

impl StdError for InvalidSpread {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_up_to_its_cap_without_losing_fractions() {
        let backoff = Backoff::new(Duration::from_micros(373_750), Duration::from_secs(3))
            .expect("a sound backoff");
        assert_eq!(backoff.ceiling(1), Duration::from_micros(747_500));
        assert_eq!(backoff.ceiling(2), Duration::from_micros(1_495_000));
        assert_eq!(backoff.ceiling(3), Duration::from_micros(2_990_000));
        assert_eq!(backoff.ceiling(4), Duration::from_secs(3));
        assert_eq!(backoff.delay(2, 0.999), Duration::from_nanos(1_493_505_000));
    }

    #[test]
    fn refuses_what_cannot_be() {
        let second = Duration::from_secs(1);
        assert!(Backoff::new(Duration::ZERO, second).is_err());
        let error = Backoff::new(second * 2, second).expect_err("the base is above the cap");
        assert!(error.to_string().contains("raise the cap"), "{error}");
    }

    #[test]
    fn the_longest_of_all_backoffs_does_not_overflow() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::MAX).expect("sound");
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::MAX);
        assert_eq!(backoff.delay(0, f64::NAN), Duration::from_secs(1));
    }

    #[test]
    fn can_be_spread_otherwise() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, second * 4).expect("sound");
        let grpc = backoff.spread(0.8, 1.2).expect("gRPC's own");
        assert_eq!(grpc.delay(0, 0.0), Duration::from_millis(800));
        assert_eq!(grpc.delay(1, 0.5), second * 2);
        assert_eq!(grpc.delay(9, 1.0), Duration::from_millis(4_800));
        let fixed = backoff.spread(1.0, 1.0).expect("no chance");
        assert_eq!([0.0, 0.3, 1.0].map(|draw| fixed.delay(1, draw)), [second * 2; 3]);
        let long = Backoff::new(second, Duration::MAX).expect("sound");
        let long = long.spread(0.0, 2.0).expect("the widest");
        assert_eq!(long.delay(u32::MAX, 1.0), Duration::MAX);
    }

    #[test]
    fn refuses_a_spread_that_cannot_be() {
        let spread = |least, most| Backoff::default().spread(least, most);
        for (least, most) in [(-0.1, 1.0), (1.0, 0.5), (0.0, 0.0), (0.0, 2.1), (f64::NAN, 1.0)] {
            assert_eq!(spread(least, most), Err(InvalidSpread), "{least} to {most}");
        }
    }

    proptest! {
        #[test]
        fn stays_within_its_ceiling_and_never_shrinks(n in 0_u32..5000, draw in 0.0_f64..1.0) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay(n, draw) <= backoff.ceiling(n));
            prop_assert!(backoff.ceiling(n) <= backoff.ceiling(n + 1));
            prop_assert!(backoff.ceiling(n) <= DEFAULT_CAP);
        }
    }
}
