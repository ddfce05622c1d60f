//! Faults on request: what a service does to its callers, for the tests of those.
//!
//! ```text
//! retry ─ breaker ─ balance ─ timeout ─ … ─ chaos ─ transport
//!                                             │
//!                 delays, failures, made-up answers, hangs, bodies that break off or stall:
//!                 for a share of some requests, from 3 s on for 6 s, by a seed
//! ```
//!
//! ```
//! use buttress::{
//!     body::Body,
//!     chaos::{Chaos, ChaosLayer, Failure, Fault},
//!     classify::{Sent, verdict_on_error},
//! };
//! use http::{Method, Request, Response, StatusCode};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let chaos = Chaos::seeded(7);
//! let service = ChaosLayer::new(chaos.clone()).layer(service_fn(async |_: Request<Body>| {
//!     Ok::<_, std::io::Error>(Response::new(Body::full("done")))
//! }));
//! let get = || Request::new(Body::empty());
//!
//! chaos.set([
//!     Fault::answer(StatusCode::SERVICE_UNAVAILABLE).retry_after(2).method(Method::POST),
//!     Fault::failure(Failure::Refused).method(Method::GET).times(1),
//! ]);
//! let error = service.clone().oneshot(get()).await.expect_err("nobody listens");
//! assert_eq!(verdict_on_error(&*error).sent, Sent::No);
//! assert!(service.clone().oneshot(get()).await.is_ok(), "only once");
//!
//! let response = service.clone().oneshot(Request::post("/").body(Body::empty())?).await?;
//! assert_eq!(response.status(), 503);
//! # Ok(()) }
//! ```
//!
//! # Where it stands
//!
//! Directly above the transport: every layer sees its faults as it would see the real ones. In a
//! client, [`Chaos::around`] a transport, which tells the endpoints apart:
//!
//! ```
//! # #[cfg(feature = "hyper")] {
//! use buttress::{
//!     chaos::{Chaos, Fault},
//!     client::Client,
//!     transport::{HyperTransport, TransportConfig},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let chaos = Chaos::new();
//! let endpoints = [([10, 0, 0, 7], 8080).into(), ([10, 0, 0, 8], 8080).into()];
//! let client = Client::builder("http://payments")
//!     .endpoints(endpoints)
//!     .transport(chaos.clone().around(HyperTransport::new(TransportConfig::http1())))
//!     .build()?;
//! chaos.set([Fault::hang().at(endpoints[0])]);
//! # drop(client); Ok(()) }
//! # }
//! ```
//!
//! or, where every endpoint is to be struck alike, as the first
//! [`endpoint_layer`](crate::client::Builder::endpoint_layer).
//!
//! # The faults
//!
//! | fault | sent | judged as |
//! |---|---|---|
//! | [`delay`](Fault::delay) | yes | a slow service |
//! | [`failure`](Fault::failure): [`Refused`](Failure::Refused), [`ConnectTimedOut`](Failure::ConnectTimedOut) | no | blames the endpoint, was not sent |
//! | [`Reset`](Failure::Reset) | no, but nobody can know | blames the endpoint, may have been carried out |
//! | [`AnswerLost`](Failure::AnswerLost) | yes | as `Reset`, and was |
//! | [`TurnedAway`](Failure::TurnedAway) | no | blames nobody, was provably not processed |
//! | [`answer`](Fault::answer) | no | what its status and headers mean |
//! | [`hang`](Fault::hang) | no, but nobody can know | a timeout's victim |
//! | [`hang_connecting`](Fault::hang_connecting) | no | the same, that was not sent |
//! | [`cut_body`](Fault::cut_body), [`stall_body`](Fault::stall_body) | yes | an answer that breaks off or stalls |
//!
//! Each has a share, a choice of requests, a time from which and until which it is on, and a
//! number of times: see [`Fault`]. Of several that strike one request the delays add up, and of
//! the rest the first holds. Faults that are for requests of HTTP leave the connections below
//! alone: what is to be seen by the transport itself takes a real network.
//!
//! # Chance
//!
//! A [`Chaos`] draws from its own seed, which its `Debug` output says: the same requests in the
//! same order meet the same faults.
//!
//! # Errors
//!
//! [`Injected`] around an `io::Error` with the transport's verdict, so that they are judged as
//! real ones are and can be told from them. The service's own errors pass through.
//!
//! # When the future is dropped
//!
//! So is the request beneath, if it was sent. A hang is ended by nothing else.
//!
//! # Events
//!
//! [`Event::FaultInjected`](crate::Event::FaultInjected) for each fault that strikes, if the
//! chaos was made with [an observer](Chaos::observed).
//!
//! # What it costs
//!
//! While nothing is set, one load a request: nothing is drawn, no clock read, nothing allocated.
//! A request that is struck allocates what strikes it.

mod body;
mod error;
mod fault;
mod future;
mod handle;
mod layer;
mod service;
mod state;
mod transport;

pub use self::{
    body::ChaosBody,
    error::{Failure, Injected, InvalidFault},
    fault::{Delay, Fault, Head},
    future::ResponseFuture,
    handle::Chaos,
    layer::ChaosLayer,
    service::ChaosService,
    transport::Chaotic,
};
