//! Fallbacks through the public interface, under paused time.

use std::{
    future::{Future, pending},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    algo::backoff::Backoff,
    body::{Body, ReplayBody, TakeWhole},
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    call::{Call, Outcome, Words, mark_unsent},
    classify::{Blame, HttpClassifier, PlainClassifier, Retry, Sent, verdict_on_error},
    fallback::{
        Answer, BothFailed, Discloses, Ended, FallbackConfig, FallbackLayer, FellBack, Fixed, Key,
        NotThere, Reason, Rule, Stale, StaleConfig, StandInConfig, StandInLayer, Unavailable,
        by_uri,
    },
    find,
    retry::{RetryConfig, RetryLayer},
    throttle::{Throttle, ThrottleConfig, ThrottleLayer, Throttled},
    timeout::{DeadlineLayer, Elapsed, Which},
};
use http::{Method, Request, Response, StatusCode, header::AGE};
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What reaches the services beneath a fallback.
type Sending = Call<Request<ReplayBody<Body>>>;

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn call<S, C>(service: &mut S, call: C) -> Result<S::Response, BoxError>
where
    S: Service<C, Error = BoxError>,
{
    service.ready().await?.call(call).await
}

fn request(method: Method) -> Call<Request<Body>> {
    let mut request = Request::new(Body::from("hello"));
    *request.method_mut() = method;
    *request.uri_mut() = "/rates".parse().expect("a path");
    Call::new(request)
}

fn get() -> Call<Request<Body>> {
    request(Method::GET)
}

