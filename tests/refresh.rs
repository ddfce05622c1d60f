//! Credentials that expire, through the public interface.

#[cfg(feature = "hyper")]
mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error as StdError,
    fmt,
    future::{Future, pending, poll_fn, ready},
    hash::{BuildHasher, RandomState},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Event, Observer,
    algo::{backoff::Backoff, bucket::Tariff},
    body::{Body, ReplayBody},
    budget::Budget,
    call::{Call, Words, mark_handed_over},
    classify::{HttpClassifier, Sent, verdict_on_error},
    find,
    idempotency::IdempotencyLayer,
    refresh::{Bearer, RefreshConfig, RefreshFailed, RefreshFn, RefreshLayer, RefreshTimedOut},
    retry::{RetryConfig, RetryLayer},
    timeout::{DeadlineLayer, Elapsed},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Request, Response};
use tokio::{
    task::yield_now,
    time::{advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no test panics with it")
}

fn post() -> Request<Body> {
    Request::post("http://shop/orders").body("an apple".into()).expect("it is sound")
}

fn get() -> Request<Body> {
    Request::get("http://shop/orders").body(Body::empty()).expect("it is sound")
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::from("done"));
    *response.status_mut() = code.try_into().expect("a status");
    response
}

// --- A shop and its token service -------------------------------------------------------------

/// A shop that knows one token, and its token service, which hands out "t1", "t2", ….
#[derive(Clone, Default)]
struct Shop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    valid: Mutex<String>,
    seen: Mutex<Vec<HeaderMap>>,
    /// What it does instead of looking at the token, in order.
    instead: Mutex<VecDeque<Instead>>,
    takes: Mutex<Duration>,
    fetched: AtomicUsize,
    fetching_takes: Mutex<Duration>,
    down: Mutex<Option<&'static str>>,
    dropped_fetchings: AtomicUsize,
    heard: Mutex<Vec<String>>,
}

enum Instead {
    Status(u16),
    Reset,
}

type Token = Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;

#[derive(Debug, PartialEq)]
struct Down(&'static str);

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Down {}

struct Fetching(Shop, bool);

impl Fetching {
    fn finish(&mut self) {
        self.1 = true;
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if !self.1 {
            self.0.0.dropped_fetchings.fetch_add(1, SeqCst);
        }
    }
}

impl Shop {
    /// Knows the token that will be fetched as the first.
    fn new() -> Self {
        let shop = Self::default();
        *lock(&shop.0.valid) = "t1".to_owned();
        *lock(&shop.0.fetching_takes) = 50 * MS;
        *lock(&shop.0.takes) = 10 * MS;
        shop
    }

    fn leaf<B>(
        &self,
    ) -> impl Service<Request<B>, Response = Response<Body>, Error = BoxError, Future: Send>
    + Clone
    + use<B>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let shop = self.clone();
        service_fn(move |request: Request<B>| {
            let shop = shop.clone();
            async move {
                mark_handed_over();
                let own = request.headers().clone();
                lock(&shop.0.seen).push(own.clone());
                let body = http_body_util::BodyExt::collect(request.into_body()).await;
                body.map_err(Into::into)?;
                let takes = *lock(&shop.0.takes);
                sleep(takes).await;
                match lock(&shop.0.instead).pop_front() {
                    Some(Instead::Status(code)) => return Ok(status(code)),
                    Some(Instead::Reset) => {
                        return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
                    }
                    None => {}
                }
                let valid = format!("Bearer {}", lock(&shop.0.valid));
                let shown = own.get("authorization").is_some_and(|shown| *shown == valid);
                Ok(status(if shown { 200 } else { 401 }))
            }
        })
    }

    fn tokens(&self) -> Bearer<impl Fn() -> Token + use<>> {
        let shop = self.clone();
        let tokens = Bearer::new(move || {
            let shop = shop.clone();
            let number = shop.0.fetched.fetch_add(1, SeqCst) + 1;
            let mut fetching = Fetching(shop.clone(), false);
            Box::pin(async move {
                let takes = *lock(&shop.0.fetching_takes);
                // In two steps, so that there is something to carry on.
                sleep(takes / 2).await;
                sleep(takes - takes / 2).await;
                fetching.finish();
                match *lock(&shop.0.down) {
                    Some(why) => Err(Down(why).into()),
                    None => Ok(format!("t{number}")),
                }
            }) as Token
        });
        tokens.token("t0").expect("it is sound")
    }

    fn config(&self) -> RefreshConfig {
        let shop = self.clone();
        RefreshConfig::new().observer(Observer::new(move |event| {
            lock(&shop.0.heard).push(match event {
                Event::CredentialRefreshed { took } => format!("refreshed {}", took.as_millis()),
                Event::CredentialRefreshFailed(error) => format!("failed: {error}"),
                Event::CredentialRefused { reason } => (*reason).to_owned(),
                other => panic!("{other:?}"),
            });
        }))
    }

    fn service(
        &self,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + use<> {
        RefreshLayer::new(self.config(), self.tokens()).layer(self.leaf::<ReplayBody<Body>>())
    }

    fn shown(&self) -> Vec<String> {
        let seen = lock(&self.0.seen);
        let shown = |headers: &HeaderMap| {
            headers["authorization"]
                .to_str()
                .expect("ASCII")
                .trim_start_matches("Bearer ")
                .to_owned()
        };
        seen.iter().map(shown).collect()
    }

    fn fetched(&self) -> usize {
        self.0.fetched.load(SeqCst)
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0.heard))
    }
}

