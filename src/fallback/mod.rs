//! Fallbacks: when a call has failed for good, another answer than none.
//!
//! ```text
//! call ─► service ─► outcome ─► the rule? ─ no ──────────────────────────► as it is
//!                                  │ yes, for a reason
//!                                  ├─ FallbackLayer: safe to send again? time left?
//!                                  │     └─ yes ─► another service ─────► its answer, labelled
//!                                  └─ StandInLayer: has it one?
//!                                        └─ yes, at once ───────────────► that answer, labelled
//! ```
//!
//! Two layers serve four needs:
//!
//! | need | layer | rule |
//! |---|---|---|
//! | another service (a replica, another region) | [`FallbackLayer`] with that service | [`Unavailable`] |
//! | an older version of the interface | [`FallbackLayer`] with the service of before | [`NotThere`] |
//! | the last good answer to the same question | [`StandInLayer`] with a [`Stale`] | [`Unavailable`] |
//! | always the same answer | [`StandInLayer`] with a [`Fixed`] | [`Unavailable`] |
//!
//! A [`Rule`] of your own is a closure, and a [`StandIn`] of your own a trait of three methods.
//! Layers of both kinds may stand above each other: whoever stands nearest to the service is
//! asked first.
//!
//! ```
//! use buttress::{
//!     BoxError,
//!     call::Call,
//!     classify::PlainClassifier,
//!     fallback::{
//!         Answer, Fixed, Key, Reason, Stale, StaleConfig, StandInConfig, StandInLayer, Unavailable,
//!     },
//! };
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let mut up = true;
//! let mut rates = ServiceBuilder::new()
//!     // Nobody has ever asked for this: better no advice than an error.
//!     .layer(StandInLayer::new(
//!         StandInConfig::named("none"),
//!         Unavailable::new(),
//!         Fixed::new(|| Answer::new(0)),
//!         PlainClassifier::new(),
//!     ))
//!     // The rate of some minutes ago is better than none.
//!     .layer(StandInLayer::new(
//!         StandInConfig::named("stale"),
//!         Unavailable::new(),
//!         Stale::new(StaleConfig::new(), |of: &&'static str| Key::Remember(*of)),
//!         PlainClassifier::new(),
//!     ))
//!     .service(service_fn(move |_: Call<&'static str>| {
//!         let answer = if std::mem::take(&mut up) { Ok(7) } else { Err(BoxError::from("down")) };
//!         async { answer.map(Answer::new) }
//!     }));
//!
//! let fresh = rates.ready().await?.call(Call::new("eur")).await?;
//! assert_eq!((fresh.response, fresh.fell_back), (7, None));
//!
//! let stale = rates.ready().await?.call(Call::new("eur")).await?;
//! let fell_back = stale.fell_back.ok_or("it is down by now")?;
//! assert_eq!((stale.response, fell_back.by), (7, "stale"));
//! assert_eq!(fell_back.reason, Reason::Endpoint);
//! assert!(fell_back.age.is_some());
//!
//! let none = rates.ready().await?.call(Call::new("usd")).await?;
//! assert_eq!((none.response, none.fell_back.map(|it| it.by)), (0, Some("none")));
//! # Ok(()) }
//! ```
//!
//! # What the caller sees
//!
//! Each answer of a fallback says so: [`FellBack`], with the fallback's name, the reason, the
//! verdict on the call and what came of it, and the age of what was remembered. An HTTP response
//! has it in its extensions, where [`Discloses::fell_back`] finds it. For any other response,
//! services answer with an [`Answer`], which has room for it:
//! `.map_response(Answer::new)`.
//!
//! # Where it stands
//!
//! ```text
//! stand-in ─ deadline ─ key ─ fallback ─ deadline ─ retry ─ …
//!                                └─ the other service
//! ```
//!
//! Both stand above retry, since they answer what has failed for good.
//!
//! A **stand-in** stands above the deadline. It takes no time, so that it answers in the moment in
//! which the call's time is up. Below, it would be dropped then.
//!
//! A **fallback** takes time, and the call's deadline holds for it: below a
//! [`DeadlineLayer`](crate::timeout::DeadlineLayer), which ends both together. To have something
//! left of it, a fallback keeps [a quarter](DEFAULT_RESERVE_PERCENT) of it to itself: what
//! stands below sees a deadline that is so much earlier. A second `DeadlineLayer` there (with the
//! same limit; the earlier deadline holds) cuts the call off in time; without one, whoever reads
//! the deadline still keeps to it (retry begins no attempt, an attempt timeout is shorter). When
//! no time is left, the fallback is not called. It stands below the idempotency key, so that an
//! older version of the same service gets the same key.
//!
//! # What is sent to another service
//!
//! A call that may have been carried out is sent to another service only if it is safe to
//! repeat, as for [retries](crate::retry): its method is idempotent, it carries a key, or the
//! caller said so. A key protects it only where both services share their memory of keys: if
//! they don't, say that it is [not safe](crate::call::Words::idempotent). Any other call is sent
//! where it was provably not carried out, among them where the reason is [`Reason::NotThere`]. A
//! stand-in sends nothing, so it answers any call; a [`Fixed`] answer to a `POST` says nothing of
//! whether that was carried out, but its label does.
//!
//! # What is remembered
//!
//! The answers that stand and are successes, by the key that you say. [`by_uri`] is one for HTTP:
//! a `GET` that does not say who asks. A response must lie whole in memory
//! ([`collect`](crate::collect) sees to that), and neither its `Cache-Control` nor its `Vary` may
//! forbid it ([`Remember`]); a recalled one says its `Age` (RFC 9111; the idea is the
//! `stale-if-error` of RFC 5861). It is forgotten when the service says otherwise: a 404 or 403 to
//! the same question, or a write to it that succeeded. Nothing is remembered of an answer that
//! a fallback beneath gave.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`reserve_percent`](FallbackConfig::reserve_percent) | [25](DEFAULT_RESERVE_PERCENT) | 0 to 90 % of the time left | one try of somebody who is as fast, beside three of the service |
//! | body kept | [64 KiB](DEFAULT_REPLAY_CAP) | 0 and more | as for retries |
//! | [`max_age`](StaleConfig::max_age) | [5 min](DEFAULT_MAX_AGE) | above 0 | as long as a breaker stays open at the longest |
//! | [`entries`](StaleConfig::entries) | [1000](DEFAULT_ENTRIES) | 1 and more; the one heard longest ago goes | with the next: 64 MiB at most |
//! | [`largest`](StaleConfig::largest) | [64 KiB](DEFAULT_LARGEST) | bytes of a body | |
//! | [`Unavailable`] | | | blames endpoint or service, or was not sent by this program; never the client's own fault |
//!
//! # Errors
//!
//! Where no fallback answers, the caller gets what the service said, untouched. [`BothFailed`] if
//! the other service was called and failed: its source is that error, and it says "not carried
//! out" only if neither may have carried it out. A failure that comes as a response (a 503 of
//! the other service) is an answer like any other.
//!
//! # When the future is dropped
//!
//! So is whichever call is under way. Nothing is remembered of a call that was dropped.
//!
//! # Events
//!
//! [`Event::FellBack`](crate::Event::FellBack) with the reason: `refused`, `endpoint`, `service`,
//! `not_there`, `rule`. [`Event::NoFallback`](crate::Event::NoFallback) where the rule asked for
//! one and there was none: `deadline`, `not_repeatable`, `not_replayable`, `unknown` (a stand-in
//! has no answer), `failed`.
//!
//! # What it costs
//!
//! A [`FallbackLayer`] keeps a copy of the request, as a retry does: its headers; a body in
//! memory is shared. A [`Stale`] keeps the answer: a copy of its headers, and a short lock to put
//! it on the shelf. A [`Fixed`] costs nothing. There is no background task.

mod config;
mod error;
mod future;
mod layer;
mod rule;
mod service;
mod shelf;
mod stale;
mod stand_in;
mod told;

pub use self::{
    config::{DEFAULT_RESERVE_PERCENT, FallbackConfig, InvalidFallback, StandInConfig},
    error::BothFailed,
    future::FallbackFuture,
    layer::FallbackLayer,
    rule::{Ended, NotThere, Reason, Rule, Unavailable},
    service::Fallback,
    stale::{
        DEFAULT_ENTRIES, DEFAULT_LARGEST, DEFAULT_MAX_AGE, InvalidStale, KeptResponse, Key,
        Remember, Stale, StaleConfig, by_uri,
    },
    stand_in::{Fixed, StandIn, StandInFuture, StandInLayer, StandInService},
    told::{Answer, Discloses, FellBack},
};
pub use crate::call::DEFAULT_REPLAY_CAP;
