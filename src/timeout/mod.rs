//! Deadlines and timeouts: no call lasts longer than it was given.
//!
//! - [`DeadlineLayer`] bounds the whole call: queueing, every attempt, every backoff and the
//!   response's body to its last byte. It stands above retry.
//! - [`AttemptTimeoutLayer`] bounds one attempt, to its response's head (or to the end of the
//!   body, where that is [collected](crate::collect) beneath it). It stands below retry.
//! - the transport bounds connecting by a timeout of its own.
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
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`DEFAULT_TOTAL`] | 30 s | above 0 | Microsoft.Extensions.Http.Resilience |
//! | [`DEFAULT_ATTEMPT`] | 10 s | above 0, at most the total | the same |
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

pub use self::{
    attempt::{AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer},
    body::{Bounded, BoundedBody, Http, Limit, Plain},
    config::{DEFAULT_ATTEMPT, DEFAULT_TOTAL, InvalidTimeout},
    deadline::{Deadline, DeadlineFuture, DeadlineLayer},
    error::{Elapsed, Which},
};
