//! The stage between a registry and the balancer.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::sync::mpsc;

use super::{
    check::{Check, Report, Task},
    config::HealthConfig,
    probe::Probe,
    state::HealthState,
};
use crate::{
    endpoint::{Change, Discover, Endpoint, Health},
    error::BoxError,
};

pin_project! {
    /// Checks every endpoint of a registry: gives the registry's changes, and with them
    /// [`Change::Health`].
    ///
    /// - An endpoint that comes is [`Health::Pending`] in the very next item, and healthy or
    ///   unhealthy as soon as its first check has an answer.
    /// - Each endpoint is checked by a task of its own, over connections of its own: checks
    ///   take no call's place, need no traffic, and never wait for each other. A task ends when
    ///   its endpoint goes or when the stage is dropped.
    /// - An endpoint that goes and comes again is checked anew. One that a
    ///   [`Change::Reset`] names again goes on as it was.
    /// - If the registry has a verdict of its own (or is such a stage itself, with another
    ///   probe), the worse of the two counts.
    /// - It goes on when the registry has ended, and ends when no endpoint is left then.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a tokio runtime with timers. To make one needs none.
    #[must_use = "streams do nothing unless polled"]
    pub struct Checked<D, P> {
        #[pin]
        registry: D,
        ended: bool,
        inner: Inner<P>,
    }
}

struct Inner<P> {
    probe: Arc<P>,
    config: HealthConfig,
    known: HashMap<Endpoint, Known>,
    /// What is to be said next.
    queue: VecDeque<Change>,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    rows: u64,
}

/// What is known of one endpoint.
#[derive(Debug)]
struct Known {
    row: u64,
    /// What the checks found.
    found: Health,
    /// What the registry says.
    told: Health,
    _task: Task<()>,
}

impl<D, P> Checked<D, P> {
    /// Checks the endpoints of `registry` with `probe`, from when it is first polled.
    pub fn new(registry: D, probe: P, config: HealthConfig) -> Self {
        let (sender, reports) = mpsc::channel(WAITING);
        let inner = Inner {
            probe: Arc::new(probe),
            config,
            known: HashMap::new(),
            queue: VecDeque::new(),
            sender,
            reports,
            rows: 0,
        };
        Self { registry, ended: false, inner }
    }
}

impl<D, P> Stream for Checked<D, P>
where
    D: Discover,
    P: Probe + Send + Sync + 'static,
{
    type Item = Result<Change, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let inner = this.inner;
        loop {
            if let Some(change) = inner.queue.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            if !*this.ended {
                match this.registry.as_mut().poll_change(cx) {
                    Poll::Ready(Some(Ok(change))) => {
                        inner.changed(change);
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => *this.ended = true,
                    Poll::Pending => {}
                }
            }
            if *this.ended && inner.known.is_empty() {
                return Poll::Ready(None);
            }
            match inner.reports.poll_recv(cx) {
                Poll::Ready(Some(report)) => inner.reported(report),
                // The stage holds a sender itself, so that there is no end of reports.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<P> Inner<P>
where
    P: Probe + Send + Sync + 'static,
{
    /// What the registry said goes on as it is, and then what it means for the checks.
    fn changed(&mut self, change: Change) {
        let before = self.queue.len();
        match &change {
            Change::Reset(endpoints) => {
                let named: std::collections::HashSet<_> = endpoints.iter().collect();
                self.known.retain(|endpoint, _| named.contains(endpoint));
                for endpoint in endpoints {
                    self.added(endpoint);
                }
            }
            Change::Add(endpoint) => self.added(endpoint),
            Change::Remove(endpoint) => {
                self.known.remove(endpoint);
            }
            Change::Health(endpoint, told) => {
                let (endpoint, told) = (endpoint.clone(), *told);
                return self.update(endpoint, |known| known.told = told);
            }
        }
        self.queue.insert(before, change);
    }

    fn added(&mut self, endpoint: &Endpoint) {
        let Entry::Vacant(entry) = self.known.entry(endpoint.clone()) else { return };
        self.rows += 1;
        let check = Check {
            probe: Arc::clone(&self.probe),
            endpoint: endpoint.clone(),
            row: self.rows,
            state: HealthState::new(&self.config),
            timeout: self.config.rules.timeout,
            entropy: self.config.entropy.fork(),
            observer: self.config.observer.clone(),
            traffic: self.config.traffic.clone(),
            reports: self.sender.clone(),
        };
        entry.insert(Known {
            row: self.rows,
            found: Health::Pending,
            told: Health::Unchecked,
            _task: Task::spawn(check.run()),
        });
        self.queue.push_back(Change::Health(endpoint.clone(), Health::Pending));
    }

    fn reported(&mut self, report: Report) {
        let Report { endpoint, row, health } = report;
        self.update(endpoint, |known| {
            // A late report of an endpoint that went says nothing about the one that came.
            if known.row == row {
                known.found = health;
            }
        });
    }

    fn update(&mut self, endpoint: Endpoint, change: impl FnOnce(&mut Known)) {
        let Some(known) = self.known.get_mut(&endpoint) else { return };
        let before = known.health();
        change(known);
        let health = known.health();
        if health != before {
            self.queue.push_back(Change::Health(endpoint, health));
        }
    }
}

impl Known {
    /// The worse of the two.
    fn health(&self) -> Health {
        match (self.found, self.told) {
            (Health::Unhealthy, _) | (_, Health::Unhealthy) => Health::Unhealthy,
            (Health::Pending, _) | (_, Health::Pending) => Health::Pending,
            (found, _) => found,
        }
    }
}

impl<D, P> std::fmt::Debug for Checked<D, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked")
            .field("endpoints", &self.inner.known.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// How many reports may wait for the stage to be polled. A check whose report finds no place
/// waits with its next probe, so nothing is lost and nothing grows.
const WAITING: usize = 64;
