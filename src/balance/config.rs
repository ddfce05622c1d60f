//! The settings of a balancer.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use super::{eject::EjectionConfig, policy::Policy, slow_start::SlowStart};
use crate::{algo::ewma, entropy::Entropy, event::Observer};

/// Below this share of endpoints that may be called, all are (Envoy, `healthy_panic_threshold`).
pub const DEFAULT_PANIC_THRESHOLD: f64 = 0.5;

/// How long a call waits for a first endpoint while none is known.
pub const DEFAULT_EMPTY_WAIT: Duration = Duration::from_secs(5);

/// The longest wish of an endpoint to be left alone that is followed.
pub const MAX_SET_ASIDE: Duration = Duration::from_secs(30);

/// The settings of a [`Balance`](super::Balance).
#[derive(Debug)]
pub struct BalanceConfig {
    /// None for the default.
    pub(super) policy: Option<Arc<dyn Policy>>,
    pub(super) panic_threshold: f64,
    pub(super) fails_in_panic: bool,
    pub(super) ejection: Option<EjectionConfig>,
    pub(super) slow_start: SlowStart,
    pub(super) empty_wait: Duration,
    pub(super) decay: Duration,
    pub(super) entropy: Entropy,
    pub(super) observer: Observer,
}

impl BalanceConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            policy: None,
            panic_threshold: DEFAULT_PANIC_THRESHOLD,
            fails_in_panic: false,
            ejection: None,
            slow_start: SlowStart::default(),
            empty_wait: DEFAULT_EMPTY_WAIT,
            decay: ewma::DEFAULT_DECAY,
            entropy: Entropy::system(),
            observer: Observer::none(),
        }
    }

    /// How an endpoint is picked among those that may be called (default:
    /// [`PeakEwma`](super::PeakEwma)).
    #[must_use]
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Below which share of endpoints that may be called all of them are. 0 fails calls at once
    /// when none may be called.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance`] if it is not between 0 and 1.
    pub fn panic_threshold(mut self, share: f64) -> Result<Self, InvalidBalance> {
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidBalance::PanicThreshold);
        }
        self.panic_threshold = share;
        Ok(self)
    }

    /// Below the [threshold](Self::panic_threshold) calls fail at once with
    /// [`NoEndpoint::Refused`](super::NoEndpoint::Refused), instead of being spread over all (Envoy's
    /// `fail_traffic_on_panic`): for a service that fails as a whole, and gets well sooner if it is
    /// left alone.
    #[must_use]
    pub const fn fail_in_panic(mut self) -> Self {
        self.fails_in_panic = true;
        self
    }

    /// Which endpoints are ejected for doing worse than their peers (default: none are).
    ///
    /// One that fails most of its calls is found by its breaker, within a few of them, and is back
    /// soon after it is well. An ejection is for one that fails a few in a hundred, call after call,
    /// which no breaker minds; it is out for half a minute at the least. So it has to be asked for,
    /// as in Envoy and gRPC. It is not for endpoints that are no peers, since each has requests of
    /// its own: where calls go by a key, one key that always fails makes its endpoint an outlier,
    /// and then the next one.
    #[must_use]
    pub fn ejection(mut self, config: EjectionConfig) -> Self {
        self.ejection = Some(config);
        self
    }

    /// How an endpoint that joins others or comes back gets to its full share (default: over 30 s).
    #[must_use]
    pub const fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = slow_start;
        self
    }

    /// How long a call waits for a first endpoint while none is known. The call's own deadline
    /// bounds it as well.
    #[must_use]
    pub const fn empty_wait(mut self, wait: Duration) -> Self {
        self.empty_wait = wait;
        self
    }

    /// How fast a bad latency is forgotten.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance`] if it is zero.
    pub fn decay(mut self, decay: Duration) -> Result<Self, InvalidBalance> {
        if decay.is_zero() {
            return Err(InvalidBalance::Decay);
        }
        self.decay = decay;
        Ok(self)
    }

    /// Where the draws come from; a seed makes them repeatable.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Who is told of endpoints that come and go, and of discovery's failures.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A setting that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidBalance {
    /// A share outside of 0 to 1.
    PanicThreshold,
    /// A decay of zero.
    Decay,
    /// A slow start's aggression that is not above zero.
    Aggression,
    /// An overprovisioning factor below 1.
    Overprovisioning,
    /// A part of the clients outside of 0 to 1.
    OwnPart,
    /// A peer's number that is not below that of the peers.
    Peer,
    /// An aperture without endpoints.
    Narrow,
    /// A load bound of 1 or less.
    LoadBound,
    /// A ring without entries, with fewer at the most than at the least, or too many.
    RingSize,
    /// A table whose size is no prime, or too large.
    TableSize,
    /// A penalty below 0.
    Penalty,
    /// Weights that are made anew without a pause, or are not believed at all.
    WeightTimes,
    /// No more probes than removals, or more than fit into a pool.
    ProbeRates,
    /// A pool of answers without a choice, or too large to be looked at.
    PoolSize,
    /// Answers that are old when they come.
    AnswerAge,
    /// A quantile outside of 0 to 1.
    Quantile,
    /// A surplus of answers that is not above 0.
    Surplus,
    /// Probes that may take no time, or none at a time.
    ProbeLimits,
    /// Probes without a pause.
    Idle,
    /// A page to be asked for without a service's name.
    ProbePage,
}

