//! Endpoints from a Consul agent.
//!
//! [`Consul`] asks `/v1/health/service/<name>` with blocking queries: the agent answers when
//! something may have changed, or after a while. The rules of their index are followed to the
//! letter: it begins anew when it goes backwards or when something went wrong, is at least 1,
//! and an answer is not taken for a change. What the agent answers faster than it should is
//! slowed down.
//!
//! ```
//! use buttress::discover::{Change, Consul, ConsulConfig};
//! use futures_util::StreamExt;
//! # use std::future::ready;
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::BoxError> {
//! # let agent = tower::service_fn(|_: Request<Full<Bytes>>| {
//! #     let body = r#"[{"Node": {"Address": "10.0.0.7"}, "Checks": [{"Status": "passing"}],
//! #         "Service": {"ID": "payments-1", "Address": "", "Port": 8080,
//! #             "Weights": {"Passing": 3, "Warning": 1}}}]"#;
//! #     let response = Response::builder().header("x-consul-index", "7");
//! #     ready(response.body(Full::<Bytes>::from(body)))
//! # });
//!
//! let config = ConsulConfig::new("payments")?.datacenter("eu-1").tag("v2");
//! // `Consul::new(config)?` asks the agent at http://127.0.0.1:8500.
//! let mut consul = Consul::over(config, agent);
//! let Some(Ok(Change::Reset(endpoints))) = consul.next().await else {
//!     return Err("it is there and well".into());
//! };
//! assert_eq!(endpoints[0].address(), "10.0.0.7:8080".parse()?);
//! assert_eq!(endpoints[0].weight(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! # What is read
//!
//! | of an instance | from |
//! |---|---|
//! | id | `Service.ID` |
//! | address | `Service.Address`, or `Node.Address` where that is empty; `Service.Port`. Both must be IP addresses |
//! | weight | `Service.Weights.Passing`, or `.Warning` for one with a warning; 1 without |
//! | zone | `Service.Locality.Zone`, or else `Node.Locality.Zone` |
//!
//! The status of an instance is the worst of all its checks, the node's among them.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`ConsulConfig::server`] | `http://127.0.0.1:8500` | | each host has its agent there |
//! | [`ConsulConfig::wait`] | 5 min | 1 s to 10 min | Consul's own; the agent adds up to a sixteenth |
//! | [`ConsulConfig::pace`] | 1 s | up to a minute | a deployment is followed step by step, and an agent that answers at once does not take a core |
//! | [`ConsulConfig::warning`] | no | | who warns is not to be relied on, while others are well |
//! | [`ConsulConfig::stale`] | no | | the leader's answer |
//!
//! # What it was tested with
//!
//! A server of our own that speaks the protocol as its documentation says: no agent could be
//! had where this was written.

mod config;
mod parse;
mod state;
mod stream;

pub use self::{config::ConsulConfig, stream::Consul};
