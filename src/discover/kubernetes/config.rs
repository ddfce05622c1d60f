//! Which service, at which API server, and which of its endpoints.

use std::{
    env,
    error::Error as StdError,
    fmt, fs,
    path::{Path, PathBuf},
};

use http::Uri;

use crate::discover::{
    config::ResilientConfig,
    error::InvalidDiscover,
    family::Family,
    http::{escaped, server},
};

/// How [`Kubernetes`](super::Kubernetes) asks.
///
/// ```
/// use buttress::discover::KubernetesConfig;
///
/// let config = KubernetesConfig::new("shop", "payments")?.port_name("grpc").zone("eu-1a");
///
/// let wrong = KubernetesConfig::new("shop", "payments.shop.svc").expect_err("a name alone");
/// assert!(wrong.to_string().contains("`payments`"));
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Debug)]
pub struct KubernetesConfig {
    pub(super) server: Uri,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) token: Option<PathBuf>,
    pub(super) wanted: Wanted,
    pub(super) resilience: ResilientConfig,
}

/// Which endpoints are wanted, and how they are called.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) port_name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) family: Family,
    pub(super) not_ready: bool,
    pub(super) zone: Option<String>,
    pub(super) node: Option<String>,
}

impl KubernetesConfig {
    /// The endpoints of this service.
    ///
    /// # Errors
    ///
    /// If one of the names can't be one: small letters, digits and hyphens, at most 63.
    pub fn new(
        namespace: impl Into<String>,
        service: impl Into<String>,
    ) -> Result<Self, InvalidDiscover> {
        let (namespace, service) = (namespace.into(), service.into());
        if !is_label(&namespace) || !is_label(&service) {
            return Err(InvalidDiscover::new(
                "a service and its namespace are names by themselves, as in `payments` and `shop`",
            ));
        }
        Ok(Self {
            server: Uri::from_static("https://kubernetes.default.svc"),
            namespace,
            service,
            token: None,
            wanted: Wanted::default(),
            resilience: ResilientConfig::new(),
        })
    }

    /// The endpoints of this service in the pod's own namespace, asked for with the pod's own
    /// token at the server that its environment names.
    ///
    /// # Errors
    ///
    /// [`OutsideCluster`] if this is no pod, or one without a token; [`InvalidDiscover`] if the
    /// name can't be one.
    pub fn in_cluster(service: impl Into<String>) -> Result<Self, crate::error::BoxError> {
        let folder = Path::new(ACCOUNT);
        let namespace = fs::read_to_string(folder.join("namespace")).map_err(OutsideCluster)?;
        let config = Self::new(namespace.trim(), service)?.token_file(folder.join("token"));
        let of = |name| env::var(name).unwrap_or_default();
        match (of("KUBERNETES_SERVICE_HOST"), of("KUBERNETES_SERVICE_PORT")) {
            (host, _) if host.is_empty() => Ok(config),
            (host, port) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                let port = if port.is_empty() { "443".to_owned() } else { port };
                Ok(config.server(&format!("https://{host}:{port}"))?)
            }
        }
    }

    /// Asks this server (default: `https://kubernetes.default.svc`).
    ///
    /// # Errors
    ///
    /// If it is not a scheme, a host and if need be a port.
    pub fn server(mut self, written: &str) -> Result<Self, InvalidDiscover> {
        self.server = server(written)?;
        Ok(self)
    }

    /// Shows the token in this file, which is read anew for each request (default: none, for a
    /// service that shows one itself).
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Some(path.into());
        self
    }

    /// Calls the port of this name (default: the only one).
    #[must_use]
    pub fn port_name(mut self, name: impl Into<String>) -> Self {
        self.wanted.port_name = Some(name.into());
        self
    }

    /// Calls this port of the pods, whatever the slices say (default: what they say).
    ///
    /// # Errors
    ///
    /// If it is 0.
    pub fn port(mut self, port: u16) -> Result<Self, InvalidDiscover> {
        if port == 0 {
            return Err(InvalidDiscover::new("a port that can be called is not 0"));
        }
        self.wanted.port = Some(port);
        Ok(self)
    }

    /// Which addresses of a dual-stack service are used (default: IPv4, or else IPv6).
    #[must_use]
    pub const fn family(mut self, family: Family) -> Self {
        self.wanted.family = family;
        self
    }

    /// Whether endpoints that are not ready are named as well (default: no): for a client that
    /// checks their health itself.
    #[must_use]
    pub const fn not_ready(mut self, not_ready: bool) -> Self {
        self.wanted.not_ready = not_ready;
        self
    }

    /// The zone that this program stands in, for hints (default: unknown).
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.wanted.zone = Some(zone.into());
        self
    }

    /// The node that this program stands on, for hints (default: unknown).
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.wanted.node = Some(node.into());
        self
    }

    /// How it is asked anew after an error, and what an empty answer means.
    #[must_use]
    pub fn resilience(mut self, resilience: ResilientConfig) -> Self {
        self.resilience = resilience;
        self
    }

    /// Path and query, of the list.
    pub(super) fn target(&self) -> String {
        let label = escaped(&format!("kubernetes.io/service-name={}", self.service));
        let namespace = &self.namespace;
        format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={label}"
        )
    }
}

/// RFC 1123, as Kubernetes has it.
fn is_label(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(fits)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Where a pod finds what its account is given.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// This program does not run in a pod, or in one without a service account.
#[derive(Debug)]
pub struct OutsideCluster(std::io::Error);

impl fmt::Display for OutsideCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no pod with a service account: {ACCOUNT}/namespace can't be read")
    }
}

impl StdError for OutsideCluster {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}