fn post() -> Call<Request<Body>> {
    request(Method::POST)
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::from(code.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

/// As a client does it: what is whole in memory comes without its wrappers.
fn whole<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + TakeWhole + Send + 'static,
{
    response.map(|mut body| match body.take_whole() {
        Some(whole) => Body::full(whole),
        None => Body::new(body),
    })
}

/// What a leaf does.
#[derive(Clone, Copy)]
enum Act {
    Says(u16),
    Breaks,
    Refuses,
    Hangs,
}

/// Does as it was told last, and remembers the bodies that reached it.
#[derive(Clone)]
struct Leaf {
    act: Arc<Mutex<Act>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Leaf {
    fn new(act: Act) -> Self {
        Self { act: Arc::new(Mutex::new(act)), seen: Arc::default() }
    }

    fn now(&self, act: Act) {
        *self.act.lock().expect("nobody panicked") = act;
    }

    fn calls(&self) -> usize {
        self.seen.lock().expect("nobody panicked").len()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("nobody panicked").clone()
    }

    async fn answer<B>(self, body: B) -> Result<Response<Body>, BoxError>
    where
        B: http_body::Body<Error = BoxError>,
    {
        let body = http_body_util::BodyExt::collect(body).await?.to_bytes();
        let body = String::from_utf8(body.to_vec()).expect("it is text");
        self.seen.lock().expect("nobody panicked").push(body);
        let act = *self.act.lock().expect("nobody panicked");
        match act {
            Act::Says(code) => Ok(status(code)),
            Act::Breaks => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            Act::Refuses => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
            Act::Hangs => pending().await,
        }
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

impl<B> Service<Call<Request<B>>> for Leaf
where
    B: http_body::Body<Error = BoxError, Data: Send> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call<Request<B>>) -> Answering {
        Box::pin(self.clone().answer(call.request.into_body()))
    }
}

/// What was heard of fallbacks: by whom, and with which code.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn observer(&self) -> Observer {
        let heard = Arc::clone(&self.0);
        Observer::new(move |event| {
            let line = match event {
                Event::FellBack { by, reason, .. } => format!("{by}: {reason}"),
                Event::NoFallback { by, reason, .. } => format!("no {by}: {reason}"),
                _ => return,
            };
            heard.lock().expect("nobody panicked").push(line);
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panicked"))
    }
}

struct Scene {
    first: Leaf,
    other: Leaf,
    heard: Heard,
}

impl Scene {
    fn new(first: Act, other: Act) -> Self {
        let (first, other) = (Leaf::new(first), Leaf::new(other));
        Self { first, other, heard: Heard::default() }
    }

    fn config(&self) -> FallbackConfig {
        FallbackConfig::named("eu").observer(self.heard.observer())
    }

    fn layer<R>(&self, rule: R) -> FallbackLayer<Leaf, R, HttpClassifier> {
        FallbackLayer::new(self.config(), rule, self.other.clone(), HttpClassifier::new())
    }

    async fn call(&self, request: Call<Request<Body>>) -> Result<Response<Body>, BoxError> {
        call(&mut self.layer(Unavailable::new()).layer(self.first.clone()), request).await
    }

    fn calls(&self) -> (usize, usize) {
        (self.first.calls(), self.other.calls())
    }
}

fn fell_back(response: &Response<Body>) -> FellBack {
    response.fell_back().expect("it came from a fallback").clone()
}

// Another service.

#[tokio::test(start_paused = true)]
async fn another_service_answers_in_the_place_of_one_that_fails_and_says_so() {
    for (act, reason, outcome) in [
        (Act::Says(503), Reason::Service, Outcome::Response(Some(503))),
        (Act::Says(500), Reason::Endpoint, Outcome::Response(Some(500))),
        (Act::Breaks, Reason::Endpoint, Outcome::Error("connection reset".into())),
    ] {
        let scene = Scene::new(act, Act::Says(200));
        let response = scene.call(get()).await.expect("the other one answers");
        assert_eq!(response.status(), StatusCode::OK);
        let noted = fell_back(&response);
        assert_eq!((noted.by, noted.reason, noted.outcome), ("eu", reason, outcome));
        assert_eq!(noted.age, None);
        assert_eq!(scene.calls(), (1, 1));
        assert_eq!(scene.other.seen(), ["hello"], "the body comes whole");
        assert_eq!(scene.heard.take(), [format!("eu: {}", reason.code())]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_client_asked_for_wrongly_or_well_stands() {
    for code in [200, 204, 304, 400, 401, 404, 409, 421, 501] {
        let scene = Scene::new(Act::Says(code), Act::Says(200));
        let response = scene.call(get()).await.expect("answered");
        assert_eq!(response.status(), code);
        assert!(response.fell_back().is_none());
        assert_eq!(scene.calls(), (1, 0), "{code}");
        assert!(scene.heard.take().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_happened_goes_elsewhere_only_if_it_is_safe_to_repeat() {
    let mut keyed = post();
    keyed.words.keyed = true;
    let mut said = post();
    said.words.idempotent = Some(true);
    let mut unsafe_get = get();
    unsafe_get.words.idempotent = Some(false);
    for (act, request, goes) in [
        (Act::Breaks, post(), false),
        (Act::Says(500), post(), false),
        (Act::Says(503), post(), false),
        (Act::Breaks, unsafe_get, false),
        (Act::Breaks, keyed, true),
        (Act::Breaks, said, true),
        (Act::Breaks, get(), true),
        // Provably not carried out.
        (Act::Refuses, post(), true),
        (Act::Says(429), post(), true),
    ] {
        let scene = Scene::new(act, Act::Says(200));
        let result = scene.call(request).await;
        assert_eq!(scene.calls(), (1, usize::from(goes)));
        if goes {
            assert!(result.expect("the other one answers").fell_back().is_some());
        } else {
            assert_eq!(scene.heard.take(), ["no eu: not_repeatable"]);
            match act {
                Act::Says(code) => assert_eq!(result.expect("as it was").status(), code),
                _ => assert!(find::<io::Error>(&*result.expect_err("as it was")).is_some()),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_version_answers_where_the_newer_one_is_not_there() {
    let not_there = |first: Act, request| async move {
        let scene = Scene::new(first, Act::Says(200));
        let mut service = scene.layer(NotThere::new()).layer(scene.first.clone());
        let response = call(&mut service, request).await.expect("answered");
        (response.fell_back().map(|noted| noted.reason), scene.other.seen())
    };
    for code in [404, 501] {
        let (reason, seen) = not_there(Act::Says(code), post()).await;
        assert_eq!(reason, Some(Reason::NotThere));
        assert_eq!(seen, ["hello"], "a POST, too: nothing was done");
    }
    for code in [200, 400, 500, 503] {
        assert_eq!(not_there(Act::Says(code), post()).await.0, None, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_is_a_rule() {
    let rule = |ended: &Ended<'_, Response<Body>>| {
        let teapot = ended.outcome.is_ok_and(|response| response.status() == 418);
        teapot.then_some(Reason::Rule)
    };
    let scene = Scene::new(Act::Says(418), Act::Says(200));
    let mut service = scene.layer(rule).layer(scene.first.clone());
    let response = call(&mut service, get()).await.expect("answered");
    assert_eq!(fell_back(&response).reason.code(), "rule");
    // It was processed, and nothing says that it is safe to repeat.
    assert_eq!(call(&mut service, post()).await.expect("as it was").status(), 418);
    fn is_a_rule<R: Rule<Response<Body>>>(_: &R) {}
    is_a_rule(&rule);
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_error_says_what_each_did_and_whether_it_may_have_happened() {
    for (first, other, sent) in [
        (Act::Refuses, Act::Refuses, Sent::No),
        (Act::Refuses, Act::Breaks, Sent::Maybe),
        (Act::Breaks, Act::Refuses, Sent::Maybe),
        (Act::Says(500), Act::Refuses, Sent::Processed),
    ] {
        let scene = Scene::new(first, other);
        let error = scene.call(get()).await.expect_err("both fail");
        let both = find::<BothFailed>(&*error).expect("it says so");
        assert_eq!(both.sent(), sent);
        let verdict = verdict_on_error(&*error);
        assert_eq!((verdict.sent, verdict.retry), (sent, Retry::Never));
        assert_eq!(verdict.blame, Blame::Endpoint);
        assert!(find::<io::Error>(&*error).is_some(), "the other's error");
        assert_eq!(both.first().by, "eu");
        assert_eq!(scene.heard.take(), ["no eu: failed"]);
    }
    let scene = Scene::new(Act::Says(503), Act::Refuses);
    let error = scene.call(get()).await.expect_err("both fail");
    assert_eq!(error.to_string(), "the fallback \"eu\" failed, too; before it was status 503");
    // A response is an answer, whatever it says.
    let scene = Scene::new(Act::Breaks, Act::Says(503));
    assert_eq!(fell_back(&scene.call(get()).await.expect("an answer")).reason, Reason::Endpoint);
}

#[tokio::test(start_paused = true)]
async fn a_body_past_the_cap_is_sent_once_and_has_no_fallback() {
    let scene = Scene::new(Act::Says(503), Act::Says(200));
    let config = scene.config().replay_cap(4);
    let layer =
        FallbackLayer::new(config, Unavailable::new(), scene.other.clone(), HttpClassifier::new());
    let mut service = layer.layer(scene.first.clone());
    let response = call(&mut service, get()).await.expect("as it was");
    assert_eq!(response.status(), 503);
    assert_eq!(scene.first.seen(), ["hello"]);
    assert_eq!(scene.heard.take(), ["no eu: not_replayable"]);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_waited_for_and_the_one_that_was_waited_for_is_called() {
    // tower's limit panics when an instance is called that was not polled.
    let scene = Scene::new(Act::Says(503), Act::Says(200));
    let limited =
        ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(scene.other.clone());
    let mut holder = limited.clone();
    assert!(ServiceExt::<Sending>::ready(&mut holder).await.is_ok());
    let layer =
        FallbackLayer::new(scene.config(), Unavailable::new(), limited, HttpClassifier::new());
    let mut service = layer.layer(scene.first.clone());
    let mut waits = pin!(call(&mut service, get()));
    assert!(poll_once(waits.as_mut()).is_pending());
    assert_eq!(scene.calls(), (1, 0));
    drop(holder);
    assert!(waits.await.expect("the other one answers").fell_back().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_drops_whichever_is_under_way() {
    let scene = Scene::new(Act::Says(503), Act::Hangs);
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let other = service_fn(move |_: Sending| {
        let held = Arc::clone(&held);
        async move {
            let _held = held;
            pending::<Result<Response<Body>, BoxError>>().await
        }
    });
    let layer =
        FallbackLayer::new(scene.config(), Unavailable::new(), other, HttpClassifier::new());
    let mut service = layer.layer(scene.first.clone());
    {
        let mut future = pin!(call(&mut service, get()));
        assert!(poll_once(future.as_mut()).is_pending());
        assert_eq!(Arc::strong_count(&alive), 3);
    }
    assert_eq!(Arc::strong_count(&alive), 2);
    assert!(scene.heard.take().is_empty());
}

// Time.

fn deadline(limit: Duration) -> DeadlineLayer {
    DeadlineLayer::new(limit).expect("sound")
}

#[tokio::test(start_paused = true)]
async fn a_quarter_of_the_time_is_kept_for_the_fallback() {
    let scene = Scene::new(Act::Hangs, Act::Says(200));
    let mut service = ServiceBuilder::new()
        .layer(deadline(SECOND))
        .layer(scene.layer(Unavailable::new()))
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(deadline(SECOND))
        .service(scene.first.clone());
    let began = now();
    let response = call(&mut service, get()).await.expect("in time");
    assert_eq!(now() - began, 750 * MS);
    assert_eq!(response.extensions().get::<FellBack>().expect("labelled").reason, Reason::Endpoint);

    // The fallback itself has all that is left of the call, and not a moment more.
    scene.other.now(Act::Hangs);
    let began = now();
    let Err(error) = call(&mut service, get()).await else {
        panic!("the other one hangs");
    };
    assert_eq!(now() - began, SECOND);
    let elapsed = find::<Elapsed>(&*error).expect("the time is up");
    assert_eq!((elapsed.which(), elapsed.sent()), (Which::Total, Sent::Maybe));
}

#[tokio::test(start_paused = true)]
async fn with_no_time_left_the_fallback_is_not_called() {
    let scene = Scene::new(Act::Hangs, Act::Says(200));
    let config = scene.config().reserve_percent(0).expect("it may be none");
    let layer =
        FallbackLayer::new(config, Unavailable::new(), scene.other.clone(), HttpClassifier::new());
    let mut service = ServiceBuilder::new()
        .layer(layer)
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(deadline(SECOND))
        .service(scene.first.clone());
    let mut request = get();
    request.words.deadline = Some(now() + SECOND);
    let error = call(&mut service, request).await.expect_err("the time is up");
    assert!(find::<Elapsed>(&*error).is_some());
    assert_eq!(scene.calls(), (1, 0));
    assert_eq!(scene.heard.take(), ["no eu: deadline"]);
}

/// Goal: a deadline above knows whether the call may have happened, through the fallback.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_fallback_was_not_sent_unless_the_first_was() {
    for (first, expected) in [(Act::Refuses, Sent::No), (Act::Breaks, Sent::Maybe)] {
        let scene = Scene::new(first, Act::Says(200));
        let limited =
            ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(scene.other.clone());
        let mut holder = limited.clone();
        assert!(ServiceExt::<Sending>::ready(&mut holder).await.is_ok());
        let layer =
            FallbackLayer::new(scene.config(), Unavailable::new(), limited, HttpClassifier::new());
        let mut service =
            ServiceBuilder::new().layer(deadline(SECOND)).layer(layer).service(scene.first.clone());
        let Err(error) = call(&mut service, get()).await else {
            panic!("nobody is free");
        };
        assert_eq!(find::<Elapsed>(&*error).expect("the time is up").sent(), expected);
    }
}

/// Goal: what the fallback does not say is not taken from the call before it.
#[tokio::test(start_paused = true)]
async fn a_fallback_that_hangs_may_have_been_sent_although_the_first_was_not() {
    let scene = Scene::new(Act::Hangs, Act::Hangs);
    // As a transport does that finds nobody.
    let first = service_fn(async |_: Sending| {
        mark_unsent();
        sleep(MS).await;
        Err::<Response<Body>, BoxError>(io::Error::from(io::ErrorKind::ConnectionRefused).into())
    });
    let mut service = ServiceBuilder::new()
        .layer(deadline(SECOND))
        .layer(scene.layer(Unavailable::new()))
        .service(first);
    let Err(error) = call(&mut service, post()).await else { panic!("the other one hangs") };
    assert_eq!(find::<Elapsed>(&*error).expect("the time is up").sent(), Sent::Maybe);
    assert_eq!(scene.calls(), (0, 1));
}

// Beneath and above its neighbours.

fn retry() -> RetryLayer<HttpClassifier> {
    let backoff = Backoff::new(MS, MS).expect("sound");
    let config = RetryConfig::new().entropy(Entropy::seeded(11)).backoff(backoff);
    RetryLayer::new(config, HttpClassifier::new())
}

#[tokio::test(start_paused = true)]
async fn above_a_retry_it_answers_when_all_attempts_are_made() {
    let scene = Scene::new(Act::Breaks, Act::Says(200));
    let mut service = ServiceBuilder::new()
        .layer(scene.layer(Unavailable::new()))
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(retry())
        .service(scene.first.clone());
    let response = call(&mut service, get()).await.expect("the other one answers");
    assert_eq!(scene.calls(), (3, 1));
    assert_eq!(scene.first.seen(), ["hello"; 3]);
    assert_eq!(scene.other.seen(), ["hello"]);
    let Outcome::Error(words) = fell_back(&response).outcome else { panic!("it was an error") };
    assert!(words.starts_with("failed after 3 attempts"), "{words}");
    // An attempt that may have happened counts, though a POST is not retried.
    let error = call(&mut service, post()).await.expect_err("not safe");
    assert_eq!(verdict_on_error(&*error).sent, Sent::Maybe);
    assert_eq!(scene.calls(), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_beneath_sends_every_call_to_the_fallback() {
    let scene = Scene::new(Act::Says(200), Act::Says(200));
    let breaker = Breaker::new(BreakerConfig::new());
    breaker.force_open();
    let mut service = ServiceBuilder::new()
        .layer(scene.layer(Unavailable::new()))
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(retry())
        .layer(BreakerLayer::new(breaker, HttpClassifier::new()))
        .service(scene.first.clone());
    let response = call(&mut service, post()).await.expect("the other one answers");
    assert_eq!(fell_back(&response).reason, Reason::Refused);
    assert_eq!(scene.calls(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_throttle_beneath_refuses_goes_to_the_fallback() {
    let scene = Scene::new(Act::Says(429), Act::Says(200));
    let config = ThrottleConfig::new().window(SECOND).expect("sound");
    let throttle = Throttle::with_entropy(config, &Entropy::seeded(7));
    let mut service = ServiceBuilder::new()
        .layer(scene.layer(Unavailable::new()))
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(ThrottleLayer::new(throttle, HttpClassifier::new()))
        .service(scene.first.clone());
    let mut refused = 0;
    for _ in 0..100 {
        let response = call(&mut service, post()).await.expect("the other one answers");
        refused += usize::from(fell_back(&response).reason == Reason::Refused);
    }
    assert!(refused > 50, "{refused}");
    assert_eq!(scene.calls(), (100 - refused, 100));
    assert!(std::error::Error::source(&throttled()).is_some());
}

/// A refusal, to see that it carries its verdict where a fallback's rule looks for it.
fn throttled() -> Throttled {
    let config = ThrottleConfig::new().window(SECOND).expect("sound");
    let mut tally = buttress::throttle::Tally::new(&config, now());
    for _ in 0..10 {
        let ticket = tally.ask(now(), || 0.99).expect("sent");
        tally.settle(ticket, buttress::classify::Verdict::TIMED_OUT, now());
    }
    tally.ask(now(), || 0.0).expect_err("refused")
}

// Answers from what this program has itself.

fn stand_in<A>(
    heard: &Heard,
    name: &'static str,
    stand_in: A,
) -> StandInLayer<A, Unavailable, HttpClassifier> {
    let config = StandInConfig::named(name).observer(heard.observer());
    StandInLayer::new(config, Unavailable::new(), stand_in, HttpClassifier::new())
}

fn minute() -> StaleConfig {
    StaleConfig::new().max_age(Duration::from_secs(60)).expect("above zero")
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_is_given_again_for_a_while_and_says_its_age() {
    let (leaf, heard) = (Leaf::new(Act::Says(200)), Heard::default());
    let mut service = stand_in(&heard, "stale", Stale::new(minute(), by_uri)).layer(leaf.clone());
    let fresh = call(&mut service, get()).await.expect("answered");
    assert!(fresh.fell_back().is_none());
    assert_eq!(fresh.into_body().collect().await.expect("whole"), "200", "untouched");

    leaf.now(Act::Breaks);
    advance(Duration::from_secs(60)).await;
    let stale = call(&mut service, get()).await.expect("remembered");
    assert_eq!(
        (stale.status(), &stale.headers()[AGE]),
        (StatusCode::OK, &"60".parse().expect("it"))
    );
    let noted = fell_back(&stale);
    assert_eq!((noted.by, noted.reason), ("stale", Reason::Endpoint));
    assert_eq!(noted.age, Some(Duration::from_secs(60)));
    assert_eq!(noted.verdict.sent, Sent::Maybe);
    assert_eq!(stale.into_body().collect().await.expect("whole"), "200");
    assert_eq!(heard.take(), ["stale: endpoint"]);

    advance(MS).await;
    let error = call(&mut service, get()).await.expect_err("too old");
    assert!(find::<io::Error>(&*error).is_some(), "what the service said");
    assert_eq!(heard.take(), ["no stale: unknown"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_service_says_otherwise_is_forgotten() {
    for (act, request) in [
        (Act::Says(404), get()),
        (Act::Says(403), get()),
        (Act::Says(204), request(Method::DELETE)),
    ] {
        let (leaf, heard) = (Leaf::new(Act::Says(200)), Heard::default());
        let stale = Stale::new(minute(), by_uri);
        let mut service = stand_in(&heard, "stale", stale.clone()).layer(leaf.clone());
        assert!(call(&mut service, get()).await.is_ok());
        assert_eq!(stale.len(), 1);
        leaf.now(act);
        let response = call(&mut service, request).await.expect("answered");
        assert!(response.fell_back().is_none());
        assert!(stale.is_empty());
    }
    // A write that failed has changed nothing, as far as one knows.
    let (leaf, heard) = (Leaf::new(Act::Says(200)), Heard::default());
    let stale = Stale::new(minute(), by_uri);
    let mut service = stand_in(&heard, "stale", stale.clone()).layer(leaf.clone());
    assert!(call(&mut service, get()).await.is_ok());
    leaf.now(Act::Breaks);
    assert!(call(&mut service, post()).await.is_err());
    assert_eq!(stale.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_hides_no_fault_of_the_client_and_other_questions_have_none() {
    let (leaf, heard) = (Leaf::new(Act::Says(200)), Heard::default());
    let mut service = stand_in(&heard, "stale", Stale::new(minute(), by_uri)).layer(leaf.clone());
    assert!(call(&mut service, get()).await.is_ok());
    leaf.now(Act::Says(401));
    assert_eq!(call(&mut service, get()).await.expect("as it is").status(), 401);

    leaf.now(Act::Says(200));
    assert!(call(&mut service, get()).await.is_ok());
    leaf.now(Act::Says(503));
    let mut other = get();
    *other.request.uri_mut() = "/others".parse().expect("a path");
    assert_eq!(call(&mut service, other).await.expect("as it is").status(), 503);
    let mut personal = get();
    personal.request.headers_mut().insert("authorization", "Bearer x".parse().expect("it"));
    assert_eq!(call(&mut service, personal).await.expect("as it is").status(), 503);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_remembered_than_was_said() {
    let leaf = Leaf::new(Act::Says(200));
    let stale = Stale::new(minute().entries(2).expect("two"), by_uri);
    let mut service = stand_in(&Heard::default(), "stale", stale.clone()).layer(leaf.clone());
    let of = |path: &'static str| {
        let mut request = get();
        *request.request.uri_mut() = path.parse().expect("a path");
        request
    };
    for path in ["/a", "/b", "/c"] {
        assert!(call(&mut service, of(path)).await.is_ok());
        assert!(stale.len() <= 2);
    }
    leaf.now(Act::Refuses);
    assert!(call(&mut service, of("/a")).await.is_err());
    assert!(call(&mut service, of("/b")).await.is_ok());
    assert!(call(&mut service, of("/c")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn above_the_deadline_a_stand_in_answers_in_the_moment_in_which_the_time_is_up() {
    let (leaf, heard) = (Leaf::new(Act::Says(200)), Heard::default());
    let mut service = ServiceBuilder::new()
        .layer(stand_in(&heard, "stale", Stale::new(minute(), by_uri)))
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(deadline(SECOND))
        .service(leaf.clone());
    let mut remembers = ServiceBuilder::new()
        .layer(stand_in(&heard, "stale", Stale::new(minute(), by_uri)))
        .map_response(whole)
        .layer(deadline(SECOND))
        .service(leaf.clone());
    assert!(call(&mut service, get()).await.is_ok());
    assert!(call(&mut remembers, get()).await.is_ok());
    leaf.now(Act::Hangs);
    let began = now();
    assert!(call(&mut service, get()).await.is_err(), "a stream is not remembered");
    let response = call(&mut remembers, get()).await.expect("remembered");
    assert_eq!(fell_back(&response).age, Some(now() - began));
    assert_eq!(now() - began, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn each_fallback_has_its_turn_the_nearest_first_and_learns_from_the_service_alone() {
    let scene = Scene::new(Act::Says(200), Act::Says(203));
    let stale = Stale::new(minute(), by_uri);
    let mut service = ServiceBuilder::new()
        .layer(stand_in(&scene.heard, "sorry", Fixed::new(|| status(206))))
        .layer(stand_in(&scene.heard, "stale", stale.clone()))
        .layer(scene.layer(Unavailable::new()))
        .service(scene.first.clone());
    let by = |response: &Response<Body>| response.fell_back().map(|noted| noted.by);

    scene.first.now(Act::Breaks);
    let response = call(&mut service, get()).await.expect("answered");
    assert_eq!((by(&response), response.status().as_u16()), (Some("eu"), 203));
    assert!(stale.is_empty(), "that was not the service's own answer");

    scene.other.now(Act::Breaks);
    let response = call(&mut service, get()).await.expect("answered");
    assert_eq!((by(&response), response.status().as_u16()), (Some("sorry"), 206));

    scene.first.now(Act::Says(200));
    assert_eq!(by(&call(&mut service, get()).await.expect("answered")), None);
    scene.first.now(Act::Breaks);
    let response = call(&mut service, get()).await.expect("answered");
    assert_eq!((by(&response), response.status().as_u16()), (Some("stale"), 200));
    let Outcome::Error(words) = fell_back(&response).outcome else { panic!("it was an error") };
    assert!(words.starts_with("the fallback \"eu\" failed, too"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_plain_response_says_it_in_its_answer() {
    let fails = Arc::new(AtomicU32::new(0));
    let leaf = {
        let fails = Arc::clone(&fails);
        service_fn(move |call: Call<u32>| {
            let fails = fails.load(Ordering::Relaxed) > 0;
            async move {
                sleep(MS).await;
                if fails { Err(BoxError::from("down")) } else { Ok(call.request * 2) }
            }
        })
    };
    let stale = Stale::new(minute(), |number: &u32| Key::Remember(*number));
    let mut service = ServiceBuilder::new()
        .layer(StandInLayer::new(
            StandInConfig::named("zero"),
            Unavailable::new(),
            Fixed::new(|| Answer::new(0)),
            PlainClassifier::new(),
        ))
        .layer(StandInLayer::new(
            StandInConfig::named("stale"),
            Unavailable::new(),
            stale,
            PlainClassifier::new(),
        ))
        .map_response(Answer::new)
        .service(leaf);
    let fresh = call(&mut service, Call::new(21)).await.expect("answered");
    assert_eq!((fresh.response, fresh.fell_back), (42, None));
    fails.store(1, Ordering::Relaxed);
    let stale = call(&mut service, Call::new(21)).await.expect("remembered");
    assert_eq!((stale.response, stale.fell_back().map(|noted| noted.by)), (42, Some("stale")));
    let zero = call(&mut service, Call::new(4)).await.expect("fixed");
    assert_eq!((zero.response, zero.fell_back().map(|noted| noted.by)), (0, Some("zero")));
}

#[tokio::test(start_paused = true)]
async fn an_http_request_carries_its_words_to_the_fallback() {
    let leaf = |code: u16| {
        service_fn(move |request: Request<ReplayBody<Body>>| async move {
            let words = request.extensions().get::<Words>().expect("they came along");
            assert!(words.deadline.is_some());
            Ok::<_, BoxError>(status(code))
        })
    };
    let layer = FallbackLayer::new(
        FallbackConfig::named("eu"),
        Unavailable::new(),
        leaf(200),
        HttpClassifier::new(),
    );
    let mut service = layer.layer(leaf(503));
    let mut request = get().request;
    request.extensions_mut().insert(Words::new().deadline(now() + SECOND));
    let response = call(&mut service, request).await.expect("answered");
    assert_eq!(fell_back(&response).reason, Reason::Service);
}

#[cfg(feature = "hyper")]
#[tokio::test(start_paused = true)]
async fn a_client_is_a_service_like_any_other_beneath_a_fallback() {
    use buttress::{
        client::{AttemptBody, Client},
        endpoint::Endpoint,
    };

    let client = |code: u16| {
        let builder = Client::builder("http://rates").endpoints([([127, 0, 0, 1], 80).into()]);
        let transport = builder.transport(move |_: &Endpoint| {
            service_fn(move |request: Request<AttemptBody>| async move {
                let body = http_body_util::BodyExt::collect(request.into_body()).await?;
                assert_eq!(body.to_bytes(), "hello");
                if code == 0 {
                    return pending().await;
                }
                Ok::<_, BoxError>(status(code))
            })
        });
        transport.build().expect("sound")
    };
    let layer = FallbackLayer::new(
        FallbackConfig::named("eu"),
        Unavailable::new(),
        client(200),
        HttpClassifier::new(),
    );
    let mut service = layer.layer(client(503));
    let response = call(&mut service, get().request).await.expect("the other one answers");
    assert_eq!((response.status().as_u16(), fell_back(&response).reason), (200, Reason::Service));

    // It keeps to the earlier deadline, so that there is time left for the other one.
    let mut service = layer.layer(client(0));
    let mut request = get().request;
    request.extensions_mut().insert(Words::new().deadline(now() + SECOND));
    let began = now();
    let response = call(&mut service, request).await.expect("the other one answers");
    assert_eq!((now() - began, fell_back(&response).reason), (750 * MS, Reason::Endpoint));
}
