//! A breaker's settings.

use std::time::Duration;

use super::error::InvalidBreaker;
use crate::{endpoint::Endpoint, event::Observer};

/// When a breaker opens, for how long, and how it closes again.
///
/// The defaults and their reasons stand in the table of [the module](super).
///
/// ```
/// use std::time::Duration;
/// use buttress::breaker::BreakerConfig;
///
/// let config = BreakerConfig::new()
///     .consecutive_failures(3)?
///     .open_time(Duration::from_secs(1), Duration::from_secs(60))?;
///
/// let wrong = BreakerConfig::new().failure_percent(150).expect_err("more than all of them");
/// assert_eq!(wrong.to_string(), "the failure percentage must be between 1 and 100");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct BreakerConfig {
    pub(super) rules: Rules,
    pub(super) observer: Observer,
    pub(super) endpoint: Option<Endpoint>,
}

/// The numbers alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) consecutive_failures: u32,
    pub(super) failure_percent: u32,
    pub(super) minimum_calls: u32,
    pub(super) slow: Option<Slow>,
    pub(super) window: Duration,
    pub(super) shortest_open: Duration,
    pub(super) longest_open: Duration,
    pub(super) stable_period: Duration,
    pub(super) probes: u32,
    pub(super) probe_timeout: Duration,
    pub(super) ramp: Duration,
}

/// From when on a call is slow, and which share of such calls is too much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow {
    pub(super) longer_than: Duration,
    pub(super) percent: u32,
}

impl BreakerConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens after this many failures in a row (default: 5).
    ///
    /// # Errors
    ///
    /// If it is zero: such a breaker would never be closed.
    pub fn consecutive_failures(mut self, failures: u32) -> Result<Self, InvalidBreaker> {
        if failures == 0 {
            return Err(InvalidBreaker::new("consecutive failures must be at least 1"));
        }
        self.rules.consecutive_failures = failures;
        Ok(self)
    }

    /// Opens when this percentage of the calls in the window failed, or more (default: 50).
    ///
    /// # Errors
    ///
    /// If it is not between 1 and 100.
    pub fn failure_percent(mut self, percent: u32) -> Result<Self, InvalidBreaker> {
        if percent == 0 || percent > 100 {
            return Err(InvalidBreaker::new("the failure percentage must be between 1 and 100"));
        }
        self.rules.failure_percent = percent;
        Ok(self)
    }

    /// Opens when this percentage of the calls in the window took longer than `longer_than`, or
    /// more (default: never), whether they succeeded or failed. A call lasts until its answer's
    /// head.
    ///
    /// For services that are of no use when they are slow, before timeouts make failures of it
    /// (resilience4j: `slowCallDurationThreshold`, `slowCallRateThreshold`, whose 60 s and 100 %
    /// are as good as never). It costs each call a look at the clock.
    ///
    /// # Errors
    ///
    /// If the time is zero or above a day, or the percentage not between 1 and 100.
    pub fn slow_calls(
        mut self,
        longer_than: Duration,
        percent: u32,
    ) -> Result<Self, InvalidBreaker> {
        if longer_than.is_zero() || longer_than > LONGEST {
            return Err(InvalidBreaker::new(
                "the time of a slow call must be above zero and at most a day",
            ));
        }
        if percent == 0 || percent > 100 {
            return Err(InvalidBreaker::new(
                "the percentage of slow calls must be between 1 and 100",
            ));
        }
        self.rules.slow = Some(Slow { longer_than, percent });
        Ok(self)
    }

    /// How many calls the window must hold before its percentage means anything (default: 20).
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn minimum_calls(mut self, calls: u32) -> Result<Self, InvalidBreaker> {
        if calls == 0 {
            return Err(InvalidBreaker::new("the minimum of calls must be at least 1"));
        }
        self.rules.minimum_calls = calls;
        Ok(self)
    }

    /// How long a call counts for the percentage (default: 30 s). It slides by tenths.
    ///
    /// # Errors
    ///
    /// If it is not between 10 ms and a day.
    pub fn window(mut self, window: Duration) -> Result<Self, InvalidBreaker> {
        if !(SHORTEST_WINDOW..=LONGEST).contains(&window) {
            return Err(InvalidBreaker::new("the window must be between 10 ms and a day"));
        }
        self.rules.window = window;
        Ok(self)
    }

    /// How long the breaker stays open the first time, and at the longest (default: 5 s and
    /// 300 s). It doubles in between, and a half of it is left to chance.
    ///
    /// # Errors
    ///
    /// If the first is zero or above the longest, or the longest is above a day: to keep a
    /// breaker open, force it.
    pub fn open_time(mut self, first: Duration, longest: Duration) -> Result<Self, InvalidBreaker> {
        if first.is_zero() {
            return Err(InvalidBreaker::new("the first open time must be above zero"));
        }
        if first > longest {
            return Err(InvalidBreaker::new(
                "the first open time must not be above the longest one",
            ));
        }
        if longest > LONGEST {
            return Err(InvalidBreaker::new(
                "the longest open time must be at most a day; `force_open` has no end",
            ));
        }
        self.rules.shortest_open = first;
        self.rules.longest_open = longest;
        Ok(self)
    }

    /// After this long without opening, the next open time is the first one again (default:
    /// 60 s).
    #[must_use]
    pub const fn stable_period(mut self, period: Duration) -> Self {
        self.rules.stable_period = period;
        self
    }

    /// How many probes must succeed before the breaker closes, and how many are under way at
    /// most (default: 3).
    ///
    /// # Errors
    ///
    /// If it is not between 1 and 8: each is somebody's real call that is put at risk.
    pub fn probes(mut self, probes: u32) -> Result<Self, InvalidBreaker> {
        if probes == 0 || probes > MAX_PROBES as u32 {
            return Err(InvalidBreaker::new("the number of probes must be between 1 and 8"));
        }
        self.rules.probes = probes;
        Ok(self)
    }

    /// A probe that has not ended after this long has failed (default: 10 s).
    ///
    /// # Errors
    ///
    /// If it is zero or above a day.
    pub fn probe_timeout(mut self, timeout: Duration) -> Result<Self, InvalidBreaker> {
        if timeout.is_zero() || timeout > LONGEST {
            return Err(InvalidBreaker::new(
                "the probe timeout must be above zero and at most a day",
            ));
        }
        self.rules.probe_timeout = timeout;
        Ok(self)
    }

    /// How long a share of the calls is still refused after closing: 10 % are admitted in the
    /// first third of it, then 25 %, then 50 % (default: 3 s). Zero admits all at once.
    ///
    /// # Errors
    ///
    /// If it is above a day.
    pub fn ramp(mut self, ramp: Duration) -> Result<Self, InvalidBreaker> {
        if ramp > LONGEST {
            return Err(InvalidBreaker::new("the ramp must be at most a day"));
        }
        self.rules.ramp = ramp;
        Ok(self)
    }

    /// When a probe that has not ended has failed.
    pub(crate) const fn probe_may_take(&self) -> Duration {
        self.rules.probe_timeout
    }

    /// Who hears of the breaker's changes (default: nobody).
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// The endpoint that the breaker guards, for its events (default: the service as a whole).
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            consecutive_failures: CONSECUTIVE_FAILURES,
            failure_percent: FAILURE_PERCENT,
            minimum_calls: MINIMUM_CALLS,
            slow: None,
            window: WINDOW,
            shortest_open: SHORTEST_OPEN,
            longest_open: LONGEST_OPEN,
            stable_period: STABLE_PERIOD,
            probes: PROBES,
            probe_timeout: PROBE_TIMEOUT,
            ramp: RAMP,
        }
    }
}

