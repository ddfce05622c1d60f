//! Who saw what: every attempt of every call, as the client's innermost service saw it.
//!
//! Each client reports here, so that attempts are counted alike: one for each time that a request
//! was given to the transport, whether or not a connection came about. Health checks are none.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) call: u64,
    pub(crate) address: SocketAddr,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

/// The notebook. Clones write into the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    /// How many of them are second ones that race a first.
    hedges: Arc<AtomicU64>,
}

/// An attempt under way, which ends when this is dropped, for whatever reason.
#[must_use = "an attempt that is not held ends at once"]
pub(crate) struct Watching {
    witness: Witness,
    call: u64,
    address: SocketAddr,
    began: Instant,
}

impl Witness {
    /// An attempt begins now.
    pub(crate) fn watch(&self, call: u64, address: SocketAddr) -> Watching {
        Watching { witness: self.clone(), call, address, began: Instant::now() }
    }

    /// Enters an attempt that is known only afterwards.
    pub(crate) fn enter(&self, attempt: Attempt) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
    }

    /// A second attempt is made, to race a first that is slow.
    pub(crate) fn hedged(&self) {
        // A mere count; the drill's end, after which it is read, comes after all calls.
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    /// How many second attempts were made, which are among the attempts.
    pub(crate) fn hedges(&self) -> u64 {
        self.hedges.load(Ordering::Relaxed)
    }

    /// Everything so far.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let (call, address, began) = (self.call, self.address, self.began);
        self.witness.enter(Attempt { call, address, began, ended: Instant::now() });
    }
}

/// Attempts by the address they went to.
pub(crate) fn by_address(attempts: &[Attempt]) -> HashMap<SocketAddr, Vec<Attempt>> {
    let mut map: HashMap<SocketAddr, Vec<Attempt>> = HashMap::new();
    for attempt in attempts {
        map.entry(attempt.address).or_default().push(*attempt);
    }
    map
}
