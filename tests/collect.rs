//! Bodies read within the attempt, under a paused clock.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError,
    body::Body,
    call::{Call, Words},
    classify::{Blame, Retry, Sent, Verdict, verdict_on_error},
    collect::{BrokenBody, CollectConfig, CollectLayer, DEFAULT_CAP},
    find,
    timeout::{AttemptTimeoutLayer, Elapsed, Which},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::ETAG};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// What a [`Script`] does next.
#[derive(Clone, Debug)]
enum Step {
    Data(&'static str),
    Trailers(HeaderMap),
    Break,
    Stall,
}

use Step::{Break, Data, Stall, Trailers};

/// A body that plays its steps, and counts how often it is polled.
#[derive(Clone, Debug, Default)]
struct Script {
    steps: Vec<Step>,
    announced: Option<u64>,
    empty: bool,
    polls: Arc<AtomicUsize>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        if self.steps.is_empty() {
            return Poll::Ready(None);
        }
        if matches!(self.steps[0], Stall) {
            return Poll::Pending;
        }
        Poll::Ready(Some(match self.steps.remove(0) {
            Data(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
            Trailers(trailers) => Ok(Frame::trailers(trailers)),
            // As an error of a connection that said it was never used: not of this body.
            Break | Stall => Err(io::ErrorKind::ConnectionRefused.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.empty
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(ETAG, HeaderValue::from_static("7"))])
}

/// One call through `layer`, over a service that answers with `body`.
async fn collect(
    layer: CollectLayer,
    words: Words,
    body: Script,
) -> Result<Response<Body>, BoxError> {
    let service = service_fn(move |_: Call<()>| {
        let mut response = Response::new(body.clone());
        *response.status_mut() = StatusCode::ACCEPTED;
        async { Ok::<_, Infallible>(response) }
    });
    let mut service = ServiceBuilder::new().layer(layer).service(service);
    let response = service.ready().await?.call(Call::with_words((), words));
    // The paused clock jumps there as soon as nothing else can happen: a test fails, not hangs.
    tokio::time::timeout(Duration::from_secs(60), response).await?
}

fn collected() -> Words {
    let mut words = Words::new();
    words.body = buttress::call::BodyMode::Collected;
    words
}

fn layer(cap: usize) -> CollectLayer {
    CollectLayer::new(CollectConfig::new().cap(cap))
}

fn bytes(response: &Response<Body>) -> Option<&str> {
    response.body().as_bytes().map(|bytes| std::str::from_utf8(bytes).expect("text"))
}

#[tokio::test(start_paused = true)]
async fn a_body_is_whole_in_memory_when_the_call_asks_for_it() {
    let body = Script::new([Data("one "), Data("two "), Data("three")]);
    let response = collect(layer(DEFAULT_CAP), collected(), body).await.expect("an answer");
    assert_eq!(bytes(&response), Some("one two three"));
    assert_eq!(response.status(), StatusCode::ACCEPTED, "the head is as it was");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_in_one_piece_is_not_copied() {
    const PIECE: &str = "one piece";
    let body = Script::new([Data(PIECE)]);
    let response = collect(layer(DEFAULT_CAP), collected(), body).await.expect("an answer");
    assert_eq!(response.body().as_bytes().expect("whole").as_ptr(), PIECE.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_not_even_polled() {
    let body = Script { empty: true, ..Script::new([Break]) };
    let response = collect(layer(0), collected(), body.clone()).await.expect("an answer");
    assert_eq!(bytes(&response), Some(""));
    assert!(response.body().is_end_stream());
    assert_eq!(body.polls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_says_nothing_is_collected_only_by_default() {
    let body = Script::new([Data("a"), Data("b")]);
    let asked = collect(layer(9), Words::new(), body.clone()).await.expect("an answer");
    assert_eq!((bytes(&asked), body.polls()), (None, 0));
    let always = collect(CollectLayer::always(), Words::new(), body).await.expect("an answer");
    assert_eq!(bytes(&always), Some("ab"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_meant_to_last_is_never_collected() {
    let body = Script::new([Data("tick"), Stall]);
    let words = Words::new().lasting_body(Duration::from_secs(5));
    let response = collect(CollectLayer::always(), words, body.clone()).await.expect("a head");
    assert_eq!(body.polls(), 0);
    let first = response.into_body().frame().await.expect("a piece").expect("it is whole");
    assert_eq!(first.into_data().ok(), Some(Bytes::from("tick")));
}

#[tokio::test(start_paused = true)]
async fn an_http_request_carries_the_words_too() {
    let service = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Script::new([Data("a"), Data("b")])))
    });
    let mut service = ServiceBuilder::new().layer(CollectLayer::default()).service(service);
    let mut request = Request::new(());
    request.extensions_mut().insert(collected());
    let response = service.ready().await.expect("ready").call(request).await.expect("an answer");
    assert_eq!(bytes(&response), Some("ab"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_fails_its_attempt() {
    const LIMIT: Duration = Duration::from_secs(3);
    let service = service_fn(|_: Call<()>| async {
        Ok::<_, Infallible>(Response::new(Script::new([Data("half"), Stall])))
    });
    let mut service = ServiceBuilder::new()
        .layer(AttemptTimeoutLayer::new(LIMIT).expect("valid"))
        .layer(CollectLayer::default())
        .service(service);
    let begun = Instant::now();
    let call = Call::with_words((), collected());
    let error = service.ready().await.expect("ready").call(call).await.expect_err("it stalls");
    assert_eq!(find::<Elapsed>(&*error).map(Elapsed::which), Some(Which::Attempt));
    assert!(begun.elapsed() >= LIMIT && begun.elapsed() < LIMIT * 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_fails_its_attempt_and_may_have_happened() {
    let body = Script::new([Data("half"), Break]);
    let error = collect(layer(99), collected(), body).await.expect_err("it breaks off");
    let broken = find::<BrokenBody>(&*error).expect("named for what happened");
    assert_eq!(broken.read(), 4);
    assert_eq!(broken.to_string(), "the response's body broke off after 4 bytes");
    assert!(find::<io::Error>(&*error).is_some(), "with its cause");
    // Although the cause, by itself, would say that nothing was sent.
    let expected = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);
    assert_eq!(verdict_on_error(&*error), expected);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fits_the_cap_exactly_is_collected() {
    for steps in [vec![Data("12345")], vec![Data("123"), Data("45")]] {
        let response = collect(layer(5), collected(), Script::new(steps)).await.expect("an answer");
        assert_eq!(bytes(&response), Some("12345"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_past_the_cap_goes_on_as_a_stream_from_its_beginning() {
    let steps = [Data("123"), Data("456"), Data("789"), Trailers(trailers())];
    let body = Script::new(steps);
    let response = collect(layer(5), collected(), body.clone()).await.expect("an answer");
    assert_eq!(bytes(&response), None);
    assert_eq!(body.polls(), 2, "no further than the cap");
    assert_eq!(response.body().size_hint().lower(), 6);
    assert!(!response.body().is_end_stream());
    let collected = response.into_body().map_err(drop);
    let collected = BodyExt::collect(collected).await.expect("it goes on to its end");
    assert_eq!(collected.trailers(), Some(&trailers()));
    assert_eq!(collected.to_bytes(), "123456789");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_past_the_cap_is_the_readers_to_see() {
    let body = Script::new([Data("123"), Data("456"), Break]);
    let response = collect(layer(5), collected(), body).await.expect("an answer");
    let error = BodyExt::collect(response.into_body()).await.expect_err("it breaks");
    assert!(find::<io::Error>(&*error).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_announces_more_than_the_cap_is_not_touched() {
    let body = Script { announced: Some(6), ..Script::new([Data("123456")]) };
    let response = collect(layer(5), collected(), body.clone()).await.expect("an answer");
    assert_eq!((bytes(&response), body.polls()), (None, 0));
    assert_eq!(response.into_body().collect().await.expect("it is whole"), "123456");
}

#[tokio::test(start_paused = true)]
async fn trailers_are_kept() {
    let body = Script::new([Data("a"), Data("b"), Trailers(trailers())]);
    let response = collect(layer(5), collected(), body).await.expect("an answer");
    assert_eq!(bytes(&response), Some("ab"));
    let collected = BodyExt::collect(response.into_body()).await.expect("it is in memory");
    assert_eq!(collected.trailers(), Some(&trailers()));
    assert_eq!(collected.to_bytes(), "ab");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_stays_as_it_is() {
    let service = service_fn(async |_: Call<()>| {
        Err::<Response<Body>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
    });
    let mut service = ServiceBuilder::new().layer(CollectLayer::always()).service(service);
    let error = service.ready().await.expect("ready").call(Call::new(())).await.expect_err("io");
    assert!(error.downcast_ref::<io::Error>().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_drops_the_body() {
    let body = Script::new([Data("half"), Stall]);
    let polls = Arc::clone(&body.polls);
    let given_up =
        tokio::time::timeout(Duration::from_secs(1), collect(layer(9), collected(), body)).await;
    assert!(given_up.is_err());
    assert_eq!(Arc::strong_count(&polls), 1);
}
