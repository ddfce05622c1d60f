//! Endpoints from the keys below a prefix in etcd.
//!
//! [`Etcd`] lists the keys and watches them from that revision on, through the JSON gateway that
//! each etcd since 3.4 has on its client port; so it needs an HTTP client and no gRPC.
//!
//! ```
//! use buttress::discover::{Change, Etcd, EtcdConfig};
//! use futures_util::StreamExt;
//! # use std::{convert::Infallible, future::ready};
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::BoxError> {
//! # let etcd = tower::service_fn(|_: Request<Full<Bytes>>| {
//! #     // services/payments/payments-1 and {"address": "10.0.0.7:8080", "weight": 3}
//! #     let body = r#"{"header": {"revision": "7"}, "count": "1", "kvs": [{
//! #         "key": "c2VydmljZXMvcGF5bWVudHMvcGF5bWVudHMtMQ==",
//! #         "value": "eyJhZGRyZXNzIjogIjEwLjAuMC43OjgwODAiLCAid2VpZ2h0IjogM30="}]}"#;
//! #     ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body))))
//! # });
//!
//! let config = EtcdConfig::new("services/payments/")?
//!     .servers(["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"])?;
//! // `Etcd::new(config)?` asks over connections of its own.
//! let mut registry = Etcd::over(config, etcd);
//! let Some(Ok(Change::Reset(endpoints))) = registry.next().await else {
//!     return Err("it is there and well".into());
//! };
//! assert_eq!((endpoints[0].id(), endpoints[0].weight()), ("payments-1", 3));
//! # Ok(())
//! # }
//! ```
//!
//! # What is read
//!
//! Each key below the prefix is an instance; what follows the prefix is its id. Its value is its
//! address, or a JSON object:
//!
//! ```text
//! services/payments/payments-1    10.0.0.7:8080
//! services/payments/payments-2    {"address": "10.0.0.8:8080", "weight": 3, "priority": 1, "zone": "eu-1a"}
//! ```
//!
//! `Addr` is read as `address`, and fields that are not known are passed over: so are read the
//! values that etcd's own `naming/endpoints` for Go writes. Addresses are IP addresses.
//!
//! An instance registers itself with a lease of some seconds, which it keeps alive: then its key
//! goes when it dies, and with the key the endpoint.
//!
//! # When something breaks
//!
//! - A member that can't be reached, or answers with an error, is left for the next one. Only if
//!   none answers it is an error.
//! - The watch asks for a leader: a member that was cut off from the others says so, instead of
//!   being silent for ever.
//! - A watch that ends, or whose revision was compacted before it began, leads to another list:
//!   what happened meanwhile is in it. So does an etcd that was restored from an older state.
//! - Every 5 to 10 minutes there is another list anyway, so that a connection which broke
//!   without a word makes nobody blind for longer. (Connections of its own are probed by TCP,
//!   too.)
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`EtcdConfig::servers`] | `http://127.0.0.1:2379` | at least one | etcd's own |
//! | [`EtcdConfig::credentials`] | none | | |
//!
//! # What it was tested with
//!
//! etcd 3.4.23, one and a cluster of three: leases that run out, compaction, restarts, a member
//! and a quorum that are lost, and passwords.

mod config;
mod parse;
mod state;
mod stream;

pub use self::{config::EtcdConfig, stream::Etcd};
