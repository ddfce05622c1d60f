//! No further attempt is made.

use std::{error::Error as StdError, fmt};

use super::StopReason;
use crate::{
    call::Attempts,
    classify::{Marked, Retry, Sent, Verdict},
    error::BoxError,
};

/// The error of the last real attempt, with the history of all.
///
/// Its verdict says "never" to retries, so that layered ones don't multiply: a chain of `d`
/// layers with `n` attempts each would make `n^d` calls.
#[derive(Debug)]
pub struct GaveUp {
    attempts: Attempts,
    reason: StopReason,
    source: Marked,
}

impl GaveUp {
    pub(super) fn new(
        source: BoxError,
        verdict: Verdict,
        attempts: Attempts,
        reason: StopReason,
    ) -> Self {
        // One attempt that may have happened is enough.
        let sent = attempts.iter().map(|attempt| attempt.verdict.sent).max();
        let mut verdict = verdict;
        verdict.sent = sent.unwrap_or(Sent::Maybe).max(verdict.sent);
        verdict.retry = Retry::Never;
        Self { attempts, reason, source: Marked::new(verdict, source) }
    }

    /// The attempts, in order.
    #[must_use]
    pub const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Why there is no further one.
    #[must_use]
    pub const fn reason(&self) -> StopReason {
        self.reason
    }

    /// Whether the request may have been carried out, by any of the attempts.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.source.verdict().sent
    }

    /// The verdict on the whole call.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.source.verdict()
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.attempts.len();
        let plural = if count == 1 { "" } else { "s" };
        let because = self.reason.because();
        write!(f, "failed after {count} attempt{plural}: {because}")
    }
}

impl StdError for GaveUp {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}
