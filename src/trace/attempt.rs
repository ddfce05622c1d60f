//! The span of one attempt, and the header that carries it on.

use std::task::{Context, Poll};

use http::Response;
use tower_layer::Layer;
use tower_service::Service;

use super::{config::TraceConfig, future::ResponseFuture, watched::Watched};
use crate::{
    call::{Carrier, HttpHead, Trail},
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
        let Some(watched) = Watched::attempt(&mut call, &self.config, &self.entropy) else {
            return ResponseFuture::bare(self.inner.call(call));
        };
        let mut trail = Trail::new();
        let inner = {
            let _entered = watched.enter();
            trail.enter(|| self.inner.call(call))
        };
        ResponseFuture::new(inner, watched, Some(trail))
    }
}
