//! How connections are made and kept.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::event::Observer;

/// How long a connection may take to be made.
///
/// A SYN that is lost is sent again after 1 s (RFC 6298, section 2.1), and within a data centre
/// an answer takes less than a millisecond: who has not answered by then is gone, full, or
/// behind a lossy path, and another endpoint is quicker than a second SYN. Finagle's default,
/// too.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection is kept while nobody uses it.
///
/// A server that hangs up just as a request is sent leaves it open whether the request happened
/// (RFC 9112, section 9.5), so the client must be the first to hang up. Node (to version 23),
/// Apache and uvicorn wait for 5 s, Tomcat 20 s, nginx 75 s. An endpoint that is called more
/// often than this keeps its connections anyway.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How many unused HTTP/1.1 connections are kept. More than one endpoint usually serves at
/// once, and a bound on the sockets that a burst leaves behind.
pub const DEFAULT_MAX_IDLE: usize = 128;

/// How long an HTTP/2 connection with requests on it may be silent before it is pinged: the
/// shortest that gRPC proposal A8 lets a client choose.
pub const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to a ping may take: far more than any round trip, so that only the dead
/// are found dead. gRPC waits for 20 s; but a busy server answers pings before requests.
pub const DEFAULT_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// After which silence TCP itself asks whether the peer is there; the operating system's two
/// hours outlast every NAT table. Go's dialler uses the same.
pub const DEFAULT_TCP_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1: one request at a time on a connection.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge: all requests share one connection.
    Http2,
}

/// How a [`Transport`](super::Transport) makes and keeps its connections.
#[derive(Clone, Debug)]
#[must_use]
pub struct TransportConfig {
    pub(super) protocol: Protocol,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
    pub(super) ping: Option<Ping>,
    pub(super) ping_while_idle: bool,
    pub(super) nodelay: bool,
    pub(super) tcp_keep_alive: Option<Duration>,
    pub(super) observer: Observer,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ping {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl TransportConfig {
    /// HTTP/1.1, all else by default.
    pub const fn http1() -> Self {
        Self {
            protocol: Protocol::Http1,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            max_idle: DEFAULT_MAX_IDLE,
            ping: Some(Ping { interval: DEFAULT_PING_INTERVAL, timeout: DEFAULT_PING_TIMEOUT }),
            ping_while_idle: false,
            nodelay: true,
            tcp_keep_alive: Some(DEFAULT_TCP_KEEP_ALIVE),
            observer: Observer::none(),
        }
    }

    /// HTTP/2 with prior knowledge, all else by default.
    pub fn http2() -> Self {
        Self { protocol: Protocol::Http2, ..Self::http1() }
    }

    /// Which HTTP is spoken.
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// How long a connection may take to be made.
    ///
    /// # Errors
    ///
    /// [`InvalidTransport`] if it is zero.
    pub fn connect_timeout(mut self, limit: Duration) -> Result<Self, InvalidTransport> {
        self.connect_timeout = above_zero(limit, NO_CONNECT_TIMEOUT)?;
        Ok(self)
    }

    /// How long a connection is kept while nobody uses it.
    ///
    /// # Errors
    ///
    /// [`InvalidTransport`] if it is zero.
    pub fn idle_timeout(mut self, limit: Duration) -> Result<Self, InvalidTransport> {
        self.idle_timeout = above_zero(limit, NO_IDLE_TIMEOUT)?;
        Ok(self)
    }

    /// How many unused connections are kept; 0 uses no connection twice.
    pub const fn max_idle(mut self, connections: usize) -> Self {
        self.max_idle = connections;
        self
    }

    /// Pings an HTTP/2 connection that was silent for `interval`, and gives it up when no
    /// answer comes within `timeout`.
    ///
    /// # Errors
    ///
    /// [`InvalidTransport`] if one of them is zero.
    pub fn ping(mut self, interval: Duration, timeout: Duration) -> Result<Self, InvalidTransport> {
        self.ping = Some(Ping {
            interval: above_zero(interval, NO_PING)?,
            timeout: above_zero(timeout, NO_PING)?,
        });
        Ok(self)
    }

    /// Sends no pings: a dead HTTP/2 connection is found when an attempt on it times out.
    pub const fn no_ping(mut self) -> Self {
        self.ping = None;
        self
    }

    /// Whether a connection without requests is pinged, too. gRPC servers that were not told to
    /// permit it hang up (`too_many_pings`).
    pub const fn ping_while_idle(mut self, ping: bool) -> Self {
        self.ping_while_idle = ping;
        self
    }

    /// Whether small pieces are sent at once (`TCP_NODELAY`).
    pub const fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// After which silence TCP itself asks whether the peer is there; `None` for never.
    ///
    /// # Errors
    ///
    /// [`InvalidTransport`] if it is zero.
    pub fn tcp_keep_alive(mut self, silence: Option<Duration>) -> Result<Self, InvalidTransport> {
        if let Some(silence) = silence {
            above_zero(silence, NO_TCP_KEEP_ALIVE)?;
        }
        self.tcp_keep_alive = silence;
        Ok(self)
    }

    /// What the connect timeout is.
    pub(crate) const fn connecting_takes(&self) -> Duration {
        self.connect_timeout
    }

    /// Whether HTTP/2 is spoken.
    pub(crate) const fn speaks_http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2)
    }

    /// Who hears of connections that took too long.
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self::http1()
    }
}

/// A setting of a transport that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTransport(&'static str);

impl fmt::Display for InvalidTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for InvalidTransport {}

const NO_CONNECT_TIMEOUT: &str =
    "a connect timeout of zero lets no connection be made: set it above zero";
const NO_IDLE_TIMEOUT: &str =
    "an idle timeout of zero keeps no connection: set it above zero, or set max_idle(0)";
const NO_PING: &str = "a ping interval or timeout of zero gives up every connection: set both above zero, or \
     switch pings off with no_ping()";
const NO_TCP_KEEP_ALIVE: &str =
    "a TCP keep-alive of zero can't be: set it above zero, or switch it off with None";

fn above_zero(limit: Duration, otherwise: &'static str) -> Result<Duration, InvalidTransport> {
    if limit.is_zero() { Err(InvalidTransport(otherwise)) } else { Ok(limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_limits_of_zero_and_says_what_to_change() {
        let (zero, some) = (Duration::ZERO, Duration::from_secs(1));
        let config = TransportConfig::default;
        for (result, advice) in [
            (config().connect_timeout(zero), "above zero"),
            (config().idle_timeout(zero), "max_idle(0)"),
            (config().ping(zero, some), "no_ping()"),
            (config().ping(some, zero), "no_ping()"),
            (config().tcp_keep_alive(Some(zero)), "None"),
        ] {
            let error = result.expect_err("zero can't be");
            assert!(error.to_string().contains(advice), "{error}");
        }
        assert!(config().tcp_keep_alive(None).is_ok());
    }
}
