//! Who is ejected, for how long, and how many at most.

use std::{error::Error as StdError, fmt, time::Duration};

use super::rules::{Consecutive, FailurePercentage, FailureRate, Latency, SuccessRate};

/// How often all endpoints are compared: as Envoy and gRPC.
pub const DEFAULT_EJECTION_INTERVAL: Duration = Duration::from_secs(10);

/// For how long an endpoint is ejected the first time; the n-th time in a row it is n times that.
/// As Envoy and gRPC.
pub const DEFAULT_EJECTION_TIME: Duration = Duration::from_secs(30);

/// The longest ejection: as Envoy and gRPC.
pub const LONGEST_EJECTION: Duration = Duration::from_secs(300);

/// How many of a hundred endpoints may be out at the most. Half: a median can't tell the bad from
/// the good when there are more, and with fewer than half left the balancer uses all. (Envoy and gRPC
/// have 10, since their test finds no more.)
pub const DEFAULT_MAX_EJECTED_PERCENT: u32 = 50;

/// By how much an ejection is longer, at the most, so that endpoints which failed together do not
/// return together: a tenth of the first.
const JITTER: Duration = Duration::from_secs(3);

/// Who is ejected, for how long, and how many at most.
///
/// ```
/// use std::time::Duration;
/// use buttress::balance::{EjectionConfig, FailureRate, SuccessRate};
///
/// let ours = EjectionConfig::new()
///     .failure_rate(FailureRate::new().effect_percent(5)?)
///     .ejection_time(Duration::from_secs(10), Duration::from_secs(60))?;
///
/// let like_grpc = EjectionConfig::grpc().success_rate(SuccessRate::new().request_volume(20));
///
/// let wrong = EjectionConfig::new().max_percent(0).expect_err("nobody could ever be ejected");
/// assert_eq!(wrong.to_string(), "the cap must be between 1 and 100 percent; to only watch, use `dark`");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct EjectionConfig {
    pub(super) arithmetic: Arithmetic,
    pub(super) interval: Duration,
    pub(super) time: Duration,
    pub(super) longest: Duration,
    pub(super) jitter: Duration,
    pub(super) max_percent: u32,
    pub(super) dark: bool,
    pub(super) split: bool,
    pub(super) failure_rate: Option<FailureRate>,
    pub(super) latency: Option<Latency>,
    pub(super) success_rate: Option<SuccessRate>,
    pub(super) failure_percentage: Option<FailurePercentage>,
    pub(super) consecutive: Option<Consecutive>,
}

/// Where the three differ although they have the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Ours,
    /// May it always eject one?
    Envoy {
        always_one: bool,
    },
    Grpc,
}

