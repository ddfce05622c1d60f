//! Idempotency keys, through the public interface.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use buttress::{
    BoxError, Entropy,
    call::{Call, CarryLayer, Replay, Replayer, Words},
    classify::{Classify, HttpClassifier, Mark, Retry, Sent, verdict_on_error},
    find,
    idempotency::{
        BelowRetry, DEFAULT_HEADER, IdempotencyConfig, IdempotencyLayer, InvalidIdempotency,
        InvalidKey, Quoting,
    },
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Plain = Request<Full<Bytes>>;

/// What a service saw of a call.
#[derive(Debug)]
struct Seen {
    headers: HeaderMap,
    keyed: bool,
}

impl Seen {
    fn key(&self) -> Option<&str> {
        self.headers.get(DEFAULT_HEADER).map(|key| key.to_str().expect("it is ASCII"))
    }
}

fn request(method: Method) -> Plain {
    Request::builder().method(method).uri("/charges").body(Full::from("20")).expect("it is whole")
}

/// The error is boxed by the layer, so its type says nothing here.
async fn send(config: IdempotencyConfig, call: Call<Plain>) -> Result<Seen, BoxError> {
    IdempotencyLayer::new(config)
        .layer(service_fn(async |call: Call<Plain>| {
            let keyed = call.words.keyed;
            Ok::<_, Infallible>(Seen { headers: call.request.into_parts().0.headers, keyed })
        }))
        .oneshot(call)
        .await
}

async fn seen(config: IdempotencyConfig, request: Plain) -> Seen {
    send(config, Call::new(request)).await.expect("the call was sent")
}

fn counting() -> impl Fn() -> String + Send + Sync {
    let next = AtomicU64::new(1);
    move || format!("k-{}", next.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test]
async fn a_post_and_a_patch_get_a_quoted_uuid_and_count_as_keyed() {
    for method in [Method::POST, Method::PATCH] {
        let seen = seen(IdempotencyConfig::default(), request(method)).await;
        assert!(seen.keyed);
        let key = seen.key().expect("a key was minted");
        let uuid = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).expect("quoted");
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert!(uuid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')));
        assert_eq!(&uuid[14..15], "7", "the version");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "the variant");
    }
}

#[tokio::test]
async fn other_methods_go_out_as_they_came() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY", "LOCK"] {
        let seen = seen(IdempotencyConfig::default(), request(method.parse().expect("a method")));
        let seen = seen.await;
        assert!(seen.headers.is_empty(), "{method}");
        assert!(!seen.keyed, "{method}");
    }
}

#[tokio::test]
async fn the_set_of_methods_can_be_chosen() {
    let config = || IdempotencyConfig::new().methods([Method::PUT]);
    assert!(seen(config(), request(Method::PUT)).await.keyed);
    assert!(!seen(config(), request(Method::POST)).await.keyed);

    let none = seen(IdempotencyConfig::new().methods([]), request(Method::POST)).await;
    assert!(none.headers.is_empty() && !none.keyed);
}

#[tokio::test]
async fn keys_are_not_made_twice_on_any_thread() {
    let layer = IdempotencyLayer::default();
    let draw = move || {
        let mut service = layer.layer(service_fn(async |call: Call<Plain>| {
            Ok::<_, Infallible>(call.request.headers()[DEFAULT_HEADER].clone())
        }));
        (0..500)
            .map(|_| {
                let call = Call::new(request(Method::POST));
                service.call(call).now_or_never().expect("it waits for nothing").expect("sent")
            })
            .collect::<Vec<HeaderValue>>()
    };
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw.clone())).collect();
    let keys: Vec<_> =
        threads.into_iter().flat_map(|thread| thread.join().expect("it only draws")).collect();
    assert_eq!(keys.len(), 2_000);
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

#[tokio::test]
async fn every_attempt_of_a_call_carries_the_same_key() {
    // Retry below the layer, as small as it can be: the request is made again from what
    // reached it.
    let service = service_fn(async |call: Call<Plain>| {
        let (first, mut replayer) = call.begin(1024);
        let further = std::iter::from_fn(|| replayer.attempt());
        let mut keys = Vec::new();
        for attempt in std::iter::once(first).chain(further).take(3) {
            assert!(attempt.words.keyed);
            keys.push(attempt.request.headers()[DEFAULT_HEADER].clone());
        }
        Ok::<_, Infallible>(keys)
    });
    let mut service = IdempotencyLayer::default().layer(service);
    let first = service.call(Call::new(request(Method::POST))).await.expect("sent");
    let second = service.call(Call::new(request(Method::POST))).await.expect("sent");
    assert_eq!(first.len(), 3);
    assert!(first.iter().all(|key| key == first[0]));
    assert!(second.iter().all(|key| key == second[0]));
    assert_ne!(first[0], second[0], "another call has another key");
}

