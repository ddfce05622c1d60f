//! Single layers in a `ServiceBuilder`, beside those of tower and tower-http, over any service.
//!
//! `cargo run --example layers_alone`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError, Observer,
    body::ReplayBody,
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    classify::HttpClassifier,
    idempotency::IdempotencyLayer,
    retry::{RetryConfig, RetryLayer},
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::USER_AGENT};
use http_body_util::Full;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::set_header::SetRequestHeaderLayer;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let classifier = HttpClassifier::new();
    let breaker = Breaker::new(BreakerConfig::new());
    let retry = RetryConfig::new().observer(Observer::new(|event| println!("  {event:?}")));

    let mut service = ServiceBuilder::new()
        // tower-http's: once for the whole call, so above retry.
        .layer(SetRequestHeaderLayer::overriding(
            USER_AGENT,
            HeaderValue::from_static("layers-alone"),
        ))
        // The deadline above retry: it bounds the sum of all attempts.
        .layer(DeadlineLayer::new(Duration::from_secs(2))?)
        // The key above retry: every attempt carries the same.
        .layer(IdempotencyLayer::default())
        .layer(RetryLayer::new(retry, classifier))
        // The breaker above the attempt's timeout: one that timed out is a failure.
        .layer(BreakerLayer::new(breaker.clone(), classifier))
        .layer(AttemptTimeoutLayer::new(Duration::from_millis(200))?)
        // tower's: at most ten attempts at a time reach the service.
        .concurrency_limit(10)
        .service(leaf());

    for order in 1..=2 {
        println!("POST /orders/{order}");
        let request = Request::post(format!("http://shop/orders/{order}"))
            .body(Full::new(Bytes::from("two apples")))?;
        let response = service.ready().await?.call(request).await?;
        println!("  -> {}", response.status());
    }
    println!("The breaker is {:?}.", breaker.state());
    Ok(())
}

type Incoming = Request<ReplayBody<Full<Bytes>>>;

/// In memory: the first attempt hangs, the second is refused, the others succeed.
fn leaf()
-> impl Service<Incoming, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send> + Clone
{
    let calls = Arc::new(AtomicU32::new(0));
    service_fn(move |request: Incoming| {
        let number = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            println!(
                "  attempt with key {} from {}",
                text(request.headers().get("idempotency-key")),
                text(request.headers().get(USER_AGENT)),
            );
            let mut response = Response::new(Full::default());
            match number {
                0 => std::future::pending().await,
                1 => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
                _ => *response.status_mut() = StatusCode::CREATED,
            }
            Ok(response)
        }
    })
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("none")
}
