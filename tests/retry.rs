//! Retries through the public interface.

use std::{
    collections::VecDeque,
    future::{Future, pending, ready},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    algo::{
        backoff::Backoff,
        bucket::{Class, Tariff},
    },
    body::{Body, ReplayBody},
    call::{
        AttemptKind, Attempts, Call, Cloning, Outcome, Replay, Target, Trail, Words,
        mark_handed_over, mark_target, mark_unsent,
    },
    classify::{
        Blame, HttpClassifier, Mark, PlainClassifier, Pushback, Retry, Sent, Verdict,
        verdict_on_error,
    },
    endpoint::{EndpointKey, Refusal},
    find,
    retry::{Budget, GaveUp, LivePolicy, Policy, RetryConfig, RetryLayer, StopReason},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::Semaphore,
    time::{advance, sleep},
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One poll, by nobody who could be woken.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

// --- A service that does as it is told --------------------------------------------------------

/// What the leaf does with one attempt; after the last of them it answers 200.
enum Act {
    Status(u16),
    Answer(Response<Body>),
    Fail(BoxError),
    Hang,
}

use Act::{Answer, Fail, Hang, Status};

fn refused() -> Act {
    Fail(io::Error::from(io::ErrorKind::ConnectionRefused).into())
}

fn reset() -> Act {
    Fail(io::Error::from(io::ErrorKind::ConnectionReset).into())
}

fn breaker_open(wait: Duration) -> Act {
    Fail(Refusal::until(now() + wait, now()).into())
}

fn asking_for(status: u16, retry_after: &str) -> Act {
    let response = Response::builder().status(status).header(header::RETRY_AFTER, retry_after);
    Answer(response.body(Body::empty()).expect("a response"))
}

/// One attempt as the leaf saw it.
struct Seen {
    at: Instant,
    words: Option<Words>,
    body: Bytes,
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Act>>,
    /// How readiness goes, if not well at once.
    readiness: Mutex<VecDeque<Readiness>>,
    seen: Mutex<Vec<Seen>>,
    polled: AtomicU32,
    in_flight: AtomicU32,
}

enum Readiness {
    Ready,
    Pending,
    Gone,
}

/// Panics if it is called without having been polled ready, as it may; its clones carry no
/// readiness.
#[derive(Default)]
struct Leaf {
    shared: Arc<Shared>,
    ready: bool,
}

impl Leaf {
    fn new(script: impl IntoIterator<Item = Act>) -> Self {
        let leaf = Self::default();
        lock(&leaf.shared.script).extend(script);
        leaf
    }

    fn readiness(self, readiness: impl IntoIterator<Item = Readiness>) -> Self {
        lock(&self.shared.readiness).extend(readiness);
        self
    }

    fn attempts(&self) -> usize {
        lock(&self.shared.seen).len()
    }

    /// How long after the one before each further attempt came.
    fn gaps(&self) -> Vec<Duration> {
        lock(&self.shared.seen).windows(2).map(|pair| pair[1].at - pair[0].at).collect()
    }

    fn words(&self) -> Vec<Option<Words>> {
        lock(&self.shared.seen).iter().map(|seen| seen.words.clone()).collect()
    }

    fn bodies(&self) -> Vec<Bytes> {
        lock(&self.shared.seen).iter().map(|seen| seen.body.clone()).collect()
    }

    fn in_flight(&self) -> u32 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    fn polled(&self) -> u32 {
        self.shared.polled.load(Ordering::Relaxed)
    }
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), ready: false }
    }
}

struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// In flight until it is dropped, as one that holds a permit.
struct LeafFuture {
    work: Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>,
    _in_flight: InFlight,
}

impl Future for LeafFuture {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.work.as_mut().poll(cx)
    }
}

impl<B> Service<Request<B>> for Leaf
where
    B: http_body::Body<Error: Into<BoxError>, Data: Send> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = LeafFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.shared.polled.fetch_add(1, Ordering::Relaxed);
        match lock(&self.shared.readiness).pop_front() {
            Some(Readiness::Pending) => Poll::Pending,
            Some(Readiness::Gone) => Poll::Ready(Err("the service is gone".into())),
            Some(Readiness::Ready) | None => {
                self.ready = true;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        let act = lock(&self.shared.script).pop_front().unwrap_or(Status(200));
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight(Arc::clone(&self.shared));
        let (parts, body) = request.into_parts();
        let words = parts.extensions.get().cloned();
        let at = now();
        let shared = Arc::clone(&self.shared);
        let work = Box::pin(async move {
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            lock(&shared.seen).push(Seen { at, words, body });
            match act {
                Status(code) => {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::from_u16(code)?;
                    Ok(response)
                }
                Answer(response) => Ok(response),
                Fail(error) => Err(error),
                Hang => pending().await,
            }
        });
        LeafFuture { work, _in_flight: in_flight }
    }
}

fn config() -> RetryConfig {
    RetryConfig::new().entropy(Entropy::seeded(7))
}

fn stack(leaf: &Leaf, config: RetryConfig) -> buttress::retry::Retry<Leaf, HttpClassifier> {
    RetryLayer::new(config, HttpClassifier::new()).layer(leaf.clone())
}

fn request(method: Method) -> Request<Body> {
    let mut request = Request::new(Body::full("hello"));
    *request.method_mut() = method;
    request
}

fn get() -> Request<Body> {
    request(Method::GET)
}

fn with_words(mut request: Request<Body>, words: Words) -> Request<Body> {
    request.extensions_mut().insert(words);
    request
}

async fn call<S, C>(service: &mut S, call: C) -> Result<S::Response, BoxError>
where
    S: Service<C, Error = BoxError>,
{
    service.ready().await?.call(call).await
}

fn attempts<B>(response: &Response<B>) -> Attempts {
    response.extensions().get::<Attempts>().expect("it was not the first attempt").clone()
}

