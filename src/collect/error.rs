//! The body broke off.

use std::{error::Error as StdError, fmt};

use crate::{
    classify::{Blame, Marked, Retry, Sent, Verdict},
    error::BoxError,
};

/// The head came, the end did not: the service was at work, and nobody knows how far it came.
const BROKEN: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);

/// A response's body failed while it was collected.
#[derive(Debug)]
pub struct BrokenBody {
    read: usize,
    cause: Marked,
}

impl BrokenBody {
    pub(super) const fn new(read: usize, cause: BoxError) -> Self {
        // In front of the cause, which may say of a *request* that it was never sent.
        Self { read, cause: Marked::new(BROKEN, cause) }
    }

    /// How many bytes had been read.
    #[must_use]
    pub const fn read(&self) -> usize {
        self.read
    }
}

impl fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the response's body broke off after {} bytes", self.read)
    }
}

impl StdError for BrokenBody {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.cause)
    }
}
