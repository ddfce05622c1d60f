//! Hedging: a second attempt that races one which is slow.
//!
//! ```text
//! first   ├───────────────────────────────────────✕ cancelled
//! second          ├── delay ──┼──────────► the first success wins
//! ```
//!
//! When an attempt has not answered after a delay, a second one is sent, to another endpoint
//! where a balancer stands beneath. The first success wins, the other is dropped and frees what
//! it held. A failure before the delay is a failure: that is for [retry](crate::retry), which
//! stands above. (J. Dean, L. Barroso: "The Tail at Scale", CACM 2013; Finagle's
//! `BackupRequestFilter`.)
//!
//! Only a call that is safe to repeat is hedged: its method is idempotent, it carries an
//! idempotency key, or the caller said so. Every hedge is paid from the same
//! [`Budget`](crate::budget::Budget) as the retries.
//!
//! ```
//! use std::time::Duration;
//! use buttress::{BoxError, classify::PlainClassifier, call::{AttemptKind, Call, Words}};
//! use buttress::{budget::Budget, hedge::{HedgeConfig, HedgeLayer}};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let config = HedgeConfig::after(Duration::from_millis(20))?.budget(Budget::default());
//! let service = ServiceBuilder::new()
//!     .layer(HedgeLayer::new(config, PlainClassifier::new()))
//!     .service(service_fn(async |call: Call<&'static str>| match call.words.kind {
//!         AttemptKind::Hedge => Ok::<_, BoxError>("the second"),
//!         _ => std::future::pending().await,
//!     }));
//! let call = Call::with_words("read", Words::new().idempotent(true));
//! assert_eq!(service.oneshot(call).await?, "the second");
//! # Ok(()) }
//! ```
//!
//! # Settings
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | delay | none: it has to be said | above 0 | near the p95 of the service: 5 % more calls |
//! | budget | one of its own | | give it the retry's, so that both share one |
//! | body kept | [64 KiB](DEFAULT_REPLAY_CAP) | 0 and more | as for retries |
//!
//! # When the future is dropped
//!
//! Both attempts are dropped with it.
//!
//! # Events
//!
//! [`Event::Hedged`](crate::Event::Hedged).

mod config;
mod future;
mod layer;

pub use self::{
    config::{HedgeConfig, InvalidHedge},
    future::HedgeFuture,
    layer::{Hedge, HedgeLayer},
};
pub use crate::call::DEFAULT_REPLAY_CAP;
