//! reqwest beneath the whole stack, and its types above it: a client of its own for each
//! endpoint, and the calls made and read as reqwest does.
//!
//! `cargo run --example reqwest_transport`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{net::SocketAddr, time::Duration};

use buttress::{
    BoxError,
    body::Body,
    call::Attempts,
    client::{AttemptBody, Client},
    endpoint::Endpoint,
};
use buttress_examples::support::{Server, answer};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use reqwest::redirect;
use tower::{Service, service_fn};

/// Below the time of an attempt: only what fails as a connection is known to have sent nothing.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection is kept that nobody uses. reqwest's 90 s are more than many servers wait,
/// and one that hangs up just as a request is sent leaves it open whether that happened.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Calls one endpoint of this service by a client of reqwest's, on connections of its own.
#[must_use]
pub fn transport(
    service: &str,
    endpoint: &Endpoint,
) -> impl Service<
    Request<AttemptBody>,
    Response = Response<reqwest::Body>,
    Error = reqwest::Error,
    Future: Send,
> + Clone
+ Send
+ Sync
+ use<> {
    let client = reqwest::Client::builder()
        // The URI's name is for `Host`, for SNI and for the certificate. The connection goes to the
        // endpoint's address, and to its port as long as there is none in the name.
        .resolve(service, endpoint.address())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        // Who is asked again, when, and what that may cost is decided above, where it is counted.
        .retry(reqwest::retry::never())
        // Another host's answer would be taken for this endpoint's.
        .redirect(redirect::Policy::none())
        // The proxy of `HTTP_PROXY` would look for the service by its name.
        .no_proxy()
        .build()
        .expect("what can fail is TLS, which this one does not speak");
    service_fn(move |mut request: Request<AttemptBody>| {
        // That of one that came in by HTTP/2 and goes on is not this connection's.
        *request.version_mut() = Version::HTTP_11;
        let (client, request) = (client.clone(), request.map(reqwest::Body::wrap).try_into());
        async move {
            let answered = client.execute(request?).await;
            // The stack names the endpoint, and a query is nothing for a log.
            answered.map(Response::from).map_err(reqwest::Error::without_url)
        }
    })
}

/// Makes a call that was put together with reqwest, by the whole stack.
async fn send(client: &Client, request: reqwest::Request) -> Result<reqwest::Response, BoxError> {
    let request = Request::try_from(request)?.map(Body::new);
    Ok(client.send(request).await?.map(reqwest::Body::wrap).into())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (anna, bert) = (instance("Anna").await?, instance("Bert").await?);
    let gone = anna.address();
    drop(anna);
    println!("Anna is gone from {gone}, Bert is at {}.", bert.address());

    let client = client_of([gone, bert.address()])?;
    // To put calls together, and never to make them.
    let calls = reqwest::Client::new();
    for number in 1..=20 {
        // Without a key: what may have been carried out is not sent again.
        let request = calls.post("http://payments/charges").body("20 EUR").build()?;
        let response = send(&client, request).await?.error_for_status()?;
        let attempts = response.extensions().get::<Attempts>().cloned();
        println!("call {number:2}: {}", response.text().await?);
        // Only a call that took more than one attempt carries its history.
        for attempt in attempts.iter().flat_map(|attempts| attempts.iter()) {
            println!("         {attempt}");
        }
    }

    println!("A redirect is an answer like any other, and the caller's to follow:");
    let moved = send(&client, calls.get("http://payments/moved").build()?).await?;
    println!("  {} to {:?}", moved.status(), moved.headers()[header::LOCATION]);
    println!("Bert was asked {} times.", bert.requests());
    Ok(())
}

fn client_of(endpoints: impl IntoIterator<Item = SocketAddr>) -> Result<Client, BoxError> {
    Ok(Client::builder("http://payments")
        .endpoints(endpoints)
        .transport(|endpoint: &Endpoint| transport("payments", endpoint))
        .build()?)
}

async fn instance(name: &'static str) -> std::io::Result<Server> {
    Server::start(move |request| {
        let host = request.headers().get(header::HOST).cloned();
        let mut response = answer(StatusCode::OK, format!("{name}, asked for {host:?}"));
        if request.uri().path() == "/moved" {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let elsewhere = HeaderValue::from_static("http://elsewhere/");
            response.headers_mut().insert(header::LOCATION, elsewhere);
        }
        async { Some(response) }
    })
    .await
}
