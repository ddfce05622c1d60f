//! Retries: another attempt, elsewhere, after a while, as long as somebody pays for it.
//!
//! ```text
//!            ┌──────────────────────────── backoff ◄───────────────┐
//!            ▼                                                     │ granted
//! call ─► attempt ─► verdict ─► may it? ─► attempts left? ─► time left? ─► budget?
//!                       │          no           no               no          no
//!                       └─ success └────────────┴───────┬────────┴───────────┘
//!                              ▼                        ▼
//!                          response        the last real response or error
//! ```
//!
//! Whether a failure may be tried again follows from its [`Verdict`](crate::classify::Verdict):
//! never for one that would
//! end the same, always for a request that was provably not carried out, and otherwise only for
//! a request that is safe to repeat: its method is idempotent, it carries an idempotency key
//! ([`Words::keyed`](crate::call::Words::keyed)), or the caller said so
//! ([`Words::idempotent`](crate::call::Words::idempotent)). A `POST` without a key is not
//! replayed.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use buttress::{BoxError, classify::PlainClassifier, retry::{RetryConfig, RetryLayer}};
//! use buttress::call::{Call, Words};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::new(RetryConfig::new(), PlainClassifier::new()))
//!     .service(service_fn(async |call: Call<&'static str>| {
//!         match CALLS.fetch_add(1, Ordering::Relaxed) {
//!             0 => Err::<String, BoxError>("a hiccup".into()),
//!             _ => Ok(format!("{} at attempt {}", call.request, call.words.attempt)),
//!         }
//!     }));
//! let call = Call::with_words("read", Words::new().idempotent(true));
//! assert_eq!(service.oneshot(call).await?, "read at attempt 2");
//! # Ok(()) }
//! ```
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | attempts, the first included | [3](DEFAULT_ATTEMPTS) | 1 and more | SRE book; AWS |
//! | backoff | full jitter, [50 ms](crate::algo::backoff::DEFAULT_BASE) doubling to [20 s](crate::algo::backoff::DEFAULT_CAP) | base above 0, at most the cap | AWS, retry 2.1 |
//! | budget | [500 tokens](crate::algo::bucket::Tariff), 14 a retry | | AWS, retry 2.1 |
//! | body kept for replay | [64 KiB](DEFAULT_REPLAY_CAP) | 0 and more | covers nearly every call that is not an upload |
//! | answer read between attempts | [16 KiB](DEFAULT_DRAIN_LIMIT) | 0 and more | Chromium; error pages are shorter |
//! | wait that the service may ask for | [5 s](DEFAULT_PUSHBACK_CAP) above our own | 0 and more | AWS, retry 2.1 |
//!
//! # `Retry-After`
//!
//! A wait that the service asks for is followed between our own backoff and the cap above it,
//! with jitter `U(x, 1.5x)` (Envoy), so that the callers don't return together. Where a
//! balancer chose the endpoint, the wish is that endpoint's: the balancer sets it aside, and
//! the retry goes elsewhere after our own backoff. A refusal by this program itself (an open
//! breaker) says exactly when to ask again: it is waited for if that lies within the cap and the
//! deadline, and not at all otherwise.
//!
//! # Unprocessed
//!
//! A request that a server which works has provably not looked at (HTTP/2's `REFUSED_STREAM`, a
//! stream above the last id of a `GOAWAY`, a pooled connection that had died) is sent again
//! whatever its method, and counts as no attempt and costs no budget: the first time at once,
//! then after the backoff, of [a second](LONGEST_TRANSPARENT_WAIT) at most, until the deadline
//! (gRPC's transparent retries, proposal A6, stop after the first). A server that closes each
//! connection after so many requests does that to many calls a second. A call that may make one
//! attempt is no exception: it has not been made yet. [`RetryConfig::transparent`] switches it
//! off.
//!
//! # The answer that failed
//!
//! What is left of its body is read while the call backs off, up to a
//! [limit](RetryConfig::drain_limit), as an HTTP/1 connection can't be used again before. Nobody
//! waits for it: when the backoff is over the next attempt is made, over another connection if
//! need be. An answer that was read to its end has given back its place at its endpoint (the
//! breaker's permit, the balancer's count) as well; one that is too long or too slow holds them
//! until the next attempt has ended. It is kept until then, as far as it was read and with the
//! rest, since it is handed out if that attempt is refused by this program itself, or not made.
//!
//! # Above a hedge
//!
//! Two attempts that [raced](crate::hedge) each other and failed are one to the limits: to
//! [`max_attempts`](RetryConfig::max_attempts) and to the backoff. The second was paid for by the
//! hedge. In the history they are two, and the attempts after them go on counting, to endpoints
//! that neither went to.
//!
//! # Policies of their own
//!
//! One layer may hold several [policies](Policy): for calls whose words name a
//! [route](crate::call::Words::route), see [`RetryConfig::route`], and one that changes at run
//! time, see [`RetryConfig::live`].
//!
//! # Too late
//!
//! No further attempt is begun that would have to be cut off: where half of the good answers of
//! the last half minute took longer than what is left of the deadline after the wait, the call
//! ends now ([`StopReason::TooLate`]), and leaves the service to those who still have time. One
//! good answer in eight is measured for it. See [`RetryConfig::begin_late`].
//!
//! # Errors
//!
//! When no further attempt is made the caller gets the last real outcome: a response as it is
//! (with its [`Attempts`](crate::call::Attempts) in the extensions), or [`GaveUp`] around the
//! error. A refusal by this program itself (an open breaker, no endpoint) never hides what an
//! earlier attempt met. Neither a response nor an error that was given up is tried again by a
//! further retry above.
//!
//! # When the future is dropped
//!
//! The attempt under way is dropped with it. A retry that had been paid for is not refunded; one
//! that this program itself refused, or could not begin, is.
//!
//! # Events
//!
//! [`Event::Retrying`](crate::Event::Retrying) and [`Event::GaveUp`](crate::Event::GaveUp).

mod config;
mod error;
mod future;
mod layer;
mod ongoing;
mod outcome;
mod past;
mod policies;
mod service;
mod state;
mod usual;

pub use self::{
    config::{
        DEFAULT_ATTEMPTS, DEFAULT_DRAIN_LIMIT, DEFAULT_PUSHBACK_CAP, InvalidRetry, RetryConfig,
    },
    error::GaveUp,
    future::RetryFuture,
    layer::RetryLayer,
    policies::LivePolicy,
    service::Retry,
    state::{Decision, Failure, LONGEST_TRANSPARENT_WAIT, Policy, StopReason},
};
pub(crate) use self::{
    layer::Rules,
    ongoing::{Ongoing, Terms},
};
pub use crate::{
    budget::{Budget, Deposit},
    call::DEFAULT_REPLAY_CAP,
};
