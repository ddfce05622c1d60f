//! Client-side throttling: a service that refuses most calls is asked less.
//!
//! A service that is asked for more than it can do spends itself on refusing: a refusal costs it
//! a part of what an answer does, and at enough of them nothing else is left. This layer sends
//! no more than about twice of what the service accepts, and refuses the rest here, where that
//! costs nobody anything.
//!
//! ```text
//! probability of a refusal = max(0, (requests - 2 · accepts) / (requests + 1)), at most 0.9
//!
//! offered 300/s ─┬─ 200/s sent ─┬─ 100/s accepted
//!                │              └─ 100/s refused by the service
//!                └─ 100/s refused here
//! ```
//!
//! The algorithm is that of Google's "Site Reliability Engineering" (2016), chapter 21, "Handling
//! Overload": adaptive throttling. Each client decides by what it knows itself, and all of them
//! together settle at twice of what the service accepts, so that it is asked for more than it
//! takes, and can show when it takes more.
//!
//! ```
//! use buttress::{
//!     call::{CarryLayer, UncarryLayer},
//!     classify::{PlainClassifier, Sent, verdict_on_error},
//!     find,
//!     throttle::{Throttle, ThrottleConfig, ThrottleLayer, Throttled},
//! };
//! use std::io;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let throttle = Throttle::new(ThrottleConfig::new());
//! let mut service = ServiceBuilder::new()
//!     .layer(CarryLayer::new()) // an `http::Request` needs neither this
//!     .layer(ThrottleLayer::new(throttle.clone(), PlainClassifier::new()))
//!     .layer(UncarryLayer::new()) // nor this
//!     .service(service_fn(async |(): ()| {
//!         Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset))
//!     }));
//!
//! let mut refused = 0;
//! for _ in 0..1000 {
//!     let error = service.ready().await?.call(()).await.expect_err("it is overloaded");
//!     if let Some(throttled) = find::<Throttled>(&*error) {
//!         assert_eq!(verdict_on_error(throttled).sent, Sent::No);
//!         refused += 1;
//!     }
//! }
//! // The first 600 are 5 a second over two minutes; of the rest nine in ten were not sent.
//! assert!((320..=390).contains(&refused), "{refused}");
//! assert_eq!(throttle.state().probability, 0.9);
//! # Ok(()) }
//! ```
//!
//! # Where it stands
//!
//! Below retry and hedge: each of their attempts is one request to the service. Above balance: it
//! is about the service as a whole. Above a service breaker: what is refused here takes no
//! probe's place, and what the breaker refuses gives its request back. Above the attempt timeout:
//! an attempt that timed out was not accepted.
//!
//! The decision alone is [`Tally`], for use without tower.
//!
//! # Settings
//!
//! | setting | default | unit, range | why |
//! |---|---|---|---|
//! | [`multiplier`](ThrottleConfig::multiplier) | [2](DEFAULT_MULTIPLIER) | above 1, ≤ 100 | SRE book: the service refuses every second call, and shows soon that it can take more |
//! | [`window`](ThrottleConfig::window) | [2 min](DEFAULT_WINDOW) | 1 s to a day | SRE book, and four times the deadline of a call (30 s): nearly every request is in the window when its answer comes |
//! | [`max_probability`](ThrottleConfig::max_probability) | [0.9](DEFAULT_MAX_PROBABILITY) | above 0, below 1 | one call in ten finds out that the service is back |
//! | [`minimum_rate`](ThrottleConfig::minimum_rate) | [5](DEFAULT_MINIMUM_RATE) | calls a second in the mean over the window, ≥ 1 | whoever calls less is no burden, and the share of a few calls is an accident |
//!
//! Where calls are shorter, take a shorter window: it recovers sooner. After a total outage a
//! tenth of the calls goes out for half a window, half of them after a bit more than one, nine in
//! ten after two, and all after two to three (the fewer the calls, the more of it is luck).
//!
//! **It is not fair.** Clients that draw on the same service hold it to twice of what it accepts
//! together, but not each to the same share: whoever was lucky for a while is refused less and
//! stays so. In an overload that lasts for many windows some refuse nothing and others nine in
//! ten. Fairness is the service's to see to, which knows who asks.
//!
//! # What counts
//!
//! A request counts from the moment when it is asked for, whether it is sent or refused here.
//!
//! | verdict | counts as |
//! |---|---|
//! | was processed, and does not blame the service (2xx, 404, 500) | an accept: it took the work. Less load cures neither a missing page nor a bug |
//! | blames the service (429, 503) | no accept |
//! | blames the endpoint, and was not (provably) processed (502, 504, a timeout, a connection that is refused or breaks) | no accept |
//! | blames nobody or the client, and was not (provably) processed (a refused stream, 421, 425, a wrong request, an open breaker beneath) | nothing: the request is given back |
//! | the caller gave up | nothing: the request is given back |
//! | dropped by us after the deadline | no accept |
//!
//! An accept counts in the same bucket of the window as its request did, so that they are
//! forgotten together. While a call is under way it is not held against the service: by the
//! book it would be, and a client that has just started would refuse nearly all until its first
//! answer comes. After three tenths of the window, longer than any deadline, it is; a service
//! that hangs shows although nobody has set a timeout.
//!
//! # Errors
//!
//! [`Throttled`] for a call that was refused: why, what was known of the service, and when it
//! asked to be called again if it did. It was not sent and blames nobody, so it costs no budget.
//! A retry above **does not try it again** (its pushback is
//! [`Never`](crate::classify::Pushback::Never)): three draws for one call would send three times
//! as much as the service is to be asked for, just when that is too much. An earlier attempt's
//! real outcome is what the caller gets then. The service's own errors pass through.
//!
//! # When the future is dropped
//!
//! Before its first poll, while it waits and, with a classifier that settles there, in the middle
//! of the body: the permit is in the future, then in the body, and gives its request back. If the
//! call's deadline had passed, it stands as not accepted.
//!
//! # Events
//!
//! [`Event::Throttled`](crate::Event::Throttled) for each call that is refused, outside of the
//! lock. Reasons: `few_accepts`, and `no_accepts` if there was none in the window.
//!
//! # What it costs
//!
//! Two short locks around a few additions a call, one when it is asked for and one when it is
//! answered, whatever the window holds. Nothing is allocated. There is no background task.

mod config;
mod error;
mod future;
mod handle;
mod layer;
mod service;
mod state;
mod weight;

pub use self::{
    config::{
        DEFAULT_MAX_PROBABILITY, DEFAULT_MINIMUM_RATE, DEFAULT_MULTIPLIER, DEFAULT_WINDOW,
        InvalidThrottle, ThrottleConfig,
    },
    error::{Reason, Throttled},
    future::ResponseFuture,
    handle::{Permit, Throttle},
    layer::ThrottleLayer,
    service::ThrottleService,
    state::{State, Tally, Ticket},
};
