//! The service.

use std::task::{Context, Poll};

use http::Response;
use tower_service::Service;

use super::{CollectConfig, future::CollectFuture};
use crate::{body::Body, call::Carrier, error::BoxError};

/// The service of [`CollectLayer`](super::CollectLayer).
#[derive(Clone, Copy, Debug)]
pub struct Collect<S> {
    inner: S,
    config: CollectConfig,
}

impl<S> Collect<S> {
    pub(super) const fn new(inner: S, config: CollectConfig) -> Self {
        Self { inner, config }
    }
}

impl<S, C, B> Service<C> for Collect<S>
where
    C: Carrier,
    S: Service<C, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = CollectFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: C) -> Self::Future {
        let mode = request.words().map(|words| words.body).unwrap_or_default();
        let cap = self.config.cap_for(mode);
        CollectFuture::new(self.inner.call(request), cap)
    }
}
