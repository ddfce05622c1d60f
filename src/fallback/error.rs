//! The fallback failed as well.

use std::{error::Error as StdError, fmt};

use super::told::FellBack;
use crate::{
    call::Outcome,
    classify::{Marked, Retry, Sent, Verdict},
    error::BoxError,
};

/// Neither who was called nor the fallback answered. Its source is the fallback's error; what
/// came of the call before is in [`BothFailed::first`].
///
/// Its verdict is the fallback's, but it never says "not carried out" when the call before it
/// may have been, and it is not to be tried again: a retry has had its turn below.
#[derive(Debug)]
pub struct BothFailed {
    first: Box<FellBack>,
    source: Marked,
}

impl BothFailed {
    pub(super) fn new(first: FellBack, mut verdict: Verdict, error: BoxError) -> Self {
        verdict.sent = verdict.sent.max(first.verdict.sent);
        verdict.retry = Retry::Never;
        Self { first: Box::new(first), source: Marked::new(verdict, error) }
    }

    /// What came of the call before its fallback was asked, and why that was.
    #[must_use]
    pub const fn first(&self) -> &FellBack {
        &self.first
    }

    /// Whether the request may have been carried out, by either of them.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.source.verdict().sent
    }

    /// The verdict on both.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.source.verdict()
    }
}

impl fmt::Display for BothFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fallback {:?} failed, too; before it ", self.first.by)?;
        match &self.first.outcome {
            Outcome::Response(Some(status)) => write!(f, "was status {status}"),
            Outcome::Response(None) => f.write_str("was an answer that did not do"),
            Outcome::Error(words) => write!(f, "it was: {words}"),
        }
    }
}

impl StdError for BothFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}
