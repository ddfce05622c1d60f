//! How what the layers report is written.

use std::time::Duration;

use crate::classify::{Blame, Retry, Sent, Verdict};

/// As `i64`, which every subscriber takes for a number: OpenTelemetry's layer makes a text of
/// a `u64`.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) const fn blame(verdict: &Verdict) -> &'static str {
    match verdict.blame {
        Blame::Nobody => "nobody",
        Blame::Client => "client",
        Blame::Endpoint => "endpoint",
        Blame::Service => "service",
        Blame::Caller => "caller",
    }
}

pub(super) const fn sent(verdict: &Verdict) -> &'static str {
    match verdict.sent {
        Sent::No => "no",
        Sent::Maybe => "maybe",
        Sent::Processed => "processed",
    }
}

pub(super) const fn retry(verdict: &Verdict) -> &'static str {
    match verdict.retry {
        Retry::Never => "never",
        Retry::IfSafe => "if_safe",
        Retry::Always => "always",
        Retry::Transparent => "transparent",
    }
}
