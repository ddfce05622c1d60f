//! Calls that ended with an error, and what was found out about them.

use std::{error::Error as StdError, fmt};

use super::Conclusion;
use crate::{
    classify::{Marked, Retry, Sent, Verdict},
    error::BoxError,
};

/// The call failed, and it is certain that it was not carried out: whoever makes it again does
/// not make it twice.
#[derive(Debug)]
pub struct NotCarriedOut {
    lookups: u32,
    source: Marked,
}

impl NotCarriedOut {
    pub(super) fn new(error: BoxError, verdict: Verdict, lookups: u32) -> Self {
        // Not tried again by a layer above, as little as what a retry beneath gave up.
        let verdict = Verdict { sent: Sent::No, retry: Retry::Never, ..verdict };
        Self { lookups, source: Marked::new(verdict, error) }
    }

    /// How many lookups were made.
    #[must_use]
    pub const fn lookups(&self) -> u32 {
        self.lookups
    }
}

impl fmt::Display for NotCarriedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call failed, and a lookup says that it was not carried out")
    }
}

impl StdError for NotCarriedOut {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// The call failed, and nobody knows whether it was carried out, although it was looked up.
///
/// Its source is the call's own error.
#[derive(Debug)]
pub struct StillUnknown {
    conclusion: Conclusion,
    lookups: u32,
    lookup: Option<BoxError>,
    source: BoxError,
}

impl StillUnknown {
    pub(super) const fn new(
        source: BoxError,
        conclusion: Conclusion,
        lookups: u32,
        lookup: Option<BoxError>,
    ) -> Self {
        Self { conclusion, lookups, lookup, source }
    }

    /// Why it is not known.
    #[must_use]
    pub const fn conclusion(&self) -> Conclusion {
        self.conclusion
    }

    /// How many lookups were made.
    #[must_use]
    pub const fn lookups(&self) -> u32 {
        self.lookups
    }

    /// The error of the lookup, if that failed.
    #[must_use]
    pub fn lookup_error(&self) -> Option<&(dyn StdError + 'static)> {
        self.lookup.as_deref().map(|error| error as _)
    }
}

impl fmt::Display for StillUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = self.conclusion.because();
        write!(f, "the call failed, and may have been carried out: {because}")?;
        // It is no source: those lead to the call's own error, and to its verdict.
        match &self.lookup {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}

impl StdError for StillUnknown {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}
