//! The server's half of a deadline: taken up, handed on, and the end of work that nobody waits
//! for.

#[cfg(feature = "hyper")]
mod support;

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn, ready},
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
    body::Body,
    call::{TraceParent, Words, mark_unsent},
    classify::Sent,
    find,
    timeout::{
        self, AttemptTimeoutLayer, DeadlineHeader, DeadlineHeaderLayer, DeadlineLayer, Elapsed,
        IncomingDeadlineConfig, IncomingDeadlineLayer, Overdue, Which,
    },
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{sync::Semaphore, time::sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

const MS: Duration = Duration::from_millis(1);
const NAME: http::HeaderName = timeout::DEFAULT_DEADLINE_HEADER;

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no test panics with it")
}

fn config() -> IncomingDeadlineConfig {
    IncomingDeadlineConfig::new()
}

fn get() -> Request<()> {
    Request::new(())
}

fn waited(millis: u64) -> Request<()> {
    Request::get("/").header(NAME, millis).body(()).expect("it is sound")
}

fn grpc(timeout: &str) -> Request<()> {
    let request = Request::post("/orders.Orders/Get").header("content-type", "application/grpc");
    request.header("grpc-timeout", timeout).body(()).expect("it is sound")
}

type Heard = Arc<Mutex<Vec<String>>>;

fn listener() -> (Heard, Observer) {
    let heard = Heard::default();
    let into = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        lock(&into).push(match event {
            Event::Overdue { stage, limit } => format!("{stage} {}", limit.as_millis()),
            Event::DeadlineUnreadable { header, refused } => format!("{header} {refused}"),
            other => panic!("{other:?}"),
        });
    });
    (heard, observer)
}

/// Answers with what is in its request's words, and counts.
fn telling(
    calls: &Arc<AtomicUsize>,
) -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ use<> {
    let calls = Arc::clone(calls);
    service_fn(move |request: Request<()>| {
        calls.fetch_add(1, SeqCst);
        let deadline = timeout::pass_on(request.extensions()).deadline;
        let left = deadline.map(|deadline| (deadline - now()).as_millis().to_string());
        let text = left.unwrap_or_else(|| "unlimited".to_owned());
        ready(Ok(Response::new(Full::from(text))))
    })
}

async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let body = response.into_body().collect().await.map_err(Into::into).expect("it is whole");
    String::from_utf8(body.to_bytes().to_vec()).expect("it is text")
}

async fn told(config: IncomingDeadlineConfig, request: Request<()>) -> String {
    let service = IncomingDeadlineLayer::new(config).layer(telling(&Arc::default()));
    text(service.oneshot(request).await.expect("infallible")).await
}

