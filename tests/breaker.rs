//! The breaker through its public interface, under paused time.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    breaker::{Breaker, BreakerConfig, BreakerLayer, Permit, State},
    call::{Asked, Call, Words},
    classify::{HttpClassifier, PlainClassifier, Settle, Verdict},
    endpoint::{Endpoint, Gate, Refusal},
    find,
    timeout::DeadlineLayer,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_test::mock;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// The present, on the paused clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Opens for 1 s or less, closes after one probe, without a ramp.
fn quick() -> BreakerConfig {
    BreakerConfig::new()
        .open_time(s(1), s(60))
        .and_then(|config| config.probes(1))
        .and_then(|config| config.ramp(Duration::ZERO))
        .expect("these settings work")
}

fn seeded(config: BreakerConfig) -> Breaker {
    Breaker::with_entropy(config, &Entropy::seeded(7))
}

/// Five permits that come back with a failure.
fn trip(breaker: &Breaker) {
    for _ in 0..5 {
        let mut permit = breaker.admit(now(), Asked::default()).expect("it is closed");
        permit.settle(Verdict::TIMED_OUT);
    }
    assert!(matches!(breaker.state(), State::Open { .. }), "{breaker:?}");
}

/// Waits until probes may go.
async fn wait(breaker: &Breaker) {
    if let State::Open { until } = breaker.state() {
        tokio::time::sleep_until((until + ms(1)).into()).await;
    }
}

#[track_caller]
fn assert_half_open(breaker: &Breaker, under_way: u32, succeeded: u32) {
    assert_eq!(breaker.state(), State::HalfOpen { under_way, succeeded });
}

