//! Chaos through the client: each fault is seen by retry, breaker and timeout as the real one is.
//! Under paused time, over endpoints in memory.
#![cfg(feature = "hyper")]

mod support;

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use buttress::{
    BoxError, Event, Observer,
    algo::backoff::Backoff,
    breaker::{BreakerConfig, State},
    call::{Attempts, Stage, Trail, mark_unsent},
    chaos::{Chaos, ChaosLayer, Chaotic, Delay, Failure, Fault, Injected},
    classify::Sent,
    client::{Builder, Client, Kind},
    find,
    retry::RetryConfig,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use support::company::{Company, MS, address, answer, now};
use tower::{Layer, Service, ServiceExt, service_fn};

fn get() -> Request<()> {
    Request::new(())
}

fn post() -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    request
}

fn attempts(response: &Response<impl Sized>) -> usize {
    response.extensions().get::<Attempts>().map_or(1, |attempts| attempts.len())
}

fn share(fault: Fault, share: f64) -> Fault {
    fault.share(share).expect("a share")
}

/// Endpoints that do well, a chaos before them, and a client of three attempts.
struct Scene {
    company: Company,
    chaos: Chaos,
}

impl Scene {
    fn new() -> Self {
        let chaos = Chaos::seeded(7);
        eprintln!("{chaos:?}");
        Self { company: Company::new(|_| answer(200)), chaos }
    }

    fn builder(&self, ports: impl IntoIterator<Item = u16>) -> Builder<Chaotic<Company>> {
        let backoff = Backoff::new(MS, MS).expect("sound");
        Client::builder("http://payments")
            .endpoints(ports.into_iter().map(address))
            .retry(RetryConfig::new().backoff(backoff).without_budget())
            .attempt_timeout(100 * MS)
            .transport(self.chaos.clone().around(self.company.clone()))
    }

