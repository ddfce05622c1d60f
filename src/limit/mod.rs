//! Limits on how many calls are under way at a time, fixed or found out.
//!
//! ```text
//!                    a place is free, and nobody waits
//! call ─┬──────────────────────────────────────────────► sent ─── read to its end ─► place free
//!       │                                                 ▲                             │
//!       └─► queue: first come, first served ──────────────┘ ◄───────────────────────────┘
//!             │ full, waited too long, deadline
//!             ▼
//!           AtLimit: not sent, nobody's fault
//! ```
//!
//! ```
//! use buttress::{
//!     call::{CarryLayer, UncarryLayer},
//!     classify::{PlainClassifier, Sent, verdict_on_error},
//!     find,
//!     limit::{AtLimit, LimitConfig, LimitLayer},
//! };
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .layer(CarryLayer::new()) // an `http::Request` needs neither this
//!     .layer(LimitLayer::new(LimitConfig::fixed(1)?.queue(0), PlainClassifier::new()))
//!     .layer(UncarryLayer::new()) // nor this
//!     .service(service_fn(async |(): ()| Ok::<_, std::io::Error>("done")));
//!
//! let first = service.ready().await?.call(());
//! let error = service.ready().await?.call(()).await.expect_err("one is under way");
//! let at_limit = find::<AtLimit>(&*error).expect("refused without a call");
//! assert_eq!(verdict_on_error(at_limit).sent, Sent::No);
//!
//! assert_eq!(first.await?, "done");
//! assert_eq!(service.ready().await?.call(()).await?, "done");
//! # Ok(()) }
//! ```
//!
//! The decisions alone: [`Adaptive`], for use without tower. [`Limit`] is the handle.
//!
//! # Where it stands
//!
//! For a service, above balance and below retry: each attempt takes one place, and a call that
//! waits for its backoff takes none. Above the service's breaker: who waits for a place must not
//! hold a probe's; and while that is open, nothing is under way that one would have to wait for.
//! ([`Builder::limit`](crate::client::Builder::limit))
//!
//! For an endpoint, below the attempt timeout, so that waiting takes the attempt's time, and above
//! your own layers: one limit for each endpoint's service ([`LimitLayer::each`], [`Limited`],
//! [`Builder::endpoint_limit`](crate::client::Builder::endpoint_limit)). It is no
//! [`Gate`](crate::endpoint::Gate): a gate that is shut says that its endpoint is ill. A balancer
//! most of whose gates are shut takes it for an outage, panics and calls all of them anyway,
//! just when a limit must hold. A full endpoint is well. The balancer goes round it by itself,
//! since what is in flight there counts as its load and a refusal makes it look bad for a
//! moment; who is refused all the same goes elsewhere with its next attempt.
//!
//! # Settings
//!
//! | setting | default | unit, range | why |
//! |---|---|---|---|
//! | [`fixed`](LimitConfig::fixed) | none | calls, 1 to 2³¹ − 1 | yours to know |
//! | [`queue`](LimitConfig::queue) | as many as the limit | calls, 0 is none | the last who waits does so for about as long as a call takes |
//! | [`max_wait`](LimitConfig::max_wait) | [1 s](DEFAULT_MAX_WAIT) | > 0, ≤ a day | a tenth of an attempt's time: a burst passes, and the call still has its time |
//! | [`standing_wait`](LimitConfig::standing_wait) | [100 ms](DEFAULT_STANDING_WAIT) | > 0, ≤ `max_wait` | a tenth of the interval (CoDel, RFC 8289, 4.3) |
//!
//! And of an adaptive one:
//!
//! | setting | default | unit, range | why |
//! |---|---|---|---|
//! | [`bounds`](AdaptiveConfig::bounds) | [1](DEFAULT_LEAST) to [200](DEFAULT_GREATEST) | calls, 1 to 2³¹ − 1 | one finds out that the service is back; 200 as failsafe-go and Netflix |
//! | [`initial`](AdaptiveConfig::initial) | [20](DEFAULT_INITIAL) | calls, within the bounds | failsafe-go, Netflix |
//! | [`window`](AdaptiveConfig::window) | [1 s](DEFAULT_WINDOW) | 10 ms to an hour | failsafe-go, Netflix |
//! | [`min_samples`](AdaptiveConfig::min_samples) | [50](DEFAULT_MIN_SAMPLES) | calls, ≥ 10 | failsafe-go; the mean of 50 is off by a seventh |
//!
//! # The queue
//!
//! First come, first served. Whoever has just come overtakes nobody, and a place goes straight
//! from who had it to the first who waits and still has time. A call whose deadline, or whose
//! attempt's time, passes in the queue leaves it and is never sent.
//!
//! A queue that was never empty for `max_wait` is no burst but a standing one: it makes every
//! call late, and not one more is served for that. From then on a call waits for `standing_wait`
//! only, until the queue is empty once (controlled delay: RFC 8289; for queues of requests
//! B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015).
//!
//! # How an adaptive limit moves
//!
//! By the latencies until the responses' heads, window by window, with a short memory of
//! windows: [Vegas](https://github.com/Netflix/concurrency-limits) for how long the queue at the
//! service must be, with the guards of failsafe-go's adaptive limiter against creeping up. In this
//! order:
//!
//! | what a window shows | the limit | reason |
//! |---|---|---|
//! | more than a tenth refused for load (429, 503) or without an answer in time | falls by a tenth | `dropped` |
//! | nobody came up against it | stays; above its start and five times what was needed, falls by a step | `idle` |
//! | a long queue: latencies above the baseline, the mean of about 60 windows | falls by a fifth of the queue | `queue` |
//! | more calls under way come with slower answers, and not with more of them | falls by a step | `correlation` |
//! | next to no queue | grows by a step | `room` |
//!
//! A step is one, or a twentieth of the limit. When it has fallen by a fifth and the answers are
//! no faster for it, they were not slow for their number: bigger answers, a slower database. Then
//! it goes back to where it was, and the new latency is the baseline (`not_our_doing`).
//!
//! # Errors
//!
//! [`AtLimit`] for a call that got no place: `queue_full`, `waited` or `deadline`. It was not sent
//! and blames nobody, so it costs no budget; a retry above takes it for an attempt like any
//! other, after its backoff. When a place will be free nobody knows. The service's own errors
//! pass through. `poll_ready` forwards: a call waits in its own future.
//!
//! # When the future is dropped
//!
//! While it waits, it leaves the queue; a place that it was given just then goes to the next.
//! Afterwards the place is in the future, then in the response's body (with a classifier that
//! keeps it there), and is free with its end or its drop.
//!
//! # Events
//!
//! [`Event::AtLimit`](crate::Event::AtLimit) for each call that is refused,
//! [`Event::LimitChanged`](crate::Event::LimitChanged) for each change of an adaptive limit.
//!
//! # What it costs
//!
//! A compare-exchange when a call gets its place, and one when it gives it back; nothing is
//! allocated. An adaptive limit reads the clock twice and takes a short lock at each answer. A
//! call that waits allocates three times, and its place in the queue costs the logarithm of how
//! many wait. There is no background task.

mod adaptive;
mod config;
mod endpoints;
mod error;
mod future;
mod handle;
mod layer;
mod service;
mod turnstile;

pub(crate) use self::handle::Entry;
pub use self::{
    adaptive::{
        Adaptive, AdaptiveConfig, Change, DEFAULT_GREATEST, DEFAULT_INITIAL, DEFAULT_LEAST,
        DEFAULT_MIN_SAMPLES, DEFAULT_WINDOW, Sample,
    },
    config::{DEFAULT_MAX_WAIT, DEFAULT_STANDING_WAIT, InvalidLimit, LimitConfig},
    endpoints::Limited,
    error::{AtLimit, Reason},
    future::ResponseFuture,
    handle::{Limit, Permit, State},
    layer::LimitLayer,
    service::LimitService,
};
