//! The members with their nodes, and the snapshots that are made of them. Knows no clock.

use std::{collections::HashSet, sync::Arc, time::Instant};

use super::{
    config::BalanceConfig,
    eject::Alarm,
    ejector::Ejector,
    load::Load,
    members::{Effect, Members},
    node::Node,
    policy::Policy,
    service::Shared,
    snapshot::{Member, Snapshot},
};
use crate::{
    endpoint::{Change, Endpoint, Gate, Health, MakeEndpoint},
    sync::Ordering,
    time::after,
};

/// The members, and how to make one.
pub(super) struct Roster<S, G, M, N> {
    members: Members<Arc<Node<S, G>>>,
    version: u64,
    /// When the policy wants to make another picker though nothing has changed.
    renew_at: Option<Instant>,
    ejector: Option<Ejector>,
    make: M,
    gates: N,
}

impl<S, G, M, N> Roster<S, G, M, N>
where
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    pub(super) fn new(
        make: M,
        gates: N,
        config: &BalanceConfig,
        alarm: &Arc<Alarm>,
        now: Instant,
    ) -> Self {
        let ejection = config.ejection.clone();
        let ejector = ejection.map(|ejection| Ejector::new(ejection, Arc::clone(alarm), now));
        Self { members: Members::new(), version: 0, renew_at: None, ejector, make, gates }
    }

    pub(super) fn apply(&mut self, shared: &Shared<S, G>, change: Change, now: Instant) -> Effect {
        // Told every time, not only when the health changes: a breaker may have opened since.
        let healthy = match &change {
            Change::Health(endpoint, Health::Healthy) => Some(endpoint.clone()),
            _ => None,
        };
        let peers = shared.snapshot.load().usual_cost(now, || shared.config.entropy.draw());
        let (make, gates, ejector) = (&self.make, &self.gates, &self.ejector);
        // The first ones start at once: there is nobody else to take their calls.
        let first = self.members.is_empty();
        let before = match &change {
            Change::Health(endpoint, _) => self.members.health(endpoint),
            _ => None,
        };
        let mut effect = self.members.apply(change, now, |endpoint| {
            let load = Load::new(shared.epoch, shared.config.decay, peers, now)
                .with_slow_start(shared.config.slow_start);
            let (service, gate) = (make.make(endpoint), gates(endpoint));
            let recent = Arc::clone(&shared.recent);
            let node = Node::new(endpoint.clone(), service, gate, load, recent, shared.epoch);
            Arc::new(node.with_counts(ejector.as_ref().map(Ejector::counts)))
        });
        let told = effect.added.iter().chain(effect.health.iter().map(|(endpoint, _)| endpoint));
        for node in told.filter_map(|endpoint| self.members.get(endpoint)) {
            node.health_changed(now);
        }
        self.start_slowly(&effect, first, before, now);
        if let Some(node) = healthy.and_then(|endpoint| self.members.get(&endpoint)) {
            node.gate.found_healthy(now);
            let ejector = self.ejector.as_mut();
            effect.returned =
                ejector.is_some_and(|ejector| ejector.found_healthy(node, shared, now));
        }
        effect
    }

    /// Those who have joined others, and one that was unhealthy and is not any more.
    fn start_slowly(&self, effect: &Effect, first: bool, before: Option<Health>, now: Instant) {
        for endpoint in effect.added.iter().filter(|_| !first) {
            if let Some(node) = self.members.get(endpoint) {
                start(node, now);
            }
        }
        let Some((endpoint, health)) = &effect.health else { return };
        let Some(node) = self.members.get(endpoint).filter(|_| health.is_eligible()) else {
            return;
        };
        match before {
            Some(Health::Unhealthy) => start(node, now),
            // Not before its first check has let it in does its time count.
            Some(Health::Pending) if node.load.standing.is_starting() => start(node, now),
            _ => {}
        }
    }

    /// The members as they are now, with a new picker.
    pub(super) fn snapshot(&mut self, shared: &Shared<S, G>, now: Instant) -> Snapshot<S, G> {
        self.version += 1;
        let policy = shared.config.policy.as_deref();
        self.renew_at = policy.and_then(Policy::renew_after).map(|span| after(now, span));
        let mut ejected = Vec::new();
        let mut member = |(node, endpoint, health): (&Arc<Node<S, G>>, &Arc<Endpoint>, Health)| {
            let ejection = self.ejector.as_ref().and_then(|ejector| ejector.ejection(node.key));
            let eligible = health.is_eligible() && ejection.is_none();
            ejected.extend(ejection.map(|ejection| (node.key, ejection)));
            let (node, endpoint) = (Arc::clone(node), Arc::clone(endpoint));
            Member { node, endpoint, health, eligible }
        };
        let members: Vec<_> = self.members.list().into_iter().map(&mut member).collect();
        for (place, member) in members.iter().enumerate() {
            // Relaxed: a hint, of which nobody knows to which set it belongs.
            member.node.place.store(place as u32, Ordering::Relaxed);
        }
        Snapshot::new(self.version, members, ejected, policy, now)
    }

    /// When there will be something to do though nothing has changed.
    pub(super) fn due(&self) -> Option<Instant> {
        // Nobody to look at is nothing to wake up for.
        let ejector = self.ejector.as_ref().filter(|_| !self.members.is_empty());
        let due = ejector.map(Ejector::due);
        self.members.forget_at().into_iter().chain(self.renew_at).chain(due).min()
    }

    /// Forgets who left, ejects and lets return, and gives a snapshot if anything has changed or it is
    /// time for another picker.
    pub(super) fn on_time(
        &mut self,
        shared: &Shared<S, G>,
        now: Instant,
    ) -> Option<Snapshot<S, G>> {
        self.members.forget(now);
        let mut changed = false;
        if let Some(ejector) = &mut self.ejector {
            let listed = self.members.list();
            let listed: Vec<_> = listed.into_iter().map(|(node, _, it)| (node, it)).collect();
            changed = ejector.on_time(&listed, shared, now);
            let known: HashSet<_> = self.members.values().map(|node| node.key).collect();
            ejector.retain(|key| known.contains(&key));
        }
        let due = self.renew_at.is_some_and(|at| at <= now);
        (changed || due).then(|| self.snapshot(shared, now))
    }

    /// Whether there is something to do after the end of discovery.
    pub(super) const fn goes_on(&self) -> bool {
        self.renew_at.is_some() || self.ejector.is_some()
    }
}

fn start<S, G>(node: &Node<S, G>, now: Instant) {
    node.load.standing.start(node.load.tick(now));
}
