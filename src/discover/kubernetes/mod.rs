//! Endpoints from the EndpointSlices of a Kubernetes service.
//!
//! [`Kubernetes`] lists the slices (`discovery.k8s.io/v1`) and watches them from that version on.
//! It needs no `kube` and no `k8s-openapi`: any HTTP client that is a service carries its
//! requests, be it hyper's over TLS or `kube::Client` in a closure.
//!
//! ```
//! use buttress::discover::{Change, Kubernetes, KubernetesConfig};
//! use futures_util::StreamExt;
//! # use std::{convert::Infallible, future::ready};
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::BoxError> {
//! # let api = tower::service_fn(|_: Request<Full<Bytes>>| {
//! #     let body = r#"{"metadata": {"resourceVersion": "7"}, "items": [{
//! #         "metadata": {"name": "payments-x7k2p"}, "addressType": "IPv4",
//! #         "ports": [{"name": "http", "port": 8080}],
//! #         "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": true},
//! #             "zone": "eu-1a", "targetRef": {"kind": "Pod", "name": "payments-1"}}]}]}"#;
//! #     ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body))))
//! # });
//!
//! let config = KubernetesConfig::new("shop", "payments")?.port_name("http");
//! // In a pod, `KubernetesConfig::in_cluster("payments")?` knows the rest by itself, and `api`
//! // is a client that trusts the cluster's certificate.
//! let mut registry = Kubernetes::over(config, api);
//! let Some(Ok(Change::Reset(endpoints))) = registry.next().await else {
//!     return Err("it is there and well".into());
//! };
//! assert_eq!(endpoints[0].address(), "10.0.0.7:8080".parse()?);
//! assert_eq!(endpoints[0].zone(), Some("eu-1a"));
//! # Ok(())
//! # }
//! ```
//!
//! With `kube`, whose client knows the server, the token and the certificate:
//!
//! ```text
//! let client = kube::Client::try_default().await?;
//! let api = tower::service_fn(move |request| {
//!     let client = client.clone();
//!     async move { client.send(request).await }
//! });
//! Kubernetes::over(KubernetesConfig::new("shop", "payments")?, api)
//! ```
//!
//! # What is read
//!
//! - The endpoints of all slices with the label `kubernetes.io/service-name`, each address once:
//!   it may be in two slices while it moves from one to the other.
//! - Of each, the first address; all of them are the same instance.
//! - The port is that of the given name, or the only one. A slice that says nothing of ports
//!   allows them all: then [`KubernetesConfig::port`] says which.
//! - The id is the name of the pod, or the address without one.
//! - Those that are *ready* count. If none is, those that are *terminating* and still *serving*
//!   do, as with kube-proxy. (`publishNotReadyAddresses` of the service makes all of them ready.)
//! - Of a dual-stack service one family is used, since both are the same pods:
//!   [`KubernetesConfig::family`].
//! - The zone is the endpoint's. Where the slices have hints and it is known
//!   [which zone](KubernetesConfig::zone) or [node](KubernetesConfig::node) asks, those that are
//!   hinted for it have priority 0 and the others 1. As with kube-proxy, hints count only if
//!   each endpoint has some and one of them is for us.
//!
//! # The watch
//!
//! It goes on from the last version that was seen, which bookmarks move forward. A version that
//! is too old (410 Gone, as a status or as an event) leads to another list, at once. The server
//! ends a watch after 5 to 10 minutes, as it is asked to; the next one goes on from there, and a
//! watch that lasts much longer than that is not trusted.
//!
//! The account needs to be allowed `list` and `watch` on `endpointslices`.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`KubernetesConfig::server`] | `https://kubernetes.default.svc` | | its name in each cluster |
//! | [`KubernetesConfig::token_file`] | none; that of the pod `in_cluster` | | read anew for each request, since it is changed every hour |
//! | [`KubernetesConfig::family`] | IPv4, or else IPv6 | | as most clusters were built |
//! | [`KubernetesConfig::not_ready`] | no | | who is not ready says so for a reason |
//!
//! # What it was tested with
//!
//! A server of our own that lists and watches as the documentation of the API says: no API
//! server could be had where this was written.

mod config;
mod parse;
mod state;
mod stream;

pub use self::{
    config::{KubernetesConfig, OutsideCluster},
    stream::Kubernetes,
};
