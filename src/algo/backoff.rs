//! How long to wait before another attempt.

use std::{error::Error as StdError, fmt, time::Duration};

/// Exponential backoff with full jitter: `U[0, min(cap, base · 2ⁿ))` before retry `n`, from 0.
///
/// Full jitter makes the fewest calls of all jitters when many clients contend (M. Brooker,
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Its draws may be 0.
///
/// | instead | made by | for |
/// |---|---|---|
/// | another factor than 2 | [`factor`](Self::factor) | a service that is to be asked sooner or later |
/// | the same wait each time | [`fixed`](Self::fixed) | a lock, or a leader that is being elected |
/// | Fibonacci's numbers | [`fibonacci`](Self::fibonacci) | a slower start than doubling |
/// | equal jitter, gRPC's, none | [`spread`](Self::spread) | a least wait; callers that chance need not keep apart |
/// | decorrelated jitter | [`decorrelated`](Self::decorrelated) | waits that follow the last one (the same study) |
/// | anything else | [`own`](Self::own) | |
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
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    /// The part of the ceiling that a draw of 0 waits, and the part that a draw of 1 would.
    least: f64,
    most: f64,
    growth: Growth,
}

/// How the ceiling grows from one retry to the next.
#[derive(Clone, Copy, Debug)]
enum Growth {
    Exponential {
        factor: f64,
    },
    Fibonacci,
    /// From the wait before: up to three times of it.
    Decorrelated,
    Own(fn(Wait) -> Duration),
}

/// What a backoff of your own is told.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Wait {
    /// Before which retry, counted from 0.
    pub retry: u32,
    /// The wait before the attempt that has just failed; zero before the first retry.
    pub previous: Duration,
    /// Chance, from `[0, 1)`.
    pub draw: f64,
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

    /// About the same wait each time: `U[0, wait)` with full jitter, just `wait` with
    /// [`spread(1.0, 1.0)`](Self::spread).
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`] if `wait` is zero.
    pub fn fixed(wait: Duration) -> Result<Self, InvalidBackoff> {
        Self::new(wait, wait)
    }

    /// Grows by Fibonacci's numbers, 1, 1, 2, 3, 5 times `base`, up to `cap`.
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`] if `base` is zero or above `cap`.
    pub fn fibonacci(base: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        Ok(Self { growth: Growth::Fibonacci, ..Self::new(base, cap)? })
    }

    /// Decorrelated jitter: `U[base, 3 · previous wait)`, up to `cap`; before the first retry
    /// `previous` is `base`. [`spread`](Self::spread) changes nothing about it.
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`] if `base` is zero or above `cap`.
    pub fn decorrelated(base: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        Ok(Self { growth: Growth::Decorrelated, ..Self::new(base, cap)? })
    }

    /// Waits for what `wait` says. Jitter is its own affair: callers that all wait for the same
    /// time come back together.
    ///
    /// ```
    /// use std::time::Duration;
    /// use buttress::algo::backoff::{Backoff, Wait};
    ///
    /// let backoff = Backoff::own(|wait: Wait| {
    ///     let longest = Duration::from_millis(100) * (wait.retry + 1);
    ///     longest.mul_f64(0.5 + wait.draw / 2.0)
    /// });
    /// assert_eq!(backoff.delay(1, 0.0), Duration::from_millis(100));
    /// ```
    #[must_use]
    pub fn own(wait: fn(Wait) -> Duration) -> Self {
        Self { growth: Growth::Own(wait), ..Self::default() }
    }

    /// Grows by this factor from one retry to the next, in the place of 2.
    ///
    /// # Errors
    ///
    /// [`InvalidFactor`] unless it is from 1 to 100.
    pub fn factor(mut self, factor: f64) -> Result<Self, InvalidFactor> {
        if !(1.0..=100.0).contains(&factor) {
            return Err(InvalidFactor);
        }
        self.growth = Growth::Exponential { factor };
        Ok(self)
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
        // As one number, not seconds and nanoseconds apart.
        let base = self.base.as_secs_f64();
        let grown = match self.growth {
            // 2^1023 is the largest power of two that an f64 has; beyond it all is infinite.
            Growth::Exponential { factor } => {
                base * factor.powi(i32::try_from(n).unwrap_or(i32::MAX).min(1023))
            }
            Growth::Fibonacci => base * fibonacci(n, self.cap.as_secs_f64() / base),
            Growth::Decorrelated => base * 3_f64.powi(i32::try_from(n).unwrap_or(640).min(640) + 1),
            Growth::Own(wait) => {
                return wait(Wait { retry: n, previous: Duration::ZERO, draw: 1.0 });
            }
        };
        Duration::try_from_secs_f64(grown).unwrap_or(Duration::MAX).min(self.cap)
    }

    /// The wait before retry `n`, counted from 0, for a `draw` from `[0, 1)`, if none is known
    /// that went before.
    #[must_use]
    pub fn delay(&self, n: u32, draw: f64) -> Duration {
        self.delay_after(Duration::ZERO, n, draw)
    }

    /// The wait before retry `n`, counted from 0, for a `draw` from `[0, 1)`, after a `previous`
    /// wait.
    #[must_use]
    pub fn delay_after(&self, previous: Duration, n: u32, draw: f64) -> Duration {
        // A NaN is no chance at all: the longest wait.
        let draw = if draw.is_nan() { 1.0 } else { draw.clamp(0.0, 1.0) };
        match self.growth {
            Growth::Own(wait) => wait(Wait { retry: n, previous, draw }),
            Growth::Decorrelated => {
                let (base, previous) = (self.base.as_secs_f64(), previous.max(self.base));
                let wait = base + (3.0 * previous.as_secs_f64() - base) * draw;
                Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX).min(self.cap)
            }
            Growth::Exponential { .. } | Growth::Fibonacci => self.spread_over(n, draw),
        }
    }

    fn spread_over(&self, n: u32, draw: f64) -> Duration {
        let ceiling = self.ceiling(n);
        let part = self.least + (self.most - self.least) * draw;
        // No seconds and back for the ceiling itself: a long one would lose its last digits.
        let scale = |part: f64, otherwise: Duration| match part {
            1.0 => ceiling,
            _ => Duration::try_from_secs_f64(ceiling.as_secs_f64() * part).unwrap_or(otherwise),
        };
        let longest = scale(self.most, Duration::MAX);
        scale(part, longest).min(longest)
    }
}

