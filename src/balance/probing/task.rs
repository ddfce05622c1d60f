//! The task that sends the probes of a policy.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::task::JoinSet;

use super::{
    answer::LoadProbeTimedOut,
    desk::{Order, Probes},
};
use crate::{
    entropy::Entropy,
    error::BoxError,
    event::{Event, Observer},
    time::{Sleep, after, now},
};

/// Sends the probes, until it is aborted. They are tasks of their own, which end with this one: one
/// that blocks or panics holds no other up.
pub(in crate::balance) async fn run(probes: Probes, entropy: Entropy, observer: Observer) {
    let (entropy, mut asked) = (Arc::new(entropy), JoinSet::new());
    loop {
        while asked.try_join_next().is_some() {}
        for order in probes.due(now(), || entropy.draw()) {
            let limit = probes.timeout();
            let (entropy, observer) = (Arc::clone(&entropy), observer.clone());
            asked.spawn(async move {
                let endpoint = order.endpoint().clone();
                if let Err(error) = ask(order, limit, &entropy).await {
                    observer.on(|| Event::LoadProbeFailed(&endpoint, &*error));
                }
            });
        }
        let (mut wanted, mut due) = (pin!(probes.wanted()), pin!(probes.next().map(Sleep::until)));
        poll_fn(|cx| {
            if wanted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            due.as_mut().as_pin_mut().map_or(Poll::Pending, |due| due.poll(cx))
        })
        .await;
    }
}

async fn ask(order: Order, limit: std::time::Duration, entropy: &Entropy) -> Result<(), BoxError> {
    let said = {
        let mut asking = pin!(order.ask());
        let mut limited = pin!(Sleep::until(after(now(), limit)));
        poll_fn(|cx| {
            // The answer first: one that is there is not late.
            if let Poll::Ready(said) = asking.as_mut().poll(cx) {
                return Poll::Ready(said);
            }
            limited.as_mut().poll(cx).map(|()| Err(LoadProbeTimedOut { limit }.into()))
        })
        .await?
    };
    order.answered(said, now(), entropy.draw())
}
