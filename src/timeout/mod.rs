//! Deadlines and timeouts: no call lasts longer than it was given.
//!
//! - [`DeadlineLayer`] bounds the whole call: queueing, every attempt, every backoff and the
//!   response's body to its last byte. It stands above retry.
//! - [`AttemptTimeoutLayer`] bounds one attempt, to its response's head (or to the end of the
//!   body, where that is [collected](crate::collect) beneath it). It stands below retry.
//! - the transport bounds connecting by a timeout of its own.
//! - [`DeadlineHeaderLayer`] tells the service how long it is waited for. It stands below the
//!   other two.
//!
//! ```text
//! ├──────────────────────── deadline ────────────────────────────┤
//! ├─ attempt timeout ─┤ backoff ├─ attempt timeout ─┼─── body ───┤
//! ├ connect ┤
//! ```
//!
//! The deadline is one instant. It travels with the call ([`Words::deadline`]), so a layer
//! below never waits past it, and combining two takes the earlier.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use buttress::{call::CarryLayer, classify::Sent, find, timeout::{AttemptTimeoutLayer, Elapsed}};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), buttress::BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .layer(CarryLayer::new())
//!     .layer(AttemptTimeoutLayer::new(Duration::from_millis(100))?)
//!     .service(service_fn(async |_: buttress::call::Call<&str>| {
//!         std::future::pending::<Result<(), Infallible>>().await
//!     }));
//! let error = service.ready().await?.call("hello?").await.unwrap_err();
//! let elapsed = find::<Elapsed>(&*error).expect("it took too long");
//! assert_eq!(elapsed.limit(), Duration::from_millis(100));
//! assert_eq!(elapsed.sent(), Sent::Maybe); // this service does not mark the hand-over
//! # Ok(()) }
//! ```
//!
//! # On the wire
//!
//! What is left of the deadline goes out with each attempt, in a [`DeadlineHeader`]: gRPC's
//! `grpc-timeout`, or milliseconds in a header of any name. [`incoming`] reads it from the
//! request to a server, whose own calls then end no later than its caller stops waiting. Each
//! hop only ever takes from it, never adds:
//!
//! ```
//! use std::{convert::Infallible, time::{Duration, Instant}};
//! use buttress::{
//!     call::Words,
//!     timeout::{self, DeadlineHeader, DeadlineHeaderLayer, DeadlineLayer},
//! };
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! // A server's handler, as axum would have it: it calls another service while it answers.
//! async fn handler(incoming: Request<()>) -> Result<Response<()>, buttress::BoxError> {
//!     let header = DeadlineHeader::default();
//!     let mut orders = ServiceBuilder::new()
//!         .layer(DeadlineLayer::new(Duration::from_secs(30))?)
//!         // retry stands here
//!         .layer(DeadlineHeaderLayer::new(header.clone()))
//!         .service(service_fn(async |request: Request<()>| {
//!             let left = timeout::incoming(request.headers(), &DeadlineHeader::default());
//!             assert!(left.expect("it is passed on") <= Duration::from_millis(250));
//!             Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
//!         }));
//!
//!     let mut request = Request::get("http://orders/7").body(())?;
//!     if let Some(left) = timeout::incoming(incoming.headers(), &header) {
//!         // The earlier of the two deadlines holds: 250 ms here, not 30 s.
//!         request.extensions_mut().insert(Words::new().deadline(Instant::now() + left));
//!     }
//!     Ok(orders.ready().await?.call(request).await?.map(|_| ()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let incoming = Request::get("/").header("request-timeout-ms", "250").body(())?;
//! assert!(handler(incoming).await?.status().is_success());
//! # Ok(()) }
//! ```
//!
//! A caller is believed. Where any stranger may call, a limit that the server sets for itself is
//! the earlier one: give its own calls a [`DeadlineLayer`], too, as above.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`DEFAULT_TOTAL`] | 30 s | above 0 | Microsoft.Extensions.Http.Resilience |
//! | [`DEFAULT_ATTEMPT`] | 10 s | above 0, at most the total | the same |
//! | [`DEFAULT_DEADLINE_HEADER`] | `request-timeout-ms` | names that HTTP does not need | no standard to follow |
//!
//! # Errors
//!
//! [`Elapsed`] says which limit was hit and whether the request [may have been carried
//! out](Elapsed::sent). What is below is polled before the timer, so an answer that is there
//! when the time is up still counts; of a body, the last piece does, whenever it is read, but
//! one that has more to come does not outlast its deadline. With nothing left nothing is begun,
//! and nobody is blamed for it.
//!
//! # When the future is dropped
//!
//! What is below is dropped with it. A limit that was hit drops it at once, not only when its
//! error has been looked at.
//!
//! # Events
//!
//! None: a timeout is an outcome, which the layers above report.
//!
//! [`Words::deadline`]: crate::call::Words::deadline

mod attempt;
mod body;
mod config;
mod deadline;
mod error;
mod header;
mod limited;
mod outgoing;
pub mod wire;

pub(crate) use self::{attempt::expiry, deadline::Bounds, limited::Limited, outgoing::tell};
pub use self::{
    attempt::{AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer},
    body::{Bounded, BoundedBody, Http, Limit, Plain},
    config::{DEFAULT_ATTEMPT, DEFAULT_TOTAL, InvalidTimeout},
    deadline::{Deadline, DeadlineFuture, DeadlineLayer},
    error::{Elapsed, Which},
    header::{DEFAULT_DEADLINE_HEADER, DeadlineHeader, InvalidDeadlineHeader, incoming},
    outgoing::{DeadlineHeaderLayer, DeadlineHeaderService},
};
