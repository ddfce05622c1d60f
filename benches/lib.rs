//! Shared pieces of the benches: one leaf, one way to call, and everything that is measured
//! over them.
//!
//! A measured call waits until the service is ready, calls it, and reads the response's body to
//! its end. It runs in a task of a runtime, by default of the current-thread kind, on which
//! another timer is always nearer than those that are measured, as in any program that has
//! something to do: the only timer of a runtime wakes its driver, which costs a system call.

mod layers;
mod leaf;
mod peers;
mod policies;
mod runner;
mod servers;
mod sharing;
mod whole;

pub use self::{
    leaf::{Answer, Leaf},
    runner::Runner,
    sharing::{Rates, Sharing, Way},
};

use http::Response;
use http_body::Body;
use tower::{BoxError, Service};

/// Takes what is to be measured.
pub trait Visit {
    /// A subject: in which group it is compared, what it is called, how it is made (within a
    /// runtime), and what it is asked.
    fn visit<S, R, B>(
        &mut self,
        group: &'static str,
        name: &'static str,
        make: impl FnOnce() -> S,
        request: fn() -> R,
    ) where
        S: Service<R, Response = Response<B>, Future: Send, Error: Into<BoxError>>,
        S: Clone + Send + 'static,
        R: Send + 'static,
        B: Body<Error: Into<BoxError>> + Send + 'static;
}

/// Shows everything there is, group by group.
pub fn visit_all(visit: &mut impl Visit) {
    layers::timeout(visit);
    peers::timeout(visit);
    layers::retry(visit);
    peers::retry(visit);
    layers::balance(visit);
    peers::balance(visit);
    layers::others(visit);
    layers::reads(visit);
    layers::keys(visit);
    layers::grpc(visit);
    servers::servers(visit);
    visit_stacks(visit);
}

/// Shows the whole job, beside the stack that one would build from tower.
pub fn visit_stacks(visit: &mut impl Visit) {
    whole::stack(visit);
    peers::stack(visit);
}

/// Shows each policy over 3 to 10,000 endpoints.
pub fn visit_policies(visit: &mut impl Visit) {
    policies::policies(visit);
}
