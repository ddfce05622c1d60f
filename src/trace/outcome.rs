//! What an outcome means for its span.

use std::{error::Error as StdError, fmt, io, net::SocketAddr};

use http::{Response, Version};
use tracing::{Span, field::display};

use crate::{
    classify::{Blame, Mark, Marked, Sent, Verdict, verdict_on_error},
    endpoint::Refusal,
    error::{find, sources},
};

/// `error.type` of what a deadline or timeout cut off.
const TIMEOUT: &str = "timeout";
/// `error.type` of what nothing is known about.
const OTHER: &str = "_OTHER";

/// Records a response's head, or an error.
///
/// A status of 400 and above is an error for a client; below, the status stays unset, since
/// "OK" is for the application to say.
pub(super) fn record<B>(span: &Span, outcome: Result<&Response<B>, &(dyn StdError + 'static)>) {
    match outcome {
        Ok(response) => {
            let status = response.status();
            span.record("http.response.status_code", i64::from(status.as_u16()));
            if let Some(version) = protocol_version(response.version()) {
                span.record("network.protocol.version", version);
            }
            if status.as_u16() >= 400 {
                record_error(span, status.as_str());
            }
        }
        Err(error) => {
            record_error(span, error_type(error));
            span.record("otel.status_description", display(Chain(error)));
        }
    }
}

/// Records that the call's own deadline cut it off. A caller that gave up is no error.
pub(super) fn record_timeout(span: &Span) {
    record_error(span, TIMEOUT);
}

/// Records the instance that was picked.
pub(super) fn record_peer(span: &Span, peer: SocketAddr) {
    span.record("network.peer.address", display(peer.ip()));
    span.record("network.peer.port", i64::from(peer.port()));
}

fn record_error(span: &Span, error_type: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error_type);
}

fn protocol_version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

/// `error.type`: one of few words, whatever the error's text. The room's docs list them.
fn error_type(error: &(dyn StdError + 'static)) -> &'static str {
    sources(error).find_map(kind).unwrap_or_else(|| unnamed(error))
}

/// What one error of a chain is.
fn kind(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    if let Some(mark) = error.downcast_ref::<Mark>() {
        return mark.kind();
    }
    if let Some(marked) = error.downcast_ref::<Marked>() {
        return marked.kind();
    }
    if error.is::<Refusal>() {
        return Some("circuit_open");
    }
    let error = error.downcast_ref::<io::Error>()?;
    // An io error is often only the wrapper of another, which knows more. `source` skips it.
    let inner = error.get_ref().and_then(|inner| sources(inner).find_map(kind));
    inner.or_else(|| io_kind(error.kind()))
}

fn io_kind(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    match kind {
        Kind::TimedOut => Some(TIMEOUT),
        Kind::ConnectionRefused => Some("connect_refused"),
        Kind::ConnectionReset => Some("connection_reset"),
        Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            Some("connection_closed")
        }
        _ => None,
    }
}

/// What the verdict says of an error that nobody named.
fn unnamed(error: &(dyn StdError + 'static)) -> &'static str {
    if find::<Mark>(error).is_some_and(|mark| mark.verdict() == Verdict::TIMED_OUT) {
        return TIMEOUT;
    }
    let verdict = verdict_on_error(error);
    match (verdict.blame, verdict.sent) {
        (Blame::Endpoint, Sent::No) => "connect",
        (Blame::Nobody, Sent::No) => "unprocessed",
        (Blame::Service, _) => "overload",
        (Blame::Client, _) => "invalid_request",
        _ => OTHER,
    }
}

/// An error and its sources in one line.
struct Chain<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in sources(self.0).enumerate() {
            write!(f, "{}{error}", if n == 0 { "" } else { ": " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Retry;
    use crate::error::BoxError;

    /// An error with something beneath it.
    #[derive(Debug)]
    struct Above<E>(E);

    impl<E> fmt::Display for Above<E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it failed")
        }
    }

    impl<E: StdError + 'static> StdError for Above<E> {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    fn mark(blame: Blame, sent: Sent) -> Above<Mark> {
        Above(Mark::new(Verdict::new(blame, sent, Retry::IfSafe)))
    }

    #[test]
    fn names_an_error_by_one_of_few_words() {
        let io = |kind: io::ErrorKind| Above(io::Error::from(kind));
        let unreached = Verdict::new(Blame::Endpoint, Sent::No, Retry::Always);
        let named = Mark::new(unreached).named("no_endpoint");
        let table: Vec<(BoxError, &str)> = vec![
            ("who knows".into(), "_OTHER"),
            (Above(named).into(), "no_endpoint"),
            (Above(io::Error::other(Above(named))).into(), "no_endpoint"),
            (Marked::new(unreached, "broken".into()).named("tunnel").into(), "tunnel"),
            (Marked::new(unreached, "broken".into()).into(), "connect"),
            (Refusal::indefinite().into(), "circuit_open"),
            (io(io::ErrorKind::TimedOut).into(), "timeout"),
            (io(io::ErrorKind::ConnectionRefused).into(), "connect_refused"),
            (io(io::ErrorKind::ConnectionReset).into(), "connection_reset"),
            (io(io::ErrorKind::UnexpectedEof).into(), "connection_closed"),
            (io(io::ErrorKind::AddrNotAvailable).into(), "connect"),
            (io(io::ErrorKind::InvalidData).into(), "_OTHER"),
            (Above(Mark::new(Verdict::TIMED_OUT)).into(), "timeout"),
            (mark(Blame::Endpoint, Sent::No).into(), "connect"),
            (mark(Blame::Nobody, Sent::No).into(), "unprocessed"),
            (mark(Blame::Service, Sent::No).into(), "overload"),
            (mark(Blame::Client, Sent::No).into(), "invalid_request"),
            (mark(Blame::Endpoint, Sent::Processed).into(), "_OTHER"),
        ];
        for (error, expected) in table {
            assert_eq!(error_type(&*error), expected, "{error:?}");
        }
    }

    #[test]
    fn writes_an_error_with_what_is_beneath_it() {
        let error = Above(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(Chain(&error).to_string(), "it failed: connection refused");
    }
}
