//! The registries: each against a server that speaks its protocol, and against the real one
//! where it can be had (`bash .ci/run servers` gets etcd and dnsmasq; without it, or with
//! `BUTTRESS_REQUIRE_SERVERS=1` not set, those tests say that they were skipped).
//!
//! Servers inside the test run under paused time, real ones over sockets: hickory's name server, too,
//! though it runs inside the test.

#![cfg(any(feature = "consul", feature = "dns", feature = "etcd", feature = "kubernetes"))]

#[cfg(feature = "consul")]
#[path = "registries/balanced.rs"]
mod balanced;
#[cfg(feature = "consul")]
#[path = "registries/consul.rs"]
mod consul;
#[cfg(feature = "dns")]
#[path = "registries/dns.rs"]
mod dns;
#[cfg(feature = "dns")]
#[path = "registries/dns_server.rs"]
mod dns_server;
#[cfg(feature = "dns")]
#[path = "registries/dns_zone.rs"]
mod dns_zone;
#[cfg(feature = "etcd")]
#[path = "registries/etcd.rs"]
mod etcd;
#[cfg(feature = "etcd")]
#[path = "registries/etcd_server.rs"]
mod etcd_server;
#[cfg(feature = "kubernetes")]
#[path = "registries/kubernetes.rs"]
mod kubernetes;
#[cfg(any(feature = "dns", feature = "etcd"))]
#[allow(dead_code, reason = "the servers of other tests need more of it")]
#[path = "servers/process.rs"]
mod process;
#[path = "registries/said.rs"]
mod said;
