//! The client over real sockets.
#![cfg(feature = "hyper")]

mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    call::Attempts,
    classify::Sent,
    client::{Client, Kind},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use support::{Nobody, Server};

fn text(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

#[tokio::test]
async fn calls_a_service_by_its_name_at_its_endpoints() -> Result<(), BoxError> {
    for http2 in [false, true] {
        let server = Server::start(async |request| {
            let host = match request.headers().get("host") {
                Some(host) => host.to_str().unwrap_or_default().to_owned(),
                None => request.uri().authority().map(ToString::to_string).unwrap_or_default(),
            };
            Response::new(Full::new(format!("{host}{}", request.uri().path()).into()))
        })
        .await;
        let mut builder = Client::builder("http://payments").endpoints([server.address()]);
        if http2 {
            builder = builder.http2();
        }
        let client = builder.build()?;
        let response = client.send(Request::get("/charges").body(())?).await?;
        assert_eq!(response.into_body().collect().await?, "payments/charges", "{http2}");
    }
    Ok(())
}

#[tokio::test]
async fn a_keyed_post_goes_elsewhere_with_the_same_key() -> Result<(), BoxError> {
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let served = Arc::new(AtomicU32::new(0));
    let server = |status| {
        let (keys, served) = (Arc::clone(&keys), Arc::clone(&served));
        Server::start(move |request: Request<hyper::body::Incoming>| {
            let key = request.headers()["idempotency-key"].to_str().unwrap_or_default().to_owned();
            keys.lock().expect("no test panics with it").push(key);
            served.fetch_add(1, Ordering::Relaxed);
            std::future::ready(text(status, "done"))
        })
    };
    let (bad, good) = (server(503).await, server(200).await);
    let client = Client::builder("http://payments")
        .endpoints([bad.address(), good.address()])
        .idempotency_keys()
        .collect_bodies()
        .build()?;
    for _ in 0..10 {
        let response = client.send(Request::post("/charges").body("{}")?).await?;
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().as_bytes(), Some(&b"done"[..]));
    }
    let keys = keys.lock().expect("no test panics with it");
    let distinct: HashSet<&String> = keys.iter().collect();
    assert_eq!(distinct.len(), 10, "one key a call, whatever its attempts");
    assert!(keys.len() > 10, "the bad endpoint was tried");
    Ok(())
}

#[tokio::test]
async fn a_dead_endpoint_costs_no_call() -> Result<(), BoxError> {
    let server = Server::start(async |_| text(200, "here")).await;
    let (one, other) = (Nobody::new(), Nobody::new());
    let client = Client::builder("http://orders")
        .endpoints([one.address(), server.address(), other.address()])
        .build()?;
    for _ in 0..50 {
        let response = client.send(Request::post("/").body("no key")?).await?;
        assert_eq!(response.status(), 200);
        let attempts = response.extensions().get::<Attempts>();
        assert!(attempts.is_none_or(|attempts| attempts[0].verdict.sent == Sent::No));
    }
    Ok(())
}

#[tokio::test]
async fn an_error_tells_what_happened_where_and_whether_it_may_have_been_carried_out()
-> Result<(), BoxError> {
    let server = Server::start(async |_| std::future::pending().await).await;
    let client = Client::builder("http://orders")
        .endpoints([server.address()])
        .deadline(Duration::from_millis(200))
        .attempt_timeout(Duration::from_millis(80))
        .build()?;
    let error = client.send(Request::get("/").body(())?).await.expect_err("nobody answers");
    assert_eq!(error.kind(), Kind::Timeout);
    assert_eq!(error.sent(), Sent::Maybe);
    assert!(error.attempts().len() >= 2, "{error:?}");
    assert_eq!(error.attempts()[0].target.map(|target| target.address), Some(server.address()));
    let words = error.to_string();
    assert!(words.contains(&server.address().to_string()), "{words}");
    assert!(words.contains("may have been carried out"), "{words}");

    let nobody = Nobody::new();
    let client = Client::builder("http://orders").endpoints([nobody.address()]).build()?;
    let error = client.send(Request::post("/").body(())?).await.expect_err("nobody listens");
    assert_eq!((error.kind(), error.sent()), (Kind::Connect, Sent::No), "{error:?}");
    Ok(())
}

/// A server with a health page, and how often each of its pages was asked for.
struct Checked {
    server: Server,
    health: Arc<AtomicU32>,
    calls: Arc<AtomicU32>,
    /// Calls before the first check.
    early: Arc<AtomicU32>,
    names: Arc<Mutex<HashSet<String>>>,
}

async fn checked(status: u16) -> Checked {
    let [health, calls, early] = [const { AtomicU32::new(0) }; 3].map(Arc::new);
    let names = Arc::<Mutex<HashSet<String>>>::default();
    let counts = [&health, &calls, &early].map(Arc::clone);
    let seen = Arc::clone(&names);
    let server = Server::start(move |request: Request<hyper::body::Incoming>| {
        let [health, calls, early] = &counts;
        let answer = if request.uri().path() == "/health" {
            health.fetch_add(1, Ordering::Relaxed);
            let host = request.headers().get("host").and_then(|host| host.to_str().ok());
            let name = request.uri().authority().map_or(host, |name| Some(name.as_str()));
            let name = format!("{:?} {}", request.version(), name.unwrap_or_default());
            seen.lock().expect("no test panics with it").insert(name);
            text(status, "")
        } else {
            calls.fetch_add(1, Ordering::Relaxed);
            early.fetch_add(u32::from(health.load(Ordering::Relaxed) == 0), Ordering::Relaxed);
            text(200, "done")
        };
        std::future::ready(answer)
    })
    .await;
    Checked { server, health, calls, early, names }
}

#[tokio::test]
async fn an_endpoint_whose_health_page_says_no_gets_no_calls() -> Result<(), BoxError> {
    for http2 in [false, true] {
        let (well, fine, ill) = (checked(200).await, checked(204).await, checked(503).await);
        let endpoints = [&ill, &well, &fine].map(|one| one.server.address());
        let mut builder = Client::builder("http://payments").endpoints(endpoints);
        if http2 {
            builder = builder.http2();
        }
        let client = builder.health_check("/health").build()?;
        for _ in 0..30 {
            assert_eq!(client.send(Request::get("/").body(())?).await?.status(), 200);
        }
        let count = |count: &AtomicU32| count.load(Ordering::Relaxed);
        assert_eq!(count(&ill.calls), 0);
        assert_eq!(count(&well.calls) + count(&fine.calls), 30);
        for one in [&well, &fine, &ill] {
            assert_eq!(count(&one.health), 1, "once each for now");
            assert_eq!(count(&one.early), 0, "nobody is called before its first check");
            let version = if http2 { "HTTP/2.0" } else { "HTTP/1.1" };
            let names = one.names.lock().expect("no test panics with it");
            assert_eq!(*names, HashSet::from([format!("{version} payments")]));
        }
    }
    Ok(())
}
