//! The promises, each against a transport of any kind.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    balance::{BalanceConfig, RoundRobin},
    body::Body,
    call::{Attempt, Attempts, Outcome},
    classify::{Blame, Sent},
    client::{AttemptBody, Builder, Client, Error, Kind},
    endpoint::{Endpoint, MakeEndpoint},
    retry::RetryConfig,
    transport::{HyperTransport, TransportConfig},
};
use bytes::Bytes;
use http::{Method, Request, Response, Version, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::{
    sync::{Barrier, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tower::{Service, ServiceExt, limit::ConcurrencyLimitLayer, util::BoxCloneSyncService};

use crate::{
    over_reqwest, over_tonic,
    servers::{Nobody, Server, text, unaccepting},
};

pub(crate) type Result<T = ()> = std::result::Result<T, BoxError>;

/// A transport of any kind, made for one endpoint.
pub(crate) type Port = BoxCloneSyncService<Request<AttemptBody>, Response<Body>, BoxError>;
type Make = fn(&Endpoint) -> Port;

const SERVICE: &str = "http://payments";
/// Above all that loopback takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn port<S, B>(transport: S) -> Port
where
    S: Service<Request<AttemptBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let transport = transport.map_err(Into::into).map_response(|response| response.map(Body::new));
    BoxCloneSyncService::new(transport)
}

pub(crate) fn hyper_http1(endpoint: &Endpoint) -> Port {
    port(HyperTransport::new(TransportConfig::http1()).make(endpoint))
}

pub(crate) fn hyper_http2(endpoint: &Endpoint) -> Port {
    port(HyperTransport::new(TransportConfig::http2()).make(endpoint))
}

pub(crate) fn reqwest(endpoint: &Endpoint) -> Port {
    port(over_reqwest::transport("payments", endpoint))
}

pub(crate) fn tonic(endpoint: &Endpoint) -> Port {
    port(over_tonic::transport(SERVICE, endpoint))
}

/// Asks the endpoints in turn.
fn builder(make: Make, endpoints: &[SocketAddr]) -> Builder<Make> {
    Client::builder(SERVICE)
        .endpoints(endpoints.iter().copied())
        .balance(BalanceConfig::new().policy(RoundRobin::new()))
        .transport(make)
}

fn post() -> Request<&'static str> {
    Request::post("/charges").body("20 EUR").expect("sound")
}

async fn send<B: Into<Body>>(
    client: &Client,
    request: Request<B>,
) -> std::result::Result<Response<Body>, Error> {
    timeout(PATIENCE, client.send(request)).await.expect("it ends")
}

/// What was said, and the attempts that failed before.
async fn read(response: Response<Body>) -> Result<(String, Vec<Attempt>)> {
    let attempts = response.extensions().get::<Attempts>().cloned().unwrap_or_default();
    let text = String::from_utf8(response.into_body().collect().await?.to_vec())?;
    let failed = attempts.iter().filter(|attempt| attempt.verdict.is_failure());
    Ok((text, failed.cloned().collect()))
}

fn went_to(attempt: &Attempt) -> Option<SocketAddr> {
    attempt.target.map(|target| target.address)
}

pub(crate) async fn the_services_name_is_told_to_the_endpoints_address(make: Make) -> Result {
    let server = Server::start(|request| {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(|it| it.as_str());
        let length = request.headers().get(header::CONTENT_LENGTH).cloned();
        let said = format!("{} {:?} {length:?}", request.uri().path(), authority.or(host));
        async { text(said) }
    })
    .await?;
    let client = builder(make, &[server.address()]).build()?;
    let (said, _) = read(send(&client, post()).await?).await?;
    assert_eq!(said, "/charges Some(\"payments\") Some(\"6\")");
    // One that came in by HTTP/2 goes on by whatever is spoken here.
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let request = Request::get("/").version(version).body(())?;
        let (said, _) = read(send(&client, request).await?).await?;
        assert_eq!(said, "/ Some(\"payments\") None");
    }
    Ok(())
}

