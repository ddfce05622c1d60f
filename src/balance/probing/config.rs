//! The settings of a policy that probes.

use std::time::Duration;

use super::pace::Rates;
use crate::balance::config::InvalidBalance;

/// Probes a call, on average (`r_probe`).
pub const DEFAULT_PROBES: f64 = 3.0;
/// Answers that are removed from the pool with each call (`r_remove`), so that it is not filled in
/// time by those that nobody picks.
pub const DEFAULT_REMOVALS: f64 = 1.0;
/// Answers in the pool at the most (`m`). In the paper a larger one gains nothing.
pub const DEFAULT_POOL: usize = 16;
/// The most that can be asked for: each pick looks at all of them.
pub const LARGEST_POOL: usize = 32;
/// How old an answer in the pool may be.
pub const DEFAULT_ANSWER_AGE: Duration = Duration::from_secs(1);
/// Which quantile of the requests in flight is still cold (`Q_RIF`, `2^-0.25` in the paper, where
/// anything from 0.6 to 0.9 does).
pub const DEFAULT_COLD: f64 = 0.84;
/// How much more comes into the pool with each call than goes out of it (`δ`).
pub const DEFAULT_SURPLUS: f64 = 1.0;
/// How long an answer to a probe is waited for: a tenth of the age of the oldest that counts. The
/// paper has 3 ms, in networks whose round trips are far below, and by a server that answers probes
/// before all else.
pub const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_millis(100);
/// How many probes may be under way at a time: at three probes a call, and a millisecond each,
/// those of 20,000 calls/s.
pub const DEFAULT_UNDER_WAY: usize = 64;
/// After how long without a probe some are sent although nobody calls: twice in the life of an
/// answer, so that there are some when a call comes. The paper has such a limit and does not say
/// which.
pub const DEFAULT_IDLE: Duration = Duration::from_millis(500);

/// How a [`Probing`](super::Probing) policy asks, and what it makes of the answers. The symbols are
/// those of the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbingConfig {
    pub(super) probes: f64,
    removals: f64,
    pool: usize,
    age: Duration,
    cold: f64,
    surplus: f64,
    pub(super) timeout: Duration,
    pub(super) under_way: usize,
    pub(super) idle: Option<Duration>,
}

impl ProbingConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            probes: DEFAULT_PROBES,
            removals: DEFAULT_REMOVALS,
            pool: DEFAULT_POOL,
            age: DEFAULT_ANSWER_AGE,
            cold: DEFAULT_COLD,
            surplus: DEFAULT_SURPLUS,
            timeout: DEFAULT_PROBE_TIMEOUT,
            under_way: DEFAULT_UNDER_WAY,
            idle: Some(DEFAULT_IDLE),
        }
    }

    /// How many probes are sent for each call (default: [3](DEFAULT_PROBES)), and how many answers are
    /// removed from the pool with it beside the one that it uses up (default:
    /// [1](DEFAULT_REMOVALS)), on average: both may be fractions.
    ///
    /// Fewer than one probe a call cost the tail most of what probing gains, in the paper and in the
    /// ramp of [`docs::balancing`](crate::docs::balancing).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::ProbeRates`] unless 0 ≤ removals < probes ≤ 16.
    pub fn rates(mut self, probes: f64, removals: f64) -> Result<Self, InvalidBalance> {
        // Written so that what is no number is refused as well.
        if !(removals >= 0.0 && removals < probes && probes <= MOST_PROBES) {
            return Err(InvalidBalance::ProbeRates);
        }
        (self.probes, self.removals) = (probes, removals);
        Ok(self)
    }

    /// How many answers the pool has at the most (default: [16](DEFAULT_POOL)).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::PoolSize`] unless it is from 2 to [32](LARGEST_POOL).
    pub const fn pool(mut self, answers: usize) -> Result<Self, InvalidBalance> {
        if answers < 2 || answers > LARGEST_POOL {
            return Err(InvalidBalance::PoolSize);
        }
        self.pool = answers;
        Ok(self)
    }

    /// How old an answer may be (default: [1 s](DEFAULT_ANSWER_AGE)).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::AnswerAge`] if it is zero.
    pub const fn age(mut self, age: Duration) -> Result<Self, InvalidBalance> {
        if age.is_zero() {
            return Err(InvalidBalance::AnswerAge);
        }
        self.age = age;
        Ok(self)
    }

    /// Up to which quantile of the requests in flight that endpoints had of late one is cold
    /// (default: [0.84](DEFAULT_COLD)). With 1 the latency alone decides, with 0 the requests in
    /// flight alone.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Quantile`] if it is not between 0 and 1.
    pub fn cold(mut self, quantile: f64) -> Result<Self, InvalidBalance> {
        if !(0.0..=1.0).contains(&quantile) {
            return Err(InvalidBalance::Quantile);
        }
        self.cold = quantile;
        Ok(self)
    }

    /// How many answers more come with each call than go, until the pool is full (default:
    /// [1](DEFAULT_SURPLUS)). The less there are, the more calls each serves.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Surplus`] if it is not above 0, or infinite.
    pub fn surplus(mut self, answers: f64) -> Result<Self, InvalidBalance> {
        if !(answers.is_finite() && answers > 0.0) {
            return Err(InvalidBalance::Surplus);
        }
        self.surplus = answers;
        Ok(self)
    }

    /// How long an answer is waited for (default: [100 ms](DEFAULT_PROBE_TIMEOUT)), and how many
    /// probes may be under way at a time (default: [64](DEFAULT_UNDER_WAY); to one endpoint there is
    /// never more than one). A probe that can't be sent for that is not sent later either.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::ProbeLimits`] if either is zero.
    pub const fn limits(
        mut self,
        timeout: Duration,
        under_way: usize,
    ) -> Result<Self, InvalidBalance> {
        if timeout.is_zero() || under_way == 0 {
            return Err(InvalidBalance::ProbeLimits);
        }
        (self.timeout, self.under_way) = (timeout, under_way);
        Ok(self)
    }

    /// After how long without a probe some are sent although nobody calls (default:
    /// [500 ms](DEFAULT_IDLE)); with none they aren't, and the first calls after a silence are
    /// picked as if nobody probed.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Idle`] if it is zero.
    pub const fn idle(mut self, silence: Option<Duration>) -> Result<Self, InvalidBalance> {
        if let Some(Duration::ZERO) = silence {
            return Err(InvalidBalance::Idle);
        }
        self.idle = silence;
        Ok(self)
    }

    pub(super) const fn pool_rules(&self, endpoints: usize) -> PoolRules {
        PoolRules {
            size: self.pool,
            age: self.age,
            removals: self.removals,
            uses: self.uses(endpoints),
        }
    }

    pub(super) const fn quantile(&self) -> f64 {
        self.cold
    }

    pub(super) fn rates_of_probes(&self) -> Rates {
        Rates {
            a_call: self.probes,
            // As many as there is room for: what is known of nobody is known of all at once.
            at_first: self.pool,
            silence: self.idle,
            // As many as for a call, and enough for a choice.
            in_silence: (self.probes.ceil() as usize).max(2),
        }
    }

    /// For how many calls each answer serves among so many endpoints: equation 1 of the paper,
    ///
    /// `b_reuse = max(1, (1 + δ) / ((1 - m / n) r_probe - r_remove))`.
    ///
    /// `1 - m / n` of the probes go to an endpoint of which the pool has no answer; the others only
    /// renew one. That is made for far more endpoints than the pool has places: with 24 of them and
    /// the defaults its divisor is 0, with fewer it is negative, and where it is small an answer is
    /// gone by so often that the tail pays for it. So below a hundred endpoints, as many as the
    /// paper's testbed had, an answer serves for as many calls as among a hundred; and where so few
    /// more come than go that such a pool could not be held, for as many as hold half of what could.
    const fn uses(&self, endpoints: usize) -> f64 {
        let Self { probes, removals, .. } = *self;
        let pool = self.pool as f64;
        let renewed = least(
            if endpoints == 0 { 1.0 } else { pool / endpoints as f64 },
            least(pool / TESTBED, (1.0 - removals / probes) / 2.0),
        );
        let uses = (1.0 + self.surplus) / ((1.0 - renewed) * probes - removals);
        if uses > 1.0 { uses } else { 1.0 }
    }
}

const fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// Endpoints.
const TESTBED: f64 = 100.0;

impl Default for ProbingConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// More would fill the pool with each call.
const MOST_PROBES: f64 = 16.0;

/// What a pool has to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PoolRules {
    pub(super) size: usize,
    pub(super) age: Duration,
    /// Answers that are removed with each call.
    pub(super) removals: f64,
    /// Calls that an answer serves for, on average.
    pub(super) uses: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_be_says_what_to_change() {
        let config = ProbingConfig::new;
        let nan = f64::NAN;
        for (result, advice) in [
            (config().rates(1.0, 1.0), "more probes a call than removals"),
            (config().rates(3.0, -1.0), "more probes"),
            (config().rates(17.0, 1.0), "16 at the most"),
            (config().rates(nan, 1.0), "more probes"),
            (config().rates(1.0, nan), "more probes"),
            (config().pool(1), "from 2 to 32"),
            (config().pool(33), "from 2 to 32"),
            (config().age(Duration::ZERO), "above zero"),
            (config().cold(-0.1), "0.84"),
            (config().cold(nan), "0.84"),
            (config().surplus(0.0), "above 0"),
            (config().surplus(f64::INFINITY), "above 0"),
            (config().limits(Duration::ZERO, 1), "above zero"),
            (config().limits(Duration::MAX, 0), "at least one"),
            (config().idle(Some(Duration::ZERO)), "None"),
        ] {
            let error = result.expect_err(advice).to_string();
            assert!(error.contains(advice), "{error}");
        }
        assert!(config().rates(0.5, 0.25).and_then(|it| it.idle(None)).is_ok());
    }

    /// By hand: 2 / ((1 - 0.16) × 3 - 1) = 1.3158 with a hundred endpoints.
    #[test]
    fn an_answer_serves_as_often_as_the_paper_says() {
        let uses = |config: ProbingConfig, endpoints| config.pool_rules(endpoints).uses;
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-3, "{a}, not {b}");
        near(uses(ProbingConfig::new(), 100), 1.3158);
        near(uses(ProbingConfig::new(), 1_000), 1.0246);
        near(uses(ProbingConfig::new(), 1_000_000_000), 1.0);
        let few = ProbingConfig::new().rates(0.5, 0.25).expect("more come than go");
        near(uses(few, 100), 2.0 / 0.17);
        let many = ProbingConfig::new().rates(8.0, 1.0).expect("more come than go");
        near(uses(many, 100), 1.0);
    }

    #[test]
    fn with_few_endpoints_it_serves_as_often_as_with_a_hundred() {
        let uses = |config: ProbingConfig, endpoints| config.pool_rules(endpoints).uses;
        for endpoints in [0, 1, 2, 3, 16, 24, 99] {
            assert_eq!(uses(ProbingConfig::new(), endpoints), uses(ProbingConfig::new(), 100));
        }
        let close = ProbingConfig::new().rates(1.0, 0.9).expect("more come than go");
        // 2 / ((1 - 0.05) - 0.9): of a hundred no more than ten could be held.
        assert!((uses(close, 100) - 40.0).abs() < 1e-6, "{}", uses(close, 100));
    }
}
