//! The span of one attempt, and the header that carries it on.

use std::task::{Context, Poll};

use http::Response;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Span, field::Empty};

use super::{
    config::TraceConfig,
    describe::{self, Url},
    future::{ResponseFuture, nobody_listens},
    parent,
};
use crate::{
    call::{AttemptKind, Carrier, HttpHead, Trail, Words},
    entropy::Entropy,
    error::BoxError,
};

/// Puts a span around each attempt, and the trace into its headers. Stands below retry and
/// hedge, above the balancer.
///
/// Its kind is CLIENT, with the fields of OpenTelemetry's semantic conventions for HTTP.
#[derive(Debug, Default)]
pub struct AttemptSpanLayer {
    config: TraceConfig,
    entropy: Entropy,
}

impl AttemptSpanLayer {
    /// The layer. Span ids that it makes itself come from `entropy`.
    #[must_use]
    pub const fn new(config: TraceConfig, entropy: Entropy) -> Self {
        Self { config, entropy }
    }
}

impl<S> Layer<S> for AttemptSpanLayer {
    type Service = AttemptSpan<S>;

    fn layer(&self, inner: S) -> AttemptSpan<S> {
        AttemptSpan { inner, config: self.config.clone(), entropy: self.entropy.fork() }
    }
}

/// The service of [`AttemptSpanLayer`].
#[derive(Debug)]
pub struct AttemptSpan<S> {
    inner: S,
    config: TraceConfig,
    entropy: Entropy,
}

impl<S: Clone> Clone for AttemptSpan<S> {
    fn clone(&self) -> Self {
        let config = self.config.clone();
        Self { inner: self.inner.clone(), config, entropy: self.entropy.fork() }
    }
}

impl<S, C, B> Service<C> for AttemptSpan<S>
where
    C: Carrier,
    C::Request: HttpHead,
    S: Service<C, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut call: C) -> Self::Future {
        let span = open(call.request(), call.words(), &self.config);
        parent::propagate(&span, &mut call, &self.entropy);
        if span.is_disabled() {
            return ResponseFuture::bare(self.inner.call(call));
        }
        let asked = call.words().map(Words::asked).unwrap_or_default();
        let mut trail = Trail::new();
        let inner = span.in_scope(|| trail.enter(|| self.inner.call(call)));
        ResponseFuture::new(inner, span, asked, Some(trail))
    }
}

fn open<R: HttpHead>(request: &R, words: Option<&Words>, config: &TraceConfig) -> Span {
    if nobody_listens() {
        return Span::none();
    }
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