/// Five in a row are no accident of a service that works: at 1 % failures it happens once in
/// ten billion calls. Envoy's and linkerd2-proxy's figure.
const CONSECUTIVE_FAILURES: u32 = 5;
/// Where half the calls fail, a call is better spent elsewhere.
const FAILURE_PERCENT: u32 = 50;
/// Below twenty calls, half of them is an accident; resilience4j takes 100, which a quiet
/// client reaches too late.
const MINIMUM_CALLS: u32 = 20;
/// Long enough for 20 calls at one a second, short enough to forget a deployment.
const WINDOW: Duration = Duration::from_secs(30);
/// A restart takes seconds; with equal jitter it is 2.5 s to 5 s.
const SHORTEST_OPEN: Duration = Duration::from_secs(5);
/// Somebody who repairs it should not wait longer for the first call. Envoy's longest ejection.
const LONGEST_OPEN: Duration = Duration::from_secs(300);
/// Twice the default window: what it knew of the last outage is forgotten, and it held.
const STABLE_PERIOD: Duration = Duration::from_secs(60);
/// One success may be luck (one thread of many that still works); three are seldom. Each puts
/// a call at risk, so no more.
const PROBES: u32 = 3;
/// The attempt timeout that is usual beneath (10 s); for stacks that have none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Three stages of a second, time for what has just started to warm up.
const RAMP: Duration = Duration::from_secs(3);

/// The slots are stored inline.
pub(super) const MAX_PROBES: usize = 8;
/// A bucket is then a millisecond wide.
const SHORTEST_WINDOW: Duration = Duration::from_millis(10);
/// Keeps every sum of an instant and a setting within what an instant can hold.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_work_and_says_what_to_change() {
        let config = BreakerConfig::new;
        let day = LONGEST;
        let more = LONGEST + Duration::from_nanos(1);
        let wrong = [
            config().consecutive_failures(0),
            config().failure_percent(0),
            config().failure_percent(101),
            config().minimum_calls(0),
            config().slow_calls(Duration::ZERO, 50),
            config().slow_calls(more, 50),
            config().slow_calls(day, 0),
            config().slow_calls(day, 101),
            config().window(Duration::from_millis(9)),
            config().window(more),
            config().open_time(Duration::ZERO, day),
            config().open_time(day, Duration::from_secs(1)),
            config().open_time(day, more),
            config().probes(0),
            config().probes(9),
            config().probe_timeout(Duration::ZERO),
            config().probe_timeout(more),
            config().ramp(more),
        ];
        for result in wrong {
            let error = result.expect_err("it cannot work");
            assert!(error.to_string().contains("must"), "{error}");
        }
        let right = config()
            .consecutive_failures(1)
            .and_then(|config| config.failure_percent(100))
            .and_then(|config| config.minimum_calls(1))
            .and_then(|config| config.window(day))
            .and_then(|config| config.open_time(day, day))
            .and_then(|config| config.probes(8))
            .and_then(|config| config.probe_timeout(day))
            .and_then(|config| config.ramp(Duration::ZERO));
        assert!(right.is_ok());
    }
}
