//! Shared pieces of the examples, and the drill.

// It stops, wakes and kills processes by signals, which are Unix's.
#[cfg(unix)]
pub mod outage;

pub mod support;
