//! The one task that changes the membership.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    load::Load,
    members::Members,
    node::Node,
    policy::Policy,
    service::Shared,
    snapshot::{Member, Snapshot},
};
use crate::{
    endpoint::{Change, Discover, Endpoint, Gate, Health, MakeEndpoint},
    error::BoxError,
    event::Event,
    time::{Sleep, after, now},
};

/// Changes that are published together, if so many are there at once. A registry that names a
/// thousand endpoints one by one is then one snapshot, not a thousand; and nobody sees a new
/// endpoint without the word on its health that comes right after it.
const MAX_BATCH: usize = 1024;

/// Pause after a first error of discovery; it doubles with each further one in a row. A source
/// that fails at once whenever it is asked would otherwise take a thread for itself.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause is [`FIRST_PAUSE`] doubled so often: about 5 s.
const MAX_DOUBLINGS: u32 = 9;

/// Drives discovery until it ends or the last handle is gone. It holds no handle itself, and
/// a discovery that has ended is not polled again: the last good set stays, and so does the
/// driver only where the policy wants its pickers renewed.
pub(super) async fn drive<S, G, D, M, N>(shared: Weak<Shared<S, G>>, discover: D, make: M, gates: N)
where
    D: Discover,
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    let mut discover = pin!(Some(discover));
    let mut roster = Roster { members: Members::new(), version: 0, renew_at: None, make, gates };
    let mut errors = 0_u32;
    loop {
        let due = earlier(roster.members.forget_at(), roster.renew_at);
        let Some(first) = next(discover.as_mut(), due).await else {
            let now = now();
            roster.members.forget(now);
            if roster.renew_at.is_some_and(|at| at <= now) {
                // Its last handle aborts this task; one that is going at this moment may not have.
                let Some(shared) = shared.upgrade() else { return };
                shared.publish(roster.snapshot(&shared, now));
            }
            continue;
        };
        let Some(shared) = shared.upgrade() else { return };
        match roster.take_in(&shared, discover.as_mut(), first).await {
            End::Quiet => errors = 0,
            End::Failed(error) => {
                errors = errors.saturating_add(1);
                shared.config.observer.on(|| Event::DiscoveryFailed(&*error));
            }
            End::Ended => {
                shared.config.observer.on(|| Event::DiscoveryEnded);
                if roster.renew_at.is_none() {
                    return;
                }
                discover.set(None);
            }
        }
        // It must not be this task that keeps the balancer alive.
        drop(shared);
        if errors == 0 {
            tokio::task::yield_now().await;
        } else {
            let pause = FIRST_PAUSE * (1 << (errors - 1).min(MAX_DOUBLINGS));
            Sleep::until(now() + pause).await;
        }
    }
}

type Step = Option<Result<Change, BoxError>>;

/// The earlier of two instants, of which neither has to be.
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// The next step of discovery, or none when something else is due: to forget who left, or to
/// renew the picker.
async fn next<D: Discover>(
    mut discover: Pin<&mut Option<D>>,
    due: Option<Instant>,
) -> Option<Step> {
    let mut due = pin!(due.map(Sleep::until));
    poll_fn(|cx| {
        if let Poll::Ready(step) = poll_change(discover.as_mut(), cx) {
            return Poll::Ready(Some(step));
        }
        match due.as_mut().as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

/// Nothing comes of a discovery that has ended.
fn poll_change<D: Discover>(discover: Pin<&mut Option<D>>, cx: &mut Context<'_>) -> Poll<Step> {
    discover.as_pin_mut().map_or(Poll::Pending, |discover| discover.poll_change(cx))
}

/// Why a batch ended.
enum End {
    /// Nothing more is there for now.
    Quiet,
    Failed(BoxError),
    Ended,
}

/// The members, and how to make one.
struct Roster<S, G, M, N> {
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
    /// Takes in this step and all that are there with it, and publishes what came of them.
    async fn take_in<D: Discover>(
        &mut self,
        shared: &Shared<S, G>,
        mut discover: Pin<&mut Option<D>>,
        first: Step,
    ) -> End {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let (mut health, mut changed) = (Vec::new(), false);
        let (mut step, mut taken) = (first, 0);
        let end = loop {
            match step {
                Some(Ok(change)) => {
                    let effect = self.apply(shared, change);
                    changed |= !effect.is_empty();
                    added.extend(effect.added);
                    removed.extend(effect.removed);
                    health.extend(effect.health);
                }
                Some(Err(error)) => break End::Failed(error),
                None => break End::Ended,
            }
            taken += 1;
            if taken == MAX_BATCH {
                break End::Quiet;
            }
            step = match poll_fn(|cx| Poll::Ready(poll_change(discover.as_mut(), cx))).await {
                Poll::Ready(step) => step,
                Poll::Pending => break End::Quiet,
            };
        };
        if changed {
            shared.publish(self.snapshot(shared, now()));
        }
        let observer = &shared.config.observer;
        added.iter().for_each(|endpoint| observer.on(|| Event::EndpointAdded(endpoint)));
        removed.iter().for_each(|endpoint| observer.on(|| Event::EndpointRemoved(endpoint)));
        for (endpoint, health) in &health {
            observer.on(|| Event::HealthChanged(endpoint, *health));
        }
        end
    }

    fn apply(&mut self, shared: &Shared<S, G>, change: Change) -> super::members::Effect {
        let now = now();
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
            Arc::new(Node::new(endpoint.clone(), service, gate, load, shared.epoch))
        });
        if let Some(node) = healthy.and_then(|endpoint| self.members.get(&endpoint)) {
            node.gate.found_healthy(now);
        }
        effect
    }

    fn snapshot(&mut self, shared: &Shared<S, G>, now: Instant) -> Snapshot<S, G> {
        self.version += 1;
        let policy = shared.config.policy.as_deref();
        self.renew_at = policy.and_then(Policy::renew_after).map(|span| after(now, span));
        let member =
            |(node, health): (&Arc<Node<S, G>>, _)| Member { node: Arc::clone(node), health };
        let members = self.members.list().into_iter().map(member).collect();
        Snapshot::new(self.version, members, policy, now)
    }
}
