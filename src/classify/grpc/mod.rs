//! gRPC over HTTP/2: its codes, its wish to be left alone, and where its answer is found.

mod classifier;
mod code;
mod guarded;
mod pushback;

pub use self::{
    classifier::{GrpcClassifier, InvalidGrpcRetry},
    code::GrpcCode,
    guarded::GrpcGuarded,
};
