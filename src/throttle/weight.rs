//! Which outcomes count, and as what.

use crate::classify::{Blame, Sent, Verdict};

/// What a verdict says of whether the service takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It took the call and answered.
    Accept,
    /// It did not take it.
    NoAccept,
    /// It says nothing of the service: the request is given back.
    Nothing,
}

impl Weight {
    /// The table of [the module](super).
    pub(super) const fn of(verdict: Verdict) -> Self {
        match (verdict.blame, verdict.sent) {
            (Blame::Caller, _) => Self::Nothing,
            // It says itself that it has too much to do, whatever it did of the call.
            (Blame::Service, _) => Self::NoAccept,
            // A 404 is work done, and a 500 is a bug: calling less would cure neither.
            (Blame::Nobody | Blame::Client | Blame::Endpoint, Sent::Processed) => Self::Accept,
            // Timed out, refused at the door, lost on the way.
            (Blame::Endpoint, Sent::No | Sent::Maybe) => Self::NoAccept,
            (Blame::Nobody | Blame::Client, Sent::No | Sent::Maybe) => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::classify::{HttpClassifier, Retry};

    #[test]
    fn every_verdict_has_its_weight() {
        use Weight::{Accept, NoAccept, Nothing};
        let http = |status, expected| {
            let status = StatusCode::from_u16(status).expect("a status");
            let verdict = HttpClassifier::new().verdict(status, true);
            assert_eq!(Weight::of(verdict), expected, "{status}");
        };
        for status in [200, 304, 404, 409, 422, 500, 501] {
            http(status, Accept);
        }
        for status in [408, 429, 502, 503, 504] {
            http(status, NoAccept);
        }
        for status in [421, 425] {
            http(status, Nothing);
        }
        let other = |blame, sent| Weight::of(Verdict::new(blame, sent, Retry::IfSafe));
        assert_eq!(other(Blame::Service, Sent::Processed), NoAccept);
        assert_eq!(other(Blame::Endpoint, Sent::No), NoAccept, "nobody listens");
        assert_eq!(other(Blame::Client, Sent::Maybe), Nothing, "a wrong request");
        assert_eq!(other(Blame::Nobody, Sent::No), Nothing, "refused by this program");
        assert_eq!(Weight::of(Verdict::TIMED_OUT), NoAccept);
        assert_eq!(Weight::of(Verdict::CANCELLED), Nothing);
    }
}
