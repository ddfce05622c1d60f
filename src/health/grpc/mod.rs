//! gRPC's own health protocol, `grpc.health.v1`, over a connection of its own.

mod ask;
mod error;
mod probe;
mod wire;

pub use self::{
    error::{HealthStatus, NoHealthAnswer},
    probe::GrpcProbe,
    wire::ServingStatus,
};
