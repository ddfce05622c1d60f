//! Where the endpoints are: a list, a watched file, a registry, or any stream.
//!
//! A source of endpoints is a [`Discover`]: a stream of [`Change`]s. Here are the sources and
//! the stage that keeps one alive; health checks are another stage, and at the end stands the
//! balancer, whose own task polls them. Nothing here needs traffic to move.
//!
//! ```text
//!                            Fixed ─┐
//!                             File ─┤
//!  Dns, Etcd, Consul, Kubernetes ───┼──────────────► health::Checked ─► balancer
//!                           stream ─┴─ Resilient ─┘
//! ```
//!
//! | source | feature | what it needs around it |
//! |---|---|---|
//! | [`Fixed`] | | nothing: it says its list once and ends |
#![cfg_attr(
    feature = "file",
    doc = "| [`File`] | `file` | nothing: it survives a bad file and never ends |"
)]
#![cfg_attr(
    feature = "dns",
    doc = "| [`Dns`] | `dns` | nothing: it asks again when the TTL is over; [more](dns) |"
)]
#![cfg_attr(
    feature = "etcd",
    doc = "| [`Etcd`] | `etcd` | nothing: it lists, watches, and lists again; [more](etcd) |"
)]
#![cfg_attr(
    feature = "consul",
    doc = "| [`Consul`] | `consul` | nothing: it asks with blocking queries; [more](consul) |"
)]
#![cfg_attr(
    feature = "kubernetes",
    doc = "| [`Kubernetes`] | `kubernetes` | nothing: it lists, watches, and lists again; [more](kubernetes) |"
)]
//! | any other stream | | [`Resilient`], unless it never ends and never fails |
//!
//! # What all registries do
//!
//! - They say [`Change::Reset`], and only when the set, a weight, a priority or a zone differs.
//!   An endpoint that stays keeps its state, and one that comes back within a minute has its
//!   state back.
//! - An error ends nothing and takes nothing away. It is reported with what was wrong, whether
//!   there is a last good set, and when the registry is asked anew: after a wait with jitter,
//!   which doubles while that does not help ([`ResilientConfig::backoff`]).
//! - An empty answer is a decision ([`ResilientConfig::keep_when_empty`]). By default it is
//!   reported, and the last good set stays.
//! - An instance that can't be read is left out and reported once; the others count.
//! - They end when they are dropped, and the balancer drops them with its last handle.
//!
//! # Example
//!
//! ```
//! use buttress::discover::{Change, Fixed, Resilient, ResilientConfig};
//! use buttress::endpoint::Endpoint;
//! use futures_util::{StreamExt, stream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::BoxError> {
//! let payments = Endpoint::new("payments-1", "127.0.0.1:40001".parse()?);
//!
//! // A registry whose first stream breaks and whose second is well.
//! let mut streams = vec![
//!     stream::iter([Ok(Change::Reset(vec![payments.clone()]))]).boxed(),
//!     stream::iter([Err("connection reset")]).boxed(),
//! ];
//! let config = ResilientConfig::new()
//!     .backoff(std::time::Duration::from_millis(1), std::time::Duration::from_millis(10))?;
//! let mut registry = Resilient::new(
//!     move || streams.pop().unwrap_or_else(|| stream::pending().boxed()),
//!     config,
//! );
//!
//! // The error is there to be reported; then the registry is asked anew.
//! assert!(matches!(registry.next().await, Some(Err(_))));
//! let change = registry.next().await.ok_or("it never ends")??;
//! assert_eq!(change, Change::Reset(vec![payments]));
//! # Ok(())
//! # }
//! ```
//!
//! # Defaults
//!
//! | setting | default | unit, range | why |
//! |---|---|---|---|
//! | [`ResilientConfig::backoff`], first | 500 ms | up to the longest | a registry that restarts is soon back (Envoy) |
//! | [`ResilientConfig::backoff`], longest | 30 s | up to a day | how stale the set may be once it is back (Envoy) |
//! | [`ResilientConfig::keep_when_empty`] | yes | | an empty answer is more often a fault than the truth |
#![cfg_attr(
    feature = "file",
    doc = "| [`File::interval`] | 500 ms | 1 ms to a day | soon enough for people and deployments; two reads of a small file a second cost nothing |"
)]
//!
//! # Errors
//!
//! An error ends nothing: the last good set stays in use, and the driver reports it.
//! [`Resilient`] adds [`Ended`] and [`EmptyAnswer`] to the errors of its streams.
#![cfg_attr(
    any(feature = "consul", feature = "dns", feature = "etcd", feature = "kubernetes"),
    doc = "The registries say with a [`RegistryError`] what was wrong and what happens next."
)]
#![cfg_attr(
    feature = "file",
    doc = "[`File`] says with a [`FileError`] what is wrong in which line, once for each content."
)]
//!
//! # On drop
//!
//! A source that is dropped is at its end. A file that is being read is read to its end on a
//! thread of the runtime's own, and forgotten. A registry's question that is under way is
//! dropped with it.
//!
//! # Events
//!
//! None of its own: who drives it reports
//! [`DiscoveryFailed`](crate::Event::DiscoveryFailed) and
//! [`DiscoveryEnded`](crate::Event::DiscoveryEnded).

mod config;
#[cfg(feature = "consul")]
pub mod consul;
#[cfg(feature = "dns")]
pub mod dns;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(any(feature = "dns", feature = "kubernetes"))]
mod family;
#[cfg(feature = "file")]
mod file;
#[cfg(any(feature = "consul", feature = "etcd", feature = "kubernetes"))]
mod http;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
mod lines;
#[cfg(any(feature = "consul", feature = "dns", feature = "etcd", feature = "kubernetes"))]
mod registry;
mod resilient;
mod state;

#[cfg(feature = "consul")]
pub use self::consul::{Consul, ConsulConfig};
#[cfg(feature = "dns")]
pub use self::dns::{Dns, DnsConfig};
#[cfg(feature = "etcd")]
pub use self::etcd::{Etcd, EtcdConfig};
#[cfg(any(feature = "dns", feature = "kubernetes"))]
pub use self::family::Family;
#[cfg(feature = "file")]
pub use self::file::{File, FileError, FileErrorKind};
#[cfg(any(feature = "consul", feature = "etcd", feature = "kubernetes"))]
pub use self::http::HttpClient;
#[cfg(feature = "kubernetes")]
pub use self::kubernetes::{Kubernetes, KubernetesConfig};
#[cfg(any(feature = "consul", feature = "dns", feature = "etcd", feature = "kubernetes"))]
pub use self::registry::{RegistryError, RegistryErrorKind};
pub use self::{
    config::ResilientConfig,
    error::{EmptyAnswer, Ended, InvalidDiscover},
    resilient::Resilient,
};
pub use crate::endpoint::{Change, Discover, Fixed};
