//! Layers in pairs: what each does when the other stands above or beneath it. Attempts and the
//! time they take are asserted.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy,
    algo::backoff::Backoff,
    body::{Body, ReplayBody},
    call::{Call, Target, Trail, Words, mark_handed_over, mark_target, mark_unsent},
    classify::{HttpClassifier, PlainClassifier, Sent, verdict_on_error},
    endpoint::EndpointKey,
    find,
    retry::{Budget, GaveUp, RetryConfig, RetryLayer, StopReason},
    timeout::{AttemptTimeoutLayer, DeadlineLayer, Elapsed, Which},
};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::{
    sync::Semaphore,
    time::{advance, sleep},
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn,
};

const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One poll, by nobody who could be woken.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn deadline(limit: Duration) -> DeadlineLayer {
    DeadlineLayer::new(limit).expect("sound")
}

fn attempt(limit: Duration) -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(limit).expect("sound")
}

fn config() -> RetryConfig {
    // Short backoffs, so that what is asserted are the timeouts.
    let backoff = Backoff::new(MS, MS).expect("sound");
    RetryConfig::new().entropy(Entropy::seeded(11)).backoff(backoff)
}

fn retry() -> RetryLayer<HttpClassifier> {
    RetryLayer::new(config(), HttpClassifier::new())
}

fn request(method: Method, words: Words) -> Call<Request<Body>> {
    let mut request = Request::new(Body::full("hello"));
    *request.method_mut() = method;
    Call::with_words(request, words)
}

fn get() -> Call<Request<Body>> {
    request(Method::GET, Words::new())
}

fn keyed() -> Words {
    let mut words = Words::new();
    words.keyed = true;
    words
}

async fn call<S, C>(service: &mut S, call: C) -> Result<S::Response, BoxError>
where
    S: Service<C, Error = BoxError>,
{
    service.ready().await?.call(call).await
}

fn elapsed(error: &BoxError) -> Elapsed {
    *find::<Elapsed>(&**error).expect("the time was up")
}

/// Counts attempts.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    fn more(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

type Mark = fn();
type Attempt = Call<Request<ReplayBody<Body>>>;

/// A leaf that is told which attempt it serves.
fn leaf<W, F>(
    count: &Count,
    work: W,
) -> impl Service<Attempt, Response = Response<Body>, Error = BoxError, Future: Send + 'static>
+ Clone
+ use<W, F>
where
    W: Fn(u32) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
{
    let count = count.clone();
    service_fn(move |_: Attempt| work(count.more()))
}

async fn hang() -> Result<Response<Body>, BoxError> {
    pending().await
}

fn answer(status: u16) -> Result<Response<Body>, BoxError> {
    Ok(Response::builder().status(status).body(Body::empty())?)
}

// --- Retry over attempt timeout ---------------------------------------------------------------

