//! Deadlines and timeouts: no call lasts longer than it was given.
//!
//! - [`DeadlineLayer`] bounds the whole call: queueing, every attempt, every backoff and the
//!   response's body to its last byte. It stands above retry.
//! - [`AttemptTimeoutLayer`] bounds one attempt, to its response's head (or to the end of the
//!   body, where that is [collected](crate::collect) beneath it). It stands below retry.
//! - the transport bounds connecting by a timeout of its own.
//! - [`DeadlineHeaderLayer`] tells the service how long it is waited for. It stands below the
//!   other two.
//! - [`IncomingDeadlineLayer`] takes that up in the service, [for its own calls and to end work
//!   that nobody waits for](#in-a-server).
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
//! `grpc-timeout`, or milliseconds in a header of any name. [`incoming()`] reads it from the
//! request to a server. Each hop only ever takes from it, never adds.
//!
//! # In a server
//!
//! [`IncomingDeadlineLayer`] reads the deadline of a request, takes the earlier of it and of a
//! limit of the server's own, and leaves it in the [`Words`] of the request's extensions. The
//! handler makes the words of its own calls from those by [`pass_on`], which then end no later
//! than its caller stops waiting:
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use buttress::{
//!     BoxError,
//!     timeout::{
//!         self, DeadlineHeader, DeadlineHeaderLayer, DeadlineLayer, IncomingDeadlineConfig,
//!         IncomingDeadlineLayer,
//!     },
//! };
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! // A server's handler, as axum would have it: it calls another service while it answers.
//! async fn handler(incoming: Request<()>) -> Result<Response<Empty<Bytes>>, BoxError> {
//!     let orders = ServiceBuilder::new()
//!         .layer(DeadlineLayer::new(Duration::from_secs(30))?)
//!         // retry stands here
//!         .layer(DeadlineHeaderLayer::default())
//!         .service(service_fn(async |request: Request<()>| {
//!             let left = timeout::incoming(request.headers(), &DeadlineHeader::default());
//!             assert!(left.expect("it is passed on") <= Duration::from_millis(250));
//!             Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
//!         }));
//!
//!     let mut request = Request::get("http://orders/7").body(())?;
//!     // The earlier of the two deadlines holds: 250 ms here, not 30 s.
//!     request.extensions_mut().insert(timeout::pass_on(incoming.extensions()));
//!     Ok(orders.oneshot(request).await?.map(|_| Empty::new()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let config = IncomingDeadlineConfig::new().limit(Duration::from_secs(60))?;
//! let server = ServiceBuilder::new()
//!     .layer(IncomingDeadlineLayer::new(config))
//!     .service(service_fn(handler));
//! let incoming = Request::get("/").header("request-timeout-ms", "250").body(())?;
//! assert!(server.oneshot(incoming).await?.status().is_success());
//! # Ok(()) }
//! ```
//!
//! Whoever calls [`trace::extract`](crate::trace::extract) puts that into the same words, and it
//! is passed on with the deadline. There is no ambient deadline, in a task-local: that is lost
//! in every task that a handler spawns, and nobody sees at a call whether it is limited.
//!
//! Work that nobody waits for is not done:
//!
//! | | HTTP | gRPC, by its content type | event |
//! |---|---|---|---|
//! | nothing is left when it comes, the service is not called | 504 | `DEADLINE_EXCEEDED`, trailers only | `not_begun` |
//! | the deadline passes while it is done, the handler is dropped | 504 | the same | `dropped` |
//! | … while its answer is read, the body is dropped | the body breaks off | the same in the trailers | `body_dropped` |
//! | the same, but it is [let run](IncomingDeadlineConfig::let_run) | the handler's answer | the same | `let_run` |
//! | the header can't be read, and [such are refused](IncomingDeadlineConfig::refuse_unreadable) | 400 | `INTERNAL` | [`DeadlineUnreadable`](crate::Event::DeadlineUnreadable) |
//!
//! An answer for HTTP has a problem (RFC 9457) for its body; one for overdue work has its
//! [`Elapsed`] in its extensions, for the layers of the server above. A handler that is let run
//! has an [`Overdue`] in its request's extensions, and asks that whether it can stop.
//!
//! A caller is believed. Where any stranger may call, give the layer a
//! [limit](IncomingDeadlineConfig::limit) of the server's own.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`DEFAULT_TOTAL`] | 30 s | above 0 | Microsoft.Extensions.Http.Resilience |
//! | [`DEFAULT_ATTEMPT`] | 10 s | above 0, at most the total | the same |
//! | [`DEFAULT_DEADLINE_HEADER`] | `request-timeout-ms` | names that HTTP does not need | no standard to follow |
//! | headers that a server reads | `grpc-timeout` and the one above | any | whoever sends one means it |
//! | a server's own limit | none | above 0 | a default must not break a slow service that works |
//! | kept back for the way of the answer | nothing | any | nobody here knows the way |
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
//! For a call none: a timeout is an outcome, which the layers above report. In a server,
//! [`Event::Overdue`](crate::Event::Overdue) and
//! [`Event::DeadlineUnreadable`](crate::Event::DeadlineUnreadable).
//!
//! [`Words`]: crate::call::Words
//! [`Words::deadline`]: crate::call::Words::deadline

mod attempt;
mod body;
mod config;
mod deadline;
mod error;
mod header;
mod incoming;
mod limited;
mod outgoing;
pub mod wire;

pub(crate) use self::{attempt::expiry, deadline::Bounds, limited::Timer, outgoing::tell};
pub use self::{
    attempt::{AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer},
    body::{Bounded, BoundedBody, Http, Limit, Plain},
    config::{DEFAULT_ATTEMPT, DEFAULT_TOTAL, InvalidTimeout},
    deadline::{Deadline, DeadlineFuture, DeadlineLayer},
    error::{Elapsed, Which},
    header::{DEFAULT_DEADLINE_HEADER, DeadlineHeader, InvalidDeadlineHeader, incoming},
    incoming::{
        Admission, IncomingBody, IncomingDeadline, IncomingDeadlineConfig, IncomingDeadlineFuture,
        IncomingDeadlineLayer, Intake, Overdue, pass_on,
    },
    outgoing::{DeadlineHeaderLayer, DeadlineHeaderService},
};