pub(crate) async fn a_refused_connection_goes_elsewhere_and_sent_nothing(make: Make) -> Result {
    let (nobody, server) = (Nobody::new()?, Server::start(async |_| text("done")).await?);
    let client = builder(make, &[nobody.address()?, server.address()]).build()?;
    let mut failed = Vec::new();
    for _ in 0..10 {
        // Without a key: what may have been carried out is not sent again.
        failed.extend(read(send(&client, post()).await?).await?.1);
    }
    assert!((1..=5).contains(&failed.len()), "its breaker opens after five: {failed:?}");
    for attempt in &failed {
        assert_eq!(went_to(attempt), Some(nobody.address()?), "{attempt}");
        assert_eq!(attempt.verdict.sent, Sent::No, "{attempt}");
        assert_eq!(attempt.verdict.blame, Blame::Endpoint, "{attempt}");
    }
    assert_eq!(server.requests(), 10);

    let client = builder(make, &[nobody.address()?]).build()?;
    let error = send(&client, post()).await.err().ok_or("answered")?;
    assert_eq!((error.kind(), error.sent()), (Kind::Connect, Sent::No), "{error:?}");
    assert_eq!(error.attempts().len(), 3, "{error:?}");
    Ok(())
}

pub(crate) async fn a_connection_that_was_not_made_in_time_sent_nothing(make: Make) -> Result {
    let (address, _held) = unaccepting()?;
    let retry = RetryConfig::new().max_attempts(1)?;
    let client = builder(make, &[address]).retry(retry).build()?;
    let error = send(&client, post()).await.err().ok_or("answered")?;
    assert_eq!((error.kind(), error.sent()), (Kind::Connect, Sent::No), "{error:?}");
    Ok(())
}

pub(crate) async fn given_up_while_connecting(make: Make) -> Result<Sent> {
    let (address, _held) = unaccepting()?;
    let client = builder(make, &[address])
        .attempt_timeout(Duration::from_millis(50))
        .retry(RetryConfig::new().max_attempts(1)?)
        .build()?;
    let error = send(&client, post()).await.err().ok_or("answered")?;
    assert_eq!(error.kind(), Kind::Timeout, "{error:?}");
    Ok(error.sent())
}

pub(crate) async fn a_lost_answer_is_asked_for_again_with_a_key_only(make: Make) -> Result {
    let loses = Server::start(|request: Request<Incoming>| async {
        request.into_body().collect().await.ok()?;
        None
    });
    let (loses, answers) = (loses.await?, Server::start(async |_| text("done")).await?);
    let both = [loses.address(), answers.address()];
    let client = builder(make, &both).build()?;
    let mut lost = 0;
    for _ in 0..4 {
        let Err(error) = send(&client, post()).await else { continue };
        assert_eq!((error.kind(), error.sent()), (Kind::Connection, Sent::Maybe), "{error:?}");
        let [attempt] = error.attempts() else { panic!("it was repeated: {error:?}") };
        assert_eq!(went_to(attempt), Some(loses.address()), "{attempt}");
        lost += 1;
    }
    assert!(lost > 0, "some went to the one that loses them");
    assert_eq!((loses.requests(), answers.requests()), (lost, 4 - lost));

    let client = builder(make, &both).idempotency_keys().build()?;
    let mut repeated = 0;
    for _ in 0..4 {
        let (said, failed) = read(send(&client, post()).await?).await?;
        assert_eq!(said, "done");
        repeated += failed.len();
    }
    assert!(repeated > 0, "some went to the one that loses them");
    Ok(())
}