#[tokio::test]
async fn the_callers_own_key_wins_and_counts() {
    for (method, own) in
        [(Method::POST, "\"order-17\""), (Method::POST, "order-17"), (Method::GET, "\"order-17\"")]
    {
        let mut request = request(method);
        request.headers_mut().insert(DEFAULT_HEADER, HeaderValue::from_static(own));
        let seen = seen(IdempotencyConfig::default(), request).await;
        assert_eq!(seen.key(), Some(own));
        assert_eq!(seen.headers.len(), 1);
        assert!(seen.keyed);
    }
}

#[tokio::test]
async fn a_header_that_holds_no_key_is_left_alone_and_does_not_count() {
    for own in ["", "\"\"", "  "] {
        let mut request = request(Method::POST);
        request.headers_mut().insert(DEFAULT_HEADER, HeaderValue::from_static(own));
        let seen = seen(IdempotencyConfig::default(), request).await;
        assert_eq!(seen.key(), Some(own));
        assert!(!seen.keyed, "{own:?}");
    }

    let mut twice = request(Method::POST);
    twice.headers_mut().append(DEFAULT_HEADER, HeaderValue::from_static("\"a\""));
    twice.headers_mut().append(DEFAULT_HEADER, HeaderValue::from_static("\"b\""));
    let seen = seen(IdempotencyConfig::default(), twice).await;
    assert_eq!(seen.headers.get_all(DEFAULT_HEADER).iter().count(), 2);
    assert!(!seen.keyed);
}

#[tokio::test]
async fn what_was_said_of_the_call_before_stays_said() {
    let mut words = Words::new().idempotent(false);
    words.keyed = true;
    let call = Call::with_words(request(Method::GET), words);
    let seen = send(IdempotencyConfig::default(), call).await.expect("sent");
    assert!(seen.keyed, "the caller's word is not taken back");
}

#[tokio::test]
async fn the_header_and_its_form_can_be_chosen() {
    let config = IdempotencyConfig::new()
        .header("PayPal-Request-Id")
        .expect("a name")
        .quoting(Quoting::Bare);
    let seen = seen(config, request(Method::POST)).await;
    assert_eq!(seen.headers.len(), 1);
    let key = seen.headers["paypal-request-id"].to_str().expect("it is ASCII");
    assert_eq!(key.len(), 36);
    assert!(!key.contains('"'));
}

