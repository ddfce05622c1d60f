//! What calls of gRPC need beside the layers that serve them as they serve HTTP.
//!
//! The judge of gRPC's answers is the
//! [`GrpcClassifier`](crate::classify::GrpcClassifier), and its throttle are terms of the
//! [`Budget`](crate::budget::Budget): retry, breaker and balancer take them as they are. Here are
//! two small layers that stand below the retry:
//!
//! - [`PeekLayer`] waits for the first frame of an answer. gRPC says how a call ended in the
//!   trailers, after a head that always says 200. A server that wrote a head first and failed
//!   then has answered with a head and trailers and nothing between, which a retry can't see
//!   until it is too late. This layer makes one head of the two.
//! - [`AttemptHeaderLayer`] tells the server how many attempts came before this one. It serves
//!   HTTP as well.
//!
//! [`GrpcClient`](crate::client::GrpcClient) has all of it; this is for who puts layers together
//! himself.
//!
//! ```text
//! head ─┬─ has the status, or can have none ──────────────> head              (as it came)
//!       └─ wait for a frame ┬─ trailers: a failure ───────> head + trailers   (may be retried)
//!                           ├─ a message, or all is well ─> head, frame, …    (committed)
//!                           ├─ breaks off ────────────────> BrokenAnswer      (may be retried)
//!                           └─ patience is over ──────────> head, …           (committed)
//! ```
//!
//! ```
//! use buttress::{
//!     BoxError, body::Body,
//!     budget::Budget, algo::bucket::Tariff,
//!     call::Words,
//!     classify::{GrpcClassifier, GrpcCode},
//!     grpc::{AttemptHeaderLayer, PeekLayer},
//!     retry::{RetryConfig, RetryLayer},
//! };
//! use http::{HeaderMap, Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let config = RetryConfig::new().max_attempts(4)?.budget(Budget::new(Tariff::grpc(10, 100)?));
//! let lookup = ServiceBuilder::new()
//!     .layer(RetryLayer::new(config, GrpcClassifier::new()))
//!     .layer(PeekLayer::new())
//!     .layer(AttemptHeaderLayer::grpc())
//!     .service(service_fn(async |request: Request<_>| {
//!         // A server that fails at first, after it has sent its head.
//!         let again = request.headers().contains_key("grpc-previous-rpc-attempts");
//!         let status = if again { "0" } else { "14" };
//!         let trailers = HeaderMap::from_iter([("grpc-status".parse()?, status.parse()?)]);
//!         Ok::<_, BoxError>(Response::new(Body::with_trailers(if again { "rate" } else { "" }, trailers)))
//!     }));
//! let mut request = Request::post("http://rates/rates.Rates/Get").body(Body::empty())?;
//! request.extensions_mut().insert(Words::new().idempotent(true));
//! let response = lookup.oneshot(request).await?;
//! assert_eq!(GrpcCode::of(response.headers()), None, "its status comes in the trailers");
//! # Ok(()) }
//! ```
//!
//! # Which answers are waited for
//!
//! Those with a head of HTTP 200 that names no status and has not ended. Not those of calls whose
//! body is [meant to last](crate::call::Words::lasting_body), unless the layer is
//! [told to](PeekLayer::lasting): a server may send its head at once and its first message in an
//! hour, and the caller would see the head only then. A service with such methods whose calls
//! don't say so must not stand below this layer, or it must get a little
//! [`patience`](PeekLayer::patience): then a head waits that long and no longer.
//!
//! A caller that needs the head to go on (a bidirectional stream whose next request depends on
//! the answer's metadata) would wait for a frame that the server does not send before it: those
//! are streams that are meant to last as well.
//!
//! # Where it stands
//!
//! Below retry, as that has to see what it makes. Below the attempt timeout, which ends at the
//! head: it then bounds the wait for the first frame as well. Breaker and balancer may stand on
//! either side.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | waits for the first frame of streams that are meant to last | no | | their heads may come long before |
//! | patience | none | 0 and more | the attempt timeout bounds it, and a call that is answered by one message gets its head and that message together |
//!
//! # Cost
//!
//! No allocation and no copy: the frame that was waited for is put back as it came. A response's
//! body has to be [`Unpin`], as it moves on when its first frame has come; box those that are
//! not.
//!
//! # Errors
//!
//! [`BrokenAnswer`], if the answer broke off before its first frame: it may have happened. What
//! breaks off later is the caller's to see.
//!
//! # When the future is dropped
//!
//! So is the answer that it waits for.

#[cfg(feature = "hyper")]
mod answer;
mod attempt;
mod error;
mod future;
mod peek;
mod peeked;

#[cfg(feature = "hyper")]
pub(crate) use self::answer::trailers;
pub use self::{
    attempt::{
        AttemptHeader, AttemptHeaderLayer, AttemptHeaderService, DEFAULT_ATTEMPT_HEADER,
        InvalidAttemptHeader,
    },
    error::BrokenAnswer,
    future::PeekFuture,
    peek::{Peek, PeekLayer},
    peeked::Peeked,
};
