//! Retries in a chain of services: what each does when the one behind it fails.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use buttress::{
    BoxError, Entropy,
    body::{Body, ReplayBody},
    call::Attempts,
    classify::{HttpClassifier, stop_retries},
    retry::{RetryConfig, RetryLayer},
};
use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

type Called = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// A client of `service` with three attempts, as the default is.
fn calling(
    service: Called,
) -> impl Service<Request<Body>, Response = Response<impl Sized + Send>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let service = service.map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new));
    let config = RetryConfig::new().entropy(Entropy::seeded(5)).without_budget();
    RetryLayer::new(config, HttpClassifier::new()).layer(service)
}

/// A service that asks the one behind it, and says 503 when that has failed.
fn in_the_middle(behind: Called, stops: bool) -> Called {
    let client = calling(behind);
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let answer = client.oneshot(request).await;
            let mut response = Response::new(Body::empty());
            // An answer that other attempts went before is one that retries were tried on.
            let given_up = match &answer {
                Ok(answer) => answer.extensions().get::<Attempts>().is_some(),
                Err(_) => true,
            };
            if answer.map_or(true, |answer| answer.status().is_server_error()) {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                if stops && given_up {
                    stop_retries(response.headers_mut());
                }
            }
            Ok(response)
        }
    }))
}

/// How many calls reach the last of three services, which is down, and what the caller gets.
async fn calls_at_the_end(stops: bool) -> (u32, StatusCode) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let end = BoxCloneSyncService::new(service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        async { Ok(response) }
    }));
    let chain = in_the_middle(in_the_middle(end, stops), stops);
    let request = Request::get("http://first/").body(Body::empty()).expect("sound");
    let response = calling(chain).oneshot(request).await.expect("an answer, if a bad one");
    (calls.load(Ordering::Relaxed), response.status())
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_three_retries_like_one() {
    assert_eq!(calls_at_the_end(true).await, (3, StatusCode::SERVICE_UNAVAILABLE));
}

/// That the test above would see it.
#[tokio::test(start_paused = true)]
async fn without_a_word_the_retries_of_a_chain_multiply() {
    assert_eq!(calls_at_the_end(false).await, (27, StatusCode::SERVICE_UNAVAILABLE));
}
