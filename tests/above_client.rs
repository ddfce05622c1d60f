//! Layers of this crate above a whole client: what is another call, with attempts and an endpoint
//! of its own. Under paused time, over endpoints in memory.
#![cfg(feature = "hyper")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    body::Body,
    classify::{HttpClassifier, Sent},
    client::{Client, Error, Kind},
    fallback::{FallbackConfig, FallbackLayer, FellBack, Unavailable},
    find,
    idempotency::IdempotencyLayer,
    reconcile::{Answer, ByKey, Conclusion, ReconcileConfig, ReconcileLayer, Reconciled},
    refresh::{Bearer, RefreshConfig, RefreshLayer},
    retry::RetryConfig,
    throttle::ThrottleConfig,
};
use http::{HeaderValue, Request, Response};
use support::company::{Act, Company, MS, answer, status};
use tower::{ServiceBuilder, ServiceExt};

fn post() -> Request<Body> {
    Request::post("/charges").body(Body::from("12 EUR")).expect("sound")
}

fn client(company: &Company, ports: impl IntoIterator<Item = u16>) -> Client {
    company.builder(ports).build().expect("sound")
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_replaced_and_the_call_made_again_under_its_key() {
    let company = Company::new(|seen| match seen.header("authorization") {
        Some("Bearer fresh") if seen.port == 1 => answer(503),
        Some("Bearer fresh") => answer(201),
        _ => answer(401),
    });
    let fetched = Arc::new(AtomicU32::new(0));
    let tokens = Bearer::new({
        let fetched = Arc::clone(&fetched);
        move || {
            fetched.fetch_add(1, SeqCst);
            async { Ok::<_, BoxError>("fresh") }
        }
    });
    let tokens = tokens.token("expired").expect("sound");
    let service = ServiceBuilder::new()
        // Above refresh: the second try is the same call.
        .layer(IdempotencyLayer::default())
        .layer(RefreshLayer::new(RefreshConfig::new(), tokens))
        .service(client(&company, [1, 2]));
    for _ in 0..5 {
        let response = service.clone().oneshot(post()).await.expect("it answers");
        assert_eq!(response.status(), 201);
    }
    assert_eq!(fetched.load(SeqCst), 1, "once for all calls");
    let seen = company.seen();
    let refused = seen.iter().filter(|seen| seen.header("authorization") != Some("Bearer fresh"));
    assert_eq!(refused.count(), 1);
    // The first call: refused, then with the new credential, each attempt under one key.
    assert_eq!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ran_out_of_time_is_looked_up_by_its_key() {
    let company = Company::new(|_| Act::Hang);
    let client = company
        .builder([1, 2])
        .deadline(Duration::from_secs(1))
        .attempt_timeout(Duration::from_millis(400))
        .build()
        .expect("sound");
    let by_key = {
        let company = company.clone();
        ByKey::new(move |key: HeaderValue, _| {
            let known = company.seen().iter().any(|seen| seen.headers["idempotency-key"] == key);
            assert!(known, "the service has seen this key");
            async { Ok::<_, BoxError>(Answer::Found(Response::new(Body::from("charged")))) }
        })
    };
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::default())
        .layer(ReconcileLayer::new(ReconcileConfig::new(), by_key, HttpClassifier::new()))
        .service(client);
    let response = service.oneshot(post()).await.expect("it was found");
    let reconciled = response.extensions().get::<Reconciled>().expect("it was looked up");
    assert_eq!(reconciled.conclusion, Conclusion::Found);
    assert_eq!(company.calls(), 3, "three attempts, and then the question");
}

#[tokio::test(start_paused = true)]
async fn another_service_answers_when_a_client_has_given_up() {
    let here = Company::new(|_| answer(503));
    let there = Company::new(|_| answer(200));
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::default())
        .layer(FallbackLayer::new(
            FallbackConfig::named("elsewhere"),
            Unavailable::new(),
            client(&there, [7]),
            HttpClassifier::new(),
        ))
        .service(client(&here, [1, 2]));
    let response = service.oneshot(post()).await.expect("it answers");
    assert_eq!(response.status(), 200);
    assert!(response.extensions().get::<FellBack>().is_some(), "and says so");
    assert_eq!((here.calls(), there.calls()), (3, 1));
    let key = here.seen()[0].header("idempotency-key").map(str::to_owned);
    assert!(key.is_some());
    assert_eq!(there.seen()[0].header("idempotency-key"), key.as_deref(), "one call, one key");
}

#[tokio::test(start_paused = true)]
async fn a_client_asks_a_service_that_refuses_all_less_and_says_so() {
    let company = Company::new(|_| answer(429));
    let config = ThrottleConfig::new().window(Duration::from_secs(10)).expect("sound");
    let client = company
        .builder([1, 2])
        .throttle(config)
        .retry(RetryConfig::new().max_attempts(1).expect("one is a number"))
        .build()
        .expect("sound");
    let mut held_back = 0;
    for _ in 0..2_000 {
        tokio::time::sleep(5 * MS).await;
        match client.send(post()).await {
            Ok(response) => assert_eq!(response.status(), 429),
            Err(error) => {
                assert_eq!((error.kind(), error.sent()), (Kind::Throttled, Sent::No), "{error}");
                held_back += 1;
            }
        }
    }
    assert!(held_back > 1_000, "{held_back}");
    assert_eq!(company.calls(), 2_000 - held_back, "what is held back is not sent");
    let state = client.throttle().expect("asked for").state();
    assert!(state.probability > 0.5, "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_client_is_found_beneath_what_stands_above_it() {
    let company = Company::new(|_| Act::Answer(status(200)));
    let client = company.builder([]).build();
    assert!(client.is_err(), "no endpoints");
    let company = Company::new(|_| Act::Fail(std::io::ErrorKind::ConnectionReset));
    let service = ServiceBuilder::new()
        .layer(FallbackLayer::new(
            FallbackConfig::named("elsewhere"),
            Unavailable::new(),
            client_of_nobody(),
            HttpClassifier::new(),
        ))
        .service(self::client(&company, [1]));
    // Not keyed, and it may have happened: nobody else is asked.
    let error = service.oneshot(post()).await.expect_err("it fails");
    let error = find::<Error>(&*error).expect("the client's own error");
    assert_eq!((error.kind(), error.sent()), (Kind::Connection, Sent::Maybe));
}

fn client_of_nobody() -> Client {
    client(&Company::new(|_| panic!("nobody asks it")), [9])
}
