//! A balancer that is driven by hand, in made-up time: the same members, snapshots and picks,
//! without a task, a service or a clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    config::BalanceConfig,
    node::Node,
    pick::{Found, Search},
    probing::{Order, Probes},
    roster::Roster,
    service::Shared,
};
use crate::{
    call::Words,
    endpoint::{Change, Endpoint, Gate},
};

/// A service that nobody calls.
type Nothing = fn(&Endpoint);

/// The endpoint that was picked, and its gate's ticket.
pub(crate) type Admitted<G> = (Arc<Node<(), G>>, <G as Gate>::Ticket);

/// One balancer's decisions.
pub(crate) struct Decision<G, N> {
    shared: Shared<(), G>,
    roster: Roster<(), G, Nothing, N>,
    probes: Option<Probes>,
}

impl<G: Gate, N: Fn(&Endpoint) -> G> Decision<G, N> {
    pub(crate) fn new(config: BalanceConfig, gates: N, now: Instant) -> Self {
        let nothing: Nothing = |_| {};
        let shared = Shared::new(config, now);
        let roster = Roster::new(nothing, gates, &shared.config, &shared.alarm, now);
        let probes = shared.probes();
        Self { shared, roster, probes }
    }

    pub(crate) fn apply(&mut self, change: Change, now: Instant) {
        if !self.roster.apply(&self.shared, change, now).is_empty() {
            self.shared.publish(self.roster.snapshot(&self.shared, now));
        }
    }

    /// The endpoint of one attempt and its gate's ticket; none if there is none to be had now.
    pub(crate) fn pick(&mut self, words: &Words, now: Instant) -> Option<Admitted<G>> {
        let due = self.roster.due().is_some_and(|at| at <= now);
        if due || self.shared.alarm.is_raised() {
            if let Some(snapshot) = self.roster.on_time(&self.shared, now) {
                self.shared.publish(snapshot);
            }
        }
        let snapshot = self.shared.snapshot.load();
        match Search::of(Some(words)).find(&mut None, &self.shared, &snapshot, now) {
            Found::Admitted(node, ticket, _) => Some((node, ticket)),
            Found::Wait(_) | Found::Nobody(_) => None,
        }
    }
    /// Whom the policy wants to ask now.
    pub(crate) fn orders(&self, now: Instant) -> Vec<Order> {
        let due = |probes: &Probes| probes.due(now, || self.draw());
        self.probes.as_ref().map(due).unwrap_or_default()
    }

    /// When it wants to although nobody is picked.
    pub(crate) fn next_order(&self) -> Option<Instant> {
        self.probes.as_ref().and_then(Probes::next)
    }

    /// How long an answer is waited for.
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.probes.as_ref().map_or(Duration::ZERO, Probes::timeout)
    }

    pub(crate) fn draw(&self) -> u64 {
        self.shared.config.entropy.draw()
    }
}
