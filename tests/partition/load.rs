//! Calls that keep their pace, and what became of each.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use buttress::{
    call::{Attempt, Attempts, Outcome},
    client::Client,
};
use http::{Method, Request};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// A hundred a second.
const PACE: Duration = Duration::from_millis(10);

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Get,
    /// A POST with a key.
    Keyed,
    /// A POST without one.
    Post,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) call: u64,
    pub(crate) what: What,
    /// Since the first call.
    pub(crate) begun: Duration,
    pub(crate) lasted: Duration,
    /// Who answered.
    pub(crate) by: Option<SocketAddr>,
    /// Where its attempts failed.
    pub(crate) failed: Vec<SocketAddr>,
    pub(crate) error: Option<String>,
}

/// The calls of a client.
#[derive(Debug)]
pub(crate) struct Load {
    client: Arc<Client>,
    begun: Instant,
    records: Arc<Mutex<Vec<Record>>>,
    end: tokio::sync::oneshot::Sender<()>,
    calls: tokio::task::JoinHandle<JoinSet<()>>,
}

impl Load {
    pub(crate) fn start(client: Client) -> Self {
        let (client, begun, records) = (Arc::new(client), Instant::now(), Arc::default());
        let (end, ended) = tokio::sync::oneshot::channel();
        let calls = tokio::spawn(make(Arc::clone(&client), begun, Arc::clone(&records), ended));
        Self { client, begun, records, end, calls }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What became of the calls that have ended.
    pub(crate) fn with_records<T>(&self, look: impl FnOnce(&[Record]) -> T) -> T {
        look(&lock(&self.records))
    }

    /// Since the first call.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Who answered which share of the calls that were begun in this time and have ended.
    pub(crate) fn shares(&self, when: Range<Duration>) -> HashMap<SocketAddr, f64> {
        let mut counts: HashMap<SocketAddr, u32> = HashMap::new();
        let records = lock(&self.records);
        for by in records.iter().filter(|it| when.contains(&it.begun)).filter_map(|it| it.by) {
            *counts.entry(by).or_default() += 1;
        }
        let all: u32 = counts.values().sum();
        counts.into_iter().map(|(by, count)| (by, f64::from(count) / f64::from(all))).collect()
    }

    /// Makes no more calls, and waits for those that are under way.
    pub(crate) async fn end(self) -> Vec<Record> {
        let _ = self.end.send(());
        self.calls.await.expect("it does not panic").join_all().await;
        std::mem::take(&mut *lock(&self.records))
    }
}

async fn make(
    client: Arc<Client>,
    begun: Instant,
    records: Arc<Mutex<Vec<Record>>>,
    mut ended: tokio::sync::oneshot::Receiver<()>,
) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    let mut due = interval(PACE);
    // What was late is made up for.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for call in 0.. {
        tokio::select! {
            _ = due.tick() => {}
            _ = &mut ended => break,
        }
        let (client, records) = (Arc::clone(&client), Arc::clone(&records));
        calls.spawn(async move {
            let record = one(&client, call, begun).await;
            lock(&records).push(record);
        });
        while calls.try_join_next().is_some() {}
    }
    calls
}

async fn one(client: &Client, call: u64, start: Instant) -> Record {
    let what = match call % 6 {
        2 => What::Get,
        5 => What::Keyed,
        _ => What::Post,
    };
    let request = Request::builder().uri(format!("/{call}"));
    let request = match what {
        What::Get => request.method(Method::GET),
        What::Keyed => {
            request.method(Method::POST).header("idempotency-key", format!("\"{call}\""))
        }
        What::Post => request.method(Method::POST),
    };
    let begun = start.elapsed();
    let sent = client.send(request.body("two apples").expect("a request")).await;
    let (mut by, mut error, mut failed) = (None, None, Vec::new());
    match sent {
        Ok(response) => {
            if let Some(attempts) = response.extensions().get::<Attempts>() {
                failed = failures(attempts);
            }
            match response.into_body().collect().await {
                Ok(body) => by = std::str::from_utf8(&body).ok().and_then(|at| at.parse().ok()),
                Err(cut) => error = Some(cut.to_string()),
            }
        }
        Err(failure) => {
            failed = failures(failure.attempts());
            error = Some(format!("{failure}, sent: {:?}", failure.sent()));
        }
    }
    Record { call, what, begun, lasted: start.elapsed() - begun, by, failed, error }
}

fn failures(attempts: &[Attempt]) -> Vec<SocketAddr> {
    let failed = attempts.iter().filter(|it| matches!(it.outcome, Outcome::Error(_)));
    failed.filter_map(|attempt| attempt.target).map(|target| target.address).collect()
}

fn lock(records: &Mutex<Vec<Record>>) -> MutexGuard<'_, Vec<Record>> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}
