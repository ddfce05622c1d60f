//! Calls one endpoint over HTTP/1.1 or HTTP/2.
//!
//! A [`Transport`] is one endpoint's connections: hyper-util's client, dialling one address. It is
//! the default; any other that is `Clone` [may stand in its place
//! ](crate::docs::stack#a-transport-of-your-own).
//!
//! ```text
//!           ┌ unsent ───────────────────────┐   ┌ handed over ──────────────┐
//! request ──┤ pooled connection? ── dial it ├───┤ head ──── body ───── end  ├── back to the pool
//!           └───────┬───────────────────────┘   └──────┬────────────────────┘
//!              cut off: not sent                  cut off by a timeout: may have happened,
//!                                                 and the connection is not used again
//! ```
//!
//! ```
//! use std::net::SocketAddr;
//! use buttress::{
//!     classify::{Sent, verdict_on_error},
//!     endpoint::{Endpoint, MakeEndpoint},
//!     transport::{HyperTransport, TransportConfig},
//! };
//! use http_body_util::Empty;
//! use tower::{Service, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! # let held = tokio::net::TcpSocket::new_v4()?; // taken, and not listened on
//! # held.bind("127.0.0.1:0".parse()?)?;
//! # let address: SocketAddr = held.local_addr()?;
//! let make = HyperTransport::new(TransportConfig::http1());
//! let mut transport = make.make(&Endpoint::new("payments-1", address));
//!
//! // Dials `address`, and says `Host: payments`.
//! let request = http::Request::get("http://payments/charges/7").body(Empty::<bytes::Bytes>::new())?;
//! let error = transport.ready().await?.call(request).await.unwrap_err();
//! assert_eq!(verdict_on_error(&*error).sent, Sent::No); // nobody listens there
//! # Ok(()) }
//! ```
//!
//! # The name and the address
//!
//! A request's URI is absolute, and its authority is the *service*'s name: it becomes `Host`
//! or `:authority` (a `Host` header that is there already is kept in HTTP/1.1). The connection
//! goes to the *endpoint*'s address, whatever the URI says. The version that the request claims
//! does not matter: a hop speaks its own.
//!
//! # The hand-over
//!
//! A request is *unsent* until a connection was found or made for it, and *handed over* from
//! then on. The transport marks both on the [`Trail`](crate::call::Trail), so that a timeout
//! above knows whether what it cuts off may have happened. The mark is set in the same poll in
//! which the connection gets the request, never later; it is early in two cases, and then says
//! "maybe" of what was not sent: a request that waits within an HTTP/2 connection for the
//! server to allow one more stream, and one whose pooled connection turned out to be closed
//! before it took the request (it is then given another connection, silently).
//!
//! An error before the hand-over says so ([`NotHandedOver`], [`ConnectTimeout`]), so it is safe
//! to try again whatever the method. It counts against the endpoint: who can't be reached, or
//! hangs up on each new connection, must not be dialled for nothing.
//!
//! What a server that works turned away unlooked at is another matter: a refused stream, or one
//! above the last id of a `GOAWAY`, as nginx sends after each 1000 requests on a connection.
//! hyper-util does not try those again; their verdict says that retry may, at once and for
//! nothing ([`Retry::Transparent`](crate::classify::Retry::Transparent)).
//!
//! # A timeout condemns its connection
//!
//! When an attempt is dropped at or after its expiry (as the layers of
//! [`timeout`](crate::timeout) say by the trail), its connection is not given to another
//! request: the peer may be gone without a word. That matters for HTTP/2, where to drop a
//! request resets only its stream. Requests that are on the connection already go on. The same
//! holds for a response's body that is dropped past its expiry, if the layer that drops it said
//! by the trail when that is, as those of [`timeout`](crate::timeout) do, directly or with
//! [`collect`](crate::collect) between.
//! A caller who merely loses interest condemns nothing.
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`TransportConfig::protocol`] | HTTP/1.1 | | every server speaks it; HTTP/2 without TLS must be known beforehand |
//! | [`DEFAULT_CONNECT_TIMEOUT`] | 1 s | above 0 | a lost SYN is sent again after 1 s (RFC 6298): another endpoint is quicker |
//! | [`DEFAULT_IDLE_TIMEOUT`] | 4 s | above 0 | below the 5 s at which the most impatient common servers hang up |
//! | [`DEFAULT_MAX_IDLE`] | 128 | any; 0 uses no connection twice | a burst must not leave more sockets open than its peak needs again |
//! | [`DEFAULT_PING_INTERVAL`] | 10 s | above 0, or off | the shortest that gRPC (A8) lets a client choose |
//! | [`DEFAULT_PING_TIMEOUT`] | 5 s | above 0 | a hundred round trips across the world |
//! | [`TransportConfig::ping_while_idle`] | no | | many gRPC servers hang up on it |
//! | [`DEFAULT_TCP_KEEP_ALIVE`] | 15 s | above 0, or off | shorter than the idle limits of NAT and load balancers |
//! | [`TransportConfig::nodelay`] | yes | | Nagle's algorithm and delayed acknowledgements wait for each other, 40 ms |
//!
//! # Cost
//!
//! To learn when a request is handed over takes five allocations a call
//! (`capture_connection`); to leave out hyper-util's addresses in each response saves four. A
//! call has 17 over HTTP/1.1 and 16 over HTTP/2, against 15 of hyper-util's client alone. The
//! rejected alternatives: to watch the request's body from within, which the connection's task
//! looks at only after the hand-over, too late for a timeout on another thread; and a pool of
//! our own.
//!
//! # Errors
//!
//! - [`InvalidTarget`]: the URI is relative, or needs TLS. Nothing was sent.
//! - [`ConnectTimeout`], within hyper-util's error: no connection within its limit.
//! - [`NotHandedOver`]: a connection was made, but broke before it took the request; or it was
//!   not made, by another request that was to make it for both.
//! - hyper-util's error else; [`verdict_on_error`](crate::classify::verdict_on_error) reads it.
//!
//! # When the future is dropped
//!
//! Before the hand-over nothing was sent. Connecting *is dropped with the request that
//! began it*, unless another connection came free first: with an attempt timeout below the
//! time that connecting takes, every attempt would begin anew and none ever arrive, so let the
//! attempt timeout exceed the connect timeout. With HTTP/2, requests that wait for the same
//! connection then fail with [`NotHandedOver`], which is nobody's fault and always safe to try
//! again; the first of them to do so dials.
//!
//! After the hand-over, HTTP/1.1 closes the connection and HTTP/2 resets the stream; the
//! service may go on working.
//!
//! # Events
//!
//! `ConnectTimedOut` ([`TransportConfig::observer`]).

mod body;
mod config;
mod connect;
mod error;
mod future;
mod service;

pub use self::{
    body::TransportBody,
    config::{
        DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_MAX_IDLE, DEFAULT_PING_INTERVAL,
        DEFAULT_PING_TIMEOUT, DEFAULT_TCP_KEEP_ALIVE, InvalidTransport, Protocol, TransportConfig,
    },
    error::{ConnectTimeout, InvalidTarget, NotHandedOver},
    future::ResponseFuture,
    service::{HyperTransport, Transport},
};
