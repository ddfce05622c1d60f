//! The order of the layers, and what goes wrong in another.
//!
//! ```text
//! call span ─ deadline ─ key ─ retry ─ hedge ─ attempt span ─ throttle ─ limit ─ service breaker ─ balance ─┬─ endpoint
//!                                                                                                           └─ endpoint:
//!             breaker ─ load ─ attempt timeout ─ collect ─ deadline header ─ limit ─ your layers ─ transport
//! ```
//!
//! [`Client`](crate::client) builds it so. For [gRPC](crate::client::GrpcClient) two more layers
//! stand below the deadline header: `peek ─ attempt header`. Whoever puts single layers into a `ServiceBuilder`
//! decides himself, and this page is for him.
//!
//! | place | the other way round |
//! |---|---|
//! | deadline above retry | each attempt has a deadline of its own: three of them last three times as long |
//! | key above retry and hedge | each attempt has another key, and the service makes three charges ([`BelowRetry`](crate::idempotency::BelowRetry) refuses that) |
//! | retry above balance | every attempt goes to the instance that has just failed |
//! | retry above the attempt timeout | a timeout ends the call instead of the attempt |
//! | retry above hedge | a hedge that failed is not tried again, and a retry is raced by its own past |
//! | attempt span below retry | three attempts look like one that was slow |
//! | throttle below retry and hedge | a call counts as one request, however often it is tried |
//! | throttle above the breaker | what is refused takes the place of a probe |
//! | a service's [limit](crate::limit) between throttle and breaker | who is going to be refused waits first; who waits takes the place of a probe |
//! | an endpoint's limit below the attempt timeout | nobody looks at the clock of who waits for a place |
//! | [fallback](crate::fallback) above retry, below the deadline | what the next attempt would have cured is answered by somebody else; or the other service has no deadline |
//! | stand-in (a stale or fixed answer) above the deadline | when the time is up nobody is left who answers |
//! | breaker above the attempt timeout | the breaker never sees a timeout: what hangs is dropped, which blames nobody |
//! | breaker of an endpoint beside the balancer's pick | a refusal costs an attempt and a wait; here it costs another pick |
//! | collecting below the attempt timeout | a body that stalls has nobody who looks at the clock |
//! | deadline header below retry and the wait for a place | the service is told of time that was spent before it was asked |
//! | your own layers below the carrier | tower-http's see a type that they don't know |
//! | gRPC's [peek](crate::grpc::PeekLayer) below retry and the attempt timeout | a failure behind a head comes too late for another attempt; a head without a message is waited for until the call's deadline |
//! | gRPC's [count of attempts](crate::grpc::AttemptHeaderLayer) below retry and hedge | it counts calls |
//!
//! # By hand
//!
//! The same without balancing, over a service in memory. Between two layers of this crate there
//! may be any of tower's and tower-http's that keep a call in its task; a `Buffer` does not
//! (see [limitations](super::limitations)).
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use buttress::{
//!     breaker::{BreakerConfig, BreakerLayer},
//!     classify::HttpClassifier,
//!     idempotency::IdempotencyLayer,
//!     retry::{RetryConfig, RetryLayer},
//!     timeout::{AttemptTimeoutLayer, DeadlineLayer},
//!     trace::{AttemptSpanLayer, CallSpanLayer},
//! };
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let classifier = HttpClassifier::new(); // one for all: they never disagree
//! let service = ServiceBuilder::new()
//!     .layer(CallSpanLayer::default())
//!     .layer(DeadlineLayer::new(Duration::from_secs(2))?)
//!     .layer(IdempotencyLayer::default())
//!     .layer(RetryLayer::new(RetryConfig::new(), classifier))
//!     .layer(AttemptSpanLayer::default())
//!     .layer(BreakerLayer::new(BreakerConfig::new(), classifier))
//!     .layer(AttemptTimeoutLayer::new(Duration::from_millis(500))?)
//!     .service(service_fn(async |request: Request<_>| {
//!         let keyed = request.headers().contains_key("idempotency-key");
//!         # let _: &Request<buttress::body::ReplayBody<Full<Bytes>>> = &request;
//!         Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(keyed.to_string()))))
//!     }));
//!
//! let request = Request::post("http://shop/orders").body(Full::new(Bytes::from("an apple")))?;
//! let response = service.oneshot(request).await?;
//! let body = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
//! assert_eq!(body, "true");
//! # Ok(()) }
//! ```
//!
//! # Above a client
//!
//! What makes another call of a whole call stands above the client: a lookup of what may have
//! happened, a fallback, another try with a fresh credential. The key above all of them, since to
//! the service they are one call; the client leaves a key that it finds alone.
//!
//! ```text
//! key ─ stale answer ─ fallback ─ reconcile ─ refresh ─ client
//! ```
//!
//! | place | the other way round |
//! |---|---|
//! | reconcile above the deadline (the client's) | it is dropped when it is needed |
//! | refresh above retry (the client's) | a refusal costs an attempt and budget |
//! | fallback above retry (the client's) | another service is asked before this one was tried |
//!
//! ```
//! use std::convert::Infallible;
//! use buttress::{
//!     BoxError,
//!     body::Body,
//!     client::{AttemptBody, Client},
//!     endpoint::Endpoint,
//!     idempotency::IdempotencyLayer,
//!     refresh::{Bearer, RefreshConfig, RefreshLayer},
//! };
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let client = Client::builder("http://payments")
//!     .endpoints(["10.0.0.1:80".parse()?])
//!     .transport(|_: &Endpoint| {
//!         service_fn(async |request: Request<AttemptBody>| {
//!             let fresh = request.headers()["authorization"] == "Bearer fresh";
//!             Response::builder().status(if fresh { 201 } else { 401 }).body(Body::empty())
//!         })
//!     })
//!     .build()?;
//! let tokens = Bearer::new(async || Ok::<_, BoxError>("fresh")).token("expired")?;
//! let service = ServiceBuilder::new()
//!     .layer(IdempotencyLayer::default())
//!     .layer(RefreshLayer::new(RefreshConfig::new(), tokens))
//!     .service(client);
//! let charge = Request::post("/charges").body(Body::from("12 EUR"))?;
//! assert_eq!(service.oneshot(charge).await?.status(), 201);
//! # Ok(()) }
//! ```
//!
//! # A transport of your own
//!
//! The client's stack stands on anything that makes a service of an
//! [`Endpoint`](crate::endpoint::Endpoint): over TLS, over pipes, or in memory for a test.
//!
//! ```
//! use buttress::{BoxError, client::{AttemptBody, Client}, endpoint::Endpoint};
//! use http::{Request, Response};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let client = Client::builder("http://payments")
//!     .endpoints(["10.0.0.1:80".parse()?, "10.0.0.2:80".parse()?])
//!     .transport(|endpoint: &Endpoint| {
//!         let answer = endpoint.to_string();
//!         service_fn(move |_: Request<AttemptBody>| {
//!             let answer = buttress::body::Body::from(answer.clone());
//!             async { Ok::<_, BoxError>(Response::new(answer)) }
//!         })
//!     })
//!     .build()?;
//! let response = client.send(Request::get("/").body(())?).await?;
//! assert!(response.into_body().collect().await?.starts_with(b"10.0.0."));
//! # Ok(()) }
//! ```
//!
//! Such a transport may say when a request is handed to a connection
//! ([`mark_unsent`](crate::call::mark_unsent),
//! [`mark_handed_over`](crate::call::mark_handed_over)); from one that does not, a timeout can
//! only say "maybe".
//!
//! These are written out, each in a few lines to be copied:
//!
//! | over | example | what it says of its own |
//! |---|---|---|
//! | hyper-util, with TLS | `tls` | it dials the endpoint's address, and asks for a certificate of the service's name |
//! | reqwest | `reqwest_transport` | a `reqwest::Client` for each endpoint, to whose address it resolves the service's name; its retries are off, as the stack counts and pays for its own, so are its redirects, as another host's answer would be taken for the endpoint's, and the proxies of the environment, which would look for the service by its name |
//! | tonic's channel | `tonic_transport` | a `tonic::transport::Channel` for each endpoint; tonic says that it did not connect, or that the time is up, by types of its own, which a [`Marked`](crate::classify::Marked) makes known |
//!
//! One for each endpoint: a client that serves all of them has one pool for the service's name, and
//! the connection in it may be anybody's. What is not its own errors' to tell, they leave to you:
//!
//! - Put a limit around connecting, a handshake of TLS included, below the attempt's timeout: only
//!   what fails as a connection is known to have sent nothing. hyper-util's and reqwest's errors
//!   say so; what others say is for a [`Marked`](crate::classify::Marked) with
//!   [`Verdict::UNREACHED`](crate::classify::Verdict::UNREACHED).
//! - The version of a request that came in by HTTP/2 and goes on is not that of this hop: hyper-util
//!   and reqwest refuse it over HTTP/1.1.
//! - A connection on which an attempt timed out is used again. Over HTTP/2, switch its pings on.
//! - tonic's channel makes one connection at a time, and one that fails is the failure of one
//!   request: of those that come meanwhile each waits for the ones before it, a connect timeout
//!   each.
