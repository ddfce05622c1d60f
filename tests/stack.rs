//! The order of the stack: for each layer that stands above another, a test that fails when the
//! two are swapped. Under paused time, over endpoints in memory.
#![cfg(feature = "hyper")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError,
    algo::{
        backoff::Backoff,
        bucket::{Class, Tariff},
    },
    body::{Body, ReplayBody},
    breaker::{BreakerConfig, State},
    budget::Budget,
    call::{Attempts, Call, Words},
    classify::{Marked, Sent, Verdict},
    client::{AttemptBody, Client, Kind},
    endpoint::{Endpoint, MakeEndpoint, Refusal},
    find,
    hedge::HedgeConfig,
    retry::{Policy, RetryConfig},
    throttle::ThrottleConfig,
    timeout::DeadlineHeader,
};
use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use support::{
    company::{
        Act, Acting, Company, Leaf, MS,
        Piece::{Break, Data, Stall, Wait},
        Pieces, address, answer, lock, now, status, streaming,
    },
    spans::Spans,
};
use tokio::time::sleep;
use tower::{limit::ConcurrencyLimitLayer, util::MapRequestLayer};
use tower_http::set_header::SetRequestHeaderLayer;

fn get() -> Request<()> {
    Request::new(())
}

fn post() -> Request<&'static str> {
    let mut request = Request::new("charge");
    *request.method_mut() = http::Method::POST;
    request
}

/// Backoffs too short to matter, so that what is asserted are the layers' own times.
fn retry(attempts: u32) -> RetryConfig {
    let backoff = Backoff::new(MS, MS).expect("sound");
    RetryConfig::new().backoff(backoff).max_attempts(attempts).expect("more than none")
}

/// One attempt and no more.
fn once() -> RetryConfig {
    retry(1)
}

fn attempts(response: &Response<impl Sized>) -> usize {
    response.extensions().get::<Attempts>().map_or(1, |attempts| attempts.len())
}

// What a transport says of its errors.

/// Goal: one that has limits of its own, or does not say "connect" as hyper-util does, is heard.
#[tokio::test(start_paused = true)]
async fn what_a_transport_names_is_what_the_caller_is_told() -> Result<(), BoxError> {
    type Says = fn(BoxError) -> BoxError;
    let cases: [(Says, Kind, Sent, usize); 3] = [
        (|error| error, Kind::Other, Sent::Maybe, 1),
        (|error| Marked::new(Verdict::UNREACHED, error).into(), Kind::Connect, Sent::No, 3),
        (
            |error| Marked::new(Verdict::TIMED_OUT, error).named("timeout").into(),
            Kind::Timeout,
            Sent::Maybe,
            1,
        ),
    ];
    for (mark, kind, sent, attempts) in cases {
        let company = Company::new(move |_| Act::Error(mark("a tunnel of mine".into())));
        let client = company.builder(1..=3).retry(retry(3)).build()?;
        let error = client.send(post()).await.expect_err("it fails");
        assert_eq!((error.kind(), error.sent()), (kind, sent), "{error:?}");
        assert_eq!(company.calls(), attempts, "{error:?}");
    }
    Ok(())
}

// Deadline ─ retry.

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_the_sum_of_attempts_and_each_gets_what_is_left() -> Result<(), BoxError>
{
    let company = Company::new(|_| Act::Hang);
    let client = company
        .builder(1..=5)
        .deadline(1000 * MS)
        .attempt_timeout(400 * MS)
        .retry(retry(10))
        .build()?;
    let began = now();
    let error = client.send(get()).await.expect_err("nobody answers");
    assert_eq!(now() - began, 1000 * MS);
    assert_eq!(error.kind(), Kind::Timeout);
    let lasted: Vec<Duration> = error.attempts().iter().map(|attempt| attempt.lasted).collect();
    assert_eq!(lasted.len(), 3, "{error:?}");
    assert_eq!(lasted[..2], [400 * MS, 400 * MS]);
    assert!(lasted[2] < 200 * MS && lasted[2] > 190 * MS, "{lasted:?}");
    Ok(())
}

// Key ─ retry.

