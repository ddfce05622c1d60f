//! The last sentence of an error's chain: did it happen?

use std::{error::Error as StdError, fmt};

use super::Verdict;
use crate::error::BoxError;

/// A verdict as an error, for the end of a chain of sources.
///
/// Every error of this crate that knows its verdict has a `Mark` among its sources, where
/// [`verdict_on_error`](super::verdict_on_error) finds it. Your own errors can do the same: return one from
/// `source()`, and all layers know whether the request was sent and may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    verdict: Verdict,
    kind: Option<&'static str>,
}

impl Mark {
    /// Marks an error with its verdict.
    #[must_use]
    pub const fn new(verdict: Verdict) -> Self {
        Self { verdict, kind: None }
    }

    /// The same with a name for the kind of failure, as a stable code: `timeout`, `no_endpoint`.
    ///
    /// Telemetry carries it as `error.type`, where a verdict alone can't tell a timeout from a
    /// broken connection; and what is named `timeout` is one to the caller of a
    /// [client](crate::client::Kind::Timeout).
    #[must_use]
    pub const fn named(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The verdict.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The name of the kind of failure, if it was given one.
    #[must_use]
    pub const fn kind(&self) -> Option<&'static str> {
        self.kind
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict.sent.fmt(f)
    }
}

impl StdError for Mark {}

/// An error whose verdict is not its sources': what is found here comes before what they say.
///
/// A call that was retried in vain must not be retried again by a layer above, whatever its
/// last error was.
///
/// For errors of others, too, which a transport of your own knows more of than their sources tell:
///
/// ```
/// use std::io;
/// use buttress::classify::{Marked, Sent, Verdict, verdict_on_error};
///
/// let error = io::Error::other("the tunnel is closed");
/// assert_eq!(verdict_on_error(&error).sent, Sent::Maybe);
/// let error = Marked::new(Verdict::UNREACHED, error.into());
/// assert_eq!(verdict_on_error(&error).sent, Sent::No);
/// ```
#[derive(Debug)]
pub struct Marked {
    mark: Mark,
    source: BoxError,
}

impl Marked {
    /// Puts `verdict` in front of what the sources of `error` say.
    #[must_use]
    pub const fn new(verdict: Verdict, error: BoxError) -> Self {
        Self { mark: Mark::new(verdict), source: error }
    }

    /// The same with a name, as [`Mark::named`].
    #[must_use]
    pub fn named(mut self, kind: &'static str) -> Self {
        self.mark = self.mark.named(kind);
        self
    }

    /// The verdict.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.mark.verdict()
    }

    /// The name of the kind of failure, if it was given one.
    #[must_use]
    pub const fn kind(&self) -> Option<&'static str> {
        self.mark.kind()
    }
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mark.fmt(f)
    }
}

impl StdError for Marked {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}
