//! A circuit breaker through all its states: closed, open, half-open, and back.
//!
//! `cargo run --example breaker_drill`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Event, Observer,
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    call::{CarryLayer, UncarryLayer},
    classify::PlainClassifier,
    endpoint::Refusal,
    find,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

static DOWN: AtomicBool = AtomicBool::new(false);
static REACHED: AtomicU32 = AtomicU32::new(0);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let began = Instant::now();
    let breaker = Breaker::new(
        BreakerConfig::new()
            // The defaults are 5 s to 300 s, and a ramp of 3 s: too long to watch.
            .open_time(Duration::from_millis(400), Duration::from_secs(5))?
            .ramp(Duration::ZERO)?
            .observer(Observer::new(move |event| {
                if let Event::Breaker { state, reason, open_for, .. } = event {
                    let wait = open_for.map(|wait| format!(", for {wait:.0?}")).unwrap_or_default();
                    println!("  {:>5} ms  ==> {state} ({reason}{wait})", millis(began));
                }
            })),
    );
    let mut service = ServiceBuilder::new()
        .layer(CarryLayer::new())
        .layer(BreakerLayer::new(breaker.clone(), PlainClassifier::new()))
        .layer(UncarryLayer::new())
        .service(service_fn(async |(): ()| {
            REACHED.fetch_add(1, Ordering::Relaxed);
            if DOWN.load(Ordering::Relaxed) {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            Ok(())
        }));

    let mut calls = async |count: u32| -> Result<(), BoxError> {
        let (mut good, mut failed, mut refused) = (0, 0, 0);
        let reached = REACHED.load(Ordering::Relaxed);
        for _ in 0..count {
            match service.ready().await?.call(()).await {
                Ok(()) => good += 1,
                Err(error) if find::<Refusal>(&*error).is_some() => refused += 1,
                Err(_) => failed += 1,
            }
        }
        println!(
            "  {:>5} ms  {count} calls: {good} good, {failed} failed, {refused} refused; {} \
             reached the service",
            millis(began),
            REACHED.load(Ordering::Relaxed) - reached,
        );
        Ok(())
    };

    println!("All is well:");
    calls(100).await?;

    println!("The service is down:");
    DOWN.store(true, Ordering::Relaxed);
    calls(100).await?;

    println!("The open time is over, and it is still down:");
    tokio::time::sleep(Duration::from_millis(450)).await;
    calls(100).await?;

    println!("It is up again, but nobody asks before the open time is over:");
    DOWN.store(false, Ordering::Relaxed);
    calls(100).await?;
    tokio::time::sleep(Duration::from_millis(850)).await;
    calls(100).await?;

    println!("Somebody takes it out of service by hand, and back:");
    breaker.force_open();
    calls(100).await?;
    breaker.release();
    calls(100).await?;
    Ok(())
}

fn millis(since: Instant) -> u128 {
    since.elapsed().as_millis()
}
