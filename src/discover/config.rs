//! How a stream of endpoints is made anew.

use std::time::Duration;

use super::error::InvalidDiscover;
use crate::entropy::Entropy;

/// How [`Resilient`](super::Resilient) makes a stream anew and the registries are asked anew,
/// and what an empty answer means.
///
/// The defaults and their reasons stand in the table of [the module](super).
///
/// ```
/// use std::time::Duration;
/// use buttress::discover::ResilientConfig;
///
/// let config =
///     ResilientConfig::new().backoff(Duration::from_millis(100), Duration::from_secs(5))?;
///
/// let wrong = ResilientConfig::new().backoff(Duration::ZERO, Duration::from_secs(5));
/// assert_eq!(
///     wrong.expect_err("it would spin").to_string(),
///     "the first wait must be longer than zero",
/// );
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Debug)]
pub struct ResilientConfig {
    pub(super) first: Duration,
    pub(super) longest: Duration,
    pub(super) keep_when_empty: bool,
    pub(super) entropy: Entropy,
}

impl ResilientConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits at most `first` before a stream is made anew, doubled for each failure in a row,
    /// up to `longest` (defaults: 500 ms and 30 s). The wait itself is drawn from the upper
    /// half of that.
    ///
    /// # Errors
    ///
    /// If `first` is zero, longer than `longest`, or if `longest` is more than a day.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Result<Self, InvalidDiscover> {
        if first.is_zero() {
            return Err(InvalidDiscover::new("the first wait must be longer than zero"));
        }
        if first > longest {
            return Err(InvalidDiscover::new("the first wait must not exceed the longest"));
        }
        if longest > DAY {
            return Err(InvalidDiscover::new("the longest wait must be at most a day"));
        }
        (self.first, self.longest) = (first, longest);
        Ok(self)
    }

    /// Whether an answer without any endpoint is taken for a fault of the registry, so that
    /// the last good set stays (default: yes).
    ///
    /// Say no if the service may really have no instance for a while, and calls should then
    /// fail fast instead of going to addresses that are gone.
    #[must_use]
    pub const fn keep_when_empty(mut self, keep: bool) -> Self {
        self.keep_when_empty = keep;
        self
    }

    /// Where the jitter comes from (default: the operating system).
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }
}

impl Default for ResilientConfig {
    fn default() -> Self {
        Self { first: FIRST, longest: LONGEST, keep_when_empty: true, entropy: Entropy::system() }
    }
}

/// 500 ms: a registry that restarts is soon back, and a fleet of clients should not meet it at
/// the door. The last good set serves meanwhile, so nothing is lost by waiting. As Envoy waits
/// for its control plane (`RetryInitialDelayMs` in its gRPC stream).
pub(super) const FIRST: Duration = Duration::from_millis(500);

/// 30 s: how stale the set may be after the registry is back. Envoy, `RetryMaxDelayMs`.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// Nobody means to wait longer, and the clock's arithmetic stays far from its end.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
