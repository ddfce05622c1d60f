//! What a glance at a breaker tells.

use std::time::Instant;

use super::{
    state::{Circuit, Opens, Ticket},
    tally::nanoseconds,
};
use crate::sync::{AtomicU64, Ordering};

/// What can be known of the circuit without its lock.
///
/// Atomics, because calls outnumber changes by far: a closed breaker's admission takes no lock,
/// and a balancer looks at many breakers for each call. Both words are written under the
/// circuit's lock, and only when they change. All accesses are relaxed: each word is a whole
/// answer by itself and orders nothing else, and what a thread was told by another (a forced
/// state) it also sees, by coherence. A reader who comes a moment too early is one who took the
/// lock a moment earlier: its ticket is of the generation before, and has no say.
#[derive(Debug)]
pub(super) struct Mirror {
    /// [`Circuit::steady`].
    steady: AtomicU64,
    /// When the circuit is worth asking, in nanoseconds from `origin`: [`OPEN`] is now,
    /// [`SHUT`] is never.
    opens: AtomicU64,
    origin: Instant,
}

const OPEN: u64 = 0;
const SHUT: u64 = u64::MAX;

impl Mirror {
    pub(super) fn new(circuit: &Circuit, origin: Instant) -> Self {
        let mirror = Self { steady: AtomicU64::new(0), opens: AtomicU64::new(OPEN), origin };
        mirror.follow(circuit);
        mirror
    }

    pub(super) fn admit(&self) -> Option<Ticket> {
        Ticket::steady(self.steady.load(Ordering::Relaxed))
    }

    pub(super) fn is_open(&self, now: impl FnOnce() -> Instant) -> bool {
        match self.opens.load(Ordering::Relaxed) {
            OPEN => true,
            SHUT => false,
            at => nanoseconds(self.origin, now()) >= at,
        }
    }

    #[inline]
    pub(super) fn follow(&self, circuit: &Circuit) {
        let steady = circuit.steady();
        // Of a generation that is steady both words have been said already: nothing in it changes
        // them, and almost every change is within one.
        if steady == 0 || steady != self.steady.load(Ordering::Relaxed) {
            self.write(circuit, steady);
        }
    }

    #[cold]
    fn write(&self, circuit: &Circuit, steady: u64) {
        let opens = match circuit.opens() {
            Opens::Now => OPEN,
            Opens::At(at) => nanoseconds(self.origin, at).min(SHUT - 1),
            Opens::Never => SHUT,
        };
        put(&self.steady, steady);
        put(&self.opens, opens);
    }
}

/// Writes only what is new, so that the line stays shared among its readers.
fn put(word: &AtomicU64, value: u64) {
    if word.load(Ordering::Relaxed) != value {
        word.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::BreakerConfig;

    #[test]
    fn both_words_follow_into_a_steady_generation_and_out_of_it() {
        let now = crate::time::now();
        let mut circuit = Circuit::new(&BreakerConfig::new(), now);
        let mirror = Mirror::new(&circuit, now);
        let told = || (mirror.is_open(|| now), mirror.admit().is_some());
        assert_eq!(told(), (true, true));
        circuit.force_open();
        mirror.follow(&circuit);
        assert_eq!(told(), (false, false));
        circuit.force_closed();
        mirror.follow(&circuit);
        assert_eq!(told(), (true, true));
    }
}
