//! How long, and how often, a call is looked up.

use std::{error::Error as StdError, fmt, num::NonZeroU32, time::Duration};

use super::Patience;
use crate::{algo::backoff::Backoff, entropy::Entropy, event::Observer};

/// How long all lookups of a call may take together: time for a few reads of a service that is
/// not at its best, and little beside the call that ended without an answer.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(2);

/// Lookups of one call, the first included. With the default waits the last comes at most 1.5 s
/// after the first, which the grace leaves room for.
pub const DEFAULT_LOOKUPS: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");

/// The longest wait after the first lookup that found the call still running; it doubles from
/// one to the next. An attempt that is still running after a timeout takes a while yet.
pub const DEFAULT_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between two lookups.
pub const DEFAULT_WAIT_CAP: Duration = Duration::from_secs(1);

/// The settings of a [`ReconcileLayer`](super::ReconcileLayer).
#[derive(Debug)]
pub struct ReconcileConfig {
    pub(super) patience: Patience,
    pub(super) entropy: Entropy,
    pub(super) observer: Observer,
}

impl ReconcileConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            patience: Patience::default(),
            entropy: Entropy::system(),
            observer: Observer::none(),
        }
    }

    /// How long all lookups of a call may take together, waits included.
    ///
    /// # Errors
    ///
    /// [`InvalidReconcile`] if it is zero.
    pub fn grace(mut self, grace: Duration) -> Result<Self, InvalidReconcile> {
        if grace.is_zero() {
            return Err(InvalidReconcile::GRACE);
        }
        self.patience.grace = grace;
        Ok(self)
    }

    /// How often a call is looked up at most, the first time included.
    ///
    /// # Errors
    ///
    /// [`InvalidReconcile`] if it is 0.
    pub fn max_lookups(mut self, lookups: u32) -> Result<Self, InvalidReconcile> {
        self.patience.max_lookups = NonZeroU32::new(lookups).ok_or(InvalidReconcile::LOOKUPS)?;
        Ok(self)
    }

    /// How long to wait before a call that was still running is looked up again.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.patience.backoff = backoff;
        self
    }

    /// Where the jitter of the waits comes from; a seed makes it repeatable.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Who is told of each call that was looked up.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// How long it is gone on for.
    #[must_use]
    pub const fn patience(&self) -> &Patience {
        &self.patience
    }
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A setting that can't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidReconcile {
    sentence: &'static str,
}

impl InvalidReconcile {
    const GRACE: Self =
        Self { sentence: "nothing can be looked up in no time: set the grace above zero" };
    const LOOKUPS: Self = Self {
        sentence: "no lookup at all settles nothing: set max_lookups to 1 or more, or leave the \
                   layer out",
    };
}

impl fmt::Display for InvalidReconcile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidReconcile {}
