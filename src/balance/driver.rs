//! The one task that changes the membership.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Weak},
    time::Instant,
};

use super::{
    load::Load,
    members::Members,
    node::Node,
    service::Shared,
    snapshot::{Member, Snapshot},
};
use crate::{
    endpoint::{Change, Discover, Endpoint, Gate, Health, MakeEndpoint},
    event::Event,
    time::now,
};

/// Drives discovery until it ends or the last handle is gone. It holds no handle itself, and
/// a discovery that has ended is not polled again: the last good set stays.
pub(super) fn drive<S, G, D, M, N>(
    shared: Weak<Shared<S, G>>,
    discover: D,
    make: M,
    gates: N,
) -> impl Future<Output = ()>
where
    D: Discover,
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    async move {
        let mut discover = pin!(discover);
        let mut members: Members<Arc<Node<S, G>>> = Members::new();
        loop {
            let change = poll_fn(|cx| discover.as_mut().poll_change(cx)).await;
            let Some(shared) = shared.upgrade() else { return };
            match change {
                Some(Ok(change)) => apply(&shared, &mut members, change, &make, &gates),
                Some(Err(error)) => {
                    shared.config.observer.on(|| Event::DiscoveryFailed(&*error));
                }
                None => {
                    shared.config.observer.on(|| Event::DiscoveryEnded);
                    return;
                }
            }
        }
    }
}

fn apply<S, G, M, N>(
    shared: &Shared<S, G>,
    members: &mut Members<Arc<Node<S, G>>>,
    change: Change,
    make: &M,
    gates: &N,
) where
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    let now = now();
    let peers = shared.snapshot.load().usual_cost(now, || shared.config.entropy.draw());
    let effect = members
        .apply(change, now, |endpoint| Arc::new(node(shared, endpoint, peers, make, gates, now)));
    if effect.is_empty() {
        return;
    }
    let snapshot = Snapshot {
        members: members
            .list()
            .into_iter()
            .map(|(node, health)| Member { node: Arc::clone(node), health })
            .collect(),
    };
    if let Some((endpoint, Health::Healthy)) = &effect.health {
        let healthy = snapshot.members.iter().find(|member| member.node.endpoint == *endpoint);
        if let Some(member) = healthy {
            member.node.gate.found_healthy(now);
        }
    }
    shared.publish(snapshot);
    let observer = &shared.config.observer;
    effect.added.iter().for_each(|endpoint| observer.on(|| Event::EndpointAdded(endpoint)));
    effect.removed.iter().for_each(|endpoint| observer.on(|| Event::EndpointRemoved(endpoint)));
}

fn node<S, G, M, N>(
    shared: &Shared<S, G>,
    endpoint: &Endpoint,
    peers: Option<f64>,
    make: &M,
    gates: &N,
    now: Instant,
) -> Node<S, G>
where
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
{
    let load = Load::new(shared.epoch, shared.config.decay, peers, now);
    Node::new(endpoint.clone(), make.make(endpoint), gates(endpoint), load, shared.epoch)
}
