//! Active health checks: asks every endpoint how it is, whether there are calls or not.
//!
//! ```text
//!              first answer good                    rise good answers in a row
//!    Pending ───────────────────► Healthy ◄──────────────────────────────────── Unhealthy
//!       │                            └───────────────────────────────────────────►  ▲
//!       │                             fall failures in a row, or "I do not serve"   │
//!       └───────────────────────────────────────────────────────────────────────────┘
//!                                     first answer bad
//! ```
//!
//! [`Checked`] is a stage between a registry and the balancer: a stream of
//! [`Change`](crate::endpoint::Change)s in, the same with verdicts out. An endpoint is
//! [`Pending`](crate::endpoint::Health::Pending) until its first answer, and not called while
//! others can be.
//!
//! A check sees what calls can't: that an endpoint without traffic is gone, and that one that
//! was shunned is back. What calls see sooner (errors, slowness) is the breakers' business, and
//! a good check never overrules them: it may only let them try sooner.
//!
//! # Example
//!
//! ```
//! use buttress::BoxError;
//! use buttress::endpoint::{Change, Endpoint, Fixed, Health};
//! use buttress::health::{Checked, HealthConfig};
//! use futures_util::StreamExt;
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let registry = Fixed::new([listener.local_addr()?]);
//! let connects = |endpoint: &Endpoint| {
//!     let address = endpoint.address();
//!     async move { TcpStream::connect(address).await.map(drop) }
//! };
//! let mut changes = Checked::new(registry, connects, HealthConfig::new());
//!
//! let mut next = async || changes.next().await.ok_or("it goes on")?;
//! assert!(matches!(next().await?, Change::Reset(_)));
//! assert!(matches!(next().await?, Change::Health(_, Health::Pending)));
//! assert!(matches!(next().await?, Change::Health(_, Health::Healthy)));
//! # Ok(())
//! # }
//! ```
//!
//! The question is any [`Probe`]: a closure as here, or a page that is asked for.
#![cfg_attr(
    feature = "hyper",
    doc = "That is [`HttpProbe`]; [`GrpcProbe`] speaks gRPC's health protocol, [`TcpProbe`] connects."
)]
//! One that is told of each change [listens](Probe::watch) instead of asking.
//!
//! # Defaults
//!
//! | setting | default | unit, range | why |
//! |---|---|---|---|
//! | [`HealthConfig::rise`] | 2 | good answers in a row, from 1 | one may be luck (HAProxy) |
//! | [`HealthConfig::fall`] | 3 | failures in a row, from 1 | a lost probe is no outage (HAProxy) |
//! | [`HealthConfig::interval`] | 5 s | 1 ms to a day | known after 7 to 11 s without traffic; breakers see it sooner with |
//! | [`HealthConfig::unhealthy_interval`] | 2 s | 1 ms to a day | its return is capacity (HAProxy's `inter`) |
//! | [`HealthConfig::edge_interval`] | 1 s | 1 ms to a day | a doubt should be settled soon |
//! | [`HealthConfig::no_traffic_interval`] | 60 s, where it is known who has calls | 1 ms to a day | nobody waits for it (Envoy) |
//! | [`HealthConfig::jitter_percent`] | 20 | percent, to 50 | clients that started together drift apart |
//! | [`HealthConfig::timeout`] | 1 s | 1 ms to a day | as Kubernetes |
//!
//! The first check begins at once, since calls may wait for it. Intervals count from the end of
//! a check to the beginning of the next, so that checks of an endpoint never overlap.
//!
//! # Errors
//!
//! The registry's errors go through; a failed check is no error of the stream. [`Unavailable`]
//! in the answer of a probe makes the endpoint unhealthy at once.
//!
//! # On drop
//!
//! Every check ends with the stage, in the middle of a probe if need be, and its connection is
//! closed.
//!
//! # Events
//!
//! [`Event::ProbeFailed`](crate::Event::ProbeFailed) for each check that failed, with the
//! reason, to [`HealthConfig::observer`]. The verdicts themselves are changes of the stream, and
//! who drives it reports them as [`Event::HealthChanged`](crate::Event::HealthChanged).

mod check;
mod checked;
mod config;
#[cfg(feature = "hyper")]
mod grpc;
#[cfg(feature = "hyper")]
mod http;
mod probe;
mod state;
#[cfg(feature = "hyper")]
mod tcp;

pub use self::{
    checked::Checked,
    config::{HealthConfig, InvalidHealth},
    probe::{Probe, ProbeTimedOut, Teller, Unavailable},
    state::{Finding, HealthState},
};
#[cfg(feature = "hyper")]
pub use self::{
    grpc::{GrpcProbe, HealthStatus, NoHealthAnswer, ServingStatus},
    http::{HttpProbe, UnexpectedStatus},
    tcp::TcpProbe,
};
