//! The tests that an endpoint can fail, with their numbers.

use std::time::Duration;

use super::config::InvalidEjection;

/// More failures than its peers have, by more than chance: the default.
///
/// What is usual is the [median](crate::algo::outlier::usual_share) of the peers. An endpoint
/// with at least that many failures would be a coincidence of less than `chance` a sweep, among all
/// endpoints together (the exact [binomial tail](crate::algo::outlier::binomial_tail), with
/// Bonferroni's correction), and its share of failures is at least `effect` above the usual.
///
/// An endpoint with few calls keeps them for the next sweep, up to a minute: one that is hardly
/// called since it fails is found as well.
///
/// | setting | default | why |
/// |---|---|---|
/// | chance | 0.001 a sweep | a false alarm in three hours at most, which costs a twentieth of a fleet of 20 for half a minute |
/// | effect | 2 points | what is less is not worth an endpoint, however sure it is |
/// | minimum of calls | 5 | the exact tail needs no more: five failures of five are proof enough |
/// | minimum of endpoints | 3 | of two, to eject one is to lose half |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureRate {
    pub(super) chance: f64,
    pub(super) effect: f64,
    pub(super) minimum_calls: u32,
    pub(super) minimum_hosts: usize,
}

impl FailureRate {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { chance: 1e-3, effect: 0.02, minimum_calls: 5, minimum_hosts: 3 }
    }

    /// How likely a false alarm may be, in one sweep of a fleet that is alike.
    ///
    /// # Errors
    ///
    /// If it is not above 0 and at most 0.1.
    pub fn chance(mut self, chance: f64) -> Result<Self, InvalidEjection> {
        if !(chance > 0.0 && chance <= 0.1) {
            return Err(InvalidEjection(
                "the chance of a false alarm must be above 0 and at most 0.1",
            ));
        }
        self.chance = chance;
        Ok(self)
    }

    /// How far above the usual share of failures an outlier's is at least, in percent of its calls.
    ///
    /// # Errors
    ///
    /// If it is above 100.
    pub fn effect_percent(mut self, points: u32) -> Result<Self, InvalidEjection> {
        self.effect = f64::from(percent(points)?) / 100.0;
        Ok(self)
    }

    /// Endpoints with fewer calls wait for the next sweep.
    ///
    /// # Errors
    ///
    /// If it is 0.
    pub fn minimum_calls(mut self, calls: u32) -> Result<Self, InvalidEjection> {
        self.minimum_calls = volume(calls)?;
        Ok(self)
    }

    /// Where fewer endpoints have enough calls, nobody is judged.
    ///
    /// # Errors
    ///
    /// If it is below 2: one alone has no peers.
    pub fn minimum_endpoints(mut self, endpoints: usize) -> Result<Self, InvalidEjection> {
        if endpoints < 2 {
            return Err(InvalidEjection("one endpoint alone has no peers: ask for at least 2"));
        }
        self.minimum_hosts = endpoints;
        Ok(self)
    }
}

impl Default for FailureRate {
    fn default() -> Self {
        Self::new()
    }
}

/// Slower than its peers. Not among the defaults: the balancer's load shows a slow endpoint within
/// a few calls, and gives it as few as it can bear, where ejection gives it none; and endpoints on
/// different machines are rightly slow in different ways. For policies that don't look at latencies
/// (round robin, hashing by key).
///
/// This test is ours; it was asked of Envoy in 2016 (envoy#288). Of each endpoint one quantile of
/// the good answers is taken, the p50 by default. An outlier's is `factor` times the peers' median
/// or more, above it by more than five times their median distance from it (so that a fleet of
/// unlike endpoints has no outliers), and by 5 ms (so that nobody is ejected for a millisecond). It
/// has to be so in two sweeps in a row: one long pause moves even a median.
///
/// It costs each endpoint 5 KiB for a histogram, and each answer an addition to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    pub(super) quantile: f64,
    pub(super) factor: f64,
    pub(super) excess: Duration,
    pub(super) minimum_calls: u32,
    pub(super) minimum_hosts: usize,
}

