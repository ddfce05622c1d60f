//! Credentials that expire: a refused one is replaced, once for all calls, and the call made
//! again.
//!
//! ```text
//! call ─ token 7 ─► 401 ─┐                                    ┌─ token 8 ─► 200
//! call ─ token 7 ─► 401 ─┼─ fetch ─► token 8, or nobody's 401 ─┼─ token 8 ─► 200
//! call ─ token 7 ─► 401 ─┘    one fetching for all            └─ token 8 ─► 401: the answer
//! ```
//!
//! A refusal means that the request was not carried out (RFC 9110, section 15.5.2: it "has not
//! been applied"), so that it is made again whatever its method, if its body can be sent again.
//! Once: a second refusal is the caller's answer, as is that of a credential which was fetched a
//! moment ago.
//!
//! ```
//! use std::convert::Infallible;
//! use buttress::{BoxError, refresh::{Bearer, RefreshConfig, RefreshLayer}};
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let tokens = Bearer::new(async || {
//!     // Here the program asks its token service.
//!     Ok::<_, BoxError>(String::from("fresh"))
//! });
//! let service = ServiceBuilder::new()
//!     .layer(RefreshLayer::new(RefreshConfig::new(), tokens.token("expired")?))
//!     // retry stands here
//!     .service(service_fn(async |request: Request<_>| {
//!         # let _: &Request<buttress::body::ReplayBody<Full<Bytes>>> = &request;
//!         let known = request.headers()["authorization"] == "Bearer fresh";
//!         let status = if known { 200 } else { 401 };
//!         Response::builder().status(status).body(())
//!     }));
//! let request = Request::post("http://shop/orders").body(Full::new(Bytes::from("an apple")))?;
//! assert_eq!(service.oneshot(request).await?.status(), 200);
//! # Ok(()) }
//! ```
//!
//! # Where it stands
//!
//! Above retry: a refusal says nothing about an endpoint and costs no budget, and every attempt
//! of the second try carries the new credential. Below the idempotency key: the second try is
//! the same call. Below the deadline, which bounds the fetching for each caller who waits.
//!
//! The other answers of "not here", "not yet" need no layer of their own: a 421 is tried again on
//! another connection and a 425 once more, which from here is never in early data. [Retry
//! ](crate::retry) does both, whatever the method, and they cost no budget.
//!
//! # One fetching
//!
//! Nobody in particular does it: of the calls that wait, whichever is polled carries it on. A
//! call that is dropped leaves it to the others; one that all have left is carried on by the
//! next call that is refused, within its limit, since a token service may count each token that
//! it hands out. Calls that are refused meanwhile wait for it; calls that begin meanwhile go out
//! with the credential that there is.
//!
//! A fetching that goes through the layer itself, and is refused there, would wait for itself: it
//! fails. (One that does so in a task of its own is not found out, and ends at its limit.)
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | what is stale | [`Unauthorized`]: 401, gRPC's `UNAUTHENTICATED` in the head | any [`Stale`] | what the standards say |
//! | a fetching may take | [10 s](DEFAULT_LIMIT) | above 0 | as long as an attempt |
//! | pause until the next | [1 s](DEFAULT_PAUSE) | 0 and more | a token lives for minutes |
//! | body kept for the second try | [64 KiB](crate::call::DEFAULT_REPLAY_CAP) | 0 and more | as for retries |
//!
//! # Cost
//!
//! For a call that is not refused, the copy of the request and one lock for the credential.
//!
//! # Errors
//!
//! - [`RefreshFailed`]: no new credential came. All who waited have it, and so have those who
//!   are refused during the pause after it; the error of the fetching is among its sources.
//! - [`RefreshTimedOut`], as such a source: the fetching took longer than its limit.
//!
//! Where no second try can be made (its body is gone, the deadline has passed, the service is
//! not ready) the refusal is the answer, as the last real one.
//!
//! # When the future is dropped
//!
//! It gives up its place among those who wait, and wakes another.
//!
//! # Events
//!
//! [`Event::CredentialRefreshed`](crate::Event::CredentialRefreshed),
//! [`CredentialRefreshFailed`](crate::Event::CredentialRefreshFailed) once for each fetching, and
//! [`CredentialRefused`](crate::Event::CredentialRefused) for each refusal that is the answer.

mod config;
mod credential;
mod desk;
mod error;
mod future;
mod layer;
mod service;
mod state;
mod waiters;

pub use self::{
    config::{DEFAULT_LIMIT, DEFAULT_PAUSE, InvalidRefresh, RefreshConfig},
    credential::{
        Apply, Bearer, BearerFuture, InvalidToken, Refresh, RefreshFn, Stale, Unauthorized,
    },
    error::{RefreshFailed, RefreshTimedOut},
    future::RefreshFuture,
    layer::RefreshLayer,
    service::RefreshService,
    state::{Awaited, Held, Keeper, Refusal},
};
