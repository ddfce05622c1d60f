//! The deadline on the wire: each attempt carries what is left, and no hop adds to it.
#![cfg(feature = "hyper")]

mod support;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    BoxError,
    algo::backoff::Backoff,
    body::Body,
    call::{BodyMode, Call, Words},
    client::Client,
    retry::RetryConfig,
    timeout::{
        self, AttemptTimeoutLayer, DeadlineHeader, DeadlineHeaderLayer, DeadlineLayer, wire,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use proptest::prelude::*;
use support::{
    Server,
    company::{Act, Company, MS, answer, lock, now},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const NAME: HeaderName = timeout::DEFAULT_DEADLINE_HEADER;

fn get(words: Words) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(words);
    request
}

/// Two attempts, with next to no wait between them.
fn twice() -> RetryConfig {
    let backoff = Backoff::new(MS, MS).expect("sound");
    RetryConfig::new().backoff(backoff).max_attempts(2).expect("more than none")
}

/// What the attempts of a call carried.
fn carried(company: &Company) -> Vec<Option<u64>> {
    let millis = |text: &str| text.parse().expect("a number");
    company.seen().iter().map(|seen| seen.header(NAME.as_str()).map(millis)).collect()
}

// --- Through the client ---------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn each_attempt_carries_what_is_left_then() -> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.nth == 0 { Act::Hang } else { answer(200) });
    let client = company
        .builder(1..=3)
        .deadline(1000 * MS)
        .attempt_timeout(400 * MS)
        .retry(twice())
        .deadline_header(DeadlineHeader::default())
        .build()?;
    let began = now();
    client.send(Request::new(())).await?;
    let seen = company.seen();
    let second = 1000 - u64::try_from((seen[1].at - began).as_millis())?;
    assert_eq!(carried(&company), [Some(1000), Some(second)]);
    assert!((598..=600).contains(&second), "{second}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_attempts_end_is_told_where_the_body_is_collected_within_it() -> Result<(), BoxError> {
    let company = Company::new(|seen| if seen.nth % 2 == 0 { Act::Hang } else { answer(200) });
    let builder = company.builder(1..=3).deadline(1000 * MS).attempt_timeout(700 * MS);
    let client = builder
        .retry(twice())
        .collect_bodies()
        .deadline_header(DeadlineHeader::default())
        .build()?;
    client.send(Request::new(())).await?;
    let carried = carried(&company);
    assert_eq!(carried[0], Some(700), "no more than this attempt has");
    assert!(matches!(carried[1], Some(298..=300)), "and what is left for the last: {carried:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_came_in_is_passed_on_if_it_is_the_earlier() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let client = company
        .builder([1])
        .deadline(1000 * MS)
        .attempt_timeout(1000 * MS)
        .deadline_header(DeadlineHeader::default())
        .build()?;
    for own in [250, 5000] {
        let mut came = HeaderMap::new();
        came.insert(NAME, HeaderValue::from(own));
        let left = timeout::incoming(&came, &DeadlineHeader::default()).ok_or("it says so")?;
        client.send(get(Words::new().deadline(now() + left))).await?;
    }
    assert_eq!(carried(&company), [Some(250), Some(1000)]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_header_stays_if_it_says_less() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let client = company
        .builder([1])
        .deadline(1000 * MS)
        .attempt_timeout(1000 * MS)
        .deadline_header(DeadlineHeader::default())
        .build()?;
    for own in ["30", "30000", "soon"] {
        client.send(Request::get("/").header(NAME, own).body(())?).await?;
    }
    assert_eq!(carried(&company), [Some(30), Some(1000), Some(1000)]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_a_body_that_is_meant_to_last_nor_unasked() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let silent = company.builder([1]).build()?;
    silent.send(Request::new(())).await?;
    let client = company.builder([1]).deadline_header(DeadlineHeader::default()).build()?;
    client.send(get(Words::new().lasting_body(1000 * MS))).await?;
    assert_eq!(carried(&company), [None, None]);
    Ok(())
}

#[tokio::test]
async fn a_server_reads_what_is_left_from_a_real_request() -> Result<(), BoxError> {
    for header in [DeadlineHeader::grpc(), DeadlineHeader::millis("X-Time-Left")?] {
        let reads = header.clone();
        let server = Server::start(move |request: Request<hyper::body::Incoming>| {
            let left = timeout::incoming(request.headers(), &reads);
            let text = format!("{}", left.map_or(0, |left| left.as_micros()));
            std::future::ready(Response::new(http_body_util::Full::new(text.into())))
        })
        .await;
        let client = Client::builder("http://orders")
            .endpoints([server.address()])
            .deadline(Duration::from_secs(20))
            .deadline_header(header)
            .build()?;
        let response = client.send(Request::get("/").body(())?).await?;
        let text = response.into_body().collect().await?;
        let left: u64 = std::str::from_utf8(&text)?.parse()?;
        assert!((1..20_000_000).contains(&left), "{left} µs");
    }
    Ok(())
}

// --- Alone ----------------------------------------------------------------------------------

type Headers = Arc<Mutex<Vec<HeaderMap>>>;

fn leaf<C: buttress::call::Carrier<Request = Request<Body>>>(
    seen: &Headers,
) -> impl Service<C, Response = Response<Body>, Error = Infallible> + Clone + use<C> {
    let seen = Arc::clone(seen);
    service_fn(move |call: C| {
        lock(&seen).push(call.request().headers().clone());
        std::future::ready(Ok(Response::new(Body::from("done"))))
    })
}

#[tokio::test(start_paused = true)]
async fn it_serves_both_carriers_and_says_nothing_where_nobody_waits() -> Result<(), BoxError> {
    let seen = Headers::default();
    let layer = DeadlineHeaderLayer::new(DeadlineHeader::grpc());
    let request = || Request::new(Body::empty());
    let words = || Words::new().deadline(now() + 50 * MS);

    let mut service = layer.layer(leaf::<Request<Body>>(&seen));
    service.ready().await?.call(request()).await?;
    let mut http = request();
    http.extensions_mut().insert(words());
    service.ready().await?.call(http).await?;

    let mut service = layer.layer(leaf::<Call<Request<Body>>>(&seen));
    service.ready().await?.call(Call::new(request())).await?;
    service.ready().await?.call(Call::with_words(request(), words())).await?;

    let seen = lock(&seen);
    let said: Vec<_> = seen.iter().map(|headers| headers.get("grpc-timeout")).collect();
    let left = wire::encode_grpc(50 * MS);
    assert_eq!(said, [None, left.as_ref(), None, left.as_ref()]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_attempts_timeout_right_above_is_known() -> Result<(), BoxError> {
    let seen = Headers::default();
    let header = DeadlineHeaderLayer::default().layer(leaf::<Call<Request<Body>>>(&seen));
    let mut service = AttemptTimeoutLayer::new(80 * MS)?.layer(header);
    let mut words = Words::new().deadline(now() + 500 * MS);
    words.body = BodyMode::Collected;
    let call = Call::with_words(Request::new(Body::empty()), words);
    service.ready().await?.call(call).await?;
    assert_eq!(lock(&seen)[0][NAME], "80");
    Ok(())
}

/// What the second of two hops in a row, both with layers of their own, is told.
async fn told_after(
    came: HeaderValue,
    header: &DeadlineHeader,
    work: Duration,
) -> (Option<Duration>, Option<Duration>) {
    let mut headers = HeaderMap::new();
    headers.insert(header.name(), came);
    let left = timeout::incoming(&headers, header);
    let words = left.map_or_else(Words::new, |left| Words::new().deadline(now() + left));
    tokio::time::advance(work).await;

    let seen = Headers::default();
    let out = DeadlineHeaderLayer::new(header.clone()).layer(leaf::<Request<Body>>(&seen));
    let mut service = DeadlineLayer::new(Duration::from_secs(30)).expect("sound").layer(out);
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(words);
    let _ = service.ready().await.expect("ready").call(request).await;
    let sent = lock(&seen).first().and_then(|headers| timeout::incoming(headers, header));
    (left, sent)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_came_in_never_grows_on_its_way_out(
        digits in "[0-9]{1,8}",
        unit in "[HMSmun]",
        work in 0..3_000_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let work = Duration::from_millis(work);
        for (header, text) in [
            (DeadlineHeader::grpc(), format!("{digits}{unit}")),
            (DeadlineHeader::default(), digits),
        ] {
            let came = HeaderValue::try_from(text).expect("ASCII");
            let (left, sent) = runtime.block_on(told_after(came, &header, work));
            match (left, sent) {
                (Some(left), Some(sent)) => prop_assert!(sent + work <= left),
                (Some(left), None) => prop_assert!(left <= work, "only what is over is not begun"),
                (None, sent) => prop_assert_eq!(sent, Some(Duration::from_secs(30))),
            }
        }
    }
}
