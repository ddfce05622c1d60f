//! Which keys, at which servers.

use std::fmt;

use http::Uri;

use crate::discover::{config::ResilientConfig, error::InvalidDiscover, http::server};

/// How [`Etcd`](super::Etcd) asks.
///
/// ```
/// use buttress::discover::EtcdConfig;
///
/// let config = EtcdConfig::new("services/payments/")?.servers(["http://10.0.0.1:2379"])?;
///
/// let wrong = EtcdConfig::new("services/payments").expect_err("and `payments-test/`?");
/// assert!(wrong.to_string().contains("slash"));
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Debug)]
pub struct EtcdConfig {
    pub(super) prefix: String,
    pub(super) servers: Vec<Uri>,
    pub(super) credentials: Option<Credentials>,
    pub(super) resilience: ResilientConfig,
}

impl EtcdConfig {
    /// The instances whose keys begin with `prefix`.
    ///
    /// # Errors
    ///
    /// If it does not end with a slash, or is nothing more: `payments` is also the beginning of
    /// `payments-test/1`.
    pub fn new(prefix: impl Into<String>) -> Result<Self, InvalidDiscover> {
        let prefix = prefix.into();
        if !prefix.ends_with('/') || prefix.trim_matches('/').is_empty() {
            return Err(InvalidDiscover::new(
                "a prefix in etcd ends with a slash and has more than that, as in \
                 `services/payments/`",
            ));
        }
        let servers = vec![Uri::from_static("http://127.0.0.1:2379")];
        Ok(Self { prefix, servers, credentials: None, resilience: ResilientConfig::new() })
    }

    /// Asks these servers, the members of one cluster (default: `http://127.0.0.1:2379`). One is
    /// asked, from a random one on; the others are for when it fails.
    ///
    /// # Errors
    ///
    /// If there is none, or one is not a scheme, a host and if need be a port.
    pub fn servers<'a>(
        mut self,
        servers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidDiscover> {
        self.servers = servers.into_iter().map(server).collect::<Result<_, _>>()?;
        if self.servers.is_empty() {
            return Err(InvalidDiscover::new("etcd is asked at one server at least"));
        }
        Ok(self)
    }

    /// Asks as this user (default: as nobody). Over `http`, who listens learns the password.
    #[must_use]
    pub fn credentials(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let (name, password) = (name.into(), password.into());
        self.credentials = Some(Credentials { name, password });
        self
    }

    /// How it is asked anew after an error, and what an empty answer means.
    #[must_use]
    pub fn resilience(mut self, resilience: ResilientConfig) -> Self {
        self.resilience = resilience;
        self
    }
}

/// A user.
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}
