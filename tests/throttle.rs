//! The throttle through its public interface, under paused time.

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
    body::Body,
    breaker::{Breaker, BreakerConfig, BreakerLayer, State as BreakerState},
    call::{Attempts, Call, Words},
    classify::{
        Blame, Classify, HttpClassifier, PlainClassifier, Pushback, Sent, Verdict, verdict_on_error,
    },
    endpoint::Refusal,
    find,
    retry::{Budget, GaveUp, RetryConfig, RetryLayer, StopReason},
    throttle::{Reason, Throttle, ThrottleConfig, ThrottleLayer, Throttled},
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
};
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::BodyExt;
use tokio::time::{advance, sleep, sleep_until};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

const WINDOW: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Judges ten calls and more in ten seconds.
fn quick() -> ThrottleConfig {
    let config = ThrottleConfig::new().window(WINDOW);
    config.and_then(|config| config.minimum_rate(1)).expect("these settings work")
}

fn throttle() -> Throttle {
    Throttle::with_entropy(quick(), &Entropy::seeded(7))
}

/// Requests and accepts, as the handle tells them.
fn counts(throttle: &Throttle) -> (u64, u64) {
    let state = throttle.state();
    (state.requests, state.accepts)
}

fn get() -> Request<Body> {
    Request::new(Body::empty())
}