    fn asked(&self) -> usize {
        self.company.seen().len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_or_not_as_the_real_one_is() -> Result<(), BoxError> {
    // Whether a POST without a key is tried again, which says what the error is taken for.
    for (failure, again, sent) in [
        (Failure::Refused, true, Sent::No),
        (Failure::ConnectTimedOut, true, Sent::No),
        (Failure::TurnedAway, true, Sent::No),
        (Failure::Reset, false, Sent::Maybe),
        (Failure::AnswerLost, false, Sent::Maybe),
    ] {
        let scene = Scene::new();
        let client = scene.builder(1..=3).build()?;
        scene.chaos.set([Fault::failure(failure).times(1)]);
        let outcome = client.send(post()).await;
        let carried_out = usize::from(failure == Failure::AnswerLost);
        if again {
            assert_eq!(outcome?.status(), 200, "{failure:?}");
            assert_eq!(scene.asked(), 1, "{failure:?}");
        } else {
            let error = outcome.expect_err("nobody knows whether it happened");
            assert_eq!(error.sent(), sent, "{failure:?}");
            assert!(find::<Injected>(&error).is_some(), "{failure:?}");
            assert_eq!(scene.asked(), carried_out, "{failure:?}");
        }
        // What may be repeated always is.
        scene.chaos.set([Fault::failure(failure).times(1)]);
        assert_eq!(client.send(get()).await?.status(), 200, "{failure:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_ended_by_the_attempts_timeout_which_knows_whether_it_was_sent()
-> Result<(), BoxError> {
    for (fault, sent) in [(Fault::hang(), Sent::Maybe), (Fault::hang_connecting(), Sent::No)] {
        let scene = Scene::new();
        let retry = RetryConfig::new().max_attempts(1)?;
        let client = scene.builder([1]).retry(retry).build()?;
        scene.chaos.set([fault]);
        let began = now();
        let error = client.send(post()).await.expect_err("nobody answers");
        assert_eq!((error.kind(), error.sent(), now() - began), (Kind::Timeout, sent, 100 * MS));
        assert_eq!(scene.asked(), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_delay_holds_the_answer_back_and_one_that_is_too_long_times_out() -> Result<(), BoxError>
{
    let scene = Scene::new();
    let client = scene.builder(1..=2).build()?;
    scene.chaos.set([Fault::delay(Delay::fixed(30 * MS)), Fault::delay(Delay::fixed(20 * MS))]);
    let began = now();
    assert_eq!(attempts(&client.send(get()).await?), 1);
    assert_eq!(now() - began, 50 * MS);
    scene.chaos.set([Fault::delay(Delay::fixed(200 * MS)).times(1)]);
    let began = now();
    assert_eq!(attempts(&client.send(get()).await?), 2);
    assert!(now() - began >= 100 * MS && now() - began < 110 * MS);
    assert_eq!(scene.asked(), 3, "the one that was too slow was carried out, too");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_made_up_answer_is_judged_by_its_status_and_its_headers() -> Result<(), BoxError> {
    let scene = Scene::new();
    let client = scene.builder(1..=3).build()?;
    scene.chaos.set([Fault::answer(StatusCode::SERVICE_UNAVAILABLE).times(1)]);
    let response = client.send(get()).await?;
    assert_eq!((response.status().as_u16(), attempts(&response)), (200, 2));
    scene.chaos.set([Fault::answer(StatusCode::NOT_FOUND)]);
    let response = client.send(get()).await?;
    assert_eq!((response.status().as_u16(), attempts(&response)), (404, 1));
    assert!(response.into_body().collect().await?.is_empty());
    // An endpoint that asks to be left alone is, and another is there.
    scene.chaos.set([Fault::answer(StatusCode::SERVICE_UNAVAILABLE).retry_after(5).times(1)]);
    let before = now();
    client.send(get()).await?;
    assert!(now() - before < 1000 * MS);
    let set_aside =
        client.endpoints().into_iter().filter(|status| status.set_aside_until.is_some());
    assert_eq!(set_aside.count(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_or_stalls_is_retried_where_it_is_collected() -> Result<(), BoxError> {
    for fault in [Fault::cut_body(2), Fault::stall_body(2)] {
        let scene = Scene::new();
        let client = scene.builder(1..=2).collect_bodies().build()?;
        scene.chaos.set([fault.times(1)]);
        let response = client.send(get()).await?;
        assert_eq!(attempts(&response), 2);
        assert_eq!(response.into_body().collect().await?, "done");
    }
    let scene = Scene::new();
    let client = scene.builder([1]).build()?;
    scene.chaos.set([Fault::cut_body(2)]);
    let mut body = client.send(get()).await?.into_body();
    let first = body.frame().await.expect("a piece")?.into_data().expect("data");
    assert_eq!(first, "do");
    let error = body.frame().await.expect("an error").expect_err("it breaks off");
    assert!(find::<Injected>(&*error).is_some());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_breaker_of_the_endpoint_that_is_struck_opens_and_no_other() -> Result<(), BoxError> {
    let scene = Scene::new();
    let breaker = BreakerConfig::new().consecutive_failures(2)?;
    let client = scene.builder(1..=4).breaker(breaker).build()?;
    scene.chaos.set([Fault::failure(Failure::Refused).at(address(2))]);
    let is_open = |port| {
        let all = client.endpoints();
        all.iter().any(|status| status.endpoint.address() == address(port) && status.open)
    };
    for _ in 0..400 {
        assert_eq!(client.send(get()).await?.status(), 200);
        tokio::time::sleep(50 * MS).await;
        if !is_open(2) {
            break;
        }
    }
    for status in client.endpoints() {
        let struck = status.endpoint.address() == address(2);
        assert_eq!(!status.open, struck, "{status:?}");
    }
    assert_eq!(scene.company.seen().iter().filter(|seen| seen.port == 2).count(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_breaker_of_the_service_sees_a_script_in_time() -> Result<(), BoxError> {
    let scene = Scene::new();
    let breaker = BreakerConfig::new().consecutive_failures(1000)?;
    let service = BreakerConfig::new().consecutive_failures(5)?;
    let service = service.open_time(Duration::from_secs(1), Duration::from_secs(1))?;
    let client = scene.builder([1]).breaker(breaker).service_breaker(service);
    // A call that finds it open does not wait for it.
    let client = client.retry(RetryConfig::new().max_attempts(1)?).build()?;
    let ill = Fault::answer(StatusCode::SERVICE_UNAVAILABLE);
    scene.chaos.set([ill.from(3000 * MS).lasting(6000 * MS)]);
    let state = || client.service_breaker().expect("asked for").state();
    let mut open = Vec::new();
    for tenth in 0..140 {
        let _ = client.send(get()).await;
        if matches!(state(), State::Open { .. }) {
            open.push(tenth);
        }
        tokio::time::sleep(100 * MS).await;
    }
    assert_eq!(open.first(), Some(&34), "the fifth call that it strikes");
    assert!(open.len() > 30 && open.iter().all(|tenth| (34..=100).contains(tenth)), "{open:?}");
    assert_eq!(state(), State::Closed);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_share_is_struck_and_the_same_seed_strikes_the_same() -> Result<(), BoxError> {
    let run = async |seed| {
        let chaos = Chaos::seeded(seed);
        assert_eq!(chaos.seed(), seed);
        assert!(format!("{chaos:?}").contains(&format!("seed: {seed}")));
        let service = ChaosLayer::new(chaos.clone()).layer(service_fn(async |_: Request<()>| {
            Ok::<_, io::Error>(Response::new(buttress::body::Body::empty()))
        }));
        chaos.set([share(Fault::failure(Failure::Reset), 0.2)]);
        let mut struck = Vec::new();
        for _ in 0..1000 {
            struck.push(service.clone().oneshot(get()).await.is_err());
        }
        struck
    };
    let first = run(7).await;
    let share = first.iter().filter(|&&struck| struck).count();
    assert!((160..=240).contains(&share), "{share} of 1000");
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_is_switched_while_it_is_in_use_and_says_what_it_does() -> Result<(), BoxError> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        if let Event::FaultInjected { fault, .. } = event {
            told.lock().expect("fine").push(*fault);
        }
    });
    let chaos = Chaos::observed(1, observer);
    let mut service = ChaosLayer::new(chaos.clone()).layer(service_fn(async |_: Request<()>| {
        Ok::<_, io::Error>(Response::new(buttress::body::Body::empty()))
    }));
    assert!(!chaos.is_on());
    assert!(service.ready().await?.call(get()).await.is_ok());
    chaos.set([Fault::delay(Delay::fixed(MS)), Fault::failure(Failure::Reset)]);
    assert!(service.ready().await?.call(get()).await.is_err());
    chaos.clear();
    assert!(service.ready().await?.call(get()).await.is_ok());
    assert_eq!(*heard.lock().expect("fine"), ["delay", "reset"]);
    Ok(())
}

/// The error of a dropped connection is the same, whatever the way by which it came: a probe for
/// who looks for `io` errors.
#[tokio::test(start_paused = true)]
async fn an_error_is_one_of_io() -> Result<(), BoxError> {
    let chaos = Chaos::seeded(1);
    let service = ChaosLayer::new(chaos.clone()).layer(service_fn(async |_: Request<()>| {
        Ok::<_, io::Error>(Response::new(buttress::body::Body::empty()))
    }));
    for (failure, kind) in [
        (Failure::Refused, io::ErrorKind::ConnectionRefused),
        (Failure::ConnectTimedOut, io::ErrorKind::TimedOut),
        (Failure::Reset, io::ErrorKind::ConnectionReset),
    ] {
        chaos.set([Fault::failure(failure)]);
        let error = service.clone().oneshot(get()).await.expect_err("it is struck");
        assert_eq!(find::<io::Error>(&*error).map(io::Error::kind), Some(kind));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_taken_for_sent_and_one_while_connecting_is_not() -> Result<(), BoxError> {
    let chaos = Chaos::seeded(1);
    let service = ChaosLayer::new(chaos.clone()).layer(service_fn(async |_: Request<()>| {
        Ok::<_, io::Error>(Response::new(buttress::body::Body::empty()))
    }));
    for (fault, stage) in
        [(Fault::hang(), Stage::HandedOver), (Fault::hang_connecting(), Stage::Unsent)]
    {
        chaos.set([fault]);
        let mut call = Box::pin(service.clone().oneshot(get()));
        let mut trail = Trail::new();
        let polled = trail.enter(|| {
            // As a balancer says it before it has picked.
            mark_unsent();
            call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        assert!(polled.is_pending());
        assert_eq!(trail.stage(), stage);
    }
    Ok(())
}
