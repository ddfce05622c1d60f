//! tonic's channel beneath the whole stack, one for each endpoint, and a client that was generated
//! for tonic above it.
//!
//! `cargo run --example tonic_transport`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{io, time::Duration};

use buttress::{
    BoxError,
    call::{Attempts, Words},
    classify::{GrpcClassifier, Marked, Verdict},
    client::{AttemptBody, Client, GrpcClient},
    endpoint::Endpoint,
    find,
};
use buttress_examples::support::rates::{Mood, RatesClient, Server, pair};
use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{ConnectError, TimeoutExpired, body::Body, transport::Channel};
use tower::{Service, ServiceBuilder, service_fn};

/// Below the time of an attempt: only what fails as a connection is known to have sent nothing.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// As [`DEFAULT_PING_INTERVAL`](buttress::transport::DEFAULT_PING_INTERVAL) and
/// [`DEFAULT_PING_TIMEOUT`](buttress::transport::DEFAULT_PING_TIMEOUT): without pings a
/// connection whose peer is gone without a word is used on.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Calls one endpoint of this service by a channel of tonic's, on a connection of its own.
#[must_use]
pub fn transport(
    service: &'static str,
    endpoint: &Endpoint,
) -> impl Service<Request<AttemptBody>, Response = Response<Body>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ use<> {
    let address = endpoint.address();
    // Whatever the URI says: its name is for `:authority`.
    let dial = service_fn(move |_: Uri| async move {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        io::Result::Ok(TokioIo::new(tcp))
    });
    let dial = ServiceBuilder::new().timeout(CONNECT_TIMEOUT).service(dial);
    let channel = Channel::from_static(service)
        .http2_keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .connect_with_connector_lazy(dial);
    ServiceBuilder::new()
        .map_request(|request: Request<AttemptBody>| request.map(Body::new))
        .map_err(marked)
        .service(channel)
}

/// What tonic says in types of its own. A channel reads `grpc-timeout` as well, and gives up about
/// when the stack does.
fn marked(error: tonic::transport::Error) -> BoxError {
    if find::<ConnectError>(&error).is_some() {
        Marked::new(Verdict::UNREACHED, error.into()).into()
    } else if find::<TimeoutExpired>(&error).is_some() {
        Marked::new(Verdict::TIMED_OUT, error.into()).named("timeout").into()
    } else {
        error.into()
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (anna, bert) = (Server::start(Mood::Well).await?, Server::start(Mood::Well).await?);
    let gone = anna.address();
    drop(anna);
    println!("Anna is gone from {gone}, Bert is at {}.", bert.address());

    let client: GrpcClient = Client::builder("http://rates")
        .endpoints([gone, bert.address()])
        .classifier(GrpcClassifier::new())
        .transport(|endpoint: &Endpoint| transport("http://rates", endpoint))
        .build()?;
    let mut rates = RatesClient::new(client);
    for number in 1..=20 {
        // To HTTP each is a POST, and none says that it may be repeated: what may have been
        // carried out is not sent again.
        let rate = rates.get(pair("EUR", "USD")).await?;
        println!("call {number:2}: {}", rate.get_ref().value);
        // Only a call that took more than one attempt carries its history.
        let attempts = rate.extensions().get::<Attempts>();
        for attempt in attempts.into_iter().flat_map(|attempts| attempts.iter()) {
            println!("         {attempt}");
        }
    }
    println!("Bert was asked {} times.", bert.requests());

    println!("A stream is meant to last, and comes as it is sent:");
    let mut request = tonic::Request::new(pair("EUR", "USD"));
    request.extensions_mut().insert(Words::new().lasting_body(Duration::from_millis(200)));
    let mut updates = rates.watch(request).await?.into_inner();
    loop {
        match updates.message().await {
            Ok(Some(rate)) => println!("  {}", rate.value),
            Ok(None) => break,
            // It falls silent, and that is a status, too.
            Err(status) => {
                println!("  {:?}: {}", status.code(), status.message());
                break;
            }
        }
    }
    Ok(())
}
