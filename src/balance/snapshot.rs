//! What a call picks from: an immutable picture of the endpoints.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    choices::PeakEwma,
    eject::Ejection,
    node::{EndpointStatus, Node},
    policy::{self, Candidates, LoadView, Picker, Policy},
    recent::{Recent, Usual},
};
use crate::{
    call::{Tried, Words},
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
    /// Those that are ejected, in no order.
    ejected: Vec<(EndpointKey, Ejection)>,
    /// None for the default policy, which is called directly.
    picker: Option<Arc<dyn Picker>>,
}

/// An endpoint and what the active check says of it.
#[derive(Debug)]
pub(super) struct Member<S, G> {
    pub(super) node: Arc<Node<S, G>>,
    /// As the registry described it last; the node has the same identity, and what was said of
    /// it when it came.
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) health: Health,
    /// Whether it may be called, as far as the driver knows: not unhealthy and not ejected.
    pub(super) eligible: bool,
}

impl<S, G> Clone for Member<S, G> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            endpoint: Arc::clone(&self.endpoint),
            health: self.health,
            eligible: self.eligible,
        }
    }
}

impl<S, G> Default for Snapshot<S, G> {
    fn default() -> Self {
        Self { version: 0, members: Vec::new(), awaited: false, ejected: Vec::new(), picker: None }
    }
}

impl<S, G: Gate> Snapshot<S, G> {
    /// With a picker of this policy, or of the default.
    pub(super) fn new(
        version: u64,
        members: Vec<Member<S, G>>,
        ejected: Vec<(EndpointKey, Ejection)>,
        policy: Option<&dyn Policy>,
        now: Instant,
    ) -> Self {
        let awaited = members.iter().any(|member| member.health == Health::Pending);
        let picker = policy.map(|policy| {
            let views: Vec<_> = members.iter().map(|member| member.view(now)).collect();
            policy.picker(&views)
        });
        Self { version, members, awaited, ejected, picker }
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
        wanted: Wanted<'_>,
        recent: &Recent,
        refused: &[Option<EndpointKey>],
        panic: bool,
        (now, tick): (Instant, u32),
        draw: impl Fn() -> u64,
    ) -> Choice<'_, S, G> {
        let members = &self.members;
        let (usual, untried) = (recent.latency(), !wanted.tried.is_empty());
        let mut tier =
            Tier { members, wanted, recent, usual, refused, panic, untried, now, tick, draw };
        let mut picked = self.pick(&tier);
        if picked.is_none() && tier.untried {
            tier.untried = false;
            picked = self.pick(&tier);
        }
        if let Some(at) = picked {
            return Choice::Node(&members[at].node);
        }
        let first_rested = (0..members.len())
            .filter(|&at| tier.is_usable(at))
            .filter_map(|at| members[at].node.set_aside_until(now))
            .min();
        first_rested.map_or(Choice::Nobody, Choice::SetAside)
    }

    #[inline]
    fn pick<D: Fn() -> u64>(&self, tier: &Tier<'_, S, G, D>) -> Option<usize> {
        match &self.picker {
            None => PeakEwma::pick_from(tier),
            // Somebody else's code: what does not fit was not picked.
            Some(picker) => picker.pick(tier).filter(|&at| at < tier.count() && tier.is_fit(at)),
        }
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
        let ejected: HashMap<_, _> = self.ejected.iter().copied().collect();
        let status = |member: &Member<S, G>| {
            let Member { node, endpoint, health, .. } = member;
            let load = &node.load;
            let tick = load.tick(now);
            let reported = load.said.in_flight(tick);
            EndpointStatus {
                endpoint: Endpoint::clone(endpoint),
                key: node.key,
                health: *health,
                health_since: node.health_since(),
                open: node.gate.is_open(now),
                gate: node.gate.status(),
                ejected: ejected.get(&node.key).copied(),
                share: load.standing.share(tick),
                set_aside_until: node.set_aside_until(now),
                cost: Duration::try_from_secs_f64(load.cost(now)).unwrap_or_default(),
                doubted: load.is_doubted(now),
                in_flight: load.in_flight(),
                reported_in_flight: reported.map(|(said, _)| said),
                reported_in_flight_age: reported.map(|(_, age)| age),
                reported_utilization: load.said.utilization(tick),
            }
        };
        self.members.iter().map(status).collect()
    }
}

/// What a call says of the endpoint that it wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) tried: &'a Tried,
    pub(super) words: Option<&'a Words>,
}

/// The endpoints that one attempt is picked from: first those that its call has not tried, if it
/// has tried any.
struct Tier<'a, S, G, D> {
    members: &'a [Member<S, G>],
    wanted: Wanted<'a>,
    recent: &'a Recent,
    /// What an answer takes, in seconds.
    usual: f64,
    refused: &'a [Option<EndpointKey>],
    panic: bool,
    untried: bool,
    now: Instant,
    tick: u32,
    draw: D,
}

impl<S, G: Gate, D> Tier<'_, S, G, D> {
    #[inline]
    fn is_usable(&self, at: usize) -> bool {
        let member = &self.members[at];
        !self.refused.contains(&Some(member.node.key))
            && (self.panic || member.is_eligible(self.now))
    }
}

impl<S, G: Gate, D: Fn() -> u64> Candidates for Tier<'_, S, G, D> {
    #[inline]
    fn count(&self) -> usize {
        self.members.len()
    }

    // Always: it is a few words that are read, and asked twice for each call.
    #[inline(always)]
    fn is_fit(&self, at: usize) -> bool {
        let node = &self.members[at].node;
        !(self.untried && self.wanted.tried.contains(node.key))
            && self.is_usable(at)
            && node.set_aside_until(self.now).is_none()
    }

    #[inline]
    fn load(&self, at: usize) -> LoadView<'_> {
        LoadView::new(&self.members[at].node.load, self.usual, self.tick)
    }

    #[inline]
    fn heard(&self, nth: usize) -> Option<usize> {
        self.recent.get(nth).filter(|&at| at < self.members.len())
    }

    #[inline]
    fn usual(&self) -> Option<Usual> {
        self.recent.usual(self.tick)
    }

    #[inline]
    fn draw(&self) -> u64 {
        (self.draw)()
    }

    #[inline]
    fn now(&self) -> Instant {
        self.now
    }

    #[inline]
    fn words(&self) -> Option<&Words> {
        self.wanted.words
    }
}

impl<S, G: Gate> Member<S, G> {
    /// As a policy sees it.
    fn view(&self, now: Instant) -> policy::Member<'_> {
        let Node { key, load, .. } = &*self.node;
        let fit = self.is_eligible(now) && self.node.set_aside_until(now).is_none();
        let load = LoadView::new(load, self.node.usual_latency(), load.tick(now));
        policy::Member { endpoint: &self.endpoint, key: *key, health: self.health, fit, load }
    }

    fn is_eligible(&self, now: Instant) -> bool {
        self.eligible && self.node.gate.is_open(now)
    }
}
