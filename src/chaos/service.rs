//! Asks the chaos and obeys.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    body::ChaosBody, fault::Head, future::ResponseFuture, handle::Chaos, state::HeadFault,
};
use crate::{endpoint::Endpoint, error::BoxError};

/// The service of [`ChaosLayer`](super::ChaosLayer) and [`Chaotic`](super::Chaotic).
#[derive(Clone, Debug)]
pub struct ChaosService<S> {
    inner: S,
    chaos: Chaos,
    endpoint: Option<Endpoint>,
}

impl<S> ChaosService<S> {
    pub(super) const fn new(inner: S, chaos: Chaos, endpoint: Option<Endpoint>) -> Self {
        Self { inner, chaos, endpoint }
    }

    /// The chaos.
    pub const fn chaos(&self) -> &Chaos {
        &self.chaos
    }
}

impl<S, Req, Res> Service<Request<Req>> for ChaosService<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    S::Error: Into<BoxError>,
    Res: Body<Data = Bytes>,
    Res::Error: Into<BoxError>,
{
    type Response = Response<ChaosBody<Res>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, Res>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let endpoint = self.endpoint.as_ref();
        let Some(strike) = self.chaos.strike(|| Head::of(&request, endpoint)) else {
            return ResponseFuture::unharmed(self.inner.call(request));
        };
        let is_sent = strike.head.as_ref().is_none_or(HeadFault::is_sent);
        let inner = is_sent.then(|| self.inner.call(request));
        ResponseFuture::struck(inner, strike)
    }
}