/// grpc-java#12919: a timeout of one attempt that does nothing but end the call.
#[tokio::test(start_paused = true)]
async fn the_timeout_of_an_attempt_causes_a_retry() {
    let count = Count::default();
    let slow_once = leaf(&count, async |turn| if turn == 1 { hang().await } else { answer(200) });
    let mut service =
        ServiceBuilder::new().layer(retry()).layer(attempt(100 * MS)).service(slow_once);
    let start = now();
    let response = call(&mut service, get()).await.expect("the second attempt answers");
    assert_eq!((response.status().as_u16(), count.get()), (200, 2));
    assert!((100 * MS..=103 * MS).contains(&(now() - start)));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_the_whole_of_its_timeout() {
    let count = Count::default();
    let mut service = ServiceBuilder::new()
        .layer(retry())
        .layer(attempt(100 * MS))
        .service(leaf(&count, |_| hang()));
    let start = now();
    let error = call(&mut service, get()).await.expect_err("all hang");
    assert_eq!(count.get(), 3);
    assert!((300 * MS..=306 * MS).contains(&(now() - start)));
    let gave_up = find::<GaveUp>(&*error).expect("it gave up");
    assert_eq!(gave_up.reason(), StopReason::Exhausted);
    assert!(gave_up.attempts().iter().all(|one| one.lasted == 100 * MS), "{gave_up:?}");
    assert_eq!(elapsed(&error).which(), Which::Attempt);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_timed_out_is_repeated_only_if_it_was_not_sent_or_is_keyed() {
    let rows: [(&str, Mark, Words, u32); 4] = [
        ("handed over, no key", mark_handed_over, Words::new(), 1),
        ("nobody knows, no key", || (), Words::new(), 1),
        ("still waiting for a connection", mark_unsent, Words::new(), 2),
        ("handed over, with a key", mark_handed_over, keyed(), 2),
    ];
    for (why, mark, words, expected) in rows {
        let count = Count::default();
        let slow_once = leaf(&count, move |turn| async move {
            if turn > 1 {
                return answer(200);
            }
            mark();
            hang().await
        });
        let mut service =
            ServiceBuilder::new().layer(retry()).layer(attempt(100 * MS)).service(slow_once);
        let result = call(&mut service, request(Method::POST, words)).await;
        assert_eq!(count.get(), expected, "{why}");
        match result {
            Ok(response) => assert_eq!(response.status(), 200, "{why}"),
            Err(error) => {
                let gave_up = find::<GaveUp>(&*error).expect("it gave up");
                assert_eq!(gave_up.reason(), StopReason::NotRetryable, "{why}");
                assert_eq!(gave_up.sent(), Sent::Maybe, "{why}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_gives_its_permit_back_before_the_next_needs_it() {
    let permits = Arc::new(Semaphore::new(1));
    let count = Count::default();
    let slow_once = leaf(&count, async |turn| if turn == 1 { hang().await } else { answer(200) });
    let mut service = ServiceBuilder::new()
        .layer(deadline(1000 * MS))
        .layer(retry())
        .layer(attempt(100 * MS))
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits)))
        .service(slow_once);
    let response = call(&mut service, get()).await.expect("the permit is free again");
    assert_eq!((response.status().as_u16(), count.get()), (200, 2));
    drop(response);
    assert_eq!(permits.available_permits(), 1);
}

// --- Deadline over retry ------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_the_sum_of_attempts_and_backoffs() {
    let count = Count::default();
    let backoff = Backoff::new(100 * MS, 100 * MS).expect("sound");
    let retry = RetryLayer::new(
        config().max_attempts(100).expect("sound").backoff(backoff),
        HttpClassifier::new(),
    );
    let busy = leaf(&count, async |_| {
        sleep(90 * MS).await;
        answer(503)
    });
    let mut service = ServiceBuilder::new().layer(deadline(500 * MS)).layer(retry).service(busy);
    let start = now();
    let result = call(&mut service, get()).await;
    assert!(now() - start <= 500 * MS);
    assert!((3..=5).contains(&count.get()), "{} attempts", count.get());
    // Either no backoff fitted any more, or an attempt was cut off.
    match result {
        Ok(response) => assert_eq!(response.status(), 503),
        Err(error) => assert_eq!(elapsed(&error).which(), Which::Total),
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_gets_only_what_is_left_of_the_deadline() {
    let count = Count::default();
    let mut service = ServiceBuilder::new()
        .layer(deadline(250 * MS))
        .layer(retry())
        .layer(attempt(100 * MS))
        .service(leaf(&count, |_| hang()));
    let start = now();
    let error = call(&mut service, get()).await.expect_err("all hang");
    assert_eq!((count.get(), now() - start), (3, 250 * MS));
    let gave_up = find::<GaveUp>(&*error).expect("it gave up");
    assert_eq!(gave_up.attempts().len(), 3, "the caller learns of all three");
    assert!(elapsed(&error).limit() < 50 * MS, "{:?}", elapsed(&error));
    assert_eq!(verdict_on_error(&*error).sent, Sent::Maybe);
}

#[tokio::test(start_paused = true)]
async fn no_retry_is_begun_when_its_backoff_does_not_fit() {
    let count = Count::default();
    let busy = leaf(&count, async |_| {
        let response = Response::builder().status(503).header("retry-after", "2");
        Ok(response.body(Body::empty())?)
    });
    let mut service = ServiceBuilder::new().layer(deadline(1000 * MS)).layer(retry()).service(busy);
    let start = now();
    let response = call(&mut service, get()).await.expect("the real answer, not a timeout");
    assert_eq!((response.status().as_u16(), count.get()), (503, 1));
    assert_eq!(now(), start);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_midst_of_a_retry_knows_what_earlier_attempts_did() {
    let sent = async |first: fn() -> io::Error| {
        let count = Count::default();
        let twice = leaf(&count, move |turn| async move {
            if turn == 1 {
                return Err(first().into());
            }
            mark_unsent();
            hang().await
        });
        let mut service =
            ServiceBuilder::new().layer(deadline(100 * MS)).layer(retry()).service(twice);
        let error = call(&mut service, get()).await.expect_err("the second hangs");
        assert_eq!((count.get(), elapsed(&error).which()), (2, Which::Total));
        elapsed(&error).sent()
    };
    let maybe = || io::Error::from(io::ErrorKind::ConnectionReset);
    assert_eq!(sent(maybe).await, Sent::Maybe, "the first attempt may have happened");
    let never = || io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(sent(never).await, Sent::No, "neither was ever handed over");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_drops_the_attempt_under_way_and_refunds_nothing() {
    let budget = Budget::default();
    let permits = Arc::new(Semaphore::new(1));
    let count = Count::default();
    let once = leaf(&count, async |turn| if turn == 1 { answer(503) } else { hang().await });
    let retry = RetryLayer::new(config().budget(budget.clone()), HttpClassifier::new());
    let mut service = ServiceBuilder::new()
        .layer(deadline(100 * MS))
        .layer(retry)
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits)))
        .service(once);
    let service = ServiceExt::<Call<Request<Body>>>::ready(&mut service).await.expect("ready");
    // Its own future, which is still there when its error is.
    let mut future = pin!(service.call(get()));
    assert!(poll(future.as_mut()).is_pending());
    advance(10 * MS).await;
    assert!(poll(future.as_mut()).is_pending());
    assert_eq!((count.get(), permits.available_permits()), (2, 0));
    advance(90 * MS).await;
    assert!(matches!(poll(future.as_mut()), Poll::Ready(Err(_))));
    assert_eq!(permits.available_permits(), 1, "free before the error is seen");
    assert_eq!(budget.balance(), 486);
}

/// A body that is silent after its first piece.
struct Stalling(Option<Bytes>);

impl http_body::Body for Stalling {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_until_the_deadline_is_no_success_of_its_retry() {
    let budget = Budget::default();
    let count = Count::default();
    let stalls = leaf(&count, async |turn| {
        if turn == 1 {
            return answer(503);
        }
        Ok(Response::new(Body::new(Stalling(Some(Bytes::from("half"))))))
    });
    let retry = RetryLayer::new(config().budget(budget.clone()), HttpClassifier::new());
    let mut service = ServiceBuilder::new().layer(deadline(100 * MS)).layer(retry).service(stalls);
    let start = now();
    let response = call(&mut service, get()).await.expect("the head comes");
    assert_eq!((response.status().as_u16(), count.get()), (200, 2));
    let error = response.into_body().collect().await.expect_err("the rest does not");
    assert_eq!((elapsed(&error).which(), now() - start), (Which::Body, 100 * MS));
    assert_eq!(budget.balance(), 486, "cut off by our deadline, so it is not refunded");
    assert_eq!(verdict_on_error(&*error).sent, Sent::Processed);
}

// --- Deadline over attempt timeout ----------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn of_deadline_and_attempt_timeout_the_earlier_ends_the_call() {
    let rows = [(50, 100, 50), (100, 50, 50)];
    for (total, single, expected) in rows {
        let mut service = ServiceBuilder::new()
            .layer(DeadlineLayer::plain(total * MS).expect("sound"))
            .layer(attempt(single * MS))
            .service(service_fn(|_: Call<()>| pending::<Result<(), Infallible>>()));
        let start = now();
        let error = call(&mut service, Call::new(())).await.expect_err("it hangs");
        assert_eq!(now() - start, expected * MS);
        assert_eq!(elapsed(&error).limit(), expected * MS);
    }
}

#[tokio::test(start_paused = true)]
async fn the_attempt_timeout_ends_at_the_head_and_the_deadline_holds_for_the_body() {
    let leaf = service_fn(async |_: Call<()>| {
        Ok::<_, Infallible>(Response::new(Stalling(Some(Bytes::from("half")))))
    });
    let mut service =
        ServiceBuilder::new().layer(deadline(500 * MS)).layer(attempt(50 * MS)).service(leaf);
    let start = now();
    let response = call(&mut service, Call::new(())).await.expect("the head comes");
    let error = response.into_body().collect().await.expect_err("the rest does not");
    assert_eq!((elapsed(&error).which(), now() - start), (Which::Body, 500 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_within_a_deadline_only_shortens_it() {
    for (outer, inner) in [(50, 500), (500, 50)] {
        let mut service = ServiceBuilder::new()
            .layer(DeadlineLayer::plain(outer * MS).expect("sound"))
            .layer(DeadlineLayer::plain(inner * MS).expect("sound"))
            .service(service_fn(|_: Call<()>| pending::<Result<(), Infallible>>()));
        let start = now();
        let error = call(&mut service, Call::new(())).await.expect_err("it hangs");
        assert_eq!(now() - start, 50 * MS);
        assert_eq!(elapsed(&error).which(), Which::Total);
    }
}

// --- Retry over deadline: the wrong order, which must do no harm --------------------------------------

#[tokio::test(start_paused = true)]
async fn a_retry_above_the_deadline_does_not_multiply_it() {
    let count = Count::default();
    let hangs = {
        let count = count.clone();
        service_fn(move |_: Call<&'static str>| {
            count.more();
            pending::<Result<(), Infallible>>()
        })
    };
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(config(), PlainClassifier::new()))
        .layer(DeadlineLayer::plain(100 * MS).expect("sound"))
        .service(hangs);
    let start = now();
    let words = Words::new().idempotent(true);
    let error = call(&mut service, Call::with_words("x", words)).await.expect_err("it hangs");
    assert_eq!((count.get(), now() - start), (1, 100 * MS));
    assert_eq!(find::<GaveUp>(&*error).map(GaveUp::reason), Some(StopReason::NotRetryable));
}

// --- Retry over retry -----------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_inner_retry_keeps_what_an_outer_one_tried() {
    let (elsewhere, here) = (EndpointKey::unique(), EndpointKey::unique());
    let count = Count::default();
    let fails_once = {
        let count = count.clone();
        service_fn(move |call: Call<&'static str>| {
            let turn = count.more();
            async move {
                mark_target(Target::new(here, SocketAddr::from(([127, 0, 0, 1], 80))));
                let tried: Vec<_> = call.words.tried.iter().collect();
                if turn == 1 { Err::<_, BoxError>("no".into()) } else { Ok(tried) }
            }
        })
    };
    let mut service = RetryLayer::new(config(), PlainClassifier::new()).layer(fails_once);
    let mut words = Words::new().idempotent(true);
    words.tried.insert(elsewhere);
    let tried = call(&mut service, Call::with_words("x", words)).await.expect("it works");
    assert_eq!((tried, count.get()), (vec![elsewhere, here], 2));
}

// --- The whole of them -----------------------------------------------------------------------------------

#[test]
fn the_future_of_the_whole_stack_can_be_sent_between_threads() {
    fn sent<T: Send + 'static>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let count = Count::default();
        let mut service = ServiceBuilder::new()
            .layer(deadline(1000 * MS))
            .layer(retry())
            .layer(attempt(100 * MS))
            .service(leaf(&count, async |_| answer(200)));
        sent(&service);
        ServiceExt::<Call<Request<Body>>>::ready(&mut service).await.expect("ready");
        let future = service.call(get());
        sent(&future);
        let task = tokio::spawn(async move { future.await.map(|response| response.status()) });
        assert_eq!(task.await.expect("no panic").expect("it works"), 200);
    });
}

#[tokio::test(start_paused = true)]
async fn marks_reach_the_caller_through_the_whole_stack() {
    let count = Count::default();
    let marks = leaf(&count, async |_| {
        mark_unsent();
        sleep(10 * MS).await;
        mark_handed_over();
        hang().await
    });
    let mut service = deadline(1000 * MS).layer(retry().layer(attempt(500 * MS).layer(marks)));
    let mut future = pin!(call(&mut service, get()));
    let mut trail = Trail::new();
    assert!(trail.enter(|| poll(future.as_mut())).is_pending());
    assert_eq!(trail.sent(), Sent::No);
    advance(10 * MS).await;
    assert!(trail.enter(|| poll(future.as_mut())).is_pending());
    assert_eq!(trail.sent(), Sent::Maybe);
}
