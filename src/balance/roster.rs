//! The members with their nodes, and the snapshots that are made of them. Knows no clock.

use std::{sync::Arc, time::Instant};

use super::{
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
    make: M,
    gates: N,
}

impl<S, G, M, N> Roster<S, G, M, N>
where
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    pub(super) fn new(make: M, gates: N) -> Self {
        Self { members: Members::new(), version: 0, renew_at: None, make, gates }
    }

    pub(super) fn apply(&mut self, shared: &Shared<S, G>, change: Change, now: Instant) -> Effect {
        // Told every time, not only when the health changes: a breaker may have opened since.
        let healthy = match &change {
            Change::Health(endpoint, Health::Healthy) => Some(endpoint.clone()),
            _ => None,
        };
        let peers = shared.snapshot.load().usual_cost(now, || shared.config.entropy.draw());
        let (make, gates) = (&self.make, &self.gates);
        let effect = self.members.apply(change, now, |endpoint| {
            let load = Load::new(shared.epoch, shared.config.decay, peers, now);
            let (service, gate) = (make.make(endpoint), gates(endpoint));
            let recent = Arc::clone(&shared.recent);
            Arc::new(Node::new(endpoint.clone(), service, gate, load, recent, shared.epoch))
        });
        if let Some(node) = healthy.and_then(|endpoint| self.members.get(&endpoint)) {
            node.gate.found_healthy(now);
        }
        effect
    }

    /// The members as they are now, with a new picker.
    pub(super) fn snapshot(&mut self, shared: &Shared<S, G>, now: Instant) -> Snapshot<S, G> {
        self.version += 1;
        let policy = shared.config.policy.as_deref();
        self.renew_at = policy.and_then(Policy::renew_after).map(|span| after(now, span));
        let member = |(node, endpoint, health): (&Arc<Node<S, G>>, &Arc<Endpoint>, _)| Member {
            node: Arc::clone(node),
            endpoint: Arc::clone(endpoint),
            health,
        };
        let members: Vec<_> = self.members.list().into_iter().map(member).collect();
        for (place, member) in members.iter().enumerate() {
            // Relaxed: a hint, of which nobody knows to which set it belongs.
            member.node.place.store(place as u32, Ordering::Relaxed);
        }
        Snapshot::new(self.version, members, policy, now)
    }

    /// When there will be something to do though nothing has changed.
    pub(super) fn due(&self) -> Option<Instant> {
        self.members.forget_at().into_iter().chain(self.renew_at).min()
    }

    /// Forgets who left, and gives a snapshot if it is time for another picker.
    pub(super) fn on_time(
        &mut self,
        shared: &Shared<S, G>,
        now: Instant,
    ) -> Option<Snapshot<S, G>> {
        self.members.forget(now);
        let due = self.renew_at.is_some_and(|at| at <= now);
        due.then(|| self.snapshot(shared, now))
    }

    /// Whether there will be pickers to renew.
    pub(super) const fn renews(&self) -> bool {
        self.renew_at.is_some()
    }
}
