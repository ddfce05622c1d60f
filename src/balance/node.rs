//! An endpoint as the balancer knows it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{config::MAX_SET_ASIDE, load::Load};
use crate::{
    call::{Asked, Target},
    classify::{Pushback, Settle, Verdict},
    endpoint::{Endpoint, EndpointKey, Gate, Health},
    sync::{AtomicU64, Ordering},
    time::now,
};

/// One endpoint: its service, its gate, and how it does. Shared by all snapshots it is in.
#[derive(Debug)]
pub(super) struct Node<S, G> {
    pub(super) key: EndpointKey,
    pub(super) endpoint: Endpoint,
    pub(super) service: S,
    pub(super) gate: G,
    pub(super) load: Load,
    epoch: Instant,
    /// Until when it asked to be left alone, in nanoseconds after the epoch; 0 is not at all.
    /// Relaxed: it stands alone.
    set_aside: AtomicU64,
}

impl<S, G> Node<S, G> {
    pub(super) fn new(endpoint: Endpoint, service: S, gate: G, load: Load, epoch: Instant) -> Self {
        let key = EndpointKey::unique();
        Self { key, endpoint, service, gate, load, epoch, set_aside: AtomicU64::new(0) }
    }

    pub(super) fn target(&self) -> Target {
        Target::new(self.key, self.endpoint.address())
    }

    /// Leaves the endpoint alone for `wish`, or for as long as we follow such a wish.
    fn set_aside(&self, wish: Duration, now: Instant) {
        let until = now + wish.min(MAX_SET_ASIDE);
        let nanos = until.saturating_duration_since(self.epoch).as_nanos();
        self.set_aside.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Until when it is to be left alone, if that is not over.
    pub(super) fn set_aside_until(&self, now: Instant) -> Option<Instant> {
        let nanos = self.set_aside.load(Ordering::Relaxed);
        if nanos == 0 {
            return None;
        }
        let until = self.epoch + Duration::from_nanos(nanos);
        (until > now).then_some(until)
    }

    /// Learns from an attempt's head or error.
    pub(super) fn learn(&self, verdict: Verdict, lasted: Duration, penalty: f64, now: Instant) {
        if let Pushback::After(wish) = verdict.pushback {
            self.set_aside(wish, now);
        }
        let sample = if verdict.is_failure() {
            // A failure that comes at once must not look like a fast answer.
            lasted.max(Duration::try_from_secs_f64(penalty).unwrap_or_default())
        } else {
            lasted
        };
        self.load.observe(sample, now);
    }
}

/// What a call holds of its endpoint until its response has been read: a place in flight and
/// the gate's permit.
#[derive(Debug)]
pub struct Held<S, G: Gate> {
    node: Arc<Node<S, G>>,
    permit: G::Permit,
    asked: Asked,
    began: Instant,
    answered: bool,
}

impl<S, G: Gate> Held<S, G> {
    pub(super) fn new(
        node: Arc<Node<S, G>>,
        permit: G::Permit,
        asked: Asked,
        began: Instant,
    ) -> Self {
        node.load.begin();
        Self { node, permit, asked, began, answered: false }
    }

    pub(super) fn node(&self) -> &Node<S, G> {
        &self.node
    }

    /// The head, or an error, has come: the round trip is known.
    pub(super) fn answered(&mut self, verdict: Verdict, penalty: impl FnOnce() -> f64) {
        let now = now();
        let penalty = if verdict.is_failure() { penalty() } else { 0.0 };
        self.answered = true;
        self.node.learn(verdict, now.saturating_duration_since(self.began), penalty, now);
    }
}

impl<S, G: Gate> Settle for Held<S, G> {
    fn settle(&mut self, verdict: Verdict) {
        self.permit.settle(verdict);
    }
}

impl<S, G: Gate> Drop for Held<S, G> {
    fn drop(&mut self) {
        self.node.load.end();
        if !self.answered {
            let now = now();
            // Cut off by our own deadline: it was slow. Given up by the caller: nobody knows.
            if self.asked.dropped(now).is_failure() {
                self.node.load.observe(now.saturating_duration_since(self.began), now);
            }
        }
    }
}

/// How one endpoint does, for operators and tests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Which it is.
    pub endpoint: Endpoint,
    /// The key of its state.
    pub key: EndpointKey,
    /// What the active check says.
    pub health: Health,
    /// Whether its gate is likely to admit a call.
    pub open: bool,
    /// Until when it asked to be left alone.
    pub set_aside_until: Option<Instant>,
    /// What its next answer is expected to take.
    pub cost: Duration,
    /// Calls in flight, until their responses have been read.
    pub in_flight: u32,
}
