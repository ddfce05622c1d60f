//! Ejection: an endpoint that does worse than its peers is left alone for a while.
//!
//! A breaker sees one endpoint and opens when half of its calls fail. What it can't see is the
//! endpoint that fails a tenth of them while its peers fail none: that takes a comparison. Here all
//! endpoints are looked at together, every ten seconds, by the task that publishes the snapshots;
//! a call only counts.
//!
//! ```text
//!            an outlier, and the cap allows it                 30 s × times, at most 300 s
//!  in ──────────────────────────────────────────► ejected ─────────────────────────────────► in,
//!   ▲                                                                         slowly at first │
//!   └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`EjectionConfig::new`] compares [failure rates](FailureRate): an endpoint is an outlier when as
//! many failures as it had would be a coincidence of one in a thousand sweeps if it were like its
//! peers, and its rate is two points above theirs. [`EjectionConfig::envoy`] and
//! [`EjectionConfig::grpc`] do what these do, for those who move from there with their numbers.
//!
//! # What counts
//!
//! Every attempt counts for the endpoint that it went to, one whose failure a retry made good as
//! well. [`Blame`](crate::classify::Blame) decides: a call that its caller gave up and a request that
//! was wrong say nothing of the endpoint, and neither does a limit that the service as a whole has
//! (429): it says how much was sent.
//!
//! # How many
//!
//! The cap counts the unhealthy ones as well: ejection is never what leaves too few. If too few
//! are left all the same, the panic mode of [the balancer](super) uses all of them.

mod config;
mod counts;
mod ejection;
mod judge;
mod rules;
mod state;

pub(super) use self::counts::{Alarm, Counts, Origin};
pub use self::{
    config::{
        DEFAULT_EJECTION_INTERVAL, DEFAULT_EJECTION_TIME, DEFAULT_MAX_EJECTED_PERCENT,
        EjectionConfig, InvalidEjection, LONGEST_EJECTION,
    },
    counts::Tally,
    ejection::{Action, Ejection, Evidence, Outlier, Ruling},
    rules::{Consecutive, FailurePercentage, FailureRate, Latency, SuccessRate},
    state::{EjectionState, Host},
};
