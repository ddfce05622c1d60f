//! Balancing: each attempt goes to an instance that is likely to answer, and soon.
//!
//! ```text
//!  discovery ─► health ─► driver ──publishes──► snapshot ◄──loads── call: pick ─► admit ─► instance
//!                                                                          └ refused ┘
//! ```
//!
//! A task of its own drives discovery, with or without traffic, and publishes an immutable
//! snapshot of the endpoints. A call loads it once, takes no lock, and picks, by default, the less
//! loaded of two endpoints drawn at random ([`algo::p2c`](crate::algo::p2c)) among those that
//!
//! 1. are not known to be unhealthy and not ejected, and whose [`Gate`] (a breaker) is open,
//! 2. have not asked to be left alone for a while (`Retry-After`),
//! 3. no earlier attempt of the same call went to.
//!
//! The third gives way first: a call that has been everywhere goes back. The second never does:
//! if all that may be called asked to be left alone, the call waits for the first of them, or
//! fails at once if its deadline is earlier. A pick that its gate refuses after all is picked
//! anew, at no cost in attempts, backoff or budget.
//!
//! The load is Peak EWMA ([`algo::ewma`](crate::algo::ewma)) times the calls in flight, and an
//! endpoint from which nothing comes while calls wait for it is at least as slow as its silence
//! is long. Where what is known of both is old, as it is with many endpoints, those that have just
//! answered are looked at too. Servers that report in their answers how busy they are
//! ([`LoadReport`]) are believed while that is fresh. Other ways to pick are a [`Policy`]; what they
//! are worth near the capacity is told in [`docs::balancing`](crate::docs::balancing). An endpoint that has failed is *in doubt* for a while, 200 ms at first and 6.4 s
//! after four failures in a row, and loses against every other, however busy; then it gets one
//! call at a time until enough of them ended well. So one that fails at once is no sink, one
//! that hangs costs few calls a timeout, a stray failure is soon forgotten, and a healed
//! endpoint has its share back within seconds.
//!
//! # Ejection
//!
//! A breaker opens when half of an endpoint's calls fail. One that fails a tenth of them, while its
//! peers fail none, is seen only by comparison: every ten seconds the driver compares all of them,
//! and *ejects* the outliers for 30 s, and longer each time ([`EjectionConfig`], [`FailureRate`]).
//! It is there [if asked for](BalanceConfig::ejection): it finds nothing in a fleet that is alike and
//! never takes more than half of the endpoints, but whoever is out stays out for its time, well or not.
//! Why, since when and until when is in [`EndpointStatus::ejected`] and in the events. What else keeps
//! an endpoint out, in the order of who wins:
//!
//! 1. One that has left gets nothing new, and finishes what it has.
//! 2. One that the active check found unhealthy is out, whatever its calls say.
//! 3. One that is ejected is out until its time is over. A check that finds it healthy again may
//!    shorten that to the first ejection time; it does not end it, since a health page says little of
//!    the calls. (In Envoy it ends it, and so it does in [`EjectionConfig::envoy`].)
//! 4. One whose breaker is open is out until that lets calls try. A check may make it try sooner,
//!    and never closes it by itself.
//! 5. One in doubt is taken when no other can be.
//!
//! One that comes back from being ejected or unhealthy, or that joins others, [starts
//! slowly](SlowStart): its share of the calls grows for 30 s.
//!
//! # Too few
//!
//! While the first checks of some are under way and no other may be called, a call waits for
//! one, as it does for a first endpoint.
//!
//! When fewer than half of the endpoints may be called, the checks are more likely wrong than
//! the endpoints: then all of them are used (Envoy's panic mode), or none, if you ask for that.
//!
//! ```
//! use std::net::SocketAddr;
//! use buttress::{BoxError, balance::{Balance, BalanceConfig}, call::Call, classify::PlainClassifier};
//! use buttress::endpoint::{Endpoint, Fixed, Open};
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let addresses: [SocketAddr; 2] = ["127.0.0.1:8081".parse()?, "127.0.0.1:8082".parse()?];
//! let mut balance = Balance::new(
//!     BalanceConfig::new(),
//!     Fixed::new(addresses),
//!     |endpoint: &Endpoint| {
//!         let port = endpoint.address().port();
//!         service_fn(move |_: Call<()>| std::future::ready(Ok::<u16, BoxError>(port)))
//!     },
//!     |_: &Endpoint| Open::new(),
//!     PlainClassifier::new(),
//! )?;
//! let port = balance.ready().await?.call(Call::new(())).await?;
//! assert!(port == 8081 || port == 8082);
//! # Ok(()) }
//! ```
//!
//! # Policies
//!
//! | policy | when | a pick | changes | source |
//! |---|---|---|---|---|
//! | [`PeakEwma`] | nearly always; the default | O(1) | nothing to build | Finagle; Prequal, NSDI 2024 |
//! | [`LeastRequest`] | latency says nothing: streams, long polls | O(1) | nothing to build | Mitzenmacher 2001; gRFC A48 |
//! | [`RoundRobin`] | endpoints and calls are all alike | O(1), one counter for all threads | nothing to build | |
//! | [`Weighted`] | sizes that are known, or that servers report | O(1), three steps on average at the most; one counter | O(n) | gRFC A58 |
//! | [`RingHash`] | caches and sessions, beside gRPC or Envoy, or with weights that change | O(log entries) | O(entries · log entries) | Karger 1997; gRFC A42, A76 |
//! | [`Maglev`] | caches and sessions | O(1) | O(entries), about 2 ms | NSDI 2016; Envoy |
//! | [`Probing`] | dear calls of many clients to servers whose capacity changes, and that do not report | O(answers), at most 16; one lock, which none waits for | O(n) | Prequal, NSDI 2024 |
//! | [`Priorities`] | a standby, another region | the inner one's, and a draw | O(n) each second | Envoy |
//! | [`Zones`] | calls across zones are slow or dear | the inner one's, and a draw | O(n) each second | Envoy |
//! | [`Aperture`] | hundreds of clients and of servers | the inner one's, and a draw | O(n · log n) | Finagle |
//!
//! All of them pick from the same snapshot, without an allocation, and without waiting for a lock.
//! Where few of many endpoints may be called a pick looks at all of them, O(n), and so does one in
//! `n / 16` of those by a key, to count the calls in flight. The last three are made of others:
//!
//! ```
//! use std::num::NonZeroU32;
//! use buttress::balance::{Aperture, BalanceConfig, InvalidBalance, PeakEwma, Priorities, Zones};
//!
//! // This is client 3 of 40, in zone eu-1a.
//! let peers = NonZeroU32::new(40).expect("40 is not 0");
//! let within = Aperture::new(3, peers, PeakEwma::new())?;
//! let policy = Priorities::new(Zones::new("eu-1a", within));
//! let config = BalanceConfig::new().policy(policy);
//! # Ok::<(), InvalidBalance>(())
//! ```
//!
//! Weights count in [`Weighted`], [`RingHash`] and [`Maglev`], and as capacity in the shares of
//! [`Priorities`] and [`Zones`]. [`PeakEwma`] and [`LeastRequest`] see for themselves what an
//! endpoint can do, and don't ask for them. Zones that Kubernetes hints at are followed by its
//! discovery, not here.
//!
//! `bash benches/callgrind.sh policies` counts what a call costs with each of them, over 3 to
//! 10,000 endpoints.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [panic threshold](DEFAULT_PANIC_THRESHOLD) | 50 % | 0 (never) to 100 % | Envoy |
//! | [interval of ejection](DEFAULT_EJECTION_INTERVAL) | 10 s | 100 ms to an hour | Envoy, gRPC |
//! | [time of an ejection](DEFAULT_EJECTION_TIME) | 30 s, times the number in a row, to [300 s](LONGEST_EJECTION) | 100 ms to a day | Envoy, gRPC |
//! | [ejected at the most](DEFAULT_MAX_EJECTED_PERCENT) | 50 %, and at least one | 1 to 100 % | a median tells the bad from the good up to there |
//! | [slow start](DEFAULT_SLOW_START) | 30 s | 0 (off) and more | pools are full and code is warm by then |
//! | [wait for a first endpoint](DEFAULT_EMPTY_WAIT) | 5 s | 0 and more | a registry's first answer takes that long at the worst |
//! | [decay of a cost](crate::algo::ewma::DEFAULT_DECAY) | 4 s | above 0 | how long a healed endpoint is remembered as slow |
//! | [overprovisioning](crate::algo::shares::DEFAULT_OVERPROVISIONING) of levels and zones | 1.4 | 1 and more | Envoy |
//! | [load bound](DEFAULT_LOAD_BOUND) of a key's endpoint | 1.25 | above 1, or none | Mirrokni et al., 2018 |
//! | [width of an aperture](crate::algo::subset::DEFAULT_LEAST) | 12 endpoints | 1 and more | Finagle |
//! | [probes a call](probing::DEFAULT_PROBES), and [more of them](probing#defaults) | 3 | above the removals, to 16 | Prequal |
//! | [longest `Retry-After` followed](MAX_SET_ASIDE) | 30 s | | an endpoint must not disappear for a day by one header |
//!
//! # Who looks
//!
//! [`Balance::snapshot`] tells all of it at one moment: of each endpoint its [state](EndpointState)
//! in one word, why, since and until when, and all that this comes from; of discovery what it said
//! last. It prints as a table, and with the feature `serde` it can be serialised. No call waits for
//! it.
//!
//! # Errors
//!
//! [`NoEndpoint`] says why nobody could be called; an error of an endpoint is wrapped in
//! [`AtEndpoint`], which names it. To build outside of a tokio runtime is
//! [`OutsideRuntime`].
//!
//! # When something is dropped
//!
//! A dropped call gives back its place at the endpoint and its permit. The driver, and the task that
//! sends probes, end with the last handle of the balancer, and a call that is under way is one. A call that was cut off by
//! its deadline counts as a failure of its endpoint; one that its caller gave up, or that lost a
//! race, only says that an answer takes longer: it counts as that long and a usual answer more,
//! unless it was given up before a quarter of that.
//!
//! # Events
//!
//! `EndpointAdded`, `EndpointRemoved`, `HealthChanged`, `Outlier`, `EjectionEnded`, `Panic`, `DiscoveryFailed`, `DiscoveryEnded`, `LoadProbeFailed`.
//!
//! [`Gate`]: crate::endpoint::Gate
//! [`LoadReport`]: crate::endpoint::LoadReport

