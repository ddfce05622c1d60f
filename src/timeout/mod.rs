//! Deadlines and timeouts.
