//! What can be wrong with a hedge's settings.

use std::{error::Error as StdError, fmt};

/// A setting of [`HedgeConfig`](super::HedgeConfig) that can't work; its text says what to
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidHedge {
    sentence: &'static str,
}

impl InvalidHedge {
    pub(super) const fn new(sentence: &'static str) -> Self {
        Self { sentence }
    }
}

impl fmt::Display for InvalidHedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidHedge {}
