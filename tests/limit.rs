//! The limit through its public interface, under paused time.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Event, Observer,
    algo::{backoff::Backoff, bucket::Tariff},
    body::Body,
    budget::Budget,
    call::{Call, Stage, Trail, Words},
    classify::{Blame, HttpClassifier, PlainClassifier, Sent, verdict_on_error},
    find,
    limit::{AdaptiveConfig, AtLimit, Limit, LimitConfig, LimitLayer, Reason, State},
    retry::{RetryConfig, RetryLayer},
    timeout::AttemptTimeoutLayer,
};
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::{
    sync::Notify,
    time::{advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn fixed(calls: u32) -> LimitConfig {
    LimitConfig::fixed(calls).expect("more than none")
}

fn at_limit(error: &BoxError) -> Reason {
    find::<AtLimit>(&**error).unwrap_or_else(|| panic!("another error: {error}")).reason
}

fn state(limit: &Limit) -> (u32, usize) {
    let State { in_flight, waiting, .. } = limit.state();
    (in_flight, waiting)
}

/// Answers when it is let, in the order in which it was asked, and says when it was asked.
#[derive(Clone, Default)]
struct Leaf {
    go: Arc<Notify>,
    asked: Arc<Mutex<Vec<(u32, Duration)>>>,
    began: Arc<Mutex<Option<Instant>>>,
}

impl Leaf {
    fn service(
        &self,
    ) -> impl Service<Call<u32>, Response = u32, Error = io::Error, Future: Send> + Clone + use<>
    {
        let leaf = self.clone();
        service_fn(move |call: Call<u32>| {
            let leaf = leaf.clone();
            async move {
                let began = *leaf.began.lock().expect("fine").get_or_insert_with(now);
                leaf.asked.lock().expect("fine").push((call.request, now() - began));
                leaf.go.notified().await;
                Ok(call.request)
            }
        })
    }

    fn asked(&self) -> Vec<u32> {
        self.asked.lock().expect("fine").iter().map(|asked| asked.0).collect()
    }
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_are_under_way_as_may_be_and_the_rest_follow_in_order() {
    let (leaf, limit) = (Leaf::default(), Limit::new(fixed(2)));
    let service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(leaf.service());
    let mut calls = Vec::new();
    for number in 0..4 {
        let mut service = service.clone();
        calls.push(tokio::spawn(
            async move { service.ready().await?.call(Call::new(number)).await },
        ));
        settle().await;
    }
    assert_eq!((leaf.asked(), state(&limit)), (vec![0, 1], (2, 2)));
    leaf.go.notify_one();
    settle().await;
    assert_eq!((leaf.asked(), state(&limit)), (vec![0, 1, 2], (2, 1)));
    for _ in 0..3 {
        leaf.go.notify_one();
        settle().await;
    }
    assert_eq!((leaf.asked(), state(&limit)), (vec![0, 1, 2, 3], (0, 0)));
    for call in calls {
        assert!(call.await.expect("it does not panic").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn who_finds_the_queue_full_is_refused_at_once_and_was_not_sent() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        if let Event::AtLimit { endpoint: None, reason, limit } = event {
            told.lock().expect("fine").push((*reason, *limit));
        }
    });
    let leaf = Leaf::default();
    let layer = LimitLayer::new(fixed(1).queue(1).observer(observer), PlainClassifier::new());
    let mut service = layer.layer(leaf.service());
    let mut first = pin!(service.ready().await.expect("ready").call(Call::new(0)));
    let mut second = pin!(service.ready().await.expect("ready").call(Call::new(1)));
    assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    let error = service.ready().await.expect("ready").call(Call::new(2)).await;
    let error = error.expect_err("one is under way and one waits");
    assert_eq!(at_limit(&error), Reason::QueueFull);
    let verdict = verdict_on_error(&*error);
    assert_eq!((verdict.blame, verdict.sent), (Blame::Nobody, Sent::No));
    assert!(verdict.permits_retry(false));
    assert_eq!(*heard.lock().expect("fine"), [("queue_full", 1)]);
    assert_eq!(leaf.asked(), [0]);
}

#[tokio::test(start_paused = true)]
async fn as_many_may_wait_as_may_be_under_way_unless_another_number_is_said() {
    let (leaf, limit) = (Leaf::default(), Limit::new(fixed(2)));
    let service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(leaf.service());
    let call = |number| Box::pin(service.clone().oneshot(Call::new(number)));
    let mut calls: Vec<_> = (0..4).map(call).collect();
    assert!(calls.iter_mut().all(|call| poll_once(call.as_mut()).is_pending()));
    assert_eq!(state(&limit), (2, 2));
    let error = call(4).await.expect_err("two are under way and two wait");
    assert_eq!(at_limit(&error), Reason::QueueFull);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_it_may_and_is_sent_afterwards() {
    let (leaf, limit) = (Leaf::default(), Limit::new(fixed(1).max_wait(50 * MS).expect("fine")));
    let mut service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(leaf.service());
    let mut first = pin!(service.ready().await.expect("ready").call(Call::new(0)));
    assert!(poll_once(first.as_mut()).is_pending());
    let began = now();
    let error = service.ready().await.expect("ready").call(Call::new(1)).await;
    let error = error.expect_err("no place came free");
    assert_eq!((at_limit(&error), now() - began), (Reason::Waited, 50 * MS));
    leaf.go.notify_one();
    assert_eq!(first.await.expect("it goes on"), 0);
    assert_eq!((leaf.asked(), state(&limit)), (vec![0], (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_passes_in_the_queue_is_never_sent() {
    let (leaf, limit) = (Leaf::default(), Limit::new(fixed(1)));
    let mut service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(leaf.service());
    let mut first = pin!(service.ready().await.expect("ready").call(Call::new(0)));
    assert!(poll_once(first.as_mut()).is_pending());
    let words = Words::new().deadline(now() + 30 * MS);
    let mut second = pin!(service.ready().await.expect("ready").call(Call::with_words(1, words)));
    assert!(poll_once(second.as_mut()).is_pending());
    // The place comes free when its time is over, before it has noticed.
    advance(30 * MS).await;
    leaf.go.notify_one();
    first.await.expect("it goes on");
    let error = second.await.expect_err("its time is up");
    assert_eq!(at_limit(&error), Reason::Deadline);
    assert_eq!((leaf.asked(), state(&limit)), (vec![0], (0, 0)));
    // And one that has no time left does not even queue.
    let words = Words::new().deadline(now());
    let mut third = pin!(service.ready().await.expect("ready").call(Call::new(2)));
    assert!(poll_once(third.as_mut()).is_pending());
    let error = service.ready().await.expect("ready").call(Call::with_words(3, words)).await;
    assert_eq!(at_limit(&error.expect_err("too late")), Reason::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_given_in_time_to_who_comes_too_late_goes_to_the_next() {
    let leaf = Leaf::default();
    let mut service =
        LimitLayer::new(fixed(1).queue(2), PlainClassifier::new()).layer(leaf.service());
    let mut first = pin!(service.ready().await.expect("ready").call(Call::new(0)));
    let words = Words::new().deadline(now() + 30 * MS);
    let mut second = pin!(service.ready().await.expect("ready").call(Call::with_words(1, words)));
    let mut third = pin!(service.ready().await.expect("ready").call(Call::new(2)));
    for call in [&mut first, &mut second, &mut third] {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    leaf.go.notify_one();
    first.await.expect("it goes on");
    advance(30 * MS).await;
    let second = timeout(MS, second).await.expect("it is not sent, and so does not hang");
    let error = second.expect_err("its time was up when it looked");
    assert_eq!(at_limit(&error), Reason::Deadline);
    leaf.go.notify_one();
    assert_eq!(third.await.expect("it has its place"), 2);
    assert_eq!(leaf.asked(), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_given_in_time_is_taken_though_the_wait_is_over_by_now() {
    let leaf = Leaf::default();
    let config = fixed(1).max_wait(50 * MS).expect("fine");
    let mut service = LimitLayer::new(config, PlainClassifier::new()).layer(leaf.service());
    let mut first = pin!(service.ready().await.expect("ready").call(Call::new(0)));
    let mut second = pin!(service.ready().await.expect("ready").call(Call::new(1)));
    assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    leaf.go.notify_one();
    first.await.expect("it goes on");
    // It has no deadline, and looks late: a busy thread.
    advance(50 * MS).await;
    leaf.go.notify_one();
    assert_eq!(second.await.expect("it has its place"), 1);
}

/// Whoever gives a call up asks the trail whether it was sent.
#[tokio::test(start_paused = true)]
async fn the_trail_says_that_who_waits_was_not_sent_and_who_was_let_in_may_have_been() {
    let leaf = Leaf::default();
    let service = LimitLayer::new(fixed(1), PlainClassifier::new()).layer(leaf.service());
    let mut first = pin!(service.clone().oneshot(Call::new(0)));
    let mut second = pin!(service.oneshot(Call::new(1)));
    assert!(poll_once(first.as_mut()).is_pending());
    let mut trail = Trail::new();
    assert!(trail.enter(|| poll_once(second.as_mut())).is_pending());
    assert_eq!((trail.stage(), trail.sent()), (Stage::Unsent, Sent::No));
    leaf.go.notify_one();
    first.await.expect("it goes on");
    assert!(trail.enter(|| poll_once(second.as_mut())).is_pending());
    assert_eq!((leaf.asked(), trail.sent()), (vec![0, 1], Sent::Maybe));
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_does_not_keep_the_service_that_was_ready_for_it() {
    // tower's limit gives a place to who is ready.
    let leaf = Leaf::default();
    let inner = ConcurrencyLimitLayer::new(2).layer(leaf.service());
    let config = fixed(1).max_wait(50 * MS).expect("fine");
    let mut service = LimitLayer::new(config, PlainClassifier::new()).layer(inner);
    let mut first = pin!(service.ready().await.expect("ready").call(Call::new(0)));
    let mut second = pin!(service.ready().await.expect("ready").call(Call::new(1)));
    assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    let error = second.as_mut().await.expect_err("no place came free");
    assert_eq!(at_limit(&error), Reason::Waited);
    // The refused future is still there.
    timeout(MS, service.ready()).await.expect("its place is free").expect("and it is ready");
}

/// A future that is over, and has something until it is dropped.
struct Over(Arc<()>);

impl Future for Over {
    type Output = io::Result<usize>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(Arc::strong_count(&self.0)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_let_go_when_it_is_answered_and_not_with_its_future() {
    let held = Arc::new(());
    let of = Arc::clone(&held);
    let mut service = LimitLayer::new(fixed(1), PlainClassifier::new())
        .layer(service_fn(move |_: Call<()>| Over(Arc::clone(&of))));
    let mut call = pin!(service.ready().await.expect("ready").call(Call::new(())));
    let under_way = call.as_mut().await.expect("it is answered");
    // This test and the service have one; the call had one, too.
    assert_eq!((under_way, Arc::strong_count(&held)), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn in_a_standing_queue_nobody_waits_for_long() {
    let config =
        fixed(1).queue(9).max_wait(100 * MS).and_then(|config| config.standing_wait(10 * MS));
    let (leaf, limit) = (Leaf::default(), Limit::new(config.expect("fine")));
    let service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(leaf.service());
    let mut hung = pin!(service.clone().oneshot(Call::new(0)));
    assert!(poll_once(hung.as_mut()).is_pending());
    let wait = async |number| {
        let began = now();
        let mut service = service.clone();
        let outcome = service.ready().await.expect("ready").call(Call::new(number)).await;
        assert_eq!(at_limit(&outcome.expect_err("it is full")), Reason::Waited);
        now() - began
    };
    let others = async {
        sleep(60 * MS).await;
        assert_eq!(wait(2).await, 100 * MS, "no standing queue yet");
    };
    let late = async {
        sleep(100 * MS).await;
        assert_eq!(wait(3).await, 10 * MS, "there has been a queue for 100 ms");
    };
    let (first, (), ()) = tokio::join!(wait(1), others, late);
    assert_eq!(first, 100 * MS);
    assert_eq!(state(&limit), (1, 0));
    assert_eq!(wait(4).await, 100 * MS, "it was empty once");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_await_gives_back_what_it_has() {
    for polls in 0..4 {
        for go in [false, true] {
            let (leaf, limit) = (Leaf::default(), Limit::new(fixed(1)));
            let layer = LimitLayer::new(limit.clone(), PlainClassifier::new());
            let service = layer.layer(leaf.service());
            let first = tokio::spawn(service.clone().oneshot(Call::new(0)));
            settle().await;
            {
                let mut second = pin!(service.clone().oneshot(Call::new(1)));
                for _ in 0..polls {
                    let _ = poll_once(second.as_mut());
                }
                let waits = usize::from(polls > 0);
                assert_eq!(state(&limit), (1, waits));
                if go {
                    leaf.go.notify_one();
                    settle().await;
                    assert_eq!(state(&limit), (u32::from(polls > 0), 0), "it was let in");
                    if polls > 2 {
                        let _ = poll_once(second.as_mut());
                    }
                }
            }
            assert_eq!(state(&limit), (u32::from(!go), 0), "{polls} polls, go {go}");
            leaf.go.notify_one();
            if !go {
                first.await.expect("no panic").expect("it is answered");
            }
            let third = timeout(MS, service.oneshot(Call::new(2)));
            let third = pin!(third);
            leaf.go.notify_one();
            assert!(third.await.expect("it has room").is_ok(), "{polls} polls, go {go}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_is_taken_until_the_body_has_been_read() -> Result<(), BoxError> {
    let limit = Limit::new(fixed(1).queue(0));
    let layer = LimitLayer::new(limit.clone(), HttpClassifier::new());
    let service = layer.layer(service_fn(async |_: Request<Body>| {
        Ok::<_, io::Error>(Response::new(Body::full("done")))
    }));
    let get = || Request::new(Body::empty());
    let response = service.clone().oneshot(get()).await?;
    assert_eq!(state(&limit).0, 1);
    let refused = service.clone().oneshot(get()).await.expect_err("it has not been read");
    assert_eq!(at_limit(&refused), Reason::QueueFull);
    response.into_body().collect().await?;
    assert_eq!(state(&limit).0, 0);
    drop(service.clone().oneshot(get()).await?);
    assert_eq!(state(&limit).0, 0, "given up");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn waiting_takes_the_time_of_the_attempt_which_knows_that_nothing_was_sent() {
    let (leaf, limit) = (Leaf::default(), Limit::new(fixed(1)));
    let layer = LimitLayer::new(limit.clone(), PlainClassifier::new());
    let attempt = AttemptTimeoutLayer::new(40 * MS).expect("no zero");
    let service = attempt.layer(layer.layer(leaf.service()));
    let mut hung = pin!(service.clone().oneshot(Call::new(0)));
    assert!(poll_once(hung.as_mut()).is_pending());
    let began = now();
    let error: BoxError = service.oneshot(Call::new(1)).await.expect_err("no place came free");
    assert_eq!(now() - began, 40 * MS);
    assert_eq!(verdict_on_error(&*error).sent, Sent::No);
    // The limit knows of the timeout above it, and says so itself: it was the queue.
    assert_eq!(at_limit(&error), Reason::Deadline);
    assert_eq!(state(&limit), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_retry_above_finds_another_place_and_pays_nothing() {
    let (leaf, limit) = (Leaf::default(), Limit::new(fixed(1).queue(0)));
    let layer = LimitLayer::new(limit.clone(), PlainClassifier::new());
    let budget = Budget::new(Tariff::default());
    let backoff = Backoff::new(5 * MS, 5 * MS).expect("sound");
    let config = RetryConfig::new().backoff(backoff).budget(budget.clone());
    let full = budget.balance();
    let service = layer.layer(leaf.service());
    let retrying = RetryLayer::new(config, PlainClassifier::new()).layer(service.clone());
    let first = tokio::spawn(service.oneshot(Call::new(0)));
    settle().await;
    let second = tokio::spawn(retrying.oneshot(Call::new(1_u32)));
    settle().await;
    leaf.go.notify_one();
    first.await.expect("no panic").expect("it is answered");
    leaf.go.notify_one();
    assert_eq!(second.await.expect("no panic").expect("it was tried again"), 1);
    assert!(budget.balance() >= full);
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_ready_is_the_one_that_is_called_after_a_wait() {
    // tower's limit panics if an instance is called that was not ready.
    let leaf = Leaf::default();
    let inner = ConcurrencyLimitLayer::new(8).layer(leaf.service());
    let service = LimitLayer::new(fixed(1).queue(3), PlainClassifier::new()).layer(inner);
    let calls = (0..4).map(|number| tokio::spawn(service.clone().oneshot(Call::new(number))));
    let calls: Vec<_> = calls.collect();
    for _ in 0..4 {
        settle().await;
        leaf.go.notify_one();
    }
    for call in join_all(calls).await {
        assert!(call.expect("no panic").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn each_service_of_one_layer_may_have_a_limit_of_its_own() {
    let leaf = Leaf::default();
    let layer = LimitLayer::each(fixed(1).queue(0), PlainClassifier::new());
    assert!(layer.limit().is_none());
    let services = [layer.layer(leaf.service()), layer.layer(leaf.service())];
    let mut calls: Vec<_> =
        services.iter().map(|service| Box::pin(service.clone().oneshot(Call::new(0)))).collect();
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending(), "neither is refused");
    }
    assert!(services.iter().all(|service| service.limit().is_some_and(Limit::is_full)));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_lets_those_in_who_wait() {
    let (leaf, limit) = (Leaf::default(), Limit::new(fixed(1)));
    let service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(leaf.service());
    let mut calls: Vec<_> = Vec::new();
    for number in 0..2 {
        calls.push(tokio::spawn(service.clone().oneshot(Call::new(number))));
        settle().await;
    }
    assert_eq!(leaf.asked(), [0]);
    limit.set(2).expect("more than none");
    settle().await;
    assert_eq!((leaf.asked(), state(&limit)), (vec![0, 1], (2, 0)));
    assert!(limit.set(0).is_err());
    for call in &calls {
        call.abort();
    }
    settle().await;
    assert_eq!(state(&limit), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_timeout_cuts_off_lower_an_adaptive_limit_and_those_given_up_do_not() {
    let config = AdaptiveConfig::new().window(10 * MS).and_then(|config| config.min_samples(10));
    let config = LimitConfig::adaptive(config.expect("sound"));
    for (patience, falls) in [(1000 * MS, true), (5 * MS, false)] {
        let limit = Limit::new(config.clone());
        let layer = LimitLayer::new(limit.clone(), PlainClassifier::new());
        let attempt = AttemptTimeoutLayer::new(10 * MS).expect("no zero");
        let service = attempt.layer(layer.layer(Leaf::default().service()));
        for number in 0..40 {
            let call = timeout(patience, service.clone().oneshot(Call::new(number))).await;
            assert_eq!(call.is_ok(), falls, "the attempt's timeout is the earlier one, or not");
        }
        assert_eq!(limit.state().limit < 20, falls, "{limit:?}");
        assert_eq!(state(&limit), (0, 0));
    }
}

/// An adaptive limit that decides every 10 ms, after 10 calls.
fn quick() -> Limit {
    let config = AdaptiveConfig::new().window(10 * MS).and_then(|config| config.min_samples(10));
    Limit::new(LimitConfig::adaptive(config.expect("sound")))
}

#[tokio::test(start_paused = true)]
async fn each_call_counts_once_for_an_adaptive_limit_which_goes_on_from_where_it_was_set() {
    let limit = quick();
    let service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(service_fn(
        async |_: Call<()>| {
            sleep(2 * MS).await;
            Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset))
        },
    ));
    let fail = async || assert!(service.clone().oneshot(Call::new(())).await.is_err());
    for (begins, falls) in [(20, 18), (100, 90)] {
        limit.set(begins).expect("some");
        for _ in 0..9 {
            fail().await;
            assert_eq!(limit.state().limit, begins);
        }
        fail().await;
        assert_eq!(limit.state().limit, falls, "all of ten were dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_or_never_does_not_make_the_service_slow() {
    let limit = quick();
    let layer = LimitLayer::new(limit.clone(), HttpClassifier::new());
    let service = layer.layer(service_fn(async |_: Request<Body>| {
        sleep(5 * MS).await;
        Ok::<_, io::Error>(Response::new(Body::full("done")))
    }));
    let get = || service.clone().oneshot(Request::new(Body::empty()));
    for round in 1..=8 {
        // All places are taken, and the answers take as long as ever.
        let calls = join_all((0..limit.state().limit).map(|_| get())).await;
        sleep(20 * round * round * MS).await;
        for answer in calls {
            answer.expect("it is answered").into_body().collect().await.expect("it is whole");
        }
    }
    assert!(limit.state().limit > 23, "{limit:?}");

    // Nor does a timeout above that cuts off an answer which has come.
    for _ in 0..40 {
        let answer = get().await.expect("it is answered");
        Trail::expiring(Some(now())).enter(|| drop(answer));
    }
    assert_eq!(limit.state().limit, 20, "where it began, since nobody needs more");
}

/// A service of so many workers, through the layer: the limit follows what it can do.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_is_found_and_told() {
    let changes = Arc::new(AtomicU32::new(0));
    let told = Arc::clone(&changes);
    let observer = Observer::new(move |event| {
        if let Event::LimitChanged { .. } = event {
            told.fetch_add(1, SeqCst);
        }
    });
    let config = LimitConfig::adaptive(AdaptiveConfig::new()).queue(100).observer(observer);
    let limit = Limit::new(config);
    let workers = Arc::new(tokio::sync::Semaphore::new(8));
    let service = LimitLayer::new(limit.clone(), PlainClassifier::new()).layer(service_fn(
        move |_: Call<()>| {
            let workers = Arc::clone(&workers);
            async move {
                let _worker = workers.acquire().await.expect("it is open");
                sleep(20 * MS).await;
                Ok::<_, io::Error>(())
            }
        },
    ));
    let clients: Vec<_> = (0..30)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                loop {
                    if let Ok(ready) = service.ready().await {
                        let _ = ready.call(Call::new(())).await;
                    }
                    sleep(MS).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_secs(60)).await;
    let found = limit.state().limit;
    assert!((5..=13).contains(&found), "8 workers, limit {found}");
    assert!(changes.load(SeqCst) > 5);
    clients.iter().for_each(tokio::task::JoinHandle::abort);
}
