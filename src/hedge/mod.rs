//! Hedging: a second attempt that races one which is slow.
//!
//! ```text
//! first   ├───────────────────────────────────────✕ cancelled
//! second          ├── delay ──┼──────────► the first success wins
//! ```
//!
//! When an attempt is slower than nearly all of them were lately, a second one is sent, to
//! another endpoint where a balancer stands beneath. The first success wins; the other is
//! dropped, and frees what it held before the response is handed out. While one of the two runs,
//! a failure of the other is no answer; of two failures the more telling one is handed out. A
//! failure before the delay is a failure: that is for [retry](crate::retry), which stands above.
//! (J. Dean, L. Barroso: "The Tail at Scale", CACM 2013; Finagle's `BackupRequestFilter`.)
//!
//! Only a call that is safe to repeat is hedged: its method is idempotent, it carries an
//! idempotency key, or the caller said so. Only such calls are counted.
//!
//! ```
//! use std::time::Duration;
//! use buttress::{BoxError, classify::PlainClassifier, call::{AttemptKind, Call, Words}};
//! use buttress::hedge::{HedgeConfig, HedgeLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let config = HedgeConfig::after(Duration::from_millis(20))?;
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
//! # When a second attempt is due
//!
//! After the delay that the slowest 5 % of the calls exceeded in the last 20 to 30 seconds
//! ([`HedgeConfig::new`]), looked at anew every [3 s](REFRESH_INTERVAL); or after a fixed one
//! ([`HedgeConfig::after`]). Only first attempts are counted: those that succeeded, and those
//! that failed or were cut after the delay, as at least so long. While there are fewer than
//! twenty samples for a p95, or a hundred for a p99, nothing is hedged, and neither where calls
//! take longer than [can be told](crate::algo::quantile::TRACKABLE).
//!
//! A service of which more calls are slow than the share is not made faster by this: then the
//! delay is that of its slow calls. That is for the [balancer](crate::balance).
//!
//! # Who pays, and when nobody does
//!
//! Every second attempt is paid twice: from an allowance of extra load, to which each call adds
//! its share, and from the [`Budget`](crate::budget::Budget) of the retries where that is given,
//! of which the lower half is left to them. So a service that turns slow as a whole gets 5 %
//! more calls and ten. And none is made to a service that is overloaded:
//!
//! - while [1 %](OVERLOAD_SHARE) or more of the answers of the last [10 s](OVERLOAD_WINDOW) blame
//!   the service (429, 503);
//! - while a pushback holds (`Retry-After` on a failure), for [30 s](LONGEST_HOLD) at most. Where
//!   a balancer beneath chose the endpoint, it sets that one aside, and hedges go elsewhere;
//! - while the budget is below its half.
//!
//! What calls met that may not be repeated is not known here.
//!
//! | [`Unhedged`], code | why a call that is slow gets no second attempt |
//! |---|---|
//! | `extra_load` | the allowance is spent |
//! | `budget` | the budget has nothing to spare |
//! | `overload`, `pushback` | the rules above |
//! | `latency_unknown` | since the call began, the latencies were forgotten |
//! | `not_replayable` | the request's body passed its cap, or failed |
//! | `unavailable` | the service beneath failed to get ready |
//!
//! # Settings
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | delay | the p95 of the latencies | or a fixed one, above 0 | it follows the service |
//! | extra load | [0.05](DEFAULT_EXTRA_LOAD) | 0.0001 to 0.5 | "The Tail at Scale"; with more, retries go without |
//! | burst | [10](DEFAULT_BURST) | 1 and more | the pause of one endpoint |
//! | shortest delay | [1 ms](DEFAULT_SHORTEST_DELAY) | 1 ms and more | Finagle; timers tell no less |
//! | budget | none | | give it the retry's, which its successes fill |
//! | body kept | [64 KiB](DEFAULT_REPLAY_CAP) | 0 and more | as for retries |
//!
//! There is one second attempt at most: a third would be paid as much, for what is left of a
//! tail that the second has cut already.
//!
//! # Errors
//!
//! Those of the service beneath: as they are, or within [`Raced`](crate::call::Raced) if two
//! attempts failed. Of two failures, one that a service met comes
//! before a refusal by this program itself; then the one that is surer that something happened,
//! then an answer before an error, then one with a pushback.
//!
//! # What it tells
//!
//! A response that two attempts raced for carries both as its
//! [`Attempts`](crate::call::Attempts), as does [`Raced`](crate::call::Raced). A retry above
//! takes them into its own.
//!
//! # What it costs
//!
//! A call that is not hedged has a copy of its request made, as for a retry, and takes one lock
//! at its end (and one at its beginning, where the delay is not fixed). What a race needs stands
//! in a box that is made when there is one. A layer keeps 16 KiB of latencies.
//!
//! # When the future is dropped
//!
//! Both attempts are dropped with it. What was paid for a second one that was made is not given
//! back; for one that was not made yet it is.
//!
//! # Events
//!
//! [`Event::Hedged`](crate::Event::Hedged), [`Event::NotHedged`](crate::Event::NotHedged) and
//! [`Event::HedgeEnded`](crate::Event::HedgeEnded).

mod config;
mod error;
mod future;
mod guard;
mod layer;
mod race;
mod service;
mod state;

pub use self::{
    config::{DEFAULT_BURST, DEFAULT_EXTRA_LOAD, DEFAULT_SHORTEST_DELAY, HedgeConfig},
    error::InvalidHedge,
    future::HedgeFuture,
    layer::HedgeLayer,
    service::Hedge,
    state::{LONGEST_HOLD, OVERLOAD_SHARE, OVERLOAD_WINDOW, Pacer, REFRESH_INTERVAL, Unhedged},
};
pub use crate::call::DEFAULT_REPLAY_CAP;
