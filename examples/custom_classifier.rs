//! A service that says "200 OK" and means "not now": your own classifier tells all layers.
//!
//! `cargo run --example custom_classifier`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use buttress::{
    BoxError, Observer,
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    call::{Asked, Attempts},
    classify::{Blame, Classify, HttpClassifier, Retry, Sent, Settle, Verdict},
    retry::{RetryConfig, RetryLayer},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// The header in which the service says how it really went.
const OUTCOME: &str = "x-outcome";

/// HTTP's table, and this service's own word for "I did nothing, ask again".
#[derive(Clone, Copy, Debug, Default)]
struct OwnWords(HttpClassifier);

impl<B: Body> Classify<Response<B>> for OwnWords {
    // The verdict on a success is settled at the end of its body; HTTP's classifier knows how.
    type Guarded<G: Settle> = <HttpClassifier as Classify<Response<B>>>::Guarded<G>;

    fn response(&self, asked: Asked, response: &Response<B>) -> Verdict {
        match response.headers().get(OUTCOME) {
            // It did nothing, so another attempt is safe even for a POST without a key. The
            // endpoint is to blame, so the breaker counts it.
            Some(outcome) if outcome == "busy" => {
                Verdict::new(Blame::Endpoint, Sent::No, Retry::Always)
            }
            _ => self.0.response(asked, response),
        }
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn attempts(&self, response: &Response<B>) -> Option<Attempts> {
        self.0.attempts(response)
    }

    fn annotate(&self, response: &mut Response<B>, attempts: Attempts) {
        self.0.annotate(response, attempts);
    }

    fn guard<G: Settle>(
        &self,
        asked: Asked,
        response: Response<B>,
        head: Verdict,
        guard: G,
    ) -> Self::Guarded<G> {
        self.0.guard(asked, response, head, guard)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!("HTTP's own classifier takes \"200 OK\" for a success:");
    let http = HttpClassifier::new();
    ask(ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), http))
        .layer(BreakerLayer::new(breaker()?, http))
        .service(till(2)))
    .await?;

    println!("One that knows the service looks closer, and so does each layer:");
    let own = OwnWords::default();
    ask(ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), own))
        .layer(BreakerLayer::new(breaker()?, own))
        .service(till(2)))
    .await?;

    println!("When it is busy for good, the breaker opens after three attempts:");
    let breaker = breaker()?;
    ask(ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), own))
        .layer(BreakerLayer::new(breaker.clone(), own))
        .service(till(u32::MAX)))
    .await?;
    println!("  the breaker is {}", breaker.state().code());
    Ok(())
}

fn breaker() -> Result<Breaker, BoxError> {
    // The default is five.
    let config = BreakerConfig::new().consecutive_failures(3)?;
    Ok(Breaker::new(config.observer(Observer::new(|event| println!("  {event:?}")))))
}

/// A till that is busy for its first calls. It says so, but not in its status.
fn till<B>(
    busy: u32,
) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
{
    let calls = Arc::new(AtomicU32::new(0));
    service_fn(move |_: Request<B>| {
        let number = calls.fetch_add(1, Ordering::Relaxed);
        let (outcome, text) = if number < busy { ("busy", "") } else { ("done", "the receipt") };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        response.headers_mut().insert(OUTCOME, HeaderValue::from_static(outcome));
        std::future::ready(Ok(response))
    })
}

async fn ask<S, B>(service: S) -> Result<(), BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    // A POST, so nothing but the service's own word makes a second attempt safe.
    let request = Request::post("http://shop/till").body(Full::new(Bytes::from("two apples")))?;
    let response = service.oneshot(request).await?;
    let attempts = response.extensions().get::<Attempts>().map_or(1, |attempts| attempts.len());
    let outcome = response.headers().get(OUTCOME).cloned();
    let receipt = response.into_body().collect().await.map_err(Into::into)?.to_bytes();
    println!("  attempts: {attempts}, outcome: {outcome:?}, body: {receipt:?}");
    Ok(())
}
