//! What a call picks from: an immutable picture of the endpoints.

use std::{sync::Arc, time::Instant};

use super::node::{EndpointStatus, Node};
use crate::{
    algo::p2c,
    call::Tried,
    endpoint::{Endpoint, EndpointKey, Gate, Health},
};

/// All endpoints as of one change.
#[derive(Debug)]
pub(super) struct Snapshot<S, G> {
    /// Which change it is; two are never the same.
    pub(super) version: u64,
    pub(super) members: Vec<Member<S, G>>,
    /// Of some, the first check is under way. Kept, as a call has no time to count.
    pub(super) awaited: bool,
}

/// An endpoint and what the active check says of it.
#[derive(Debug)]
pub(super) struct Member<S, G> {
    pub(super) node: Arc<Node<S, G>>,
    /// As the registry described it last; the node has the same identity, and what was said of
    /// it when it came.
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) health: Health,
}

impl<S, G> Clone for Member<S, G> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            endpoint: Arc::clone(&self.endpoint),
            health: self.health,
        }
    }
}

impl<S, G> Default for Snapshot<S, G> {
    fn default() -> Self {
        Self { version: 0, members: Vec::new(), awaited: false }
    }
}

impl<S, G> Snapshot<S, G> {
    pub(super) fn new(version: u64, members: Vec<Member<S, G>>) -> Self {
        let awaited = members.iter().any(|member| member.health == Health::Pending);
        Self { version, members, awaited }
    }
}

/// What came of looking for an endpoint.
#[derive(Debug)]
pub(super) enum Choice<'a, S, G> {
    Node(&'a Arc<Node<S, G>>),
    /// All that may be called asked to be left alone; the first of them until then.
    SetAside(Instant),
    /// None may be called.
    Nobody,
}

impl<S, G: Gate> Snapshot<S, G> {
    /// Looks for the endpoint of one attempt. `refused` are those whose gate has just said no;
    /// in a `panic`, health and gates are not asked.
    pub(super) fn choose(
        &self,
        tried: &Tried,
        refused: &[Option<EndpointKey>],
        panic: bool,
        now: Instant,
        mut draw: impl FnMut() -> u64,
    ) -> Choice<'_, S, G> {
        let members = &self.members;
        // One look at the clock of the loads serves for all of them.
        let tick = members.first().map_or(0, |member| member.node.load.tick(now));
        let usable = |at: usize| {
            let member = &members[at];
            !refused.contains(&Some(member.node.key)) && (panic || member.is_eligible(now))
        };
        let rested = |at: usize| members[at].node.set_aside_until(now).is_none();
        let fresh = |at: usize| !tried.contains(members[at].node.key);
        let load = |at: usize| members[at].node.load.get_at(tick);
        let mut pick = |fit: &dyn Fn(usize) -> bool| {
            let at = p2c::pick(members.len(), fit, load, &mut draw)?;
            if !members[at].node.load.is_doubted_at(tick) {
                return Some(at);
            }
            // Both were in doubt, as one pair in ten is when two of five fail. Another pair, and
            // no more: to look until somebody is found who is not would throw all the calls on
            // the first one that comes back.
            let again = p2c::pick(members.len(), fit, load, &mut draw)?;
            Some(if load(again) < load(at) { again } else { at })
        };
        let picked = pick(&|at| fresh(at) && usable(at) && rested(at))
            .or_else(|| pick(&|at| usable(at) && rested(at)));
        if let Some(at) = picked {
            return Choice::Node(&members[at].node);
        }
        let first_rested = (0..members.len())
            .filter(|&at| usable(at))
            .filter_map(|at| members[at].node.set_aside_until(now))
            .min();
        first_rested.map_or(Choice::Nobody, Choice::SetAside)
    }

    /// All that may be called now, from a random one on.
    pub(super) fn in_turn(
        &self,
        start: u64,
        now: Instant,
    ) -> impl Iterator<Item = &Arc<Node<S, G>>> {
        let (before, after) = self.members.split_at(start as usize % self.members.len().max(1));
        let fit = move |member: &&Member<S, G>| {
            member.is_eligible(now) && member.node.set_aside_until(now).is_none()
        };
        after.iter().chain(before).filter(fit).map(|member| &member.node)
    }

    /// The share of endpoints that may be called; 1 if there are none at all.
    pub(super) fn eligible_share(&self, now: Instant) -> f64 {
        if self.members.is_empty() {
            return 1.0;
        }
        let eligible = self.members.iter().filter(|member| member.is_eligible(now)).count();
        eligible as f64 / self.members.len() as f64
    }

    /// The middle cost of up to nine endpoints drawn at random: what a usual answer takes.
    pub(super) fn usual_cost(&self, now: Instant, mut draw: impl FnMut() -> u64) -> Option<f64> {
        const SAMPLE: usize = 9;
        let mut costs = [0.0; SAMPLE];
        let count = self.members.len().min(SAMPLE);
        let start = if self.members.is_empty() { return None } else { draw() as usize };
        for (at, cost) in costs.iter_mut().take(count).enumerate() {
            let at = start.wrapping_add(at) % self.members.len();
            *cost = self.members[at].node.load.cost(now);
        }
        let costs = &mut costs[..count];
        costs.sort_unstable_by(f64::total_cmp);
        // The lower middle: of two endpoints, one of which fails, the other's cost.
        Some(costs[(count - 1) / 2])
    }

    pub(super) fn statuses(&self, now: Instant) -> Vec<EndpointStatus> {
        let status = |member: &Member<S, G>| EndpointStatus {
            endpoint: Endpoint::clone(&member.endpoint),
            key: member.node.key,
            health: member.health,
            open: member.node.gate.is_open(now),
            set_aside_until: member.node.set_aside_until(now),
            cost: std::time::Duration::try_from_secs_f64(member.node.load.cost(now))
                .unwrap_or_default(),
            doubted: member.node.load.is_doubted(now),
            in_flight: member.node.load.in_flight(),
        };
        self.members.iter().map(status).collect()
    }
}

impl<S, G: Gate> Member<S, G> {
    fn is_eligible(&self, now: Instant) -> bool {
        self.health.is_eligible() && self.node.gate.is_open(now)
    }
}