// --- One call ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_made_again_with_a_new_credential_whatever_its_method()
-> Result<(), BoxError> {
    let shop = Shop::new();
    let began = now();
    let response = shop.service().oneshot(post()).await?;
    assert_eq!((response.status().as_u16(), now() - began), (200, 70 * MS));
    assert_eq!(shop.shown(), ["t0", "t1"]);
    assert!(lock(&shop.0.seen)[1]["authorization"].is_sensitive());
    assert_eq!(shop.heard(), ["refreshed 50"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_second_refusal_is_the_answer() -> Result<(), BoxError> {
    let shop = Shop::new();
    *lock(&shop.0.valid) = "another".to_owned();
    let service = shop.service();
    assert_eq!(service.clone().oneshot(post()).await?.status(), 401);
    assert_eq!(shop.shown(), ["t0", "t1"]);
    assert_eq!(shop.heard(), ["refreshed 50", "again"]);

    // Nor does the next call fetch at once what would be refused again.
    assert_eq!(service.clone().oneshot(post()).await?.status(), 401);
    assert_eq!((shop.fetched(), shop.shown().len()), (1, 3));
    assert_eq!(shop.heard(), ["new_credential"]);
    advance(1000 * MS).await;
    assert_eq!(service.oneshot(post()).await?.status(), 401);
    assert_eq!((shop.fetched(), shop.shown().len()), (2, 5));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn without_a_first_credential_the_call_goes_out_without() -> Result<(), BoxError> {
    let leaf = service_fn(|request: Request<ReplayBody<Body>>| {
        let shown = request.headers().get("authorization").cloned();
        ready(Ok::<_, Infallible>(status(if shown.is_some() { 200 } else { 401 })))
    });
    let tokens = Bearer::new(async || Ok::<_, BoxError>("t1"));
    let service = RefreshLayer::new(RefreshConfig::new(), tokens).layer(leaf);
    assert_eq!(service.oneshot(post()).await?.status(), 200);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_leaves_the_refusal_as_the_answer() -> Result<(), BoxError>
{
    let shop = Shop::new();
    let config = shop.config().replay_cap(4);
    let service = RefreshLayer::new(config, shop.tokens()).layer(shop.leaf::<ReplayBody<_>>());
    let response = service.oneshot(post()).await?;
    assert_eq!(response.status(), 401);
    assert_eq!(response.into_body().collect().await?, "done", "as it came");
    assert_eq!((shop.fetched(), shop.heard()), (0, vec!["not_replayable".to_owned()]));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn grpc_says_it_in_the_head() -> Result<(), BoxError> {
    let leaf = service_fn(|request: Request<ReplayBody<Body>>| {
        let mut response = Response::new(());
        if request.headers()["authorization"] != "Bearer t1" {
            response.headers_mut().insert("grpc-status", 16.into());
        }
        ready(Ok::<_, Infallible>(response))
    });
    let shop = Shop::new();
    let service = RefreshLayer::new(shop.config(), shop.tokens()).layer(leaf);
    let response = service.oneshot(post()).await?;
    assert!(response.headers().is_empty());
    assert_eq!(shop.fetched(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_serves_requests_of_any_kind() -> Result<(), BoxError> {
    let sessions = RefreshFn::new(
        |request: &mut String, session: &u32| request.insert_str(0, &format!("{session}:")),
        |old: Option<u32>| ready(Ok::<_, BoxError>(old.unwrap_or(0) + 1)),
    );
    let leaf = service_fn(|call: Call<String>| ready(Ok::<_, Infallible>(call.request)));
    let stale = |answer: &String| answer.starts_with("7:");
    let layer = RefreshLayer::with_stale(RefreshConfig::new(), sessions.starting_with(7), stale);
    let mut service = layer.layer(leaf);
    for _ in 0..2 {
        let call = Call::new("hello".to_owned());
        assert_eq!(
            ServiceExt::<Call<String>>::ready(&mut service).await?.call(call).await?,
            "8:hello"
        );
    }
    Ok(())
}

// --- Many calls -------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn calls_that_are_refused_together_wait_for_one_fetching() -> Result<(), BoxError> {
    let shop = Shop::new();
    let service = shop.service();
    let calls = (0..20).map(|nth| {
        let service = service.clone();
        async move {
            // Some come while it is under way.
            sleep(nth * 2 * MS).await;
            service.oneshot(post()).await
        }
    });
    for response in join_all(calls).await {
        assert_eq!(response?.status(), 200);
    }
    assert_eq!((shop.fetched(), shop.heard()), (1, vec!["refreshed 50".to_owned()]));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_of_the_old_credential_fetches_nothing() -> Result<(), BoxError> {
    let shop = Shop::new();
    let service = shop.service();
    *lock(&shop.0.takes) = 500 * MS;
    let slow = tokio::spawn(service.clone().oneshot(post()));
    yield_now().await;
    *lock(&shop.0.takes) = 10 * MS;
    assert_eq!(service.oneshot(post()).await?.status(), 200);
    assert_eq!(slow.await??.status(), 200);
    assert_eq!(shop.fetched(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetching_fails_all_who_waited_and_is_not_repeated_at_once() -> Result<(), BoxError>
{
    let shop = Shop::new();
    *lock(&shop.0.down) = Some("no tokens today");
    let service = shop.service();
    let failed = |result: Result<Response<Body>, BoxError>| {
        let error = result.expect_err("it failed");
        assert_eq!(find::<Down>(&*error), Some(&Down("no tokens today")));
        let failed = find::<RefreshFailed>(&*error).expect("it says so");
        assert_eq!(failed.sent(), Sent::No);
        assert_eq!(verdict_on_error(&*error).sent, Sent::No);
    };
    let calls = (0..5).map(|_| service.clone().oneshot(post()));
    join_all(calls).await.into_iter().for_each(failed);
    assert_eq!((shop.fetched(), shop.shown().len()), (1, 5));
    assert_eq!(shop.heard(), ["failed: no tokens today"]);

    // Within the pause the known error, at once.
    advance(500 * MS).await;
    failed(service.clone().oneshot(post()).await);
    assert_eq!(shop.fetched(), 1);

    *lock(&shop.0.down) = None;
    *lock(&shop.0.valid) = "t2".to_owned();
    advance(500 * MS).await;
    assert_eq!(service.oneshot(post()).await?.status(), 200);
    assert_eq!(shop.fetched(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_fetching_that_takes_too_long_is_given_up_for_all() -> Result<(), BoxError> {
    let shop = Shop::new();
    *lock(&shop.0.fetching_takes) = 60_000 * MS;
    let service = shop.service();
    let began = now();
    let late = async {
        sleep(4000 * MS).await;
        service.clone().oneshot(post()).await
    };
    let (first, late) = tokio::join!(service.clone().oneshot(post()), late);
    assert_eq!(now() - began, 10_010 * MS);
    for result in [first, late] {
        let error = result.expect_err("it takes too long");
        let limit = find::<RefreshTimedOut>(&*error).map(RefreshTimedOut::limit);
        assert_eq!(limit, Some(10_000 * MS));
    }
    assert_eq!((shop.fetched(), shop.0.dropped_fetchings.load(SeqCst)), (1, 1));
    Ok(())
}

// --- Deadlines --------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn who_has_no_time_left_gets_the_refusal_and_the_others_the_credential()
-> Result<(), BoxError> {
    let shop = Shop::new();
    let service = shop.service();
    let began = now();
    let mut hurried = post();
    hurried.extensions_mut().insert(Words::new().deadline(began + 40 * MS));
    let hurried = async {
        let response = service.clone().oneshot(hurried).await;
        (response.map(|response| response.status().as_u16()), now() - began)
    };
    let (hurried, patient) = tokio::join!(hurried, service.clone().oneshot(post()));
    assert_eq!((hurried.0?, hurried.1), (401, 40 * MS));
    assert_eq!(patient?.status(), 200);
    assert_eq!(shop.fetched(), 1);
    assert_eq!(shop.heard(), ["deadline", "refreshed 50"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn with_no_time_left_nothing_is_fetched_nor_sent() -> Result<(), BoxError> {
    let shop = Shop::new();
    let mut late = post();
    late.extensions_mut().insert(Words::new().deadline(now() + 10 * MS));
    assert_eq!(shop.service().oneshot(late).await?.status(), 401);
    assert_eq!((shop.fetched(), shop.heard()), (0, vec!["deadline".to_owned()]));
    Ok(())
}

/// A service that is ready at once the first time, and then never.
#[derive(Clone)]
struct Once(Arc<AtomicUsize>);

impl Service<Request<ReplayBody<Body>>> for Once {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0.fetch_add(1, SeqCst) {
            0 => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err("it is gone".into())),
        }
    }

    fn call(&mut self, _: Request<ReplayBody<Body>>) -> Self::Future {
        ready(Ok(status(401)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_leaves_the_refusal_as_the_answer() -> Result<(), BoxError> {
    let shop = Shop::new();
    let service = RefreshLayer::new(shop.config(), shop.tokens()).layer(Once(Arc::default()));
    assert_eq!(service.oneshot(post()).await?.status(), 401);
    assert_eq!(shop.heard(), ["refreshed 50", "unavailable"]);
    Ok(())
}

/// Goal: a call that is given up while a credential is fetched says whether it may have
/// happened. Method: a deadline above, over attempts whose outcome is known or not.
#[tokio::test(start_paused = true)]
async fn a_call_cut_off_while_it_waits_was_not_sent_unless_an_attempt_before_was()
-> Result<(), BoxError> {
    for (before, sent) in [(None, Sent::No), (Some(Instead::Reset), Sent::Maybe)] {
        let shop = Shop::new();
        lock(&shop.0.instead).extend(before);
        *lock(&shop.0.fetching_takes) = 5000 * MS;
        // Its own deadline is in no words that the layer beneath can see.
        let between = service_fn({
            let backoff = Backoff::new(MS, MS)?;
            let retry = RetryLayer::new(RetryConfig::new().backoff(backoff), HttpClassifier::new());
            let service = ServiceBuilder::new()
                .layer(RefreshLayer::new(shop.config(), shop.tokens()))
                .layer(retry)
                .service(shop.leaf::<ReplayBody<ReplayBody<Body>>>());
            move |mut request: Request<Body>| {
                request.extensions_mut().remove::<Words>();
                service.clone().oneshot(request)
            }
        });
        let service = DeadlineLayer::new(300 * MS)?.layer(between);
        let error = service.oneshot(get()).await.err().ok_or("it takes too long")?;
        assert_eq!(find::<Elapsed>(&*error).map(Elapsed::sent), Some(sent));
        assert_eq!(shop.fetched(), 1);
    }
    Ok(())
}

// --- Beside other layers ----------------------------------------------------------------------

fn retry(budget: &Budget) -> RetryLayer<HttpClassifier> {
    let backoff = Backoff::new(MS, MS).expect("sound");
    let config = RetryConfig::new().backoff(backoff).budget(budget.clone());
    RetryLayer::new(config, HttpClassifier::new())
}

#[tokio::test(start_paused = true)]
async fn above_retry_it_costs_no_budget_and_each_attempt_carries_the_new_credential()
-> Result<(), BoxError> {
    let shop = Shop::new();
    let budget = Budget::new(Tariff::default());
    let full = budget.balance();
    let service = ServiceBuilder::new()
        .layer(RefreshLayer::new(shop.config(), shop.tokens()))
        .layer(retry(&budget))
        .service(shop.leaf::<ReplayBody<ReplayBody<Body>>>());
    assert_eq!(service.clone().oneshot(get()).await?.status(), 200);
    assert_eq!((budget.balance(), shop.shown()), (full, vec!["t0".to_owned(), "t1".to_owned()]));

    // A refusal, and then a failure that is tried again.
    advance(1000 * MS).await;
    *lock(&shop.0.valid) = "t2".to_owned();
    lock(&shop.0.instead).extend([Instead::Status(401), Instead::Status(503)]);
    assert_eq!(service.oneshot(get()).await?.status(), 200);
    assert_eq!(shop.shown()[2..], ["t1", "t2", "t2"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_earlier_attempt_that_may_have_happened_is_told_with_the_failure() -> Result<(), BoxError>
{
    for (before, sent) in [(None, Sent::No), (Some(Instead::Reset), Sent::Maybe)] {
        let shop = Shop::new();
        lock(&shop.0.instead).extend(before);
        *lock(&shop.0.down) = Some("no tokens today");
        let service = ServiceBuilder::new()
            .layer(RefreshLayer::new(shop.config(), shop.tokens()))
            .layer(retry(&Budget::default()))
            .service(shop.leaf::<ReplayBody<ReplayBody<Body>>>());
        let error = service.oneshot(get()).await.err().ok_or("no credential came")?;
        assert_eq!(verdict_on_error(&*error).sent, sent);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn below_the_key_both_tries_are_the_same_call() -> Result<(), BoxError> {
    let shop = Shop::new();
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::default())
        .layer(RefreshLayer::new(shop.config(), shop.tokens()))
        .layer(retry(&Budget::default()))
        .service(shop.leaf::<ReplayBody<ReplayBody<Body>>>());
    // At the second try a failure that only a key makes repeatable.
    lock(&shop.0.instead).extend([Instead::Status(401), Instead::Reset]);
    assert_eq!(service.oneshot(post()).await?.status(), 200);
    let seen = lock(&shop.0.seen);
    let keys: Vec<_> = seen.iter().map(|headers| &headers["idempotency-key"]).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
    Ok(())
}

/// The other answers that mean "not carried out" are retry's, whatever the method.
#[tokio::test(start_paused = true)]
async fn retry_sees_to_421_and_425_at_no_cost() -> Result<(), BoxError> {
    for code in [421, 425] {
        let shop = Shop::new();
        *lock(&shop.0.valid) = "t0".to_owned();
        lock(&shop.0.instead).push_back(Instead::Status(code));
        let budget = Budget::new(Tariff::default());
        let full = budget.balance();
        let service = ServiceBuilder::new()
            .layer(RefreshLayer::new(shop.config(), shop.tokens()))
            .layer(retry(&budget))
            .service(shop.leaf::<ReplayBody<ReplayBody<Body>>>());
        assert_eq!(service.oneshot(post()).await?.status(), 200, "{code}");
        assert_eq!((shop.shown().len(), shop.fetched(), budget.balance()), (2, 0, full));
    }
    Ok(())
}

#[cfg(feature = "hyper")]
#[tokio::test(start_paused = true)]
async fn retry_takes_a_421_to_another_connection() -> Result<(), BoxError> {
    use support::company::{Company, answer};

    let company = Company::new(|seen| answer(if seen.nth == 0 { 421 } else { 200 }));
    let client = company.builder([1, 2]).build()?;
    let response = client.send(Request::post("/orders").body("an apple")?).await?;
    assert_eq!(response.status(), 200);
    assert_eq!((company.calls_at(1), company.calls_at(2)), (1, 1));
    Ok(())
}

// --- Dropped, at every await ------------------------------------------------------------------

/// Polls a future so many times at most, each time when it is woken, then drops it.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn whoever_is_dropped_at_whatever_await_the_others_go_on() -> Result<(), BoxError> {
    for others in [1, 3] {
        let mut times = 0;
        loop {
            let shop = Shop::new();
            let service = shop.service();
            let mut ready_one = service.clone();
            let dropped = polled(ready_one.ready().await?.call(post()), times);
            let others = join_all((0..others).map(|_| service.clone().oneshot(post())));
            let (dropped, others) =
                timeout(1000 * MS, async { tokio::join!(dropped, others) }).await?;
            for response in others {
                assert_eq!(response?.status(), 200, "after {times} polls");
            }
            assert_eq!(shop.fetched(), 1, "after {times} polls");
            assert_eq!(shop.0.dropped_fetchings.load(SeqCst), 0, "after {times} polls");
            if dropped.is_some() {
                break;
            }
            times += 1;
        }
        assert!(times > 3, "{times}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_fetching_that_all_have_left_is_carried_on_by_the_next() -> Result<(), BoxError> {
    let shop = Shop::new();
    let service = shop.service();
    assert!(timeout(30 * MS, service.clone().oneshot(post())).await.is_err());
    assert_eq!(shop.fetched(), 1);
    sleep(500 * MS).await;
    assert_eq!(service.clone().oneshot(post()).await?.status(), 200);
    assert_eq!((shop.fetched(), shop.0.dropped_fetchings.load(SeqCst)), (1, 0));

    // One that is past its limit is not worth waiting for.
    sleep(1000 * MS).await;
    *lock(&shop.0.valid) = "t3".to_owned();
    assert!(timeout(30 * MS, service.clone().oneshot(post())).await.is_err());
    sleep(10_000 * MS).await;
    assert_eq!(service.oneshot(post()).await?.status(), 200);
    assert_eq!((shop.fetched(), shop.0.dropped_fetchings.load(SeqCst)), (3, 1));
    Ok(())
}

/// Goal: nobody depends on one call in particular. Method: the call that polled the fetching
/// last lives on and is never polled again.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_kept_and_not_polled_holds_nobody_up() -> Result<(), BoxError> {
    let shop = Shop::new();
    let service = shop.service();
    let mut kept = Box::pin(service.clone().oneshot(post()));
    let other = tokio::spawn(service.oneshot(post()));
    assert!(timeout(20 * MS, kept.as_mut()).await.is_err());
    assert!(polled(kept.as_mut(), 1).await.is_none());
    assert_eq!(shop.fetched(), 1);
    assert_eq!(timeout(500 * MS, other).await???.status(), 200);
    assert_eq!(kept.await?.status(), 200);
    assert_eq!(shop.fetched(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_it_fetches_fails_the_others_and_holds_nobody_up() -> Result<(), BoxError> {
    for panics_late in [false, true] {
        let shop = Shop::new();
        let tokens = Bearer::new(move || {
            assert!(panics_late, "the first panic, on purpose");
            async move {
                sleep(20 * MS).await;
                if panics_late {
                    panic!("the second panic, on purpose");
                }
                Ok::<String, BoxError>(String::new())
            }
        });
        let service = RefreshLayer::new(shop.config(), tokens).layer(shop.leaf::<ReplayBody<_>>());
        let first = tokio::spawn(service.clone().oneshot(post()));
        let second = tokio::spawn(service.clone().oneshot(post()));
        let ended = timeout(500 * MS, async { (first.await, second.await) }).await?;
        let (panicked, failed): (Vec<_>, Vec<_>) =
            [ended.0, ended.1].into_iter().partition(Result::is_err);
        assert_eq!((panicked.len(), failed.len()), (1, 1));
        for failed in failed {
            let error = failed?.err().ok_or("there is no credential")?;
            assert!(find::<RefreshFailed>(&*error).is_some());
            assert!(format!("{error:?}").contains("Panicked"), "{error:?}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_fetching_through_the_layer_itself_fails() -> Result<(), BoxError> {
    type Slot =
        Arc<Mutex<Option<tower::util::BoxCloneService<Request<Body>, Response<Body>, BoxError>>>>;
    let shop = Shop::new();
    let slot = Slot::default();
    let itself = Arc::clone(&slot);
    let tokens = Bearer::new(move || {
        let itself = lock(&itself).clone().expect("it is there");
        Box::pin(async move {
            itself.oneshot(post()).await?;
            Ok::<_, BoxError>("t1".to_owned())
        }) as Pin<Box<dyn Future<Output = _> + Send>>
    });
    let service = RefreshLayer::new(shop.config(), tokens).layer(shop.leaf::<ReplayBody<_>>());
    let service = tower::util::BoxCloneService::new(service);
    *lock(&slot) = Some(service.clone());
    let began = now();
    let error = service.oneshot(post()).await.err().ok_or("it waits for itself")?;
    let (text, took) = (format!("{error:?}"), now() - began);
    assert!(find::<RefreshFailed>(&*error).is_some() && text.contains("WaitsForItself"), "{text}");
    assert_eq!(took, 20 * MS);
    *lock(&slot) = None;
    Ok(())
}

/// Goal: no wake is lost between threads. Method: many calls on real threads, a third of which
/// are dropped at some await, over a credential that expires again and again; each that is not
/// dropped has to end.
#[test]
fn on_real_threads_every_call_ends() {
    let seed = RandomState::new().hash_one(0);
    eprintln!("seed {seed}");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_time().build().expect("the system has threads");
    runtime.block_on(async {
        let valid = Arc::new(AtomicUsize::new(1));
        let fetches = Arc::clone(&valid);
        let tokens = RefreshFn::new(
            |request: &mut u64, token: &usize| *request = *token as u64,
            move |_: Option<usize>| {
                let fetches = Arc::clone(&fetches);
                async move {
                    for _ in 0..5 {
                        yield_now().await;
                    }
                    Ok::<_, BoxError>(fetches.load(SeqCst))
                }
            },
        );
        let known = Arc::clone(&valid);
        let leaf = service_fn(move |call: Call<u64>| {
            let known = Arc::clone(&known);
            async move {
                yield_now().await;
                Ok::<_, Infallible>(call.request == known.load(SeqCst) as u64)
            }
        });
        let config = RefreshConfig::new().pause(Duration::ZERO);
        let stale = |known: &bool| !known;
        let layer = RefreshLayer::with_stale(config, tokens, stale);
        let mut chance = seed;
        for round in 0..300 {
            valid.fetch_add(1, SeqCst);
            let calls: Vec<_> = (0..16)
                .map(|_| {
                    chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    let drops = (chance >> 60) < 5;
                    let polls = if drops { (chance >> 32) as usize % 8 } else { usize::MAX };
                    let call = layer.layer(leaf.clone()).oneshot(Call::new(0_u64));
                    let call = Box::pin(call) as Pin<Box<dyn Future<Output = _> + Send>>;
                    tokio::spawn(async move { polled(call, polls).await.is_some() || drops })
                })
                .collect();
            let ended = timeout(Duration::from_secs(5), join_all(calls)).await;
            let ended = ended.unwrap_or_else(|_| panic!("a call hangs in round {round}"));
            assert!(ended.into_iter().all(|ended| ended.expect("no panic")));
        }
    });
}

// --- Contracts --------------------------------------------------------------------------------

/// Counts readiness: the instance that is called has to be the one that was polled.
#[derive(Debug)]
struct Strict(bool);

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<Request<ReplayBody<Body>>> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<ReplayBody<Body>>) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "called without having been polled ready");
        ready(Ok(status(401)))
    }
}

#[tokio::test(start_paused = true)]
async fn every_try_calls_an_instance_that_was_polled() -> Result<(), BoxError> {
    let shop = Shop::new();
    let mut service = RefreshLayer::new(shop.config(), shop.tokens()).layer(Strict(false));
    for _ in 0..2 {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Service::<Request<Body>>::poll_ready(&mut service, &mut cx).is_ready());
        assert_eq!(service.call(post()).await?.status(), 401);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_polled_no_more_than_it_is_woken() -> Result<(), BoxError> {
    let tokens = Bearer::new(pending::<Result<String, BoxError>>);
    let leaf = service_fn(|_: Request<ReplayBody<Body>>| ready(Ok::<_, Infallible>(status(401))));
    let service = RefreshLayer::new(RefreshConfig::new(), tokens).layer(leaf);
    let polls = AtomicUsize::new(0);
    let mut call = pin!(service.oneshot(post()));
    let counted = poll_fn(|cx| {
        polls.fetch_add(1, SeqCst);
        call.as_mut().poll(cx)
    });
    assert!(counted.await.is_err());
    assert!(polls.load(SeqCst) < 6, "{polls:?}");
    Ok(())
}
