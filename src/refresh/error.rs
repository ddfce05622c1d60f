//! No new credential.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{
    classify::{Blame, Mark, Marked, Retry, Sent, Verdict},
    error::BoxError,
};

/// The service refused the credential, and no new one could be fetched.
///
/// The error of the fetching is among the sources, the same for all calls that waited for it.
#[derive(Debug)]
pub struct RefreshFailed {
    source: Marked,
}

impl RefreshFailed {
    pub(super) fn new(cause: Cause, sent: Sent) -> Self {
        // The refusal itself: "the request has not been applied" (RFC 9110, section 15.5.2).
        // Another attempt would be refused in the same way.
        let verdict = Verdict::new(Blame::Client, sent, Retry::Never);
        Self { source: Marked::new(verdict, cause.into()) }
    }

    /// Whether the request may have been carried out, by an attempt before the refused one.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.source.verdict().sent
    }
}

impl fmt::Display for RefreshFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service refused the credential, and no new one could be fetched")
    }
}

impl StdError for RefreshFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// Why no credential came, for each who waited.
#[derive(Clone, Debug)]
pub(super) struct Cause(Arc<BoxError>);

impl Cause {
    pub(super) fn new(error: BoxError) -> Self {
        Self(Arc::new(error))
    }

    pub(super) fn error(&self) -> &(dyn StdError + 'static) {
        &**self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.error())
    }
}

/// A credential was not fetched within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTimedOut {
    limit: Duration,
    mark: Mark,
}

impl RefreshTimedOut {
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, mark: Mark::new(Verdict::TIMED_OUT).named("timeout") }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl fmt::Display for RefreshTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no credential was fetched within {:?}", self.limit)
    }
}

impl StdError for RefreshTimedOut {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}

/// The credential is fetched by a call that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitsForItself;

impl fmt::Display for WaitsForItself {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the credential is fetched through the layer that waits for it: fetch it by a client \
             of its own",
        )
    }
}

impl StdError for WaitsForItself {}

/// What fetched the credential panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fetching of the credential panicked")
    }
}

impl StdError for Panicked {}
