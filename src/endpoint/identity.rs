//! Which instance it is.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::event::Observer;

/// An instance of a service.
///
/// Its identity is its id *and* its address: an instance that was restarted elsewhere is
/// another endpoint, and inherits no open breaker and no bad reputation. What a registry says
/// besides (weight, priority and zone) is no part of it: two endpoints of one identity are equal
/// whatever that is, and an instance whose weight changes keeps its state.
///
/// ```
/// use buttress::endpoint::Endpoint;
///
/// let small = Endpoint::new("payments-1", "127.0.0.1:40001".parse()?);
/// let large = small.clone().with_weight(4).with_zone("eu-1a");
/// assert_eq!(small, large);
/// assert!(small.differs(&large));
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone)]
pub struct Endpoint {
    id: Arc<str>,
    address: SocketAddr,
    weight: u32,
    priority: u32,
    zone: Option<Arc<str>>,
}

impl Endpoint {
    /// An endpoint by its name in the registry, of [`DEFAULT_WEIGHT`], of the first priority and
    /// of no zone.
    pub fn new(id: impl Into<Arc<str>>, address: SocketAddr) -> Self {
        Self { id: id.into(), address, weight: DEFAULT_WEIGHT, priority: 0, zone: None }
    }

    /// Its share of the calls, in proportion to the weights of its peers.
    #[must_use]
    pub const fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Its priority: the lower, the sooner it is to be called.
    #[must_use]
    pub const fn with_priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// The zone that it stands in.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Its name in the registry.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its share of the calls, in proportion to the weights of its peers. 0 is a share so small
    /// that others are nearly always called instead, and not a word for "never"; among peers of
    /// 0 each has the same (RFC 2782).
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }

    /// Its priority. 0 comes first; one of a higher number is for when those before it are not
    /// enough.
    #[must_use]
    pub const fn priority(&self) -> u32 {
        self.priority
    }

    /// The zone that it stands in, if the registry says one.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Whether anything differs, be it the identity or what the registry says besides.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let words = |it: &Self| (it.weight, it.priority);
        self != other || words(self) != words(other) || self.zone != other.zone
    }
}

/// 1: where nobody gives weights, all have the same. Consul's default, too.
pub const DEFAULT_WEIGHT: u32 = 1;

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        // Addresses differ more often, and are compared faster.
        self.address == other.address && self.id == other.id
    }
}

impl Eq for Endpoint {}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        self.address.hash(state);
    }
}

impl From<SocketAddr> for Endpoint {
    /// An endpoint that is known by its address alone.
    fn from(address: SocketAddr) -> Self {
        Self::new(address.to_string(), address)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        if self.id.parse() == Ok(address) {
            return write!(f, "{address}");
        }
        write!(f, "{} ({address})", self.id)
    }
}

/// A short name for one endpoint's state in this process, for comparing.
///
/// An endpoint that leaves and comes back while its state is kept has the same key; one with
/// fresh state has a fresh key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey(NonZeroU64);

impl EndpointKey {
    /// A key that no other endpoint of this process has.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only its uniqueness matters.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::new(number).expect("2^64 endpoints are never made"))
    }
}

/// Makes the service that calls one endpoint: its own connection pool, its own layers.
///
/// Implemented by every `Fn(&Endpoint) -> S`.
pub trait MakeEndpoint {
    /// The service.
    type Service;

    /// The service that calls `endpoint`.
    fn make(&self, endpoint: &Endpoint) -> Self::Service;

    /// Who listens to the stack that these services stand in, for a maker whose services have
    /// something to report. Told before the first is made.
    fn report_to(&mut self, observer: &Observer) {
        let _ = observer;
    }
}

impl<F, S> MakeEndpoint for F
where
    F: Fn(&Endpoint) -> S,
{
    type Service = S;

    fn make(&self, endpoint: &Endpoint) -> S {
        self(endpoint)
    }
}
