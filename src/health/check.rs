//! The task that checks one endpoint.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    config::Traffic,
    probe::{Probe, ProbeTimedOut, Teller, Unavailable},
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
    pub(super) traffic: Traffic,
    pub(super) reports: mpsc::Sender<Report>,
}

impl<P> Check<P>
where
    P: Probe + Send + Sync + 'static,
{
    /// Asks until nobody wants to know.
    pub(super) async fn run(mut self) {
        let mut listens = true;
        loop {
            let finding = match if listens { self.listen().await } else { Heard::Nothing } {
                Heard::Failure => Finding::Failed,
                Heard::Nothing => {
                    listens = false;
                    self.once().await
                }
                Heard::Unheard => return,
            };
            let verdict = self.state.record(finding);
            if !self.report(verdict).await {
                return;
            }
            let (now, chance) = (time::now(), self.entropy.unit());
            let due = if self.traffic.is_none(&self.endpoint) {
                self.state.due_without_traffic(now, chance)
            } else {
                self.state.due(now, chance)
            };
            Sleep::until(due).await;
        }
    }

    /// Says a verdict that has changed; whether anybody still wants to know.
    async fn report(&self, verdict: Option<Health>) -> bool {
        let Some(health) = verdict else { return true };
        let (endpoint, row) = (self.endpoint.clone(), self.row);
        self.reports.send(Report { endpoint, row, health }).await.is_ok()
    }

    /// Listens to what the endpoint says by itself, if it does, until it says no more.
    async fn listen(&mut self) -> Heard {
        let (probe, endpoint) = (Arc::clone(&self.probe), self.endpoint.clone());
        let (sender, mut words) = mpsc::channel(1);
        let mut task = Task::spawn(async move { probe.watch(&endpoint, Teller(sender)).await });
        let mut limit = pin!(Some(Sleep::until(time::now() + self.timeout)));
        loop {
            let word = poll_fn(|cx| {
                // The words before the end, and both before the timer.
                if let Poll::Ready(Some(word)) = words.poll_recv(cx) {
                    return Poll::Ready(Word::Said(word));
                }
                if let Poll::Ready(end) = task.poll(cx) {
                    return Poll::Ready(Word::Ended(end.unwrap_or_else(|e| Some(e.into()))));
                }
                match limit.as_mut().as_pin_mut() {
                    Some(limit) => limit
                        .poll(cx)
                        .map(|()| Word::Ended(Some(ProbeTimedOut { limit: self.timeout }.into()))),
                    None => Poll::Pending,
                }
            });
            match word.await {
                Word::Said(word) => {
                    limit.set(None);
                    let verdict = self.state.told(word.is_ok());
                    if let Err(error) = &word {
                        self.observer.on(|| Event::ProbeFailed(&self.endpoint, &**error));
                    }
                    if !self.report(verdict).await {
                        return Heard::Unheard;
                    }
                }
                Word::Ended(None) => return Heard::Nothing,
                Word::Ended(Some(error)) => {
                    self.observer.on(|| Event::ProbeFailed(&self.endpoint, &*error));
                    return Heard::Failure;
                }
            }
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

/// What comes of listening.
enum Heard {
    /// There is nothing to listen to.
    Nothing,
    /// It has ended with an error.
    Failure,
    /// Nobody wants to know any more.
    Unheard,
}

enum Word {
    Said(Result<(), BoxError>),
    Ended(Option<BoxError>),
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
