//! Trace propagation and spans.
