//! The service that calls one endpoint, and its maker.

use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use http::{Request, Response, Version};
use http_body::Body;
use hyper_util::{
    client::legacy::{Client, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use tower_service::Service;

use super::{
    body::TransportBody,
    config::{Protocol, TransportConfig},
    connect::Connector,
    error::InvalidTarget,
    future::ResponseFuture,
};
use crate::{
    endpoint::{Endpoint, MakeEndpoint},
    error::BoxError,
    event::Observer,
};

/// Makes a [`Transport`] for each endpoint, with a pool of its own.
pub struct HyperTransport<B> {
    config: TransportConfig,
    body: PhantomData<fn(B)>,
}

impl<B> HyperTransport<B> {
    /// Makes transports by `config`.
    #[must_use]
    pub const fn new(config: TransportConfig) -> Self {
        Self { config, body: PhantomData }
    }
}

impl<B> MakeEndpoint for HyperTransport<B>
where
    B: Body + Send,
    B::Data: Send,
{
    type Service = Transport<B>;

    fn make(&self, endpoint: &Endpoint) -> Transport<B> {
        Transport::new(endpoint, &self.config)
    }

    fn report_to(&mut self, observer: &Observer) {
        self.config = self.config.clone().observer(observer.clone());
    }
}

impl<B> Clone for HyperTransport<B> {
    fn clone(&self) -> Self {
        Self::new(self.config.clone())
    }
}

impl<B> fmt::Debug for HyperTransport<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HyperTransport").field(&self.config).finish()
    }
}

/// The service that calls one endpoint, over connections of its own. Always ready; clones share
/// the connections, which close with the last of them.
pub struct Transport<B> {
    client: Client<Connector, B>,
    version: Version,
}

impl<B> Transport<B>
where
    B: Body + Send,
    B::Data: Send,
{
    /// Calls `endpoint`. Nothing is dialled before the first request.
    #[must_use]
    pub fn new(endpoint: &Endpoint, config: &TransportConfig) -> Self {
        let mut client = Client::builder(TokioExecutor::new());
        client
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.max_idle);
        let version = match config.protocol {
            Protocol::Http1 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        };
        client.http2_only(version == Version::HTTP_2);
        if let Some(ping) = config.ping {
            client
                .http2_keep_alive_interval(ping.interval)
                .http2_keep_alive_timeout(ping.timeout)
                .http2_keep_alive_while_idle(config.ping_while_idle);
        }
        let client = client.build(Connector::new(endpoint.address(), config));
        Self { client, version }
    }
}

impl<B> Service<Request<B>> for Transport<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<TransportBody>;
    type Error = BoxError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture {
        if let Err(error) = InvalidTarget::check(request.uri()) {
            return ResponseFuture::refused(error);
        }
        // The version is of the hop, not of the message: hyper-util refuses a request that
        // came in by HTTP/2 and goes on by HTTP/1.1.
        *request.version_mut() = self.version;
        let capture = capture_connection(&mut request);
        let exclusive = self.version != Version::HTTP_2;
        ResponseFuture::sent(self.client.request(request), capture, exclusive)
    }
}

impl<B> Clone for Transport<B> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), version: self.version }
    }
}

impl<B> fmt::Debug for Transport<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("version", &self.version).finish_non_exhaustive()
    }
}
