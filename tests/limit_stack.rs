//! Limits in the stack: one for each endpoint, below the attempt timeout. Under paused time, over
//! endpoints in memory.
#![cfg(feature = "hyper")]

mod support;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    BoxError, Event, Observer,
    algo::backoff::Backoff,
    body::Body,
    breaker::{BreakerConfig, State},
    call::{Asked, Attempts},
    chaos::{Chaos, Delay, Fault},
    classify::{HttpClassifier, Sent, Settle, Verdict},
    client::{AttemptBody, Client, Kind},
    endpoint::{Endpoint, Gate, MakeEndpoint},
    find,
    limit::{AdaptiveConfig, AtLimit, LimitConfig, LimitLayer},
    retry::RetryConfig,
    throttle::{ThrottleConfig, Throttled},
};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use support::company::{Act, Company, MS, Piece::Data, Pieces, address, answer, lock, now};
use tower::util::BoxCloneSyncService;

fn get() -> Request<()> {
    Request::new(())
}

fn fixed(calls: u32) -> LimitConfig {
    LimitConfig::fixed(calls).expect("more than none")
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn retry(attempts: u32) -> RetryConfig {
    let backoff = Backoff::new(MS, MS).expect("sound");
    RetryConfig::new().backoff(backoff).max_attempts(attempts).expect("more than none")
}

/// Endpoints that take a while for an answer, and the most calls that each had at a time.
#[derive(Clone, Default)]
struct Busy {
    most: Arc<Mutex<HashMap<u16, u32>>>,
    calls: Arc<AtomicU32>,
}

type Answering = BoxCloneSyncService<Request<AttemptBody>, Response<Body>, BoxError>;

impl MakeEndpoint for Busy {
    type Service = Answering;

    fn make(&self, endpoint: &Endpoint) -> Answering {
        let (port, present) = (endpoint.address().port(), Arc::new(AtomicU32::new(0)));
        let this = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |_| {
            let (this, present) = (this.clone(), Arc::clone(&present));
            async move {
                this.calls.fetch_add(1, SeqCst);
                let now = present.fetch_add(1, SeqCst) + 1;
                {
                    let mut most = lock(&this.most);
                    let most = most.entry(port).or_default();
                    *most = now.max(*most);
                }
                tokio::time::sleep(20 * MS).await;
                present.fetch_sub(1, SeqCst);
                Ok(Response::new(Body::full("done")))
            }
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn no_endpoint_has_more_than_its_limit_and_every_call_finds_a_place() -> Result<(), BoxError>
{
    let busy = Busy::default();
    let client = Client::builder("http://payments")
        .endpoints((1..=4).map(address))
        .transport(busy.clone())
        .seed(7)
        .endpoint_limit(fixed(5).queue(5))
        .retry(retry(5))
        .build()?;
    let call = async || client.send(get()).await?.into_body().collect().await;
    for _ in 0..20 {
        // As many as there are places, in a burst.
        for outcome in join_all((0..20).map(|_| call())).await {
            assert_eq!(outcome.expect("there is a place for each"), "done");
        }
    }
    let most = lock(&busy.most).clone();
    assert_eq!(most.len(), 4);
    assert!(most.values().all(|&most| most <= 5), "{most:?}");
    assert!(client.endpoints().iter().all(|status| status.open), "full is not ill");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_by_one_endpoint_goes_to_another() -> Result<(), BoxError> {
    let (chaos, company) = (Chaos::seeded(7), Company::new(|_| answer(200)));
    let client = Client::builder("http://payments")
        .endpoints((1..=2).map(address))
        .transport(chaos.clone().around(company.clone()))
        .seed(7)
        .endpoint_limit(fixed(1).queue(0))
        .retry(retry(3))
        .build()?;
    // One endpoint is taken by a call that lasts.
    chaos.set([Fault::delay(Delay::fixed(5000 * MS)).times(1)]);
    let lasting = tokio::spawn({
        let client = client.clone();
        async move { client.send(get()).await.map(|response| response.status()) }
    });
    tokio::time::sleep(MS).await;
    for _ in 0..50 {
        let began = now();
        let response = client.send(get()).await?;
        assert_eq!(response.status(), 200);
        let attempts = response.extensions().get::<Attempts>().map_or(1, |all| all.len());
        assert!(attempts <= 2 && now() - began <= 5 * MS, "{attempts} attempts");
        response.into_body().collect().await?;
    }
    assert!(client.endpoints().iter().all(|status| status.open));
    assert_eq!(lasting.await??, 200);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn to_wait_for_a_place_takes_the_time_of_the_attempt_and_nothing_was_sent()
-> Result<(), BoxError> {
    let (chaos, company) = (Chaos::seeded(7), Company::new(|_| answer(200)));
    let client = Client::builder("http://payments")
        .endpoints([address(1)])
        .transport(chaos.clone().around(company.clone()))
        .endpoint_limit(fixed(1))
        .attempt_timeout(200 * MS)
        .retry(retry(1))
        .build()?;
    chaos.set([Fault::hang()]);
    let hung = tokio::spawn({
        let client = client.clone();
        async move { client.send(get()).await.map(drop) }
    });
    tokio::time::sleep(100 * MS).await;
    chaos.clear();
    // It waits until the first attempt is given up, and then has its place and its answer.
    let began = now();
    let response = client.send(get()).await?;
    assert_eq!((response.status().as_u16(), now() - began), (200, 100 * MS));
    assert_eq!(hung.await?.expect_err("it hung").sent(), Sent::Maybe);
    // One whose body is never read has its place.
    let began = now();
    let error = client.send(get()).await.expect_err("the only place is taken");
    assert_eq!((error.sent(), now() - began), (Sent::No, 200 * MS));
    drop(response);
    assert_eq!(client.send(get()).await?.status(), 200);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_to_the_caller_as_it_is() -> Result<(), BoxError> {
    let (chaos, company) = (Chaos::seeded(7), Company::new(|_| answer(200)));
    let client = Client::builder("http://payments")
        .endpoints([address(1)])
        .transport(chaos.clone().around(company.clone()))
        .endpoint_layer(LimitLayer::each(fixed(1).queue(0), HttpClassifier::new()))
        .retry(retry(1))
        .build()?;
    chaos.set([Fault::delay(Delay::fixed(Duration::from_secs(1)))]);
    let outcomes = tokio::join!(client.send(get()), client.send(get()));
    let error = match outcomes {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
        other => panic!("one is under way: {other:?}"),
    };
    assert_eq!(error.kind(), Kind::AtLimit);
    assert_eq!(error.sent(), Sent::No);
    assert_eq!(find::<AtLimit>(&error).map(|error| error.limit), Some(1), "{error:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_listens_hears_which_endpoints_limit_refused() -> Result<(), BoxError> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        if let Event::AtLimit { endpoint, limit, .. } = event {
            lock(&told).push((endpoint.map(|endpoint| endpoint.address().port()), *limit));
        }
    });
    let company = Company::new(|_| Act::Hang);
    // Of two limits around one endpoint each is told who listens.
    for (inner, outer, refuses) in [(fixed(1), fixed(2), 1), (fixed(3), fixed(1), 1)] {
        let client = company
            .builder([4])
            .endpoint_limit(inner.queue(0))
            .endpoint_limit(outer.queue(0))
            .observer(observer.clone())
            .retry(retry(1))
            .build()?;
        let mut first = Box::pin(client.send(get()));
        assert!(poll_once(first.as_mut()).is_pending());
        tokio::task::yield_now().await;
        assert!(poll_once(first.as_mut()).is_pending());
        assert_eq!(client.send(get()).await.expect_err("it is full").kind(), Kind::AtLimit);
        assert_eq!(std::mem::take(&mut *lock(&heard)), [(Some(4), refuses)]);
    }
    Ok(())
}

// Throttle ─ limit ─ breaker ─ balance.

/// Settings that no failure opens.
fn never() -> Result<BreakerConfig, BoxError> {
    Ok(BreakerConfig::new().consecutive_failures(10_000)?.minimum_calls(10_000)?)
}

#[tokio::test(start_paused = true)]
async fn whom_the_throttle_refuses_neither_asks_the_breaker_nor_waits_for_a_place()
-> Result<(), BoxError> {
    let (chaos, company) = (Chaos::seeded(7), Company::new(|_| answer(200)));
    let client = Client::builder("http://payments")
        .endpoints([address(1)])
        .transport(chaos.clone().around(company.clone()))
        .seed(7)
        .breaker(never()?)
        .service_breaker(never()?.ramp(Duration::ZERO)?)
        .throttle(ThrottleConfig::new().window(Duration::from_secs(60))?.minimum_rate(1)?)
        .limit(fixed(1).queue(1000))
        .retry(retry(1))
        .build()?;
    chaos.set([Fault::answer(StatusCode::SERVICE_UNAVAILABLE)]);
    for _ in 0..500 {
        let _ = client.send(get()).await;
    }
    // Nine in ten are refused, whatever the breaker would say.
    let breaker = client.service_breaker().expect("asked for");
    breaker.force_open();
    let mut refused = 0;
    for _ in 0..200 {
        let error = client.send(get()).await.expect_err("the breaker is forced open");
        refused += u32::from(find::<Throttled>(&error).is_some());
    }
    assert!((150..200).contains(&refused), "{refused} of 200");
    breaker.release();
    // Now it takes calls and says nothing: one has the only place.
    chaos.set([Fault::hang()]);
    let mut under_way: Vec<_> = (0..200).map(|_| Box::pin(client.send(get()))).collect();
    let polled = under_way.iter_mut().map(|call| poll_once(call.as_mut()));
    let refused = polled.filter(|outcome| match outcome {
        Poll::Ready(Err(error)) => find::<Throttled>(error).is_some(),
        _ => false,
    });
    // Nine in ten.
    let refused = refused.count();
    assert!((150..200).contains(&refused), "{refused} of 200");
    let waiting = client.limit().expect("asked for").state().waiting;
    assert_eq!(waiting + refused + 1, 200);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_until_its_deadline_says_nothing_of_the_service()
-> Result<(), BoxError> {
    let company = Company::new(|_| Act::Hang);
    let client = company
        .builder([1])
        .throttle(ThrottleConfig::new())
        .limit(fixed(1))
        .deadline(500 * MS)
        .attempt_timeout(500 * MS)
        .retry(retry(1))
        .build()?;
    let mut first = Box::pin(client.send(get()));
    assert!(poll_once(first.as_mut()).is_pending());
    tokio::time::sleep(MS).await;
    drop(poll_once(first.as_mut()));
    assert_eq!(company.calls(), 1);
    let second = client.send(get());
    let error = second.await.expect_err("the only place is taken, and the first one hangs");
    assert_eq!((error.sent(), company.calls()), (Sent::No, 1));
    // The first one is under way; the second is none of the service's business.
    let throttle = client.snapshot().throttle.expect("asked for");
    assert_eq!((throttle.requests, throttle.pending), (0, 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_does_not_make_the_service_slow_for_its_limit() -> Result<(), BoxError> {
    let adaptive = AdaptiveConfig::new().window(10 * MS)?.min_samples(10)?;
    // Not there as a whole, or it would have been read with its head.
    let company = Company::new(|_| {
        Act::After(5 * MS, Response::new(Body::new(Pieces::new([Data("do"), Data("ne")]))))
    });
    let client = company.builder([1]).limit(LimitConfig::adaptive(adaptive)).build()?;
    let limit = client.limit().expect("asked for");
    for round in 1..=8 {
        let calls = join_all((0..limit.state().limit).map(|_| client.send(get()))).await;
        tokio::time::sleep(20 * round * round * MS).await;
        for answer in calls {
            answer?.into_body().collect().await?;
        }
    }
    assert!(limit.state().limit > 23, "{limit:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_service_as_a_whole_has_no_more_than_its_limit() -> Result<(), BoxError> {
    let busy = Busy::default();
    let client = Client::builder("http://payments")
        .endpoints((1..=4).map(address))
        .transport(busy.clone())
        .seed(7)
        .limit(fixed(3).queue(20))
        .retry(retry(1))
        .build()?;
    let began = now();
    let call = async || client.send(get()).await?.into_body().collect().await;
    for outcome in join_all((0..12).map(|_| call())).await {
        assert_eq!(outcome.expect("there is time for each"), "done");
    }
    assert_eq!(now() - began, 80 * MS, "four times three");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_services_limit_holds_no_probes_place() -> Result<(), BoxError> {
    let (chaos, company) = (Chaos::seeded(7), Company::new(|_| answer(200)));
    let breaker = BreakerConfig::new().consecutive_failures(2)?.probes(1)?.ramp(Duration::ZERO)?;
    let client = Client::builder("http://payments")
        .endpoints([address(1)])
        .transport(chaos.clone().around(company.clone()))
        .breaker(BreakerConfig::new().consecutive_failures(1000)?)
        .service_breaker(breaker)
        .limit(fixed(1))
        .attempt_timeout(500 * MS)
        .retry(retry(1))
        .build()?;
    // The first has the only place; the second waits for it, within the first one's time.
    chaos.set([Fault::delay(Delay::fixed(400 * MS)).times(1)]);
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.send(get()).await.map(drop) }
    });
    tokio::time::sleep(MS).await;
    let breaker = client.service_breaker().expect("asked for");
    for _ in 0..2 {
        breaker.admit(now(), Asked::default())?.settle(Verdict::TIMED_OUT);
    }
    breaker.found_healthy(now());
    let mut second = Box::pin(client.send(get()));
    assert!(poll_once(second.as_mut()).is_pending());
    assert_eq!(breaker.state(), State::HalfOpen { under_way: 0, succeeded: 0 });
    first.await??;
    assert_eq!(second.await?.status(), 200, "it asks the breaker when it has its place");
    assert_eq!(breaker.state(), State::Closed);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_is_dropped_while_it_waits_for_the_services_limit_leaves_nothing_behind()
-> Result<(), BoxError> {
    let (chaos, company) = (Chaos::seeded(7), Company::new(|_| answer(200)));
    let client = Client::builder("http://payments")
        .endpoints([address(1)])
        .transport(chaos.clone().around(company.clone()))
        .limit(fixed(1))
        .deadline(1000 * MS)
        .attempt_timeout(500 * MS)
        .retry(retry(1))
        .build()?;
    chaos.set([Fault::delay(Delay::fixed(400 * MS))]);
    for polls in 1..4 {
        let first = tokio::spawn({
            let client = client.clone();
            async move { client.send(get()).await.map(drop) }
        });
        tokio::time::sleep(MS).await;
        let mut second = Box::pin(client.send(get()));
        for _ in 0..polls {
            assert!(poll_once(second.as_mut()).is_pending());
            tokio::time::sleep(MS).await;
        }
        drop(second);
        first.await??;
        client.send(get()).await?.into_body().collect().await?;
    }
    // And one that waits in vain is told so, with nothing sent.
    chaos.set([Fault::hang()]);
    let (hung, error) = tokio::join!(client.send(get()), client.send(get()));
    let sent = [hung, error].map(|outcome| outcome.expect_err("nobody answers").sent());
    assert!(sent.contains(&Sent::Maybe), "{sent:?}");
    Ok(())
}