/// Fibonacci's number `n`, counted from 0: 1, 1, 2, 3, 5; or the first above `enough`.
fn fibonacci(n: u32, enough: f64) -> f64 {
    let (mut number, mut next) = (1.0, 1.0);
    for _ in 0..n {
        (number, next) = (next, number + next);
        if number > enough {
            break;
        }
    }
    number
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: DEFAULT_BASE,
            cap: DEFAULT_CAP,
            least: 0.0,
            most: 1.0,
            growth: Growth::Exponential { factor: 2.0 },
        }
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

/// A growth that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidFactor;

impl fmt::Display for InvalidFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("waits grow by a factor from 1, for the same wait each time, to 100")
    }
}

impl StdError for InvalidFactor {}

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
    fn grows_by_another_factor_or_not_at_all() {
        let second = Duration::from_secs(1);
        let by = |factor| Backoff::new(second, second * 100).expect("sound").factor(factor);
        let by_three = by(3.0).expect("sound");
        assert_eq!([0, 1, 2, 9].map(|n| by_three.ceiling(n).as_secs()), [1, 3, 9, 100]);
        let fixed = Backoff::fixed(second).expect("sound");
        assert_eq!([0, 1, 9].map(|n| fixed.ceiling(n)), [second; 3]);
        assert_eq!(fixed.delay(5, 0.5), second / 2);
        for factor in [0.5, 0.0, -1.0, 101.0, f64::NAN, f64::INFINITY] {
            assert!(by(factor).is_err(), "{factor}");
        }
        assert!(Backoff::fixed(Duration::ZERO).is_err());
    }

    #[test]
    fn counts_like_fibonacci() {
        let ms = Duration::from_millis(10);
        let backoff = Backoff::fibonacci(ms, Duration::from_secs(1)).expect("sound");
        let ceilings = [0, 1, 2, 3, 4, 5, 6].map(|n| backoff.ceiling(n).as_millis());
        assert_eq!(ceilings, [10, 10, 20, 30, 50, 80, 130]);
        assert_eq!(backoff.ceiling(u32::MAX), Duration::from_secs(1));
        assert_eq!(backoff.delay(4, 0.5), ms * 25 / 10);
    }

    #[test]
    fn decorrelated_waits_follow_the_one_before() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::decorrelated(second, second * 20).expect("sound");
        assert_eq!(backoff.delay(0, 0.0), second);
        assert_eq!(backoff.delay(0, 0.5), second * 2);
        assert_eq!(backoff.delay_after(second * 5, 1, 0.0), second);
        assert_eq!(backoff.delay_after(second * 5, 1, 0.5), second * 8);
        assert_eq!(backoff.delay_after(second * 9, 2, 1.0), second * 20);
        assert_eq!([0, 1, 2].map(|n| backoff.ceiling(n).as_secs()), [3, 9, 20]);
        assert_eq!(backoff.ceiling(u32::MAX), second * 20);
    }

    #[test]
    fn a_backoff_of_ones_own_is_told_what_went_before() {
        let backoff = Backoff::own(|wait| wait.previous + Duration::from_secs(wait.retry.into()));
        assert_eq!(backoff.delay_after(Duration::from_secs(2), 3, 0.5), Duration::from_secs(5));
        assert_eq!(backoff.ceiling(4), Duration::from_secs(4));
    }

    #[test]
    fn refuses_a_spread_that_cannot_be() {
        let spread = |least, most| Backoff::default().spread(least, most);
        for (least, most) in [(-0.1, 1.0), (1.0, 0.5), (0.0, 0.0), (0.0, 2.1), (f64::NAN, 1.0)] {
            assert!(spread(least, most).is_err(), "{least} to {most}");
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

        #[test]
        fn no_strategy_passes_its_cap_or_its_ceiling(
            n in 0_u32..5000,
            draw in 0.0_f64..1.0,
            previous in 0_u64..100_000,
        ) {
            let (base, cap) = (DEFAULT_BASE, DEFAULT_CAP);
            let all = [
                Backoff::fixed(base),
                Backoff::fibonacci(base, cap),
                Backoff::decorrelated(base, cap),
                Ok(Backoff::default().factor(1.1).expect("sound")),
            ];
            for backoff in all.map(|backoff| backoff.expect("sound")) {
                let wait = backoff.delay_after(Duration::from_millis(previous), n, draw);
                prop_assert!(wait <= cap, "{backoff:?}");
                prop_assert!(backoff.delay(n, draw) <= backoff.ceiling(n), "{backoff:?}");
                prop_assert!(backoff.ceiling(n) <= backoff.ceiling(n + 1), "{backoff:?}");
            }
        }
    }
}