/// An endpoint's distance to the median, in median distances, that is still usual.
pub(super) const USUAL_DISTANCE: f64 = 5.0;

impl Latency {
    /// The p50, three times the peers' median, of at least 5 endpoints with 50 answers each.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            quantile: 0.5,
            factor: 3.0,
            excess: Duration::from_millis(5),
            minimum_calls: 50,
            minimum_hosts: 5,
        }
    }

    /// Which quantile is compared. The p99 sees pauses that few calls meet; it takes more calls.
    ///
    /// # Errors
    ///
    /// If it is not between 0.1 and 0.99.
    pub fn quantile(mut self, quantile: f64) -> Result<Self, InvalidEjection> {
        if !(0.1..=0.99).contains(&quantile) {
            return Err(InvalidEjection("the quantile must be between 0.1 and 0.99"));
        }
        self.quantile = quantile;
        Ok(self)
    }

    /// How many times slower than the peers' median.
    ///
    /// # Errors
    ///
    /// If it is not at least 1.5, or not a number.
    pub fn factor(mut self, factor: f64) -> Result<Self, InvalidEjection> {
        if !(factor.is_finite() && factor >= 1.5) {
            return Err(InvalidEjection("what is not even 1.5 times as slow is no outlier"));
        }
        self.factor = factor;
        Ok(self)
    }

    /// How much slower, at least.
    #[must_use]
    pub const fn excess(mut self, excess: Duration) -> Self {
        self.excess = excess;
        self
    }

    /// Endpoints with fewer answers wait for the next sweep.
    ///
    /// # Errors
    ///
    /// If it is 0.
    pub fn minimum_calls(mut self, calls: u32) -> Result<Self, InvalidEjection> {
        self.minimum_calls = volume(calls)?;
        Ok(self)
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

/// A success rate below the mean of all by more than some standard deviations (Envoy's
/// `success_rate`, gRPC A50's `success_rate_ejection`): 1.9 of them, of at least 5 endpoints with 100
/// calls each, enforced.
///
/// A mean and a deviation move with the outliers: see [`algo::outlier`](crate::algo::outlier) for
/// why this is not the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    pub(super) factor: u32,
    pub(super) minimum_hosts: usize,
    pub(super) volume: u32,
    pub(super) enforced: u32,
    pub(super) enforced_local: u32,
}

impl SuccessRate {
    /// The defaults of Envoy and gRPC.
    #[must_use]
    pub const fn new() -> Self {
        Self { factor: 1900, minimum_hosts: 5, volume: 100, enforced: 100, enforced_local: 100 }
    }

    /// How many standard deviations, in thousandths.
    #[must_use]
    pub const fn stdev_factor(mut self, thousandths: u32) -> Self {
        self.factor = thousandths;
        self
    }

    /// Where fewer endpoints have the volume, nobody is judged.
    #[must_use]
    pub const fn minimum_hosts(mut self, hosts: usize) -> Self {
        self.minimum_hosts = hosts;
        self
    }

    /// Endpoints with fewer calls in a sweep are not judged.
    #[must_use]
    pub const fn request_volume(mut self, calls: u32) -> Self {
        self.volume = calls;
        self
    }

    /// Of a hundred outliers so many are ejected.
    ///
    /// # Errors
    ///
    /// If it is above 100.
    pub fn enforcing(mut self, outliers: u32) -> Result<Self, InvalidEjection> {
        self.enforced = percent(outliers)?;
        Ok(self)
    }

    /// The same for the rate of [failures without an answer](super::EjectionConfig::split_local).
    ///
    /// # Errors
    ///
    /// If it is above 100.
    pub fn enforcing_local(mut self, outliers: u32) -> Result<Self, InvalidEjection> {
        self.enforced_local = percent(outliers)?;
        Ok(self)
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self::new()
    }
}

/// Too large a percentage of failures, whatever the peers do: 85 percent, of at least 5 endpoints
/// with 50 calls each. In Envoy it is reached at the threshold, in gRPC above it; and in Envoy it is
/// [not enforced](Self::enforcing) by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    pub(super) threshold: u32,
    pub(super) minimum_hosts: usize,
    pub(super) volume: u32,
    pub(super) enforced: u32,
    pub(super) enforced_local: u32,
}

