//! Hedging through its public interface.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError, Event, Observer,
    algo::{
        backoff::Backoff,
        bucket::{Class, Tariff},
    },
    body::{Body, ReplayBody},
    budget::Budget,
    call::{
        self, AttemptKind, Attempts, Call, Outcome, Raced, Target, Words, mark_handed_over,
        mark_target,
    },
    classify::{HttpClassifier, Sent, Verdict},
    endpoint::{EndpointKey, Refusal},
    find,
    hedge::{HedgeConfig, HedgeLayer},
    retry::{GaveUp, RetryConfig, RetryLayer},
};
use bytes::Bytes;
use http::{Method, Request, Response, header::RETRY_AFTER};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::{
    sync::mpsc,
    time::{Instant, advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(50);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

// --- A service that does as it is told --------------------------------------------------------

/// How an attempt ends.
enum Act {
    Status(u16),
    Answer(Response<Body>),
    Fail(BoxError),
    Hang,
}

use Act::{Answer, Fail, Hang, Status};

fn reset() -> Act {
    Fail(io::Error::from(io::ErrorKind::ConnectionReset).into())
}

fn asking_for(status: u16, retry_after: &str) -> Act {
    let response = Response::builder().status(status).header(RETRY_AFTER, retry_after);
    Answer(response.body(Body::empty()).expect("a response"))
}

/// One attempt as the leaf saw it.
struct Seen {
    at: Instant,
    words: Words,
}

/// Each attempt goes to an endpoint of its own where `balanced`, takes its time and ends as the
/// script says; after the last of them it answers 200 after 10 ms.
#[derive(Clone, Default)]
struct Leaf {
    shared: Arc<Script>,
}

#[derive(Default)]
struct Script {
    acts: Mutex<VecDeque<(Duration, Act)>>,
    targets: Mutex<VecDeque<Target>>,
    seen: Mutex<Vec<Seen>>,
    in_flight: AtomicU32,
}

impl Leaf {
    fn new(acts: impl IntoIterator<Item = (u32, Act)>) -> Self {
        let leaf = Self::default();
        leaf.will(acts);
        leaf
    }

    fn will(&self, acts: impl IntoIterator<Item = (u32, Act)>) {
        lock(&self.shared.acts).extend(acts.into_iter().map(|(ms, act)| (ms * MS, act)));
    }

    /// The endpoints that a balancer beneath would have chosen.
    fn targets(&self, count: u16) -> Vec<Target> {
        let target = |port| Target::new(EndpointKey::unique(), ([10, 0, 0, 1], port).into());
        let targets: Vec<Target> = (1..=count).map(target).collect();
        lock(&self.shared.targets).extend(targets.iter().copied());
        targets
    }

    fn calls(&self) -> usize {
        lock(&self.shared.seen).len()
    }

    fn in_flight(&self) -> u32 {
        self.shared.in_flight.load(SeqCst)
    }
}

/// A place that is given back on drop.
struct Place(Arc<Script>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

type Attempt<B> = Call<Request<ReplayBody<B>>>;

impl<B: Send + 'static> Service<Attempt<B>> for Leaf {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Attempt<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        lock(&shared.seen).push(Seen { at: Instant::now(), words: call.words });
        let (takes, act) = lock(&shared.acts).pop_front().unwrap_or((10 * MS, Status(200)));
        let target = lock(&shared.targets).pop_front();
        shared.in_flight.fetch_add(1, SeqCst);
        let place = Place(shared);
        Box::pin(async move {
            let _place = place;
            target.into_iter().for_each(mark_target);
            mark_handed_over();
            sleep(takes).await;
            match act {
                Status(status) => Ok(Response::builder().status(status).body(Body::empty())?),
                Answer(response) => Ok(response),
                Fail(error) => Err(error),
                Hang => pending().await,
            }
        })
    }
}

fn after_delay() -> HedgeConfig {
    HedgeConfig::after(DELAY).expect("above zero")
}

fn hedge(config: HedgeConfig) -> HedgeLayer<HttpClassifier> {
    HedgeLayer::new(config, HttpClassifier::new())
}

fn request(method: Method) -> Call<Request<Body>> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    Call::new(request)
}

