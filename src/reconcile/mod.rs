//! "Did it happen?": looks up the calls that ended without an answer to that.
//!
//! A call that times out, breaks off or meets a 504 may have been carried out, and no retry can
//! tell. Where the service can be asked, this layer does, before its caller gets the error:
//!
//! ```text
//! call ─► answer, or an error that says what happened ──────────────► as it is
//!   └──► may have been carried out ─► lookup ─┬─ found ─────────────► the answer that was found
//!                                       ▲     ├─ not carried out ───► NotCarriedOut: sent() is no
//!                                       │     ├─ it failed, too late ► StillUnknown: maybe, as before
//!                                       └─ wait ─ running
//! ```
//!
//! ```
//! use std::{convert::Infallible, future::pending, time::Duration};
//! use buttress::{
//!     BoxError,
//!     classify::HttpClassifier,
//!     idempotency::IdempotencyLayer,
//!     reconcile::{Answer, ByKey, Conclusion, ReconcileConfig, ReconcileLayer, Reconciled},
//!     timeout::DeadlineLayer,
//! };
//! use bytes::Bytes;
//! use http::{HeaderValue, Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let by_key = ByKey::new(async |key: HeaderValue, _| {
//!     // Here the program asks the service for the charge of this key.
//!     assert_eq!(key.len(), 38);
//!     Ok::<_, BoxError>(Answer::Found(Response::new(Full::<Bytes>::from("charged"))))
//! });
//! let service = ServiceBuilder::new()
//!     .layer(IdempotencyLayer::default())
//!     .layer(ReconcileLayer::new(ReconcileConfig::new(), by_key, HttpClassifier::new()))
//!     .layer(DeadlineLayer::new(Duration::from_secs(1))?)
//!     // retry stands here
//!     .service(service_fn(async |_: Request<()>| {
//!         // It charges, and its answer is lost.
//!         pending::<Result<Response<Full<Bytes>>, Infallible>>().await
//!     }));
//! let response = service.oneshot(Request::post("http://shop/charges").body(())?).await?;
//! let reconciled = response.extensions().get::<Reconciled>().expect("it was looked up");
//! assert_eq!(reconciled.conclusion, Conclusion::Found);
//! # Ok(()) }
//! ```
//!
//! # Where it stands
//!
//! `key ─ reconcile ─ deadline ─ retry`. Above the deadline, because a call that runs out of time
//! is the one that most needs it; below the deadline it would be dropped at that very moment. So
//! the lookups have a small limit of their own, the grace, which a call may last beyond the
//! [`DeadlineLayer`](crate::timeout::DeadlineLayer) beneath. A deadline that came with the call
//! ([`Words::deadline`](crate::call::Words::deadline)) holds for the lookups as well: whoever set
//! it is gone when it has passed. Below the key, so that it finds it in the request; making a key
//! takes no time, so the deadline does not have to stand above that.
//!
//! # What is looked up
//!
//! Calls for which the [`Lookup`] has an id ([`ByKey`]: those with an idempotency key), and of
//! which the classifier says in the end that they failed and [may have been carried out
//! ](crate::classify::Sent::Maybe). A lookup has to be sure: it says [`Answer::NotCarriedOut`]
//! only if no attempt can be under way any more, else [`Answer::Running`].
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | grace, all lookups and waits together | [2 s](DEFAULT_GRACE) | above 0 | a few reads of a slow service |
//! | lookups, the first included | [5](DEFAULT_LOOKUPS) | 1 and more | what fits the grace |
//! | wait while it is running | full jitter, [100 ms](DEFAULT_WAIT) doubling to [1 s](DEFAULT_WAIT_CAP) | base above 0, at most the cap | it runs a while yet |
//!
//! # Cost
//!
//! For a call that is answered, a copy of its id (a key is shared, not copied).
//!
//! # Errors
//!
//! - [`NotCarriedOut`] around the call's error; its verdict says [`Sent::No`], where the call's
//!   own says "maybe".
//! - [`StillUnknown`] around the call's error, with that of the lookup if it failed. The verdict
//!   stays that of the call.
//!
//! A *response* that said too little (a 504) stays the caller's answer if none was found, with
//! [`Reconciled`] in its extensions.
//!
//! # When the future is dropped
//!
//! The call or the lookup under way is dropped with it. No lookup goes on in the background.
//!
//! # Events
//!
//! [`Event::Reconciled`](crate::Event::Reconciled), once for each call that was looked up.
//!
//! [`Sent::No`]: crate::classify::Sent::No

mod body;
mod conclusion;
mod config;
mod error;
mod future;
mod layer;
mod lookup;
mod state;

pub use self::{
    body::ReconciledBody,
    conclusion::{Conclusion, Http, Joined, Plain, Reconciled},
    config::{
        DEFAULT_GRACE, DEFAULT_LOOKUPS, DEFAULT_WAIT, DEFAULT_WAIT_CAP, InvalidReconcile,
        ReconcileConfig,
    },
    error::{NotCarriedOut, StillUnknown},
    future::ReconcileFuture,
    layer::{Reconcile, ReconcileLayer},
    lookup::{Answer, ById, ByKey, Lookup, Round},
    state::Patience,
};
