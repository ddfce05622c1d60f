//! Events as `tracing` records.