mod affinity;
mod aperture;
mod choices;
mod config;
#[cfg(feature = "testing")]
mod decision;
mod discovery;
mod driver;
mod eject;
mod ejector;
mod error;
mod future;
mod groups;
mod hashed;
mod load;
mod members;
mod node;
mod part;
mod pick;
mod picture;
mod policy;
mod priorities;
pub mod probing;
mod recent;
mod roster;
mod round_robin;
mod said;
mod service;
#[cfg(test)]
mod set;
mod slow_start;
mod snapshot;
mod standing;
mod summary;
mod table;
mod weighted;

pub use self::{
    affinity::{Affinity, AffinityLayer, ByHeader, FindAffinity, WithAffinity},
    aperture::Aperture,
    choices::{LeastRequest, PeakEwma},
    config::{
        BalanceConfig, DEFAULT_EMPTY_WAIT, DEFAULT_PANIC_THRESHOLD, InvalidBalance, MAX_SET_ASIDE,
    },
    eject::{
        Action, Consecutive, DEFAULT_EJECTION_INTERVAL, DEFAULT_EJECTION_TIME,
        DEFAULT_MAX_EJECTED_PERCENT, Ejection, EjectionConfig, EjectionState, Evidence,
        FailurePercentage, FailureRate, Host, InvalidEjection, LONGEST_EJECTION, Latency, Outlier,
        Ruling, SuccessRate, Tally,
    },
    error::{AtEndpoint, NoEndpoint, OutsideRuntime},
    future::BalanceFuture,
    hashed::{DEFAULT_LOAD_BOUND, Maglev, RingHash},
    node::{EndpointStatus, Held},
    picture::{
        BalanceSnapshot, DiscoverySnapshot, EjectionSnapshot, EndpointSnapshot, GateSnapshot,
        ReportSnapshot,
    },
    policy::{Candidates, LoadView, Member, Picker, Policy},
    priorities::{Priorities, Zones},
    probing::{HttpLoadProbe, LoadProbe, Probed, Probes, Probing, ProbingConfig, ProbingSnapshot},
    recent::Usual,
    round_robin::RoundRobin,
    service::Balance,
    slow_start::{DEFAULT_SLOW_START, SlowStart},
    summary::EndpointState,
    weighted::{
        DEFAULT_BLACKOUT, DEFAULT_EXPIRY, DEFAULT_PENALTY, DEFAULT_UPDATE, ReportedConfig, Weighted,
    },
};
#[cfg(feature = "testing")]
pub(crate) use self::{decision::Decision, node::Node, probing::Order};
pub(crate) use self::{future::failed, pick::Pick};
