//! Which service, at which agent, and how it is asked.

use std::time::Duration;

use http::{HeaderValue, Uri};

use crate::discover::{
    config::ResilientConfig,
    error::InvalidDiscover,
    http::{escaped, secret, server},
};

/// How [`Consul`](super::Consul) asks.
///
/// ```
/// use buttress::discover::ConsulConfig;
///
/// let config = ConsulConfig::new("payments")?.server("http://10.0.0.2:8500")?.token("s3cret")?;
/// assert!(!format!("{config:?}").contains("s3cret"));
///
/// let wrong = ConsulConfig::new("payments")?.server("10.0.0.2:8500");
/// assert!(wrong.is_err(), "http or https?");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Debug)]
pub struct ConsulConfig {
    pub(super) service: String,
    pub(super) server: Uri,
    pub(super) token: Option<HeaderValue>,
    datacenter: Option<String>,
    tags: Vec<String>,
    pub(super) warning: bool,
    stale: bool,
    pub(super) wait: Duration,
    pub(super) pace: Duration,
    pub(super) resilience: ResilientConfig,
}

impl ConsulConfig {
    /// The healthy instances of this service, as the agent on this host knows them.
    ///
    /// # Errors
    ///
    /// If the name is blank.
    pub fn new(service: impl Into<String>) -> Result<Self, InvalidDiscover> {
        let service = service.into();
        if service.trim().is_empty() {
            return Err(InvalidDiscover::new("a service in Consul has a name, which is not blank"));
        }
        Ok(Self {
            service,
            server: Uri::from_static("http://127.0.0.1:8500"),
            token: None,
            datacenter: None,
            tags: Vec::new(),
            warning: false,
            stale: false,
            wait: WAIT,
            pace: PACE,
            resilience: ResilientConfig::new(),
        })
    }

    /// Asks this agent (default: `http://127.0.0.1:8500`).
    ///
    /// # Errors
    ///
    /// If it is not a scheme, a host and if need be a port.
    pub fn server(mut self, written: &str) -> Result<Self, InvalidDiscover> {
        self.server = server(written)?;
        Ok(self)
    }

    /// Shows this token, which must be allowed to read the service and its nodes (default:
    /// none).
    ///
    /// # Errors
    ///
    /// If it can't stand in a header.
    pub fn token(mut self, token: &str) -> Result<Self, InvalidDiscover> {
        self.token = Some(secret(token)?);
        Ok(self)
    }

    /// Asks for the instances of this datacenter (default: the agent's own).
    #[must_use]
    pub fn datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.datacenter = Some(datacenter.into());
        self
    }

    /// Asks for instances with this tag alone, and with those of earlier calls (default: any).
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Whether instances with a warning are named as well, with their weight for that case
    /// (default: no).
    #[must_use]
    pub const fn warning(mut self, warning: bool) -> Self {
        self.warning = warning;
        self
    }

    /// Whether any server may answer, though it may be behind (default: no). The leader is then
    /// not asked by every client of a fleet, and answers come while there is none.
    #[must_use]
    pub const fn stale(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }

    /// Lets the agent wait so long for a change (default: 5 min).
    ///
    /// # Errors
    ///
    /// If it is less than a second or more than 10 minutes, which Consul does not wait.
    pub fn wait(mut self, wait: Duration) -> Result<Self, InvalidDiscover> {
        if wait < Duration::from_secs(1) || wait > Duration::from_secs(600) {
            return Err(InvalidDiscover::new(
                "a blocking query waits for at least a second and at most 10 minutes",
            ));
        }
        self.wait = wait;
        Ok(self)
    }

    /// Asks at most once in so long, when answers come faster (default: 1 s). Two may follow
    /// each other at once.
    ///
    /// # Errors
    ///
    /// If it is more than a minute.
    pub fn pace(mut self, pace: Duration) -> Result<Self, InvalidDiscover> {
        if pace > Duration::from_secs(60) {
            return Err(InvalidDiscover::new("a pace must be at most a minute"));
        }
        self.pace = pace;
        Ok(self)
    }

    /// How it is asked anew after an error, and what an empty answer means.
    #[must_use]
    pub fn resilience(mut self, resilience: ResilientConfig) -> Self {
        self.resilience = resilience;
        self
    }

    /// Path and query, without the index.
    pub(super) fn target(&self) -> String {
        let seconds = self.wait.as_secs_f64().ceil();
        let mut target = format!("/v1/health/service/{}?wait={seconds}s", escaped(&self.service));
        if !self.warning {
            target.push_str("&passing=1");
        }
        if self.stale {
            target.push_str("&stale=");
        }
        if let Some(datacenter) = &self.datacenter {
            target.push_str(&format!("&dc={}", escaped(datacenter)));
        }
        for tag in &self.tags {
            target.push_str(&format!("&tag={}", escaped(tag)));
        }
        target
    }
}

/// 5 min, as Consul waits when it is not told. Shorter only asks more often, longer only keeps a
/// connection that broke without a word for longer.
const WAIT: Duration = Duration::from_secs(5 * 60);

/// 1 s. Consul's documentation asks for a token bucket with a burst of two, and as an example
/// for one request in 15 s; that would follow a deployment of twenty instances a quarter of an
/// hour late.
const PACE: Duration = Duration::from_secs(1);
