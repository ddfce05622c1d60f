//! What can be wrong with a registry.

use std::{error::Error as StdError, fmt, time::Duration};

/// A setting that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDiscover(&'static str);

impl InvalidDiscover {
    pub(super) const fn new(why: &'static str) -> Self {
        Self(why)
    }
}

impl fmt::Display for InvalidDiscover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for InvalidDiscover {}

/// The registry's stream ended. It is made anew after a wait; the last good set stays in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// How long until it is made anew.
    pub retry_in: Duration,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the registry's stream ended; the last good set stays, and the stream is made anew \
             in {:?}",
            self.retry_in,
        )
    }
}

impl StdError for Ended {}

/// The registry said that there are no endpoints at all. That is more often a fault of the
/// registry than the truth, so the last good set stays in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmptyAnswer;

impl fmt::Display for EmptyAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the registry knows no endpoint; the last good set stays")
    }
}

impl StdError for EmptyAnswer {}
