//! Asks for records, in hickory's terms.

use std::{collections::HashMap, net::IpAddr, net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
};

use super::state::Service;
use crate::discover::{
    family::Family,
    registry::{Fault, RegistryErrorKind, within},
};

/// What was found of something, and how long that holds.
pub(super) enum Found<T> {
    Some(T, u32),
    /// There is no such name, or no such record.
    None {
        exists: bool,
        ttl: Option<u32>,
    },
}

/// SRV records, and what came along with them.
pub(super) struct Listed {
    pub(super) services: Vec<Service>,
    /// Their targets, as they are asked for.
    pub(super) names: HashMap<String, Name>,
    /// Addresses of targets.
    pub(super) along: HashMap<String, Vec<IpAddr>>,
}

/// Asks name servers.
#[derive(Clone)]
pub(super) struct Resolver {
    inner: TokioResolver,
    family: Family,
}

impl Resolver {
    /// One that asks these servers, or those of the system; and remembers nothing, since an
    /// answer's TTL is the business of who asked.
    pub(super) fn new(
        servers: &[SocketAddr],
        timeout: Option<Duration>,
        family: Family,
    ) -> Result<Self, Fault> {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let config = ResolverConfig::from_name_servers(servers.iter().map(at).collect());
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            Ok(builder)
        };
        let resolver = builder.and_then(|mut builder| {
            let options = builder.options_mut();
            options.cache_size = 0;
            options.timeout = timeout.unwrap_or(options.timeout);
            builder.build()
        });
        let inner = resolver.map_err(|error| {
            let text = format!("the system's configuration of DNS can't be used: {error}");
            Fault::new(RegistryErrorKind::Unreachable, text).because(error.into())
        })?;
        Ok(Self { inner, family })
    }

    /// The addresses of a name, of the first family that has some.
    pub(super) async fn addresses(&self, name: &Name) -> Result<Found<Vec<IpAddr>>, Fault> {
        let mut none = Found::None { exists: false, ttl: None };
        for &v6 in self.family.order() {
            let kind = if v6 { RecordType::AAAA } else { RecordType::A };
            match self.lookup(name, kind).await? {
                Found::Some(lookup, ttl) => {
                    let ips: Vec<_> = lookup.answers().iter().filter_map(ip).collect();
                    if !ips.is_empty() {
                        return Ok(Found::Some(ips, ttl));
                    }
                }
                Found::None { exists, ttl } => none = Found::None { exists, ttl },
            }
        }
        Ok(none)
    }

    /// The SRV records of a name.
    pub(super) async fn services(&self, name: &Name) -> Result<Found<Listed>, Fault> {
        let (lookup, mut ttl) = match self.lookup(name, RecordType::SRV).await? {
            Found::Some(lookup, ttl) => (lookup, ttl),
            Found::None { exists, ttl } => return Ok(Found::None { exists, ttl }),
        };
        let (mut services, mut names) = (Vec::new(), HashMap::new());
        for record in lookup.answers() {
            if let RData::SRV(srv) = &record.data {
                let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                let target = plain(&srv.target);
                names.insert(target.clone(), srv.target.clone());
                services.push(Service { priority, weight, port, target });
            }
        }
        let mut along: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for record in lookup.additionals() {
            // The family that comes first alone: whether a target has no address of it can't be
            // seen from what came along.
            let first = self.family.order().first();
            if let Some(ip) = ip(record).filter(|ip| first == Some(&ip.is_ipv6())) {
                ttl = ttl.min(record.ttl);
                along.entry(plain(&record.name)).or_default().push(ip);
            }
        }
        if services.is_empty() {
            return Ok(Found::None { exists: true, ttl: Some(ttl) });
        }
        Ok(Found::Some(Listed { services, names, along }, ttl))
    }

    async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Found<Lookup>, Fault> {
        let answer = within(LIMIT, self.inner.lookup(name.clone(), kind)).await;
        match answer.unwrap_or(Err(NetError::Timeout)) {
            Ok(lookup) => {
                let ttl = lookup.answers().iter().map(|record| record.ttl).min();
                Ok(Found::Some(lookup, ttl.unwrap_or(0)))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain => {
                    let exists = none.response_code == ResponseCode::NoError;
                    Ok(Found::None { exists, ttl: none.negative_ttl })
                }
                code => Err(refused(code)),
            },
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(refused(code)),
            Err(error) => Err(failed(error)),
        }
    }
}

fn refused(code: ResponseCode) -> Fault {
    Fault::new(RegistryErrorKind::Refused, format!("a name server answered {code}"))
}

fn failed(error: NetError) -> Fault {
    let (kind, text) = match &error {
        NetError::Timeout => (RegistryErrorKind::TimedOut, "no name server answered in time"),
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => {
            (RegistryErrorKind::Unreachable, "no name server can be reached")
        }
        NetError::Truncated => {
            (RegistryErrorKind::Malformed, "the answer was cut off, over TCP too")
        }
        _ => (RegistryErrorKind::Malformed, "a name server's answer can't be used"),
    };
    Fault::new(kind, text).because(error.into())
}

fn at(server: &SocketAddr) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = server.port();
        connection
    };
    let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
    NameServerConfig::new(server.ip(), true, connections)
}

fn ip(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    }
}

/// As it is compared and shown.
fn plain(name: &Name) -> String {
    name.to_lowercase().to_ascii().trim_end_matches('.').to_owned()
}

/// 30 s for one lookup, with all that is tried again: the resolver's own limit of the system's
/// three tries at two servers, with a slow one for each.
const LIMIT: Duration = Duration::from_secs(30);