impl fmt::Display for InvalidBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PanicThreshold => {
                "the panic threshold is a share: set it between 0.0 (never) and 1.0"
            }
            Self::Aggression => "a slow start's aggression must be above zero; 1.0 is linear",
            Self::Decay => "a decay of zero forgets every latency at once: set it above zero",
            Self::Overprovisioning => {
                "with an overprovisioning factor below 1 a healthy group gives calls away: set \
                 1.0 or more"
            }
            Self::OwnPart => "the part of the clients in this zone is between 0.0 and 1.0",
            Self::Peer => "peers are numbered from 0: set a number below that of the peers",
            Self::Narrow => "an aperture has one endpoint at the least: set 1 or more",
            Self::LoadBound => {
                "at a load bound of 1 nobody may have more than the mean: set it above 1.0, or \
                 leave the load unbounded"
            }
            Self::RingSize => {
                "a ring has from 1 to 8,388,608 entries, and at the most no fewer than at the \
                 least: set such numbers"
            }
            Self::TableSize => {
                "the size of a table is a prime, so that each order reaches every entry, and \
                 5,000,011 at the most: set such a prime, for example 65,537"
            }
            Self::Penalty => "a penalty for errors is a factor: set 0.0 (none) or more",
            Self::WeightTimes => {
                "weights are made anew after some time, and a report is believed for longer than \
                 that: set an update above zero and an expiry above the update"
            }
            Self::ProbeRates => {
                "a pool is filled by more answers than are removed from it: set more probes a call \
                 than removals, 16 at the most, and no fewer removals than 0.0"
            }
            Self::PoolSize => {
                "a choice takes two answers, and each pick looks at all of them: set a pool of from \
                 2 to 32 answers"
            }
            Self::AnswerAge => "an answer that may have no age is never used: set it above zero",
            Self::Quantile => {
                "up to a quantile between 0.0 (none) and 1.0 (all) endpoints are cold: set such a \
                 one, for example 0.84"
            }
            Self::Surplus => {
                "a pool fills by as many answers as come and don't go: set a surplus above 0.0"
            }
            Self::ProbeLimits => {
                "a probe takes some time, and one has to be under way: set a timeout above zero \
                 and at least one at a time"
            }
            Self::Idle => {
                "probes without a pause would never end: set an idle time above zero, or None"
            }
            Self::ProbePage => {
                "a page to be probed is written with its service's name, as in \
                 `http://payments/load`"
            }
        })
    }
}

impl StdError for InvalidBalance {}
