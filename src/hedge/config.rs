//! When a second attempt is made, and who pays.

use std::time::Duration;

use super::error::InvalidHedge;
use crate::{budget::Budget, call::DEFAULT_REPLAY_CAP, event::Observer};

/// The share of extra calls that hedges may make: a call is hedged when it is slower than all
/// but this share of them.
///
/// 5 %: the hedge at the p95 of "The Tail at Scale" ("limits the additional load to
/// approximately 5% while substantially shortening the latency tail"). It is also what the
/// budget of the retries can bear: each success adds 1 token and a hedge that lost costs 14, so
/// at 7 % of hedges that all lose the retries would go without.
pub const DEFAULT_EXTRA_LOAD: f64 = 0.05;

/// How many hedges may be made at once beyond their share.
///
/// Ten: enough for the first calls of a client, and for one endpoint's pause; a service that
/// turns slow as a whole gets no more than these on top of its share. (Finagle's is a hundred,
/// ten a second for ten seconds.)
pub const DEFAULT_BURST: u32 = 10;

/// No second attempt is made sooner (Finagle: `MinSendBackupAfterMs`): for a service that nearly
/// always answers within a millisecond, one that took longer is still worth a second try, and one
/// that took a few microseconds longer is not.
pub const DEFAULT_SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// The settings of a [`HedgeLayer`](super::HedgeLayer).
///
/// The defaults and their reasons stand in the table of [the module](super).
///
/// ```
/// use std::time::Duration;
/// use buttress::hedge::HedgeConfig;
///
/// // After the p95 of the last half minute, whatever that is:
/// let config = HedgeConfig::new();
/// // After the p98, so for 2 % of extra calls:
/// let config = HedgeConfig::new().extra_load(0.02)?;
/// // After 10 ms, for 5 % of extra calls at most:
/// let config = HedgeConfig::after(Duration::from_millis(10))?;
///
/// let wrong = HedgeConfig::new().extra_load(2.0).expect_err("that would be 200 %");
/// assert_eq!(wrong.to_string(), "the extra load must be between 0.0001 (0.01 %) and 0.5 (50 %)");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HedgeConfig {
    pub(super) rules: Rules,
    pub(super) replay_cap: usize,
    pub(super) budget: Option<Budget>,
    pub(super) observer: Observer,
}

/// The numbers alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) when: When,
    pub(super) extra_load: f64,
    pub(super) burst: u32,
    pub(super) shortest: Duration,
}

/// When a second attempt is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// After so long.
    After(Duration),
    /// When the first is slower than all but the share of extra load.
    Slowest,
}

impl HedgeConfig {
    /// Makes a second attempt when the first is slower than all but
    /// [5 %](DEFAULT_EXTRA_LOAD) of them were lately.
    #[must_use]
    pub fn new() -> Self {
        Self::when(When::Slowest)
    }

    /// Makes a second attempt when the first has not answered after `delay`.
    ///
    /// # Errors
    ///
    /// [`InvalidHedge`] if `delay` is zero.
    pub fn after(delay: Duration) -> Result<Self, InvalidHedge> {
        if delay.is_zero() {
            return Err(InvalidHedge::new(
                "a hedge without delay doubles every call: set it near the p95 of the service",
            ));
        }
        Ok(Self::when(When::After(delay)))
    }

    fn when(when: When) -> Self {
        Self {
            rules: Rules {
                when,
                extra_load: DEFAULT_EXTRA_LOAD,
                burst: DEFAULT_BURST,
                shortest: DEFAULT_SHORTEST_DELAY,
            },
            replay_cap: DEFAULT_REPLAY_CAP,
            budget: None,
            observer: Observer::none(),
        }
    }

    /// How many second attempts may be made for each call that may be hedged (default:
    /// [0.05](DEFAULT_EXTRA_LOAD)). Unless the delay is fixed, this is also the share of calls
    /// that are slow enough for one.
    ///
    /// # Errors
    ///
    /// [`InvalidHedge`] if it is not between 0.0001 and 0.5: a smaller share is no hedge, and
    /// can't be told from the calls of half a minute; a larger one is a second service.
    pub fn extra_load(mut self, share: f64) -> Result<Self, InvalidHedge> {
        if !(0.0001..=0.5).contains(&share) {
            return Err(InvalidHedge::new(
                "the extra load must be between 0.0001 (0.01 %) and 0.5 (50 %)",
            ));
        }
        self.rules.extra_load = share;
        Ok(self)
    }

    /// How many second attempts may be made at once beyond their share (default:
    /// [10](DEFAULT_BURST)).
    ///
    /// # Errors
    ///
    /// [`InvalidHedge`] if it is zero: the share of one call is less than one attempt.
    pub fn burst(mut self, attempts: u32) -> Result<Self, InvalidHedge> {
        if attempts == 0 {
            return Err(InvalidHedge::new("the burst must be at least one attempt"));
        }
        self.rules.burst = attempts;
        Ok(self)
    }

    /// The shortest delay that is taken from the latencies (default:
    /// [1 ms](DEFAULT_SHORTEST_DELAY)). A fixed delay is what it is.
    ///
    /// # Errors
    ///
    /// [`InvalidHedge`] if it is below a millisecond, which timers don't tell.
    pub fn shortest_delay(mut self, delay: Duration) -> Result<Self, InvalidHedge> {
        if delay < DEFAULT_SHORTEST_DELAY {
            return Err(InvalidHedge::new("the shortest delay must be at least a millisecond"));
        }
        self.rules.shortest = delay;
        Ok(self)
    }

    /// Who pays besides (default: nobody). Give it the budget of the retries, which their
    /// successes fill: both are extra load to the same service.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// When the second attempt is made, at the earliest.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        match self.rules.when {
            When::After(delay) => delay,
            When::Slowest => self.rules.shortest,
        }
    }

    /// How much of a request's body is kept for the second attempt, in bytes.
    #[must_use]
    pub const fn replay_cap(mut self, cap: usize) -> Self {
        self.replay_cap = cap;
        self
    }

    /// Who is told of each hedge, of each that is not made, and of who won.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self::new()
    }
}