#[tokio::test]
async fn a_generator_of_ones_own_is_asked_once_a_call_and_escaped() {
    let config = |quoting| {
        let count = counting();
        IdempotencyConfig::new()
            .generator(move || format!(r#"{}"\"#, count()))
            .expect("it makes good keys")
            .quoting(quoting)
    };
    // Two were made to try it.
    let quoted = seen(config(Quoting::Quoted), request(Method::POST)).await;
    assert_eq!(quoted.key(), Some(r#""k-3\"\\""#));
    let bare = seen(config(Quoting::Bare), request(Method::POST)).await;
    assert_eq!(bare.key(), Some(r#"k-3"\"#));
}

#[tokio::test]
async fn a_key_that_cannot_be_sent_stops_the_call() {
    let asked = AtomicU64::new(0);
    let config = IdempotencyConfig::new()
        .generator(move || match asked.fetch_add(1, Ordering::Relaxed) {
            made @ 0..2 => format!("good-{made}"),
            _ => String::from("bad\r\nX-Evil: 1"),
        })
        .expect("the first two are good");
    let error = send(config, Call::new(request(Method::POST))).await.expect_err("not sent");
    let invalid = find::<InvalidKey>(&*error).expect("it is named");
    assert!(invalid.reason().contains("visible ASCII"));
    assert!(!error.to_string().contains("Evil"), "the error does not repeat the key");
    let verdict = verdict_on_error(&*error);
    assert_eq!((verdict.sent, verdict.retry), (Sent::No, Retry::Never));
    assert_eq!(find::<Mark>(&*error).and_then(Mark::kind), Some("invalid_key"));
}

#[tokio::test]
async fn below_retry_it_refuses_to_mint_a_key_for_each_attempt() {
    let mut words = Words::new();
    words.attempt = 1;
    let attempt = |method| Call::with_words(request(method), words.clone());
    let error = send(IdempotencyConfig::default(), attempt(Method::POST)).await.expect_err("no");
    assert!(find::<BelowRetry>(&*error).is_some());
    assert_eq!(find::<Mark>(&*error).and_then(Mark::kind), Some("below_retry"));
    assert_eq!(verdict_on_error(&*error).sent, Sent::No);
    assert_eq!(verdict_on_error(&*error).retry, Retry::Never);

    // A key that came from above is no harm, nor is a call that needs none.
    let mut own = attempt(Method::POST);
    own.request.headers_mut().insert(DEFAULT_HEADER, HeaderValue::from_static("\"k\""));
    assert!(send(IdempotencyConfig::default(), own).await.is_ok());
    assert!(send(IdempotencyConfig::default(), attempt(Method::GET)).await.is_ok());
}

#[test]
fn names_that_cannot_hold_a_key_are_refused_when_it_is_built() {
    for name in ["", "Idempotency Key", "Schlüssel", "key:", "key\n", "a,b"] {
        let error = IdempotencyConfig::new().header(name).expect_err(name);
        assert!(error.to_string().contains("no header's name"), "{name:?}: {error}");
    }
    for name in ["Content-Length", "transfer-encoding", "Host", "Connection", "Authorization"] {
        let error = IdempotencyConfig::new().header(name).expect_err(name);
        assert!(error.to_string().contains("HTTP itself needs"), "{name:?}: {error}");
    }
    let name = HeaderName::from_static("x-idempotency-key");
    assert!(IdempotencyConfig::new().header(name).is_ok());
}

#[test]
fn generators_that_cannot_work_are_refused_when_it_is_built() {
    let source = |error: &InvalidIdempotency| find::<InvalidKey>(error).map(InvalidKey::reason);

    let long = "k".repeat(256);
    for bad in ["", "two words", "schlüssel", &long] {
        let bad = bad.to_owned();
        let error = IdempotencyConfig::new().generator(move || bad.clone()).expect_err("bad");
        assert!(source(&error).is_some());
    }

    let error = IdempotencyConfig::new().generator(|| "always-this").expect_err("it repeats");
    assert!(error.to_string().contains("same key twice"));
    assert_eq!(source(&error), None);
}

#[tokio::test]
async fn a_seed_makes_keys_repeat_and_nothing_else_does() {
    let key = async |entropy| {
        let config = IdempotencyConfig::new().entropy(entropy);
        seen(config, request(Method::POST)).await.key().map(str::to_owned)
    };
    assert_eq!(key(Entropy::seeded(7)).await, key(Entropy::seeded(7)).await);
    assert_ne!(key(Entropy::seeded(7)).await, key(Entropy::seeded(8)).await);
    assert_ne!(key(Entropy::system()).await, key(Entropy::system()).await);
    let seeded = key(Entropy::seeded(7)).await.expect("a key");
    assert!(seeded.starts_with("\"00000000-0000-7"), "it shows that it is no real one: {seeded}");
}

#[tokio::test]
async fn a_plain_http_request_carries_its_words_in_its_extensions() {
    let service = IdempotencyLayer::default().layer(service_fn(async |request: Plain| {
        let keyed = request.extensions().get::<Words>().is_some_and(|words| words.keyed);
        Ok::<_, Infallible>((keyed, request.headers().contains_key(DEFAULT_HEADER)))
    }));
    assert_eq!(service.clone().oneshot(request(Method::POST)).await.expect("sent"), (true, true));
    assert_eq!(service.oneshot(request(Method::GET)).await.expect("sent"), (false, false));
}

#[tokio::test]
async fn answers_and_errors_pass_through_untouched() {
    let stack = ServiceBuilder::new()
        .layer(CarryLayer::new())
        .layer(IdempotencyLayer::default())
        .service(service_fn(async |call: Call<Plain>| match call.request.method().as_str() {
            "POST" => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            method => Ok(method.len()),
        }));
    let error = stack.clone().oneshot(request(Method::POST)).await.expect_err("it was reset");
    assert!(error.is::<std::io::Error>(), "it is the inner error, not wrapped: {error:?}");
    assert_eq!(stack.oneshot(request(Method::GET)).await.expect("it answered"), 3);
}

/// Counts readiness: the instance that is called has to be the one that was polled.
#[derive(Debug)]
struct Strict {
    ready: bool,
    calls: Arc<AtomicU64>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Call<Plain>> for Strict {
    type Response = ();
    type Error = Infallible;
    type Future = std::future::Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call<Plain>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        self.calls.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(()))
    }
}

#[tokio::test]
async fn calls_the_instance_that_was_polled_and_none_for_a_call_it_refuses() {
    let calls = Arc::new(AtomicU64::new(0));
    let inner = Strict { ready: false, calls: Arc::clone(&calls) };
    let mut service = IdempotencyLayer::default().layer(inner);
    for _ in 0..2 {
        let ready = service.ready().await.expect("it is always ready");
        ready.call(Call::new(request(Method::POST))).await.expect("sent");
    }
    let mut words = Words::new();
    words.attempt = 2;
    let refused = Call::with_words(request(Method::POST), words);
    let ready = service.ready().await.expect("it is always ready");
    assert!(ready.call(refused).await.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn the_table_in_the_documentation_is_the_classifiers() {
    let retry = |status, keyed| {
        let mut words = Words::new();
        words.keyed = keyed;
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = status;
        HttpClassifier::new().response(words.asked(), &response).retry
    };
    assert_eq!(retry(StatusCode::CONFLICT, true), Retry::Always);
    assert_eq!(retry(StatusCode::CONFLICT, false), Retry::Never);
    assert_eq!(retry(StatusCode::UNPROCESSABLE_ENTITY, true), Retry::Never);
    assert_eq!(retry(StatusCode::BAD_REQUEST, true), Retry::Never);
}
