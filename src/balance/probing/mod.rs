//! By probes: Prequal, as a policy (B. Wydrowski, R. Kleinberg, S. Rumble, A. Archer: "Load is not
//! what you should balance: Introducing Prequal", NSDI 2024).
//!
//! ```text
//! call ──► pool of answers ──► of the cold the quickest, else of the hot the emptiest ──► endpoint
//!   └ wakes ┐      ▲                     fewer than two ──► the less loaded of two ──────────┘
//!           ▼      └─────────────┐
//!          task ── probes ──► endpoint: so many in flight, so long an answer takes
//! ```
//!
//! A client learns of a server's load by asking for it, off the path of the calls. A call looks
//! only at the answers that are there:
//!
//! - Each call brings about [three probes](DEFAULT_PROBES), to endpoints drawn at random. They are sent
//!   by a task of the balancer's own, have connections and a time limit of their own, and take no
//!   call's place. Before the first call there are as many as the pool has places, and when nobody
//!   calls, some are sent [every half second](DEFAULT_IDLE).
//! - The pool has [16 answers](DEFAULT_POOL), none older than [a second](DEFAULT_ANSWER_AGE), and
//!   one of an endpoint. A call that goes by one adds itself to what that says of the requests in
//!   flight; after one call, or two, as the paper reckons it, it is used up. With each call another one
//!   is removed, by turns the oldest and the worst.
//! - Who has more requests in flight than [84 %](DEFAULT_COLD) of those that have answered of late is
//!   *hot*. A call goes to the cold endpoint with the lowest latency; if all are hot, to the one with
//!   the fewest requests.
//! - Fewer than two answers are no choice. Then, and while another thread is at the pool, for which no
//!   call waits, it goes by [`PeakEwma`](super::PeakEwma), which knows more than the paper's random
//!   draw.
//!
//! An answer of an endpoint that may not be called, or is [in doubt](super::LoadView::is_doubted), is
//! passed over: a server that fails each request at once has nothing to do, and says so.
//!
//! ```
//! use std::time::Duration;
//! use buttress::{
//!     BoxError, balance::{BalanceConfig, Probed, Probing, ProbingConfig}, endpoint::Endpoint,
//! };
//!
//! let ask = |endpoint: &Endpoint| {
//!     let address = endpoint.address();
//!     async move {
//!         let (in_flight, latency) = ask_over_udp(address).await?;
//!         Ok::<_, BoxError>(Probed::new(in_flight).with_latency(latency))
//!     }
//! };
//! # async fn ask_over_udp(_: std::net::SocketAddr) -> Result<(f32, Duration), BoxError> {
//! #     Ok((0.0, Duration::ZERO))
//! # }
//! let config = ProbingConfig::new().rates(2.0, 1.0)?.age(Duration::from_millis(500))?;
//! let policy = Probing::new(ask, config);
//! let balance = BalanceConfig::new().policy(policy.clone());
//! assert_eq!(policy.snapshot().sent, 0, "not before a balancer has it");
//! # Ok::<(), buttress::balance::InvalidBalance>(())
//! ```
//!
//! Over HTTP there is a probe ready-made: [`HttpLoadProbe`].
//!
//! # When
//!
//! Where many clients share servers whose capacity changes, and whose requests are dear beside a probe.
//! Servers that can be brought to say in each answer how many requests they have do as well by the
//! default policy, which makes use of it by itself and asks for nothing, unless there are so many of
//! them that a client rarely hears of each: see [`docs::balancing`](crate::docs::balancing). Such
//! reports don't come into the pool: the two ways are not mixed.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [probes a call](DEFAULT_PROBES) | 3 | above the removals, to 16 | the paper |
//! | [removals a call](DEFAULT_REMOVALS) | 1 | 0 and more, below the probes | the paper |
//! | [answers in the pool](DEFAULT_POOL) | 16 | 2 to 32 | the paper |
//! | [age of an answer](DEFAULT_ANSWER_AGE) | 1 s | above 0 | the paper |
//! | [quantile that is cold](DEFAULT_COLD) | 0.84 | 0 to 1 | the paper |
//! | [surplus](DEFAULT_SURPLUS) | 1 answer a call | above 0 | the paper |
//! | [time limit of a probe](DEFAULT_PROBE_TIMEOUT) | 100 ms | above 0 | a tenth of the age |
//! | [probes under way](DEFAULT_UNDER_WAY) | 64 | 1 and more | 20,000 calls/s at a millisecond a probe |
//! | [longest time without a probe](DEFAULT_IDLE) | 500 ms | above 0, or none | half of the age |
//!
//! # Where we deviate
//!
//! - A newer answer of an endpoint takes the place of the older one, as the term `1 - m / n` of
//!   the paper's equation 1 suggests; below a hundred endpoints that equation is held where it is for a
//!   hundred. Two answers are never removed but by use and age.
//! - To an endpoint there is one probe under way at a time. One that hangs is sent no more of them, and
//!   with few endpoints and many calls fewer than three a call are sent.
//! - Endpoints that are as good by the rule's first number are told apart by the other one; and one
//!   whose server says no latency, having had hardly anything to do, counts as the quickest that is
//!   known, so that it is found again.
//!
//! # When probes fail
//!
//! Nothing is blamed on an endpoint for a probe that fails: that is what [`health`](crate::health) is
//! for. What was known of it gets old. Each failure is an event, `LoadProbeFailed`; while all fail,
//! calls are picked as if nobody probed, which [`ProbingSnapshot::without_answers`] counts.

mod answer;
mod config;
mod desk;
mod field;
mod http;
mod pace;
mod policy;
mod pool;
mod seen;
mod task;

#[cfg(feature = "testing")]
pub(crate) use self::desk::Order;
pub(super) use self::task::run;
pub use self::{
    answer::{LoadProbe, LoadProbeTimedOut, Probed},
    config::{
        DEFAULT_ANSWER_AGE, DEFAULT_COLD, DEFAULT_IDLE, DEFAULT_POOL, DEFAULT_PROBE_TIMEOUT,
        DEFAULT_PROBES, DEFAULT_REMOVALS, DEFAULT_SURPLUS, DEFAULT_UNDER_WAY, LARGEST_POOL,
        ProbingConfig,
    },
    desk::{Probes, ProbingSnapshot},
    http::HttpLoadProbe,
    policy::Probing,
};
