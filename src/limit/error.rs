//! A call for which there was no place.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::classify::{Blame, Mark, Retry, Sent, Verdict};

/// As many calls are under way as may be: this one was not sent.
///
/// It blames nobody and costs no budget, and it may be tried again, best elsewhere: after a
/// refusal by the limit of one endpoint, a retry above a balancer goes to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AtLimit {
    /// Why.
    pub reason: Reason,
    /// How many may be under way at a time.
    pub limit: u32,
    /// How long it waited for a place.
    pub waited: Duration,
    mark: Mark,
}

/// Why a call got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// As many wait as may.
    QueueFull,
    /// It waited for as long as it may.
    Waited,
    /// Its deadline, or the end of its attempt's time, passed while it waited.
    Deadline,
}

impl Reason {
    /// A stable code, as in [`Event::AtLimit`](crate::Event::AtLimit).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Waited => "waited",
            Self::Deadline => "deadline",
        }
    }
}

/// Nobody is to blame for a call that we did not make. As one more attempt, and not as a
/// transparent one: those don't count, and where every endpoint is full a call would go on until
/// its deadline, which is a queue without a bound.
const REFUSED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);

impl AtLimit {
    pub(super) const fn new(reason: Reason, limit: u32, waited: Duration) -> Self {
        Self { reason, limit, waited, mark: Mark::new(REFUSED).named("at_limit") }
    }
}

impl fmt::Display for AtLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, limit, waited, .. } = self;
        write!(f, "the limit of {limit} under way is reached: ")?;
        match reason {
            Reason::QueueFull => f.write_str("as many wait as may"),
            Reason::Waited => write!(f, "no place came free within {waited:?}"),
            Reason::Deadline => write!(f, "the time was up after {waited:?} in the queue"),
        }
    }
}

impl StdError for AtLimit {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}
