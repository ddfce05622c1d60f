//! The limits and their defaults.

use std::{error::Error as StdError, fmt, time::Duration};

/// How long a whole call may last. Microsoft.Extensions.Http.Resilience chose it for its
/// standard handler; it is long, because a default must not break a slow service that works.
pub const DEFAULT_TOTAL: Duration = Duration::from_secs(30);

/// How long one attempt may last, from the same source: three of them fit the total.
pub const DEFAULT_ATTEMPT: Duration = Duration::from_secs(10);

/// A timeout that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidTimeout;

impl fmt::Display for InvalidTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a timeout of zero lets no call succeed: set it above zero, or leave it out")
    }
}

impl StdError for InvalidTimeout {}

/// # Errors
///
/// [`InvalidTimeout`] if the limit is zero.
pub(super) fn checked(limit: Duration) -> Result<Duration, InvalidTimeout> {
    if limit.is_zero() { Err(InvalidTimeout) } else { Ok(limit) }
}
