//! The whole stack: one client for one service, in ten lines.
//!
//! ```no_run
//! use buttress::client::Client;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let client = Client::builder("http://payments")
//!     .endpoints(["127.0.0.1:8081".parse()?, "127.0.0.1:8082".parse()?])
//!     .idempotency_keys()
//!     .build()?;
//! let request = http::Request::post("/charges").body(r#"{"amount": 12}"#)?;
//! let response = client.send(request).await?;
//! println!("{}: {:?}", response.status(), response.into_body().collect().await?);
//! # Ok(()) }
//! ```
//!
//! # The order of the stack
//!
//! ```text
//! call span ─ deadline ─ key ─ retry ─ hedge ─ attempt span ─ throttle ─ service breaker ─ balance ─┬─ instance
//!                                                                                                   └─ instance:
//!                               breaker ─ load ─ attempt timeout ─ collect ─ your layers ─ transport
//! ```
//!
//! Each part's place has a reason, which stands beside it in the source: `roof.rs` for what is
//! above retry, `attempt.rs`, `permits.rs` and `run.rs` for what is below, `stack.rs` for the rest.
//! Retry and hedge are the layers of these names. The others do in a future of their own what two
//! futures do here, from the same decisions: nested, each would move the request, the response and
//! all that is beneath it once more, which cost more than what they decide. So what is sent, what
//! comes of it and what is held for it stand in one box (`parcel.rs`), and what moves is the box.
//!
//! # Defaults
//!
//! Those of the layers: a call may take [30 s](crate::timeout::DEFAULT_TOTAL), an attempt
//! [10 s](crate::timeout::DEFAULT_ATTEMPT), there are [3 attempts](crate::retry), a breaker
//! for each endpoint, none for the service, no hedge, no throttle and no health check, and no
//! idempotency key: to ask for one is to say that the service honours it.
//!
//! What makes another call of a whole call (a lookup of what may have happened, a fallback, a
//! fresh credential) stands [above a client](crate::docs::stack#above-a-client).
//!
//! # gRPC
//!
//! [`Client::builder(…).grpc()`](Builder::grpc) builds a [`GrpcClient`]: the same stack, judged by
//! `grpc-status` wherever that comes, for the clients that tonic generates. It is another type
//! since it answers otherwise: with a status, whatever goes wrong.
//!
//! # Errors
//!
//! Every call ends with a response or one opaque [`Error`], which says what happened, where,
//! on which attempt, whether the request may have been carried out, and when to try again. A
//! response is a response whatever its status: `404` and `503` are `Ok`. A [`GrpcClient`] has
//! [codes](Error::grpc_code) in their place.
//!
//! [`InvalidClient`] at build time says what to change.
//!
//! # Who looks
//!
//! [`Roof::snapshot`], and so that of a client, tells all that an operator asks, at one moment:
//! deadlines, budget, breaker, throttle and limit of the service, what discovery said last, and
//! of each endpoint its [state](crate::balance::EndpointState), why, since when, and its load. It
//! prints as a table. With the feature `serde` it can be served as JSON, and a page shows it:
//! `cargo run --example operator`.
//!
//! # When the future is dropped
//!
//! The call is given up: its attempt, its connection (HTTP/1.1) or stream (HTTP/2), its permits
//! and its place in flight are freed at once. Nobody is blamed.

mod answer;
mod attempt;
mod builder;
mod calling;
mod check;
mod contents;
mod error;
mod exchange;
mod invalid;
mod layered;
mod limits;
mod parcel;
mod permits;
mod protocol;
mod roof;
mod run;
mod snapshot;
mod stack;

#[cfg(feature = "hyper")]
mod grpc;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "hyper")]
mod service;

pub use self::{
    answer::{Answer, AnswerClassifier, AttemptGuard},
    attempt::{AttemptFuture, Attempts},
    builder::Builder,
    calling::{CallFuture, CallGuard},
    error::{Error, Kind},
    exchange::{Exchange, Outgoing},
    invalid::InvalidClient,
    layered::Layered,
    parcel::{Parcel, ParcelReplayer},
    permits::ServicePermits,
    protocol::Protocol,
    roof::Roof,
    snapshot::{BudgetSnapshot, LimitSnapshot, Refused, Snapshot, ThrottleSnapshot},
    stack::{AttemptBody, Stack},
};
#[cfg(feature = "hyper")]
pub use self::{
    grpc::{GrpcBody, GrpcClient, GrpcSending},
    service::{Client, Sending},
};