// --- Taken up ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_earliest_of_all_deadlines_holds() -> Result<(), BoxError> {
    let limited = || config().limit(1000 * MS).expect("above zero");
    assert_eq!(told(config(), get()).await, "unlimited");
    assert_eq!(told(config(), waited(250)).await, "250");
    assert_eq!(told(config(), grpc("3S")).await, "3000");
    assert_eq!(told(limited(), get()).await, "1000");
    assert_eq!(told(limited(), waited(250)).await, "250");
    assert_eq!(told(limited(), waited(9999)).await, "1000", "nobody gets more than the limit");
    let mut both = grpc("3S");
    both.headers_mut().insert(NAME, 200.into());
    assert_eq!(told(config(), both).await, "200");
    let mut known = waited(250);
    known.extensions_mut().insert(Words::new().deadline(now() + 100 * MS));
    assert_eq!(told(config(), known).await, "100", "what a layer above knows");
    assert_eq!(told(config().reserve(50 * MS), waited(250)).await, "200");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_headers_can_be_chosen() -> Result<(), BoxError> {
    let own = DeadlineHeader::millis("x-time-left")?;
    let mut request = waited(250);
    request.headers_mut().insert("x-time-left", 70.into());
    assert_eq!(told(config().headers([own]), request).await, "70");
    assert_eq!(told(config().headers([]), waited(250)).await, "unlimited");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_limits_is_left_as_it_came() -> Result<(), BoxError> {
    let leaf = service_fn(|request: Request<()>| {
        assert!(request.extensions().is_empty());
        ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    });
    IncomingDeadlineLayer::new(config().let_run(true)).layer(leaf).oneshot(get()).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_ignored_and_said_or_refused_if_asked() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    for wrong in ["0", "soon", "-1", "1.5"] {
        let request = Request::get("/").header(NAME, wrong).body(())?;
        assert_eq!(told(config().observer(observer.clone()), request).await, "unlimited");
    }
    let mut twice = waited(100);
    twice.headers_mut().append(NAME, 200.into());
    assert_eq!(told(config().observer(observer.clone()), twice).await, "unlimited");
    let mut one_of_two = grpc("soon");
    one_of_two.headers_mut().insert(NAME, 200.into());
    assert_eq!(told(config().observer(observer.clone()), one_of_two).await, "200");
    let mut expected = vec!["request-timeout-ms false"; 5];
    expected.push("grpc-timeout false");
    assert_eq!(std::mem::take(&mut *lock(&heard)), expected);

    let calls = Arc::default();
    let refusing = config().refuse_unreadable(true).observer(observer);
    let service = IncomingDeadlineLayer::new(refusing).layer(telling(&calls));
    let response = service.clone().oneshot(Request::get("/").header(NAME, "0").body(())?).await?;
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(text(response).await.contains(r#""status":400"#));
    let response = service.oneshot(grpc("1.5S")).await?;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"13".parse()?)
    );
    assert_eq!(*lock(&heard), ["request-timeout-ms true", "grpc-timeout true"]);
    assert_eq!(calls.load(SeqCst), 0);
    Ok(())
}

#[test]
fn only_deadline_and_trace_are_passed_on() {
    let deadline = now() + 10 * MS;
    let trace = TraceParent::new(1, 2, 1).expect("neither is zero");
    let mut came = Words::new().deadline(deadline).trace(trace.clone()).idempotent(true);
    came.keyed = true;
    came.attempt = 3;
    let mut request = get();
    request.extensions_mut().insert(came.lasting_body(MS));
    let words = timeout::pass_on(request.extensions());
    assert_eq!((words.deadline, words.trace), (Some(deadline), Some(trace)));
    assert_eq!((words.keyed, words.attempt, words.idempotent), (false, 0, None));
    assert_eq!(words.body, buttress::call::BodyMode::Timely);
    assert!(timeout::pass_on(get().extensions()).deadline.is_none());
}

// --- Overdue ----------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_is_overdue_when_it_comes_is_answered_without_the_service() -> Result<(), BoxError> {
    for let_run in [false, true] {
        let (heard, observer) = listener();
        let calls = Arc::default();
        let config = config().observer(observer).let_run(let_run).reserve(20 * MS);
        let service = IncomingDeadlineLayer::new(config).layer(telling(&calls));

        let mut late = get();
        late.extensions_mut().insert(Words::new().deadline(now()));
        for request in [late, waited(20)] {
            let response = service.clone().oneshot(request).await?;
            assert_eq!(response.status(), 504);
            let elapsed = response.extensions().get::<Elapsed>().ok_or("it says so")?;
            assert_eq!((elapsed.which(), elapsed.sent()), (Which::Incoming, Sent::No));
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert!(text(response).await.contains(r#""status":504"#));
        }
        let response = service.oneshot(grpc("1n")).await?;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "4");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert!(http_body::Body::is_end_stream(response.body()), "trailers only");
        assert_eq!(calls.load(SeqCst), 0);
        assert_eq!(*lock(&heard), ["not_begun 0"; 3]);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn work_whose_deadline_passes_is_dropped_and_its_permits_are_free() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    let permits = Arc::new(Semaphore::new(1));
    let held = Arc::clone(&permits);
    let leaf = service_fn(move |_: Request<()>| {
        let permits = Arc::clone(&held);
        async move {
            let _permit = permits.acquire().await;
            pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    let service = IncomingDeadlineLayer::new(config().observer(observer)).layer(leaf);
    let began = now();
    let mut ready = service.clone();
    let mut call = Box::pin(ready.ready().await?.call(waited(100)));
    let response = poll_fn(|cx| call.as_mut().poll(cx)).await?;
    assert_eq!(permits.available_permits(), 1, "although the future is still there");
    assert_eq!((response.status().as_u16(), now() - began), (504, 100 * MS));
    let elapsed = response.extensions().get::<Elapsed>().ok_or("it says so")?;
    assert_eq!((elapsed.limit(), elapsed.sent()), (100 * MS, Sent::Maybe));
    drop(call);

    let response = service.oneshot(grpc("250m")).await?;
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(*lock(&heard), ["dropped 100", "dropped 250"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_in_time_counts() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    let leaf = service_fn(|_: Request<()>| async {
        sleep(100 * MS).await;
        Ok::<_, Infallible>(Response::new(Body::from("done")))
    });
    let service = IncomingDeadlineLayer::new(config().observer(observer)).layer(leaf);
    let response = service.oneshot(waited(100)).await?;
    assert_eq!(text(response).await, "done");
    assert!(lock(&heard).is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_let_run_is_told_that_nobody_waits() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    let leaf = service_fn(|request: Request<()>| async move {
        let overdue = request.extensions().get::<Overdue>().expect("it has a deadline").clone();
        assert!(!overdue.is_overdue());
        sleep(overdue.deadline() - now() - MS).await;
        assert!(!overdue.is_overdue());
        sleep(50 * MS).await;
        assert!(overdue.is_overdue());
        Ok::<_, Infallible>(Response::new(Body::from("done all the same")))
    });
    let config = config().observer(observer).let_run(true);
    let service = IncomingDeadlineLayer::new(config).layer(leaf);
    let response = service.oneshot(waited(100)).await?;
    assert_eq!(*lock(&heard), ["let_run 100"]);
    assert_eq!(text(response).await, "done all the same");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_makes_it_overdue_at_once() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    let kept = Arc::new(Mutex::new(None));
    let keeps = Arc::clone(&kept);
    let leaf = service_fn(move |request: Request<()>| {
        *lock(&keeps) = request.extensions().get::<Overdue>().cloned();
        pending::<Result<Response<Body>, Infallible>>()
    });
    let config = config().observer(observer).let_run(true);
    let mut service = IncomingDeadlineLayer::new(config).layer(leaf);
    let call = service.ready().await?.call(waited(100));
    let overdue = lock(&kept).clone().ok_or("it was called")?;
    assert!(!overdue.is_overdue());
    drop(call);
    assert!(overdue.is_overdue());
    assert!(lock(&heard).is_empty(), "the caller left, no deadline passed");
    Ok(())
}

// --- Bodies -----------------------------------------------------------------------------------

/// A piece every 40 ms, for ever.
fn streaming()
-> impl Service<Request<()>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone {
    service_fn(|_: Request<()>| {
        let pieces = futures_util::stream::unfold((), |()| async {
            sleep(40 * MS).await;
            Some((Ok::<_, BoxError>(http_body::Frame::data(Bytes::from("piece"))), ()))
        });
        ready(Ok(Response::new(Body::new(StreamBody::new(pieces)))))
    })
}

#[tokio::test(start_paused = true)]
async fn a_body_breaks_off_at_the_deadline() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    let service = IncomingDeadlineLayer::new(config().observer(observer)).layer(streaming());
    let began = now();
    let mut body = pin!(service.clone().oneshot(waited(100)).await?.into_body());
    let mut pieces = 0;
    let error = loop {
        match body.frame().await.ok_or("it does not end well")? {
            Ok(_) => pieces += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((pieces, now() - began), (2, 100 * MS));
    assert_eq!(find::<Elapsed>(&*error).map(Elapsed::which), Some(Which::Body));

    let body = service.oneshot(grpc("100m")).await?.into_body().collect().await?;
    let trailers = body.trailers().ok_or("gRPC ends with its status")?;
    assert_eq!(trailers["grpc-status"], "4");
    assert_eq!(body.to_bytes(), "piecepiece");
    assert_eq!(*lock(&heard), ["body_dropped 100"; 2]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_body_may_outlast_the_deadline_if_asked() -> Result<(), BoxError> {
    for config in [config().until_head(true), config().let_run(true)] {
        let service = IncomingDeadlineLayer::new(config).layer(streaming());
        let mut body = pin!(service.oneshot(waited(100)).await?.into_body());
        for _ in 0..10 {
            body.frame().await.ok_or("there is more")??;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_of_itself_is_not_taken_for_overdue() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    let leaf = service_fn(|_: Request<()>| {
        let pieces = futures_util::stream::once(async {
            sleep(40 * MS).await;
            Err::<http_body::Frame<Bytes>, BoxError>("disk".into())
        });
        ready(Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(pieces)))))
    });
    let service = IncomingDeadlineLayer::new(config().observer(observer)).layer(leaf);
    let body = service.oneshot(grpc("100m")).await?.into_body().collect().await;
    assert_eq!(body.expect_err("it fails").to_string(), "disk");
    assert!(lock(&heard).is_empty());
    Ok(())
}

// --- Chains -----------------------------------------------------------------------------------

type Boxed = BoxCloneService<Request<()>, Response<Body>, BoxError>;
type Seen = Arc<Mutex<Vec<(&'static str, HeaderMap)>>>;

/// How many handlers are at work.
#[derive(Clone, Default)]
struct AtWork(Arc<AtomicUsize>);

impl AtWork {
    fn begin(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        self.clone()
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

struct Work(AtWork);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

/// A client's layers over the next service.
fn calling(next: Boxed, limit: Duration) -> Boxed {
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(limit).expect("above zero"))
        .layer(DeadlineHeaderLayer::default())
        .service(next);
    BoxCloneService::new(stack.map_response(|response: Response<_>| response.map(Body::new)))
}

/// A service that works for a while, then calls the next one, which has 30 s by itself.
fn hop(
    name: &'static str,
    seen: &Seen,
    work: &AtWork,
    takes: Duration,
    next: Option<Boxed>,
) -> Boxed {
    let (seen, work) = (Arc::clone(seen), work.clone());
    let next = next.map(|next| calling(next, Duration::from_secs(30)));
    let handler = service_fn(move |request: Request<()>| {
        lock(&seen).push((name, request.headers().clone()));
        let (next, working) = (next.clone(), Work(work.begin()));
        async move {
            let _working = working;
            sleep(takes).await;
            let Some(next) = next else { return Ok(Response::new(Body::from("done"))) };
            let mut onward = Request::new(());
            onward.extensions_mut().insert(timeout::pass_on(request.extensions()));
            next.oneshot(onward).await
        }
    });
    let server = IncomingDeadlineLayer::default().layer(handler);
    BoxCloneService::new(server.map_response(|response: Response<_>| response.map(Body::new)))
}

fn chain(takes: Duration) -> (Boxed, Seen, AtWork) {
    let (seen, work) = (Seen::default(), AtWork::default());
    let last = hop("c", &seen, &work, takes, None);
    let middle = hop("b", &seen, &work, takes, Some(last));
    let first = hop("a", &seen, &work, takes, Some(middle));
    (calling(first, 1000 * MS), seen, work)
}

#[tokio::test(start_paused = true)]
async fn each_service_of_a_chain_has_less_than_the_one_before() -> Result<(), BoxError> {
    let (first, seen, _) = chain(100 * MS);
    let response = first.oneshot(get()).await?;
    assert_eq!(text(response).await, "done");
    let seen: Vec<_> =
        lock(&seen).iter().map(|(name, headers)| (*name, headers[NAME].clone())).collect();
    assert_eq!(seen, [("a", 1000.into()), ("b", 900.into()), ("c", 800.into())]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nothing_in_a_chain_outlives_what_its_first_caller_had() -> Result<(), BoxError> {
    for (takes, reached) in [(400 * MS, 3), (2000 * MS, 1)] {
        let (first, seen, work) = chain(takes);
        let began = now();
        // Whose timer is the first at the very instant is all the same.
        match first.oneshot(get()).await {
            Ok(response) => assert_eq!(response.status(), 504),
            Err(error) => assert!(find::<Elapsed>(&*error).is_some(), "{error:?}"),
        }
        assert_eq!(now() - began, 1000 * MS, "{takes:?}");
        assert_eq!(work.count(), 0, "{takes:?}: nobody works on");
        assert_eq!(lock(&seen).len(), reached);
    }
    Ok(())
}

/// Goal: in one process, what a handler's own call marks is not taken for its caller's. Method:
/// the handler says that its own call was not sent; the caller gives up on the handler.
#[tokio::test(start_paused = true)]
async fn a_handlers_own_calls_say_nothing_about_its_request() -> Result<(), BoxError> {
    for config in [config(), config().limit(10_000 * MS)?, config().let_run(true)] {
        let leaf = service_fn(|_: Request<()>| {
            poll_fn(|_| {
                mark_unsent();
                Poll::<Result<Response<Body>, Infallible>>::Pending
            })
        });
        let server = IncomingDeadlineLayer::new(config).layer(leaf);
        let caller = AttemptTimeoutLayer::new(100 * MS)?.layer(server);
        let error = caller.oneshot(get()).await.err().ok_or("it hangs")?;
        assert_eq!(find::<Elapsed>(&*error).map(Elapsed::sent), Some(Sent::Maybe));
    }
    Ok(())
}

// --- Contracts --------------------------------------------------------------------------------

/// Polls a future so many times at most, each time when it is woken.
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
async fn dropped_at_any_await_nothing_is_left_of_it() -> Result<(), BoxError> {
    for let_run in [false, true] {
        let mut times = 0;
        loop {
            let work = AtWork::default();
            let begin = work.clone();
            let leaf = service_fn(move |_: Request<()>| {
                let working = Work(begin.begin());
                async move {
                    let _working = working;
                    for _ in 0..3 {
                        sleep(20 * MS).await;
                    }
                    Ok::<_, Infallible>(Response::new(Body::from("done")))
                }
            });
            let layer = IncomingDeadlineLayer::new(config().let_run(let_run));
            let mut service = layer.layer(leaf);
            let call = service.ready().await?.call(waited(50));
            let done = polled(call, times).await;
            assert_eq!(work.count(), 0, "after {times} polls");
            if let Some(response) = done {
                assert_eq!(response?.status(), if let_run { 200 } else { 504 });
                break;
            }
            times += 1;
            assert!(times < 20, "it ends");
        }
        assert!(times > 2, "{times}");
    }
    Ok(())
}

/// Counts readiness: the instance that is called has to be the one that was polled.
#[derive(Debug)]
struct Strict(bool);

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "called without having been polled ready");
        Box::pin(ready(Ok(Response::new(Body::empty()))))
    }
}

#[tokio::test(start_paused = true)]
async fn calls_the_instance_that_was_polled() -> Result<(), BoxError> {
    let mut service = IncomingDeadlineLayer::default().layer(Strict(false));
    for _ in 0..2 {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        service.call(waited(100)).await?;
    }
    Ok(())
}

#[cfg(feature = "hyper")]
mod over_sockets {
    use buttress::client::Client;

    use super::*;

    #[tokio::test]
    async fn a_server_answers_that_it_gave_up() -> Result<(), BoxError> {
        let layer = IncomingDeadlineLayer::default();
        let server = support::Server::start(move |request: Request<hyper::body::Incoming>| {
            let handler = service_fn(|request: Request<_>| async move {
                if request.uri().path() == "/hang" {
                    pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done")))
            });
            let answer = layer.layer(handler).oneshot(request);
            async move {
                let (head, body) = answer.await.expect("infallible").into_parts();
                let body = body.collect().await.expect("it is whole").to_bytes();
                Response::from_parts(head, Full::new(body))
            }
        })
        .await;
        let retry = buttress::retry::RetryConfig::new().max_attempts(1)?;
        let client =
            Client::builder("http://orders").endpoints([server.address()]).retry(retry).build()?;
        let ask = |path| Request::get(path).header(NAME, "60").body(());
        let response = client.send(ask("/hang")?).await?;
        assert_eq!(response.status(), 504);
        assert!(response.into_body().collect().await?.starts_with(b"{\"title\""));
        let response = client.send(Request::get("/").header(NAME, "60000").body(())?).await?;
        assert_eq!(response.into_body().collect().await?, "done");
        Ok(())
    }
}
