//! The spans and their fields.

use tracing::{Span, field::Empty};

use super::{
    config::TraceConfig,
    describe::{self, Url},
};
use crate::call::{AttemptKind, HttpHead, Words};

/// The span of a whole call.
pub(super) fn call<R: HttpHead>(request: &R, config: &TraceConfig) -> Span {
    // The fields are made within the macro, so only if the span is wanted.
    tracing::info_span!(
        target: "buttress",
        "call",
        "otel.kind" = "internal",
        "otel.name" = %format_args!("call {}", describe::name(request, config)),
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
        "http.request.method" = describe::method(request, config),
        "http.request.method_original" = describe::method_original(request, config),
        "server.address" = describe::address(request),
        "server.port" = describe::port(request),
        "http.response.status_code" = Empty,
        "error.type" = Empty,
    )
}

/// The span of one attempt.
pub(super) fn attempt<R: HttpHead>(
    request: &R,
    words: Option<&Words>,
    config: &TraceConfig,
) -> Span {
    // The fields are made within the macro, so only if the span is wanted.
    tracing::info_span!(
        target: "buttress",
        "attempt",
        "otel.kind" = "client",
        "otel.name" = describe::name(request, config),
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
        "http.request.method" = describe::method(request, config),
        "http.request.method_original" = describe::method_original(request, config),
        "http.request.resend_count" = resend_count(words),
        "server.address" = describe::address(request),
        "server.port" = describe::port(request),
        "url.full" = %Url { request, config },
        "buttress.attempt.kind" = words.map(kind),
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        "network.peer.address" = Empty,
        "network.peer.port" = Empty,
        "network.protocol.version" = Empty,
    )
}

/// Absent on the first attempt, and outside of any retry.
fn resend_count(words: Option<&Words>) -> Option<i64> {
    let attempt = words.map_or(0, |words| words.attempt);
    (attempt > 1).then(|| i64::from(attempt) - 1)
}

const fn kind(words: &Words) -> &'static str {
    match words.kind {
        AttemptKind::First => "first",
        AttemptKind::Retry => "retry",
        AttemptKind::Hedge => "hedge",
        AttemptKind::Transparent => "transparent",
    }
}
