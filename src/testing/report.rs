//! What came of a run.

use std::{fmt, ops::Range, time::Duration};

/// What came of a run, or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub(super) seed: u64,
    pub(super) span: Range<Duration>,
    pub(super) servers: usize,
    pub(super) calls: Vec<Called>,
    pub(super) hits: Vec<Hit>,
}

/// One call as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Called {
    /// When it came, in nanoseconds.
    pub(super) at: u64,
    pub(super) took: u64,
    pub(super) ok: bool,
}

/// One attempt as its server saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hit {
    pub(super) at: u64,
    pub(super) server: u32,
}

impl Report {
    /// What all was drawn from.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The calls and attempts that began in this part of the run.
    #[must_use]
    pub fn between(&self, span: Range<Duration>) -> Self {
        let within = |at: u64| span.contains(&Duration::from_nanos(at));
        Self {
            calls: self.calls.iter().copied().filter(|call| within(call.at)).collect(),
            hits: self.hits.iter().copied().filter(|hit| within(hit.at)).collect(),
            span,
            ..*self
        }
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many attempts there were.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.hits.len()
    }

    /// The share of the calls that failed; 0 if there were none.
    #[must_use]
    pub fn errors(&self) -> f64 {
        share(self.calls.iter().filter(|call| !call.ok).count(), self.calls.len())
    }

    /// The share of the attempts that went to this server; 0 if there were none.
    #[must_use]
    pub fn share(&self, server: usize) -> f64 {
        let hits = self.hits.iter().filter(|hit| hit.server as usize == server).count();
        share(hits, self.hits.len())
    }

    /// The share of each server over time: a row for each `step`.
    #[must_use]
    pub fn shares(&self, step: Duration) -> Vec<Vec<f64>> {
        let step = step.as_nanos().max(1);
        let first = self.span.start.as_nanos();
        let rows = (self.span.end.as_nanos() - first).div_ceil(step) as usize;
        let mut counts = vec![vec![0_usize; self.servers]; rows];
        for hit in &self.hits {
            let row = (u128::from(hit.at) - first) / step;
            if let Some(row) = counts.get_mut(row as usize) {
                row[hit.server as usize] += 1;
            }
        }
        let shares = |row: Vec<usize>| {
            let all = row.iter().sum();
            row.into_iter().map(|count| share(count, all)).collect()
        };
        counts.into_iter().map(shares).collect()
    }

    /// Of all calls, those that failed too, this part took no longer: 0.99 is the p99. Zero if there
    /// were none.
    #[must_use]
    pub fn latency(&self, part: f64) -> Duration {
        let [latency] = self.latencies([part]);
        latency
    }

    /// As [`latency`](Self::latency), of several parts at the cost of one.
    #[must_use]
    pub fn latencies<const N: usize>(&self, parts: [f64; N]) -> [Duration; N] {
        let mut took: Vec<u64> = self.calls.iter().map(|call| call.took).collect();
        took.sort_unstable();
        parts.map(|part| {
            let at = (took.len() as f64 * part).ceil() as usize;
            let took = took.get(at.clamp(1, took.len().max(1)) - 1);
            Duration::from_nanos(took.copied().unwrap_or_default())
        })
    }
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = self.latencies([0.5, 0.99, 0.999]);
        let errors = self.errors() * 100.0;
        write!(
            f,
            "seed {}, {:?} to {:?}: {} calls in {} attempts, {errors:.2} % failed, \
             p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}",
            self.seed,
            self.span.start,
            self.span.end,
            self.calls(),
            self.attempts(),
        )
    }
}
