//! A server at work.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use super::{server::Server, work::exponential};
use crate::{
    algo::by_load::LatencyByLoad, balance::Probed, endpoint::LoadReport, entropy::Entropy, time,
};

/// Times are nanoseconds since the run began.
const NANOS: f64 = 1e9;

/// Over how many seconds a server measures itself.
const MEASURED: f64 = 1.0;

/// One attempt of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) call: u32,
    pub(super) attempt: u32,
}

/// What a server says of itself, in numbers that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    in_flight: u32,
    /// In millionths.
    utilization: u32,
    /// In thousandths.
    rate: u32,
}

impl Said {
    pub(super) fn report(self) -> LoadReport {
        LoadReport {
            in_flight: Some(self.in_flight as f32),
            utilization: Some(self.utilization as f32 / 1e6),
            rate: Some(self.rate as f32 / 1e3),
            ..LoadReport::new()
        }
    }
}

/// What a server answers to a probe, likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answered {
    in_flight: u32,
    latency: Option<Duration>,
}

impl Answered {
    pub(super) fn probed(self) -> Probed {
        let probed = Probed::new(self.in_flight as f32);
        self.latency.map_or(probed, |latency| probed.with_latency(latency))
    }
}

/// A server at work.
///
/// The work that every request in service has got so far is one number, since all get the same
/// (virtual time, as in fair queueing: Demers, Keshav, Shenker, SIGCOMM 1989); so an arrival and a
/// departure cost a logarithm, not a look at all the others.
pub(super) struct Machine {
    pub(super) server: Server,
    /// Which it has now.
    cores: f64,
    throttle: f64,
    /// The work, in seconds, that a request would have got that was in service since the beginning.
    done: f64,
    at: u64,
    /// Cores in use, on average over about the last [`MEASURED`] seconds: of its own and of what
    /// others leave.
    used: f64,
    /// Requests done a second, likewise.
    rate: f64,
    serving: BinaryHeap<Job>,
    waiting: VecDeque<(Came, f64)>,
    latency: LatencyByLoad,
    /// When the run began, by which only spans are told.
    began: Instant,
    /// Which of the announced completions still holds.
    pub(super) epoch: u32,
    /// Requests that have hung here, and never end.
    hung: u32,
}

#[derive(Clone, Copy)]
struct Job {
    /// What has to be done until it ends.
    ends: f64,
    came: Came,
}

/// A request, and how it was when it came.
#[derive(Clone, Copy)]
struct Came {
    ticket: Ticket,
    at: u64,
    /// How many others there were.
    others: u32,
}

impl Machine {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            cores: server.cores,
            throttle: 1.0,
            done: 0.0,
            at: 0,
            used: 0.0,
            rate: 0.0,
            serving: BinaryHeap::new(),
            waiting: VecDeque::new(),
            latency: LatencyByLoad::new(),
            began: time::now(),
            epoch: 0,
            hung: 0,
        }
    }

    /// How many requests it has.
    pub(super) fn in_flight(&self) -> usize {
        self.serving.len() + self.waiting.len() + self.hung as usize
    }

    /// How many cores it has, at full speed.
    pub(super) fn capacity(&self) -> f64 {
        self.cores * self.server.speed * self.throttle
    }

    pub(super) fn hang(&mut self) {
        self.hung += 1;
    }

    pub(super) fn unhang(&mut self) {
        self.hung = self.hung.saturating_sub(1);
    }

    /// The antagonists change what they use; gives the time of their next change.
    pub(super) fn redraw(&mut self, now: u64, entropy: &Entropy) -> Option<u64> {
        let others = self.server.antagonists?;
        self.advance(now);
        let used = others.least + (others.most - others.least) * entropy.unit();
        self.cores = self.server.cores.max(others.machine * (1.0 - used));
        let span = exponential(others.every.as_secs_f64(), entropy);
        Some(now + (span * NANOS) as u64 + 1)
    }

    pub(super) fn throttle(&mut self, now: u64, part: f64) {
        self.advance(now);
        self.throttle = part;
    }

    pub(super) fn arrive(&mut self, now: u64, ticket: Ticket, work: f64) {
        self.advance(now);
        let came = Came { ticket, at: now, others: self.in_flight() as u32 };
        if self.server.workers.is_some_and(|workers| self.serving.len() >= workers) {
            self.waiting.push_back((came, work));
        } else {
            self.serving.push(Job { ends: self.done + work, came });
        }
    }

    /// The request that is done now.
    pub(super) fn complete(&mut self, now: u64) -> Option<Ticket> {
        self.advance(now);
        let Job { ends, came } = self.serving.pop()?;
        self.rate += 1.0 / MEASURED;
        self.done = self.done.max(ends);
        let took = Duration::from_nanos(now - came.at);
        self.latency.record(came.others, took, self.instant(now));
        if let Some((came, work)) = self.waiting.pop_front() {
            self.serving.push(Job { ends: self.done + work, came });
        }
        Some(came.ticket)
    }

    /// When the next request is done, if nothing comes between.
    pub(super) fn next(&mut self) -> Option<u64> {
        self.epoch += 1;
        let job = self.serving.peek()?;
        let seconds = (job.ends - self.done).max(0.0) / self.pace();
        Some(self.at + (seconds * NANOS).ceil() as u64)
    }

    /// What it says of itself.
    pub(super) fn said(&self) -> Said {
        Said {
            in_flight: self.in_flight() as u32,
            utilization: (self.used / self.server.cores * 1e6) as u32,
            rate: (self.rate * 1e3) as u32,
        }
    }

    /// What it answers to a probe.
    pub(super) fn answered(&self, now: u64) -> Answered {
        let in_flight = self.in_flight() as u32;
        Answered { in_flight, latency: self.latency.at(in_flight, self.instant(now)) }
    }

    fn instant(&self, now: u64) -> Instant {
        self.began + Duration::from_nanos(now)
    }

    fn advance(&mut self, now: u64) {
        let seconds = (now - self.at) as f64 / NANOS;
        let kept = (-seconds / MEASURED).exp();
        let used = self.cores.min(self.serving.len() as f64);
        self.used = self.used * kept + used * (1.0 - kept);
        self.rate *= kept;
        if !self.serving.is_empty() {
            self.done += self.pace() * seconds;
        }
        self.at = now;
    }

    /// The work that each request in service gets in a second.
    fn pace(&self) -> f64 {
        let share = (self.cores / self.serving.len().max(1) as f64).min(1.0);
        share * self.server.speed * self.throttle
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Job {}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Job {
    /// The first to end is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        other.ends.total_cmp(&self.ends).then(other.came.ticket.cmp(&self.came.ticket))
    }
}
