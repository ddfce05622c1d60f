//! What is decided about an endpoint, and on what grounds.

use std::time::Instant;

use crate::endpoint::EndpointKey;

/// An endpoint was found to be an outlier: by what, with which numbers, and for how long it is left
/// alone.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ejection {
    /// By which test.
    pub by: Outlier,
    /// The numbers.
    pub evidence: Evidence,
    /// When.
    pub since: Instant,
    /// Until when. Envoy and gRPC look only when they sweep: there it is the first sweep after this.
    pub until: Instant,
    /// How often in a row, this time included: the time grows with it.
    pub times: u32,
}

/// The tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outlier {
    /// More failures than its peers have, by more than chance ([`FailureRate`](super::FailureRate)).
    FailureRate,
    /// Slower than its peers ([`Latency`](super::Latency)).
    Latency,
    /// Server errors in a row (Envoy's `consecutive_5xx`).
    ServerErrors,
    /// Failures of a gateway in a row: answers after which nobody knows whether the request was
    /// carried out, 502, 503 and 504 (Envoy's `consecutive_gateway_failure`).
    GatewayFailures,
    /// No answer at all, in a row (Envoy's `consecutive_local_origin_failure`).
    LocalFailures,
    /// A success rate far below the mean ([`SuccessRate`](super::SuccessRate)).
    SuccessRate,
    /// The same, of the failures without an answer alone.
    LocalSuccessRate,
    /// Too many failures, whatever the peers do ([`FailurePercentage`](super::FailurePercentage)).
    FailurePercentage,
    /// The same, of the failures without an answer alone.
    LocalFailurePercentage,
}

impl Outlier {
    /// A stable code, for telemetry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailureRate => "failure_rate",
            Self::Latency => "latency",
            Self::ServerErrors => "server_errors",
            Self::GatewayFailures => "gateway_failures",
            Self::LocalFailures => "local_failures",
            Self::SuccessRate => "success_rate",
            Self::LocalSuccessRate => "local_success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::LocalFailurePercentage => "local_failure_percentage",
        }
    }
}

/// The numbers that made an endpoint an outlier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Evidence {
    /// How many of its calls were looked at.
    pub calls: u32,
    /// How many of them failed.
    pub failures: u32,
    /// What was measured: a share from 0 to 1, seconds for [`Outlier::Latency`], failures in a row
    /// for the consecutive ones.
    pub measured: f64,
    /// What its peers have, where they were asked.
    pub usual: Option<f64>,
    /// What it would have had to stay below (above, for a success rate).
    pub limit: f64,
    /// How likely as many failures are for an endpoint like its peers, for
    /// [`Outlier::FailureRate`].
    pub chance: Option<f64>,
}

/// Something was decided about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ruling {
    /// About which.
    pub key: EndpointKey,
    /// What.
    pub action: Action,
    /// The ejection that begins, would have begun, or is over.
    pub ejection: Ejection,
}

impl Ruling {
    pub(super) const fn new(key: EndpointKey, action: Action, ejection: Ejection) -> Self {
        Self { key, action, ejection }
    }
}

/// What becomes of an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// It is ejected.
    Ejected,
    /// It stays, since as many are out as may be.
    Capped,
    /// It stays, since the test is only to be watched ([`EjectionConfig::dark`], or Envoy's
    /// enforcement below 100 percent).
    ///
    /// [`EjectionConfig::dark`]: super::EjectionConfig::dark
    Spared,
    /// Its time is over.
    Returned,
    /// An active check found it healthy, which ended it.
    FoundHealthy,
}

impl Action {
    /// A stable code, for telemetry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::Capped => "capped",
            Self::Spared => "spared",
            Self::Returned => "returned",
            Self::FoundHealthy => "found_healthy",
        }
    }
}
