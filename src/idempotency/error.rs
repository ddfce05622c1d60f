//! Calls that were not sent, for want of a key that keeps its promise.

use std::{error::Error as StdError, fmt};

use crate::classify::{Blame, Mark, Retry, Sent, Verdict};

/// The generator made a key that can't be sent. Nor was the call: without its key it would not
/// be safe to repeat, and the caller believes that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKey {
    reason: &'static str,
    mark: Mark,
}

impl InvalidKey {
    pub(super) const fn new(reason: &'static str) -> Self {
        Self { reason, mark: NOT_SENT.named("invalid_key") }
    }

    /// What is wrong with the key, without the key.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the generator made an idempotency key that can't be sent: {}; \
             a key is 1 to 255 visible ASCII characters",
            self.reason
        )
    }
}

impl StdError for InvalidKey {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}

/// A key was wanted for an attempt instead of for the whole call: the idempotency layer stands
/// below retry. Each attempt would carry a key of its own, and the service would take each for
/// a new call. The attempt was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BelowRetry {
    mark: Mark,
}

impl BelowRetry {
    pub(super) const fn new() -> Self {
        Self { mark: NOT_SENT.named("below_retry") }
    }
}

impl fmt::Display for BelowRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the idempotency layer stands below retry or hedge, where each attempt would get a \
             key of its own: put it above them",
        )
    }
}

impl StdError for BelowRetry {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}

/// The program is wrong, not the service, and will be at the next attempt.
const NOT_SENT: Mark = Mark::new(Verdict::new(Blame::Client, Sent::No, Retry::Never));
