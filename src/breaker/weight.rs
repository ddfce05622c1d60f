//! Which outcomes count, and as what.

use crate::classify::{Blame, Sent, Verdict};

/// What a verdict says of the one who was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Success,
    Failure,
    /// It refused unprocessed, since it has too much to do (429). That is a failure for the
    /// ratio but not for the streak: five in a row are a limiter that works, while every second
    /// call refused means that we send too much (linkerd2-proxy's rule).
    Overload,
    /// It says nothing: not sent, given up by the caller, wrong before it was sent.
    Nothing,
}

impl Weight {
    /// The table of [the module](super).
    pub(super) const fn of(verdict: Verdict) -> Self {
        match (verdict.blame, verdict.sent) {
            (Blame::Service, Sent::No) => Self::Overload,
            (Blame::Endpoint | Blame::Service, _) => Self::Failure,
            // It was there and answered: a 404 as well, and a 409 to a key.
            (Blame::Nobody | Blame::Client, Sent::Processed) => Self::Success,
            (Blame::Nobody | Blame::Client, Sent::No | Sent::Maybe) | (Blame::Caller, _) => {
                Self::Nothing
            }
        }
    }
}
