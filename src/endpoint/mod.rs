//! Endpoints: the instances of a service, what becomes of them, and who may call them.
//!
//! Discovery says which there are, health says how they are, a [`Gate`] (a breaker) says
//! whether one may be called now, and the balancer picks. The first two are one stream of
//! [`Change`]s, so that a health check is just a stage between a registry and the balancer.

mod admission;
mod change;
mod gate;
mod identity;
mod report;

pub use self::{
    admission::AdmissionFuture,
    change::{Change, Discover, Fixed, Health},
    gate::{Gate, GateStatus, Open, Refusal},
    identity::{DEFAULT_WEIGHT, Endpoint, EndpointKey, MakeEndpoint},
    report::{IN_FLIGHT_METRIC, LATENCY_METRIC, LoadReport},
};
