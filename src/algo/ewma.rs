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
    mix(cost, sample, kept(ratio(since, decay)))
}

/// The cost as it looks `since` after its last sample: without calls it fades, so that an
/// endpoint that was slow once is tried again.
#[must_use]
pub fn read(cost: f64, since: Duration, decay: Duration) -> f64 {
    cost * kept(ratio(since, decay))
}

/// The cost after a `sample`, of which `kept` has not faded yet.
pub(crate) fn mix(cost: f64, sample: f64, kept: f64) -> f64 {
    if sample >= cost { sample } else { cost * kept + sample * (1.0 - kept) }
}

/// What has not faded after so many decay times: `e^(−Δt/τ)`. Nothing has changed yet within the
/// first 1/1024 of τ, which spares the hottest path the exponential.
#[inline]
pub(crate) fn kept(ratio: f64) -> f64 {
    if ratio < 1.0 / 1024.0 { 1.0 - ratio } else { (-ratio).exp() }
}

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

    proptest! {
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
