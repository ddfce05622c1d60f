//! The one error of a client.

use std::{error::Error as StdError, fmt, time::Instant};

use crate::{
    balance::NoEndpoint,
    call::{Attempt, Attempts},
    classify::{Blame, GrpcCode, Mark, Marked, Pushback, Sent, Verdict, verdict_on_error},
    collect::BrokenBody,
    endpoint::Refusal,
    error::{BoxError, find, sources},
    idempotency::InvalidKey,
    limit::AtLimit,
    refresh::RefreshFailed,
    retry::GaveUp,
    throttle::Throttled,
    timeout::Elapsed,
};

/// Why a call has no response.
///
/// `Display` says what happened, where, on which attempt, and whether the request may have been
/// carried out; [`source`](StdError::source) says the rest.
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    sent: Sent,
    attempts: Attempts,
    retry_at: Option<Instant>,
    now: Instant,
    source: BoxError,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A deadline or timeout passed: one of this crate's, or what a [`Mark`] or [`Marked`] of
    /// your own names `timeout`.
    Timeout,
    /// No connection could be made.
    Connect,
    /// The connection broke, or what came over it could not be read.
    Connection,
    /// The response's body broke off while it was collected.
    Body,
    /// No endpoint is known, or none may be called now.
    NoEndpoint,
    /// The service's circuit breaker is open.
    Rejected,
    /// This client calls the service less, as that refuses most calls.
    Throttled,
    /// As many calls are under way as may be, and no place came free in time.
    AtLimit,
    /// A credential was refused, and no other could be had.
    Credential,
    /// The request can't be sent as it is.
    Request,
    /// Something else, from a layer of your own.
    Other,
}

impl Kind {
    /// A stable code, for counters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Connection => "connection",
            Self::Body => "body",
            Self::NoEndpoint => "no_endpoint",
            Self::Rejected => "rejected",
            Self::Throttled => "throttled",
            Self::AtLimit => "at_limit",
            Self::Credential => "credential",
            Self::Request => "request",
            Self::Other => "other",
        }
    }
}

impl Error {
    #[cold]
    pub(super) fn new(source: BoxError, now: Instant) -> Self {
        let gave_up = find::<GaveUp>(&*source);
        let attempts = gave_up.map(|error| error.attempts().clone()).unwrap_or_default();
        let verdict = verdict_on_error(&*source);
        let kind = kind(&*source, verdict);
        let retry_at = retry_at(&*source, &attempts, now);
        Self {
            inner: Box::new(Inner { kind, sent: verdict.sent, attempts, retry_at, now, source }),
        }
    }

    /// The error that the layers ended with, for telemetry.
    pub(super) fn cause(&self) -> &(dyn StdError + 'static) {
        &*self.inner.source
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Whether the request may have been carried out, by any of the attempts.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.inner.sent
    }

    /// The attempts, in order: where each went, what came of it, how long it took. None were
    /// made where the call was refused before its first.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.inner.attempts
    }

    /// When to call again, where the service or a breaker said so.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        self.inner.retry_at
    }

    /// The attempts, to be left with an answer.
    #[cfg(feature = "hyper")]
    pub(super) fn history(&self) -> &Attempts {
        &self.inner.attempts
    }

    /// The code that a [`GrpcClient`](super::GrpcClient) answers with in the place of this error,
    /// as gRPC's `statuscodes.md` has it of what a client finds out by itself.
    ///
    /// | kind | code |
    /// |---|---|
    /// | timeout | `DEADLINE_EXCEEDED` |
    /// | a stream that the server reset: with `REFUSED_STREAM`, `CANCEL`, `ENHANCE_YOUR_CALM`, `INADEQUATE_SECURITY`, or anything else | `UNAVAILABLE`, `CANCELLED`, `RESOURCE_EXHAUSTED`, `PERMISSION_DENIED`, `INTERNAL` (`PROTOCOL-HTTP2.md`) |
    /// | connect, connection, body, no endpoint, rejected, throttled, at a limit | `UNAVAILABLE` |
    /// | credential | `UNAUTHENTICATED` |
    /// | request | `INTERNAL` |
    /// | other | `UNKNOWN` |
    #[must_use]
    pub fn grpc_code(&self) -> GrpcCode {
        match self.inner.kind {
            Kind::Timeout => GrpcCode::DeadlineExceeded,
            Kind::Connection | Kind::Body => {
                reset_code(self.cause()).unwrap_or(GrpcCode::Unavailable)
            }
            Kind::Connect | Kind::NoEndpoint | Kind::Rejected | Kind::Throttled | Kind::AtLimit => {
                GrpcCode::Unavailable
            }
            Kind::Credential => GrpcCode::Unauthenticated,
            Kind::Request => GrpcCode::Internal,
            Kind::Other => GrpcCode::Unknown,
        }
    }

    /// A deadline or timeout passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == Kind::Timeout
    }

    /// No connection could be made.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.inner.kind == Kind::Connect
    }

    /// No endpoint is known, or none may be called now.
    #[must_use]
    pub fn is_no_endpoint(&self) -> bool {
        self.inner.kind == Kind::NoEndpoint
    }

    /// The service's circuit breaker is open.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.inner.kind == Kind::Rejected
    }

    /// The request can't be sent as it is.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.inner.kind == Kind::Request
    }
}

