//! Peak EWMA: a latency that rises at once and falls slowly.
//!
//! From Finagle's `PeakEwma` load metric (Twitter, `finagle-core/.../loadbalancer/p2c`): a
//! sample above the cost becomes the cost, one below it moves it by `1 − e^(−Δt/τ)`, so that a
//! slow answer is noticed with the first and forgiven over `τ`. Ours differs in that reading
//! does not change it (tower's does, so that looking at an endpoint makes it look younger).

use std::time::Duration;

/// How fast a cost falls.
///
/// Finagle's 10 s (`DefaultDecayTime`) keep an endpoint that was 40 times as slow as its peers
/// away for some 30 s after it has healed. In the fleet of `tests/simulation.rs` (one of five
/// 250 ms slower, mean 10 ms; the worst of eight seeds) a decay of 10, 4 and 2 s gives back half
/// of its share after 12.5, 6.5 and 3 s at 200 calls/s; but with 2 s it is tried so often that
/// at 20 calls/s more than one call in a hundred is slow. 4 s leave the p99 as it is.
pub const DEFAULT_DECAY: Duration = Duration::from_secs(4);

/// The cost after a `sample`, `since` after the sample that made it `cost`. In seconds.
#[must_use]
pub fn observe(cost: f64, since: Duration, sample: f64, decay: Duration) -> f64 {
    mix(cost, sample, (-ratio(since, decay)).exp())
}

/// The cost as it looks `since` after its last sample: without calls it fades, so that an
/// endpoint that was slow once is tried again.
#[must_use]
pub fn read(cost: f64, since: Duration, decay: Duration) -> f64 {
    cost * (-ratio(since, decay)).exp()
}

/// The cost after a `sample`, of which `kept` has not faded yet.
pub(crate) fn mix(cost: f64, sample: f64, kept: f64) -> f64 {
    if sample >= cost { sample } else { cost * kept + sample * (1.0 - kept) }
}

/// What has not faded after so many decay times, `e^(−Δt/τ)`: to a part in 10⁸, where the costs are
/// kept in an `f32`. Nothing has changed yet within the first 1/1024 of τ.
///
/// Where little is known of all that are looked at, a pick asks four times: with libm's exponential, a
/// call for each, that was 190 of its 700 instructions. This is the same without: a whole
/// power of two, and a polynomial for what is between them (through the Chebyshev nodes of
/// ±1/2, of degree 6, by which it is off by 2.5e-9 of its value at the most).
#[inline]
pub(crate) fn kept(ratio: f64) -> f64 {
    if ratio < 1.0 / 1024.0 {
        return 1.0 - ratio;
    }
    let halves = ratio * std::f64::consts::LOG2_E;
    if halves > NOTHING {
        return 0.0;
    }
    let whole = (halves + 0.5) as u32;
    let part = halves - f64::from(whole);
    let root = ROOT.iter().rev().fold(0.0, |sum, term| sum * part + term);
    root * f64::from_bits(u64::from(EXPONENT - whole) << MANTISSA)
}

/// After so many half-lives an `f64` has nothing left.
const NOTHING: f64 = 1020.0;
/// The exponent of 1, and the bits beneath it.
const EXPONENT: u32 = f64::MAX_EXP as u32 - 1;
const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;

/// `2^-x` for `x` within ±1/2, by powers of `x`.
const ROOT: [f64; 7] = [
    1.0,
    -0.693_147_206_702_832_7,
    0.240_226_509_222_887_05,
    -0.055_503_272_266_701_08,
    0.009_618_056_678_525_656,
    -0.001_340_042_817_767_985_5,
    0.000_154_614_446_993_958_06,
];

fn ratio(since: Duration, decay: Duration) -> f64 {
    since.as_secs_f64() / decay.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAU: Duration = Duration::from_secs(10);

    #[test]
    fn rises_at_once_and_falls_over_tau() {
        assert_eq!(observe(0.005, Duration::ZERO, 1.0, TAU), 1.0);
        let after_tau = observe(1.0, TAU, 0.0, TAU);
        assert!((after_tau - (-1.0_f64).exp()).abs() < 1e-12);
        assert!((read(1.0, TAU * 2, TAU) - (-2.0_f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn many_small_steps_fall_as_far_as_one_large_one() {
        let mut cost = 1.0;
        for _ in 0..10_000 {
            cost = observe(cost, Duration::from_millis(1), 0.0, TAU);
        }
        assert!((cost - (-1.0_f64).exp()).abs() < 1e-4, "{cost}");
    }

    #[test]
    fn nothing_is_kept_for_ever_and_all_of_it_at_first() {
        assert_eq!((kept(0.0), kept(800.0), kept(f64::INFINITY)), (1.0, 0.0, 0.0));
        // Where one power of two follows the other, there is no step.
        for halves in 1..900 {
            let at = (f64::from(halves) - 0.5) * std::f64::consts::LN_2;
            let (before, after) = (kept(at * (1.0 - 1e-12)), kept(at * (1.0 + 1e-12)));
            assert!((before / after - 1.0).abs() < 1e-8, "{before} and {after} at {at}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_exponential_to_a_part_in_a_hundred_million(ratio in 0.0_f64..700.0) {
            let exact = (-ratio).exp();
            // Up to 1/1024 it is a line.
            let error = if ratio < 1.0 / 1024.0 { 5e-7 } else { 1e-8 };
            prop_assert!((kept(ratio) / exact - 1.0).abs() < error, "{} at {ratio}", kept(ratio));
        }

        #[test]
        fn stays_between_the_cost_and_the_sample(
            cost in 0.0_f64..100.0, sample in 0.0_f64..100.0, millis in 0_u64..100_000,
        ) {
            let next = observe(cost, Duration::from_millis(millis), sample, TAU);
            prop_assert!(next >= sample.min(cost) - 1e-9 && next <= sample.max(cost) + 1e-9);
            prop_assert!(read(cost, Duration::from_millis(millis), TAU) <= cost);
        }
    }
}