fn throttled(error: &BoxError) -> Option<Throttled> {
    find::<Throttled>(&**error).copied()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Answers with a status, and counts what reaches it.
#[derive(Clone)]
struct Leaf {
    status: Arc<Mutex<StatusCode>>,
    calls: Arc<AtomicU32>,
}

impl Leaf {
    fn new(status: StatusCode) -> Self {
        Self { status: Arc::new(Mutex::new(status)), calls: Arc::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn answers(&self, status: StatusCode) {
        *self.status.lock().expect("nobody panicked") = status;
    }
}

impl<R> Service<R> for Leaf {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(Body::full("done"));
        *response.status_mut() = *self.status.lock().expect("nobody panicked");
        std::future::ready(Ok(response))
    }
}

async fn call<S, C>(service: &mut S, call: C) -> Result<S::Response, BoxError>
where
    S: Service<C, Error = BoxError>,
{
    service.ready().await?.call(call).await
}

/// Calls as often as it says, and reads the answers. How many were refused here?
async fn calls<S, B>(service: &mut S, number: u32) -> u32
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let mut refused = 0;
    for _ in 0..number {
        match call(service, get()).await {
            Ok(response) => drop(response.into_body().collect().await.expect("in memory")),
            Err(error) => {
                assert!(throttled(&error).is_some(), "{error}");
                refused += 1;
            }
        }
    }
    refused
}

/// A throttle that refuses nine calls in ten.
async fn refusing() -> Throttle {
    let throttle = throttle();
    let leaf = Leaf::new(StatusCode::SERVICE_UNAVAILABLE);
    let layer = ThrottleLayer::new(throttle.clone(), HttpClassifier::new());
    calls(&mut layer.layer(leaf), 100).await;
    assert_eq!(throttle.state().probability, 0.9);
    throttle
}

#[tokio::test(start_paused = true)]
async fn refuses_nine_in_ten_when_the_service_refuses_all_and_nobody_counts_twice() {
    let throttle = throttle();
    let leaf = Leaf::new(StatusCode::SERVICE_UNAVAILABLE);
    let layer = ThrottleLayer::new(throttle.clone(), HttpClassifier::new());
    let mut service = layer.layer(leaf.clone());
    assert_eq!(calls(&mut service, 10).await, 0, "too few to judge");
    let refused = calls(&mut service, 1000).await;
    assert!((870..=930).contains(&refused), "{refused}");
    assert_eq!(leaf.calls(), 1010 - refused);
    assert_eq!(counts(&throttle), (1010, 0));
}

#[tokio::test(start_paused = true)]
async fn a_healthy_service_is_never_refused() {
    let throttle = throttle();
    let leaf = Leaf::new(StatusCode::OK);
    let layer = ThrottleLayer::new(throttle.clone(), HttpClassifier::new());
    let mut service = layer.layer(leaf.clone());
    for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
        leaf.answers(status);
        assert_eq!(calls(&mut service, 500).await, 0, "{status}");
    }
    assert_eq!(counts(&throttle), (1500, 1500));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why_and_that_nothing_was_sent() {
    let throttle = refusing().await;
    let leaf = Leaf::new(StatusCode::OK);
    let mut service = ThrottleLayer::new(throttle, PlainClassifier::new()).layer(leaf.clone());
    let error = loop {
        if let Err(error) = call(&mut service, Call::new(())).await {
            break error;
        }
    };
    let refused = throttled(&error).expect("refused here");
    assert_eq!(refused.reason.code(), "no_accepts");
    assert_eq!(refused.retry_at, None);
    let verdict = verdict_on_error(&*error);
    assert_eq!((verdict.blame, verdict.sent), (Blame::Nobody, Sent::No));
    assert_eq!(verdict.pushback, Pushback::Never);
    assert!(!verdict.permits_retry(true));
    assert!(error.to_string().starts_with("throttled: the service took 0 of the last "));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_the_service_wants_to_be_called_again() {
    let throttle = throttle();
    let leaf = service_fn(async |_: Request<Body>| {
        let response = Response::builder().status(429).header(RETRY_AFTER, "3");
        Ok::<_, BoxError>(response.body(Body::empty()).expect("it is whole"))
    });
    let mut service = ThrottleLayer::new(throttle, HttpClassifier::new()).layer(leaf);
    let asked = now() + Duration::from_secs(3);
    let refused = loop {
        if let Err(error) = call(&mut service, get()).await {
            break throttled(&error).expect("refused here");
        }
    };
    assert_eq!(refused.retry_at, Some(asked));
}

#[tokio::test(start_paused = true)]
async fn serves_a_plain_request_in_a_call_and_one_of_http() {
    let leaf = Leaf::new(StatusCode::OK);
    let plain = ThrottleLayer::new(quick(), PlainClassifier::new());
    assert!(plain.layer(leaf.clone()).oneshot(Call::new("hello")).await.is_ok());
    assert_eq!(counts(plain.throttle().expect("there is one")), (1, 1));

    let http = ThrottleLayer::new(quick(), HttpClassifier::new());
    assert!(http.layer(leaf).oneshot(get()).await.is_ok());
    assert_eq!(counts(http.throttle().expect("there is one")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_layer_without_a_throttle_lets_every_call_pass() {
    let leaf = Leaf::new(StatusCode::SERVICE_UNAVAILABLE);
    let mut service = ThrottleLayer::optional(None, HttpClassifier::new()).layer(leaf.clone());
    assert_eq!(calls(&mut service, 1000).await, 0);
    assert_eq!(leaf.calls(), 1000);
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_drops_gives_its_request_back_wherever_it_is() {
    let throttle = throttle();
    let layer = ThrottleLayer::new(throttle.clone(), PlainClassifier::new());
    let mut hangs = layer.layer(service_fn(|_: Call<()>| pending::<Result<(), BoxError>>()));
    // Before its first poll.
    drop(hangs.call(Call::new(())));
    // While it waits, with a deadline that has not passed.
    let deadline = now() + Duration::from_secs(1);
    {
        let mut future = pin!(hangs.call(Call::with_words((), Words::new().deadline(deadline))));
        assert!(poll_once(future.as_mut()).is_pending());
        assert_eq!(throttle.state().pending, 1);
    }
    let state = throttle.state();
    assert_eq!((state.requests, state.accepts, state.pending), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_deadline_cuts_off_was_not_accepted() {
    let throttle = throttle();
    let mut service = ServiceBuilder::new()
        .layer(DeadlineLayer::plain(Duration::from_secs(1)).expect("sound"))
        .layer(ThrottleLayer::new(throttle.clone(), PlainClassifier::new()))
        .service(service_fn(|_: Call<()>| pending::<Result<(), BoxError>>()));
    for _ in 0..3 {
        assert!(call(&mut service, Call::new(())).await.is_err());
    }
    let state = throttle.state();
    assert_eq!((state.requests, state.accepts, state.pending), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_beneath_was_not_accepted() {
    let throttle = throttle();
    let mut service = ServiceBuilder::new()
        .layer(ThrottleLayer::new(throttle.clone(), PlainClassifier::new()))
        .layer(AttemptTimeoutLayer::new(Duration::from_millis(100)).expect("sound"))
        .service(service_fn(|_: Call<()>| pending::<Result<(), BoxError>>()));
    let mut refused = 0;
    for _ in 0..30 {
        let error = call(&mut service, Call::new(())).await.expect_err("it hangs");
        refused += u32::from(throttled(&error).is_some());
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(counts(&throttle), (30, 0));
}

#[tokio::test(start_paused = true)]
async fn an_accept_is_settled_once_at_the_end_of_the_body() {
    let throttle = throttle();
    let leaf = Leaf::new(StatusCode::OK);
    let layer = ThrottleLayer::new(throttle.clone(), HttpClassifier::new());
    let mut service = layer.layer(leaf.clone());
    let response = call(&mut service, get()).await.expect("answered");
    assert_eq!(throttle.state().pending, 1, "the body may yet break off");
    let mut body = response.into_body();
    while body.frame().await.is_some() {}
    assert_eq!(counts(&throttle), (1, 1));
    drop(body);
    assert_eq!(counts(&throttle), (1, 1));
    // What is dropped unread leaves the head's verdict.
    drop(call(&mut service, get()).await.expect("answered"));
    assert_eq!(counts(&throttle), (2, 2));
    // A failure is settled at its head, its body dropped or not.
    leaf.answers(StatusCode::SERVICE_UNAVAILABLE);
    let failed = call(&mut service, get()).await.expect("answered");
    assert_eq!((counts(&throttle), throttle.state().pending), ((3, 2), 0));
    drop(failed);
    assert_eq!(counts(&throttle), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_comes_after_the_window_is_not_counted() {
    let throttle = throttle();
    let layer = ThrottleLayer::new(throttle.clone(), PlainClassifier::new());
    let mut slow = layer.layer(service_fn(async |_: Call<()>| {
        sleep(WINDOW).await;
        Ok::<_, BoxError>(())
    }));
    assert!(call(&mut slow, Call::new(())).await.is_ok());
    assert_eq!(counts(&throttle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn each_refusal_is_an_event_with_a_stable_reason() {
    let heard: Arc<Mutex<Vec<(&str, f64)>>> = Arc::default();
    let listener = Arc::clone(&heard);
    let config = quick().observer(Observer::new(move |event| {
        if let Event::Throttled { reason, probability } = event {
            listener.lock().expect("nobody panicked").push((reason, *probability));
        }
    }));
    let throttle = Throttle::with_entropy(config, &Entropy::seeded(7));
    let leaf = Leaf::new(StatusCode::OK);
    let layer = ThrottleLayer::new(throttle, HttpClassifier::new());
    let mut service = layer.layer(leaf.clone());
    assert_eq!(calls(&mut service, 1).await, 0);
    leaf.answers(StatusCode::TOO_MANY_REQUESTS);
    let refused = calls(&mut service, 100).await;
    advance(WINDOW).await;
    let more = calls(&mut service, 100).await;
    let heard = heard.lock().expect("nobody panicked");
    let (few, none) = heard.split_at(refused as usize);
    assert!(few.iter().all(|&(reason, _)| reason == Reason::FewAccepts.code()));
    assert!(none.iter().all(|&(reason, _)| reason == Reason::NoAccepts.code()));
    assert_eq!(none.len(), more as usize);
    assert!(!few.is_empty() && !none.is_empty());
    assert!(heard.iter().all(|&(_, probability)| probability > 0.0 && probability <= 0.9));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_is_waited_for_and_called_by_who_waited() {
    // tower's limit panics when an instance is called that was not polled.
    let throttle = refusing().await;
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Leaf::new(StatusCode::OK));
    let layer = ThrottleLayer::new(throttle, HttpClassifier::new());
    let mut service = layer.layer(limited);
    let mut other = service.clone();
    // Whoever was refused does not hold the only place for ever.
    for _ in 0..100 {
        calls(&mut service, 1).await;
    }
    assert!(ServiceExt::<Request<Body>>::ready(&mut service).await.is_ok());
    {
        let mut waits = pin!(ServiceExt::<Request<Body>>::ready(&mut other));
        assert!(poll_once(waits.as_mut()).is_pending(), "the place is the first one's");
    }
    drop(service);
    assert!(ServiceExt::<Request<Body>>::ready(&mut other).await.is_ok());
}

// Beneath and above its neighbours.

fn retry(budget: &Budget) -> RetryLayer<HttpClassifier> {
    let backoff = Backoff::new(MS, MS).expect("sound");
    let config = RetryConfig::new().entropy(Entropy::seeded(11)).backoff(backoff);
    RetryLayer::new(config.budget(budget.clone()), HttpClassifier::new())
}

#[tokio::test(start_paused = true)]
async fn a_retry_above_does_not_try_a_refusal_again_nor_pay_for_it() {
    let throttle = refusing().await;
    let budget = Budget::default();
    let full = budget.balance();
    let leaf = Leaf::new(StatusCode::OK);
    let mut service = ServiceBuilder::new()
        .layer(retry(&budget))
        .layer(ThrottleLayer::new(throttle.clone(), HttpClassifier::new()))
        .service(leaf.clone());
    let before = throttle.state().requests;
    let mut refused = 0;
    for _ in 0..50 {
        if let Err(error) = call(&mut service, get()).await {
            assert!(throttled(&error).is_some());
            let gave_up = find::<GaveUp>(&*error).expect("a retry stands above");
            assert_eq!(gave_up.attempts().len(), 1);
            assert_eq!(gave_up.reason(), StopReason::NotRetryable);
            assert_eq!(gave_up.sent(), Sent::No);
            refused += 1;
        }
    }
    assert!(refused > 30, "{refused}");
    assert_eq!(budget.balance(), full);
    let state = throttle.state();
    assert_eq!(state.requests + state.pending - before, 50, "one request a call");
    assert_eq!(leaf.calls(), 50 - refused);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_hide_what_an_earlier_attempt_met_and_costs_no_budget() {
    let budget = Budget::default();
    let leaf = Leaf::new(StatusCode::SERVICE_UNAVAILABLE);
    let throttle = throttle();
    let mut service = ServiceBuilder::new()
        .layer(retry(&budget))
        .layer(ThrottleLayer::new(throttle, HttpClassifier::new()))
        .service(leaf.clone());
    let mut met = 0;
    for _ in 0..200 {
        let before = budget.balance();
        let Ok(response) = call(&mut service, get()).await else {
            continue;
        };
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let attempts = response.extensions().get::<Attempts>().expect("it was retried");
        let last = attempts.last().expect("there was one");
        if attempts.len() == 2 && last.verdict.sent == Sent::No {
            assert_eq!(budget.balance(), before, "the retry that was refused is given back");
            met += 1;
        }
    }
    assert!(met > 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_breaker_beneath_refuses_gives_its_request_back() {
    let throttle = throttle();
    let breaker = Breaker::new(BreakerConfig::new());
    breaker.force_open();
    let mut service = ServiceBuilder::new()
        .layer(ThrottleLayer::new(throttle.clone(), HttpClassifier::new()))
        .layer(BreakerLayer::new(breaker, HttpClassifier::new()))
        .service(Leaf::new(StatusCode::OK));
    for _ in 0..100 {
        let Err(error) = call(&mut service, get()).await else { panic!("the breaker is open") };
        assert!(find::<Refusal>(&*error).is_some());
    }
    assert_eq!(counts(&throttle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_here_neither_opens_nor_closes_a_breaker_above() {
    let throttle = refusing().await;
    let config = BreakerConfig::new().consecutive_failures(1).expect("one is enough");
    let breaker = Breaker::new(config);
    let mut service = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone(), HttpClassifier::new()))
        .layer(ThrottleLayer::new(throttle, HttpClassifier::new()))
        .service(Leaf::new(StatusCode::OK));
    assert!(calls(&mut service, 50).await > 30);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_local_to_every_classifier_of_the_house() {
    let throttle = refusing().await;
    let layer = ThrottleLayer::new(throttle, HttpClassifier::new());
    let mut service = layer.layer(Leaf::new(StatusCode::OK));
    let error = loop {
        if let Err(error) = call(&mut service, get()).await {
            break error;
        }
    };
    let of_http: Verdict =
        Classify::<Response<Body>>::error(&HttpClassifier::new(), Words::new().asked(), &*error);
    assert_eq!(of_http, verdict_on_error(&*error));
    assert!(!of_http.is_failure());
}

// The simulation: what it is for.

const DEFAULT_SEED: u64 = 20_261_125;

fn seed() -> u64 {
    let seed = match std::env::var("BUTTRESS_SEED") {
        Ok(text) => text.parse().expect("BUTTRESS_SEED is a whole number"),
        Err(_) => DEFAULT_SEED,
    };
    // The harness shows it when the test fails.
    eprintln!("BUTTRESS_SEED={seed}");
    seed
}

/// The test's own chance (SplitMix64): the library's generator draws for itself.
struct Chance(u64);

impl Chance {
    fn exponential(&mut self, mean: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        mean.mul_f64(-(1.0 - unit).ln())
    }
}

/// One worker, who does 100 calls a second and nothing else, or refuses at a fifth of the price.
const CAPACITY: f64 = 100.0;
const PRICE_OF_REFUSING: f64 = 0.2;
/// What waits for longer than this is refused.
const QUEUE: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Backend(Arc<Mutex<Work>>);

struct Work {
    /// Until when it has work.
    busy: Instant,
    answering: Duration,
    refusing: Duration,
}

impl Backend {
    fn new() -> Self {
        let (answering, refusing) = (Duration::ZERO, Duration::ZERO);
        Self(Arc::new(Mutex::new(Work { busy: now(), answering, refusing })))
    }

    /// Takes a call, and says when it is answered and how.
    fn takes(&self) -> (Instant, StatusCode) {
        let mut work = self.0.lock().expect("nobody panicked");
        let begins = work.busy.max(now());
        let full = Duration::from_secs_f64(1.0 / CAPACITY);
        if begins - now() > QUEUE {
            let price = full.mul_f64(PRICE_OF_REFUSING);
            work.refusing += price;
            work.busy = begins + price;
            (work.busy, StatusCode::SERVICE_UNAVAILABLE)
        } else {
            work.answering += full;
            work.busy = begins + full;
            (work.busy, StatusCode::OK)
        }
    }

    /// What it has spent since it was asked last: on answers, and on refusals.
    fn spent(&self) -> (f64, f64) {
        let mut work = self.0.lock().expect("nobody panicked");
        let spent = (work.answering.as_secs_f64(), work.refusing.as_secs_f64());
        (work.answering, work.refusing) = (Duration::ZERO, Duration::ZERO);
        spent
    }
}

/// How a stretch of time went.
struct Stretch {
    offered: u32,
    answered: u32,
    /// By a throttle.
    refused: u32,
    answering: f64,
    refusing: f64,
}

impl Stretch {
    /// Of what was offered, so much was answered.
    fn share(&self) -> f64 {
        f64::from(self.answered) / f64::from(self.offered)
    }
}

/// So many clients, each with a throttle of its own or none, and one backend.
struct Fleet<S> {
    clients: Vec<S>,
    backend: Backend,
    chance: Chance,
}

impl<S> Fleet<S>
where
    S: Service<Request<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: HasStatus + Send,
{
    /// Calls come as they like (Poisson), at `rate` a second over all clients.
    async fn run(&mut self, rate: f64, lasts: Duration) -> Stretch {
        let answered = Arc::new(AtomicU32::new(0));
        let refused = Arc::new(AtomicU32::new(0));
        let (mut offered, mut at, ends) = (0, now(), now() + lasts);
        loop {
            // By a plan of instants: timers are late by up to a millisecond, and would add up.
            at += self.chance.exponential(Duration::from_secs_f64(1.0 / rate));
            if at >= ends {
                sleep_until(ends.into()).await;
                break;
            }
            sleep_until(at.into()).await;
            let mut client = self.clients[offered as usize % self.clients.len()].clone();
            offered += 1;
            let (answered, refused) = (Arc::clone(&answered), Arc::clone(&refused));
            tokio::spawn(async move {
                let counter = match call(&mut client, get()).await {
                    Ok(response) if response.code() == StatusCode::OK => answered,
                    Err(error) if throttled(&error).is_some() => refused,
                    _ => return,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (answering, refusing) = self.backend.spent();
        let (answered, refused) =
            (answered.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
        Stretch { offered, answered, refused, answering, refusing }
    }
}

trait HasStatus {
    fn code(&self) -> StatusCode;
}

impl<B> HasStatus for Response<B> {
    fn code(&self) -> StatusCode {
        self.status()
    }
}

/// Four clients with what `layer` makes of the backend.
fn fleet<S>(seed: u64, layer: impl Fn(Entropy, Backend) -> S) -> Fleet<S> {
    let (backend, entropy) = (Backend::new(), Entropy::seeded(seed));
    let clients = (0..4).map(|_| layer(entropy.fork(), backend.clone())).collect();
    Fleet { clients, backend, chance: Chance(seed) }
}

fn leaf(
    backend: Backend,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    service_fn(move |_: Request<Body>| {
        let (at, status) = backend.takes();
        async move {
            sleep_until(at.into()).await;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            Ok::<_, BoxError>(response)
        }
    })
}

/// Goal: the throttle spares the backend the work of refusing, which it has for answers instead,
/// and lets go when the overload ends. Method: the same calls, three times of what the backend
/// can do, once without and once with a throttle in each of four clients that know nothing of
/// each other; then four fifths of what it can do.
#[tokio::test(start_paused = true)]
async fn throttled_clients_spare_a_backend_the_work_of_refusing_and_come_back() {
    let seed = seed();
    let (overload, calm) = (3.0 * CAPACITY, 0.7 * CAPACITY);

    let mut bare = fleet(seed, |_, backend| leaf(backend));
    bare.run(overload, 2 * WINDOW).await;
    let without = bare.run(overload, 6 * WINDOW).await;

    let mut throttled = fleet(seed, |entropy, backend| {
        let throttle = Throttle::with_entropy(quick(), &entropy);
        ThrottleLayer::new(throttle, HttpClassifier::new()).layer(leaf(backend))
    });
    // It takes a window until the share is what it will be.
    throttled.run(overload, 2 * WINDOW).await;
    let with = throttled.run(overload, 6 * WINDOW).await;

    // By the prices: without, half of the work is spent on refusing; with, a sixth.
    let share = |stretch: &Stretch| stretch.refusing / (stretch.answering + stretch.refusing);
    eprintln!("refusing takes {:.2} without, {:.2} with", share(&without), share(&with));
    assert!(share(&without) > 0.45, "{}", share(&without));
    assert!(share(&with) < share(&without) / 2.0, "{} with", share(&with));
    assert!(with.refusing < without.refusing / 2.0);
    eprintln!("answered {} without, {} with", without.answered, with.answered);
    assert!(f64::from(with.answered) > 1.5 * f64::from(without.answered));

    // The overload is over: after a window most calls are sent and answered again, after three
    // all of them. (Some clients had less luck than others, and are as far down as after an outage.)
    throttled.run(calm, WINDOW).await;
    let soon = throttled.run(calm, WINDOW).await;
    throttled.run(calm, WINDOW).await;
    let back = throttled.run(calm, WINDOW).await;
    eprintln!("answered {:.3} after a window, {:.3} after three", soon.share(), back.share());
    assert!(soon.share() > 0.6, "{}", soon.share());
    assert!(back.share() > 0.98, "{}", back.share());
    assert!(f64::from(back.refused) < 0.005 * f64::from(back.offered), "{}", back.refused);
}

/// The same when the backend was gone altogether, so that all that is known of it is bad.
#[tokio::test(start_paused = true)]
async fn after_a_total_outage_most_calls_are_back_within_two_windows_and_all_within_three() {
    let seed = seed();
    let gone = Arc::new(Mutex::new(true));
    let mut fleet = fleet(seed, |entropy, backend| {
        let throttle = Throttle::with_entropy(quick(), &entropy);
        let (leaf, gone) = (leaf(backend), Arc::clone(&gone));
        let leaf = service_fn(move |request| {
            let (mut leaf, gone) = (leaf.clone(), *gone.lock().expect("nobody panicked"));
            async move {
                if gone {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
                }
                leaf.call(request).await
            }
        });
        ThrottleLayer::new(throttle, HttpClassifier::new()).layer(leaf)
    });
    let calm = 0.7 * CAPACITY;
    assert_eq!(fleet.run(calm, 3 * WINDOW).await.answered, 0);
    *gone.lock().expect("nobody panicked") = false;
    let first = fleet.run(calm, 2 * WINDOW).await;
    assert!(first.answered > 0 && first.answered < first.offered);
    let soon = fleet.run(calm, WINDOW).await;
    let back = fleet.run(calm, WINDOW).await;
    eprintln!("answered {:.3} after two windows, {:.3} after three", soon.share(), back.share());
    assert!(soon.share() > 0.75, "{}", soon.share());
    assert!(back.share() > 0.97, "{}", back.share());
}
