//! Idempotency keys: a call that may have been carried out can be made again, and counts once.
//!
//! [`IdempotencyLayer`] gives each POST and PATCH a key in its headers, once for the whole
//! call. It stands above retry and hedge, so that every attempt of a call carries the same key
//! and the service can tell a repetition from a new call.
//!
//! ```text
//!                      ┌─ attempt 1   Idempotency-Key: "0199…a1" ─ charged, the answer lost
//! POST ─ key ─ retry ──┤
//!                      └─ attempt 2   Idempotency-Key: "0199…a1" ─ the stored answer
//! ```
//!
//! **To add the layer is your word that the service honours keys.** No client can find that
//! out by itself. A service that ignores the header carries out each attempt, and a call whose
//! answer was lost is made twice. So [`Client`](crate::client) adds the layer only when asked.
//!
//! For services of your own, [`server`] has the other half: a layer that keeps that promise.
//!
//! With its key a call is [`keyed`](crate::call::Words::keyed), which retry takes for leave to repeat it
//! when its outcome is unknown, whatever its method. What the service answers is judged by
//! [`HttpClassifier`]:
//!
//! | answer | meaning | what follows |
//! |---|---|---|
//! | 409 to a keyed call | the first attempt is still being carried out | asked again, after a wait |
//! | 422 | the key came before, with another payload | handed to the caller |
//! | 400 | the service demands a key, or can't read this one | handed to the caller |
//! | 5xx | some services store it and replay it for the key ([`HttpClassifier::retry_500`]) | by the table there |
//!
//! ```
//! use std::convert::Infallible;
//! use buttress::idempotency::IdempotencyLayer;
//! use http::{Request, Response};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .layer(IdempotencyLayer::default())
//!     .service(service_fn(async |request: Request<String>| {
//!         let key = request.headers()["idempotency-key"].clone();
//!         Ok::<_, Infallible>(Response::new(key))
//!     }));
//!
//! let charge = Request::post("/charges").body(String::from("amount=20"))?;
//! let key = service.ready().await?.call(charge).await?.into_body();
//! assert_eq!(key.len(), 38); // a UUID in quotation marks
//!
//! // A caller who knows better brings a key: it is left alone.
//! let charge = Request::post("/charges")
//!     .header("Idempotency-Key", "\"order-17\"")
//!     .body(String::from("amount=20"))?;
//! assert_eq!(service.ready().await?.call(charge).await?.into_body(), "\"order-17\"");
//! # Ok(()) }
//! ```
//!
//! A key that is made here lives as long as its call. If the *caller* will try again later,
//! after a restart even, only a key of the caller's own, stored with the order, protects it.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`header`](IdempotencyConfig::header) | `Idempotency-Key` | any that HTTP leaves free | the IETF's draft, and Stripe |
//! | [`quoting`](IdempotencyConfig::quoting) | [`Quoted`](Quoting::Quoted) | or [`Bare`](Quoting::Bare) | the draft; Stripe and most others want [`Bare`](Quoting::Bare) |
//! | [`methods`](IdempotencyConfig::methods) | POST, PATCH | any | those that HTTP does not define as idempotent |
//! | [`generator`](IdempotencyConfig::generator) | UUID version 7 | 1 to [`MAX_KEY`] visible ASCII characters | RFC 9562: 62 random bits, and services that index keys like them in the order of time |
//!
//! A header of the caller's that holds no key (it is empty, or stands twice) goes out as it
//! is, and the call does not count as keyed.
//!
//! # Costs
//!
//! One allocation for each key, which all attempts share, and what the header map needs to
//! grow. [`http::Request`] as the carrier allocates for its extensions too; a
//! [`Call`](crate::call::Call) does not.
//!
//! # Errors
//!
//! In both the service was not called.
//!
//! - [`InvalidKey`]: a generator of your own made a key that can't be sent.
//! - [`BelowRetry`]: the layer stands below retry or hedge, in the wrong order.
//!
//! # When the future is dropped
//!
//! What is below is dropped with it; the key is not used again. The call may have been carried
//! out.
//!
//! [`HttpClassifier`]: crate::classify::HttpClassifier
//! [`HttpClassifier::retry_500`]: crate::classify::HttpClassifier::retry_500

mod config;
mod error;
mod future;
mod item;
mod key;
mod layer;
pub mod server;
mod service;
mod uuid;

pub(crate) use self::service::see_to_key;
pub use self::{
    config::{DEFAULT_HEADER, DEFAULT_METHODS, IdempotencyConfig, InvalidIdempotency, Quoting},
    error::{BelowRetry, InvalidKey},
    future::KeyedFuture,
    key::MAX_KEY,
    layer::IdempotencyLayer,
    service::Idempotency,
};
