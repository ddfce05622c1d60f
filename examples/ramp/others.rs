//! What the ramp compares with: other people's policies, and oracles that see what no client can.

use std::time::{Duration, Instant};

use buttress::testing::{Chooser, Ended, View};

/// Two different servers, drawn at random.
fn two(view: &View<'_>) -> (usize, usize) {
    let (first, second) = (view.below(view.count()), view.below(view.count() - 1));
    (first, second + usize::from(second >= first))
}

/// tower 0.5's `Balance` over `PeakEwma` (`tower/src/load/peak_ewma.rs`): the less loaded of two,
/// by latency times pending calls, and one; a look at an endpoint decays its latency, and a
/// failure is an answer like any other. The decay and the first estimate are those that linkerd
/// sets.
pub(crate) struct Tower {
    rtt: Vec<f64>,
    updated: Vec<Instant>,
    pending: Vec<u32>,
}

impl Tower {
    const DECAY: f64 = 10.0;
    const FIRST: f64 = 0.030;

    pub(crate) fn new() -> Self {
        Self { rtt: Vec::new(), updated: Vec::new(), pending: Vec::new() }
    }

    fn update(&mut self, at: usize, rtt: f64, now: Instant) -> f64 {
        let estimate = self.rtt[at];
        self.rtt[at] = if estimate < rtt {
            rtt
        } else {
            let decay = (-now.duration_since(self.updated[at]).as_secs_f64() / Self::DECAY).exp();
            estimate * decay + rtt * (1.0 - decay)
        };
        self.updated[at] = now;
        self.rtt[at]
    }

    fn load(&mut self, at: usize, now: Instant) -> f64 {
        self.update(at, 0.0, now) * f64::from(self.pending[at] + 1)
    }
}

impl Chooser for Tower {
    fn choose(&mut self, view: &View<'_>) -> Option<usize> {
        let (first, second) = two(view);
        let now = view.now();
        let at = if self.load(first, now) <= self.load(second, now) { first } else { second };
        self.pending[at] += 1;
        Some(at)
    }

    fn ended(&mut self, at: usize, ended: &Ended, view: &View<'_>) {
        self.pending[at] -= 1;
        let rtt = view.now().duration_since(ended.began).as_secs_f64();
        self.update(at, rtt, view.now());
    }

    fn changed(&mut self, _: usize, _: bool, view: &View<'_>) {
        self.rtt.resize(view.count(), Self::FIRST);
        self.updated.resize(view.count(), view.now());
        self.pending.resize(view.count(), 0);
    }
}

/// Weighted round robin by the servers' own reports, as in gRFC A58: a server's weight is the
/// rate that it serves over the part of its allocation that it uses for it, taken anew each
/// second, and the mean where nothing is known yet. Smooth, from a random start.
pub(crate) struct Weighted {
    weights: Vec<f64>,
    reported: Vec<Option<f64>>,
    credit: Vec<f64>,
    due: Option<Instant>,
}

impl Weighted {
    pub(crate) fn new() -> Self {
        Self { weights: Vec::new(), reported: Vec::new(), credit: Vec::new(), due: None }
    }

    fn weigh(&mut self) {
        let known: Vec<f64> = self.reported.iter().flatten().copied().collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let usual = if known.len() < 2 { 1.0 } else { mean };
        for (weight, reported) in self.weights.iter_mut().zip(&self.reported) {
            *weight = reported.filter(|_| known.len() >= 2).unwrap_or(usual);
        }
    }
}

impl Chooser for Weighted {
    fn choose(&mut self, view: &View<'_>) -> Option<usize> {
        if self.due.is_none_or(|due| due <= view.now()) {
            self.due = Some(view.now() + Duration::from_secs(1));
            self.weigh();
        }
        let mut best = 0;
        for at in 0..self.credit.len() {
            self.credit[at] += self.weights[at];
            if self.credit[at] > self.credit[best] {
                best = at;
            }
        }
        self.credit[best] -= self.weights.iter().sum::<f64>();
        Some(best)
    }

    fn ended(&mut self, at: usize, ended: &Ended, _: &View<'_>) {
        let Some(report) = ended.report else { return };
        if let (Some(rate), Some(used)) = (report.rate, report.utilization)
            && rate > 0.0
            && used > 0.0
        {
            self.reported[at] = Some(f64::from(rate / used));
        }
    }

    fn changed(&mut self, _: usize, _: bool, view: &View<'_>) {
        self.weights.resize(view.count(), 1.0);
        self.reported.resize(view.count(), None);
        while self.credit.len() < view.count() {
            self.credit.push(view.below(1_000) as f64 / 1_000.0);
        }
    }
}

/// Of all servers the one with the shortest queue, at this very moment.
pub(crate) struct Oracle;

impl Chooser for Oracle {
    fn choose(&mut self, view: &View<'_>) -> Option<usize> {
        let (count, start) = (view.count(), view.below(view.count()));
        (0..count).map(|at| (start + at) % count).min_by_key(|&at| view.in_flight(at))
    }

    fn ended(&mut self, _: usize, _: &Ended, _: &View<'_>) {}

    fn changed(&mut self, _: usize, _: bool, _: &View<'_>) {}
}
