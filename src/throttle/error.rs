//! A call that was not sent, for the service's sake.

use std::{error::Error as StdError, fmt, time::Instant};

use super::state::State;
use crate::classify::{Blame, Mark, Pushback, Retry, Sent, Verdict};

/// The service refuses more of the calls than it should be asked to: this one was not sent.
///
/// It costs nothing, and nobody is to blame. A retry above does not try it again: each further
/// try would be another draw, and three draws of one in ten let three times as many calls
/// through as the service is to be asked.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Throttled {
    /// Why.
    pub reason: Reason,
    /// What was known of the service when it was refused, this call not included.
    pub state: State,
    /// When the service asked to be called again, where it said so (`Retry-After`) and that is
    /// still to come. Without that nobody knows: it may take the next call.
    pub retry_at: Option<Instant>,
    mark: Mark,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The service accepts too few of the calls.
    FewAccepts,
    /// In the whole window it accepted none.
    NoAccepts,
}

impl Reason {
    /// A stable code, as in [`Event::Throttled`](crate::Event::Throttled).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::FewAccepts => "few_accepts",
            Self::NoAccepts => "no_accepts",
        }
    }
}

/// Nobody is to blame for a call that we did not make, and another try is not wanted, although
/// it would be safe.
const REFUSED: Verdict =
    Verdict::new(Blame::Nobody, Sent::No, Retry::Always).with_pushback(Pushback::Never);

impl Throttled {
    pub(super) const fn new(state: State, retry_at: Option<Instant>) -> Self {
        let reason = if state.accepts == 0 { Reason::NoAccepts } else { Reason::FewAccepts };
        Self { reason, state, retry_at, mark: Mark::new(REFUSED).named("throttled") }
    }
}

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { requests, accepts, probability, .. } = self.state;
        write!(
            f,
            "throttled: the service took {accepts} of the last {requests} calls, so that {:.0} % \
             of them are not sent",
            probability * 100.0
        )
    }
}

impl StdError for Throttled {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}
