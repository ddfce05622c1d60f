//! A service of gRPC and its client, by tonic's code: rates of exchange.
//!
//! The client is what tonic-build makes of
//!
//! ```proto
//! service Rates {
//!   rpc Get(Pair) returns (Rate);
//!   rpc Watch(Pair) returns (stream Rate);
//! }
//! ```

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use buttress::{BoxError, call::Words};
use http::uri::PathAndQuery;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::{StreamExt, iter, pending};
use tonic::{
    Code, IntoRequest, Request, Response, Status, Streaming,
    body::Body,
    client::{Grpc, GrpcService},
};
use tonic_prost::ProstCodec;

/// Two currencies.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pair {
    /// What one has.
    #[prost(string, tag = "1")]
    pub from: String,
    /// What one wants.
    #[prost(string, tag = "2")]
    pub to: String,
}

/// What one is worth in the other.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rate {
    /// So much.
    #[prost(double, tag = "1")]
    pub value: f64,
}

/// Two currencies, by their codes.
#[must_use]
pub fn pair(from: &str, to: &str) -> Pair {
    Pair { from: from.to_owned(), to: to.to_owned() }
}

/// To ask for a rate twice does no harm. Only we know that: to HTTP, each call is a POST.
#[must_use]
pub fn safely(pair: Pair) -> Request<Pair> {
    let mut request = Request::new(pair);
    request.extensions_mut().insert(Words::new().idempotent(true));
    request
}

/// The generated client.
#[derive(Clone, Debug)]
pub struct RatesClient<T> {
    inner: Grpc<T>,
}

impl<T> RatesClient<T>
where
    T: GrpcService<Body>,
    T::Error: Into<BoxError>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    /// Over this service, in the place of tonic's channel.
    pub fn new(inner: T) -> Self {
        Self { inner: Grpc::new(inner) }
    }

    /// One rate.
    ///
    /// # Errors
    ///
    /// What the service says, or what went wrong on the way.
    pub async fn get(&mut self, request: impl IntoRequest<Pair>) -> Result<Response<Rate>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/rates.Rates/Get");
        self.inner.unary(request.into_request(), path, ProstCodec::default()).await
    }

    /// A rate and what becomes of it.
    ///
    /// # Errors
    ///
    /// As of [`get`](Self::get).
    pub async fn watch(
        &mut self,
        request: impl IntoRequest<Pair>,
    ) -> Result<Response<Streaming<Rate>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/rates.Rates/Watch");
        self.inner.server_streaming(request.into_request(), path, ProstCodec::default()).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.inner.ready().await;
        ready.map_err(|error| Status::unknown(format!("not ready: {}", error.into())))
    }
}

/// How an instance does.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "no crate")]
pub enum Mood {
    /// It knows what a euro is in dollars.
    Well,
    /// It answers `UNAVAILABLE`.
    Closing,
    /// It takes the request, and says nothing.
    Hanging,
}

/// An instance of the service, by tonic's own server code. It dies when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    requests: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// # Errors
    ///
    /// If no port of loopback is free.
    pub async fn start(mood: Mood) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        counter.fetch_add(1, Ordering::Relaxed);
                        async move { Ok::<_, Infallible>(serve(mood, request).await) }
                    });
                    let server = http2::Builder::new(TokioExecutor::new());
                    // A client that goes away is no failure of the server.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, requests, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests reached it so far.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(mood: Mood, request: http::Request<Incoming>) -> http::Response<Body> {
    let mut server = tonic::server::Grpc::new(ProstCodec::<Rate, Pair>::default());
    if request.uri().path().ends_with("/Watch") {
        let watch = tower::service_fn(async |_: Request<Pair>| {
            let updates = [1.08, 1.09].map(|value| Ok(Rate { value }));
            Ok(Response::new(iter(updates).chain(pending())))
        });
        return server.server_streaming(watch, request).await;
    }
    let get = tower::service_fn(async |request: Request<Pair>| match mood {
        Mood::Closing => Err(Status::unavailable("closing")),
        Mood::Hanging => std::future::pending().await,
        Mood::Well if request.get_ref().to == "USD" => Ok(Response::new(Rate { value: 1.08 })),
        Mood::Well => Err(Status::new(Code::NotFound, "no such currency")),
    });
    server.unary(get, request).await
}
