//! Circuit breakers: whoever fails is left alone for a while, then tried with care.
//!
//! ```text
//!            5 failures in a row, or half of 20 calls or more (or too many slow ones, if asked)
//!   ┌────────┐ ─────────────────────────────────────────────► ┌──────┐
//!   │ closed │                                                │ open │ refuses
//!   └────────┘             a probe failed or timed out        └──────┘
//!        ▲                ┌─────────────────────────────────────►  │ the open time is over,
//!        │ 3 probes       │                                        │ or a check found it
//!        │ succeeded  ┌───────────┐                                │ healthy
//!        └─ ramp ──── │ half-open │ ◄──────────────────────────────┘
//!                     └───────────┘ 3 probes at most, refuses the rest
//! ```
//!
//! From anywhere, [`Breaker::force_open`] and [`Breaker::force_closed`] hold it where they say
//! until [`Breaker::release`].
//!
//! ```
//! use std::io;
//! use buttress::{
//!     breaker::{Breaker, BreakerConfig, BreakerLayer},
//!     call::{CarryLayer, UncarryLayer},
//!     classify::PlainClassifier,
//!     endpoint::Refusal,
//!     find,
//! };
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let breaker = Breaker::new(BreakerConfig::new().consecutive_failures(3)?);
//! let mut service = ServiceBuilder::new()
//!     .layer(CarryLayer::new()) // an `http::Request` needs neither this
//!     .layer(BreakerLayer::new(breaker.clone(), PlainClassifier::new()))
//!     .layer(UncarryLayer::new()) // nor this
//!     .service(service_fn(async |(): ()| {
//!         Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused))
//!     }));
//!
//! for _ in 0..3 {
//!     let error = service.ready().await?.call(()).await.expect_err("nobody listens");
//!     assert!(find::<io::Error>(&*error).is_some());
//! }
//! let error = service.ready().await?.call(()).await.expect_err("the breaker is open");
//! let refusal = find::<Refusal>(&*error).expect("refused without a call");
//! assert!(refusal.retry_at.is_some());
//!
//! breaker.force_closed(); // somebody knows better
//! let error = service.ready().await?.call(()).await.expect_err("nobody listens");
//! assert!(find::<Refusal>(&*error).is_none());
//! # Ok(()) }
//! ```
//!
//! One type serves two places. Above a balancer, a [`BreakerLayer`] guards a whole service and
//! rejects with a time to come back at. Beside each endpoint, a [`Breaker`] is the balancer's
//! [`Gate`](crate::endpoint::Gate): a refusal there is a pick of another endpoint. Its place is
//! above the attempt timeout, for an attempt that timed out is a failure.
//!
//! The decision alone is [`Circuit`], for use without tower.
//!
//! # Settings
//!
//! | setting | default | unit, range | why |
//! |---|---|---|---|
//! | [`consecutive_failures`](BreakerConfig::consecutive_failures) | 5 | failures, ≥ 1 | no accident of a service that works; a dead one is left after five calls |
//! | [`failure_percent`](BreakerConfig::failure_percent) | 50 | % of the calls in the window, 1–100 | a streak misses the one that fails every second call |
//! | [`minimum_calls`](BreakerConfig::minimum_calls) | 20 | calls in the window, ≥ 1 | a percentage of less is an accident |
//! | [`slow_calls`](BreakerConfig::slow_calls) | none | > 0, ≤ a day; 1–100 % | slow is no failure by itself; resilience4j's 60 s and 100 % are as good as none |
//! | [`window`](BreakerConfig::window) | 30 s | 10 ms to a day | slides by tenths, exact to a tenth |
//! | [`open_time`](BreakerConfig::open_time) | 5 s to 300 s | > 0, ≤ a day | doubles at each opening; half of it is chance, so the first is 2.5 s to 5 s |
//! | [`stable_period`](BreakerConfig::stable_period) | 60 s | any | closed for so long, it is a new outage: 5 s again |
//! | [`probes`](BreakerConfig::probes) | 3 | calls, 1–8 | one success may be luck |
//! | [`probe_timeout`](BreakerConfig::probe_timeout) | 10 s | > 0, ≤ a day | for stacks without an attempt timeout beneath |
//! | [`ramp`](BreakerConfig::ramp) | 3 s | ≤ a day, 0 is none | 10, 25, 50 % of the calls, a third of it each, so that who has just come back is not thrown down |
//!
//! # What counts
//!
//! | verdict | counts as |
//! |---|---|
//! | blames nobody or the client, and was processed (2xx, 404, 409) | a success: it was there and answered |
//! | blames the endpoint; blames the service and may have been carried out (503) | a failure |
//! | blames the service, and was not carried out (429) | a failure for the percentage and as a probe, nothing in the streak |
//! | blames nobody or the client, and was not (provably) processed (a refused stream, a wrong request) | nothing |
//! | the caller gave up | nothing; a probe's place is free again |
//! | dropped by us after the deadline | a failure |
//!
//! An outcome counts in the state that admitted its call, and not after it: a success from before
//! it opened closes nothing, a failure from before it closed opens nothing. In the window it
//! counts as of its end; a success may count in the tenth of the window in which its head came.
//!
//! Where [slow calls](BreakerConfig::slow_calls) count, they are a third cause beside the streak
//! and the percentage, over the same window and the same minimum of calls: every call that counts
//! is slow or not, whether it failed or not, by the time until its answer's head (until its drop
//! by us, where there was none). Of the probes as many may be slow as of other calls; with more of
//! them it opens again.
//!
//! A probe that has not ended (its body included, where the verdict waits for that) when its
//! timeout is over is a failure, and what it says later is late. That is found out when
//! somebody asks, and counts from the moment when it was due; no timer runs. All probes under
//! way, `retry_at` is a guess: a tenth of the probe timeout.
//!
//! # Errors
//!
//! [`Refusal`](crate::endpoint::Refusal) for a call that was not admitted; it was not sent, costs
//! nothing, and says when to come back (not if the breaker is forced open). The service's own
//! errors pass through. `poll_ready` never fails by the breaker: while it is open it is ready
//! at once, without asking the service beneath, and refuses in `call`.
//!
//! # When the future is dropped
//!
//! Before its first poll, while it waits and, with a classifier that settles there, in the
//! middle of the body: the permit is in the future, then in the body, and gives back what it
//! held. It counts for nothing, or as a failure if the call's deadline had passed. A body that
//! the caller drops half read, at whatever time, leaves its head's verdict standing.
//!
//! # Events
//!
//! [`Event::Breaker`](crate::Event::Breaker) for every change, after it and outside of the
//! lock (so two changes at the same time may be heard in either order). Reasons: `consecutive`,
//! `ratio`, `slow`, `probe_failed`, `probe_timeout`, `probe_slow` (open); `waited`, `found_healthy` (half-open);
//! `recovered`, `released` (closed); `forced`.
//!
//! [`Breaker::watch`] tells the state to who waits for it, without asking again and again.
//!
//! # What it costs
//!
//! Closed, admission is one atomic load. A success is one atomic compare-and-swap, as long as fewer
//! calls of the window have failed than can open it (10 by default). Any other outcome is one short
//! lock around a few additions, whatever the window holds; so are the first success of each tenth of
//! the window, those whose head came in a tenth before, and all in a ramp, as probes or where slow
//! calls count. Nothing is allocated. There is no background task.

mod config;
mod error;
mod event;
mod future;
mod handle;
mod layer;
mod mirror;
mod permit;
mod ramp;
mod service;
mod state;
mod tally;
mod watch;
mod weight;

pub use self::{
    config::BreakerConfig,
    error::InvalidBreaker,
    event::{Transition, Transitions},
    future::ResponseFuture,
    handle::Breaker,
    layer::BreakerLayer,
    permit::Permit,
    service::BreakerService,
    state::{Circuit, State, Ticket},
    watch::Watch,
};
