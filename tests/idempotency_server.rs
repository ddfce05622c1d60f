//! The server's side of idempotency keys, through the public interface and under paused time.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Event, Observer,
    body::Body,
    idempotency::server::{
        Answer, Begin, Claim, Concurrent, Fingerprint, HeldBody, HonourConfig, HonourLayer, Lapse,
        MemoryStore, Outcome, Payload, REPLAYED, Settled, Store, Token,
    },
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::{sync::Notify, task::yield_now, time::sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type In = Request<HeldBody<Body>>;
type Out = Result<Response<Body>, BoxError>;
type Doing = Pin<Box<dyn Future<Output = Out> + Send>>;

/// A service that counts what it carries out.
#[derive(Clone)]
struct Shop {
    executions: Arc<AtomicU32>,
    act: Arc<dyn Fn(u32, In) -> Doing + Send + Sync>,
}

impl Shop {
    /// `act` is told the number of the execution, from 1 on.
    fn new<F>(act: impl Fn(u32, In) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Out> + Send + 'static,
    {
        let act = Arc::new(move |number, request| act(number, request).boxed());
        Self { executions: Arc::default(), act }
    }

    /// Answers with the number of the charge.
    fn charging() -> Self {
        Self::new(|number, _| async move { Ok(charged(number)) })
    }

    /// The same, which takes a while.
    fn working(time: Duration) -> Self {
        Self::new(move |number, _| async move {
            sleep(time).await;
            Ok(charged(number))
        })
    }

    /// Answers with one status after the other, and then with 201.
    fn failing<const N: usize>(statuses: [u16; N]) -> Self {
        Self::new(move |number, _| async move {
            Ok(statuses.get(number as usize - 1).map_or_else(|| charged(number), |&s| status(s)))
        })
    }

    fn executions(&self) -> u32 {
        self.executions.load(SeqCst)
    }
}

impl Service<In> for Shop {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Doing;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: In) -> Doing {
        (self.act)(self.executions.fetch_add(1, SeqCst) + 1, request)
    }
}

fn charged(number: u32) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("charge {number}")));
    *response.status_mut() = StatusCode::CREATED;
    response
}

fn status(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::from("no"));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

fn charge(key: &str, body: &'static str) -> Request<Body> {
    Request::post("/charges").header("Idempotency-Key", key).body(Body::from(body)).expect("sound")
}

fn honoured(config: HonourConfig, shop: &Shop) -> Door<MemoryStore> {
    HonourLayer::new(config, MemoryStore::new()).layer(shop.clone())
}

type Door<T> = buttress::idempotency::server::Honour<Shop, T>;

/// What a caller got: status, whether it was replayed, and the body.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    status: u16,
    replayed: bool,
    body: String,
}