fn gave_up(error: &BoxError) -> &GaveUp {
    find::<GaveUp>(&**error).expect("the retry gave up")
}

// --- How many attempts ------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn makes_three_attempts_in_total_and_returns_the_last_response_with_its_history() {
    let leaf = Leaf::new([Status(500), Status(502), Status(503), Status(200)]);
    let response = call(&mut stack(&leaf, config()), get()).await.expect("a real response");
    assert_eq!(response.status(), 503);
    assert_eq!(leaf.attempts(), 3);
    let history = attempts(&response);
    let told: Vec<_> =
        history.iter().map(|one| (one.number, one.kind, one.outcome.clone())).collect();
    assert_eq!(
        told,
        [
            (1, AttemptKind::First, Outcome::Response(Some(500))),
            (2, AttemptKind::Retry, Outcome::Response(Some(502))),
            (3, AttemptKind::Retry, Outcome::Response(Some(503))),
        ]
    );
    let waited: Vec<_> = history.iter().skip(1).map(|one| one.backoff).collect();
    for (gap, backoff) in leaf.gaps().into_iter().zip(waited) {
        assert!(gap >= backoff && gap - backoff <= MS, "{gap:?} after a backoff of {backoff:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stays_comes_with_the_history_of_all_attempts() {
    let leaf = Leaf::new([refused(), reset(), refused()]);
    let error = call(&mut stack(&leaf, config()), get()).await.expect_err("it fails");
    let gave_up = gave_up(&error);
    assert_eq!(gave_up.reason(), StopReason::Exhausted);
    assert_eq!(gave_up.attempts().len(), 3);
    assert_eq!(gave_up.sent(), Sent::Maybe, "one that may have happened is enough");
    assert_eq!(gave_up.to_string(), "failed after 3 attempts: all attempts were made");
    let io = find::<io::Error>(&*error).expect("the last error is inside");
    assert_eq!(io.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_success_at_the_second_attempt_tells_of_the_first() {
    let leaf = Leaf::new([reset()]);
    let response = call(&mut stack(&leaf, config()), get()).await.expect("it works");
    assert_eq!(response.status(), 200);
    let history = attempts(&response);
    assert_eq!(history.len(), 2);
    assert!(matches!(&history[0].outcome, Outcome::Error(words) if words.contains("reset")));
    let first = call(&mut stack(&leaf, config()), get()).await.expect("it works");
    assert!(first.extensions().get::<Attempts>().is_none(), "nothing to tell of a first success");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_attempts_is_the_total() {
    assert!(RetryConfig::new().max_attempts(0).is_err());
    for total in [1_u32, 2, 5] {
        let leaf = Leaf::new((0..9).map(|_| Status(503)));
        let config = config().max_attempts(total).expect("above zero");
        let response = call(&mut stack(&leaf, config), get()).await.expect("a real response");
        assert_eq!(response.status(), 503);
        assert_eq!(leaf.attempts(), total as usize);
    }
}

// --- What may be tried again --------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn repeats_only_what_is_safe_to_repeat() {
    let none = Words::new;
    let keyed = || {
        let mut words = Words::new();
        words.keyed = true;
        words
    };
    let rows: Vec<(&str, Method, Words, Act, usize)> = vec![
        ("a POST may have been carried out", Method::POST, none(), Status(503), 1),
        ("a POST whose answer was lost", Method::POST, none(), reset(), 1),
        ("a PATCH is no better", Method::PATCH, none(), Status(502), 1),
        ("a POST that was never sent", Method::POST, none(), refused(), 2),
        ("a POST that was refused unprocessed", Method::POST, none(), Status(429), 2),
        ("a PUT is idempotent", Method::PUT, none(), Status(503), 2),
        ("so is a DELETE", Method::DELETE, none(), reset(), 2),
        ("a key makes a POST repeatable", Method::POST, keyed(), Status(503), 2),
        ("a key, and the answer was lost", Method::POST, keyed(), reset(), 2),
        ("the first attempt of a key still runs", Method::POST, keyed(), Status(409), 2),
        ("a conflict without a key is a conflict", Method::POST, none(), Status(409), 1),
        ("the caller's word for", Method::POST, none().idempotent(true), Status(503), 2),
        ("the caller's word against", Method::GET, none().idempotent(false), Status(503), 1),
        ("against, but never sent", Method::GET, none().idempotent(false), refused(), 2),
        ("a wrong request stays wrong", Method::GET, keyed(), Status(404), 1),
    ];
    for (why, method, words, act, expected) in rows {
        let leaf = Leaf::new([act]);
        let call = call(&mut stack(&leaf, config()), with_words(request(method), words)).await;
        assert_eq!(leaf.attempts(), expected, "{why}");
        assert_eq!(call.is_ok_and(|response| response.status() == 200), expected == 2, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_retry_repeats_nothing_that_an_inner_one_gave_up_on() {
    for act in [|| Status(503), reset as fn() -> Act] {
        let leaf = Leaf::new((0..20).map(|_| act()));
        let layer = || RetryLayer::new(config(), HttpClassifier::new());
        let mut service = ServiceBuilder::new().layer(layer()).layer(layer()).service(leaf.clone());
        let result = call(&mut service, get()).await;
        assert_eq!(leaf.attempts(), 3, "layered retries multiplied");
        match result {
            Ok(response) => assert_eq!(response.status(), 503),
            Err(error) => {
                assert!(find::<io::Error>(&*error).is_some(), "the real error is still inside");
            }
        }
    }
}

// --- How long it waits ----------------------------------------------------------------------------

/// The gap before the second attempt after `act`.
async fn gap(act: Act) -> Duration {
    let leaf = Leaf::new([act]);
    let response = call(&mut stack(&leaf, config()), get()).await.expect("it works");
    assert_eq!(response.status(), 200);
    leaf.gaps()[0]
}

#[tokio::test(start_paused = true)]
async fn follows_retry_after_in_seconds_and_as_a_date_with_jitter() {
    let date = |at: SystemTime| httpdate::fmt_http_date(at);
    let server = SystemTime::UNIX_EPOCH + 1_000_000_000 * SECOND;
    for status in [429, 503] {
        let seconds = gap(asking_for(status, "2")).await;
        assert!((2 * SECOND..=3 * SECOND + MS).contains(&seconds), "{seconds:?}");
        let Answer(mut response) = asking_for(status, &date(server + 2 * SECOND)) else {
            unreachable!("it answers")
        };
        response.headers_mut().insert(header::DATE, date(server).parse().expect("a value"));
        let as_date = gap(Answer(response)).await;
        assert!((2 * SECOND..=3 * SECOND + MS).contains(&as_date), "{as_date:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_service_makes_a_call_wait_for_a_day() {
    for wish in ["86400", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let waited = gap(asking_for(503, wish)).await;
        assert!((5 * SECOND..=5 * SECOND + 51 * MS).contains(&waited), "{wish}: {waited:?}");
    }
    for wish in ["0", "-5", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"] {
        let waited = gap(asking_for(503, wish)).await;
        assert!(waited <= 51 * MS, "{wish}: {waited:?}");
    }
}

/// When the second attempts of `calls` calls come that failed together.
async fn comebacks(calls: usize, act: fn() -> Act, backoff: Backoff) -> Vec<Duration> {
    let leaf = Leaf::new((0..calls).map(|_| act()));
    let service = stack(&leaf, config().backoff(backoff).without_budget());
    let start = now();
    let all = (0..calls).map(|_| {
        let mut service = service.clone();
        tokio::spawn(async move { call(&mut service, get()).await.map(|answer| answer.status()) })
    });
    for call in all.collect::<Vec<_>>() {
        let status = call.await.expect("no panic").expect("it works");
        assert_eq!(status, 200);
    }
    let seen = lock(&leaf.shared.seen);
    assert!(seen[..calls].iter().all(|seen| seen.at == start));
    seen[calls..].iter().map(|seen| seen.at - start).collect()
}

#[tokio::test(start_paused = true)]
async fn six_calls_that_fail_together_do_not_come_back_together() {
    let slow = Backoff::new(10 * SECOND, 10 * SECOND).expect("sound");
    for act in [|| Status(503), || asking_for(429, "3")] {
        let mut times = comebacks(6, act, slow).await;
        times.sort_unstable();
        times.dedup();
        assert_eq!(times.len(), 6, "in step: {times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_jittered_wait_keeps_its_fractions() {
    let base = Duration::from_micros(1_495_000);
    let backoff = Backoff::new(base, base).expect("sound");
    let times = comebacks(200, || Status(503), backoff).await;
    assert!(times.iter().all(|&at| at <= base + MS), "{times:?}");
    let above = times.iter().filter(|&&at| at > SECOND + 10 * MS).count();
    // A third of an even spread over 1.495 s lies above 1 s.
    assert!((40..=95).contains(&above), "{above} of 200 above a second");
    let low = times.iter().filter(|&&at| at < 500 * MS).count();
    assert!((40..=95).contains(&low), "{low} of 200 below half a second");
}

#[tokio::test(start_paused = true)]
async fn begins_no_wait_that_the_deadline_would_end() {
    let (heard, observer) = listener();
    let leaf = Leaf::new([asking_for(503, "3")]);
    let words = Words::new().deadline(now() + SECOND);
    let start = now();
    let mut service = stack(&leaf, config().observer(observer));
    let response = call(&mut service, with_words(get(), words)).await.expect("the real response");
    assert_eq!(response.status(), 503);
    assert_eq!(now(), start, "it waited for nothing");
    assert_eq!(*lock(&heard), ["gave up after 1: deadline"]);
}

#[tokio::test(start_paused = true)]
async fn begins_no_attempt_when_readiness_ate_what_was_left() {
    let leaf = Leaf::new([Status(503)]).readiness([Readiness::Ready, Readiness::Pending]);
    let (heard, observer) = listener();
    let budget = Budget::default();
    let config = config().observer(observer).budget(budget.clone());
    let mut service = stack(&leaf, config);
    let words = Words::new().deadline(now() + SECOND);
    let mut future = pin!(call(&mut service, with_words(get(), words)));
    assert!(poll(future.as_mut()).is_pending());
    advance(100 * MS).await;
    assert!(poll(future.as_mut()).is_pending(), "it waits for readiness");
    assert_eq!(leaf.polled(), 2);
    advance(SECOND).await;
    let Poll::Ready(Ok(response)) = poll(future) else { panic!("the time is up") };
    assert_eq!(response.status(), 503);
    assert_eq!(leaf.attempts(), 1);
    assert_eq!(budget.balance(), 500, "a retry that was not made costs nothing");
    assert!(lock(&heard)[0].starts_with("retrying after 1"), "{heard:?}");
    assert_eq!(lock(&heard)[1], "gave up after 1: deadline");
}

// --- Refusals by this program itself ----------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_refusal_by_this_program_does_not_hide_an_earlier_answer() {
    let script = [Status(503), breaker_open(SECOND), Fail(Refusal::indefinite().into())];
    let leaf = Leaf::new(script);
    let budget = Budget::default();
    let mut service = stack(&leaf, config().budget(budget.clone()));
    let response = call(&mut service, get()).await.expect("the real response");
    assert_eq!(response.status(), 503);
    assert_eq!(attempts(&response).len(), 3, "but the history tells of it");
    assert_eq!(budget.balance(), 500, "no retry was sent, so none is paid");

    let leaf = Leaf::new([reset(), Fail(Refusal::indefinite().into())]);
    let error = call(&mut stack(&leaf, config()), get()).await.expect_err("it fails");
    assert!(find::<io::Error>(&*error).is_some(), "{error:?}");
    assert!(find::<Refusal>(&*error).is_none());
}

/// A body that keeps the guard of a connection until its end, and comes in pieces.
struct Slow {
    pieces: VecDeque<&'static str>,
    pause: Pin<Box<tokio::time::Sleep>>,
    connection: Option<Arc<()>>,
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        std::task::ready!(self.pause.as_mut().poll(cx));
        let Some(piece) = self.pieces.pop_front() else {
            self.connection = None;
            return Poll::Ready(None);
        };
        self.pause = Box::pin(tokio::time::sleep(5 * MS));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))))
    }
}

fn slow(connection: &Arc<()>) -> Act {
    let pieces = ["sorry, ", "not ", "now"].into();
    let pause = Box::pin(tokio::time::sleep(5 * MS));
    let body = Body::new(Slow { pieces, pause, connection: Some(Arc::clone(connection)) });
    Answer(Response::builder().status(503).body(body).expect("a response"))
}

/// Long enough for the slow body to be read, or not.
fn waiting(pause: Duration) -> RetryConfig {
    let backoff = Backoff::fixed(pause).expect("no zero").spread(1.0, 1.0).expect("sound");
    config().backoff(backoff)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_read_between_attempts_is_handed_out_whole_if_no_other_comes() {
    for (pause, read) in [(100 * MS, true), (12 * MS, false)] {
        for limit in [0, 1024] {
            let connection = Arc::new(());
            let leaf = Leaf::new([slow(&connection), Fail(Refusal::indefinite().into())]);
            let mut service = stack(&leaf, waiting(pause).drain_limit(limit));
            let start = now();
            let response = call(&mut service, get()).await.expect("the real response");
            assert!(now() - start <= pause + MS, "nobody waits for it");
            let free = Arc::strong_count(&connection) == 1;
            assert_eq!(free, read && limit > 0, "after {pause:?}, up to {limit}");
            assert_eq!((response.status().as_u16(), attempts(&response).len()), (503, 2));
            let body = response.into_body().collect().await.expect("it is whole").to_bytes();
            assert_eq!(body, "sorry, not now");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_was_refused_the_caller_gets_the_latest_refusal() {
    let (early, late) = (breaker_open(SECOND), breaker_open(30 * SECOND));
    let leaf = Leaf::new([early, late]);
    let start = now();
    let error = call(&mut stack(&leaf, config()), get()).await.expect_err("it fails");
    let refusal = find::<Refusal>(&*error).expect("nothing else happened");
    assert_eq!(refusal.retry_at, Some(start + 30 * SECOND));
    assert_eq!(gave_up(&error).sent(), Sent::No);
    assert_eq!(gave_up(&error).reason(), StopReason::Unavailable);
    assert!(now() - start <= 2 * SECOND, "it does not wait to be refused again");
}

// --- Turned away -----------------------------------------------------------------------------------

/// A server that works has not looked at it.
fn turned_away() -> Act {
    let verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent);
    Fail(Mark::new(verdict).into())
}

#[tokio::test(start_paused = true)]
async fn what_was_turned_away_is_sent_again_however_many_attempts_there_may_be() {
    let once = || config().max_attempts(1).expect("one is a number");
    let post = || with_words(request(Method::POST), Words::new().deadline(now() + 60 * SECOND));
    let leaf = Leaf::new((0..12).map(|_| turned_away()));
    let response = call(&mut stack(&leaf, once()), post()).await.expect("at last");
    assert_eq!((leaf.attempts(), attempts(&response).len()), (13, 13));
    let gaps = leaf.gaps();
    assert_eq!(gaps[0], Duration::ZERO);
    assert!(gaps.iter().all(|&gap| gap <= SECOND + MS), "{gaps:?}");

    let leaf = Leaf::new([turned_away(), reset()]);
    call(&mut stack(&leaf, once()), post()).await.expect_err("there is one attempt");
    assert_eq!(leaf.attempts(), 2);

    let leaf = Leaf::new([turned_away()]);
    let error = call(&mut stack(&leaf, once().transparent(false)), post()).await;
    let error = error.expect_err("it is switched off");
    assert_eq!((leaf.attempts(), gave_up(&error).reason()), (1, StopReason::Exhausted));
}

// --- Who pays -----------------------------------------------------------------------------------------

fn budget_of(capacity: u32) -> Budget {
    let mut tariff = Tariff::default();
    tariff.capacity = capacity;
    tariff.floor_interval = None;
    Budget::new(tariff)
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_returns_the_original_answer_and_says_why() {
    let (heard, observer) = listener();
    let leaf = Leaf::new([Status(503), reset()]);
    let config = config().budget(budget_of(13)).observer(observer);
    let mut service = stack(&leaf, config);
    let response = call(&mut service, get()).await.expect("the original response");
    assert_eq!(response.status(), 503);
    assert_eq!(leaf.attempts(), 1);
    assert_eq!(*lock(&heard), ["gave up after 1: budget"]);
    let error = call(&mut service, get()).await.expect_err("the original error");
    assert_eq!(gave_up(&error).reason(), StopReason::Budget);
    assert!(find::<io::Error>(&*error).is_some());
}

#[tokio::test(start_paused = true)]
async fn two_services_share_one_budget() {
    let budget = budget_of(14);
    let leaf = Leaf::new((0..4).map(|_| Status(503)));
    let mut one = stack(&leaf, config().budget(budget.clone()));
    let mut other = stack(&leaf, config().budget(budget.clone()));
    call(&mut one, get()).await.expect("a response");
    assert_eq!(leaf.attempts(), 2, "one retry could be paid");
    call(&mut other, get()).await.expect("a response");
    assert_eq!(leaf.attempts(), 3, "none was left");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_succeeds_is_refunded_and_one_that_fails_is_not() {
    let budget = Budget::default();
    let leaf = Leaf::new([Status(503), Status(503), Status(200)]);
    let mut service = stack(&leaf, config().budget(budget.clone()));
    call(&mut service, get()).await.expect("it works");
    assert_eq!(budget.balance(), 486, "the first retry failed, the second succeeded");
    let leaf = Leaf::new([Status(503), Status(503), Status(503)]);
    let mut service = stack(&leaf, config().budget(budget.clone()));
    call(&mut service, get()).await.expect("a response");
    assert_eq!(budget.balance(), 458);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_what_was_called_too_often_costs_less() {
    let budget = Budget::default();
    let leaf = Leaf::new([Status(429), Status(429), Status(429)]);
    let mut service = stack(&leaf, config().budget(budget.clone()));
    call(&mut service, get()).await.expect("a response");
    assert_eq!(budget.balance(), 490);
}

/// A body that yields one piece, then its end: well or broken.
struct Tail {
    pieces: VecDeque<Result<Bytes, io::Error>>,
}

impl http_body::Body for Tail {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

fn tail(broken: bool) -> Act {
    let end = broken.then(|| Err(io::ErrorKind::UnexpectedEof.into()));
    let pieces = [Ok(Bytes::from("half"))].into_iter().chain(end).collect();
    Answer(Response::new(Body::new(Tail { pieces })))
}

#[tokio::test(start_paused = true)]
async fn a_success_pays_in_at_the_end_of_its_body() {
    let budget = Budget::default();
    for _ in 0..3 {
        let _ = budget.withdraw(Class::Transient, now());
    }
    let before = budget.balance();
    let leaf = Leaf::new([tail(false), tail(true)]);
    let mut service = stack(&leaf, config().budget(budget.clone()));

    let mut body = call(&mut service, get()).await.expect("a head").into_body();
    body.frame().await.expect("a piece").expect("it is whole");
    assert_eq!(budget.balance(), before, "the head is not the end");
    assert!(body.frame().await.is_none());
    assert_eq!(budget.balance(), before + 1);

    let broken = call(&mut service, get()).await.expect("a head").into_body();
    broken.collect().await.expect_err("it breaks off");
    assert_eq!(budget.balance(), before + 1, "half an answer is no success");
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_body_breaks_off_is_not_refunded() {
    let budget = Budget::default();
    let leaf = Leaf::new([Status(503), tail(true)]);
    let mut service = stack(&leaf, config().budget(budget.clone()));
    let response = call(&mut service, get()).await.expect("a head");
    response.into_body().collect().await.expect_err("it breaks off");
    assert_eq!(budget.balance(), 486);
}

// --- The tower contract ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn every_attempt_is_made_on_an_instance_that_was_polled_ready() {
    let leaf = Leaf::new([Status(503), Status(503)]);
    let service = stack(&leaf, config());
    // The leaf panics if a clone is called that was not polled.
    let mut clone = service.clone();
    let response = call(&mut clone, get()).await.expect("it works");
    assert_eq!(response.status(), 200);
    assert_eq!(leaf.polled(), 3, "once before each attempt");
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_beneath_neither_panics_nor_leaks_its_permits() {
    let permits = Arc::new(Semaphore::new(1));
    let leaf = Leaf::new([Status(503), reset(), Status(200), Status(503), Hang]);
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(config(), HttpClassifier::new()))
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits)))
        .service(leaf.clone());
    let _idle = service.clone();
    let response = call(&mut service, get()).await.expect("it works");
    assert_eq!((response.status().as_u16(), leaf.attempts()), (200, 3));
    assert_eq!(permits.available_permits(), 1);

    // Given back during the backoff, taken again for the attempt, given back at the drop.
    let mut future = Box::pin(call(&mut service, get()));
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!(permits.available_permits(), 1, "a backoff holds nothing");
    advance(SECOND).await;
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!((leaf.attempts(), permits.available_permits()), (5, 0));
    drop(future);
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_between_attempts_returns_the_last_real_answer() {
    for act in [|| Status(503), reset as fn() -> Act] {
        let (heard, observer) = listener();
        let budget = Budget::default();
        let leaf = Leaf::new([act()]).readiness([Readiness::Ready, Readiness::Gone]);
        let mut service = stack(&leaf, config().observer(observer).budget(budget.clone()));
        match call(&mut service, get()).await {
            Ok(response) => assert_eq!(response.status(), 503),
            Err(error) => {
                assert_eq!(gave_up(&error).reason(), StopReason::Unavailable);
                assert!(find::<io::Error>(&*error).is_some(), "{error:?}");
            }
        }
        assert_eq!(leaf.attempts(), 1);
        assert_eq!(budget.balance(), 500, "a retry that was not made costs nothing");
        assert_eq!(lock(&heard).last().map(String::as_str), Some("gave up after 1: unavailable"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_after_a_refusal_says_so_itself() {
    let script = [breaker_open(MS)];
    let leaf = Leaf::new(script).readiness([Readiness::Ready, Readiness::Gone]);
    let error = call(&mut stack(&leaf, config()), get()).await.expect_err("it fails");
    assert_eq!(gave_up(&error).sent(), Sent::No, "nothing was ever sent");
    let mut sources =
        std::iter::successors(Some(&*error as &dyn std::error::Error), |e| e.source());
    assert!(sources.any(|error| error.to_string() == "the service is gone"), "{error:?}");
}

// --- Bodies -----------------------------------------------------------------------------------------------

/// A request's body in pieces, of unknown length, that counts what was taken of it.
struct Upload {
    left: VecDeque<&'static str>,
    taken: Arc<AtomicU32>,
}

impl Upload {
    fn new(pieces: &[&'static str]) -> (Self, Arc<AtomicU32>) {
        let taken = Arc::new(AtomicU32::new(0));
        (Self { left: pieces.iter().copied().collect(), taken: Arc::clone(&taken) }, taken)
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = self.left.pop_front();
        if piece.is_some() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(piece.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

fn put<B>(body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::PUT;
    request
}

#[tokio::test(start_paused = true)]
async fn a_body_in_memory_is_sent_whole_with_every_attempt() {
    let leaf = Leaf::new([Status(503), reset()]);
    let layer = RetryLayer::new(config(), HttpClassifier::new());
    let mut service = layer.layer(leaf.clone());
    call(&mut service, put(Full::new(Bytes::from("all of it")))).await.expect("it works");
    assert_eq!(leaf.bodies(), ["all of it"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_is_kept_as_it_is_sent_and_no_faster() {
    let (body, taken) = Upload::new(&["a", "b", "c"]);
    let read_one_then_all = {
        let taken = Arc::clone(&taken);
        let first = Arc::new(Mutex::new(true));
        move |request: Request<_>| {
            let first = std::mem::take(&mut *lock(&first));
            let taken = Arc::clone(&taken);
            async move {
                let mut body: ReplayBody<Upload> = request.into_body();
                if first {
                    assert_eq!(taken.load(Ordering::Relaxed), 0, "read before it was sent");
                    body.frame().await.expect("a piece")?;
                    assert_eq!(taken.load(Ordering::Relaxed), 1, "read ahead of what was sent");
                    return Err::<Response<Body>, BoxError>("the connection broke".into());
                }
                let whole = body.collect().await?.to_bytes();
                assert_eq!(whole, "abc");
                Ok(Response::new(Body::empty()))
            }
        }
    };
    let layer = RetryLayer::new(config(), HttpClassifier::new());
    let mut service = layer.layer(service_fn(read_one_then_all));
    call(&mut service, put(body)).await.expect("the second attempt has it all");
    assert_eq!(taken.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_body_past_the_cap_is_sent_unharmed_and_once() {
    let (heard, observer) = listener();
    let (body, _) = Upload::new(&["aaaa", "bbbb", "cccc"]);
    let leaf = Leaf::new([Status(503)]);
    let config = config().replay_cap(10).observer(observer);
    let mut service = RetryLayer::new(config, HttpClassifier::new()).layer(leaf.clone());
    let response = call(&mut service, put(body)).await.expect("the real response");
    assert_eq!(response.status(), 503);
    assert_eq!(leaf.bodies(), ["aaaabbbbcccc"]);
    assert_eq!(*lock(&heard), ["gave up after 1: not_replayable"]);
}

// --- What travels with an attempt ------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn every_attempt_knows_its_number_its_reason_and_where_the_others_went() {
    let keys = [EndpointKey::unique(), EndpointKey::unique(), EndpointKey::unique()];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let leaf = {
        let seen = Arc::clone(&seen);
        service_fn(move |call: Call<&'static str>| {
            let seen = Arc::clone(&seen);
            async move {
                let address = SocketAddr::from(([127, 0, 0, 1], 80));
                let turn = lock(&seen).len();
                mark_target(Target::new(keys[turn], address));
                lock(&seen).push(call.words);
                Err::<(), BoxError>("no".into())
            }
        })
    };
    let mut service = RetryLayer::new(config(), PlainClassifier::new()).layer(leaf);
    let words = Words::new().idempotent(true);
    let error = call(&mut service, Call::with_words("x", words)).await.expect_err("it fails");
    let seen = lock(&seen);
    let told: Vec<_> = seen.iter().map(|words| (words.attempt, words.kind)).collect();
    let retry = AttemptKind::Retry;
    assert_eq!(told, [(1, AttemptKind::First), (2, retry), (3, retry)]);
    assert!(seen[0].tried.is_empty());
    assert_eq!(seen[1].tried.iter().collect::<Vec<_>>(), [keys[0]]);
    assert_eq!(seen[2].tried.iter().collect::<Vec<_>>(), [keys[0], keys[1]]);
    let went: Vec<_> =
        gave_up(&error).attempts().iter().map(|one| one.target.map(|to| to.key)).collect();
    assert_eq!(went, keys.map(Some));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_words_is_given_some_with_its_first_retry() {
    let leaf = Leaf::new([Status(503)]);
    call(&mut stack(&leaf, config()), get()).await.expect("it works");
    let words = leaf.words();
    assert!(words[0].is_none(), "a success at the first attempt would have paid for them");
    assert_eq!(words[1].as_ref().map(|words| words.attempt), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_balancer_beneath_sends_a_retry_elsewhere_without_waiting_for_one_endpoint() {
    let gaps = Arc::new(Mutex::new(Vec::new()));
    let leaf = {
        let gaps = Arc::clone(&gaps);
        service_fn(move |_: Request<ReplayBody<Body>>| {
            let gaps = Arc::clone(&gaps);
            async move {
                let address = SocketAddr::from(([127, 0, 0, 1], 80));
                mark_target(Target::new(EndpointKey::unique(), address));
                lock(&gaps).push(now());
                let Answer(response) = asking_for(503, "3") else { unreachable!("it answers") };
                Ok::<_, BoxError>(response)
            }
        })
    };
    let mut service = RetryLayer::new(config(), HttpClassifier::new()).layer(leaf);
    let start = now();
    call(&mut service, get()).await.expect("a response");
    assert_eq!(lock(&gaps).len(), 3);
    assert!(now() - start < 200 * MS, "the wish of one endpoint bound them all");
}

// --- Dropped at every await -------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn dropped_before_its_first_poll_a_call_leaves_nothing_behind() {
    let budget = Budget::default();
    let leaf = Leaf::new([Hang]);
    let mut service = stack(&leaf, config().budget(budget.clone()));
    drop(ServiceExt::<Request<Body>>::ready(&mut service).await.expect("ready").call(get()));
    assert_eq!((leaf.in_flight(), leaf.attempts(), budget.balance()), (0, 0, 500));
}

#[tokio::test(start_paused = true)]
async fn dropped_in_an_attempt_in_a_backoff_or_while_it_waits_for_readiness() {
    let budget = Budget::default();
    let leaf = Leaf::new([Hang, Status(503), Hang, Status(503), Status(503)]);
    let mut service = stack(&leaf, config().budget(budget.clone()));

    let mut first = Box::pin(call(&mut service, get()));
    assert!(poll(first.as_mut()).is_pending());
    assert_eq!(leaf.in_flight(), 1);
    drop(first);
    assert_eq!((leaf.in_flight(), budget.balance()), (0, 500));

    let mut second = Box::pin(call(&mut service, get()));
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!((leaf.in_flight(), budget.balance()), (0, 486), "in its backoff");
    advance(SECOND).await;
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!(leaf.in_flight(), 1, "in its second attempt");
    drop(second);
    assert_eq!((leaf.in_flight(), budget.balance()), (0, 486), "paid, and not refunded");

    let mut third = Box::pin(call(&mut service, get()));
    assert!(poll(third.as_mut()).is_pending());
    drop(third);
    assert_eq!(budget.balance(), 472);
    sleep(SECOND).await;
    assert_eq!(leaf.attempts(), 4, "no attempt was made for a caller who left");

    lock(&leaf.shared.readiness).extend([Readiness::Ready, Readiness::Pending]);
    let mut fourth = Box::pin(call(&mut service, get()));
    assert!(poll(fourth.as_mut()).is_pending());
    advance(SECOND).await;
    let polled = leaf.polled();
    assert!(poll(fourth.as_mut()).is_pending());
    assert_eq!(leaf.polled(), polled + 1, "it waits for readiness");
    drop(fourth);
    assert_eq!((leaf.in_flight(), leaf.attempts(), budget.balance()), (0, 5, 458));
}

// --- What it tells -------------------------------------------------------------------------------------------------

/// Listens, in words.
fn listener() -> (Arc<Mutex<Vec<String>>>, Observer) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let heard = Arc::clone(&heard);
        Observer::new(move |event| {
            lock(&heard).push(match event {
                Event::Retrying { attempt, delay, .. } => {
                    format!("retrying after {attempt} in {delay:?}")
                }
                Event::GaveUp { attempts, reason, .. } => {
                    format!("gave up after {attempts}: {reason}")
                }
                other => format!("{other:?}"),
            });
        })
    };
    (heard, observer)
}

#[tokio::test(start_paused = true)]
async fn tells_of_each_retry_and_of_the_one_that_is_not_made() {
    let (heard, observer) = listener();
    let leaf = Leaf::new([Status(503), Status(503), Status(503)]);
    let response = call(&mut stack(&leaf, config().observer(observer)), get()).await;
    let history = attempts(&response.expect("a response"));
    let expected = [
        format!("retrying after 1 in {:?}", history[1].backoff),
        format!("retrying after 2 in {:?}", history[2].backoff),
        "gave up after 3: exhausted".to_owned(),
    ];
    assert_eq!(*lock(&heard), expected);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_let_go_before_anybody_is_told_of_its_end() {
    let leaf = Leaf::new([Status(503), reset(), Status(503)]);
    let held = Arc::new(AtomicU32::new(0));
    let observer = {
        let (leaf, held) = (leaf.clone(), Arc::clone(&held));
        Observer::new(move |_| {
            held.fetch_add(leaf.in_flight(), Ordering::Relaxed);
        })
    };
    call(&mut stack(&leaf, config().observer(observer)), get()).await.expect("a response");
    assert_eq!((leaf.attempts(), held.load(Ordering::Relaxed)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn says_nothing_of_a_call_that_succeeds() {
    let (heard, observer) = listener();
    let leaf = Leaf::new([]);
    call(&mut stack(&leaf, config().observer(observer)), get()).await.expect("it works");
    assert!(lock(&heard).is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_the_call_between_attempts_knows_what_was_sent() {
    // Marks as a transport would; the first attempt is refused after its mark.
    let run = |first: fn(), fails: fn() -> Act| async move {
        let leaf = service_fn(move |_: Call<&'static str>| async move {
            first();
            match fails() {
                Fail(error) => Err::<(), _>(error),
                _ => unreachable!("it fails"),
            }
        });
        let mut service = RetryLayer::new(config(), PlainClassifier::new()).layer(leaf);
        let words = Words::new().idempotent(true);
        let mut future = pin!(call(&mut service, Call::with_words("x", words)));
        let mut trail = Trail::new();
        assert!(trail.enter(|| poll(future.as_mut())).is_pending(), "in its backoff");
        trail.sent()
    };
    assert_eq!(run(mark_unsent, refused).await, Sent::No);
    assert_eq!(run(mark_handed_over, refused).await, Sent::No, "refused unprocessed");
    assert_eq!(run(mark_handed_over, reset).await, Sent::Maybe);
    assert_eq!(run(mark_unsent, reset).await, Sent::Maybe, "the error knows better");
}

// --- Types -----------------------------------------------------------------------------------------------------------

/// A request type of somebody else's.
#[derive(Clone)]
struct Lookup(&'static str);

impl Replay for Lookup {
    type Attempt = Self;
    type Replayer = Cloning<Self>;

    fn is_idempotent(&self) -> bool {
        true
    }

    fn once(self) -> Self {
        self
    }

    fn begin(self, _: usize) -> (Self, Cloning<Self>) {
        (self.clone(), Cloning::new(self))
    }
}

#[tokio::test(start_paused = true)]
async fn serves_any_request_type_and_any_classifier() {
    let fails = Arc::new(AtomicU32::new(2));
    let leaf = service_fn(move |call: Call<Lookup>| {
        let left = fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        ready(if left.is_ok() { Err(io::Error::other("no")) } else { Ok(call.request.0.len()) })
    });
    let mut service = RetryLayer::new(config(), PlainClassifier::new()).layer(leaf);
    assert_eq!(call(&mut service, Call::new(Lookup("four"))).await.expect("it works"), 4);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_says_never_again_is_believed() {
    let verdict = verdict_on_error(&io::Error::from(io::ErrorKind::ConnectionRefused))
        .with_pushback(Pushback::Never);
    let leaf = Leaf::new([Fail(Mark::new(verdict).into())]);
    let error = call(&mut stack(&leaf, config()), get()).await.expect_err("it fails");
    assert_eq!(gave_up(&error).reason(), StopReason::NotRetryable);
    assert_eq!(leaf.attempts(), 1);
}

#[test]
fn futures_can_be_sent_between_threads() {
    fn sent<T: Send + 'static>(_: &T) {}
    fn shared<T: Sync>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let mut service = stack(&Leaf::new([]), config());
        sent(&service);
        shared(&RetryLayer::new(config(), HttpClassifier::new()));
        ServiceExt::<Request<Body>>::ready(&mut service).await.expect("ready");
        // The client's own body is `Send` and not `Sync`, as most are.
        let future = service.call(get());
        sent(&future);
        let response = future.await.expect("it works");
        sent(&response);
    });
}

/// Goal: an attempt that could not finish within what is left of the deadline is not begun, and
/// the error says so. Method: 400 calls teach the layer that answers take 100 ms; then one fails
/// when 60 ms are left of its deadline.
async fn fails_with_little_time_left(config: RetryConfig) -> (u32, Option<StopReason>) {
    let calls = Arc::new(AtomicU32::new(0));
    let fails = Arc::new(AtomicBool::new(false));
    let leaf = {
        let (calls, fails) = (Arc::clone(&calls), Arc::clone(&fails));
        service_fn(move |_: Call<u32>| {
            calls.fetch_add(1, Ordering::Relaxed);
            let fails = fails.load(Ordering::Relaxed);
            async move {
                sleep(Duration::from_millis(100)).await;
                if fails { Err(BoxError::from("it fails")) } else { Ok(()) }
            }
        })
    };
    let config = config.entropy(Entropy::seeded(9));
    let service = RetryLayer::new(config, PlainClassifier::new()).layer(leaf);
    let call = |left: Duration| {
        let deadline = tokio::time::Instant::now().into_std() + left;
        Call::with_words(0_u32, Words::new().idempotent(true).deadline(deadline))
    };
    for _ in 0..400 {
        service.clone().oneshot(call(Duration::from_secs(9))).await.expect("it answers");
    }
    sleep(Duration::from_secs(3)).await;
    fails.store(true, Ordering::Relaxed);
    let before = calls.load(Ordering::Relaxed);
    let error = service.oneshot(call(Duration::from_millis(160))).await.expect_err("it fails");
    let reason = find::<GaveUp>(&*error).map(GaveUp::reason);
    (calls.load(Ordering::Relaxed) - before, reason)
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_begun_that_usually_takes_longer_than_what_is_left() {
    // A backoff that takes no time to speak of.
    let config =
        RetryConfig::new().backoff(Backoff::fixed(Duration::from_nanos(1)).expect("sound"));
    assert_eq!(fails_with_little_time_left(config).await, (1, Some(StopReason::TooLate)));
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_it_gets_an_attempt_however_late_it_is() {
    let config =
        RetryConfig::new().backoff(Backoff::fixed(Duration::from_nanos(1)).expect("sound"));
    let (calls, reason) = fails_with_little_time_left(config.begin_late(true)).await;
    assert_eq!((calls, reason), (2, Some(StopReason::Deadline)));
}

#[tokio::test(start_paused = true)]
async fn a_route_has_a_policy_of_its_own() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let leaf = service_fn(move |_: Call<u32>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err::<(), _>(BoxError::from("it fails")) }
    });
    let mut often = Policy::default();
    often.max_attempts = std::num::NonZeroU32::new(5).expect("not zero");
    let live = LivePolicy::new(Policy::default());
    let config = RetryConfig::new().route("search", often).live(live.clone());
    let service = RetryLayer::new(config, PlainClassifier::new()).layer(leaf);
    let attempts = async |words: Words| {
        calls.store(0, Ordering::Relaxed);
        let call = Call::with_words(0_u32, words.idempotent(true));
        service.clone().oneshot(call).await.expect_err("it fails");
        calls.load(Ordering::Relaxed)
    };
    assert_eq!(attempts(Words::new().route("search")).await, 5);
    assert_eq!(attempts(Words::new().route("charge")).await, 3);
    assert_eq!(attempts(Words::new()).await, 3);
    let mut once = Policy::default();
    once.max_attempts = std::num::NonZeroU32::MIN;
    live.set(once);
    assert_eq!(attempts(Words::new()).await, 1, "changed while calls are made");
    assert_eq!(attempts(Words::new().route("search")).await, 5);
}

/// A body that says to whoever polls it that something was handed over.
struct Marking;

impl http_body::Body for Marking {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        mark_handed_over();
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_marks_that_is_read_during_the_backoff_is_of_no_attempt() {
    let service = service_fn(async |_: Request<ReplayBody<Full<Bytes>>>| {
        let mut response = Response::new(Body::new(Marking));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        Ok::<_, io::Error>(response)
    });
    let config = RetryConfig::new().backoff(Backoff::fixed(SECOND).expect("no zero"));
    let service = RetryLayer::new(config, HttpClassifier::new()).layer(service);
    let mut call = pin!(service.oneshot(Request::new(Full::<Bytes>::default())));
    let mut trail = Trail::new();
    for _ in 0..3 {
        assert!(trail.enter(|| poll(call.as_mut())).is_pending());
        assert_eq!(trail.sent(), Sent::No, "it was turned away, and the next one is not made yet");
    }
}
