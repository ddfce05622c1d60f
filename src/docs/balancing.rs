//! How an endpoint is picked, and what that is worth near the capacity.
//!
//! # Which policy
//!
//! | policy | goes by | for |
//! |---|---|---|
//! | [`PeakEwma`], the default | latency × calls in flight, or the servers' own reports | nearly everything |
//! | [`LeastRequest`] | calls in flight | calls whose latency says nothing: streams, long polls |
//! | [`RoundRobin`] | nothing | endpoints and calls that are all alike |
//! | [`Weighted`] | given weights, or what servers report of their capacity | endpoints of known, unlike sizes |
//! | [`RingHash`], [`Maglev`] | a key of the call | caches and sessions |
//! | [`Probing`] | what the servers answer to probes: requests in flight, and latency | dear calls of many clients to servers whose capacity changes |
//! | [`Priorities`], [`Zones`] | levels, and what is near; then any of these | a standby, several zones |
//! | [`Aperture`] | which client this is; then any of these | hundreds of clients and of servers |
//! | one of your own | what you like | see [`Policy`] |
//!
//! It is chosen with [`BalanceConfig::policy`], which [`Builder::balance`] takes:
//!
//! ```
//! # #[cfg(feature = "hyper")] {
//! use buttress::{balance::{BalanceConfig, LeastRequest}, client::Client};
//!
//! let events = Client::builder("events").balance(BalanceConfig::new().policy(LeastRequest::new()));
//! # let _ = events; }
//! ```
//!
//! Which endpoints may be called at all (health, breakers, `Retry-After`, those that a call has
//! tried) is the same for all of them, and so is *doubt*: an endpoint that has just failed loses
//! against every other; only a key stays where it is at home until a breaker or a check has said
//! that nobody answers there. What each costs stands in [`balance`](crate::balance#policies).
//!
//! # What the default does
//!
//! Of two endpoints drawn at random it takes the less loaded one. It knows of their load what
//! their answers tell: how long they took, how many are outstanding, and for how long nothing has
//! come. The older that is, the nearer an endpoint counts as what is usual in the fleet.
//!
//! With many endpoints what is known of the one that was drawn is mostly old. Then those that have
//! *just answered* are looked at as well: of them something is known, and they have a place free. In
//! the ramp below that alone takes more off the p99 than anything but a report.
//!
//! # What a report is worth
//!
//! A server that says in its answers how many requests it works on is believed while that is fresh.
//! It costs the server a counter and a header, in any of the forms of
//! [ORCA](crate::endpoint::LoadReport):
//!
//! ```text
//! endpoint-load-metrics: TEXT named_metrics.requests_in_flight=7
//! ```
//!
//! Nothing has to be switched on. A client looks for the header in one of 64 answers, by the
//! clock, and in all of them once it has found one; services that send none pay for a branch. Of
//! gRPC it is read in the head and in the trailers.
//!
//! # What a probe is worth
//!
//! A server that is asked knows as much, and can be asked when nobody calls it: that is Prequal, and
//! [`Probing`] is it. It costs three small requests a call, which take no call's time and no call's
//! place, but a connection to every endpoint, and a server that answers them before all else:
//!
//! ```
//! # #[cfg(feature = "hyper")] {
//! use buttress::{
//!     balance::{BalanceConfig, HttpLoadProbe, Probing, ProbingConfig},
//!     client::Client,
//!     transport::{HyperTransport, TransportConfig},
//! };
//!
//! let transport = HyperTransport::new(TransportConfig::http1());
//! let probe = HttpLoadProbe::new(transport, "http://jobs/load")?;
//! let policy = Probing::new(probe, ProbingConfig::new());
//! let jobs = Client::builder("http://jobs").balance(BalanceConfig::new().policy(policy));
//! # let _ = jobs; }
//! # Ok::<(), buttress::BoxError>(())
//! ```
//!
//! In the ramp below probes do better than what answers alone tell, the more so the fuller the servers
//! are. Reports in the answers do better yet where there are a hundred servers, and are for nothing;
//! where there are a thousand, of each of which a client hears once in twenty seconds, probes do as well
//! at 1.03 of the capacity and better at 1.27.
//!
//! What a server needs for it is a counter, and of what its answers take the median of those that came
//! to about as many requests as it has now: [`algo::by_load`](crate::algo::by_load) keeps that, in the
//! ramp as well. How far away a server is it does not know; a client of servers in several regions
//! picks among [`Zones`] first.
//!
//! # The load ramp
//!
//! After the testbed of Prequal (B. Wydrowski, R. Kleinberg, S. Rumble, A. Archer: "Load is not
//! what you should balance: Introducing Prequal", NSDI 2024, section 5), in virtual time: a
//! hundred clients and a hundred servers. Each server has four cores of a machine of forty, and what
//! its neighbours leave of the rest; they use 60 to 100 % of it, and change their mind every ten
//! seconds or so. Requests are of normal size with a deviation as large as the mean, truncated at zero
//! (84 ms of one core on average, 220 ms in the largest of a hundred); they time out after 5 s. Load
//! is given as a part of what is allocated: at 1.03 a quarter of the servers, those whose machine
//! is full, can't do their share. 15 s after a warm-up of 5 s, means of ten seeds.
//!
#![doc = include_str!("balancing/ramp.md")]
//!
#![doc = include_str!("balancing/ramp.svg")]
//!
//! The oracle sends each request to the server with the fewest, of all, at that moment. Probes are as
//! long on the way as requests, 250 µs each way, and are sent as the paper has it, three a call. tower's
//! Peak EWMA is its rule of 0.5 with the settings of linkerd; the
//! weights of the weighted round robin are rate over utilization as in gRFC A58, and since each
//! core does as much as any other, they say that all servers are alike.
//!
//! A thousand clients and a thousand servers (one seed), where each client calls each server once
//! in twenty seconds:
//!
#![doc = include_str!("balancing/thousand.md")]
//!
//! `cargo run --release --example ramp` makes the tables and the plot anew. To put a policy of your
//! own, or servers like yours, into such a fleet, see [`testing`](crate::testing) (feature
//! `testing`).
//!
//! # What it costs
//!
//! With servers that are all idle, nobody has a queue, and whoever was lucky with the size of the
//! requests that he got is preferred for some seconds: of ten servers and three clients that make 20
//! calls a second each, one had 1.7 times its share over 20 s. It evens out as soon as there is
//! something to lose.
//!
//! [`PeakEwma`]: crate::balance::PeakEwma
//! [`LeastRequest`]: crate::balance::LeastRequest
//! [`RoundRobin`]: crate::balance::RoundRobin
//! [`Weighted`]: crate::balance::Weighted
//! [`RingHash`]: crate::balance::RingHash
//! [`Maglev`]: crate::balance::Maglev
//! [`Probing`]: crate::balance::Probing
//! [`Priorities`]: crate::balance::Priorities
//! [`Zones`]: crate::balance::Zones
//! [`Aperture`]: crate::balance::Aperture
//! [`Policy`]: crate::balance::Policy
//! [`BalanceConfig::policy`]: crate::balance::BalanceConfig::policy
//! [`Builder::balance`]: crate::client::Builder::balance
