//! A success-funded token bucket.
