//! "Did it happen?", through the public interface.

use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt,
    future::{Future, pending, poll_fn, ready},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    algo::backoff::Backoff,
    body::Body,
    call::{Attempts, Call, Words, mark_handed_over, mark_unsent},
    classify::{HttpClassifier, Mark, PlainClassifier, Retry, Sent, Verdict, verdict_on_error},
    find,
    idempotency::IdempotencyLayer,
    reconcile::{
        Answer, ById, ByKey, Conclusion, NotCarriedOut, ReconcileConfig, ReconcileLayer,
        Reconciled, ReconciledBody, Round, StillUnknown,
    },
    retry::{GaveUp, RetryConfig, RetryLayer},
    timeout::{DeadlineLayer, Elapsed, Which},
};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no test panics with it")
}

fn keyed() -> Request<Body> {
    let request = Request::post("/charges").header("idempotency-key", "\"k-1\"");
    request.body("12".into()).expect("it is sound")
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::from("from the call"));
    *response.status_mut() = code.try_into().expect("a status");
    response
}

/// How a call ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Hangs,
    With(u16),
    Breaks(io::ErrorKind),
}

/// What a lookup says.
#[derive(Clone, Copy, Debug)]
enum Says {
    Found,
    Not,
    Running,
    Fails,
    Hangs,
}

#[derive(Debug)]
struct Forgotten;

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ledger is shut")
    }
}

impl StdError for Forgotten {}

/// A ledger that is asked, and that remembers what it was asked.
#[derive(Clone, Default)]
struct Ledger(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asked: Mutex<Vec<(String, Round, Instant)>>,
    under_way: AtomicUsize,
    heard: Mutex<Vec<String>>,
}

struct UnderWay(Ledger);

impl UnderWay {
    fn new(ledger: &Ledger) -> Self {
        ledger.0.under_way.fetch_add(1, SeqCst);
        Self(ledger.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, SeqCst);
    }
}

type Lookup = Pin<Box<dyn Future<Output = Result<Answer<Response<Body>>, BoxError>> + Send>>;

impl Ledger {
    /// Says the last of these again and again; each lookup takes 10 ms.
    fn by_key(
        &self,
        says: &'static [Says],
    ) -> ByKey<impl Fn(HeaderValue, Round) -> Lookup + use<>> {
        let ledger = self.clone();
        ByKey::new(move |key: HeaderValue, round: Round| {
            let key = key.to_str().expect("ASCII").to_owned();
            lock(&ledger.0.asked).push((key, round, now()));
            let nth = usize::try_from(round.number).expect("small").min(says.len()) - 1;
            let under_way = UnderWay::new(&ledger);
            let says = says[nth];
            Box::pin(async move {
                let _under_way = under_way;
                mark_unsent();
                sleep(10 * MS).await;
                match says {
                    Says::Found => Ok(Answer::Found(Response::new(Body::from("from the ledger")))),
                    Says::Not => Ok(Answer::NotCarriedOut),
                    Says::Running => Ok(Answer::Running),
                    Says::Fails => Err(Forgotten.into()),
                    Says::Hangs => pending().await,
                }
            }) as Lookup
        })
    }

    /// Waits of their full length, without jitter to speak of.
    fn config(&self) -> ReconcileConfig {
        let ledger = self.clone();
        let observer = Observer::new(move |event| {
            let Event::Reconciled { outcome, lookups } = event else { panic!("{event:?}") };
            lock(&ledger.0.heard).push(format!("{outcome} {lookups}"));
        });
        ReconcileConfig::new().observer(observer).entropy(Entropy::seeded(7))
    }

    fn asked(&self) -> usize {
        lock(&self.0.asked).len()
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0.heard))
    }
}

