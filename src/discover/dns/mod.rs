//! Endpoints from DNS: the addresses of a name, or its SRV records.
//!
//! [`Dns`] asks again when the records have expired, through hickory's resolver, which asks over
//! TCP what does not fit into a datagram.
//!
//! ```
//! use buttress::discover::{Dns, DnsConfig};
//! # use buttress::discover::RegistryErrorKind;
//! # use futures_util::StreamExt;
//! # use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::BoxError> {
//! // The addresses, for one port of them all …
//! let config = DnsConfig::new("payments.shop.svc.cluster.local.", 8080)?;
//! # let _ = Dns::new(config);
//! // … or ports, priorities and weights as well.
//! let config = DnsConfig::srv("_http._tcp.payments.example.com.")?
//!     .ttl(Duration::from_secs(1), Duration::from_secs(60))?;
//! # let silent = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! # let config = config.servers([silent.local_addr()?])?.timeout(Duration::from_millis(10))?;
//! let mut registry = Dns::new(config);
//! # let error = registry.next().await.ok_or("it never ends")?.expect_err("nobody answers");
//! # assert_eq!(error.kind(), RegistryErrorKind::TimedOut);
//! # Ok(())
//! # }
//! ```
//!
//! # What is read
//!
//! | of an instance | from A and AAAA | from SRV (RFC 2782) |
//! |---|---|---|
//! | id | the address | the target |
//! | address | the record, with the port that was given | the records of the target, with the port of the SRV record |
//! | weight, priority | 1, 0 | the SRV record's; each address of a target has all of its weight |
//!
//! One family of addresses is used ([`DnsConfig::family`]). A target `.` alone says that the
//! service is decidedly not available: that is an empty answer.
//!
//! # When it is asked again
//!
//! After the smallest TTL in the answer, of CNAME records too, but no sooner than the floor and
//! no later than the ceiling; and up to a tenth of that later, so that many clients of one
//! resolver don't come at the same instant. There is no other cache: what a name server gave out
//! with a TTL of 0 is asked for at the floor's pace.
//!
//! # What an answer means
//!
//! | answer | meaning |
//! |---|---|
//! | records | these are all |
//! | NXDOMAIN, or no such records | an empty answer: the last good set stays, unless [`ResilientConfig::keep_when_empty`] says otherwise |
//! | SERVFAIL, REFUSED and the like | an error: the last good set stays |
//! | none in time, or truncated over TCP, too | an error, as above |
//! | a target of SRV that fails | its last addresses stay; said once |
//! | a target of SRV without an address | it is left out; said once |
//!
//! A name without a dot at its end is completed by the search list of the system, if no servers
//! were given. An error of one of these names may hide behind the NXDOMAIN of the next: write
//! the dot where an empty answer is to be believed.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`DnsConfig::ttl`], floor | 5 s | 1 s up to the ceiling | a TTL of 0 is common, and means "don't cache", not "ask without a pause" (Envoy's `dns_refresh_rate`) |
//! | [`DnsConfig::ttl`], ceiling | 5 min | up to a day | how late a move is noticed whose TTL was forgotten at a day |
//! | [`DnsConfig::timeout`] | that of the system, or 5 s | 1 ms to a minute | `resolv.conf` |
//! | [`DnsConfig::servers`] | those of the system, read anew after an error | | |
//! | [`DnsConfig::family`] | IPv4, or else IPv6 | | a host without a route to IPv6 would fail half of the calls |
//!
//! A negative answer is asked for again after 30 s at the latest: somebody may wait for it.
//!
//! # What it was tested with
//!
//! dnsmasq 2.90, and a server of our own for what it can't be made to answer.
//!
//! [`ResilientConfig::keep_when_empty`]: crate::discover::ResilientConfig::keep_when_empty

mod config;
mod lookup;
mod state;
mod stream;

pub use self::{config::DnsConfig, stream::Dns};
