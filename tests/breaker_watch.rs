//! Slow calls and the watch of a breaker's state, through the public interface, under paused time.

use std::{
    future::{Future, pending},
    io,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    body::Body,
    breaker::{Breaker, BreakerConfig, BreakerLayer, State, Watch},
    call::{Asked, Call, Words},
    classify::{HttpClassifier, PlainClassifier, Settle, Verdict},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Opens for a second at most, closes after one probe, without a ramp.
fn quick() -> BreakerConfig {
    BreakerConfig::new()
        .open_time(SECOND, SECOND)
        .and_then(|config| config.probes(1))
        .and_then(|config| config.ramp(Duration::ZERO))
        .expect("these settings work")
}

fn trip(breaker: &Breaker) {
    for _ in 0..5 {
        let mut permit = breaker.admit(now(), Asked::default()).expect("it is closed");
        permit.settle(Verdict::TIMED_OUT);
    }
}

fn is_news(watch: &mut Watch) -> Option<State> {
    let changed = pin!(watch.changed());
    match changed.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(state) => Some(state.expect("the breaker is there")),
        Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn every_watcher_is_told_of_each_change_without_asking() {
    let breaker = Breaker::with_entropy(quick(), &Entropy::seeded(7));
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let mut watch = breaker.watch();
            assert_eq!(watch.state(), State::Closed);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Some(state) = watch.changed().await {
                    seen.push(state.code());
                }
                seen
            })
        })
        .collect();
    tokio::task::yield_now().await;
    trip(&breaker);
    // Nobody calls, and nobody asks: the watchers alone find out that its time is over.
    sleep(2 * SECOND).await;
    let mut probe = breaker.admit(now(), Asked::default()).expect("a probe may go");
    probe.settle(Verdict::SUCCESS);
    drop(probe);
    sleep(Duration::from_millis(1)).await;
    breaker.force_open();
    tokio::task::yield_now().await;
    drop(breaker);
    for watcher in watchers {
        let seen = watcher.await.expect("it does not panic");
        assert_eq!(seen, ["open", "half_open", "closed", "forced_open"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_changed_between_two_questions_is_not_missed_and_told_once() {
    let breaker = Breaker::with_entropy(quick(), &Entropy::seeded(7));
    let mut watch = breaker.watch();
    assert_eq!(is_news(&mut watch), None);
    breaker.force_open();
    breaker.force_closed();
    assert_eq!(watch.state(), State::ForcedClosed);
    assert_eq!(is_news(&mut watch), Some(State::ForcedClosed), "the latest");
    assert_eq!(is_news(&mut watch), None);
    // A question that was dropped has taken nothing along.
    breaker.release();
    drop(watch.changed());
    assert_eq!(is_news(&mut watch), Some(State::Closed));
    let mut late = breaker.watch();
    assert_eq!((is_news(&mut late), late.state()), (None, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_is_and_not_with_what_was_due() {
    let breaker = Breaker::with_entropy(quick(), &Entropy::seeded(7));
    trip(&breaker);
    advance(2 * SECOND).await;
    let mut watch = breaker.watch();
    assert_eq!(watch.state(), State::HalfOpen { under_way: 0, succeeded: 0 });
    assert_eq!(is_news(&mut watch), None);
}

/// What time brings about was so then, whenever somebody looks.
#[tokio::test(start_paused = true)]
async fn a_breaker_whose_probe_timed_out_has_been_open_since_then() -> Result<(), BoxError> {
    let config = quick().open_time(60 * SECOND, 60 * SECOND)?.probe_timeout(5 * SECOND)?;
    let breaker = Breaker::with_entropy(config, &Entropy::seeded(7));
    trip(&breaker);
    advance(60 * SECOND).await;
    let probe = breaker.admit(now(), Asked::default())?;
    let times_out = now() + 5 * SECOND;
    advance(15 * SECOND).await;
    assert!(matches!(breaker.state(), State::Open { .. }));
    let status = breaker.status();
    assert_eq!((status.reason, status.since), (Some("probe_timeout"), times_out));
    drop(probe);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_watch_keeps_no_breaker_and_ends_with_it() {
    let breaker = Breaker::new(quick());
    let mut open = breaker.watch();
    trip(&breaker);
    assert!(matches!(open.changed().await, Some(State::Open { .. })));
    let began = now();
    let waiting = tokio::spawn(async move { open.changed().await });
    tokio::task::yield_now().await;
    drop(breaker);
    assert_eq!(waiting.await.expect("it does not panic"), None);
    assert_eq!(now(), began, "at once, and not when the open time is over");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_slow_opens_its_breaker_before_it_fails() -> Result<(), BoxError> {
    let config = quick().slow_calls(SECOND / 2, 50).and_then(|config| config.minimum_calls(10));
    let breaker = Breaker::with_entropy(config?, &Entropy::seeded(7));
    let layer = BreakerLayer::new(breaker.clone(), PlainClassifier::new());
    let service = layer.layer(service_fn(async |_: Call<()>| {
        sleep(SECOND).await;
        Ok::<_, io::Error>(())
    }));
    for _ in 0..10 {
        assert_eq!(breaker.state(), State::Closed);
        service.clone().oneshot(Call::new(())).await?;
    }
    assert!(matches!(breaker.state(), State::Open { .. }), "{breaker:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_does_not_make_the_service_slow() -> Result<(), BoxError> {
    let config = quick().slow_calls(SECOND / 2, 50).and_then(|config| config.minimum_calls(1));
    let breaker = Breaker::with_entropy(config?, &Entropy::seeded(7));
    let layer = BreakerLayer::new(breaker.clone(), HttpClassifier::new());
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, io::Error>(Response::new(Body::full("done")))
    }));
    let response = service.oneshot(Request::new(())).await?;
    sleep(SECOND).await;
    response.into_body().collect().await?;
    assert_eq!(breaker.state(), State::Closed);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_deadline_cut_off_took_until_then() -> Result<(), BoxError> {
    // That one of two calls failed opens nothing here, nor does a streak of one.
    let config = quick().slow_calls(SECOND / 2, 50).and_then(|config| config.minimum_calls(1));
    let breaker = Breaker::with_entropy(config?.failure_percent(100)?, &Entropy::seeded(7));
    let mut permit = breaker.admit(now(), Asked::default())?;
    permit.settle(Verdict::SUCCESS);
    let layer = BreakerLayer::new(breaker.clone(), PlainClassifier::new());
    let service = layer.layer(service_fn(async |_: Call<()>| pending::<io::Result<()>>().await));
    let words = Words::new().deadline(now() + SECOND);
    let mut call = Box::pin(service.oneshot(Call::with_words((), words)));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    advance(SECOND).await;
    drop(call);
    assert!(matches!(breaker.state(), State::Open { .. }), "one of two was slow: {breaker:?}");
    Ok(())
}