fn leaf(
    ends: Ends,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send> + Clone
{
    service_fn(move |_: Request<Body>| async move {
        mark_handed_over();
        sleep(MS).await;
        match ends {
            Ends::Hangs => pending().await,
            Ends::With(code) => Ok(status(code)),
            Ends::Breaks(kind) => Err(io::Error::from(kind).into()),
        }
    })
}

const LIMIT: Duration = Duration::from_millis(100);

type Got = Result<Response<ReconciledBody<buttress::timeout::BoundedBody<Body>, Body>>, BoxError>;

async fn call(ledger: &Ledger, says: &'static [Says], ends: Ends, request: Request<Body>) -> Got {
    let reconcile =
        ReconcileLayer::new(ledger.config(), ledger.by_key(says), HttpClassifier::new());
    let deadline = DeadlineLayer::new(LIMIT)?;
    ServiceBuilder::new()
        .layer(reconcile)
        .layer(deadline)
        .service(leaf(ends))
        .oneshot(request)
        .await
}

async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>>,
{
    let body = response.into_body().collect().await.map_err(Into::into).expect("it is whole");
    String::from_utf8(body.to_bytes().to_vec()).expect("it is text")
}

// --- Found ------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_is_found() -> Result<(), BoxError> {
    let unknown = [
        Ends::Hangs,
        Ends::With(504),
        Ends::With(503),
        Ends::Breaks(io::ErrorKind::ConnectionReset),
    ];
    for ends in unknown {
        let ledger = Ledger::default();
        let response = call(&ledger, &[Says::Found], ends, keyed()).await?;
        let reconciled = *response.extensions().get::<Reconciled>().ok_or("it says so")?;
        assert_eq!((reconciled.conclusion, reconciled.lookups), (Conclusion::Found, 1));
        assert_eq!(text(response).await, "from the ledger");
        let asked = lock(&ledger.0.asked).clone();
        let (key, round, at) = &asked[0];
        assert_eq!((key.as_str(), round.number, asked.len()), ("\"k-1\"", 1, 1));
        assert_eq!(round.until - *at, 2000 * MS, "the whole grace");
        assert_eq!(ledger.heard(), ["found 1"], "{ends:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_not_looked_up() -> Result<(), BoxError> {
    let known = [
        Ends::With(200),
        Ends::With(404),
        Ends::With(409),
        Ends::With(429),
        Ends::With(500),
        Ends::Breaks(io::ErrorKind::ConnectionRefused),
    ];
    for ends in known {
        let ledger = Ledger::default();
        match call(&ledger, &[Says::Found], ends, keyed()).await {
            Ok(response) => {
                assert!(response.extensions().get::<Reconciled>().is_none());
                assert_eq!(text(response).await, "from the call");
            }
            Err(error) => {
                assert!(find::<StillUnknown>(&*error).is_none());
                assert_eq!(verdict_on_error(&*error).sent, Sent::No);
            }
        }
        assert_eq!((ledger.asked(), ledger.heard().len()), (0, 0), "{ends:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_found_is_not_looked_up() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let mut twice = keyed();
    twice.headers_mut().append("idempotency-key", HeaderValue::from_static("\"k-2\""));
    let mut empty = keyed();
    empty.headers_mut().insert("idempotency-key", HeaderValue::from_static(""));
    for request in [Request::new(Body::empty()), twice, empty] {
        let error = call(&ledger, &[Says::Found], Ends::Hangs, request).await;
        let error = error.err().ok_or("it took too long")?;
        assert!(error.is::<Elapsed>(), "as it came: {error:?}");
    }
    assert_eq!(ledger.asked(), 0);
    Ok(())
}

// --- Not found --------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_carried_out_says_so() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let error = call(&ledger, &[Says::Not], Ends::Hangs, keyed()).await.err().ok_or("late")?;
    assert!(find::<NotCarriedOut>(&*error).is_some());
    let verdict = verdict_on_error(&*error);
    assert_eq!((verdict.sent, verdict.retry), (Sent::No, Retry::Never));
    let elapsed = find::<Elapsed>(&*error).ok_or("the call's own error is a source")?;
    assert_eq!((elapsed.which(), elapsed.sent()), (Which::Total, Sent::Maybe));
    assert_eq!(ledger.heard(), ["not_carried_out 1"]);

    let response = call(&ledger, &[Says::Not], Ends::With(504), keyed()).await?;
    let reconciled = *response.extensions().get::<Reconciled>().ok_or("it says so")?;
    assert_eq!(reconciled.conclusion, Conclusion::NotCarriedOut);
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (504, "from the call"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_still_running_is_looked_up_again() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let says = &[Says::Running, Says::Running, Says::Found];
    let response = call(&ledger, says, Ends::Hangs, keyed()).await?;
    assert_eq!(text(response).await, "from the ledger");
    let asked = lock(&ledger.0.asked).clone();
    let numbers: Vec<_> = asked.iter().map(|(_, round, _)| round.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(asked.windows(2).all(|two| two[0].1.until == two[1].1.until));
    assert!(asked[2].2 - asked[0].2 > 20 * MS, "with a wait between two");
    assert_eq!(ledger.heard(), ["found 3"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn lookups_are_bounded_in_number_and_in_time() -> Result<(), BoxError> {
    let unknown = |error: BoxError| {
        assert_eq!(verdict_on_error(&*error).sent, Sent::Maybe);
        assert!(find::<Elapsed>(&*error).is_some());
        let unknown = find::<StillUnknown>(&*error).expect("it says why");
        (unknown.conclusion(), unknown.lookups())
    };
    let ledger = Ledger::default();
    let error = call(&ledger, &[Says::Running], Ends::Hangs, keyed()).await.err().ok_or("late")?;
    assert_eq!(unknown(error), (Conclusion::StillRunning, 5));

    let began = now();
    let error = call(&ledger, &[Says::Hangs], Ends::Hangs, keyed()).await.err().ok_or("late")?;
    assert_eq!(unknown(error), (Conclusion::NoTime, 1));
    assert_eq!(now() - began, LIMIT + 2000 * MS);
    assert_eq!(ledger.0.under_way.load(SeqCst), 0);
    assert_eq!(ledger.heard(), ["still_running 5", "no_time 1"]);

    // A wait that does not fit is not begun.
    let slow = Backoff::new(10_000 * MS, 10_000 * MS)?;
    let config = ledger.config().backoff(slow).grace(50 * MS)?;
    let layer = ReconcileLayer::new(config, ledger.by_key(&[Says::Running]), HttpClassifier::new());
    let began = now();
    let result = layer.layer(leaf(Ends::Breaks(io::ErrorKind::ConnectionReset)));
    let error = result.oneshot(keyed()).await.err().ok_or("it broke")?;
    let conclusion = find::<StillUnknown>(&*error).map(StillUnknown::conclusion);
    assert_eq!((conclusion, now() - began), (Some(Conclusion::NoTime), 11 * MS));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_is_noted_with_the_calls_own_error() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let error = call(&ledger, &[Says::Fails], Ends::Hangs, keyed()).await.err().ok_or("late")?;
    let unknown = find::<StillUnknown>(&*error).ok_or("it says why")?;
    assert_eq!(unknown.conclusion(), Conclusion::LookupFailed);
    let lookup = unknown.lookup_error().ok_or("it is noted")?;
    assert!(lookup.is::<Forgotten>());
    assert!(unknown.to_string().contains("the ledger is shut"));
    assert!(find::<Elapsed>(&*error).is_some() && find::<Forgotten>(&*error).is_none());
    assert_eq!(verdict_on_error(&*error).sent, Sent::Maybe);

    let response = call(&ledger, &[Says::Fails], Ends::With(504), keyed()).await?;
    let reconciled = *response.extensions().get::<Reconciled>().ok_or("it says so")?;
    assert_eq!(reconciled.conclusion, Conclusion::LookupFailed);
    assert_eq!(ledger.heard(), ["lookup_failed 1"; 2]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_callers_own_holds_for_the_lookups_too() -> Result<(), BoxError> {
    for (left, lookups) in [(80, 0), (150, 1)] {
        let ledger = Ledger::default();
        let began = now();
        let mut request = keyed();
        request.extensions_mut().insert(Words::new().deadline(began + left * MS));
        let error = call(&ledger, &[Says::Hangs], Ends::Hangs, request).await;
        let error = error.err().ok_or("it took too long")?;
        assert_eq!(now() - began, left * MS);
        assert_eq!(find::<StillUnknown>(&*error).map(StillUnknown::lookups), Some(lookups));
        assert_eq!(ledger.heard(), [format!("no_time {lookups}")]);
    }
    Ok(())
}

// --- Beside other layers ----------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn between_key_and_retry_a_call_is_looked_up_once_by_its_key() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    let leaf = service_fn(move |request: Request<buttress::body::ReplayBody<Body>>| {
        let key = request.headers()["idempotency-key"].to_str().expect("ASCII").to_owned();
        lock(&seen).push(key);
        ready(Err::<Response<Body>, _>(io::Error::from(io::ErrorKind::ConnectionReset)))
    });
    let backoff = Backoff::new(MS, MS)?;
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::default())
        .layer(ReconcileLayer::new(
            ledger.config(),
            ledger.by_key(&[Says::Not]),
            HttpClassifier::new(),
        ))
        .layer(DeadlineLayer::new(1000 * MS)?)
        .layer(RetryLayer::new(RetryConfig::new().backoff(backoff), HttpClassifier::new()))
        .service(leaf);
    let request = Request::post("/charges").body(Body::from("12"))?;
    let error = service.oneshot(request).await.err().ok_or("it broke")?;
    assert_eq!(verdict_on_error(&*error).sent, Sent::No);
    assert_eq!(find::<GaveUp>(&*error).map(|gave_up| gave_up.attempts().len()), Some(3));
    let keys = lock(&keys);
    let asked = lock(&ledger.0.asked);
    assert_eq!((keys.len(), asked.len()), (3, 1));
    assert!(keys.iter().all(|key| *key == asked[0].0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_last_response_of_all_retries_is_judged() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let leaf = service_fn(|_: Request<buttress::body::ReplayBody<Body>>| {
        ready(Ok::<_, Infallible>(status(504)))
    });
    let backoff = Backoff::new(MS, MS)?;
    let lookup = ledger.by_key(&[Says::Running]);
    let reconcile =
        ReconcileLayer::new(ledger.config().max_lookups(1)?, lookup, HttpClassifier::new());
    let mut words = Words::new();
    words.keyed = true;
    let mut request = keyed();
    request.extensions_mut().insert(words);
    let response = ServiceBuilder::new()
        .layer(reconcile)
        .layer(RetryLayer::new(RetryConfig::new().backoff(backoff), HttpClassifier::new()))
        .service(leaf)
        .oneshot(request)
        .await?;
    assert_eq!(response.status(), 504);
    assert_eq!(response.extensions().get::<Attempts>().map(|attempts| attempts.len()), Some(3));
    assert_eq!(ledger.heard(), ["still_running 1"]);
    Ok(())
}

/// Goal: what a lookup's own calls mark is not taken for the call's. Method: the lookup says that
/// it was not sent, and a deadline above gives up on both.
#[tokio::test(start_paused = true)]
async fn a_lookup_says_nothing_about_the_call_that_it_looks_up() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let lookup = ledger.by_key(&[Says::Hangs]);
    let reconcile = ReconcileLayer::new(ledger.config(), lookup, HttpClassifier::new());
    // In words that the lookups don't know of.
    let between = reconcile.layer(leaf(Ends::Breaks(io::ErrorKind::ConnectionReset)));
    let between = service_fn(move |mut request: Request<Body>| {
        request.extensions_mut().remove::<Words>();
        between.clone().oneshot(request)
    });
    let service = DeadlineLayer::new(LIMIT)?.layer(between);
    let error = service.oneshot(keyed()).await.err().ok_or("it took too long")?;
    assert_eq!(find::<Elapsed>(&*error).map(Elapsed::sent), Some(Sent::Maybe));
    assert_eq!((ledger.asked(), ledger.0.under_way.load(SeqCst)), (1, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_serves_requests_of_any_kind_by_what_they_say_of_themselves() -> Result<(), BoxError> {
    let leaf = service_fn(|_: Call<String>| ready(Err::<String, _>(Mark::new(Verdict::TIMED_OUT))));
    let by_order = ById::new(
        |request: &String| request.strip_prefix("order ").map(str::to_owned),
        |order: String, _| ready(Ok::<_, BoxError>(Answer::Found(format!("{order} is done")))),
    );
    let layer = ReconcileLayer::plain(ReconcileConfig::new(), by_order, PlainClassifier::new());
    let service = layer.layer(leaf);
    let ask = |text: &str| service.clone().oneshot(Call::new(text.to_owned()));
    assert_eq!(ask("order 17").await?, "17 is done");
    assert!(ask("hello").await.is_err_and(|error| error.is::<Mark>()));
    Ok(())
}

// --- Contracts --------------------------------------------------------------------------------

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
async fn dropped_at_any_await_nothing_goes_on() -> Result<(), BoxError> {
    let says: &[&'static [Says]] =
        &[&[Says::Running, Says::Running, Says::Found], &[Says::Hangs], &[Says::Fails]];
    for says in says {
        let mut times = 0;
        loop {
            let ledger = Ledger::default();
            let done = polled(call(&ledger, says, Ends::Hangs, keyed()), times).await;
            assert_eq!(ledger.0.under_way.load(SeqCst), 0, "{says:?} after {times} polls");
            let asked = ledger.asked();
            sleep(10_000 * MS).await;
            assert_eq!(ledger.asked(), asked, "{says:?} after {times} polls");
            assert_eq!(ledger.heard().len(), usize::from(done.is_some()));
            if done.is_some() {
                break;
            }
            times += 1;
        }
        assert!(times > 2, "{says:?}: {times}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_is_polled_no_more_than_it_is_woken() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let polls = AtomicUsize::new(0);
    let mut call = Box::pin(call(&ledger, &[Says::Running], Ends::Hangs, keyed()));
    let counted = poll_fn(|cx| {
        polls.fetch_add(1, SeqCst);
        call.as_mut().poll(cx)
    });
    assert!(timeout(60_000 * MS, counted).await?.is_err());
    assert!(polls.load(SeqCst) < 20, "{polls:?}");
    Ok(())
}

/// Ready once, when it was polled.
#[derive(Clone)]
struct Strict(bool);

impl Service<Request<Body>> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "called without having been polled ready");
        ready(Ok(status(200)))
    }
}

#[tokio::test(start_paused = true)]
async fn calls_the_instance_that_was_polled() -> Result<(), BoxError> {
    let ledger = Ledger::default();
    let lookup = ledger.by_key(&[Says::Found]);
    let layer = ReconcileLayer::new(ledger.config(), lookup, HttpClassifier::new());
    let mut service = layer.layer(Strict(false));
    for _ in 0..2 {
        let ready = ServiceExt::<Request<Body>>::ready(&mut service).await?;
        assert_eq!(ready.call(keyed()).await?.status(), 200);
    }
    Ok(())
}
