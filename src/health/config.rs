//! The settings of active checks.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{endpoint::Endpoint, entropy::Entropy, event::Observer};

/// How often endpoints are checked, and how many answers change a verdict.
///
/// The defaults and their reasons stand in the table of [the module](super).
///
/// ```
/// use std::time::Duration;
/// use buttress::health::HealthConfig;
///
/// let config = HealthConfig::new()
///     .interval(Duration::from_secs(10))?
///     .timeout(Duration::from_millis(300))?
///     .fall(2)?;
///
/// let wrong = HealthConfig::new().jitter_percent(100).expect_err("a wait could be zero");
/// assert_eq!(wrong.to_string(), "the jitter must be at most 50 percent");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Debug, Default)]
pub struct HealthConfig {
    pub(super) rules: Rules,
    pub(super) observer: Observer,
    pub(super) entropy: Entropy,
    pub(super) traffic: Traffic,
}

/// Whether an endpoint has calls; nobody knows, by default.
#[derive(Clone, Default)]
pub(super) struct Traffic(Option<Arc<HasCalls>>);

type HasCalls = dyn Fn(&Endpoint) -> bool + Send + Sync;

impl Traffic {
    /// It is known to have none.
    pub(super) fn is_none(&self, endpoint: &Endpoint) -> bool {
        self.0.as_ref().is_some_and(|has_calls| !has_calls(endpoint))
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traffic(known)" } else { "Traffic(unknown)" })
    }
}

/// The numbers alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) rise: u32,
    pub(super) fall: u32,
    pub(super) interval: Duration,
    pub(super) unhealthy_interval: Duration,
    pub(super) edge_interval: Duration,
    pub(super) no_traffic_interval: Duration,
    pub(super) jitter: f64,
    pub(super) timeout: Duration,
}

impl HealthConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An unhealthy endpoint is healthy after this many good answers in a row (default: 2).
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn rise(mut self, answers: u32) -> Result<Self, InvalidHealth> {
        if answers == 0 {
            return Err(InvalidHealth("an endpoint must rise after at least 1 good answer"));
        }
        self.rules.rise = answers;
        Ok(self)
    }

    /// A healthy endpoint is unhealthy after this many failed checks in a row (default: 3). One
    /// that says itself that it [does not serve](super::Unavailable) is so at once.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn fall(mut self, failures: u32) -> Result<Self, InvalidHealth> {
        if failures == 0 {
            return Err(InvalidHealth("an endpoint must fall after at least 1 failed check"));
        }
        self.rules.fall = failures;
        Ok(self)
    }

    /// How long from the end of a check to the next, while all is well (default: 5 s).
    ///
    /// # Errors
    ///
    /// If it is less than a millisecond or more than a day.
    pub fn interval(mut self, interval: Duration) -> Result<Self, InvalidHealth> {
        self.rules.interval = within(interval)?;
        Ok(self)
    }

    /// How long from the end of a check to the next, while it is unhealthy (default: 2 s).
    ///
    /// # Errors
    ///
    /// If it is less than a millisecond or more than a day.
    pub fn unhealthy_interval(mut self, interval: Duration) -> Result<Self, InvalidHealth> {
        self.rules.unhealthy_interval = within(interval)?;
        Ok(self)
    }

    /// How long from the end of a check to the next, while the last answers contradict the
    /// verdict and are too few to change it (default: 1 s).
    ///
    /// # Errors
    ///
    /// If it is less than a millisecond or more than a day.
    pub fn edge_interval(mut self, interval: Duration) -> Result<Self, InvalidHealth> {
        self.rules.edge_interval = within(interval)?;
        Ok(self)
    }

    /// How long from the end of a check to the next, while all is well and the endpoint has no calls
    /// (default: 60 s), and what says whether it has any (default: nothing, so that the
    /// [interval](Self::interval) holds for all). Asked after each check.
    ///
    /// # Errors
    ///
    /// If it is less than a millisecond or more than a day.
    pub fn no_traffic_interval(
        mut self,
        interval: Duration,
        has_calls: impl Fn(&Endpoint) -> bool + Send + Sync + 'static,
    ) -> Result<Self, InvalidHealth> {
        self.rules.no_traffic_interval = within(interval)?;
        self.traffic = Traffic(Some(Arc::new(has_calls)));
        Ok(self)
    }

    /// How far the intervals are spread, to both sides (default: 20 percent).
    ///
    /// # Errors
    ///
    /// If it is more than 50 percent.
    pub fn jitter_percent(mut self, percent: u32) -> Result<Self, InvalidHealth> {
        if percent > 50 {
            return Err(InvalidHealth("the jitter must be at most 50 percent"));
        }
        self.rules.jitter = f64::from(percent) / 100.0;
        Ok(self)
    }

    /// A check that lasts longer has failed (default: 1 s).
    ///
    /// # Errors
    ///
    /// If it is less than a millisecond or more than a day.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, InvalidHealth> {
        self.rules.timeout = within(timeout)?;
        Ok(self)
    }

    /// Who learns of failed checks, and why they failed (default: nobody).
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Where the jitter comes from (default: the operating system).
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rise: RISE,
            fall: FALL,
            interval: INTERVAL,
            unhealthy_interval: UNHEALTHY_INTERVAL,
            edge_interval: EDGE_INTERVAL,
            no_traffic_interval: NO_TRAFFIC_INTERVAL,
            jitter: JITTER,
            timeout: TIMEOUT,
        }
    }
}

/// A setting of [`HealthConfig`] or of a probe that can't work; its text says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHealth(pub(super) &'static str);

impl fmt::Display for InvalidHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for InvalidHealth {}

fn within(duration: Duration) -> Result<Duration, InvalidHealth> {
    if duration < Duration::from_millis(1) {
        return Err(InvalidHealth("a check's times must be at least a millisecond"));
    }
    // Nobody means to wait longer, and the clock's arithmetic stays far from its end.
    if duration > Duration::from_secs(24 * 60 * 60) {
        return Err(InvalidHealth("a check's times must be at most a day"));
    }
    Ok(duration)
}

/// 2 and 3: as HAProxy's `rise` and `fall`. One good answer may be luck; one lost probe is no
/// outage, and what calls notice sooner than probes is the breakers' business.
const RISE: u32 = 2;
const FALL: u32 = 3;

/// 5 s: an endpoint without traffic that dies is known after 7 to 11 s; one with traffic is
/// known to its breaker long before. A hundred clients make 20 probes a second, which is noise.
const INTERVAL: Duration = Duration::from_secs(5);

/// 2 s: HAProxy's `inter`. A missing endpoint is missing capacity, so its return should be
/// known soon, and a probe that is refused costs next to nothing.
const UNHEALTHY_INTERVAL: Duration = Duration::from_secs(2);

/// 1 s: a doubt should be settled soon, yet not by answers out of the same hiccup. (HAProxy's
/// `fastinter`, Envoy's edge intervals; both are off there by default.)
const EDGE_INTERVAL: Duration = Duration::from_secs(1);

/// 60 s: Envoy's `no_traffic_interval`. Nobody waits to learn of an endpoint that nobody calls.
const NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);

/// 20 percent: clients that were started together have drifted apart after a few rounds. As
/// gRPC spreads its reconnections.
const JITTER: f64 = 0.2;

/// 1 s: as Kubernetes' `timeoutSeconds`. A health page that takes longer is no good sign.
const TIMEOUT: Duration = Duration::from_secs(1);