impl EjectionConfig {
    /// The default: by [failure rate](FailureRate), at most half, at least one, 30 s times the number
    /// of ejections in a row and at most 300 s, up to 3 s longer by chance.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            arithmetic: Arithmetic::Ours,
            interval: DEFAULT_EJECTION_INTERVAL,
            time: DEFAULT_EJECTION_TIME,
            longest: LONGEST_EJECTION,
            jitter: JITTER,
            max_percent: DEFAULT_MAX_EJECTED_PERCENT,
            dark: false,
            split: false,
            failure_rate: Some(FailureRate::new()),
            latency: None,
            success_rate: None,
            failure_percentage: None,
            consecutive: None,
        }
    }

    /// As Envoy, with its defaults and its arithmetic (`outlier_detection_impl.cc`): by five
    /// [failures in a row](Consecutive), by [success rate](SuccessRate), and, watched only, by
    /// [percentage](FailurePercentage); at most 10 percent, which may be none.
    ///
    /// An endpoint that two tests find in one sweep is ejected, and counted, once.
    #[must_use]
    pub const fn envoy() -> Self {
        let mut percentage = FailurePercentage::new();
        percentage.enforced = 0;
        percentage.enforced_local = 0;
        Self {
            arithmetic: Arithmetic::Envoy { always_one: false },
            jitter: Duration::ZERO,
            max_percent: 10,
            failure_rate: None,
            success_rate: Some(SuccessRate::new()),
            failure_percentage: Some(percentage),
            consecutive: Some(Consecutive::new()),
            ..Self::new()
        }
    }

    /// As gRPC's outlier detection (gRFC A50): at most 10 percent, but always one, and no test until
    /// one is set.
    ///
    /// A50 stops when the percentage of those ejected is "greater than" the cap; grpc-go and grpc-java
    /// stop when it is reached, and so do we.
    #[must_use]
    pub const fn grpc() -> Self {
        Self {
            arithmetic: Arithmetic::Grpc,
            success_rate: None,
            failure_percentage: None,
            consecutive: None,
            ..Self::envoy()
        }
    }

    /// How often all endpoints are compared (default: 10 s).
    ///
    /// # Errors
    ///
    /// If it is not between 100 ms and an hour.
    pub fn interval(mut self, interval: Duration) -> Result<Self, InvalidEjection> {
        if !(Duration::from_millis(100)..=HOUR).contains(&interval) {
            return Err(InvalidEjection("the interval must be between 100 ms and an hour"));
        }
        self.interval = interval;
        Ok(self)
    }

    /// How long the first ejection is, and the longest (default: 30 s and 300 s).
    ///
    /// # Errors
    ///
    /// If the first is below 100 ms or above the longest, or the longest above a day.
    pub fn ejection_time(
        mut self,
        first: Duration,
        longest: Duration,
    ) -> Result<Self, InvalidEjection> {
        if first < Duration::from_millis(100) || first > longest || longest > 24 * HOUR {
            return Err(InvalidEjection(
                "ejection times must be between 100 ms and a day, the first not above the longest",
            ));
        }
        (self.time, self.longest) = (first, longest);
        Ok(self)
    }

    /// By how much an ejection may be longer, at the most (default: 3 s; none in Envoy; gRPC has none).
    ///
    /// # Errors
    ///
    /// If it is above an hour.
    pub fn jitter(mut self, longest: Duration) -> Result<Self, InvalidEjection> {
        if longest > HOUR {
            return Err(InvalidEjection("the jitter must be at most an hour"));
        }
        self.jitter = longest;
        Ok(self)
    }

    /// How many of a hundred endpoints may be ejected (default: 50; 10 in Envoy and gRPC). At least one
    /// may be, but in Envoy.
    ///
    /// # Errors
    ///
    /// If it is not between 1 and 100.
    pub fn max_percent(mut self, endpoints: u32) -> Result<Self, InvalidEjection> {
        if endpoints == 0 || endpoints > 100 {
            return Err(InvalidEjection(
                "the cap must be between 1 and 100 percent; to only watch, use `dark`",
            ));
        }
        self.max_percent = endpoints;
        Ok(self)
    }

    /// At least one may be ejected in Envoy as well (its `always_eject_one_host`); the others always
    /// may.
    #[must_use]
    pub const fn always_one(mut self) -> Self {
        if matches!(self.arithmetic, Arithmetic::Envoy { .. }) {
            self.arithmetic = Arithmetic::Envoy { always_one: true };
        }
        self
    }

    /// Ejects nobody, and says whom it would have ejected: to try it on a service before it counts.
    #[must_use]
    pub const fn dark(mut self) -> Self {
        self.dark = true;
        self
    }

    /// Counts failures without an answer (no connection, a reset, a timeout) apart from those that
    /// came as one, each for tests of its own (Envoy's `split_external_local_origin_errors`).
    #[must_use]
    pub const fn split_local(mut self) -> Self {
        self.split = true;
        self
    }

    /// Judges by [`FailureRate`].
    #[must_use]
    pub const fn failure_rate(mut self, rule: FailureRate) -> Self {
        self.failure_rate = Some(rule);
        self
    }

    /// Judges by [`Latency`].
    #[must_use]
    pub const fn latency(mut self, rule: Latency) -> Self {
        self.latency = Some(rule);
        self
    }

    /// Judges by [`SuccessRate`].
    #[must_use]
    pub const fn success_rate(mut self, rule: SuccessRate) -> Self {
        self.success_rate = Some(rule);
        self
    }

    /// Judges by [`FailurePercentage`].
    #[must_use]
    pub const fn failure_percentage(mut self, rule: FailurePercentage) -> Self {
        self.failure_percentage = Some(rule);
        self
    }

    /// Judges by [`Consecutive`].
    #[must_use]
    pub const fn consecutive(mut self, rule: Consecutive) -> Self {
        self.consecutive = Some(rule);
        self
    }
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self::new()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A setting that can't work; its text says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEjection(pub(super) &'static str);

impl fmt::Display for InvalidEjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for InvalidEjection {}
