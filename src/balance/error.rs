//! Nobody could be called, or the one that was called failed.

use std::{
    error::Error as StdError,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    classify::{Blame, Mark, Pushback, Retry, Sent, Verdict},
    endpoint::Endpoint,
    error::BoxError,
};

/// No endpoint could be called. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoEndpoint {
    /// Discovery named none within the limit.
    Unknown {
        /// How long the call waited.
        waited: Duration,
    },
    /// There are some, but none may be called now, and the panic mode is off.
    Refused {
        /// How many there are.
        known: usize,
    },
    /// All that there are asked to be left alone until after the deadline.
    SetAside {
        /// How many there are.
        known: usize,
        /// When the first of them may be called again.
        retry_at: Instant,
    },
}

/// Nobody is to blame for what we did not send.
const UNSENT: Mark = Mark::new(Verdict::new(Blame::Nobody, Sent::No, Retry::Always));
/// Another attempt would wait as long, or as long again.
const UNSENT_FINAL: Mark =
    Mark::new(Verdict::new(Blame::Nobody, Sent::No, Retry::Never).with_pushback(Pushback::Never));

impl fmt::Display for NoEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { waited } => {
                write!(f, "no endpoint is known after {waited:?}: does discovery answer?")
            }
            Self::Refused { known } => {
                write!(f, "none of the {known} endpoints may be called now")
            }
            Self::SetAside { known, .. } => {
                write!(f, "all {known} endpoints asked to be called later")
            }
        }
    }
}

impl StdError for NoEndpoint {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Refused { .. } => Some(&UNSENT),
            Self::Unknown { .. } | Self::SetAside { .. } => Some(&UNSENT_FINAL),
        }
    }
}

/// What went wrong, and where.
#[derive(Debug)]
pub struct AtEndpoint {
    endpoint: Endpoint,
    source: BoxError,
}

impl AtEndpoint {
    pub(super) const fn new(endpoint: Endpoint, source: BoxError) -> Self {
        Self { endpoint, source }
    }

    /// The endpoint that was called.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl fmt::Display for AtEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calling {} failed", self.endpoint)
    }
}

impl StdError for AtEndpoint {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// A balancer was built where no tokio runtime is, which its driver needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutsideRuntime;

impl fmt::Display for OutsideRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a balancer drives its discovery in a task: build it inside a tokio runtime")
    }
}

impl StdError for OutsideRuntime {}
