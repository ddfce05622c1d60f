//! Which name, at which servers, and how often.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::proto::rr::Name;

use super::state::Refresh;
use crate::discover::{
    config::{DAY, ResilientConfig},
    error::InvalidDiscover,
    family::Family,
};

/// How [`Dns`](super::Dns) asks.
///
/// ```
/// use buttress::discover::DnsConfig;
///
/// let config = DnsConfig::new("payments.example.com.", 8080)?
///     .servers(["127.0.0.1:5353".parse()?])?;
///
/// let wrong = DnsConfig::new("10.0.0.7", 8080).expect_err("no name");
/// assert!(wrong.to_string().contains("`Fixed`"));
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Debug)]
pub struct DnsConfig {
    pub(super) name: Name,
    /// Of addresses; none for SRV records, which have their own.
    pub(super) port: Option<u16>,
    /// Empty for the system's.
    pub(super) servers: Vec<SocketAddr>,
    pub(super) family: Family,
    pub(super) timeout: Option<Duration>,
    pub(super) refresh: Refresh,
    pub(super) resilience: ResilientConfig,
}

impl DnsConfig {
    /// The addresses of a name, and this port of each.
    ///
    /// # Errors
    ///
    /// If it is not a name, or the port is 0.
    pub fn new(name: &str, port: u16) -> Result<Self, InvalidDiscover> {
        if port == 0 {
            return Err(InvalidDiscover::new("a port that can be called is not 0"));
        }
        Self::of(name, Some(port))
    }

    /// What the SRV records of a name say, as `_http._tcp.payments.example.com.` has them.
    ///
    /// # Errors
    ///
    /// If it is not a name.
    pub fn srv(name: &str) -> Result<Self, InvalidDiscover> {
        Self::of(name, None)
    }

    fn of(name: &str, port: Option<u16>) -> Result<Self, InvalidDiscover> {
        if name.parse::<IpAddr>().is_ok() {
            return Err(InvalidDiscover::new("an address needs no DNS: give it to `Fixed`"));
        }
        let wrong = InvalidDiscover::new("a name in DNS is written as in `payments.example.com.`");
        let parsed = Name::from_str_relaxed(name).map_err(|_| wrong)?;
        if parsed.num_labels() == 0 {
            return Err(wrong);
        }
        Ok(Self {
            name: parsed,
            port,
            servers: Vec::new(),
            family: Family::default(),
            timeout: None,
            refresh: Refresh { floor: FLOOR, ceiling: CEILING },
            resilience: ResilientConfig::new(),
        })
    }

    /// Asks these name servers, over UDP and TCP (default: those of the system, with its search
    /// list and its hosts file).
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn servers(
        mut self,
        servers: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Self, InvalidDiscover> {
        self.servers = servers.into_iter().collect();
        if self.servers.is_empty() {
            return Err(InvalidDiscover::new("DNS is asked at one server at least"));
        }
        Ok(self)
    }

    /// Which addresses are used of instances that have both (default: IPv4, or else IPv6).
    #[must_use]
    pub const fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Asks again no sooner than after `floor` and no later than after `ceiling`, whatever the
    /// TTL (default: 5 s and 5 min).
    ///
    /// # Errors
    ///
    /// If the floor is less than a second or above the ceiling, or the ceiling above a day.
    pub fn ttl(mut self, floor: Duration, ceiling: Duration) -> Result<Self, InvalidDiscover> {
        if floor < Duration::from_secs(1) {
            return Err(InvalidDiscover::new("the floor of a TTL must be at least a second"));
        }
        if floor > ceiling || ceiling > DAY {
            return Err(InvalidDiscover::new(
                "the ceiling of a TTL must be at least its floor, and at most a day",
            ));
        }
        self.refresh = Refresh { floor, ceiling };
        Ok(self)
    }

    /// Waits so long for each answer of a name server, before it is asked again or another one
    /// is (default: as the system does, which is mostly 5 s).
    ///
    /// # Errors
    ///
    /// If it is less than a millisecond or more than a minute.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, InvalidDiscover> {
        if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(60) {
            return Err(InvalidDiscover::new(
                "a name server's timeout must be at least a millisecond and at most a minute",
            ));
        }
        self.timeout = Some(timeout);
        Ok(self)
    }

    /// How it is asked anew after an error, and what an empty answer means.
    #[must_use]
    pub fn resilience(mut self, resilience: ResilientConfig) -> Self {
        self.resilience = resilience;
        self
    }
}

/// 5 s, as Envoy asks where nothing is said of a TTL.
const FLOOR: Duration = Duration::from_secs(5);

/// 5 min: whoever moves a service waits that long at the most.
const CEILING: Duration = Duration::from_secs(5 * 60);
