//! A client that was generated for tonic, over the whole stack in the place of tonic's channel.
//!
//! `cargo run --example grpc`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    call::Words,
    client::{Client, GrpcClient},
};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::{StreamExt, iter, pending};
use tonic::{Code, Request, Response, Status, body::Body};
use tonic_prost::ProstCodec;

use self::rates::{Pair, Rate, RatesClient};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (anna, bert) = (Server::start(Mood::Closing).await?, Server::start(Mood::Well).await?);
    let client: GrpcClient = Client::builder("http://rates")
        .grpc()
        .endpoints([anna.address, bert.address])
        .deadline(Duration::from_secs(2))
        .attempt_timeout(Duration::from_secs(1))
        .build()?;
    let mut rates = RatesClient::new(client);

    println!("Anna is closing, and answers UNAVAILABLE:");
    let mut answered = 0;
    for _ in 0..20 {
        answered += u32::from(rates.get(safely(pair("EUR", "USD"))).await.is_ok());
    }
    println!("  {answered} of 20 rates were answered");
    println!("  Anna was asked first by some: {}", anna.requests() > 0);
    println!("  Bert answered each: {}", bert.requests() == 20);

    println!("What the service itself says is the caller's to see:");
    print(&rates.get(safely(pair("EUR", "???"))).await.map(Response::into_inner));

    println!("A stream is meant to last, and comes as it is sent:");
    let mut request = Request::new(pair("EUR", "USD"));
    request.extensions_mut().insert(Words::new().lasting_body(Duration::from_millis(200)));
    let mut updates = rates.watch(request).await?.into_inner();
    loop {
        match updates.message().await {
            Ok(Some(rate)) => print(&Ok(rate)),
            Ok(None) => break,
            // It falls silent, and that is a status, too.
            Err(status) => {
                print(&Err(status));
                break;
            }
        }
    }

    println!("A timeout of the request's own, at a service that hangs:");
    let hangs = Server::start(Mood::Hanging).await?;
    let mut rates = RatesClient::new(client_of(&[hangs.address])?);
    let mut request = safely(pair("EUR", "USD"));
    request.set_timeout(Duration::from_millis(100));
    print(&rates.get(request).await.map(Response::into_inner));

    println!("And when nobody is there:");
    let gone = hangs.address;
    drop(hangs);
    let mut rates = RatesClient::new(client_of(&[gone])?);
    print(&rates.get(pair("EUR", "USD")).await.map(Response::into_inner));
    Ok(())
}

fn client_of(endpoints: &[SocketAddr]) -> Result<GrpcClient, BoxError> {
    Ok(Client::builder("http://rates").grpc().endpoints(endpoints.iter().copied()).build()?)
}

fn pair(from: &str, to: &str) -> Pair {
    Pair { from: from.to_owned(), to: to.to_owned() }
}

/// To ask for a rate twice does no harm. Only we know that: to HTTP, each call is a POST.
fn safely(pair: Pair) -> Request<Pair> {
    let mut request = Request::new(pair);
    request.extensions_mut().insert(Words::new().idempotent(true));
    request
}

fn print(outcome: &Result<Rate, Status>) {
    match outcome {
        Ok(rate) => println!("  {}", rate.value),
        Err(status) => println!("  {:?}: {}", status.code(), status.message()),
    }
}

/// What tonic-build makes of
///
/// ```proto
/// service Rates {
///   rpc Get(Pair) returns (Rate);
///   rpc Watch(Pair) returns (stream Rate);
/// }
/// ```
mod rates {
    use super::{BoxError, ProstCodec, Response, Status};
    use http::uri::PathAndQuery;
    use tonic::{
        IntoRequest, Streaming,
        body::Body,
        client::{Grpc, GrpcService},
    };

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Pair {
        #[prost(string, tag = "1")]
        pub(crate) from: String,
        #[prost(string, tag = "2")]
        pub(crate) to: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Rate {
        #[prost(double, tag = "1")]
        pub(crate) value: f64,
    }

    pub(crate) struct RatesClient<T> {
        inner: Grpc<T>,
    }

    impl<T> RatesClient<T>
    where
        T: GrpcService<Body>,
        T::Error: Into<BoxError>,
        T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
    {
        pub(crate) fn new(inner: T) -> Self {
            Self { inner: Grpc::new(inner) }
        }

        pub(crate) async fn get(
            &mut self,
            request: impl IntoRequest<Pair>,
        ) -> Result<Response<Rate>, Status> {
            self.ready().await?;
            let path = PathAndQuery::from_static("/rates.Rates/Get");
            self.inner.unary(request.into_request(), path, ProstCodec::default()).await
        }

        pub(crate) async fn watch(
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
}

#[derive(Clone, Copy)]
enum Mood {
    Well,
    Closing,
    Hanging,
}

/// An instance of the service, by tonic's own server code. It dies when it is dropped.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(mood: Mood) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
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
        Ok(Self { address, asked, _tasks: tasks })
    }

    fn requests(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
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
