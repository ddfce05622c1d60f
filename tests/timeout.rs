//! The deadline of a call and the timeout of an attempt, through the public interface.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, pending},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError,
    body::Body,
    call::{Call, Carrier, Trail, Words, mark_handed_over, mark_unknown, mark_unsent},
    classify::{Blame, Retry, Sent, verdict_on_error},
    find,
    timeout::{AttemptTimeoutLayer, DeadlineLayer, Elapsed, InvalidTimeout, Which},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One poll, by nobody who could be woken.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn elapsed(error: &BoxError) -> Elapsed {
    *find::<Elapsed>(&**error).expect("the time was up")
}

/// Counts its drops.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicU32>);

impl Drops {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Held(Drops);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A service of plain words that calls `work`.
fn plain<W, F, T>(
    work: W,
) -> impl Service<Call<()>, Response = T, Error = Infallible, Future: Future> + Clone
where
    W: Fn(Words) -> F + Clone,
    F: Future<Output = T>,
{
    service_fn(move |call: Call<()>| {
        let work = work(call.words);
        async move { Ok(work.await) }
    })
}

async fn call<S, C>(service: &mut S, call: C) -> Result<S::Response, BoxError>
where
    S: Service<C, Error = BoxError>,
{
    service.ready().await?.call(call).await
}

// --- One attempt ----------------------------------------------------------------------------

#[test]
fn a_timeout_of_zero_is_refused() {
    let error: InvalidTimeout = AttemptTimeoutLayer::new(Duration::ZERO).expect_err("zero");
    assert_eq!(DeadlineLayer::new(Duration::ZERO).err(), Some(error));
    assert_eq!(DeadlineLayer::plain(Duration::ZERO).err(), Some(error));
    assert!(error.to_string().contains("above zero"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_cut_off_at_its_limit_and_not_before() {
    let layer = AttemptTimeoutLayer::new(100 * MS).expect("sound");
    let mut service = layer.layer(plain(|_| pending::<()>()));
    let mut attempt = pin!(call(&mut service, Call::new(())));
    assert!(poll(attempt.as_mut()).is_pending());
    advance(99 * MS).await;
    assert!(poll(attempt.as_mut()).is_pending());
    advance(MS).await;
    let Poll::Ready(Err(error)) = poll(attempt.as_mut()) else { panic!("the time is up") };
    assert_eq!(elapsed(&error).which(), Which::Attempt);
    assert_eq!(elapsed(&error).limit(), 100 * MS);
    assert_eq!(error.to_string(), "the attempt did not end within 100ms");
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_same_instant_counts() {
    let slow = plain(|_| async { sleep(100 * MS).await });
    let mut attempt = AttemptTimeoutLayer::new(100 * MS).expect("sound").layer(slow.clone());
    let mut total = DeadlineLayer::plain(100 * MS).expect("sound").layer(slow);
    let mut one = pin!(call(&mut attempt, Call::new(())));
    let mut other = pin!(call(&mut total, Call::new(())));
    assert!(poll(one.as_mut()).is_pending());
    assert!(poll(other.as_mut()).is_pending());
    // Both are polled only long after: what is there is there.
    advance(500 * MS).await;
    assert!(matches!(poll(one), Poll::Ready(Ok(()))));
    assert!(matches!(poll(other), Poll::Ready(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_is_dropped_before_its_error_is_seen() {
    let drops = Drops::default();
    let leaf = {
        let drops = drops.clone();
        plain(move |_| {
            let held = Held(drops.clone());
            async move {
                pending::<()>().await;
                drop(held);
            }
        })
    };
    let mut attempt = AttemptTimeoutLayer::new(100 * MS).expect("sound").layer(leaf.clone());
    let mut total = DeadlineLayer::plain(200 * MS).expect("sound").layer(leaf);
    // Their own futures, which are still there when their errors are.
    let mut one = pin!(attempt.call(Call::new(())));
    let mut other = pin!(total.call(Call::new(())));
    assert!(poll(one.as_mut()).is_pending());
    assert!(poll(other.as_mut()).is_pending());
    advance(100 * MS).await;
    assert!(poll(one.as_mut()).is_ready());
    assert_eq!(drops.count(), 1, "the future still lives");
    advance(100 * MS).await;
    assert!(poll(other.as_mut()).is_ready());
    assert_eq!(drops.count(), 2);
}

type Marks = &'static [fn()];

/// Marks as a transport would, then waits for ever.
async fn transport(marks: Marks) {
    let mut left = marks.iter();
    std::future::poll_fn(|cx| match left.next() {
        Some(mark) => {
            mark();
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }
        None => Poll::Pending,
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn says_whether_the_request_was_handed_to_a_connection() {
    let table: [(Marks, Sent); 4] = [
        (&[], Sent::Maybe),
        (&[mark_unsent], Sent::No),
        (&[mark_unsent, mark_handed_over], Sent::Maybe),
        (&[mark_unsent, mark_unknown], Sent::Maybe),
    ];
    for (marks, sent) in table {
        let leaf = plain(move |_| transport(marks));
        let mut attempt = AttemptTimeoutLayer::new(100 * MS).expect("sound").layer(leaf.clone());
        let error = call(&mut attempt, Call::new(())).await.expect_err("it hangs");
        assert_eq!(elapsed(&error).sent(), sent, "attempt, {} marks", marks.len());
        assert_eq!(verdict_on_error(&*error).sent, sent);
        assert_eq!(verdict_on_error(&*error).blame, Blame::Endpoint);
        let mut total = DeadlineLayer::plain(100 * MS).expect("sound").layer(leaf);
        let error = call(&mut total, Call::new(())).await.expect_err("it hangs");
        assert_eq!(elapsed(&error).sent(), sent, "total, {} marks", marks.len());
        assert_eq!(verdict_on_error(&*error).retry, Retry::Never);
    }
}

#[tokio::test(start_paused = true)]
async fn the_marks_of_one_attempt_reach_whoever_waits_above_it() {
    let leaf = plain(|_| transport(&[mark_unsent]));
    let mut service = AttemptTimeoutLayer::new(100 * MS).expect("sound").layer(leaf);
    let mut attempt = pin!(call(&mut service, Call::new(())));
    let mut trail = Trail::new();
    assert!(trail.enter(|| poll(attempt.as_mut())).is_pending());
    assert_eq!(trail.sent(), Sent::No);
}

// --- Deadlines ------------------------------------------------------------------------------

/// A leaf that tells the deadline it was given.
fn telling() -> impl Service<Call<()>, Response = Option<Instant>, Error = Infallible> + Clone {
    service_fn(|call: Call<()>| async move { Ok(call.words.deadline) })
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_deadlines_holds_and_is_passed_on() {
    let mut service = DeadlineLayer::plain(1000 * MS).expect("sound").layer(telling());
    let start = now();
    let with = |after: Duration| Call::with_words((), Words::new().deadline(start + after));
    let own = call(&mut service, Call::new(())).await.expect("it answers");
    assert_eq!(own, Some(start + 1000 * MS));
    let earlier = call(&mut service, with(200 * MS)).await.expect("it answers");
    assert_eq!(earlier, Some(start + 200 * MS));
    let later = call(&mut service, with(5000 * MS)).await.expect("it answers");
    assert_eq!(later, Some(start + 1000 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_came_in_ends_the_call_and_its_attempts() {
    let hang = plain(|_| pending::<()>());
    let words = Words::new().deadline(now() + 30 * MS);
    let mut total = DeadlineLayer::plain(1000 * MS).expect("sound").layer(hang.clone());
    let start = now();
    let error = call(&mut total, Call::with_words((), words)).await.expect_err("it hangs");
    assert_eq!(now() - start, 30 * MS);
    assert_eq!((elapsed(&error).which(), elapsed(&error).limit()), (Which::Total, 30 * MS));

    let words = Words::new().deadline(now() + 30 * MS);
    let mut attempt = AttemptTimeoutLayer::new(1000 * MS).expect("sound").layer(hang);
    let start = now();
    let error = call(&mut attempt, Call::with_words((), words)).await.expect_err("it hangs");
    assert_eq!(now() - start, 30 * MS);
    assert_eq!((elapsed(&error).which(), elapsed(&error).limit()), (Which::Attempt, 30 * MS));
}

#[tokio::test(start_paused = true)]
async fn with_nothing_left_nothing_is_begun_and_nobody_is_blamed() {
    let calls = Arc::new(AtomicU32::new(0));
    let leaf = {
        let calls = Arc::clone(&calls);
        plain(move |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async {}
        })
    };
    let mut total = DeadlineLayer::plain(1000 * MS).expect("sound").layer(leaf.clone());
    let mut attempt = AttemptTimeoutLayer::new(1000 * MS).expect("sound").layer(leaf);
    let past = || Call::with_words((), Words::new().deadline(now()));
    let errors = [
        call(&mut total, past()).await.expect_err("too late"),
        call(&mut attempt, past()).await.expect_err("too late"),
    ];
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    for error in errors {
        assert_eq!(elapsed(&error).sent(), Sent::No);
        assert_eq!(verdict_on_error(&*error).blame, Blame::Nobody, "{error}");
        assert_eq!(error.to_string(), "the call's deadline had passed before it was begun");
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_of_all_limits_does_not_overflow() {
    let mut service = DeadlineLayer::plain(Duration::MAX)
        .expect("sound")
        .layer(AttemptTimeoutLayer::new(Duration::MAX).expect("sound").layer(telling()));
    let deadline = call(&mut service, Call::new(())).await.expect("it answers");
    assert!(deadline.is_some_and(|at| at > now() + Duration::from_secs(86_400)));
    let mut lasting = http_service(Duration::MAX, [Piece::Wait(5 * MS), Piece::Data("a")]);
    let words = Words::new().lasting_body(Duration::MAX);
    let response = call(&mut lasting, get(words)).await.expect("it answers");
    let body = response.into_body().collect().await.expect("it ends");
    assert_eq!(body.to_bytes(), "a");
}

// --- The response's body --------------------------------------------------------------------

#[derive(Clone, Copy)]
enum Piece {
    Data(&'static str),
    Wait(Duration),
    Hang,
}

/// A body in pieces.
struct Pieces {
    left: VecDeque<Piece>,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
    _held: Held,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                std::task::ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.left.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Data(text)) => {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))));
                }
                Some(Piece::Wait(span)) => self.wait = Some(Box::pin(sleep(span))),
                Some(Piece::Hang) => {
                    self.left.push_front(Piece::Hang);
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.wait.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

fn get(words: Words) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(words);
    request
}

type Bounded = Response<buttress::timeout::BoundedBody<Pieces>>;

fn http_service_with<I: IntoIterator<Item = Piece>>(
    limit: Duration,
    pieces: I,
    drops: &Drops,
) -> impl Service<Request<Body>, Response = Bounded, Error = BoxError> + Clone + use<I> {
    let (pieces, drops) = (VecDeque::from_iter(pieces), drops.clone());
    let leaf = service_fn(move |_: Request<Body>| {
        let held = Held(drops.clone());
        let body = Pieces { left: pieces.clone(), wait: None, _held: held };
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    DeadlineLayer::new(limit).expect("sound").layer(leaf)
}

fn http_service(
    limit: Duration,
    pieces: impl IntoIterator<Item = Piece>,
) -> impl Service<Request<Body>, Response = Bounded, Error = BoxError> + Clone {
    http_service_with(limit, pieces, &Drops::default())
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_to_the_last_byte_of_the_body() {
    let drops = Drops::default();
    let wait = Piece::Wait(40 * MS);
    let pieces = [Piece::Data("a"), wait, Piece::Data("b"), wait, Piece::Data("c"), wait];
    let mut service = http_service_with(100 * MS, pieces, &drops);
    let start = now();
    let response = call(&mut service, get(Words::new())).await.expect("the head comes");
    let mut body = pin!(response.into_body());
    for expected in ["a", "b", "c"] {
        let frame = body.frame().await.expect("a piece").expect("in time");
        assert_eq!(frame.into_data().ok(), Some(Bytes::from(expected)));
    }
    let error = body.frame().await.expect("an end").expect_err("too late");
    assert_eq!(now() - start, 100 * MS);
    assert_eq!(elapsed(&error).which(), Which::Body);
    assert_eq!(elapsed(&error).sent(), Sent::Processed, "the head has come");
    assert_eq!(drops.count(), 1, "the body beneath still lives");
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_always_has_more_is_cut_off_as_well() {
    let drops = Drops::default();
    let mut service = http_service_with(100 * MS, vec![Piece::Data("a"); 50], &drops);
    let response = call(&mut service, get(Words::new())).await.expect("the head comes");
    let mut body = pin!(response.into_body());
    let mut read = 0;
    let error = loop {
        match body.frame().await.expect("fifty pieces") {
            Ok(_) => read += 1,
            Err(error) => break error,
        }
        sleep(10 * MS).await;
    };
    assert_eq!(elapsed(&error).which(), Which::Body);
    assert_eq!(read, 11, "what is there at the deadline itself counts");
    assert_eq!(drops.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_piece_counts_whenever_it_is_read() {
    let mut service = http_service(100 * MS, [Piece::Data("all")]);
    let response = call(&mut service, get(Words::new())).await.expect("the head comes");
    sleep(1000 * MS).await;
    let body = response.into_body().collect().await.expect("it was there in time");
    assert_eq!(body.to_bytes(), "all");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_meant_to_last_may_outlive_the_deadline_but_not_be_silent() {
    let drops = Drops::default();
    let wait = Piece::Wait(80 * MS);
    let piece = Piece::Data("tick");
    let pieces = [piece, wait, piece, wait, piece, wait, piece, Piece::Hang];
    let mut service = http_service_with(100 * MS, pieces, &drops);
    let start = now();
    let words = Words::new().lasting_body(100 * MS);
    let response = call(&mut service, get(words)).await.expect("the head comes");
    let mut body = pin!(response.into_body());
    for _ in 0..4 {
        body.frame().await.expect("a piece").expect("each came within its limit");
    }
    assert_eq!(now() - start, 240 * MS, "long past the deadline");
    let error = body.frame().await.expect("an end").expect_err("silent");
    assert_eq!(now() - start, 340 * MS, "its time began anew with the last piece");
    assert_eq!(elapsed(&error).which(), Which::Idle);
    assert_eq!(drops.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_body_that_is_meant_to_last_has_the_deadline_all_the_same() {
    let leaf = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let mut service = DeadlineLayer::new(100 * MS).expect("sound").layer(leaf);
    let start = now();
    let words = Words::new().lasting_body(1000 * MS);
    let error = call(&mut service, get(words)).await.expect_err("it hangs");
    assert_eq!(now() - start, 100 * MS);
    assert_eq!(elapsed(&error).which(), Which::Total);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_reads_slowly_is_not_called_a_silent_body() {
    let mut service = http_service(1000 * MS, [Piece::Data("a"), Piece::Data("b")]);
    let words = Words::new().lasting_body(50 * MS);
    let response = call(&mut service, get(words)).await.expect("the head comes");
    let mut body = pin!(response.into_body());
    body.frame().await.expect("a piece").expect("it is there");
    sleep(500 * MS).await;
    body.frame().await.expect("a piece").expect("it was there all the time");
}

#[tokio::test(start_paused = true)]
async fn both_carriers_have_the_same_deadline() {
    async fn seen<C: Carrier>(carrier: C) -> (Option<Instant>, Which, Duration) {
        let seen = Arc::new(Mutex::new(None));
        let leaf = {
            let seen = Arc::clone(&seen);
            service_fn(move |carrier: C| {
                let deadline = carrier.words().and_then(|words| words.deadline);
                *seen.lock().expect("no panic") = deadline;
                pending::<Result<Response<Body>, Infallible>>()
            })
        };
        let start = now();
        let mut service = DeadlineLayer::new(70 * MS).expect("sound").layer(leaf);
        let error = call(&mut service, carrier).await.expect_err("it hangs");
        let deadline = *seen.lock().expect("no panic");
        (deadline, elapsed(&error).which(), now() - start)
    }
    let start = now();
    let http = seen(Request::new(Body::empty())).await;
    assert_eq!(http, (Some(start + 70 * MS), Which::Total, 70 * MS));
    let start = now();
    let inline = seen(Call::new(Request::new(Body::empty()))).await;
    assert_eq!(inline, (Some(start + 70 * MS), Which::Total, 70 * MS));
}

// --- The tower contract ---------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn readiness_is_forwarded_and_nothing_is_held_by_it() {
    let (mut service, mut handle) = tower_test::mock::spawn_with(|mock| {
        let attempt = AttemptTimeoutLayer::new(100 * MS).expect("sound").layer(mock);
        DeadlineLayer::plain(100 * MS).expect("sound").layer(attempt)
    });
    handle.allow(0);
    let _: &tower_test::mock::Handle<Call<()>, ()> = &handle;
    assert!(poll_ready(&mut service).is_pending());
    handle.allow(1);
    assert!(matches!(poll_ready(&mut service), Poll::Ready(Ok(()))));
    handle.send_error("gone");
    let mut clone = service.clone();
    assert!(matches!(poll_ready(&mut clone), Poll::Ready(Err(_))));
}

fn poll_ready<S: Service<Call<()>>>(
    service: &mut tower_test::mock::Spawn<S>,
) -> Poll<Result<(), S::Error>> {
    service.poll_ready::<Call<()>>()
}

#[test]
fn futures_can_be_sent_between_threads() {
    fn sent<T: Send + 'static>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let leaf = service_fn(|_: Call<()>| async { Ok::<_, Infallible>(Response::new("x")) });
        let attempt = AttemptTimeoutLayer::new(MS).expect("sound").layer(leaf);
        let mut total =
            DeadlineLayer::<buttress::timeout::Http>::new(MS).expect("sound").layer(attempt);
        sent(&total);
        let _: Response<_> = {
            let future = total.call(Call::new(()));
            sent(&future);
            future.await.expect("it answers")
        };
    });
}
