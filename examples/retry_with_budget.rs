//! A brown-out, and what retries make of it: with a budget a little more load, without one three
//! times as much.
//!
//! `cargo run --example retry_with_budget`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    algo::{backoff::Backoff, bucket::Tariff},
    budget::Budget,
    classify::HttpClassifier,
    retry::{RetryConfig, RetryLayer},
};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt, service_fn};

const CALLS: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Short waits, so that the example is.
    let config = || -> Result<RetryConfig, BoxError> {
        let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(10))?;
        Ok(RetryConfig::new().backoff(backoff))
    };
    let tariff = Tariff::default();
    let budget = Budget::new(tariff);

    println!("{CALLS} calls each; requests that reach the service, and calls that succeed");
    println!();
    println!("                          without budget     with budget   tokens left");
    let without = RetryLayer::new(config()?.without_budget(), HttpClassifier::new());
    let with = RetryLayer::new(config()?.budget(budget.clone()), HttpClassifier::new());
    for (phase, failing_percent) in [
        ("all is well", 0),
        ("1 % of requests fail", 1),
        ("brown-out: all fail", 100),
        ("still: all fail", 100),
        ("all is well again", 0),
        ("1 % of requests fail", 1),
    ] {
        let (load, good) = run(&without, failing_percent).await?;
        let (budgeted_load, budgeted_good) = run(&with, failing_percent).await?;
        println!(
            "{phase:<22}  {load:>7} {good:>7}  {budgeted_load:>7} {budgeted_good:>7}  {:>12}",
            budget.balance(),
        );
    }
    println!();
    println!(
        "A full budget holds {} tokens and a retry takes {}, so an outage gets {} retries and",
        tariff.capacity,
        tariff.transient,
        tariff.capacity / tariff.transient,
    );
    println!("then about one a second. Successes pay for new ones.");
    Ok(())
}

/// How many requests the service got, and how many calls succeeded.
async fn run(
    retry: &RetryLayer<HttpClassifier>,
    failing_percent: u32,
) -> Result<(u32, u32), BoxError> {
    let requests = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&requests);
    let service =
        ServiceBuilder::new().layer(retry.clone()).service(service_fn(move |_: Request<_>| {
            // Evenly spread, so that every run is the same.
            let number = counter.fetch_add(1, Ordering::Relaxed);
            let mut response = Response::new(Empty::<bytes::Bytes>::new());
            if number % 100 < failing_percent {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            std::future::ready(Ok::<_, Infallible>(response))
        }));
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let request = Request::get("http://stock/apples").body(Empty::<bytes::Bytes>::new())?;
        calls.spawn(service.clone().oneshot(request));
    }
    let mut good = 0;
    while let Some(response) = calls.join_next().await {
        good += u32::from(response??.status().is_success());
    }
    Ok((requests.load(Ordering::Relaxed), good))
}
