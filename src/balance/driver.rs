//! The one task that changes the membership.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{eject::Alarm, roster::Roster, service::Shared};
use crate::{
    endpoint::{Change, Discover, Endpoint, Gate, MakeEndpoint},
    error::BoxError,
    event::Event,
    sync::lock,
    time::{Sleep, know_tasks, now},
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
/// driver where there is somebody to eject, or pickers to renew.
pub(super) async fn drive<S, G, D, M, N>(shared: Weak<Shared<S, G>>, discover: D, make: M, gates: N)
where
    D: Discover,
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    // It is spawned as it is, so it is polled with its task's own waker.
    know_tasks().await;
    let mut discover = pin!(Some(discover));
    let Some((mut roster, alarm)) = shared.upgrade().map(|shared| {
        let alarm = Arc::clone(&shared.alarm);
        (Roster::new(make, gates, &shared.config, &alarm, now()), alarm)
    }) else {
        return;
    };
    let mut errors = 0_u32;
    loop {
        let Some(first) = next(discover.as_mut(), roster.due(), &alarm).await else {
            let Some(shared) = shared.upgrade() else { return };
            if let Some(snapshot) = roster.on_time(&shared, now()) {
                shared.publish(snapshot);
            }
            continue;
        };
        let Some(shared) = shared.upgrade() else { return };
        match take_in(&mut roster, &shared, discover.as_mut(), first).await {
            End::Quiet => errors = 0,
            End::Failed(error) => {
                errors = errors.saturating_add(1);
                lock(&shared.discovery).failed(&*error, now());
                shared.config.observer.on(|| Event::DiscoveryFailed(&*error));
            }
            End::Ended => {
                lock(&shared.discovery).ended(now());
                shared.config.observer.on(|| Event::DiscoveryEnded);
                if !roster.goes_on() {
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

/// The next step of discovery, or none when something else is due: to forget who left, to renew
/// the picker, to compare the endpoints, or to look at one that has failed too often in a row.
async fn next<D: Discover>(
    mut discover: Pin<&mut Option<D>>,
    due: Option<Instant>,
    alarm: &Alarm,
) -> Option<Step> {
    let mut raised = pin!(alarm.raised());
    let mut due = pin!(due.map(Sleep::until));
    poll_fn(|cx| {
        if let Poll::Ready(step) = poll_change(discover.as_mut(), cx) {
            return Poll::Ready(Some(step));
        }
        if raised.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
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

/// Takes in this step and all that are there with it, and publishes what came of them.
async fn take_in<S, G, D, M, N>(
    roster: &mut Roster<S, G, M, N>,
    shared: &Shared<S, G>,
    mut discover: Pin<&mut Option<D>>,
    first: Step,
) -> End
where
    D: Discover,
    M: MakeEndpoint<Service = S>,
    N: Fn(&Endpoint) -> G,
    G: Gate,
{
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    let (mut health, mut changed, mut named) = (Vec::new(), false, false);
    let (mut step, mut taken) = (first, 0);
    let end = loop {
        match step {
            Some(Ok(change)) => {
                named |= !matches!(change, Change::Health(..));
                let effect = roster.apply(shared, change, now());
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
    if named {
        lock(&shared.discovery).named(now());
    }
    if changed {
        shared.publish(roster.snapshot(shared, now()));
    }
    let observer = &shared.config.observer;
    added.iter().for_each(|endpoint| observer.on(|| Event::EndpointAdded(endpoint)));
    removed.iter().for_each(|endpoint| observer.on(|| Event::EndpointRemoved(endpoint)));
    for (endpoint, health) in &health {
        observer.on(|| Event::HealthChanged(endpoint, *health));
    }
    end
}
