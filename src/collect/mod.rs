//! Reads the response's body within the attempt, so that a body that stalls or breaks off is a
//! failure like any other.
//!
//! A response's head says little about its body: a service may answer `200 OK` and fall silent.
//! An attempt that ends at the head can't be made again then, as the caller has half of a
//! response already. Where bodies are small, this layer has the attempt end when the body does:
//! the attempt timeout above it bounds both, and a retry makes both anew.
//!
//! ```text
//! ├──────────── attempt timeout ───────────┤
//! ├─ head ─┼─ body … fits the cap ─────────┤ ──> whole in memory
//! ├─ head ─┼─ body … goes past the cap ┤ ──────> what was read, then the rest as it comes
//! ├─ head ─┼─ body … breaks off ┤ ─────────────> BrokenBody
//! ```
//!
//! ```
//! use buttress::{body::Body, collect::CollectLayer};
//! use http::{Request, Response};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .layer(CollectLayer::always())
//!     .service(service_fn(async |_: Request<()>| {
//!         Ok::<_, buttress::BoxError>(Response::new(Body::new(Body::from("hello"))))
//!     }));
//! let response = service.ready().await?.call(Request::new(())).await?;
//! assert_eq!(response.body().as_bytes(), Some(&b"hello"[..]));
//! # Ok(()) }
//! ```
//!
//! # Which bodies
//!
//! Those of calls whose words say [`BodyMode::Collected`], and with [`CollectLayer::always`]
//! those that say nothing. A body that is meant to last is never collected. What judges
//! responses above this layer reads the same words: it settles a verdict at the head where the
//! words say `Collected`, and at the end of the body where they don't.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`DEFAULT_CAP`] | 1 MiB | any; 0 collects empty bodies only | far above what a call that is answered by one message gets, and a thousand at once fit in 1 GiB |
//! | [`CollectConfig::always`] | no | | it changes when the caller sees the head |
//!
//! # Past the cap
//!
//! Not an error, as the service did its work: the attempt ends there, and the caller gets the
//! body with all that was read, and the rest as it comes. A body that announces a length above
//! the cap is not touched at all.
//!
//! # Cost
//!
//! None for an empty body or one that comes in one piece; one buffer for more pieces, one box
//! for trailers. A body that is passed on as a stream is boxed.
//! Bodies have to be [`Unpin`], as one that goes past the cap has to move on; box those that are not.
//!
//! # Errors
//!
//! [`BrokenBody`], if the body failed before its end: it may have happened. That replaces the
//! response, whatever its status was, with the `Retry-After` it may have had.
//!
//! # When the future is dropped
//!
//! So is the body, as far as it was read.
//!
//! [`BodyMode::Collected`]: crate::call::BodyMode::Collected

mod config;
mod error;
mod future;
mod layer;
mod over;
mod service;
mod state;

pub(crate) use self::future::Collecting;
pub use self::{
    config::{CollectConfig, DEFAULT_CAP},
    error::BrokenBody,
    future::CollectFuture,
    layer::CollectLayer,
    service::Collect,
};
