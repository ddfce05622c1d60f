//! When a fallback answers.

use std::error::Error as StdError;

use http::{Response, StatusCode};

use crate::classify::{Blame, Sent, Verdict};

/// How a call ended, as far as a [`Rule`] may want to know.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended<'a, Res> {
    /// What the outcome means.
    pub verdict: Verdict,
    /// The outcome: a response of any status, or an error.
    pub outcome: Result<&'a Res, &'a (dyn StdError + 'static)>,
}

impl<'a, Res> Ended<'a, Res> {
    /// An outcome and its verdict.
    #[must_use]
    pub const fn new(
        verdict: Verdict,
        outcome: Result<&'a Res, &'a (dyn StdError + 'static)>,
    ) -> Self {
        Self { verdict, outcome }
    }
}

/// Says whether a fallback is to answer in the place of an outcome, and why. It is asked about
/// successes too.
///
/// A closure is one:
///
/// ```
/// use buttress::fallback::{Ended, Reason, Rule};
/// use http::{Response, StatusCode};
///
/// let gone = |ended: &Ended<'_, Response<()>>| {
///     let gone = ended.outcome.is_ok_and(|answer| answer.status() == StatusCode::GONE);
///     gone.then_some(Reason::NotThere)
/// };
/// # fn is_a_rule(_: impl Rule<Response<()>>) {}
/// is_a_rule(gone);
/// ```
pub trait Rule<Res> {
    /// Why the fallback is to answer, or `None` if the outcome stands.
    fn reason(&self, ended: &Ended<'_, Res>) -> Option<Reason>;
}

impl<F, Res> Rule<Res> for F
where
    F: Fn(&Ended<'_, Res>) -> Option<Reason>,
{
    fn reason(&self, ended: &Ended<'_, Res>) -> Option<Reason> {
        self(ended)
    }
}

/// Why a fallback answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// This program itself did not send the call: an open breaker, a throttle, no endpoint.
    Refused,
    /// An endpoint failed: a timeout, a broken connection, a 500.
    Endpoint,
    /// The service is overloaded.
    Service,
    /// What was asked for is not there, so that nothing was done: a call may go elsewhere
    /// whether or not it is safe to repeat.
    NotThere,
    /// A rule of your own.
    Rule,
}

impl Reason {
    /// A stable code, as in [`Event::FellBack`](crate::Event::FellBack).
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Endpoint => "endpoint",
            Self::Service => "service",
            Self::NotThere => "not_there",
            Self::Rule => "rule",
        }
    }
}

/// The service is not to be had: the failure blames an endpoint or the service, or this program
/// did not send the call. Never for what is the client's own fault or wish: a 404, a wrong
/// request, a 409 that says "still running".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unavailable;

impl Unavailable {
    /// The rule.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<Res> Rule<Res> for Unavailable {
    fn reason(&self, ended: &Ended<'_, Res>) -> Option<Reason> {
        match ended.verdict.blame {
            Blame::Endpoint => Some(Reason::Endpoint),
            Blame::Service => Some(Reason::Service),
            // As a response, that is one of the service's own: 421, 425.
            Blame::Nobody if ended.verdict.sent == Sent::No && ended.outcome.is_err() => {
                Some(Reason::Refused)
            }
            Blame::Nobody | Blame::Client | Blame::Caller => None,
        }
    }
}

/// What was asked for is not there: 404, 501, or gRPC's `UNIMPLEMENTED` (which is sent in a head
/// without body, see gRPC over HTTP/2, "Responses"). For a newer version of an interface that
/// not every instance has yet.
///
/// A 404 may as well mean that a single thing does not exist. Then the older version says so,
/// too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotThere;

impl NotThere {
    /// The rule.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<B> Rule<Response<B>> for NotThere {
    fn reason(&self, ended: &Ended<'_, Response<B>>) -> Option<Reason> {
        let response = ended.outcome.ok()?;
        let status = response.status();
        let missing = matches!(status, StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED)
            || response.headers().get("grpc-status").is_some_and(|code| code == UNIMPLEMENTED);
        missing.then_some(Reason::NotThere)
    }
}

/// gRPC's status codes: "The operation is not implemented or is not supported".
const UNIMPLEMENTED: &str = "12";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{HttpClassifier, Retry};

    fn unavailable(status: u16) -> Option<Reason> {
        let status = StatusCode::from_u16(status).expect("a status");
        let verdict = HttpClassifier::new().verdict(status, true);
        Unavailable::new().reason(&Ended::new(verdict, Ok(&())))
    }

    #[test]
    fn is_unavailable_only_where_endpoint_or_service_are_to_blame_or_nothing_was_sent() {
        for status in [200, 304, 400, 401, 404, 409, 421, 422, 425, 501] {
            assert_eq!(unavailable(status), None, "{status}");
        }
        for status in [408, 500, 502, 504] {
            assert_eq!(unavailable(status), Some(Reason::Endpoint), "{status}");
        }
        for status in [429, 503] {
            assert_eq!(unavailable(status), Some(Reason::Service), "{status}");
        }
        let error = std::io::Error::other("any");
        let of_error = |blame, sent| {
            let verdict = Verdict::new(blame, sent, Retry::Always);
            Unavailable::new().reason(&Ended::<()>::new(verdict, Err(&error)))
        };
        assert_eq!(of_error(Blame::Nobody, Sent::No), Some(Reason::Refused));
        assert_eq!(of_error(Blame::Nobody, Sent::Maybe), None);
        assert_eq!(of_error(Blame::Client, Sent::No), None);
        assert_eq!(of_error(Blame::Caller, Sent::Maybe), None);
    }

    #[test]
    fn is_not_there_by_status_and_by_the_status_of_grpc() {
        let reason = |status, grpc: Option<&str>| {
            let mut response = Response::builder().status(status);
            if let Some(code) = grpc {
                response = response.header("grpc-status", code);
            }
            let response = response.body(()).expect("it is whole");
            NotThere::new().reason(&Ended::new(Verdict::SUCCESS, Ok(&response)))
        };
        for status in [404, 501] {
            assert_eq!(reason(status, None), Some(Reason::NotThere));
        }
        for status in [200, 400, 410, 500, 503] {
            assert_eq!(reason(status, None), None, "{status}");
        }
        assert_eq!(reason(200, Some("12")), Some(Reason::NotThere));
        assert_eq!(reason(200, Some("0")), None);
    }
}
