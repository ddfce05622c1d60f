//! What a server says of its own load.

use std::time::Duration;

/// What a server says of its own load, in a response: an ORCA report
/// (`xds.data.orca.v3.OrcaLoadReport`, gRFC A51), as far as a balancer can use it.
///
/// A value that the server did not say is none. A value that can't be (negative, infinite, not a
/// number) is none as well: it is somebody else's input.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LoadReport {
    /// How many requests it works on now, from all its clients: the named metric
    /// [`IN_FLIGHT_METRIC`], since ORCA has no field for it.
    pub in_flight: Option<f32>,
    /// Which part of its capacity is in use; 1 is all of it, and more is overload. The
    /// application's own measure where it has one, else the processor's.
    pub utilization: Option<f32>,
    /// Requests that it served per second.
    pub rate: Option<f32>,
    /// How many of these failed, per second.
    pub errors: Option<f32>,
    /// What an answer takes it, with as many requests as it has now: the named metric
    /// [`LATENCY_METRIC`], since ORCA has no field for it either. Policies that
    /// [probe](crate::balance::Probing) go by it; see
    /// [`algo::by_load`](crate::algo::by_load) for how a server measures it.
    pub latency: Option<Duration>,
}

/// The named metric in which a server says how many requests it works on.
pub const IN_FLIGHT_METRIC: &str = "requests_in_flight";

/// The named metric in which a server says what an answer takes it, in seconds.
pub const LATENCY_METRIC: &str = "latency_seconds";

impl LoadReport {
    /// A report that says nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { in_flight: None, utilization: None, rate: None, errors: None, latency: None }
    }

    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.in_flight.is_none()
            && self.utilization.is_none()
            && self.rate.is_none()
            && self.errors.is_none()
            && self.latency.is_none()
    }
}
