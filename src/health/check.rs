//! The task that checks one endpoint.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    probe::{Probe, ProbeTimedOut, Unavailable},
    state::{Finding, HealthState},
};
use crate::{
    endpoint::{Endpoint, Health},
    entropy::Entropy,
    error::{BoxError, find},
    event::{Event, Observer},
    time::{self, Sleep},
};

/// A changed verdict, on its way to the stage.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) endpoint: Endpoint,
    /// Which row of checks it is from: an endpoint that went and came again has another.
    pub(super) row: u64,
    pub(super) health: Health,
}

/// What one row of checks needs.
pub(super) struct Check<P> {
    pub(super) probe: Arc<P>,
    pub(super) endpoint: Endpoint,
    pub(super) row: u64,
    pub(super) state: HealthState,
    pub(super) timeout: std::time::Duration,
    pub(super) entropy: Entropy,
    pub(super) observer: Observer,
    pub(super) reports: mpsc::Sender<Report>,
}

impl<P> Check<P>
where
    P: Probe + Send + Sync + 'static,
{
    /// Asks until nobody wants to know.
    pub(super) async fn run(mut self) {
        loop {
            let finding = self.once().await;
            if let Some(health) = self.state.record(finding) {
                let (endpoint, row) = (self.endpoint.clone(), self.row);
                if self.reports.send(Report { endpoint, row, health }).await.is_err() {
                    return;
                }
            }
            Sleep::until(self.state.due(time::now(), self.entropy.unit())).await;
        }
    }

    async fn once(&self) -> Finding {
        let (probe, endpoint) = (Arc::clone(&self.probe), self.endpoint.clone());
        // In a task of its own, so that a probe that panics has failed, and no more than that.
        let mut task = Task::spawn(async move { probe.probe(&endpoint).await });
        let mut sleep = pin!(Sleep::until(time::now() + self.timeout));
        let outcome = poll_fn(|cx| {
            // The answer before the timer: one that came in time counts.
            if let Poll::Ready(answer) = task.poll(cx) {
                return Poll::Ready(answer.unwrap_or_else(|panic| Err(panic.into())));
            }
            let timed_out = || Err(BoxError::from(ProbeTimedOut { limit: self.timeout }));
            sleep.as_mut().poll(cx).map(|()| timed_out())
        });
        let Err(error) = outcome.await else { return Finding::Passed };
        self.observer.on(|| Event::ProbeFailed(&self.endpoint, &*error));
        match find::<Unavailable>(&*error) {
            Some(_) => Finding::Unavailable,
            None => Finding::Failed,
        }
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(super) fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<T, tokio::task::JoinError>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