impl Got {
    fn code(&self) -> &str {
        let (_, code) = self.body.rsplit_once(r#""code":""#).expect("it is a problem");
        code.trim_end_matches("\"}")
    }
}

async fn send<T: Store>(door: &Door<T>, request: Request<Body>) -> Got {
    let response = door.clone().oneshot(request).await.expect("it answers");
    got(response).await
}

async fn got(response: Response<HeldBody<Body>>) -> Got {
    let replayed = response.headers().get(REPLAYED).is_some_and(|value| value == "true");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("it lies in memory").to_bytes();
    Got { status, replayed, body: String::from_utf8(body.into()).expect("it is text") }
}

fn executed(number: u32) -> Got {
    Got { status: 201, replayed: false, body: format!("charge {number}") }
}

fn replayed(number: u32) -> Got {
    Got { replayed: true, ..executed(number) }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

// --- Once, and its answer again --------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_key_is_carried_out_once_and_its_answer_told_again() {
    let shop = Shop::charging();
    let door = honoured(HonourConfig::new(), &shop);
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(1));
    assert_eq!(send(&door, charge("\"a\"", "20")).await, replayed(1));
    assert_eq!(send(&door, charge("\"b\"", "20")).await, executed(2));
    assert_eq!(send(&door, charge("\"a\"", "20")).await, replayed(1));
    assert_eq!(shop.executions(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_headers_of_the_answer_but_not_those_of_its_message() {
    let shop = Shop::new(|number, _| async move {
        let mut response = charged(number);
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, HeaderValue::from_static("/charges/1"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.append("x-twice", HeaderValue::from_static("a"));
        headers.append("x-twice", HeaderValue::from_static("b"));
        headers.insert(header::SET_COOKIE, HeaderValue::from_static("session=1"));
        headers.insert(header::DATE, HeaderValue::from_static("then"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("8"));
        Ok(response)
    });
    let door = honoured(HonourConfig::new(), &shop);
    let ask = async || door.clone().oneshot(charge("\"a\"", "20")).await.expect("it answers");
    let first = ask().await;
    assert_eq!(first.headers()["set-cookie"], "session=1");
    assert_eq!(first.headers().len(), 7);
    let again = ask().await;
    assert_eq!(again.headers()["location"], "/charges/1");
    assert_eq!(again.headers()["content-type"], "text/plain");
    let twice: Vec<_> = again.headers().get_all("x-twice").iter().collect();
    assert_eq!(twice, ["a", "b"]);
    assert_eq!(again.headers().len(), 5, "{:?}", again.headers());

    let config = HonourConfig::new().kept_headers(|name| name == header::DATE);
    let door = honoured(config, &shop);
    assert_eq!(send(&door, charge("\"a\"", "20")).await.status, 201);
    let again = door.oneshot(charge("\"a\"", "20")).await.expect("it answers");
    assert_eq!(again.headers().len(), 2, "{:?}", again.headers());
    assert_eq!(again.headers()["date"], "then");
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_key_or_of_other_methods_pass_as_they_are() {
    let shop = Shop::charging();
    let door = honoured(HonourConfig::new(), &shop);
    let plain = || Request::post("/charges").body(Body::from("20")).expect("sound");
    assert_eq!(send(&door, plain()).await, executed(1));
    assert_eq!(send(&door, plain()).await, executed(2));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let mut request = charge("this is none", "20");
        *request.method_mut() = method;
        assert_eq!(send(&door, request).await.status, 201);
    }
    assert_eq!(shop.executions(), 5);
    let door = honoured(HonourConfig::new().methods([Method::PUT]), &shop);
    for number in [6, 6] {
        let mut request = charge("\"a\"", "20");
        *request.method_mut() = Method::PUT;
        assert_eq!(send(&door, request).await.body, format!("charge {number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_gets_the_whole_request_and_a_token() {
    let shop = Shop::new(|_, request| async move {
        assert!(request.extensions().get::<Token>().is_some());
        assert_eq!(request.extensions().get::<u8>(), Some(&7));
        assert_eq!(request.headers()["idempotency-key"], "\"a\"");
        let bytes = request.into_body().collect().await?.to_bytes();
        Ok(Response::new(Body::from(bytes)))
    });
    let door = honoured(HonourConfig::new(), &shop);
    let mut request = charge("\"a\"", "all of it");
    request.extensions_mut().insert(7_u8);
    assert_eq!(send(&door, request).await.body, "all of it");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_forgotten_after_its_retention() {
    let shop = Shop::charging();
    let door = honoured(HonourConfig::new(), &shop);
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(1));
    sleep(24 * 3600 * SECOND - SECOND).await;
    assert_eq!(send(&door, charge("\"a\"", "20")).await, replayed(1));
    sleep(SECOND).await;
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(2));
}

#[tokio::test(start_paused = true)]
async fn keys_of_different_scopes_have_nothing_to_do_with_each_other() {
    let shop = Shop::charging();
    let at = |path: &str, account: &'static str| {
        let request = Request::post(path).header("Idempotency-Key", "\"a\"");
        request.header("x-account", account).body(Body::from("20")).expect("sound")
    };
    let door = honoured(HonourConfig::new(), &shop);
    assert_eq!(send(&door, at("/charges", "anna")).await, executed(1));
    assert_eq!(send(&door, at("/refunds", "anna")).await, executed(2));
    assert_eq!(send(&door, at("/charges", "bert")).await, replayed(1), "the default's trap");

    let door = honoured(
        HonourConfig::new().scope(|head| format!("{:?}", head.headers.get("x-account"))),
        &shop,
    );
    assert_eq!(send(&door, at("/charges", "anna")).await, executed(3));
    assert_eq!(send(&door, at("/charges", "bert")).await, executed(4));
    assert_eq!(send(&door, at("/refunds", "anna")).await.code(), "idempotency_key_reused");
}

// --- What is refused -------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_is_no_key_is_refused_with_400_and_not_carried_out() {
    let shop = Shop::charging();
    let door = honoured(HonourConfig::new(), &shop);
    for wrong in ["a", "", "\"\"", "\"a", "\"a\" b", "17", "\"a\";", "\"ä\"", "two words"] {
        let refused = send(&door, charge(wrong, "20")).await;
        assert_eq!((refused.status, refused.code()), (400, "idempotency_key_invalid"), "{wrong}");
    }
    let mut twice = charge("\"a\"", "20");
    twice.headers_mut().append("idempotency-key", HeaderValue::from_static("\"a\""));
    assert_eq!(send(&door, twice).await.status, 400);
    assert_eq!(shop.executions(), 0);

    let bare = honoured(HonourConfig::new().accept_bare(true), &shop);
    assert_eq!(send(&bare, charge("a", "20")).await, executed(1));
    assert_eq!(send(&bare, charge("\"a\"", "20")).await, replayed(1), "both forms are one key");
    assert_eq!(send(&bare, charge("two words", "20")).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_refused_where_it_is_required_with_a_link_to_the_docs() {
    let shop = Shop::charging();
    let config = HonourConfig::new().required(true).docs("https://example.com/keys").expect("good");
    let door = honoured(config, &shop);
    let request = Request::post("/charges").body(Body::from("20")).expect("sound");
    let response = door.clone().oneshot(request).await.expect("it answers");
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let link = "<https://example.com/keys>; rel=\"describedby\"; type=\"text/html\"";
    assert_eq!(response.headers()["link"], link);
    let got = got(response).await;
    assert_eq!(got.code(), "idempotency_key_missing");
    assert!(got.body.starts_with(r#"{"type":"https://example.com/keys","#), "{}", got.body);
    assert_eq!(shop.executions(), 0);
    let get = Request::get("/charges").body(Body::empty()).expect("sound");
    assert_eq!(send(&door, get).await.status, 201, "nothing is required of other methods");
}

#[tokio::test(start_paused = true)]
async fn another_payload_under_a_known_key_is_refused_with_422() {
    let shop = Shop::working(SECOND);
    let door = honoured(HonourConfig::new(), &shop);
    let first = tokio::spawn({
        let door = door.clone();
        async move { send(&door, charge("\"a\"", "20")).await }
    });
    sleep(MS).await;
    let running = send(&door, charge("\"a\"", "21")).await;
    assert_eq!((running.status, running.code()), (422, "idempotency_key_reused"));
    assert_eq!(first.await.expect("it ends"), executed(1));
    let done = send(&door, charge("\"a\"", "21")).await;
    assert_eq!((done.status, done.code()), (422, "idempotency_key_reused"));
    let mut elsewhere = charge("\"a\"", "20");
    *elsewhere.uri_mut() = "/charges?currency=EUR".parse().expect("a target");
    assert_eq!(send(&door, elsewhere).await.status, 422);
    assert_eq!(shop.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fingerprint_of_ones_own_says_what_is_the_same() {
    let shop = Shop::charging();
    let config = HonourConfig::new().fingerprint(|_, body| Fingerprint::of([&body[..1]]));
    let door = honoured(config, &shop);
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(1));
    assert_eq!(send(&door, charge("\"a\"", "21")).await, replayed(1));
    assert_eq!(send(&door, charge("\"a\"", "30")).await.status, 422);
}

#[tokio::test(start_paused = true)]
async fn a_body_past_the_cap_is_refused_with_413_or_not_looked_at() {
    let shop = Shop::new(|_, request| async move {
        Ok(Response::new(Body::from(request.into_body().collect().await?.to_bytes())))
    });
    let door = honoured(HonourConfig::new().payload(Payload::Read { cap: 4 }), &shop);
    assert_eq!(send(&door, charge("\"a\"", "1234")).await.body, "1234");
    let refused = send(&door, charge("\"b\"", "12345")).await;
    assert_eq!((refused.status, refused.code()), (413, "request_body_too_large"));
    assert_eq!(shop.executions(), 1);
    let open = honoured(HonourConfig::new().payload(Payload::Ignored), &shop);
    assert_eq!(send(&open, charge("\"a\"", "12345")).await.body, "12345");
    let again = send(&open, charge("\"a\"", "another")).await;
    assert_eq!((again.replayed, &*again.body), (true, "12345"));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_body_breaks_off_is_not_carried_out_and_takes_no_key() {
    let shop = Shop::charging();
    let door = honoured(HonourConfig::new(), &shop);
    let body = Body::new(Breaking { said: false });
    let request = charge("\"a\"", "").map(|_| body);
    let refused = send(&door, request).await;
    assert_eq!((refused.status, refused.code()), (400, "request_body_broken"));
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(1));
}

/// A body that breaks off after its first bytes.
struct Breaking {
    said: bool,
}

impl http_body::Body for Breaking {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(if std::mem::replace(&mut self.said, true) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(http_body::Frame::data(Bytes::from("20")))
        }))
    }
}

// --- At the same time ------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_concurrent_duplicate_is_refused_with_409_at_once() {
    let shop = Shop::working(SECOND);
    let config = HonourConfig::new().retry_after(7 * SECOND).expect("whole seconds");
    let door = honoured(config, &shop);
    let start = now();
    let first = tokio::spawn({
        let door = door.clone();
        async move { send(&door, charge("\"a\"", "20")).await }
    });
    sleep(MS).await;
    let response = door.clone().oneshot(charge("\"a\"", "20")).await.expect("it answers");
    assert_eq!(response.headers()["retry-after"], "7");
    let refused = got(response).await;
    assert_eq!((refused.status, refused.code()), (409, "request_outstanding"));
    assert_eq!(now() - start, MS);
    assert_eq!(first.await.expect("it ends"), executed(1));
    assert_eq!(send(&door, charge("\"a\"", "20")).await, replayed(1));
}

#[tokio::test(start_paused = true)]
async fn concurrent_duplicates_may_wait_and_hear_the_answer_at_once() {
    let shop = Shop::working(777 * MS);
    let door = honoured(HonourConfig::new().concurrent(Concurrent::Wait(5 * SECOND)), &shop);
    let start = now();
    let got =
        futures_util::future::join_all((0..20).map(|_| send(&door, charge("\"a\"", "20")))).await;
    assert_eq!(now() - start, 777 * MS, "they are woken, and do not ask in vain");
    assert_eq!(got.iter().filter(|got| **got == executed(1)).count(), 1);
    assert_eq!(got.iter().filter(|got| **got == replayed(1)).count(), 19);
    assert_eq!(shop.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_attempt_that_fails_makes_the_next_one() {
    let shop = Shop::new(|number, _| async move {
        sleep(SECOND).await;
        Ok(if number < 3 { status(503) } else { charged(number) })
    });
    let door = honoured(HonourConfig::new().concurrent(Concurrent::Wait(9 * SECOND)), &shop);
    let mut got =
        futures_util::future::join_all((0..5).map(|_| send(&door, charge("\"a\"", "20")))).await;
    got.sort_by_key(|got| (got.status, got.replayed));
    assert_eq!(got[..3], [executed(3), replayed(3), replayed(3)]);
    assert_eq!((got[3].status, got[4].status), (503, 503));
    assert_eq!(shop.executions(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_has_the_whole_lease_for_the_work() {
    let shop = Shop::new(|number, _| async move {
        sleep(50 * SECOND).await;
        Ok(if number == 1 { status(503) } else { charged(number) })
    });
    let door = honoured(HonourConfig::new().concurrent(Concurrent::Wait(55 * SECOND)), &shop);
    let ask = || send(&door, charge("\"a\"", "20"));
    let (first, second) = tokio::join!(ask(), ask());
    assert_eq!(first.status, 503);
    assert_eq!(second, executed(2), "100 s after it came, and 50 s after it began");
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end() {
    let shop = Shop::working(10 * SECOND);
    let door = honoured(HonourConfig::new().concurrent(Concurrent::Wait(2 * SECOND)), &shop);
    tokio::spawn({
        let door = door.clone();
        async move { send(&door, charge("\"a\"", "20")).await }
    });
    sleep(MS).await;
    let start = now();
    assert_eq!(send(&door, charge("\"a\"", "20")).await.status, 409);
    assert_eq!(now() - start, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn who_waits_leaves_room_for_who_works() {
    let shop = Shop::working(SECOND);
    let layer = HonourLayer::new(
        HonourConfig::new().concurrent(Concurrent::Wait(9 * SECOND)),
        MemoryStore::new(),
    );
    let door = ServiceBuilder::new()
        .layer(layer)
        .layer(tower::limit::GlobalConcurrencyLimitLayer::new(2))
        .service(shop.clone());
    let ask = |key| door.clone().oneshot(charge(key, "20"));
    let start = now();
    let (one, two, other) = tokio::join!(ask("\"a\""), ask("\"a\""), async {
        sleep(MS).await;
        ask("\"b\"").await
    });
    for response in [one, two, other] {
        assert_eq!(response.expect("it answers").status(), 201);
    }
    assert_eq!(now() - start, SECOND + MS, "the third was not held up by the second's wait");
    assert_eq!(shop.executions(), 2);
}

// --- What is kept ----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_is_not_final_is_carried_out_again() {
    for failure in [401, 403, 408, 409, 423, 425, 429, 500, 502, 503, 504, 507] {
        let shop = Shop::failing([failure]);
        let door = honoured(HonourConfig::new(), &shop);
        assert_eq!(send(&door, charge("\"a\"", "20")).await.status, failure);
        assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(2), "{failure}");
    }
    for last in [200, 204, 303, 400, 402, 404, 410, 422] {
        let shop = Shop::failing([last]);
        let door = honoured(HonourConfig::new(), &shop);
        assert_eq!(send(&door, charge("\"a\"", "20")).await.status, last);
        let again = send(&door, charge("\"a\"", "20")).await;
        assert_eq!((again.status, again.replayed), (last, true));
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_may_be_kept_as_stripe_does() {
    let shop = Shop::failing([500]);
    let door = honoured(HonourConfig::new().finals(|_| true), &shop);
    assert_eq!(send(&door, charge("\"a\"", "20")).await.status, 500);
    let again = send(&door, charge("\"a\"", "20")).await;
    assert_eq!((again.status, again.replayed), (500, true));
    assert_eq!(shop.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_counts_as_a_500() {
    let failing = || Shop::new(|_, _| async { Err("a hiccup".into()) });
    let shop = failing();
    let door = honoured(HonourConfig::new(), &shop);
    for _ in 0..2 {
        let error = door.clone().oneshot(charge("\"a\"", "20")).await.expect_err("it failed");
        assert_eq!(error.to_string(), "a hiccup");
    }
    assert_eq!(shop.executions(), 2);
    // Where errors are kept there is nothing to keep of this one.
    let shop = failing();
    let door = honoured(HonourConfig::new().finals(|_| true), &shop);
    assert!(door.clone().oneshot(charge("\"a\"", "20")).await.is_err());
    assert_eq!(send(&door, charge("\"a\"", "20")).await.code(), "outcome_unknown");
    assert_eq!(shop.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_past_the_cap_reaches_its_caller_and_is_known_to_be_lost() {
    let shop = Shop::new(|_, _| async { Ok(Response::new(Body::from("far too long"))) });
    let door = honoured(HonourConfig::new().answer_cap(4), &shop);
    let first = send(&door, charge("\"a\"", "20")).await;
    assert_eq!((first.status, &*first.body), (200, "far too long"));
    let again = send(&door, charge("\"a\"", "20")).await;
    assert_eq!((again.status, again.code(), again.replayed), (410, "answer_not_kept", true));
    assert!(again.body.contains("answered with 200"), "{}", again.body);
    assert_eq!(shop.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_leaves_the_outcome_unknown() {
    let shop = Shop::new(|_, _| async { Ok(Response::new(Body::new(Breaking { said: false }))) });
    let door = honoured(HonourConfig::new(), &shop);
    let response = door.clone().oneshot(charge("\"a\"", "20")).await.expect("it answers");
    assert!(response.into_body().collect().await.is_err(), "it breaks off for its caller too");
    assert_eq!(send(&door, charge("\"a\"", "20")).await.code(), "outcome_unknown");
}

// --- What ends half way ----------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn work_goes_on_when_its_caller_goes_away() {
    let shop = Shop::working(SECOND);
    let door = honoured(HonourConfig::new(), &shop);
    let call = door.clone().oneshot(charge("\"a\"", "20"));
    assert!(tokio::time::timeout(100 * MS, call).await.is_err(), "the caller went away");
    assert_eq!(send(&door, charge("\"a\"", "20")).await.status, 409);
    sleep(SECOND).await;
    assert_eq!(send(&door, charge("\"a\"", "20")).await, replayed(1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_the_caller_and_leaves_the_outcome_unknown() {
    let panicking = || {
        Shop::new(|number, _| async move {
            assert!(number > 1, "the first one panics");
            Ok(charged(number))
        })
    };
    for (lapse, expected) in [(Lapse::Fail, 500), (Lapse::Conflict, 409), (Lapse::Execute, 201)] {
        let shop = panicking();
        let door = honoured(HonourConfig::new().lapse(lapse), &shop);
        let call = door.clone().oneshot(charge("\"a\"", "20"));
        assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
        yield_now().await;
        let again = send(&door, charge("\"a\"", "20")).await;
        assert_eq!(again.status, expected);
        if expected != 201 {
            assert_eq!(again.code(), "outcome_unknown");
        }
        assert_eq!(shop.executions(), if lapse == Lapse::Execute { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_for_longer_than_its_lease() {
    for (lapse, expected) in [(Lapse::Fail, 500), (Lapse::Conflict, 409), (Lapse::Execute, 201)] {
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = Arc::clone(&dropped);
        let shop = Shop::new(move |number, _| {
            let guard = OnDrop(Arc::clone(&guard));
            async move {
                if number == 1 {
                    pending::<()>().await;
                }
                drop(guard);
                Ok(charged(number))
            }
        });
        let door = honoured(HonourConfig::new().lapse(lapse), &shop);
        let start = now();
        let first = send(&door, charge("\"a\"", "20")).await;
        assert_eq!(now() - start, 60 * SECOND);
        assert_eq!(first.code(), "outcome_unknown");
        assert_eq!(first.status, if lapse == Lapse::Conflict { 409 } else { 500 });
        assert!(dropped.load(SeqCst), "the handler was dropped");
        assert_eq!(send(&door, charge("\"a\"", "20")).await.status, expected);
    }
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

// --- Stores ----------------------------------------------------------------------------------

/// A store that fails when it is told to, and waits when it is told to.
#[derive(Clone, Default)]
struct Moody(Arc<Mood>);

#[derive(Default)]
struct Mood {
    store: MemoryStore,
    begin_fails: AtomicBool,
    settle_fails: AtomicBool,
    waits: AtomicBool,
    go: Notify,
}

impl Store for Moody {
    type Error = io::Error;

    async fn begin(&self, claim: &Claim) -> Result<Begin, io::Error> {
        if self.0.begin_fails.load(SeqCst) {
            return Err(io::Error::other("the disk is full"));
        }
        let begin = self.0.store.begin(claim).await.map_err(io::Error::other);
        if self.0.waits.load(SeqCst) {
            self.0.go.notified().await;
        }
        begin
    }

    async fn settle(&self, token: Token, outcome: Outcome) -> Result<Settled, io::Error> {
        if self.0.settle_fails.load(SeqCst) {
            return Err(io::Error::other("the disk is full"));
        }
        self.0.store.settle(token, outcome).await.map_err(io::Error::other)
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_store_nothing_is_carried_out() {
    let (shop, store) = (Shop::charging(), Moody::default());
    let door = HonourLayer::new(HonourConfig::new(), store.clone()).layer(shop.clone());
    store.0.begin_fails.store(true, SeqCst);
    let response = door.clone().oneshot(charge("\"a\"", "20")).await.expect("it answers");
    assert_eq!(response.headers()["retry-after"], "1");
    let refused = got(response).await;
    assert_eq!((refused.status, refused.code()), (503, "idempotency_unavailable"));
    assert_eq!(shop.executions(), 0);
    store.0.begin_fails.store(false, SeqCst);
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_kept_is_told_and_its_key_lapses() {
    let (shop, store) = (Shop::charging(), Moody::default());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        let line = match event {
            Event::KeyStoreFailed(error) => error.to_string(),
            Event::KeyNotHonoured { code } => (*code).to_owned(),
            Event::KeyReplayed => "replayed".to_owned(),
            other => panic!("{other:?}"),
        };
        listener.lock().expect("nobody panics with it").push(line);
    });
    let config = HonourConfig::new().observer(observer);
    let door = HonourLayer::new(config, store.clone()).layer(shop.clone());
    store.0.settle_fails.store(true, SeqCst);
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(1));
    assert_eq!(send(&door, charge("\"a\"", "20")).await.status, 409, "as far as the store knows");
    sleep(60 * SECOND).await;
    assert_eq!(send(&door, charge("\"a\"", "20")).await.code(), "outcome_unknown");
    assert_eq!(shop.executions(), 1);
    store.0.settle_fails.store(false, SeqCst);
    assert_eq!(send(&door, charge("\"b\"", "20")).await, executed(2));
    assert_eq!(send(&door, charge("\"b\"", "20")).await, replayed(2));
    let expected = ["the disk is full", "request_outstanding", "outcome_unknown", "replayed"];
    assert_eq!(*heard.lock().expect("nobody panics with it"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_while_the_store_is_asked_leaves_no_key_taken() {
    let (shop, store) = (Shop::charging(), Moody::default());
    let door = HonourLayer::new(HonourConfig::new(), store.clone()).layer(shop.clone());
    store.0.waits.store(true, SeqCst);
    let call = door.clone().oneshot(charge("\"a\"", "20"));
    assert!(tokio::time::timeout(100 * MS, call).await.is_err(), "the caller went away");
    store.0.waits.store(false, SeqCst);
    store.0.go.notify_one();
    sleep(MS).await;
    assert_eq!(send(&door, charge("\"a\"", "20")).await, replayed(1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_the_whole_lease_has_nothing_carried_out() {
    let (shop, store) = (Shop::charging(), Moody::default());
    let door = HonourLayer::new(HonourConfig::new(), store.clone()).layer(shop.clone());
    store.0.waits.store(true, SeqCst);
    let slow = tokio::spawn({
        let door = door.clone();
        async move { send(&door, charge("\"a\"", "20")).await }
    });
    sleep(60 * SECOND).await;
    store.0.waits.store(false, SeqCst);
    store.0.go.notify_one();
    assert_eq!(slow.await.expect("it ends").status, 503);
    assert_eq!(shop.executions(), 0);
    assert_eq!(send(&door, charge("\"a\"", "20")).await, executed(1));
}

/// The handler commits its answer itself, with its work, and the layer's own settling changes
/// nothing.
#[tokio::test(start_paused = true)]
async fn a_handler_may_settle_its_key_within_its_own_transaction() {
    let store = Moody::default();
    let database = store.clone();
    let shop = Shop::new(move |number, request| {
        let database = database.clone();
        async move {
            let token = *request.extensions().get::<Token>().expect("the layer put it there");
            let answer = Answer::new(StatusCode::CREATED, format!("charge {number}"));
            let outcome = Outcome::Answered(answer.clone());
            let settled = database.settle(token, outcome).await?;
            assert_eq!(settled, Settled::Recorded);
            // Whatever goes wrong from here on, it was done.
            Ok(status(500))
        }
    });
    let door = HonourLayer::new(HonourConfig::new(), store).layer(shop.clone());
    assert_eq!(send(&door, charge("\"a\"", "20")).await.status, 500);
    assert_eq!(send(&door, charge("\"a\"", "20")).await, replayed(1));
    assert_eq!(shop.executions(), 1);
}

/// Two processes share a store. The first one is so slow that the second takes its key.
#[tokio::test(start_paused = true)]
async fn who_lost_the_key_is_told_to_ask_again() {
    let store = Moody::default();
    let here = Shop::working(30 * SECOND);
    let there = Shop::new(|_, _| async { Ok(charged(100)) });
    let config = || HonourConfig::new().lapse(Lapse::Execute);
    // One whose process was frozen: it thinks that its lease is still good.
    let slow = HonourLayer::new(config(), Leasing(store.clone())).layer(here.clone());
    let quick = HonourLayer::new(config(), store).layer(there.clone());
    let first = tokio::spawn(async move { send(&slow, charge("\"a\"", "20")).await });
    sleep(10 * SECOND).await;
    assert_eq!(send(&quick, charge("\"a\"", "20")).await, executed(100));
    let first = first.await.expect("it ends");
    assert_eq!((first.status, first.code()), (409, "request_outstanding"));
    assert_eq!(send(&quick, charge("\"a\"", "20")).await, replayed(100));
}

/// A store to which leases are a tenth as long as to the layer.
struct Leasing(Moody);

impl Store for Leasing {
    type Error = io::Error;

    async fn begin(&self, claim: &Claim) -> Result<Begin, io::Error> {
        let mut claim = claim.clone();
        claim.lease /= 10;
        self.0.begin(&claim).await
    }

    async fn settle(&self, token: Token, outcome: Outcome) -> Result<Settled, io::Error> {
        self.0.settle(token, outcome).await
    }
}

// --- The contract of tower, and others' bounds ------------------------------------------------

/// The instance that is called has to be the one that was polled.
#[derive(Debug)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<In> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: In) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        async move {
            sleep(SECOND).await;
            let fails = request.headers().contains_key("x-fail");
            Ok(if fails { status(503) } else { charged(1) })
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn calls_the_instance_that_was_polled() {
    let config = HonourConfig::new().concurrent(Concurrent::Wait(9 * SECOND));
    let layer = HonourLayer::new(config, MemoryStore::new());
    let mut service = layer.layer(Strict { ready: false });
    for request in [charge("\"a\"", "20"), charge("\"a\"", "20"), charge("\"b\"", "20")] {
        let ready = service.ready().await.expect("it is always ready");
        assert_eq!(ready.call(request).await.expect("it answers").status(), 201);
    }
    // The second has waited, and is polled ready anew before it is called.
    let mut failing = charge("\"c\"", "20");
    failing.headers_mut().insert("x-fail", HeaderValue::from_static("yes"));
    let first = service.ready().await.expect("it is always ready").call(failing);
    let second = service.ready().await.expect("it is always ready").call(charge("\"c\"", "20"));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.expect("it answers").status(), 503);
    assert_eq!(second.expect("it answers").status(), 201);
}

/// What `axum::Router::layer` asks for (axum 0.8), and `hyper::service::Service`'s connections.
#[tokio::test(start_paused = true)]
async fn fits_where_axum_and_hyper_want_a_service() {
    fn axum_takes<S, C>(service: S) -> S
    where
        S: Service<Request<Body>, Response = Response<C>> + Clone + Send + Sync + 'static,
        S::Error: Into<Infallible> + 'static,
        S::Future: Send + 'static,
        C: http_body::Body<Data = Bytes> + Send + 'static,
        C::Error: Into<BoxError>,
    {
        service
    }
    let service = HonourLayer::in_memory().layer(service_fn(|request: In| async move {
        drop(request);
        Ok::<_, Infallible>(charged(1))
    }));
    let response = axum_takes(service).oneshot(charge("\"a\"", "20")).await;
    let Ok(response) = response;
    assert_eq!(response.status(), 201);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let config = HonourConfig::new;
    assert!(config().header("two words").is_err());
    assert!(config().header("Content-Length").is_err());
    assert!(config().header("PayPal-Request-Id").is_ok());
    for wrong in
        ["", "/docs", "example.com", "ftp://a.b", "https://a.b/\"", "https://a.b/>", "https:"]
    {
        assert!(config().docs(wrong).is_err(), "{wrong}");
    }
    assert!(config().docs("http://a.b/c?d#e").is_ok());
    for wrong in [Duration::ZERO, MS, 1500 * MS] {
        assert!(config().retry_after(wrong).is_err());
    }
    let day = 24 * 3600 * SECOND;
    assert!(config().lease(Duration::ZERO).is_err());
    assert!(config().lease(day).is_err());
    assert!(config().retention(60 * SECOND).is_err());
    assert!(config().retention(61 * SECOND).and_then(|config| config.lease(MS)).is_ok());
    let shown = format!("{:?}", config());
    assert!(shown.contains("lease: 60s") && shown.contains("idempotency-key"), "{shown}");
}