#[tokio::test(start_paused = true)]
async fn every_attempt_of_a_call_carries_the_same_key_and_another_call_another()
-> Result<(), BoxError> {
    let company = Company::new(|seen| answer(if seen.nth % 3 == 2 { 200 } else { 503 }));
    let client = company.builder(1..=5).idempotency_keys().retry(retry(3)).build()?;
    for _ in 0..2 {
        assert_eq!(attempts(&client.send(post()).await?), 3);
    }
    let seen = company.seen();
    let keys: Vec<&str> = seen.iter().filter_map(|seen| seen.header("idempotency-key")).collect();
    assert_eq!(keys.len(), 6);
    assert!(keys[..3].iter().all(|key| key == &keys[0]), "{keys:?}");
    assert!(keys[3..].iter().all(|key| key == &keys[3]), "{keys:?}");
    assert_ne!(keys[0], keys[3]);
    Ok(())
}

// Retry ─ attempt timeout.

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_is_tried_again() -> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.nth == 0 { Act::Hang } else { answer(200) });
    let client = company.builder(1..=2).attempt_timeout(100 * MS).retry(retry(2)).build()?;
    let began = now();
    assert_eq!(attempts(&client.send(get()).await?), 2);
    assert!(now() - began <= 102 * MS);
    Ok(())
}

// Retry ─ balance.

#[tokio::test(start_paused = true)]
async fn another_attempt_goes_to_another_endpoint() -> Result<(), BoxError> {
    for _ in 0..20 {
        let company = Company::new(|_| answer(503));
        let client = company.builder(1..=4).retry(retry(4)).build()?;
        let response = client.send(get()).await?;
        assert_eq!(response.status(), 503);
        let mut ports: Vec<u16> = company.seen().iter().map(|seen| seen.port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 2, 3, 4]);
    }
    Ok(())
}

// Breaker ─ attempt timeout.

#[tokio::test(start_paused = true)]
async fn the_breaker_of_an_endpoint_opens_after_five_time_outs() -> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.port == 1 { Act::Hang } else { answer(200) });
    let client = company.builder(1..=2).attempt_timeout(100 * MS).retry(once()).build()?;
    let is_open = || client.endpoints().iter().map(|status| status.open).collect::<Vec<_>>();
    let mut timed_out = 0;
    while timed_out < 5 {
        assert!(is_open().iter().all(|&open| open), "after {timed_out}");
        match client.send(get()).await {
            Ok(response) => assert_eq!(response.status(), 200),
            Err(error) => {
                assert!(error.is_timeout());
                timed_out += 1;
            }
        }
        // An endpoint that failed is in doubt for a while and gets no calls.
        sleep(Duration::from_secs(1)).await;
    }
    let open: Vec<(u16, bool)> = client
        .endpoints()
        .iter()
        .map(|status| (status.endpoint.address().port(), status.open))
        .collect();
    assert!(open.contains(&(1, false)) && open.contains(&(2, true)), "{open:?}");
    Ok(())
}

// Balance ─ breaker.

#[tokio::test(start_paused = true)]
async fn a_pick_that_its_breaker_refuses_is_picked_anew_at_no_cost() -> Result<(), BoxError> {
    let ill = Arc::new(AtomicBool::new(true));
    let is_ill = Arc::clone(&ill);
    let company = Company::new(move |seen| {
        answer(if seen.port == 1 && is_ill.load(SeqCst) { 500 } else { 200 })
    });
    let breaker = BreakerConfig::new().open_time(1000 * MS, 1000 * MS)?.ramp(30_000 * MS)?;
    // One attempt, no retry, no budget: whoever is refused and not picked anew fails.
    let budget = Budget::new(Tariff::default());
    let retry = once().budget(budget.clone());
    let client = company.builder(1..=2).breaker(breaker).retry(retry).build()?;
    let open = || client.endpoints().iter().all(|status| status.open);
    for _ in 0..1000 {
        if open() {
            client.send(post()).await?;
            sleep(100 * MS).await;
        }
    }
    assert!(!open(), "the ill one is left alone");
    ill.store(false, SeqCst);
    sleep(1000 * MS).await;
    // Half-open it takes three probes of these, then a tenth of the calls.
    let before = company.calls();
    for _ in 0..10 {
        for response in join_all((0..20).map(|_| client.send(post()))).await {
            let response = response?;
            assert_eq!((response.status().as_u16(), attempts(&response)), (200, 1));
        }
        sleep(10 * MS).await;
    }
    assert_eq!(company.calls() - before, 200);
    assert!(company.calls_at(1) > 3, "it had probes and some calls of the ramp");
    assert_eq!(budget.balance(), 500);
    Ok(())
}

