//! A set of endpoints for the tests of pickers: real loads, and whatever else a test says of them.

use std::{net::SocketAddr, time::Duration, time::Instant};

use super::{
    load::Load,
    policy::{Candidates, LoadView, Member, Picker},
    recent::Usual,
    slow_start::SlowStart,
};
use crate::{
    call::Words,
    endpoint::{Endpoint, EndpointKey, Health, LoadReport},
    entropy::Entropy,
};

pub(super) struct Set {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) fit: Vec<bool>,
    pub(super) heard: Vec<usize>,
    pub(super) usual: Option<Usual>,
    pub(super) words: Option<Words>,
    pub(super) loads: Vec<Load>,
    pub(super) now: Instant,
    keys: Vec<EndpointKey>,
    entropy: Entropy,
}

impl Set {
    /// So many, at ports from 1 on, of which nothing is known but that they answer in a
    /// millisecond.
    pub(super) fn new(count: u16) -> Self {
        let now = crate::time::now();
        let second = Duration::from_secs(1);
        let load = || {
            let load = Load::new(now, 10 * second, Some(0.001), now);
            load.with_slow_start(SlowStart::over(30 * second))
        };
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        Self {
            endpoints: (1..=count).map(|port| Endpoint::from(address(port))).collect(),
            fit: vec![true; count.into()],
            heard: Vec::new(),
            usual: None,
            words: None,
            loads: (0..count).map(|_| load()).collect(),
            now,
            keys: (0..count).map(|_| EndpointKey::unique()).collect(),
            entropy: Entropy::seeded(7),
        }
    }

    pub(super) fn seeded(mut self, seed: u64) -> Self {
        self.entropy = Entropy::seeded(seed);
        self
    }

    /// With these weights, one for each.
    pub(super) fn weights(mut self, weights: &[u32]) -> Self {
        let weighed = self.endpoints.iter().zip(weights);
        self.endpoints = weighed.map(|(it, &weight)| it.clone().with_weight(weight)).collect();
        self
    }

    pub(super) fn members(&self) -> Vec<Member<'_>> {
        let all = self.endpoints.iter().zip(&self.keys).zip(&self.fit).enumerate();
        let member = |(at, ((endpoint, &key), &fit))| Member {
            endpoint,
            key,
            health: Health::Healthy,
            fit,
            load: self.load(at),
        };
        all.map(member).collect()
    }

    /// So many more calls of this one are under way, and its silence is not counted.
    pub(super) fn busy(&self, at: usize, calls: u32) {
        for _ in 0..calls {
            self.loads[at].begin(self.loads[at].tick(self.now));
            self.loads[at].heard(self.now);
        }
    }

    pub(super) fn doubt(&self, at: usize) {
        self.loads[at].failed(self.now, self.now);
    }

    pub(super) fn report(&self, at: usize, report: &LoadReport) {
        let load = &self.loads[at];
        load.said.take(report, load.tick(self.now));
    }

    /// The pick of a call with this key.
    pub(super) fn pick_for(&mut self, key: impl AsRef<[u8]>, picker: &dyn Picker) -> Option<usize> {
        self.words = Some(Words::new().affinity(key));
        picker.pick(self)
    }

    /// How many of so many picks each one has.
    pub(super) fn picks(&self, picker: &dyn Picker, picks: u32) -> Vec<u32> {
        let mut counts = vec![0; self.endpoints.len()];
        for _ in 0..picks {
            counts[picker.pick(self).expect("some fit")] += 1;
        }
        counts
    }
}

impl Candidates for Set {
    fn count(&self) -> usize {
        self.endpoints.len()
    }

    fn is_fit(&self, at: usize) -> bool {
        self.fit[at]
    }

    fn load(&self, at: usize) -> LoadView<'_> {
        LoadView::new(&self.loads[at], 0.001, self.loads[at].tick(self.now))
    }

    fn heard(&self, nth: usize) -> Option<usize> {
        self.heard.get(nth).copied()
    }

    fn usual(&self) -> Option<Usual> {
        self.usual
    }

    fn draw(&self) -> u64 {
        self.entropy.draw()
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn words(&self) -> Option<&Words> {
        self.words.as_ref()
    }
}
