//! The endpoints' counts on the way to the decision, and the decision on the way to the endpoints.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    eject::{
        Action, Alarm, Counts, Ejection, EjectionConfig, EjectionState, Host, Outlier, Ruling,
    },
    node::Node,
    service::Shared,
};
use crate::{
    endpoint::{EndpointKey, Gate, Health},
    event::Event,
};

/// Ejects the endpoints of one roster.
#[derive(Debug)]
pub(super) struct Ejector {
    config: EjectionConfig,
    state: EjectionState,
    alarm: Arc<Alarm>,
}

/// A member, and what the active check says of it.
pub(super) type Listed<'a, S, G> = (&'a Arc<Node<S, G>>, Health);

/// In the order of [`Consecutive`](super::Consecutive)'s rows.
const ROWS: [Outlier; 3] =
    [Outlier::ServerErrors, Outlier::GatewayFailures, Outlier::LocalFailures];

impl Ejector {
    pub(super) fn new(config: EjectionConfig, alarm: Arc<Alarm>, now: Instant) -> Self {
        Self { state: EjectionState::new(config.clone(), now), config, alarm }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::new(&self.config, Arc::clone(&self.alarm))
    }

    pub(super) fn ejection(&self, key: EndpointKey) -> Option<Ejection> {
        self.state.ejection(key).copied()
    }

    pub(super) fn due(&self) -> Instant {
        self.state.due()
    }

    /// Does what is due, and what the alarm was raised for; whether anybody is in or out now who
    /// was not.
    pub(super) fn on_time<S, G: Gate>(
        &mut self,
        members: &[Listed<'_, S, G>],
        shared: &Shared<S, G>,
        now: Instant,
    ) -> bool {
        let mut rulings = self.struck(members, shared, now);
        if self.state.is_sweep_due(now) {
            let hosts: Vec<Host> = members.iter().map(|member| host(member, true, now)).collect();
            let draw = || shared.config.entropy.unit();
            rulings.extend(self.state.sweep(&hosts, now, draw));
        } else {
            rulings.extend(self.state.returned(now));
        }
        self.follow(&rulings, members, shared, now)
    }

    /// An active check says that this one is healthy; whether that ended its ejection.
    pub(super) fn found_healthy<S, G: Gate>(
        &mut self,
        node: &Arc<Node<S, G>>,
        shared: &Shared<S, G>,
        now: Instant,
    ) -> bool {
        let ruling = self.state.found_healthy(node.key, now);
        self.follow(ruling.as_slice(), &[(node, Health::Healthy)], shared, now)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(EndpointKey) -> bool) {
        self.state.retain(keep);
    }

    /// Those who have failed too often in a row.
    fn struck<S, G: Gate>(
        &mut self,
        members: &[Listed<'_, S, G>],
        shared: &Shared<S, G>,
        now: Instant,
    ) -> Vec<Ruling> {
        let mut rulings = Vec::new();
        if !self.alarm.lower() {
            return rulings;
        }
        let hosts: Vec<Host> = members.iter().map(|member| host(member, false, now)).collect();
        for (at, (node, _)) in members.iter().enumerate() {
            let rows = node.counts.as_ref().map_or(0, Counts::struck);
            for (_, by) in ROWS.into_iter().enumerate().filter(|(row, _)| rows >> row & 1 == 1) {
                let draw = || shared.config.entropy.unit();
                rulings.extend(self.state.struck(at, by, &hosts, now, draw));
            }
        }
        rulings
    }

    fn follow<S, G: Gate>(
        &self,
        rulings: &[Ruling],
        members: &[Listed<'_, S, G>],
        shared: &Shared<S, G>,
        now: Instant,
    ) -> bool {
        let mut changed = false;
        for ruling in rulings {
            changed |= !matches!(ruling.action, Action::Capped | Action::Spared);
            let Some((node, _)) = members.iter().find(|(node, _)| node.key == ruling.key) else {
                continue;
            };
            if matches!(ruling.action, Action::Returned | Action::FoundHealthy) {
                back(node, shared, now);
            }
            shared.config.observer.on(|| event(node, ruling));
        }
        changed
    }
}

/// It is back: what was counted, and what was known of its latency, is old.
fn back<S, G: Gate>(node: &Node<S, G>, shared: &Shared<S, G>, now: Instant) {
    if let Some(counts) = &node.counts {
        counts.forget();
    }
    let peers = shared.snapshot.load().usual_cost(now, || shared.config.entropy.draw());
    node.load.returned(peers, now);
}

fn host<S, G: Gate>((node, health): &Listed<'_, S, G>, take: bool, now: Instant) -> Host {
    let tally = node.counts.as_ref().filter(|_| take).map(Counts::tally).unwrap_or_default();
    let mut host = Host::new(node.key, tally);
    host.out = !health.is_eligible() || !node.gate.is_open(now);
    host
}

fn event<'a, S, G>(node: &'a Node<S, G>, ruling: &Ruling) -> Event<'a> {
    let Ejection { by, evidence, since, until, times, .. } = ruling.ejection;
    let (endpoint, by) = (&node.endpoint, by.as_str());
    let span: Duration = until.saturating_duration_since(since);
    match ruling.action {
        Action::Returned | Action::FoundHealthy => {
            Event::EjectionEnded { endpoint, by, reason: ruling.action.as_str() }
        }
        action => Event::Outlier {
            endpoint,
            by,
            action: action.as_str(),
            ejected_for: (action == Action::Ejected).then_some(span),
            times,
            calls: evidence.calls,
            failures: evidence.failures,
            measured: evidence.measured,
            usual: evidence.usual,
            limit: evidence.limit,
        },
    }
}
