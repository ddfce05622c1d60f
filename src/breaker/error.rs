//! What can be wrong with a breaker's settings.

use std::{error::Error as StdError, fmt};

/// A setting of [`BreakerConfig`](super::BreakerConfig) that can't work; its text says what to
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidBreaker {
    sentence: &'static str,
}

impl InvalidBreaker {
    pub(super) const fn new(sentence: &'static str) -> Self {
        Self { sentence }
    }
}

impl fmt::Display for InvalidBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidBreaker {}