// Retry ─ service breaker.

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_service_breaker_is_waited_for_only_if_that_fits() -> Result<(), BoxError>
{
    let company = Company::new(|seen| answer(if seen.nth < 5 { 500 } else { 200 }));
    let breaker = BreakerConfig::new().open_time(3000 * MS, 3000 * MS)?;
    let budget = Budget::new(Tariff::default());
    let config = retry(3).budget(budget.clone());
    let client = company.builder(1..=8).service_breaker(breaker).retry(config).build()?;
    for _ in 0..5 {
        client.send(post()).await?;
    }
    let State::Open { until } = client.service_breaker().expect("asked for").state() else {
        panic!("five failures in a row open it");
    };

    let began = now();
    let hurried = with_words(Words::new().deadline(began + 500 * MS));
    let error = client.send(hurried).await.expect_err("it is open");
    assert_eq!(now(), began, "no time is lost on it");
    assert_eq!((error.kind(), error.attempts().len()), (Kind::Rejected, 1));
    assert_eq!(error.retry_at(), Some(until));
    assert_eq!(company.calls(), 5, "nothing was sent");

    let response = client.send(get()).await?;
    assert_eq!((response.status().as_u16(), attempts(&response)), (200, 2));
    let refused = &response.extensions().get::<Attempts>().expect("two")[0];
    assert_eq!(refused.target, None, "nobody was picked for it");
    assert!(now() >= until);
    assert_eq!(budget.balance(), 500, "a refusal of our own costs nothing");
    Ok(())
}

fn with_words(words: Words) -> Request<()> {
    Request::builder().extension(words).body(()).expect("a request")
}

// Service breaker ─ balance.

#[tokio::test(start_paused = true)]
async fn the_service_breaker_judges_what_all_endpoints_together_do() -> Result<(), BoxError> {
    // Each endpoint fails once only: none of their breakers opens.
    let company = Company::new(|_| answer(500));
    let breaker = BreakerConfig::new().consecutive_failures(3)?;
    let client = company.builder(1..=9).service_breaker(breaker).retry(once()).build()?;
    for _ in 0..3 {
        assert_eq!(client.send(get()).await?.status(), 500);
    }
    let error = client.send(get()).await.expect_err("it is open");
    assert!(error.is_rejected() && find::<Refusal>(&error).is_some());
    assert!(client.endpoints().iter().all(|status| status.open));
    Ok(())
}

// Throttle, service breaker ─ attempt timeout.

