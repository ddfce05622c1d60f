//! The other side of idempotency keys: a server's layer that carries out each key once.
//!
//! [`HonourLayer`] stands over a service of HTTP requests and honours the header
//! `Idempotency-Key` as the IETF's draft asks for it
//! (draft-ietf-httpapi-idempotency-key-header-07). The first request of a key is carried out and
//! its answer kept; whoever comes with the same key again gets that answer.
//!
//! ```text
//!                     ┌─ new ────────── carry out ── final ──> keep the answer, tell it
//!                     │                            └ not ────> free the key, tell the answer
//! key ── store ───────┼─ answered ────> the answer again, with Idempotent-Replayed: true
//!                     ├─ at work ─────> 409 with Retry-After, or wait for the answer
//!                     ├─ another load > 422
//!                     └─ unknown ─────> 500 "the outcome is unknown", or carry out again
//! ```
//!
//! ```
//! use std::{convert::Infallible, sync::atomic::{AtomicU32, Ordering}};
//! use buttress::{body::Body, idempotency::server::{HeldBody, HonourLayer, REPLAYED}};
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! static CHARGES: AtomicU32 = AtomicU32::new(0);
//! let mut service = ServiceBuilder::new()
//!     .layer(HonourLayer::in_memory())
//!     .service(service_fn(async |_: Request<HeldBody<Body>>| {
//!         let number = CHARGES.fetch_add(1, Ordering::Relaxed) + 1;
//!         Ok::<_, Infallible>(Response::new(Body::from(format!("charge {number}"))))
//!     }));
//!
//! for again in [false, true] {
//!     let request = Request::post("/charges")
//!         .header("Idempotency-Key", "\"order-17\"")
//!         .body(Body::from("amount=20"))?;
//!     let response = service.ready().await?.call(request).await?;
//!     assert_eq!(response.headers().contains_key(REPLAYED), again);
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "charge 1");
//! }
//! # Ok(()) }
//! ```
//!
//! It fits over any `Service<Request<B>, Response = Response<C>>`, so under hyper and in axum's
//! `Router::layer`. The service gets its body as a [`HeldBody`].
//!
//! # What it promises, and what it can't
//!
//! As long as a key is remembered:
//!
//! - of all requests of one key and payload that come to all processes that share a store, no two
//!   are carried out at the same time, and after one that ended with a final answer none is;
//! - whoever gets an answer gets that of the one that was carried out.
//!
//! Leases end by the wall clocks of the processes that share a store: with [`Lapse::Execute`] they
//! have to agree to well within a lease, or a key may be taken from who is still at work. (Its
//! transaction then finds out; see below.)
//!
//! Between *doing* and *writing down that it was done* any process may die. No layer can mend
//! that from outside of the work. What it does instead depends on what the service can say of
//! itself:
//!
//! **A service whose work is one transaction** makes it whole. Its [`Store`] is in the same
//! database; the handler takes its [`Token`] from the request's extensions and settles the key
//! with its answer *in its own transaction*. Then work and answer are there both or neither, and
//! with [`Lapse::Execute`] what has no answer once its lease ended is carried out by the next
//! request that comes: exactly once, whatever dies when. A handler that was only slow finds in
//! its transaction that its token is [`Superseded`](Settled::Superseded), and has to roll back.
//! The example `idempotent_server` does all of it, and its test kills the process at both points.
//!
//! **Any other service** (one that calls another one, say) can't know after a crash. It gets the
//! default, [`Lapse::Fail`]: the next requests of the key are told 500 and a problem
//! (`"code":"outcome_unknown"`) that says so, until the key is forgotten. Work that may have been
//! done is never done again. To find out is left to people, or to a program that settles the key
//! in the store with what it found. (A client that repeats a 500 to a call with a key, as those of
//! this crate do, is told the same again, which does no harm.)
//!
//! Not promised at all: that a request is carried out once that comes again after the key was
//! forgotten; that a service that answers 500 has done nothing (see below); anything for
//! requests without a key.
//!
//! # Which answers are kept
//!
//! Those of which the same request would get the same again: 2xx, 3xx and most of 4xx
//! ([`is_final`]). After a 5xx, a 429, a 408 and their like the key is free, and the next request
//! is carried out: a handler that answers so says that it did nothing, or nothing that a
//! repetition would do twice. Stripe's first API chose otherwise and keeps whatever was answered
//! once execution began, a 500 too (its second one carries out again what failed):
//! [`HonourConfig::finals`] with `|_| true`. Clients then should not repeat a 500
//! ([`HttpClassifier::retry_500`](crate::classify::HttpClassifier::retry_500)). An error that the
//! service returns in place of a response counts as a 500 of which there is nothing to keep.
//!
//! An answer is kept whole, so it is read to its end before its caller sees it: no place for
//! streams. Its trailers reach the first caller, and are not kept.
//!
//! # Keys
//!
//! An Item of structured fields of type String (RFC 9651), 1 to
//! [`MAX_KEY`](super::MAX_KEY) characters long, in one line; its parameters mean nothing.
//! [`HonourConfig::accept_bare`] takes the bare form of Stripe and others as well. A key belongs
//! to its **scope**, by default method and path: a service with several customers has to set
//! [`HonourConfig::scope`]. Two payloads are the same if their [`Fingerprint`]s are: SHA-256 of
//! method, path with query, and body, the same for ever and everywhere.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`header`](HonourConfig::header) | `Idempotency-Key` | any that HTTP leaves free | the draft |
//! | [`accept_bare`](HonourConfig::accept_bare) | no | | the draft; yes for Stripe's clients |
//! | [`methods`](HonourConfig::methods) | POST, PATCH | any | those that HTTP does not define as idempotent |
//! | [`required`](HonourConfig::required) | no | | a service must have said so first |
//! | [`docs`](HonourConfig::docs) | the draft | any absolute URI | "a link pointing to the relevant documentation" |
//! | [`scope`](HonourConfig::scope) | method and path | any function of the head | knows no customers |
//! | [`payload`](HonourConfig::payload) | read, up to [1 MiB](DEFAULT_BODY_CAP) | any, or ignored | what is paid for is small |
//! | [`concurrent`](HonourConfig::concurrent) | 409 at once | or wait, up to a limit | the draft |
//! | [`retry_after`](HonourConfig::retry_after) | [1 s](DEFAULT_RETRY_AFTER) | whole seconds, at least 1 | the least that can be said |
//! | [`lease`](HonourConfig::lease) | [60 s](DEFAULT_LEASE) | above 0, below the retention | twice what a call may take |
//! | [`retention`](HonourConfig::retention) | [24 h](DEFAULT_RETENTION) | above the lease | Stripe |
//! | [`lapse`](HonourConfig::lapse) | [`Fail`](Lapse::Fail) | or 409, or execute | the only one that is safe for every service |
//! | [`finals`](HonourConfig::finals) | [`is_final`] | any | a failure may pass |
//! | [`kept_headers`](HonourConfig::kept_headers) | [`is_kept`] | any | what is of one message is not of the answer |
//! | [`answer_cap`](HonourConfig::answer_cap) | [1 MiB](DEFAULT_ANSWER_CAP) | any | far above a usual answer |
//! | [`MemoryStore`] | [64 MiB](DEFAULT_CAPACITY) | any | some 100,000 keys |
//!
//! Clients of this crate repeat a 409 after its `Retry-After`, and three times in all. Where the
//! work takes seconds and callers are impatient, [`Concurrent::Wait`] a little shorter than their
//! timeout spares them that.
//!
//! # Problems
//!
//! What the layer says itself is `application/problem+json` (RFC 9457) with the draft's titles,
//! the link, and a member `code`, which is stable:
//!
//! | code | status | carried out? |
//! |---|---|---|
//! | `idempotency_key_missing`, `idempotency_key_invalid` | 400 | no |
//! | `request_body_broken` | 400 | no |
//! | `request_body_too_large` | 413 | no |
//! | `idempotency_key_reused` | 422 | not this payload |
//! | `request_outstanding` | 409, `Retry-After` | at this moment |
//! | `outcome_unknown` | 500, or 409 by [`Lapse::Conflict`] | nobody knows |
//! | `answer_not_kept` | 410 | yes, its answer was longer than the cap |
//! | `idempotency_unavailable` | 503, `Retry-After` | no: the store failed |
//!
//! # Errors
//!
//! The service's own, as they are; the layer has none, so that axum's `Infallible` stays one. A
//! store that fails before the work is a 503, and nothing is carried out. One that fails
//! after it is an event: the caller gets the answer, which is true, and the key lapses with its
//! lease. A handler's panic reaches its caller as a panic.
//!
//! # When the future is dropped
//!
//! **Work that began is finished.** To take the key, to do the work and to settle the key is on a
//! task of its own, which goes on when the caller hangs up (hyper drops the future then): the
//! caller will come again with the same key, and finds the answer. Nothing is left running for
//! ever: past its lease a handler is dropped, and its outcome is unknown; so is that of one that
//! panicked, at once, and of a process that died, when the lease ends. A future that still reads
//! the request's body, or waits for another one's answer, just ends.
//!
//! # Costs
//!
//! A request without a key: nothing. One with a key: a task, a box, the key and its scope, a copy
//! of the answer's headers, and whatever the store does; its body and its answer lie in memory
//! until both are through, also while it waits, so it belongs beneath a limit of concurrency. The service and its futures have to be
//! `Send` and `'static`, as the task may outlive its caller, and bodies [`Unpin`], as one that
//! passes a cap has to move on; a tokio runtime has to be there. The instance that was polled is
//! the one that is called; while a request waits for another it gives up its instance, and with
//! it what that may have reserved.
//!
//! # Events
//!
//! [`Event::KeyReplayed`](crate::Event::KeyReplayed), for each problem
//! [`Event::KeyNotHonoured`](crate::Event::KeyNotHonoured), and
//! [`Event::KeyStoreFailed`](crate::Event::KeyStoreFailed).

mod answer;
mod bells;
mod body;
mod config;
mod docs;
mod encode;
mod error;
mod fingerprint;
mod future;
mod layer;
mod memory;
mod problem;
mod service;
mod sha256;
mod state;
mod store;
mod visit;
mod wire;
mod work;

pub use self::{
    answer::Answer,
    body::HeldBody,
    config::{
        Concurrent, DEFAULT_ANSWER_CAP, DEFAULT_BODY_CAP, DEFAULT_LEASE, DEFAULT_RETENTION,
        DEFAULT_RETRY_AFTER, HonourConfig, Lapse, Payload, is_final, is_kept,
    },
    encode::Malformed,
    error::InvalidHonour,
    fingerprint::{Fingerprint, KeyId},
    future::HonourFuture,
    layer::HonourLayer,
    memory::{DEFAULT_CAPACITY, Full, MemoryStore},
    service::Honour,
    state::{Change, Record},
    store::{Begin, Claim, Outcome, Settled, Store, Token},
    work::REPLAYED,
};