pub(crate) async fn an_attempt_that_times_out_goes_elsewhere(make: Make) -> Result {
    let hangs = Server::start(async |_| pending().await).await?;
    let answers = Server::start(async |_| text("done")).await?;
    let limit = Duration::from_millis(200);
    let client =
        builder(make, &[hangs.address(), answers.address()]).attempt_timeout(limit).build()?;
    let mut failed = Vec::new();
    for method in [Method::GET, Method::PUT, Method::GET, Method::PUT] {
        let request = Request::builder().method(method).uri("/charges/7").body("20 EUR")?;
        let (said, more) = read(send(&client, request).await?).await?;
        assert_eq!(said, "done");
        failed.extend(more);
    }
    assert!(!failed.is_empty(), "every second one went there first");
    for attempt in &failed {
        assert_eq!(went_to(attempt), Some(hangs.address()), "{attempt}");
        assert!(attempt.lasted >= limit, "{attempt}");
        assert_eq!(attempt.verdict.sent, Sent::Maybe, "{attempt}");
    }

    // What may have been carried out and has no key is not sent elsewhere.
    let client = builder(make, &[hangs.address()]).attempt_timeout(limit).build()?;
    let error = send(&client, post()).await.err().ok_or("answered")?;
    assert_eq!((error.kind(), error.sent()), (Kind::Timeout, Sent::Maybe), "{error:?}");
    let [attempt] = error.attempts() else { panic!("it was repeated: {error:?}") };
    assert!(matches!(attempt.outcome, Outcome::Error(_)), "{attempt}");
    Ok(())
}

/// Goal: no piece waits for the next. Method: the server sends back what it reads, and the client
/// says the next word only when it has heard the one before.
pub(crate) async fn bodies_stream_both_ways(make: Make) -> Result {
    let echo = async |request: Request<Incoming>| Some(request.map(Body::new).into_body());
    let echo =
        Server::start(move |request| async move { echo(request).await.map(Response::new) }).await?;
    let client = builder(make, &[echo.address()]).build()?;
    let (say, words) = mpsc::unbounded_channel::<&'static str>();
    let words = UnboundedReceiverStream::new(words);
    let frames = words.map(|word| Ok::<_, Infallible>(Frame::data(Bytes::from(word))));
    say.send("one")?;
    let request = Request::post("/").body(Body::new(StreamBody::new(frames)))?;
    let mut heard = send(&client, request).await?.into_body();
    let mut say = Some(say);
    for (word, next) in [("one", Some("two")), ("two", Some("three")), ("three", None)] {
        let frame = timeout(PATIENCE, heard.frame()).await?.ok_or("it ended early")??;
        assert_eq!(frame.into_data().ok().as_deref(), Some(word.as_bytes()));
        match (next, &say) {
            (Some(next), Some(say)) => say.send(next)?,
            _ => drop(say.take()),
        }
    }
    let rest = timeout(PATIENCE, heard.collect()).await??;
    assert!(rest.is_empty(), "it ends when its request does: {rest:?}");
    Ok(())
}

/// Goal: a layer is made for each endpoint. Method: with one place each, of two calls at once both
/// must be under way for either to end; and never two at one endpoint.
pub(crate) async fn a_layer_of_ones_own_stands_around_each_endpoint(make: Make) -> Result {
    let both_are_there = Arc::new(Barrier::new(2));
    let most = Arc::new(AtomicU32::new(0));
    let server = || {
        let (both_are_there, most) = (Arc::clone(&both_are_there), Arc::clone(&most));
        let here = Arc::new(AtomicU32::new(0));
        Server::start(move |_| {
            let (both_are_there, most) = (Arc::clone(&both_are_there), Arc::clone(&most));
            let here = Arc::clone(&here);
            async move {
                most.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                both_are_there.wait().await;
                sleep(Duration::from_millis(5)).await;
                here.fetch_sub(1, Ordering::SeqCst);
                text("done")
            }
        })
    };
    let (one, other) = (server().await?, server().await?);
    let client = builder(make, &[one.address(), other.address()])
        .endpoint_layer(ConcurrencyLimitLayer::new(1))
        .build()?;
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let client = client.clone();
        calls.spawn(async move { read(send(&client, post()).await?).await });
    }
    while let Some(call) = calls.join_next().await {
        let (said, failed) = call??;
        assert_eq!((said.as_str(), failed.len()), ("done", 0));
    }
    assert_eq!((one.requests(), other.requests()), (5, 5));
    assert_eq!(most.load(Ordering::SeqCst), 1, "at one of them at a time");
    Ok(())
}