#[tokio::test(start_paused = true)]
async fn the_service_breaker_and_the_throttle_hear_of_answers_and_of_attempts_without_one()
-> Result<(), BoxError> {
    let company = Company::new(|seen| match seen.nth {
        0..4 => answer(200),
        4 => Act::Fail(std::io::ErrorKind::ConnectionReset),
        _ => Act::Hang,
    });
    let client = company
        .builder(1..=9)
        .service_breaker(BreakerConfig::new().consecutive_failures(3)?)
        .throttle(ThrottleConfig::new())
        .attempt_timeout(200 * MS)
        .retry(once())
        .build()?;
    let counts = || {
        let throttle = client.snapshot().throttle.expect("asked for");
        (throttle.requests, throttle.accepts, throttle.pending)
    };
    let breaker = client.service_breaker().expect("asked for");
    for _ in 0..4 {
        client.send(get()).await?.into_body().collect().await?;
    }
    assert_eq!((counts(), breaker.state()), ((4, 4, 0), State::Closed));
    for failures in 1..=3 {
        assert_eq!(breaker.state(), State::Closed);
        client.send(get()).await.expect_err("nobody answers");
        assert_eq!(counts(), (4 + failures, 4, 0));
    }
    assert!(matches!(breaker.state(), State::Open { .. }), "{breaker:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_does_not_make_the_service_slow_for_its_breaker() -> Result<(), BoxError> {
    // Not there as a whole, or it would have been read with its head.
    let company = Company::new(|_| streaming([Data("do"), Data("ne")]));
    let breaker = BreakerConfig::new().slow_calls(500 * MS, 50)?.minimum_calls(1)?;
    let client = company.builder([1]).service_breaker(breaker).build()?;
    let response = client.send(get()).await?;
    sleep(1000 * MS).await;
    response.into_body().collect().await?;
    assert_eq!(client.service_breaker().expect("asked for").state(), State::Closed);
    Ok(())
}

// Attempt timeout ─ collect.

#[tokio::test(start_paused = true)]
async fn the_attempt_ends_at_the_head_unless_the_body_is_collected() -> Result<(), BoxError> {
    let slow = |_: &_| streaming([Data("sl"), Wait(300 * MS), Data("ow")]);
    let company = Company::new(slow);
    let client = company.builder([1]).attempt_timeout(200 * MS).retry(once()).build()?;
    let response = client.send(get()).await?;
    assert_eq!(response.into_body().collect().await?, "slow", "the deadline alone holds for it");

    let company = Company::new(slow);
    let client =
        company.builder([1]).attempt_timeout(200 * MS).retry(once()).collect_bodies().build()?;
    let began = now();
    let error = client.send(get()).await.expect_err("the body is too slow");
    assert_eq!((error.kind(), now() - began), (Kind::Timeout, 200 * MS));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_collected_body_that_stalls_or_is_cut_short_is_tried_again() -> Result<(), BoxError> {
    for wrong in [Stall, Break] {
        let company = Company::new(move |seen| match seen.nth {
            0 => streaming([Data("ha"), wrong]),
            _ => streaming([Data("ha"), Data("lf")]),
        });
        let client = company
            .builder(1..=2)
            .attempt_timeout(200 * MS)
            .retry(retry(2))
            .collect_bodies()
            .build()?;
        let response = client.send(get()).await?;
        assert_eq!(attempts(&response), 2, "{wrong:?}");
        assert_eq!(response.into_body().as_bytes(), Some(&b"half"[..]));
    }
    Ok(())
}

// Collect ─ the user's own layers.

#[tokio::test(start_paused = true)]
async fn what_the_users_layers_make_of_a_body_is_what_is_collected() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let cut = tower::util::MapResponseLayer::new(|response: Response<_>| {
        response.map(|_| http_body_util::Full::new(bytes::Bytes::from("decoded")))
    });
    let client = company.builder([1]).endpoint_layer(cut).collect_bodies().build()?;
    let response = client.send(get()).await?;
    assert_eq!(response.into_body().as_bytes(), Some(&b"decoded"[..]));
    Ok(())
}

// Unwrapping ─ the user's own layers. The types forbid the swap: these layers are made for
// `http::Request`, not for the carrier.

#[tokio::test(start_paused = true)]
async fn the_users_layers_see_the_plain_request_of_each_attempt() -> Result<(), BoxError> {
    let company = Company::new(|seen| answer(if seen.nth == 0 { 503 } else { 200 }));
    let name = HeaderName::from_static("x-team");
    let client = company
        .builder(1..=2)
        .endpoint_layer(SetRequestHeaderLayer::overriding(name, HeaderValue::from_static("pay")))
        .endpoint_layer(MapRequestLayer::new(|request: Request<AttemptBody>| {
            assert!(request.extensions().get::<Words>().is_none(), "words stay above");
            request
        }))
        .retry(retry(2))
        .build()?;
    client.send(with_words(Words::new())).await?;
    let seen = company.seen();
    assert_eq!(seen.iter().filter_map(|seen| seen.header("x-team")).count(), 2);
    Ok(())
}

// Readiness of the user's own layers ─ the deadline's header.

#[tokio::test(start_paused = true)]
async fn a_service_is_told_of_the_time_that_is_left_after_the_wait_for_a_place()
-> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.nth == 0 { Act::Hang } else { answer(200) });
    let client = company
        .builder([1])
        .endpoint_layer(ConcurrencyLimitLayer::new(1))
        .deadline(1000 * MS)
        .attempt_timeout(700 * MS)
        .retry(once())
        .deadline_header(DeadlineHeader::default())
        .build()?;
    let first = tokio::spawn(client.send(get()));
    sleep(400 * MS).await;
    client.send(get()).await?;
    assert!(first.await?.is_err());
    let seen = company.seen();
    let said: Vec<_> = seen.iter().map(|seen| seen.header("request-timeout-ms")).collect();
    assert_eq!(said, [Some("1000"), Some("700")], "300 ms of the second one's had passed");
    Ok(())
}

