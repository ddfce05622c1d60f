//! The two ways in which a request carries its words do the same.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy,
    body::{Body, ReplayBody},
    call::{
        AttemptKind, BodyMode, Call, Carrier, CarryLayer, HttpHead, Replay, Replayer, UncarryLayer,
        Words,
    },
    classify::HttpClassifier,
    retry::{RetryConfig, RetryLayer},
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn request(method: Method) -> Request<Body> {
    let mut request = Request::new(Body::full("hello"));
    *request.method_mut() = method;
    request.headers_mut().insert("x-tenant", http::HeaderValue::from_static("seven"));
    request
}

/// What the leaf saw of one attempt.
#[derive(Debug, PartialEq)]
struct Seen {
    after: Duration,
    left: Option<Duration>,
    attempt: u32,
    kind: AttemptKind,
    keyed: bool,
    mode: BodyMode,
    tenant: String,
    body: String,
}

/// A call through deadline, retry and attempt timeout whose attempts hang, fail, and work.
async fn log_of<C>(carrier: C) -> (u16, Duration, Vec<Seen>)
where
    C: Carrier<Request = Request<Body>> + Replay,
    C::Attempt: Carrier<Request = Request<ReplayBody<Body>>>,
{
    let start = now();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let leaf = {
        let seen = Arc::clone(&seen);
        service_fn(move |attempt: C::Attempt| {
            let seen = Arc::clone(&seen);
            async move {
                let words = attempt.words().cloned().unwrap_or_default();
                let (parts, body) = attempt.into_request().into_parts();
                let body = body.collect().await?.to_bytes();
                lock(&seen).push(Seen {
                    after: now() - start,
                    left: words.deadline.map(|deadline| deadline - now()),
                    attempt: words.attempt,
                    kind: words.kind,
                    keyed: words.keyed,
                    mode: words.body,
                    tenant: parts.headers["x-tenant"].to_str()?.to_owned(),
                    body: String::from_utf8(body.to_vec())?,
                });
                let turn = lock(&seen).len();
                match turn {
                    1 => std::future::pending().await,
                    2 => Err::<Response<Body>, BoxError>(
                        io::Error::from(io::ErrorKind::ConnectionReset).into(),
                    ),
                    _ => Ok(Response::new(Body::empty())),
                }
            }
        })
    };
    let config = RetryConfig::new().entropy(Entropy::seeded(3));
    let mut service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(1000 * MS).expect("sound"))
        .layer(RetryLayer::new(config, HttpClassifier::new()))
        .layer(AttemptTimeoutLayer::new(100 * MS).expect("sound"))
        .service(leaf);
    let service = ServiceExt::<C>::ready(&mut service).await.expect("ready");
    let response = service.call(carrier).await.expect("it works");
    let seen = std::mem::take(&mut *lock(&seen));
    (response.status().as_u16(), now() - start, seen)
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_the_same_way_with_its_words_inline_and_in_extensions() {
    for keyed in [false, true] {
        let mut words = Words::new();
        words.keyed = keyed;
        let words = || words.clone().idempotent(true).lasting_body(500 * MS);
        let mut in_extensions = request(Method::POST);
        in_extensions.extensions_mut().insert(words());
        let http = log_of(in_extensions).await;
        let inline = log_of(Call::with_words(request(Method::POST), words())).await;
        assert_eq!(http, inline);
        let (status, _, seen) = http;
        assert_eq!((status, seen.len()), (200, 3));
        assert_eq!(seen[0].left, Some(1000 * MS));
        assert_eq!(seen.iter().map(|seen| seen.attempt).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(seen.iter().all(|seen| seen.body == "hello" && seen.tenant == "seven"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_about_which_nothing_was_said_goes_the_same_way_too() {
    let http = log_of(request(Method::PUT)).await;
    let inline = log_of(Call::new(request(Method::PUT))).await;
    assert_eq!(http, inline);
    assert_eq!(http.2.len(), 3);
}

#[tokio::test]
async fn carry_wraps_and_uncarry_unwraps() {
    let mut service = ServiceBuilder::new()
        .layer(CarryLayer::new())
        .layer(UncarryLayer::new())
        .service(service_fn(async |name: &str| Ok::<_, Infallible>(name.len())));
    assert_eq!(service.ready().await.expect("ready").call("four").await, Ok(4));
}

#[tokio::test]
async fn carry_starts_with_nothing_said() {
    let mut service = CarryLayer::new().layer(service_fn(async |call: Call<&str>| {
        Ok::<_, Infallible>((call.words.deadline, call.words.attempt, call.request.len()))
    }));
    assert_eq!(service.ready().await.expect("ready").call("four").await, Ok((None, 0, 4)));
}

#[tokio::test]
async fn unwrapped_http_requests_keep_the_words_in_their_extensions() {
    let mut service = UncarryLayer::new().layer(service_fn(async |request: Request<Body>| {
        Ok::<_, Infallible>(request.words().map(|words| words.idempotent))
    }));
    let mut request = request(Method::GET);
    assert!(request.words().is_none(), "nothing is inserted by looking");
    request.words_mut().idempotent = Some(true);
    let service = ServiceExt::<Request<Body>>::ready(&mut service).await.expect("ready");
    assert_eq!(service.call(request).await, Ok(Some(Some(true))));
}

#[tokio::test]
async fn uncarry_and_carry_forward_readiness_as_it_is() {
    let (mut service, mut handle) = tower_test::mock::spawn_with(|mock| {
        ServiceBuilder::new().layer(CarryLayer::new()).layer(UncarryLayer::new()).service(mock)
    });
    let _: &tower_test::mock::Handle<&'static str, ()> = &handle;
    handle.allow(0);
    assert!(service.poll_ready::<&'static str>().is_pending());
    handle.allow(1);
    assert!(service.poll_ready::<&'static str>().is_ready());
    let answer = service.call("hello");
    let (request, respond) = handle.next_request().await.expect("a request");
    assert_eq!(request, "hello");
    respond.send_response(());
    answer.await.expect("it answers");
}

#[test]
fn a_layer_reads_and_writes_the_head_through_either_carrier() {
    fn tag<C: Carrier<Request: HttpHead>>(carrier: &mut C) -> (Method, String) {
        let head = carrier.request_mut();
        head.headers_mut().insert("x-tag", http::HeaderValue::from_static("on"));
        (head.method().clone(), head.uri().path().to_owned())
    }
    let mut http = request(Method::DELETE);
    let mut inline = Call::new(request(Method::DELETE));
    assert_eq!(tag(&mut http), tag(&mut inline));
    assert_eq!(http.headers(), Carrier::request(&inline).headers());
    assert_eq!(http.headers()["x-tag"], "on");
}

#[test]
fn every_attempt_is_the_request_as_it_was() {
    let mut words = Words::new().idempotent(true);
    words.keyed = true;
    let (first, mut replayer) = Call::with_words(request(Method::POST), words).begin(1024);
    let further = std::iter::from_fn(|| {
        assert!(replayer.can_attempt());
        replayer.attempt()
    });
    for attempt in std::iter::once(first).chain(further).take(4) {
        assert!(attempt.words.keyed);
        assert_eq!(attempt.request.method(), Method::POST);
        assert_eq!(attempt.request.headers()["x-tenant"], "seven");
    }
}