impl FailurePercentage {
    /// The defaults of gRPC.
    #[must_use]
    pub const fn new() -> Self {
        Self { threshold: 85, minimum_hosts: 5, volume: 50, enforced: 100, enforced_local: 100 }
    }

    /// From (or above, in gRPC) which percentage on.
    ///
    /// # Errors
    ///
    /// If it is above 100.
    pub fn threshold(mut self, failures: u32) -> Result<Self, InvalidEjection> {
        self.threshold = percent(failures)?;
        Ok(self)
    }

    /// Where fewer endpoints have the volume, nobody is judged.
    #[must_use]
    pub const fn minimum_hosts(mut self, hosts: usize) -> Self {
        self.minimum_hosts = hosts;
        self
    }

    /// Endpoints with fewer calls in a sweep are not judged.
    #[must_use]
    pub const fn request_volume(mut self, calls: u32) -> Self {
        self.volume = calls;
        self
    }

    /// Of a hundred outliers so many are ejected.
    ///
    /// # Errors
    ///
    /// If it is above 100.
    pub fn enforcing(mut self, outliers: u32) -> Result<Self, InvalidEjection> {
        self.enforced = percent(outliers)?;
        Ok(self)
    }

    /// The same for the percentage of
    /// [failures without an answer](super::EjectionConfig::split_local).
    ///
    /// # Errors
    ///
    /// If it is above 100.
    pub fn enforcing_local(mut self, outliers: u32) -> Result<Self, InvalidEjection> {
        self.enforced_local = percent(outliers)?;
        Ok(self)
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self::new()
    }
}

/// Failures in a row, as Envoy counts them. They eject at once, not at the next sweep.
///
/// A success ends all rows. An answer that is no gateway's failure ends the row of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    /// By [`Streak`](super::counts): how many, and of a hundred how many eject.
    pub(super) rows: [(u32, u32); 3],
}

impl Consecutive {
    /// Envoy's defaults: 5 server errors, 5 failures of a gateway (which are counted, and eject
    /// nobody), 5 failures without an answer.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: [(5, 100), (5, 0), (5, 100)] }
    }

    /// How many failures in a row, and of a hundred such endpoints how many are ejected.
    ///
    /// # Errors
    ///
    /// If the number is 0 or above a million, or the percentage above 100.
    pub fn server_errors(self, failures: u32, enforcing: u32) -> Result<Self, InvalidEjection> {
        self.row(0, failures, enforcing)
    }

    /// The same for failures of a gateway.
    ///
    /// # Errors
    ///
    /// As [`server_errors`](Self::server_errors).
    pub fn gateway_failures(self, failures: u32, enforcing: u32) -> Result<Self, InvalidEjection> {
        self.row(1, failures, enforcing)
    }

    /// The same for [failures without an answer](super::EjectionConfig::split_local), if these are
    /// counted apart.
    ///
    /// # Errors
    ///
    /// As [`server_errors`](Self::server_errors).
    pub fn local_failures(self, failures: u32, enforcing: u32) -> Result<Self, InvalidEjection> {
        self.row(2, failures, enforcing)
    }

    fn row(mut self, row: usize, count: u32, enforcing: u32) -> Result<Self, InvalidEjection> {
        if count == 0 || count > 1_000_000 {
            return Err(InvalidEjection("failures in a row must be between 1 and a million"));
        }
        self.rows[row] = (count, percent(enforcing)?);
        Ok(self)
    }
}

impl Default for Consecutive {
    fn default() -> Self {
        Self::new()
    }
}

fn percent(value: u32) -> Result<u32, InvalidEjection> {
    if value > 100 {
        return Err(InvalidEjection("a percentage must be at most 100"));
    }
    Ok(value)
}

fn volume(calls: u32) -> Result<u32, InvalidEjection> {
    if calls == 0 {
        return Err(InvalidEjection(
            "an endpoint without calls can't be judged: ask for at least 1",
        ));
    }
    Ok(calls)
}