// Attempt timeout ─ readiness of the user's own layers.

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_limit_at_an_endpoint_is_part_of_the_attempt() -> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.nth == 0 { Act::Hang } else { answer(200) });
    let client = company
        .builder([1])
        .endpoint_layer(ConcurrencyLimitLayer::new(1))
        .attempt_timeout(1000 * MS)
        .retry(once())
        .build()?;
    let first = tokio::spawn(client.send(get()));
    sleep(400 * MS).await;
    // The limit is freed when the first attempt ends.
    let began = now();
    assert_eq!(client.send(get()).await?.status(), 200);
    assert_eq!(now() - began, 600 * MS);
    assert!(first.await?.is_err());

    // It does not outlast the attempt: what was not sent goes elsewhere, whatever its method.
    let company = Company::new(|_| answer(200));
    let never = tower::layer::layer_fn(|inner: Leaf| {
        let ready = inner.port() == 2;
        Stuck { inner, ready }
    });
    let client = company
        .builder(1..=2)
        .endpoint_layer(never)
        .attempt_timeout(1000 * MS)
        .retry(retry(2))
        .build()?;
    let mut waited = 0;
    while waited == 0 {
        let response = client.send(post()).await?;
        if let Some(attempts) = response.extensions().get::<Attempts>() {
            assert_eq!((attempts[0].verdict.sent, attempts[0].lasted), (Sent::No, 1000 * MS));
            waited += 1;
        }
    }
    assert_eq!(company.calls_at(1), 0);
    Ok(())
}

/// A service that may never be ready.
#[derive(Clone)]
struct Stuck {
    inner: Leaf,
    ready: bool,
}

impl tower::Service<Request<AttemptBody>> for Stuck {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Acting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.ready { self.inner.poll_ready(cx) } else { Poll::Pending }
    }

    fn call(&mut self, request: Request<AttemptBody>) -> Acting {
        self.inner.call(request)
    }
}

// Call span ─ retry ─ attempt span ─ service breaker.

