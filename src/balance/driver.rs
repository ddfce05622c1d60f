//! The one task that changes the membership.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Instant,
};

use super::{
    load::Load,
    members::{Effect, Members},
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
///
/// What discovery says in one go is published in one go: an endpoint that comes with "its first
/// check is under way" must not be called between the two.
pub(super) async fn drive<S, G, D, M, N>(shared: Weak<Shared<S, G>>, discover: D, make: M, gates: N)
where
    D: Discover,
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    let mut discover = pin!(discover);
    let mut members: Members<Arc<Node<S, G>>> = Members::new();
    loop {
        let mut said = Vec::new();
        poll_fn(|cx| {
            while said.len() < MAX_AT_ONCE {
                match discover.as_mut().poll_change(cx) {
                    Poll::Ready(change) => {
                        let ended = change.is_none();
                        said.push(change);
                        if ended {
                            break;
                        }
                    }
                    Poll::Pending if said.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(())
        })
        .await;
        let Some(shared) = shared.upgrade() else { return };
        let mut effects = Vec::new();
        let mut ended = false;
        for change in said {
            match change {
                Some(Ok(change)) => {
                    effects.push(apply(&shared, &mut members, change, &make, &gates));
                }
                Some(Err(error)) => {
                    shared.config.observer.on(|| Event::DiscoveryFailed(&*error));
                }
                None => ended = true,
            }
        }
        publish(&shared, &members, &effects);
        if ended {
            shared.config.observer.on(|| Event::DiscoveryEnded);
            return;
        }
    }
}

/// How many changes are applied before they are published, from a discovery that never rests.
const MAX_AT_ONCE: usize = 1024;

fn apply<S, G, M, N>(
    shared: &Shared<S, G>,
    members: &mut Members<Arc<Node<S, G>>>,
    change: Change,
    make: &M,
    gates: &N,
) -> Effect
where
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    let now = now();
    let peers = shared.snapshot.load().usual_cost(now, || shared.config.entropy.draw());
    members.apply(change, now, |endpoint| Arc::new(node(shared, endpoint, peers, make, gates, now)))
}

fn publish<S, G: Gate>(
    shared: &Shared<S, G>,
    members: &Members<Arc<Node<S, G>>>,
    effects: &[Effect],
) {
    if effects.iter().all(Effect::is_empty) {
        return;
    }
    let members = members.list().into_iter();
    let snapshot = Snapshot {
        members: members.map(|(node, health)| Member { node: Arc::clone(node), health }).collect(),
    };
    let changed = effects.iter().filter_map(|effect| effect.health.as_ref());
    for (endpoint, _) in changed.clone().filter(|(_, health)| *health == Health::Healthy) {
        let healthy = snapshot.members.iter().find(|member| member.node.endpoint == *endpoint);
        if let Some(member) = healthy {
            member.node.gate.found_healthy(now());
        }
    }
    shared.publish(snapshot);
    let observer = &shared.config.observer;
    for effect in effects {
        effect.added.iter().for_each(|endpoint| observer.on(|| Event::EndpointAdded(endpoint)));
        effect.removed.iter().for_each(|endpoint| observer.on(|| Event::EndpointRemoved(endpoint)));
    }
    for (endpoint, health) in changed {
        observer.on(|| Event::HealthChanged(endpoint, *health));
    }
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