fn kind(error: &(dyn StdError + 'static), verdict: Verdict) -> Kind {
    let cut_off = find::<Elapsed>(error).is_some() || sources(error).any(is_named_timeout);
    if find::<NoEndpoint>(error).is_some() {
        Kind::NoEndpoint
    } else if find::<Refusal>(error).is_some() {
        Kind::Rejected
    } else if find::<Throttled>(error).is_some() {
        Kind::Throttled
    } else if find::<AtLimit>(error).is_some() {
        Kind::AtLimit
    } else if find::<RefreshFailed>(error).is_some() {
        Kind::Credential
    } else if cut_off {
        Kind::Timeout
    } else if find::<BrokenBody>(error).is_some() {
        Kind::Body
    } else if find::<InvalidKey>(error).is_some() {
        Kind::Request
    } else {
        match (verdict.blame, verdict.sent) {
            (Blame::Client, _) => Kind::Request,
            (Blame::Endpoint, Sent::No) => Kind::Connect,
            (Blame::Endpoint | Blame::Service | Blame::Nobody, _) if of_transport(error) => {
                Kind::Connection
            }
            _ => Kind::Other,
        }
    }
}

/// Whether a transport of the user's, or his layer, says that it was one.
fn is_named_timeout(error: &(dyn StdError + 'static)) -> bool {
    let mark = error.downcast_ref::<Mark>().and_then(Mark::kind);
    let marked = error.downcast_ref::<Marked>().and_then(Marked::kind);
    mark.or(marked) == Some("timeout")
}

/// Whether the transport, or io beneath it, had a hand in it.
fn of_transport(error: &(dyn StdError + 'static)) -> bool {
    #[cfg(feature = "hyper")]
    if find::<hyper::Error>(error).is_some()
        || find::<hyper_util::client::legacy::Error>(error).is_some()
    {
        return true;
    }
    find::<std::io::Error>(error).is_some()
}

fn retry_at(
    error: &(dyn StdError + 'static),
    attempts: &Attempts,
    now: Instant,
) -> Option<Instant> {
    if let Some(NoEndpoint::SetAside { retry_at, .. }) = find(error) {
        return Some(*retry_at);
    }
    if let Some(refusal) = find::<Refusal>(error) {
        return refusal.retry_at;
    }
    if let Some(throttled) = find::<Throttled>(error) {
        return throttled.retry_at;
    }
    match attempts.last()?.verdict.pushback {
        Pushback::After(wait) => now.checked_add(wait),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, sent, attempts, retry_at, now, .. } = &*self.inner;
        f.write_str(match kind {
            Kind::Timeout => "the call took too long",
            Kind::Connect => "no connection could be made",
            Kind::Connection => "the connection broke",
            Kind::Body => "the response's body broke off",
            Kind::NoEndpoint => "there is no endpoint to call",
            Kind::Rejected => "the circuit breaker is open",
            Kind::Throttled => "the call was held back from a service that refuses most",
            Kind::AtLimit => "as many calls are under way as may be",
            Kind::Credential => "the service refused the credential, and no other could be had",
            Kind::Request => "the request can't be sent",
            Kind::Other => "the call failed",
        })?;
        if let Some(last) = attempts.last() {
            write!(f, " on attempt {}", last.number)?;
            if let Some(target) = last.target {
                write!(f, " (to {})", target.address)?;
            }
        }
        write!(f, "; {sent}")?;
        if let Some(at) = retry_at {
            write!(f, "; try again in {:?}", at.saturating_duration_since(*now))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("sent", &self.inner.sent)
            .field("attempts", &&*self.inner.attempts)
            .field("retry_at", &self.inner.retry_at)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.inner.source)
    }
}
/// What a server means that resets a stream of gRPC, if it was that.
#[cfg(feature = "hyper")]
fn reset_code(cause: &(dyn StdError + 'static)) -> Option<GrpcCode> {
    use h2::Reason;
    let reason = find::<h2::Error>(cause).filter(|error| error.is_reset())?.reason()?;
    Some(match reason {
        Reason::REFUSED_STREAM => GrpcCode::Unavailable,
        Reason::CANCEL => GrpcCode::Cancelled,
        Reason::ENHANCE_YOUR_CALM => GrpcCode::ResourceExhausted,
        Reason::INADEQUATE_SECURITY => GrpcCode::PermissionDenied,
        _ => GrpcCode::Internal,
    })
}

#[cfg(not(feature = "hyper"))]
const fn reset_code(_: &(dyn StdError + 'static)) -> Option<GrpcCode> {
    None
}