#[tokio::test(start_paused = true)]
async fn a_call_has_one_span_and_each_attempt_its_own() -> Result<(), BoxError> {
    let spans = Spans::listen();
    let company = Company::new(|seen| answer(if seen.nth < 2 { 503 } else { 200 }));
    let client = company.builder(1..=3).retry(retry(3)).build()?;
    client.send(get()).await?;
    let seen = spans.seen();
    assert_eq!(
        seen.iter().map(|span| span.name).collect::<Vec<_>>(),
        ["call", "attempt", "attempt", "attempt"]
    );
    assert_eq!(
        seen.iter().map(|span| span.parent).collect::<Vec<_>>(),
        [None, Some(0), Some(0), Some(0)]
    );
    let field = |name| seen.iter().map(|span| span.field(name)).collect::<Vec<_>>();
    assert_eq!(field("http.request.resend_count"), [None, None, Some("1"), Some("2")]);
    let statuses = [Some("200"), Some("503"), Some("503"), Some("200")];
    assert_eq!(field("http.response.status_code"), statuses);
    let ports: Vec<String> = company.seen().iter().map(|seen| seen.port.to_string()).collect();
    assert_eq!(
        field("network.peer.port"),
        [None, Some(&*ports[0]), Some(&*ports[1]), Some(&*ports[2])]
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_service_breaker_is_an_attempt_that_one_can_see() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let client =
        company.builder([1]).service_breaker(BreakerConfig::new()).retry(once()).build()?;
    client.service_breaker().expect("asked for").force_open();
    let spans = Spans::listen();
    client.send(get()).await.expect_err("forced open");
    let attempts = spans.named("attempt");
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].field("error.type"), Some("circuit_open"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_call_span_sees_a_deadline_that_lets_nothing_begin() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let client = company.builder([1]).build()?;
    let spans = Spans::listen();
    let late = with_words(Words::new().deadline(now()));
    assert!(client.send(late).await.expect_err("too late").is_timeout());
    let seen = spans.seen();
    assert_eq!(seen.iter().map(|span| span.name).collect::<Vec<_>>(), ["call"]);
    assert_eq!(seen[0].field("error.type"), Some("timeout"));
    Ok(())
}

// Key ─ retry ─ hedge ─ attempt span ─ balance.

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_elsewhere_with_the_same_key_and_a_span_of_its_own() -> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.nth == 0 { Act::Hang } else { answer(200) });
    let client = company
        .builder(1..=2)
        .idempotency_keys()
        .hedge(HedgeConfig::after(50 * MS)?)
        .retry(once())
        .build()?;
    let spans = Spans::listen();
    let began = now();
    let response = client.send(post()).await?;
    assert_eq!((response.status().as_u16(), now() - began), (200, 50 * MS));
    let seen = company.seen();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].port, seen[1].port);
    assert_eq!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
    let attempts = spans.named("attempt");
    let kinds: Vec<_> = attempts.iter().map(|span| span.field("buttress.attempt.kind")).collect();
    assert_eq!(kinds, [Some("first"), Some("hedge")]);
    assert!(client.endpoints().iter().all(|status| status.in_flight == 0), "the loser is gone");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_attempt_and_its_hedge_that_both_fail_are_one_failure_for_retry() -> Result<(), BoxError>
{
    let company = Company::new(|seen| match seen.nth {
        0 | 1 => Act::After(100 * MS, status(500)),
        _ => answer(200),
    });
    let client =
        company.builder(1..=3).hedge(HedgeConfig::after(50 * MS)?).retry(retry(2)).build()?;
    let response = client.send(get()).await?;
    // Two attempts are allowed, and the two that raced each other are one of them.
    assert_eq!((response.status().as_u16(), attempts(&response)), (200, 3));
    assert_eq!(company.calls(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn hedges_are_paid_from_the_budget_of_the_retries() -> Result<(), BoxError> {
    let company = Company::new(|_| Act::After(100 * MS, status(200)));
    let mut tariff = Tariff::default();
    tariff.floor_interval = None;
    let budget = Budget::new(tariff);
    let drained = |budget: &Budget| while budget.withdraw(Class::Transient, now()).is_some() {};
    let client = company
        .builder(1..=2)
        .hedge(HedgeConfig::after(50 * MS)?)
        .retry(retry(2).budget(budget.clone()))
        .build()?;
    client.send(get()).await?;
    assert_eq!(company.calls(), 2);
    drained(&budget);
    client.send(get()).await?;
    assert_eq!(company.calls(), 3, "nobody pays for a hedge");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_is_hedged_whole() -> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.nth == 0 { Act::Hang } else { answer(200) });
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&bodies);
    let client = company
        .builder(1..=2)
        .endpoint_layer(tower::layer::layer_fn(move |inner: _| Reads {
            inner,
            log: Arc::clone(&log),
        }))
        .hedge(HedgeConfig::after(50 * MS)?)
        .retry(once())
        .build()?;
    let body = Body::new(Pieces::new([Data("one "), Wait(5 * MS), Data("two")]));
    let request = Request::put("/").body(body)?;
    assert_eq!(client.send(request).await?.status(), 200);
    assert_eq!(*lock(&bodies), ["one two", "one two"]);
    Ok(())
}

/// Reads a request's body to its end before it goes on.
#[derive(Clone)]
struct Reads<S> {
    inner: S,
    log: Arc<Mutex<Vec<String>>>,
}

impl<S> tower::Service<Request<AttemptBody>> for Reads<S>
where
    S: tower::Service<Request<AttemptBody>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = futures_util::future::BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<AttemptBody>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            lock(&log).push(String::from_utf8_lossy(&bytes).into_owned());
            let body = ReplayBody::once(bytes.into());
            inner.call(Request::from_parts(parts, body)).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_is_a_transport() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let client = Client::builder("http://payments")
        .endpoints([address(1)])
        .transport(move |endpoint: &Endpoint| company.make(endpoint))
        .build()?;
    assert_eq!(client.send(get()).await?.status(), 200);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_names_the_routes_of_its_calls_for_their_own_policies() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(503));
    let mut often = Policy::default();
    often.max_attempts = std::num::NonZeroU32::new(5).expect("not zero");
    often.backoff = Backoff::new(MS, MS).expect("sound");
    let client = company
        .builder([1, 2])
        .routes(|_, path| path.starts_with("/search").then_some("search"))
        .retry(retry(2).route("search", often))
        .build()?;
    let calls_of = async |path: &str, words: Words| {
        let before = company.calls();
        let call = Call::with_words(Request::get(path).body(())?, words);
        client.send(call).await?;
        Ok::<_, BoxError>(company.calls() - before)
    };
    assert_eq!(calls_of("/search?q=a", Words::new()).await?, 5);
    assert_eq!(calls_of("/rates", Words::new()).await?, 2);
    assert_eq!(calls_of("/rates", Words::new().route("search")).await?, 5, "its own word first");
    Ok(())
}
