//! The time is up.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::classify::{Blame, Mark, Retry, Sent, Verdict};

/// A limit passed before there was an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    which: Which,
    limit: Duration,
    mark: Mark,
}

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Which {
    /// The deadline of the whole call, before the response's head.
    Total,
    /// The timeout of one attempt.
    Attempt,
    /// The deadline of the whole call, while its body was read.
    Body,
    /// The longest silence between two pieces of a body that is meant to last.
    Idle,
    /// The deadline of a request to this program, before its handler had answered.
    Incoming,
}

impl Elapsed {
    pub(super) const fn new(which: Which, limit: Duration, sent: Sent) -> Self {
        let retry = match (which, sent) {
            // There is no time left for another attempt; only an attempt's end leaves some.
            (Which::Total | Which::Body | Which::Incoming, _) => Retry::Never,
            (_, Sent::No) => Retry::Always,
            _ => Retry::IfSafe,
        };
        Self {
            which,
            limit,
            mark: Mark::new(Verdict::new(Blame::Endpoint, sent, retry)).named("timeout"),
        }
    }

    /// There was nothing left, so nothing was begun: nobody was called, and nobody is to blame.
    pub(crate) const fn not_begun(which: Which) -> Self {
        let retry = Self::new(which, Duration::ZERO, Sent::No).mark.verdict().retry;
        let verdict = Verdict::new(Blame::Nobody, Sent::No, retry);
        Self { which, limit: Duration::ZERO, mark: Mark::new(verdict).named("timeout") }
    }

    /// Which limit passed.
    #[must_use]
    pub const fn which(&self) -> Which {
        self.which
    }

    /// The limit; for a deadline that came with the call, what was left of it, and zero if that
    /// was nothing.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the request may have been carried out.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.mark.verdict().sent
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        if limit.is_zero() && self.sent() == Sent::No {
            return f.write_str("the call's deadline had passed before it was begun");
        }
        match self.which {
            Which::Total => write!(f, "the call did not end within {limit:?}"),
            Which::Attempt => write!(f, "the attempt did not end within {limit:?}"),
            Which::Body => write!(f, "the response's body did not end within the call's {limit:?}"),
            Which::Idle => write!(f, "the response's body was silent for {limit:?}"),
            Which::Incoming => write!(f, "the request was not answered within its {limit:?}"),
        }
    }
}

impl StdError for Elapsed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}
