//! Which instance it is.

use std::{
    fmt,
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
/// another endpoint, and inherits no open breaker and no bad reputation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    id: Arc<str>,
    address: SocketAddr,
}

impl Endpoint {
    /// An endpoint by its name in the registry.
    pub fn new(id: impl Into<Arc<str>>, address: SocketAddr) -> Self {
        Self { id: id.into(), address }
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
