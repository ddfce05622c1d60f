//! How long a credential may be fetched, and how often.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{call::DEFAULT_REPLAY_CAP, event::Observer};

/// How long the fetching of one credential may take. As long as an attempt of a call by default,
/// since it is one: a token service that takes longer is down.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

/// How long after a credential was fetched, or could not be, no other is. Tokens live for
/// minutes at the least, so a service that refuses one which is a second old has another reason;
/// and a token service that is down is asked once a second, however many calls fail.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

/// The settings of a [`RefreshLayer`](super::RefreshLayer).
#[derive(Clone, Debug)]
pub struct RefreshConfig {
    pub(super) limit: Duration,
    pub(super) pause: Duration,
    pub(super) replay_cap: usize,
    pub(super) observer: Observer,
}

impl RefreshConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            pause: DEFAULT_PAUSE,
            replay_cap: DEFAULT_REPLAY_CAP,
            observer: Observer::none(),
        }
    }

    /// How long the fetching of one credential may take, whoever waits for it.
    ///
    /// # Errors
    ///
    /// [`InvalidRefresh`] if it is zero.
    pub fn limit(mut self, limit: Duration) -> Result<Self, InvalidRefresh> {
        if limit.is_zero() {
            return Err(InvalidRefresh);
        }
        self.limit = limit;
        Ok(self)
    }

    /// How long after a credential was fetched, or could not be, no other is. With zero, each
    /// call that is refused may fetch one.
    #[must_use]
    pub const fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// How much of a request's body is kept for the second try, in bytes. A call with a larger
    /// one is sent unharmed, and its refusal is its answer.
    #[must_use]
    pub const fn replay_cap(mut self, cap: usize) -> Self {
        self.replay_cap = cap;
        self
    }

    /// Who is told of credentials that were fetched, could not be, or were refused for good.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

impl Default for RefreshConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A limit that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidRefresh;

impl fmt::Display for InvalidRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no credential can be fetched in no time: set the limit above zero")
    }
}

impl StdError for InvalidRefresh {}
