//! What a caller is told whose request is not answered.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

use super::IncomingBody;
use crate::timeout::Elapsed;

/// Who asks: each is answered in its own way.
#[derive(Debug)]
pub(super) enum Asker {
    Http,
    /// With the content type of the request, which is that of the answer, too.
    Grpc(HeaderValue),
}

/// Why there is no other answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Overdue(Elapsed),
    Unreadable,
}

/// gRPC's status codes: <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
const DEADLINE_EXCEEDED: HeaderValue = HeaderValue::from_static("4");
/// What grpc-go answers to a `grpc-timeout` that it can't read (`internal/transport`).
const INTERNAL: HeaderValue = HeaderValue::from_static("13");

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

const OVERDUE: HeaderValue = HeaderValue::from_static("the request's deadline has passed");
const UNREADABLE: HeaderValue = HeaderValue::from_static("the request's deadline can't be read");

/// RFC 9457. No `type`: "about:blank" says that the problem is what its status says.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const OVERDUE_PROBLEM: &str =
    r#"{"title":"Gateway Timeout","status":504,"detail":"the request's deadline has passed"}"#;
const UNREADABLE_PROBLEM: &str =
    r#"{"title":"Bad Request","status":400,"detail":"the request's deadline can't be read"}"#;

impl Asker {
    /// gRPC's content types are "application/grpc" with a suffix of `+` or parameters; those of
    /// gRPC-Web begin in the same way, and take a status in the head as well.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE) {
            Some(kind) if is_grpc(kind.as_bytes()) => Self::Grpc(kind.clone()),
            _ => Self::Http,
        }
    }

    pub(super) const fn is_grpc(&self) -> bool {
        matches!(self, Self::Grpc(_))
    }

    /// The answer. An overdue one carries its [`Elapsed`] in the extensions, for the layers of
    /// the server above.
    pub(super) fn answer<B>(&mut self, trouble: Trouble) -> Response<IncomingBody<B>> {
        let mut response = match self {
            Self::Http => {
                let (status, problem) = match trouble {
                    Trouble::Overdue(_) => (StatusCode::GATEWAY_TIMEOUT, OVERDUE_PROBLEM),
                    Trouble::Unreadable => (StatusCode::BAD_REQUEST, UNREADABLE_PROBLEM),
                };
                let body = IncomingBody::own(Bytes::from_static(problem.as_bytes()));
                let mut response = Response::new(body);
                *response.status_mut() = status;
                response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
                response
            }
            // "Trailers-Only": the status is in the head, and no body follows.
            Self::Grpc(kind) => {
                let mut response = Response::new(IncomingBody::own(Bytes::new()));
                let headers = response.headers_mut();
                put_status(headers, trouble);
                headers.insert(CONTENT_TYPE, kind.clone());
                response
            }
        };
        if let Trouble::Overdue(elapsed) = trouble {
            response.extensions_mut().insert(elapsed);
        }
        response
    }
}

/// The trailers of a gRPC answer that was cut off.
pub(super) fn overdue_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, DEADLINE_EXCEEDED);
    trailers.insert(MESSAGE, OVERDUE);
    trailers
}

fn put_status(headers: &mut HeaderMap, trouble: Trouble) {
    let (status, message) = match trouble {
        Trouble::Overdue(_) => (DEADLINE_EXCEEDED, OVERDUE),
        Trouble::Unreadable => (INTERNAL, UNREADABLE),
    };
    headers.insert(STATUS, status);
    headers.insert(MESSAGE, message);
}

fn is_grpc(kind: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    kind.get(..GRPC.len()).is_some_and(|head| head.eq_ignore_ascii_case(GRPC))
        && matches!(kind.get(GRPC.len()), None | Some(b'+' | b'-' | b';' | b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_who_speaks_grpc() {
        for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC;a=b"] {
            assert!(is_grpc(kind.as_bytes()), "{kind}");
        }
        assert!(is_grpc(b"application/grpc-web+proto"));
        for kind in ["", "application/grp", "application/grpcs", "text/application/grpc"] {
            assert!(!is_grpc(kind.as_bytes()), "{kind}");
        }
    }
}