fn refusal(error: &BoxError) -> Option<Refusal> {
    find::<Refusal>(&**error).copied()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A request that is not HTTP.
type Hello = Call<&'static str>;

/// Says what it is told to, and counts its calls.
#[derive(Clone, Default)]
struct Leaf {
    calls: Arc<AtomicUsize>,
    fails: Arc<Mutex<bool>>,
}

impl Leaf {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn fails(&self, fails: bool) {
        *self.fails.lock().expect("nobody panicked") = fails;
    }
}

impl Service<Hello> for Leaf {
    type Response = &'static str;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<&'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Hello) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fails = *self.fails.lock().expect("nobody panicked");
        std::future::ready(if fails {
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        } else {
            Ok(call.request)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn after_ten_thousand_successes_five_failures_open_it() {
    let breaker = seeded(quick());
    let leaf = Leaf::default();
    let mut service =
        BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(leaf.clone());
    for _ in 0..10_000 {
        assert!(service.ready().await.expect("ready").call(Call::new("hello")).await.is_ok());
    }
    leaf.fails(true);
    for _ in 0..100 {
        assert!(service.ready().await.expect("ready").call(Call::new("hello")).await.is_err());
    }
    assert_eq!(leaf.calls(), 10_005);
}

#[tokio::test(start_paused = true)]
async fn refuses_with_a_time_to_come_back_at_and_recovers() {
    let leaf = Leaf::default();
    leaf.fails(true);
    let layer = BreakerLayer::new(seeded(quick()), PlainClassifier::new());
    let mut service = layer.layer(leaf.clone());
    for _ in 0..5 {
        let error = service.ready().await.expect("ready").call(Call::new("a")).await;
        let error = error.expect_err("the leaf fails");
        assert!(find::<io::Error>(&*error).is_some() && refusal(&error).is_none());
    }
    let error = service.ready().await.expect("ready").call(Call::new("a")).await;
    let refused = refusal(&error.expect_err("it is open")).expect("by the breaker");
    let retry_at = refused.retry_at.expect("it knows when");
    assert!((now() + ms(500)..=now() + s(1)).contains(&retry_at));
    assert_eq!(leaf.calls(), 5);

    leaf.fails(false);
    tokio::time::sleep_until(retry_at.into()).await;
    tokio::time::sleep(ms(1)).await;
    let answer = service.ready().await.expect("ready").call(Call::new("a")).await;
    assert_eq!(answer.expect("the leaf is well"), "a");
    assert_eq!(layer.breaker().expect("it has one").state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_calls_it_admits_as_many_probes_as_it_needs() {
    let breaker = seeded(quick().probes(3).expect("three"));
    let (inner, mut handle) = mock::pair::<Hello, &'static str>();
    let layer = BreakerLayer::new(breaker.clone(), PlainClassifier::new());
    trip(&breaker);
    wait(&breaker).await;

    handle.allow(1000);
    let mut calls: Vec<_> = Vec::new();
    for _ in 0..1000 {
        let mut service = layer.layer(inner.clone());
        let call = service.ready().await.expect("ready").call(Call::new("probe"));
        calls.push(tokio::spawn(call));
    }
    let mut refused = 0;
    for _ in 0..3 {
        let (_, send) = handle.next_request().await.expect("a probe");
        send.send_response("well");
    }
    for call in calls {
        match call.await.expect("no panic") {
            Ok(answer) => assert_eq!(answer, "well"),
            Err(error) => {
                assert!(refusal(&error).is_some());
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 997);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_success_from_before_it_opened_does_not_close_it() {
    let breaker = seeded(quick());
    let (inner, mut handle) = mock::pair::<Hello, &'static str>();
    let mut service = BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(inner);
    handle.allow(1);
    let old = service.ready().await.expect("ready").call(Call::new("old"));
    let (_, send) = handle.next_request().await.expect("it was sent");
    trip(&breaker);
    wait(&breaker).await;
    let probe = breaker.admit(now(), Asked::default()).expect("a probe");
    send.send_response("late");
    assert_eq!(old.await.expect("the answer is the caller's"), "late");
    assert_half_open(&breaker, 1, 0);
    drop(probe);
    assert_half_open(&breaker, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_from_before_it_closed_does_not_open_it() {
    let breaker = seeded(quick().consecutive_failures(1).expect("one"));
    let mut old: Vec<Permit> =
        (0..9).map(|_| breaker.admit(now(), Asked::default()).expect("it is closed")).collect();
    old.remove(0).settle(Verdict::TIMED_OUT);
    wait(&breaker).await;
    let mut probe = breaker.admit(now(), Asked::default()).expect("a probe");
    probe.settle(Verdict::SUCCESS);
    assert_eq!(breaker.state(), State::Closed);
    for mut permit in old {
        permit.settle(Verdict::TIMED_OUT);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_has_failed_after_its_timeout() {
    let breaker = seeded(quick().probe_timeout(s(2)).expect("two seconds"));
    let (inner, mut handle) = mock::pair::<Hello, &'static str>();
    let mut service = BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(inner);
    trip(&breaker);
    wait(&breaker).await;
    handle.allow(1);
    let hung = service.ready().await.expect("ready").call(Call::new("probe"));
    let (_, send) = handle.next_request().await.expect("the probe");
    assert!(!breaker.is_open(now()));
    tokio::time::sleep(ms(1999)).await;
    assert_half_open(&breaker, 1, 0);
    tokio::time::sleep(ms(1)).await;
    // Whoever chooses among endpoints has to see that it is worth while to ask.
    assert!(breaker.is_open(now()));
    assert!(breaker.admit(now(), Asked::default()).is_err());
    assert!(matches!(breaker.state(), State::Open { .. }));
    send.send_response("too late");
    assert!(hung.await.is_ok());
    assert!(matches!(breaker.state(), State::Open { .. }));
}

/// The goal: a dropped future counts for nothing and leaves no probe slot behind, wherever it
/// was. The method: many times as many drops as there are slots.
#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_gives_its_place_back_wherever_it_was() {
    let breaker = seeded(quick());
    let (inner, mut handle) = mock::pair::<Hello, &'static str>();
    let mut service = BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(inner);
    trip(&breaker);
    wait(&breaker).await;
    for _ in 0..20 {
        handle.allow(1);
        // Before the first poll.
        let unpolled = service.ready().await.expect("ready").call(Call::new("probe"));
        assert_half_open(&breaker, 1, 0);
        drop(unpolled);
        assert_half_open(&breaker, 0, 0);
        let (_, _send) = handle.next_request().await.expect("the mock took it");
        // While it waits.
        handle.allow(1);
        let mut waiting = Box::pin(service.ready().await.expect("ready").call(Call::new("probe")));
        let (_, _send) = handle.next_request().await.expect("the mock took it");
        assert!(poll_once(waiting.as_mut()).is_pending());
        assert_half_open(&breaker, 1, 0);
        drop(waiting);
        assert_half_open(&breaker, 0, 0);
    }
    // Nor do they count in a closed breaker.
    breaker.force_closed();
    breaker.release();
    for _ in 0..20 {
        drop(breaker.admit(now(), Asked::default()));
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_deadline_cut_off_is_a_failure() {
    let breaker = seeded(quick());
    let inner = service_fn(|_: Hello| std::future::pending::<io::Result<&'static str>>());
    let mut service = BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(inner);
    for _ in 0..5 {
        assert_eq!(breaker.state(), State::Closed);
        let words = Words::new().deadline(now() + ms(100));
        let call = service.ready().await.expect("ready").call(Call::with_words("slow", words));
        assert!(tokio::time::timeout(ms(100), call).await.is_err());
    }
    assert!(matches!(breaker.state(), State::Open { .. }));

    // The same drops a moment before the deadline are the caller's.
    let breaker = seeded(quick());
    let mut service = BreakerLayer::new(breaker.clone(), PlainClassifier::new())
        .layer(service_fn(|_: Hello| std::future::pending::<io::Result<&'static str>>()));
    for _ in 0..50 {
        let words = Words::new().deadline(now() + ms(100));
        let call = service.ready().await.expect("ready").call(Call::with_words("slow", words));
        assert!(tokio::time::timeout(ms(99), call).await.is_err());
    }
    assert_eq!(breaker.state(), State::Closed);
}

/// What a body does when it is polled.
#[derive(Clone, Copy)]
enum Piece {
    Data,
    Stall,
    Break,
    End,
}

/// A body made of pieces.
struct Pieces(Vec<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.0.first().copied() {
            Some(Piece::Data) => {
                self.0.remove(0);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
            }
            Some(Piece::Stall) => Poll::Pending,
            Some(Piece::Break) => {
                Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof))))
            }
            Some(Piece::End) | None => Poll::Ready(None),
        }
    }
}

type HttpRequest = Request<Empty<Bytes>>;

fn answering(
    status: u16,
    pieces: &'static [Piece],
) -> impl Service<HttpRequest, Response = Response<Pieces>, Error = Infallible, Future: Unpin> + Clone
{
    service_fn(move |_: HttpRequest| {
        let mut response = Response::new(Pieces(pieces.to_vec()));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        std::future::ready(Ok(response))
    })
}

fn get(deadline: Option<Instant>) -> HttpRequest {
    let mut request = Request::new(Empty::new());
    if let Some(deadline) = deadline {
        request.extensions_mut().insert(Words::new().deadline(deadline));
    }
    request
}

#[tokio::test(start_paused = true)]
async fn a_probe_lasts_until_its_body_has_been_read() {
    let breaker = seeded(quick());
    let mut service = BreakerLayer::new(breaker.clone(), HttpClassifier::new())
        .layer(answering(200, &[Piece::Data, Piece::Data, Piece::End]));
    trip(&breaker);
    wait(&breaker).await;
    let response = service.ready().await.expect("ready").call(get(None)).await.expect("a head");
    let mut body = response.into_body();
    assert!(matches!(body.frame().await, Some(Ok(_))));
    assert_half_open(&breaker, 1, 0);
    assert!(matches!(body.frame().await, Some(Ok(_))));
    assert_half_open(&breaker, 1, 0);
    assert!(body.frame().await.is_none());
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_or_outlasts_the_deadline_is_a_failure() {
    for pieces in [&[Piece::Data, Piece::Break], &[Piece::Data, Piece::Stall]] {
        let breaker = seeded(quick());
        let guarded =
            BreakerLayer::new(breaker.clone(), HttpClassifier::new()).layer(answering(200, pieces));
        let mut service = DeadlineLayer::new(ms(100)).expect("sound").layer(guarded);
        for _ in 0..5 {
            assert_eq!(breaker.state(), State::Closed);
            let response = service.ready().await.expect("ready").call(get(None)).await;
            assert!(response.expect("a head").into_body().collect().await.is_err());
        }
        assert!(matches!(breaker.state(), State::Open { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_the_caller_drops_leaves_its_heads_verdict() {
    let breaker = seeded(quick());
    let mut service = BreakerLayer::new(breaker.clone(), HttpClassifier::new())
        .layer(answering(200, &[Piece::Data, Piece::Stall]));
    trip(&breaker);
    wait(&breaker).await;
    let request = get(Some(now() + s(1)));
    let response = service.ready().await.expect("ready").call(request).await.expect("a head");
    let mut body = response.into_body();
    assert!(matches!(body.frame().await, Some(Ok(_))));
    assert!(poll_once(pin!(body.frame())).is_pending());
    assert_half_open(&breaker, 1, 0);
    drop(body);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn judges_answers_by_their_status() {
    /// The state after `calls` answers with one status.
    async fn after(calls: u32, status: u16) -> State {
        let breaker = seeded(quick());
        let mut service = BreakerLayer::new(breaker.clone(), HttpClassifier::new())
            .layer(answering(status, &[Piece::End]));
        for _ in 0..calls {
            drop(service.ready().await.expect("ready").call(get(None)).await.expect("an answer"));
        }
        breaker.state()
    }

    for status in [404, 421] {
        assert_eq!(after(100, status).await, State::Closed, "{status}");
    }
    for status in [500, 502, 503] {
        assert_eq!(after(4, status).await, State::Closed, "{status}");
        assert!(matches!(after(5, status).await, State::Open { .. }), "{status}");
    }
    // Half of 20 calls or more, but never five in a row.
    assert_eq!(after(19, 429).await, State::Closed);
    assert!(matches!(after(20, 429).await, State::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_is_the_one_that_is_called() {
    let breaker = seeded(quick());
    let mut service = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone(), PlainClassifier::new()))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Leaf::default());
    // `ConcurrencyLimit` panics if a clone that was not polled is called.
    for _ in 0..3 {
        let call = service.ready().await.expect("ready").call(Call::new("a"));
        assert!(call.await.is_ok());
        let mut clone = service.clone();
        assert!(clone.ready().await.expect("ready").call(Call::new("a")).await.is_ok());
    }
}

/// The goal: a caller who will be refused anyway does not wait for a service that hangs.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_although_the_service_is_never_ready() {
    let breaker = seeded(quick());
    let (inner, mut handle) = mock::pair::<Hello, &'static str>();
    let mut service = BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(inner);
    handle.allow(0);
    assert!(poll_once(pin!(service.ready())).is_pending());
    trip(&breaker);
    let call = service.ready().await.expect("ready to refuse");
    // It said ready without asking the mock, so that it must refuse even if time went by.
    wait(&breaker).await;
    let error = call.call(Call::new("a")).await.expect_err("refused");
    assert!(refusal(&error).is_some());
    assert_half_open(&breaker, 0, 0);
    // Next time it asks the mock.
    assert!(poll_once(pin!(service.ready())).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_clone_carries_no_readiness_and_no_refusal() {
    let breaker = seeded(quick());
    let leaf = Leaf::default();
    let mut service = BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(leaf);
    breaker.force_open();
    service.ready().await.expect("ready to refuse");
    let mut clone = service.clone();
    breaker.force_closed();
    assert!(clone.ready().await.expect("ready").call(Call::new("a")).await.is_ok());
    assert!(service.call(Call::new("a")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn can_be_forced_from_outside_and_released() {
    let breaker = seeded(quick());
    let leaf = Leaf::default();
    let mut service =
        BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(leaf.clone());
    breaker.force_open();
    assert_eq!(breaker.state(), State::ForcedOpen);
    tokio::time::sleep(s(3600)).await;
    let error = service.ready().await.expect("ready").call(Call::new("a")).await;
    let refused = refusal(&error.expect_err("forced")).expect("by the breaker");
    assert_eq!(refused.retry_at, None);
    assert_eq!(leaf.calls(), 0);
    assert!(!breaker.is_open(now()));

    breaker.force_closed();
    leaf.fails(true);
    for _ in 0..100 {
        assert!(service.ready().await.expect("ready").call(Call::new("a")).await.is_err());
    }
    assert_eq!(leaf.calls(), 100);
    breaker.release();
    assert_eq!(breaker.state(), State::Closed);
    for _ in 0..100 {
        assert!(service.ready().await.expect("ready").call(Call::new("a")).await.is_err());
    }
    assert_eq!(leaf.calls(), 105);
}

#[tokio::test(start_paused = true)]
async fn a_layer_applied_twice_shares_its_breaker() {
    let layer = BreakerLayer::new(quick(), PlainClassifier::new());
    let (bad, good) = (Leaf::default(), Leaf::default());
    bad.fails(true);
    let (mut first, mut second) = (layer.layer(bad), layer.layer(good));
    for _ in 0..5 {
        assert!(first.ready().await.expect("ready").call(Call::new("a")).await.is_err());
    }
    let error = second.ready().await.expect("ready").call(Call::new("a")).await;
    assert!(refusal(&error.expect_err("shared")).is_some());
}

#[tokio::test(start_paused = true)]
async fn tells_who_listens_of_every_change() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        if let Event::Breaker { endpoint, state, reason, open_for, .. } = event {
            let endpoint = endpoint.map(|endpoint| endpoint.id().to_owned());
            let mut log = log.lock().expect("nobody panicked");
            log.push((endpoint.unwrap_or_default(), *state, *reason, open_for.is_some()));
        }
    });
    let endpoint = Endpoint::new("payments-1", ([127, 0, 0, 1], 80).into());
    let breaker = seeded(quick().observer(observer).endpoint(endpoint));
    trip(&breaker);
    breaker.found_healthy(now());
    breaker.admit(now(), Asked::default()).expect("a probe").settle(Verdict::TIMED_OUT);
    wait(&breaker).await;
    breaker.admit(now(), Asked::default()).expect("a probe").settle(Verdict::SUCCESS);
    breaker.force_open();
    breaker.force_open();
    breaker.force_closed();
    breaker.release();
    let heard = heard.lock().expect("nobody panicked");
    assert!(heard.iter().all(|(endpoint, ..)| endpoint == "payments-1"));
    let heard: Vec<_> = heard.iter().map(|&(_, state, why, timed)| (state, why, timed)).collect();
    assert_eq!(
        heard,
        [
            ("open", "consecutive", true),
            ("half_open", "found_healthy", false),
            ("open", "probe_failed", true),
            ("half_open", "waited", false),
            ("closed", "recovered", false),
            ("forced_open", "forced", false),
            ("forced_closed", "forced", false),
            ("closed", "released", false),
        ]
    );
}

/// The goal: reports are made outside of the lock. The method: a listener that asks the breaker.
#[tokio::test(start_paused = true)]
async fn who_listens_may_ask_the_breaker() {
    let slot: Arc<Mutex<Option<Breaker>>> = Arc::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (asked, log) = (Arc::clone(&slot), Arc::clone(&seen));
    let observer = Observer::new(move |_| {
        let breaker = asked.lock().expect("nobody panicked").clone();
        let state = breaker.map(|breaker| breaker.state());
        log.lock().expect("nobody panicked").push(state);
    });
    let breaker = seeded(quick().observer(observer));
    *slot.lock().expect("nobody panicked") = Some(breaker.clone());
    breaker.force_open();
    assert_eq!(*seen.lock().expect("nobody panicked"), [Some(State::ForcedOpen)]);
    // The breaker holds the listener and the listener the breaker.
    slot.lock().expect("nobody panicked").take();
}

#[tokio::test(start_paused = true)]
async fn a_panicking_service_leaves_no_probe_slot_behind() {
    let breaker = seeded(quick());
    let inner = service_fn(|call: Hello| async move {
        tokio::task::yield_now().await;
        assert_ne!(call.request, "panic", "as it was told");
        Ok::<_, Infallible>("well")
    });
    let service = BreakerLayer::new(breaker.clone(), PlainClassifier::new()).layer(inner);
    trip(&breaker);
    wait(&breaker).await;
    let call = tokio::spawn(service.oneshot(Call::new("panic")));
    assert!(call.await.is_err_and(|error| error.is_panic()));
    assert_half_open(&breaker, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn two_breakers_from_one_source_of_chance_open_for_different_times() {
    let entropy = Entropy::seeded(1);
    let until = |breaker: &Breaker| match breaker.state() {
        State::Open { until } => until,
        other => panic!("{other:?}"),
    };
    let breakers: Vec<Breaker> = (0..8).map(|_| Breaker::with_entropy(quick(), &entropy)).collect();
    breakers.iter().for_each(trip);
    let mut times: Vec<Instant> = breakers.iter().map(until).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 8);
}

/// The goal: admission is one step, so that threads never get more probes than there are.
/// The method: threads that start together, on real time, many rounds.
#[test]
fn threads_together_get_no_more_probes_than_there_are() {
    const THREADS: usize = 4;
    let config = quick().probes(3).and_then(|config| config.open_time(s(60), s(60)));
    let config = config.expect("these settings work");
    for round in 0..200 {
        let breaker = seeded(config.clone());
        trip(&breaker);
        breaker.found_healthy(now());
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..50 {
                        if let Ok(permit) = breaker.admit(now(), Asked::default()) {
                            let with_this = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(with_this, Ordering::SeqCst);
                            std::hint::spin_loop();
                            under_way.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!((1..=3).contains(&most), "{most} in round {round}");
        assert_half_open(&breaker, 0, 0);
    }
}

/// The goal: threads that fail together open it once, and their tickets of before have no say.
#[test]
fn threads_that_fail_together_open_it_once() {
    const THREADS: usize = 4;
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let observer = Observer::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let breaker = seeded(BreakerConfig::new().observer(observer));
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..1000 {
                    if let Ok(mut permit) = breaker.admit(now(), Asked::default()) {
                        permit.settle(Verdict::TIMED_OUT);
                    }
                }
            });
        }
    });
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

/// What uses need no thread for needs no `Send`, and what they don't clone needs no `Clone`.
#[tokio::test(start_paused = true)]
async fn asks_no_more_of_a_service_than_it_needs() {
    struct Local(Rc<Cell<u32>>);

    impl<'a> Service<Call<&'a str>> for Local {
        type Response = &'a str;
        type Error = BoxError;
        type Future = std::future::Ready<Result<&'a str, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, call: Call<&'a str>) -> Self::Future {
            self.0.set(self.0.get() + 1);
            std::future::ready(Ok(call.request))
        }
    }

    let calls = Rc::new(Cell::new(0));
    let text = String::from("borrowed");
    let layer = BreakerLayer::new(BreakerConfig::new(), PlainClassifier::new());
    let mut service = layer.layer(Local(Rc::clone(&calls)));
    let call = service.ready().await.expect("ready").call(Call::new(text.as_str()));
    assert_eq!(call.await.expect("it answers"), "borrowed");
    assert_eq!(calls.get(), 1);
}

#[test]
fn the_handle_can_be_shared() {
    fn check<T: Clone + Send + Sync + 'static>(_: &T) {}
    check(&Breaker::default());
    check(&BreakerLayer::new(BreakerConfig::new(), HttpClassifier::new()));
}
