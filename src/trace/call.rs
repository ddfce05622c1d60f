//! The span of a whole call.

use std::task::{Context, Poll};

use http::Response;
use tower_layer::Layer;
use tower_service::Service;

use super::{config::TraceConfig, future::ResponseFuture, watched::Watched};
use crate::{
    call::{Carrier, HttpHead},
    error::BoxError,
};

/// Puts a span around each call, its retries and backoffs included. Stands above retry.
///
/// Its kind is INTERNAL: what goes over the wire are the [attempts](super::AttemptSpanLayer)
/// within. Only the outcome that the caller gets is recorded, so a call that was retried and
/// succeeded is no error.
#[derive(Clone, Debug, Default)]
pub struct CallSpanLayer {
    config: TraceConfig,
}

impl CallSpanLayer {
    /// The layer.
    #[must_use]
    pub const fn new(config: TraceConfig) -> Self {
        Self { config }
    }
}

impl<S> Layer<S> for CallSpanLayer {
    type Service = CallSpan<S>;

    fn layer(&self, inner: S) -> CallSpan<S> {
        CallSpan { inner, config: self.config.clone() }
    }
}

/// The service of [`CallSpanLayer`].
#[derive(Clone, Debug)]
pub struct CallSpan<S> {
    inner: S,
    config: TraceConfig,
}

impl<S, C, B> Service<C> for CallSpan<S>
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

    fn call(&mut self, call: C) -> Self::Future {
        let Some(watched) = Watched::call(&call, &self.config) else {
            return ResponseFuture::bare(self.inner.call(call));
        };
        let inner = {
            let _entered = watched.enter();
            self.inner.call(call)
        };
        ResponseFuture::new(inner, watched, None)
    }
}
