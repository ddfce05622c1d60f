//! Shared pieces of the examples, and the drill.

pub mod outage;