fn get() -> Call<Request<Body>> {
    request(Method::GET)
}

fn retry(attempts: u32) -> RetryConfig {
    let backoff = Backoff::new(MS, MS).expect("sound");
    RetryConfig::new().backoff(backoff).max_attempts(attempts).expect("more than none")
}

/// What was told of hedges, as text.
fn listener() -> (Arc<Mutex<Vec<String>>>, Observer) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        let line = match event {
            Event::Hedged { attempt, delay } => format!("{attempt} after {delay:?}"),
            Event::NotHedged { reason } => format!("not: {reason}"),
            Event::HedgeEnded { attempt, winner } => format!("{attempt}: {winner}"),
            other => format!("{other:?}"),
        };
        lock(&log).push(line);
    });
    (heard, observer)
}

fn without_floor(capacity: u32) -> Budget {
    let mut tariff = Tariff::default();
    (tariff.capacity, tariff.floor_interval) = (capacity, None);
    Budget::new(tariff)
}

// --- When a second attempt is made ------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn only_what_is_slow_and_safe_to_repeat_is_hedged() -> Result<(), BoxError> {
    let keyed = |mut call: Call<Request<Body>>| {
        call.words.keyed = true;
        call
    };
    let said = |mut call: Call<Request<Body>>, idempotent| {
        call.words.idempotent = Some(idempotent);
        call
    };
    for (call, lasts, made) in [
        (get(), 49, 1),
        (get(), 50, 1),
        (get(), 51, 2),
        (request(Method::POST), 51, 1),
        (keyed(request(Method::POST)), 51, 2),
        (said(request(Method::POST), true), 51, 2),
        (said(get(), false), 51, 1),
    ] {
        let leaf = Leaf::new([(lasts, Status(200))]);
        let method = call.request.method().clone();
        hedge(after_delay()).layer(leaf.clone()).oneshot(call).await?;
        assert_eq!(leaf.calls(), made, "{method} of {lasts} ms");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_request_that_carries_its_words_itself_is_hedged_as_well() -> Result<(), BoxError> {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&attempts);
    let leaf = service_fn(move |request: Request<ReplayBody<Body>>| {
        let words = request.extensions().get::<Words>().cloned().unwrap_or_default();
        lock(&log).push((words.attempt, words.kind));
        let hang = words.kind != AttemptKind::Hedge;
        async move {
            if hang {
                pending::<()>().await;
            }
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    hedge(after_delay()).layer(leaf).oneshot(get().request).await?;
    assert_eq!(*lock(&attempts), [(0, AttemptKind::First), (2, AttemptKind::Hedge)]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_delay_too_long_to_be_counted_is_no_hedge_and_no_panic() -> Result<(), BoxError> {
    let leaf = Leaf::default();
    let config = HedgeConfig::after(Duration::MAX)?;
    hedge(config).layer(leaf.clone()).oneshot(get()).await?;
    assert_eq!(leaf.calls(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_second_attempt_is_prepared_for_when_the_call_is_over() -> Result<(), BoxError> {
    for (ms, made) in [(50, 1), (51, 2)] {
        let leaf = Leaf::new([(200, Status(200))]);
        let mut call = get();
        call.words.deadline = Some(now() + ms * MS);
        hedge(after_delay()).layer(leaf.clone()).oneshot(call).await?;
        assert_eq!(leaf.calls(), made, "a deadline in {ms} ms");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn goes_after_the_p95_of_what_it_has_seen_and_not_before_it_has() -> Result<(), BoxError> {
    let leaf = Leaf::default();
    let service = hedge(HedgeConfig::new()).layer(leaf.clone());
    // Nothing is known: a call that hangs is not hedged.
    leaf.will([(0, Hang)]);
    assert!(timeout(SECOND, service.clone().oneshot(get())).await.is_err());
    assert_eq!(leaf.calls(), 1);
    // 95 of 10 ms and 5 of 80 ms: the p95 is 10 ms.
    leaf.will((0..95).map(|_| (10, Status(200))).chain((0..5).map(|_| (80, Status(200)))));
    for _ in 0..100 {
        service.clone().oneshot(get()).await?;
    }
    assert_eq!(leaf.calls(), 101, "none was hedged before the first look");
    advance(3 * SECOND).await;
    for (lasts, made) in [(10, 1), (12, 2)] {
        let before = leaf.calls();
        leaf.will([(lasts, Status(200))]);
        service.clone().oneshot(get()).await?;
        assert_eq!(leaf.calls() - before, made, "{lasts} ms");
    }
    // After half a minute of silence nothing is known.
    advance(40 * SECOND).await;
    let before = leaf.calls();
    leaf.will([(500, Status(200))]);
    service.oneshot(get()).await?;
    assert_eq!(leaf.calls() - before, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_service_of_microseconds_is_hedged_after_a_millisecond() -> Result<(), BoxError> {
    let leaf = Leaf::new((0..100).map(|_| (0, Status(200))));
    let (heard, observer) = listener();
    let service = hedge(HedgeConfig::new().observer(observer)).layer(leaf.clone());
    for _ in 0..100 {
        service.clone().oneshot(get()).await?;
    }
    advance(3 * SECOND).await;
    leaf.will([(40, Status(200))]);
    service.oneshot(get()).await?;
    let heard = lock(&heard).clone();
    // Timers tell whole milliseconds, and fire no sooner.
    assert!(["2 after 1ms", "2 after 2ms"].contains(&&*heard[0]), "{heard:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn fast_failures_do_not_make_the_delay_shorter() -> Result<(), BoxError> {
    // One in forty succeeds: the p95 of all of them is a failure's.
    let leaf = Leaf::new((0..1000).map(|nth| match nth % 40 {
        0 => (30, Status(200)),
        1..20 => (1, Status(500)),
        20..30 => (1, reset()),
        _ => (1, Status(404)),
    }));
    let service = hedge(HedgeConfig::new()).layer(leaf.clone());
    for _ in 0..1000 {
        let _ = service.clone().oneshot(get()).await;
    }
    advance(3 * SECOND).await;
    let before = leaf.calls();
    leaf.will([(30, Status(200)), (40, Status(200))]);
    service.clone().oneshot(get()).await?;
    assert_eq!(leaf.calls() - before, 1);
    service.oneshot(get()).await?;
    assert!(leaf.calls() - before > 2, "but it is hedged");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_counts_at_least_so_long() -> Result<(), BoxError> {
    let leaf = Leaf::new((0..100).map(|_| (10, Status(200))));
    let (heard, observer) = listener();
    let config = HedgeConfig::new().observer(observer);
    let service = hedge(config).layer(leaf.clone());
    for _ in 0..100 {
        service.clone().oneshot(get()).await?;
    }
    advance(3 * SECOND).await;
    // Seven of 110 hang: two are cut by a winner, the others by their callers.
    for _ in 0..2 {
        leaf.will([(0, Hang), (100, Status(200))]);
        service.clone().oneshot(get()).await?;
    }
    for _ in 0..5 {
        leaf.will([(0, Hang), (0, Hang)]);
        assert!(timeout(70 * MS, service.clone().oneshot(get())).await.is_err());
    }
    advance(3 * SECOND).await;
    lock(&heard).clear();
    leaf.will([(0, Hang)]);
    service.oneshot(get()).await?;
    assert_eq!(lock(&heard)[0], "2 after 71ms", "the p95 is among those that were cut");
    Ok(())
}

// --- Who pays ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_extra_load_is_its_share_and_a_burst() -> Result<(), BoxError> {
    let leaf = Leaf::new((0..400).map(|_| (60, Status(200))));
    let (heard, observer) = listener();
    let config = after_delay().extra_load(0.1)?.burst(3)?.observer(observer);
    let service = hedge(config).layer(leaf.clone());
    for _ in 0..100 {
        service.clone().oneshot(get()).await?;
    }
    // The last of a hundred pays for the next.
    assert_eq!(leaf.calls(), 100 + 3 + 9);
    let refused = lock(&heard).iter().filter(|line| *line == "not: extra_load").count();
    assert_eq!(refused, 100 - 3 - 9);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_lost_is_paid_and_one_that_won_is_not() -> Result<(), BoxError> {
    for (first, second, left) in [(100, 100, 486), (500, 100, 500)] {
        let budget = Budget::new(Tariff::default());
        let leaf = Leaf::new([(first, Status(200)), (second, Status(200))]);
        let began = Instant::now();
        let config = after_delay().budget(budget.clone());
        hedge(config).layer(leaf.clone()).oneshot(get()).await?;
        assert_eq!(began.elapsed(), MS * first.min(second + 50));
        assert_eq!((leaf.calls(), budget.balance()), (2, left));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn hedges_leave_half_of_the_budget_to_the_retries() -> Result<(), BoxError> {
    let budget = without_floor(500);
    let (heard, observer) = listener();
    let leaf = Leaf::new((0..100).map(|_| (60, Status(200))));
    let config = after_delay().burst(100)?.budget(budget.clone()).observer(observer);
    let service = hedge(config).layer(leaf.clone());
    for _ in 0..30 {
        service.clone().oneshot(get()).await?;
    }
    // 500 − 18 · 14 = 248: the first that is not above 250.
    assert_eq!((leaf.calls(), budget.balance()), (30 + 18, 248));
    assert_eq!(lock(&heard).last().map(String::as_str), Some("not: budget"));
    assert!(budget.withdraw(Class::Transient, now()).is_some(), "a retry is paid");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_the_budget_refuses_costs_no_extra_load() -> Result<(), BoxError> {
    let budget = without_floor(28);
    let leaf = Leaf::new((0..100).map(|_| (60, Status(200))));
    let config = after_delay().burst(1)?.budget(budget.clone());
    let service = hedge(config).layer(leaf.clone());
    let paid = budget.withdraw(Class::Transient, now()).ok_or("it is full")?;
    service.clone().oneshot(get()).await?;
    assert_eq!(leaf.calls(), 1);
    budget.refund(paid);
    service.oneshot(get()).await?;
    assert_eq!(leaf.calls(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_never_got_ready_costs_nothing() -> Result<(), BoxError> {
    let budget = Budget::new(Tariff::default());
    let leaf = Leaf::new([(100, Status(200)), (100, Status(200)), (60, Status(200))]);
    let config = after_delay().burst(1)?.budget(budget.clone());
    let service = hedge(config).layer(ConcurrencyLimit::new(leaf.clone(), 1));
    for _ in 0..2 {
        service.clone().oneshot(get()).await?;
    }
    assert_eq!((leaf.calls(), budget.balance()), (2, 500));
    // Dropped while it waits for readiness.
    assert!(timeout(55 * MS, service.oneshot(get())).await.is_err());
    assert_eq!(budget.balance(), 500);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_beneath_neither_panics_nor_leaks_its_permits() -> Result<(), BoxError>
{
    let leaf =
        Leaf::new((0..40).map(|nth| if nth % 2 == 0 { (0, Hang) } else { (5, Status(200)) }));
    let service = hedge(after_delay().burst(20)?).layer(ConcurrencyLimit::new(leaf.clone(), 2));
    for _ in 0..20 {
        service.clone().oneshot(get()).await?;
    }
    assert_eq!(leaf.calls(), 40);
    Ok(())
}

// --- Never under overload ---------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_service_that_is_overloaded_is_not_hedged() -> Result<(), BoxError> {
    let leaf = Leaf::new([(1, Status(503)), (60, Status(200)), (60, Status(200))]);
    let (heard, observer) = listener();
    let service = hedge(after_delay().observer(observer)).layer(leaf.clone());
    service.clone().oneshot(get()).await?;
    service.clone().oneshot(get()).await?;
    assert_eq!(leaf.calls(), 2);
    assert_eq!(*lock(&heard), ["not: overload"]);
    advance(11 * SECOND).await;
    service.oneshot(get()).await?;
    assert_eq!(leaf.calls(), 4);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_tells_of_overload_too() -> Result<(), BoxError> {
    let leaf = Leaf::new([(100, Status(200)), (10, Status(429)), (60, Status(200))]);
    let service = hedge(after_delay()).layer(leaf.clone());
    service.clone().oneshot(get()).await?;
    service.oneshot(get()).await?;
    assert_eq!(leaf.calls(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn while_a_pushback_holds_nothing_is_hedged() -> Result<(), BoxError> {
    // 500: it blames the endpoint, so no overload is seen, but there is no balancer either.
    let leaf = Leaf::new([(1, asking_for(500, "20")), (60, Status(200)), (60, Status(200))]);
    let (heard, observer) = listener();
    let service = hedge(after_delay().observer(observer)).layer(leaf.clone());
    service.clone().oneshot(get()).await?;
    advance(19 * SECOND).await;
    service.clone().oneshot(get()).await?;
    assert_eq!(*lock(&heard), ["not: pushback"]);
    advance(SECOND).await;
    service.oneshot(get()).await?;
    assert_eq!(leaf.calls(), 4);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_pushback_of_an_endpoint_that_a_balancer_chose_is_the_balancers() -> Result<(), BoxError>
{
    let leaf = Leaf::new([(1, asking_for(500, "20")), (60, Status(200))]);
    leaf.targets(3);
    let service = hedge(after_delay()).layer(leaf.clone());
    service.clone().oneshot(get()).await?;
    service.oneshot(get()).await?;
    assert_eq!(leaf.calls(), 3);
    Ok(())
}

// --- The race ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_second_attempt_goes_elsewhere_and_says_what_it_is() -> Result<(), BoxError> {
    let leaf = Leaf::new([(0, Hang)]);
    let targets = leaf.targets(2);
    let began = Instant::now();
    hedge(after_delay()).layer(leaf.clone()).oneshot(get()).await?;
    let seen = lock(&leaf.shared.seen);
    assert_eq!(seen[1].at - began, DELAY);
    assert_eq!((seen[1].words.attempt, seen[1].words.kind), (2, AttemptKind::Hedge));
    assert!(seen[0].words.tried.is_empty());
    assert_eq!(seen[1].words.tried.iter().collect::<Vec<_>>(), [targets[0].key]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_first_success_wins_and_the_loser_is_gone_before_it_is_handed_out()
-> Result<(), BoxError> {
    // Who wins, after how long, of a first and a second attempt that take so long.
    for (first, second, winner, took) in [
        (80, 100, "first", 80),
        (500, 100, "second", 150),
        // Both at once: the one that has waited longer.
        (80, 30, "first", 80),
    ] {
        let leaf = Leaf::new([(first, Status(200)), (second, Status(204))]);
        let (heard, observer) = listener();
        let began = Instant::now();
        let mut service = hedge(after_delay().observer(observer)).layer(leaf.clone());
        // The future is still there when its response is.
        let mut future = pin!(service.call(get()));
        let (response, in_flight) = (future.as_mut().await, leaf.in_flight());
        let status = if winner == "first" { 200 } else { 204 };
        assert_eq!((response?.status().as_u16(), in_flight), (status, 0));
        assert_eq!(began.elapsed(), took * MS);
        assert_eq!(*lock(&heard), ["2 after 50ms".to_owned(), format!("2: {winner}")]);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_delay_is_a_failure() -> Result<(), BoxError> {
    let leaf = Leaf::new([(10, Status(500))]);
    let response = hedge(after_delay()).layer(leaf.clone()).oneshot(get()).await?;
    assert_eq!((response.status().as_u16(), leaf.calls()), (500, 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn while_one_attempt_runs_the_failure_of_the_other_is_no_answer() -> Result<(), BoxError> {
    for (acts, winner, took) in [
        // The second fails, and the first is waited for.
        ([(100, Status(200)), (10, Status(500))], "first", 100),
        ([(100, Status(200)), (10, reset())], "first", 100),
        // The first fails, and the second is waited for.
        ([(60, Status(500)), (100, Status(200))], "second", 150),
        ([(60, reset()), (100, Status(200))], "second", 150),
    ] {
        let leaf = Leaf::new(acts);
        let (heard, observer) = listener();
        let began = Instant::now();
        let service = hedge(after_delay().observer(observer)).layer(leaf.clone());
        let response = service.oneshot(get()).await?;
        assert_eq!((response.status().as_u16(), began.elapsed()), (200, took * MS));
        assert_eq!(*lock(&heard), ["2 after 50ms".to_owned(), format!("2: {winner}")]);
        assert_eq!((leaf.calls(), leaf.in_flight()), (2, 0));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn of_two_failures_the_more_telling_one_is_handed_out() -> Result<(), BoxError> {
    let refused = || Fail(Refusal::until(now() + SECOND, now()).into());
    // 60 ms and then, at 60 or 90 ms: so either may come first.
    for (first, second, status) in [
        (Status(503), Status(404), Some(404)),
        (Status(404), Status(503), Some(404)),
        (reset(), Status(502), Some(502)),
        (Status(502), reset(), Some(502)),
        // A refusal by this program itself never hides what a service met.
        (refused(), Status(503), Some(503)),
        (Status(503), refused(), Some(503)),
        // It may have been carried out, so that is what is said.
        (reset(), Status(429), None),
        (Status(429), reset(), None),
        // Of two that tell the same, the first attempt's.
        (Status(500), Status(599), Some(500)),
    ] {
        for lasts in [10, 40] {
            let (heard, observer) = listener();
            let acts = [copy(&first), copy(&second)];
            let [first, second] = acts;
            let leaf = Leaf::new([(60, first), (lasts, second)]);
            let service = hedge(after_delay().observer(observer)).layer(leaf.clone());
            let response = service.oneshot(get()).await;
            assert_eq!(response.ok().map(|response| response.status().as_u16()), status);
            assert_eq!(lock(&heard).last().map(String::as_str), Some("2: neither"));
        }
    }
    Ok(())
}

/// Acts are told once; a script that is told twice needs two.
fn copy(act: &Act) -> Act {
    match act {
        Status(status) => Status(*status),
        Fail(error) if error.is::<io::Error>() => reset(),
        Fail(_) => Fail(Refusal::until(now() + SECOND, now()).into()),
        Answer(_) | Hang => panic!("not copied"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_frees_both_attempts() {
    let (leaf, budget) = (Leaf::new([(0, Hang), (0, Hang)]), without_floor(500));
    let (heard, observer) = listener();
    let config = after_delay().budget(budget.clone()).observer(observer);
    let service = hedge(config).layer(leaf.clone());
    assert!(timeout(100 * MS, service.oneshot(get())).await.is_err());
    assert_eq!((leaf.calls(), leaf.in_flight(), budget.balance()), (2, 0, 486));
    assert_eq!(*lock(&heard), ["2 after 50ms", "2: dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_response_tells_of_both_attempts_and_of_who_lost() -> Result<(), BoxError> {
    let leaf = Leaf::new([(0, Hang), (30, Status(200))]);
    let targets = leaf.targets(2);
    let stack = RetryLayer::new(retry(3), HttpClassifier::new())
        .layer(hedge(after_delay()).layer(leaf.clone()));
    let response = stack.oneshot(get()).await?;
    let attempts = response.extensions().get::<Attempts>().ok_or("it was hedged")?;
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.kind, attempt.target, attempt.lasted))
        .collect();
    assert_eq!(
        told,
        [
            (1, AttemptKind::First, Some(targets[0]), 80 * MS),
            (2, AttemptKind::Hedge, Some(targets[1]), 30 * MS),
        ]
    );
    assert_eq!(attempts[0].verdict, Verdict::CANCELLED);
    assert!(matches!(&attempts[0].outcome, Outcome::Error(words) if words.contains("raced")));
    assert_eq!(attempts[1].outcome, Outcome::Response(Some(200)));
    assert_eq!(attempts[1].backoff, DELAY);
    // One that was not hedged carries none.
    let response = hedge(after_delay()).layer(leaf).oneshot(get()).await?;
    assert!(response.extensions().get::<Attempts>().is_none());
    Ok(())
}

// --- Beneath retry ----------------------------------------------------------------------------

/// Number, kind and outcome.
fn told(attempts: &[call::Attempt]) -> Vec<(u32, AttemptKind, Outcome)> {
    let tell = |attempt: &call::Attempt| (attempt.number, attempt.kind, attempt.outcome.clone());
    attempts.iter().map(tell).collect()
}

fn status(code: u16) -> Outcome {
    Outcome::Response(Some(code))
}

#[tokio::test(start_paused = true)]
async fn two_that_failed_are_one_attempt_to_a_retry_which_goes_to_a_third_endpoint_and_tells_of_all()
-> Result<(), BoxError> {
    use AttemptKind::{First, Hedge, Retry};
    let leaf = Leaf::new([(60, Status(500)), (40, Status(503)), (10, Status(200))]);
    let targets = leaf.targets(3);
    let budget = without_floor(500);
    let layer = RetryLayer::new(retry(2).budget(budget.clone()), HttpClassifier::new());
    let stack = layer.layer(hedge(after_delay().budget(budget.clone())).layer(leaf.clone()));
    let response = stack.oneshot(get()).await?;
    let attempts = response.extensions().get::<Attempts>().ok_or("it was retried")?;
    assert_eq!((response.status().as_u16(), leaf.calls()), (200, 3));
    let all = [(1, First, status(500)), (2, Hedge, status(503)), (3, Retry, status(200))];
    assert_eq!(told(attempts), all);
    let went: Vec<_> = attempts.iter().map(|attempt| attempt.target).collect();
    assert_eq!(went, targets.into_iter().map(Some).collect::<Vec<_>>());
    assert!(attempts[2].backoff > Duration::ZERO && attempts[1].backoff == DELAY);
    // The hedge lost and is paid; the retry succeeded and is not.
    assert_eq!(budget.balance(), 486);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_hedged_in_its_turn_goes_on_counting() -> Result<(), BoxError> {
    use AttemptKind::{First, Hedge, Retry};
    // Not a 503: an overloaded service is not hedged.
    let leaf = Leaf::new([(10, Status(500)), (0, Hang), (10, Status(200))]);
    let stack = RetryLayer::new(retry(2), HttpClassifier::new())
        .layer(hedge(after_delay()).layer(leaf.clone()));
    let response = stack.oneshot(get()).await?;
    let attempts = response.extensions().get::<Attempts>().ok_or("it was retried")?;
    let [first, second, third] = &told(attempts)[..] else { panic!("{attempts:?}") };
    assert_eq!((first, third), (&(1, First, status(500)), &(3, Hedge, status(200))));
    assert_eq!((second.0, second.1), (2, Retry));
    assert_eq!(attempts[1].verdict, Verdict::CANCELLED);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn errors_of_two_that_raced_are_both_told_and_count_as_one() -> Result<(), BoxError> {
    use AttemptKind::{First, Hedge, Retry};
    let leaf = Leaf::new([(60, reset()), (40, reset()), (60, reset()), (40, Status(500))]);
    let stack = RetryLayer::new(retry(2), HttpClassifier::new())
        .layer(hedge(after_delay()).layer(leaf.clone()));
    let response = stack.oneshot(get()).await?;
    assert_eq!((response.status().as_u16(), leaf.calls()), (500, 4));
    let attempts = response.extensions().get::<Attempts>().ok_or("it was retried")?;
    let kinds: Vec<_> = told(attempts).into_iter().map(|(n, kind, _)| (n, kind)).collect();
    assert_eq!(kinds, [(1, First), (2, Hedge), (3, Retry), (4, Hedge)]);

    let leaf = Leaf::new([(60, reset()), (40, reset())]);
    let race = hedge(after_delay()).layer(leaf);
    let error = race.clone().oneshot(get()).await.expect_err("both failed");
    let raced: &Raced = find(&*error).ok_or("it tells of both")?;
    assert_eq!(raced.attempts().len(), 2);
    let leaf = Leaf::new([(60, reset()), (40, reset())]);
    let stack =
        RetryLayer::new(retry(1), HttpClassifier::new()).layer(hedge(after_delay()).layer(leaf));
    let error = stack.oneshot(get()).await.expect_err("both failed");
    let gave_up: &GaveUp = find(&*error).ok_or("the retry gave up")?;
    assert_eq!((gave_up.attempts().len(), gave_up.attempts()[1].kind), (2, Hedge));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_a_call_for_not_carried_out_that_an_attempt_may_have() {
    let leaf = Leaf::new([(0, Hang), (100, Fail(Refusal::until(now() + SECOND, now()).into()))]);
    leaf.will([(0, Hang)]);
    let stack = RetryLayer::new(retry(1), HttpClassifier::new())
        .layer(hedge(after_delay()).layer(leaf.clone()));
    let first = stack.clone().oneshot(get());
    assert!(timeout(200 * MS, first).await.is_err(), "the first attempt is waited for");
    let leaf =
        Leaf::new([(60, reset()), (100, Fail(Refusal::until(now() + SECOND, now()).into()))]);
    let stack =
        RetryLayer::new(retry(1), HttpClassifier::new()).layer(hedge(after_delay()).layer(leaf));
    let error = stack.oneshot(get()).await.expect_err("both failed");
    let gave_up: &GaveUp = find(&*error).expect("the retry gave up");
    assert_eq!(gave_up.sent(), Sent::Maybe);
}

// --- Bodies -----------------------------------------------------------------------------------

/// A body whose pieces come from elsewhere.
struct Pieces(mpsc::Receiver<&'static str>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

/// Reads each attempt's body and says when it has each piece; the first attempt never answers.
fn reads(
    log: &Arc<Mutex<Vec<String>>>,
) -> impl Service<Attempt<Pieces>, Response = Response<Body>, Error = BoxError, Future: Send> + Clone
{
    let log = Arc::clone(log);
    let began = Instant::now();
    service_fn(move |call: Attempt<Pieces>| {
        let log = Arc::clone(&log);
        async move {
            let kind = call.words.kind;
            let mut body = call.request.into_body();
            while let Some(frame) = body.frame().await {
                let piece = frame?.into_data().map_err(|_| "there are no trailers")?;
                let piece = String::from_utf8_lossy(&piece).into_owned();
                let at = began.elapsed().as_millis();
                lock(&log).push(format!("{kind:?} {piece} {at}"));
            }
            if kind == AttemptKind::First {
                pending::<()>().await;
            }
            Ok(Response::new(Body::empty()))
        }
    })
}

fn put(pieces: mpsc::Receiver<&'static str>) -> Call<Request<Pieces>> {
    let mut request = Request::new(Pieces(pieces));
    *request.method_mut() = Method::PUT;
    Call::new(request)
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_read_by_both_attempts_at_once() -> Result<(), BoxError> {
    let (send, pieces) = mpsc::channel(2);
    let log = Arc::default();
    let call = hedge(after_delay()).layer(reads(&log)).oneshot(put(pieces));
    let feed = async {
        send.send("one").await?;
        sleep(60 * MS).await;
        send.send("two").await?;
        sleep(20 * MS).await;
        drop(send);
        Ok::<_, BoxError>(())
    };
    let (response, fed) = tokio::join!(call, feed);
    fed?;
    assert_eq!(response?.status(), 200);
    let mut log = lock(&log).clone();
    log.sort_unstable();
    assert_eq!(log, ["First one 0", "First two 60", "Hedge one 50", "Hedge two 60"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_past_its_cap_is_sent_once() -> Result<(), BoxError> {
    let (send, pieces) = mpsc::channel(2);
    send.send("a piece past its cap").await?;
    drop(send);
    let (heard, observer) = listener();
    let log = Arc::default();
    let service = hedge(after_delay().replay_cap(10).observer(observer)).layer(reads(&log));
    assert!(timeout(SECOND, service.oneshot(put(pieces))).await.is_err());
    assert_eq!(*lock(&log), ["First a piece past its cap 0"]);
    assert_eq!(*lock(&heard), ["not: not_replayable"]);
    Ok(())
}
