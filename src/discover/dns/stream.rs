//! Asks for a name again and again.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::Stream;
use futures_util::stream::{self, StreamExt};
use hickory_resolver::proto::rr::Name;

use super::{
    config::DnsConfig,
    lookup::{Found, Listed, Resolver},
    state::{Looked, Refresh, Targets, addresses},
};
use crate::{
    discover::{
        family::Family,
        registry::{Answer, Fault, Registry, RegistryError, Watched},
    },
    endpoint::Change,
    entropy::Entropy,
    time::{self, Sleep},
};

/// The addresses of a name in DNS, or what its SRV records say, and every change of them.
///
/// - It says [`Change::Reset`] only when the set differs, and never ends.
/// - If no name server answers well, that gives a [`RegistryError`], and they are asked anew
///   after a wait with jitter, which doubles while that does not help; the last good set stays.
///
/// # Panics
///
/// When it is polled outside of a tokio runtime with timers and I/O. To make one needs none.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Dns {
    watched: Watched<Asked>,
}

impl Dns {
    /// Asks from when it is first polled.
    pub fn new(config: DnsConfig) -> Self {
        let kind = if config.port.is_some() { "the addresses" } else { "the SRV records" };
        let name = format!("DNS for {kind} of `{}`", config.name);
        let asked = Asked {
            name: config.name,
            port: config.port,
            servers: config.servers,
            timeout: config.timeout,
            family: config.family,
            refresh: config.refresh,
            entropy: config.resilience.entropy.fork(),
            resolver: None,
            targets: Targets::default(),
            due: None,
        };
        Self { watched: Watched::new(name, asked, config.resilience) }
    }
}

impl Stream for Dns {
    type Item = Result<Change, RegistryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.watched.poll_said(cx)
    }
}

struct Asked {
    name: Name,
    port: Option<u16>,
    servers: Vec<SocketAddr>,
    timeout: Option<Duration>,
    family: Family,
    refresh: Refresh,
    entropy: Entropy,
    /// None before it is needed and after an error: the system's servers may be others then.
    resolver: Option<Resolver>,
    targets: Targets,
    /// When the last answer is too old.
    due: Option<Instant>,
}

impl Registry for Asked {
    async fn next(&mut self) -> Result<Answer, Fault> {
        if let Some(due) = self.due.take() {
            Sleep::until(due).await;
        }
        let resolver = match self.resolver.take() {
            Some(resolver) => resolver,
            None => Resolver::new(&self.servers, self.timeout, self.family)?,
        };
        let (answer, wait) = match self.port {
            Some(port) => self.addresses(&resolver, port).await?,
            None => self.services(&resolver).await?,
        };
        self.resolver = Some(resolver);
        self.due = Some(time::after(time::now(), wait));
        Ok(answer)
    }
}

impl Asked {
    async fn addresses(
        &mut self,
        resolver: &Resolver,
        port: u16,
    ) -> Result<(Answer, Duration), Fault> {
        let found = resolver.addresses(&self.name).await?;
        Ok(self.believed(found, |ips| addresses(&ips, port)))
    }

    async fn services(&mut self, resolver: &Resolver) -> Result<(Answer, Duration), Fault> {
        let (listed, ttl) = match resolver.services(&self.name).await? {
            Found::Some(listed, ttl) => (listed, ttl),
            Found::None { exists, ttl } => {
                return Ok(self.believed(Found::None { exists, ttl }, |none: Answer| none));
            }
        };
        let Listed { services, names, along } = listed;
        let (looked, ttl) = targets(resolver, names, along, ttl).await;
        let answer = self.targets.answer(&services, looked)?;
        let wait = self.refresh.found(ttl, self.entropy.unit());
        Ok((answer, wait))
    }

    /// What was found, and when to ask again.
    fn believed<T>(&self, found: Found<T>, answer: impl FnOnce(T) -> Answer) -> (Answer, Duration) {
        let chance = self.entropy.unit();
        match found {
            Found::Some(found, ttl) => (answer(found), self.refresh.found(ttl, chance)),
            Found::None { exists, ttl } => {
                let empty = match (exists, self.port) {
                    (false, _) => "there is no such name (NXDOMAIN)",
                    (true, Some(_)) => "the name has no such address",
                    (true, None) => "the name has no SRV record",
                };
                let answer = Answer { empty: Some(empty), ..Answer::default() };
                (answer, self.refresh.none(ttl, chance))
            }
        }
    }
}

/// Looks for the addresses of all targets that did not come along, and for the smallest TTL.
async fn targets(
    resolver: &Resolver,
    names: HashMap<String, Name>,
    mut along: HashMap<String, Vec<IpAddr>>,
    mut ttl: u32,
) -> (HashMap<String, Looked>, u32) {
    let (mut looked, mut open) = (HashMap::new(), Vec::new());
    for (target, mut name) in names {
        if let Some(ips) = along.remove(&target) {
            looked.insert(target, Looked::Found(ips));
        } else if !name.is_root() {
            // A target is whole: no search list is tried.
            name.set_fqdn(true);
            open.push((target, name));
        }
    }
    let mut looking = stream::iter(open)
        .map(|(target, name)| async move { (target, resolver.addresses(&name).await) })
        .buffer_unordered(AT_ONCE);
    while let Some((target, found)) = looking.next().await {
        let found = match found {
            Ok(Found::Some(ips, of_target)) => {
                ttl = ttl.min(of_target);
                Looked::Found(ips)
            }
            Ok(Found::None { .. }) => Looked::None,
            Err(fault) => Looked::Failed(fault),
        };
        looked.insert(target, found);
    }
    (looked, ttl)
}

/// 8: an answer with a hundred targets is soon looked up, and no name server takes it for an
/// attack.
const AT_ONCE: usize = 8;
