//! The client of a service of gRPC: over endpoints in memory under paused time, and over real
//! connections at the end.
#![cfg(feature = "hyper")]

mod support;

use std::time::Duration;

use buttress::{
    BoxError,
    algo::{backoff::Backoff, bucket::Tariff},
    balance::BalanceConfig,
    body::Body,
    budget::Budget,
    call::{Asked, Attempts, Words},
    classify::{Classify, GrpcClassifier, GrpcCode, Mark, Sent},
    client::{Builder, Client, GrpcBody, GrpcClient},
    endpoint::{Endpoint, MakeEndpoint},
    hedge::HedgeConfig,
    retry::RetryConfig,
    timeout::{DeadlineHeader, incoming},
    transport::TransportConfig,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use support::{
    company::{MS, address, now},
    frames::{Piece, Scripted, answer, fields, message, status, trailers_only},
};

const UNAVAILABLE: u8 = 14;

/// A client of endpoints at which nobody waits for long.
fn over(
    servers: &[&Scripted],
) -> Builder<impl MakeEndpoint<Service = Scripted> + use<>, GrpcClassifier> {
    let servers: Vec<Scripted> = servers.iter().map(|&server| server.clone()).collect();
    let ports = 0..u16::try_from(servers.len()).expect("a few");
    let make = move |endpoint: &Endpoint| servers[usize::from(endpoint.address().port())].clone();
    Client::builder("http://rates")
        .grpc()
        .endpoints(ports.map(address))
        .transport(make)
        .retry(retry())
}

fn retry() -> RetryConfig {
    RetryConfig::new().backoff(Backoff::new(MS, MS).expect("sound"))
}

/// What tonic sends, but for the message.
fn request(words: Words) -> Request<Body> {
    let mut request = Request::post("/rates.Rates/Get").body(Body::full("which?")).expect("sound");
    request
        .headers_mut()
        .extend(fields([("content-type", "application/grpc"), ("te", "trailers")]));
    request.extensions_mut().insert(words);
    request
}

fn safe() -> Request<Body> {
    request(Words::new().idempotent(true))
}

/// What a caller gets: the message, and the status from wherever it came.
struct Answer {
    bytes: Bytes,
    code: Option<GrpcCode>,
    /// The attempts before it, and itself.
    attempts: usize,
    said: String,
}

async fn ask(client: &GrpcClient, request: Request<Body>) -> Answer {
    let Ok(response) = client.send(request).await;
    let attempts = response.extensions().get::<Attempts>().map_or(1, |attempts| attempts.len());
    read(response, attempts).await
}

async fn read(response: Response<GrpcBody>, attempts: usize) -> Answer {
    assert_eq!(response.status(), 200);
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    let with_status = |fields: &&http::HeaderMap| fields.contains_key("grpc-status");
    let fields = body.trailers().filter(with_status).unwrap_or(&head.headers).clone();
    let said = fields.get("grpc-message").map_or("", |said| said.to_str().expect("ASCII"));
    let said = said.to_owned();
    Answer { bytes: body.to_bytes(), code: GrpcCode::of(&fields), attempts, said }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_any_message_is_tried_again_elsewhere() -> Result<(), BoxError> {
    let failures: [fn() -> _; 2] =
        [|| trailers_only(UNAVAILABLE), || answer([Piece::Wait(MS), status(UNAVAILABLE)])];
    for failure in failures {
        let bad = Scripted::new(move |_| failure());
        let good = Scripted::new(|_| answer([message("m"), status(0)]));
        let client = over(&[&bad, &good]).seed(3).build()?;
        let mut tried = 0;
        for _ in 0..20 {
            let got = ask(&client, safe()).await;
            assert_eq!((&*got.bytes, got.code), (&b"m"[..], Some(GrpcCode::Ok)));
            tried += got.attempts - 1;
        }
        assert_eq!((bad.attempts(), good.attempts()), (tried, 20), "never twice at the bad one");
        assert!(tried > 0, "it was never asked");
        let counts: Vec<_> = good
            .seen()
            .iter()
            .filter_map(|seen| seen.headers.get("grpc-previous-rpc-attempts").cloned())
            .collect();
        assert!(counts.len() == tried && counts.iter().all(|count| count == "1"), "{counts:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_is_answered_with_its_failure() -> Result<(), BoxError> {
    let server = Scripted::new(|_| trailers_only(UNAVAILABLE));
    let client = over(&[&server]).build()?;
    let got = ask(&client, request(Words::new())).await;
    assert_eq!((got.code, server.attempts()), (Some(GrpcCode::Unavailable), 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_that_says_when_is_waited_for() -> Result<(), BoxError> {
    let server = Scripted::new(|nth| match nth {
        0 => {
            let mut refusal = trailers_only(8);
            refusal.headers_mut().extend(fields([("grpc-retry-pushback-ms", "300")]));
            refusal
        }
        _ => answer([message("m"), status(0)]),
    });
    let client = over(&[&server]).build()?;
    // It says of itself that it was not carried out: no word of ours is needed.
    let got = ask(&client, request(Words::new())).await;
    assert_eq!((&*got.bytes, got.code), (&b"m"[..], Some(GrpcCode::Ok)));
    let seen = server.seen();
    let waited = seen[1].at - seen[0].at;
    // As long as it said, and up to half of that more, so that not all come back at once.
    assert!((300..=460).contains(&waited.as_millis()), "{waited:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_status_behind_a_message_is_the_callers_and_counts_all_the_same() -> Result<(), BoxError>
{
    let server = Scripted::new(|_| answer([message("m"), status(UNAVAILABLE)]));
    let budget = Budget::new(Tariff::grpc(10, 100)?);
    let client = over(&[&server])
        .retry(retry().budget(budget.clone()))
        .balance(BalanceConfig::new().panic_threshold(0.0)?)
        .build()?;
    for nth in 1..=5 {
        let got = ask(&client, safe()).await;
        assert_eq!((&*got.bytes, got.code), (&b"m"[..], Some(GrpcCode::Unavailable)));
        assert_eq!(server.attempts(), nth, "not tried again");
    }
    assert_eq!(budget.balance(), 5_000, "a token each");
    assert!(!client.client().endpoints()[0].open, "five in a row open a breaker");

    let got = ask(&client, safe()).await;
    assert_eq!((got.code, server.attempts()), (Some(GrpcCode::Unavailable), 5));
    assert!(got.said.starts_with("there is no endpoint to call"), "{}", got.said);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_time_on_the_wire_is_what_is_left() -> Result<(), BoxError> {
    let server = Scripted::new(|nth| match nth {
        0 => answer([Piece::Wait(MS * 400), status(UNAVAILABLE)]),
        _ => answer([message("m"), status(0)]),
    });
    let client = over(&[&server])
        .deadline(Duration::from_secs(1))
        .attempt_timeout(Duration::from_secs(1))
        .build()?;
    assert_eq!(ask(&client, safe()).await.attempts, 2);
    let told: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| incoming(&seen.headers, &DeadlineHeader::grpc()).expect("it is told"))
        .collect();
    assert_eq!(told[0], Duration::from_secs(1));
    assert!((MS * 590..=MS * 600).contains(&told[1]), "{told:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_comes_with_a_request_ends_its_call() -> Result<(), BoxError> {
    let server = Scripted::with(|_| None);
    let client = over(&[&server]).build()?;
    let mut request = safe();
    request.headers_mut().extend(fields([("grpc-timeout", "300m")]));
    let began = now();
    let got = ask(&client, request).await;
    assert_eq!(got.code, Some(GrpcCode::DeadlineExceeded));
    assert_eq!((now() - began).as_millis(), 300);
    assert!(got.said.contains("may have been carried out"), "{}", got.said);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_deadline_behind_a_head_is_said_in_the_trailers() -> Result<(), BoxError> {
    let server = Scripted::new(|_| answer([message("half"), Piece::Stall]));
    let client = over(&[&server])
        .deadline(Duration::from_secs(1))
        .attempt_timeout(Duration::from_secs(1))
        .build()?;
    let Ok(response) = client.send(safe()).await;
    assert_eq!(GrpcCode::of(response.headers()), None);
    let got = read(response, 1).await;
    assert_eq!((&*got.bytes, got.code), (&b"half"[..], Some(GrpcCode::DeadlineExceeded)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_clients_own_is_an_answer_that_a_layer_above_can_judge()
-> Result<(), BoxError> {
    let refused = || Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
    let server = Scripted::with(move |_| Some(refused()));
    let client = over(&[&server]).build()?;
    let Ok(response) = client.send(request(Words::new())).await;
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.extensions().get::<Attempts>().map(|attempts| attempts.len()), Some(3));
    assert_eq!(response.extensions().get::<Mark>().and_then(Mark::kind), Some("connect"));
    let verdict = GrpcClassifier::new().response(Asked::default(), &response);
    assert_eq!(verdict.sent, Sent::No);
    assert!(!verdict.permits_retry(true), "it was tried often enough");
    let got = read(response, 3).await;
    assert_eq!((got.code, &*got.bytes), (Some(GrpcCode::Unavailable), &b""[..]));
    assert!(got.said.contains("no connection could be made on attempt 3"), "{}", got.said);
    assert!(got.said.contains("the request was not carried out"), "{}", got.said);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_tried_again_where_it_is_collected() -> Result<(), BoxError> {
    let server = || {
        Scripted::new(|nth| match nth {
            0 => answer([message("ha"), Piece::Break]),
            _ => answer([message("ha"), Piece::Wait(MS), message("lf"), status(0)]),
        })
    };
    let client = over(&[&server()]).collect_bodies().build()?;
    let got = ask(&client, safe()).await;
    assert_eq!((&*got.bytes, got.code, got.attempts), (&b"half"[..], Some(GrpcCode::Ok), 2));

    let client = over(&[&server()]).build()?;
    let got = ask(&client, safe()).await;
    assert_eq!((got.code, got.attempts), (Some(GrpcCode::Unavailable), 1));
    assert!(got.said.contains("the connection broke"), "{}", got.said);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failure_behind_a_message_that_was_collected_is_the_callers_as_well()
-> Result<(), BoxError> {
    let server = Scripted::new(|_| answer([message("m"), status(UNAVAILABLE)]));
    let client = over(&[&server]).collect_bodies().build()?;
    for _ in 0..5 {
        let got = ask(&client, safe()).await;
        assert_eq!((&*got.bytes, got.code), (&b"m"[..], Some(GrpcCode::Unavailable)));
    }
    assert_eq!(server.attempts(), 5);
    assert!(!client.client().endpoints()[0].open, "its trailers are judged as they are read");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_meant_to_last_is_neither_collected_nor_waited_for() -> Result<(), BoxError>
{
    let server = Scripted::new(|_| {
        answer([Piece::Wait(Duration::from_secs(40)), message("m"), Piece::Wait(MS), status(0)])
    });
    let client = over(&[&server]).collect_bodies().build()?;
    let began = now();
    let lasting = Words::new().lasting_body(Duration::from_secs(60));
    let Ok(response) = client.send(request(lasting)).await;
    assert!(now() - began < MS * 10, "its head was there at once");
    let got = read(response, 1).await;
    assert_eq!((&*got.bytes, got.code), (&b"m"[..], Some(GrpcCode::Ok)), "{}", got.said);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_is_raced_and_a_failure_does_not_win() -> Result<(), BoxError> {
    let slow = Scripted::new(|_| answer([Piece::Wait(MS * 500), message("slow"), status(0)]));
    let quick = Scripted::new(|_| answer([message("quick"), status(0)]));
    let hedge = HedgeConfig::after(MS * 50)?;
    let client = over(&[&slow, &quick]).hedge(hedge).seed(3).build()?;
    for _ in 0..10 {
        let got = ask(&client, safe()).await;
        assert_eq!((&*got.bytes, got.code), (&b"quick"[..], Some(GrpcCode::Ok)));
    }
    assert!(slow.attempts() > 0, "it was never asked");
    Ok(())
}

#[tokio::test]
async fn connections_that_do_not_carry_it_are_refused() {
    let builder = Client::builder("http://rates").endpoints([address(1)]);
    let error = builder.classifier(GrpcClassifier::new()).build().expect_err("over HTTP/1.1");
    assert!(error.to_string().contains("HTTP/2"), "{error}");
    let builder = Client::builder("http://rates").grpc().endpoints([address(1)]);
    assert!(builder.connections(TransportConfig::http2()).build().is_ok());
}

mod over_connections {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use support::{Nobody, frames::Frames};
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    /// A server of gRPC over HTTP/2. It stops when it is dropped.
    struct Server {
        address: std::net::SocketAddr,
        asked: Arc<AtomicUsize>,
        _tasks: JoinSet<()>,
    }

    async fn serve(answer: fn(&Request<Incoming>) -> Response<Frames>) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        counter.fetch_add(1, SeqCst);
                        let answer = answer(&request);
                        // As a server does that reads its request before it answers.
                        async move { request.into_body().collect().await.map(|_| answer) }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // A client that goes away is no failure of the server.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Server { address, asked, _tasks: tasks }
    }

    #[tokio::test]
    async fn failures_are_tried_again_elsewhere_whether_they_come_in_one_head_or_behind_it()
    -> Result<(), BoxError> {
        let at_once = serve(|_| trailers_only(UNAVAILABLE)).await;
        let later = serve(|_| answer([Piece::Wait(MS * 5), status(UNAVAILABLE)])).await;
        let well = serve(|request| {
            assert_eq!(request.headers()["te"], "trailers");
            assert!(request.headers().contains_key("grpc-timeout"));
            answer([message("m"), status(0)])
        })
        .await;
        let dead = Nobody::new();
        let client = Client::builder("http://rates")
            .grpc()
            .endpoints([at_once.address, later.address, well.address, dead.address()])
            .retry(retry().max_attempts(4)?)
            .build()?;
        for _ in 0..20 {
            let got = ask(&client, safe()).await;
            assert_eq!((&*got.bytes, got.code), (&b"m"[..], Some(GrpcCode::Ok)), "{}", got.said);
        }
        assert!(at_once.asked.load(SeqCst) > 0 && later.asked.load(SeqCst) > 0);
        assert_eq!(well.asked.load(SeqCst), 20);
        Ok(())
    }

    #[tokio::test]
    async fn a_status_behind_a_message_is_the_callers() -> Result<(), BoxError> {
        let server = serve(|_| answer([message("m"), status(UNAVAILABLE)])).await;
        let client = Client::builder("http://rates").grpc().endpoints([server.address]).build()?;
        let got = ask(&client, safe()).await;
        assert_eq!((&*got.bytes, got.code), (&b"m"[..], Some(GrpcCode::Unavailable)));
        assert_eq!(server.asked.load(SeqCst), 1);
        Ok(())
    }
}
