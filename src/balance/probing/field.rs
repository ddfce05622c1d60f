//! One set of endpoints, and what is known of them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    answer::Probed,
    config::ProbingConfig,
    pace::Pace,
    pool::{Entry, Pool},
    seen::Seen,
};
use crate::{
    balance::policy::Member,
    endpoint::{Endpoint, EndpointKey},
    sync::{AtomicU64, Mutex, Ordering, Padded, lock},
};

/// The endpoints that a picker picks from, with their pool. A policy that picks in several groups
/// has one for each.
#[derive(Debug)]
pub(super) struct Field {
    targets: Box<[Target]>,
    places: HashMap<EndpointKey, u32>,
    /// Whom to ask: the places of those that are not known to be unhealthy, or of all if none is
    /// well.
    asked: Box<[u32]>,
    /// Calls that were picked for.
    pub(super) calls: Padded<AtomicU64>,
    /// Held for the time of a pick, or of an answer's arrival. A pick that finds it held goes
    /// without: it waits for nobody.
    pub(super) pool: Padded<Mutex<Pool>>,
    /// No pick looks at these.
    pace: Mutex<Pace>,
    seen: Mutex<Seen>,
    /// Where its calls are counted when it is no more.
    past: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Target {
    key: EndpointKey,
    endpoint: Endpoint,
    healthy: bool,
}

impl Field {
    /// Of these members, with what `others` know of them.
    pub(super) fn new(
        members: &[Member<'_>],
        config: &ProbingConfig,
        others: &[Arc<Self>],
        past: Arc<AtomicU64>,
    ) -> Self {
        let target = |member: &Member<'_>| Target {
            key: member.key,
            endpoint: member.endpoint.clone(),
            healthy: member.health.is_eligible(),
        };
        let targets: Box<[Target]> = members.iter().map(target).collect();
        let places: HashMap<_, _> =
            targets.iter().enumerate().map(|(at, target)| (target.key, at as u32)).collect();
        let well = |&at: &u32| targets[at as usize].healthy;
        let all = 0..targets.len() as u32;
        let mut asked: Box<[u32]> = all.clone().filter(well).collect();
        if asked.is_empty() {
            asked = all.collect();
        }
        let mut pool = Pool::new(config.pool_rules(targets.len()));
        let (mut seen, mut last) = (Seen::default(), None);
        for other in others.iter().filter(|other| other.shares_with(&places)) {
            // They are as old as each other, or groups of one set: any will do.
            (seen, last) = (lock(&other.seen).clone(), lock(&other.pace).last());
            for entry in lock(&other.pool).entries() {
                let key = other.targets[entry.place as usize].key;
                if let Some(&place) = places.get(&key) {
                    pool.put(Entry { place, ..*entry });
                }
            }
        }
        pool.expect(seen.threshold(config.quantile()));
        Self {
            targets,
            places,
            asked,
            calls: Padded::default(),
            pool: Padded(Mutex::new(pool)),
            pace: Mutex::new(Pace::going_on(last)),
            seen: Mutex::new(seen),
            past,
        }
    }

    /// Whether these are the same members, as far as this is about them.
    pub(super) fn is_of(&self, members: &[Member<'_>]) -> bool {
        let same = |(target, member): (&Target, &Member<'_>)| {
            target.key == member.key
                && target.healthy == member.health.is_eligible()
                && !target.endpoint.differs(member.endpoint)
        };
        self.targets.len() == members.len() && self.targets.iter().zip(members).all(same)
    }

    fn shares_with(&self, places: &HashMap<EndpointKey, u32>) -> bool {
        self.targets.iter().any(|target| places.contains_key(&target.key))
    }

    /// How many probes are due.
    pub(super) fn due(&self, now: Instant, config: &ProbingConfig) -> usize {
        // Relaxed: a call that is not seen now has woken who looks again.
        let calls = self.calls.load(Ordering::Relaxed);
        lock(&self.pace).due(now, calls, &config.rates_of_probes())
    }

    /// When some are due although nobody calls.
    pub(super) fn next(&self, silence: Option<Duration>) -> Option<Instant> {
        lock(&self.pace).next(silence)
    }

    /// One of those to ask, by chance.
    pub(super) fn draw(&self, draw: u64) -> Option<(EndpointKey, &Endpoint)> {
        let at = ((u128::from(draw) * self.asked.len() as u128) >> 64) as usize;
        let target = &self.targets[*self.asked.get(at)? as usize];
        Some((target.key, &target.endpoint))
    }

    /// What an endpoint has answered, if it is one of these.
    pub(super) fn answered(
        &self,
        key: EndpointKey,
        said: Probed,
        quantile: f64,
        now: Instant,
        chance: f64,
    ) {
        let Some(&place) = self.places.get(&key) else { return };
        let threshold = {
            let mut seen = lock(&self.seen);
            seen.add(said.in_flight);
            seen.threshold(quantile)
        };
        let latency = said.latency.map(|latency| latency.as_secs_f32());
        let entry = Entry { place, in_flight: said.in_flight, latency, at: now, uses: 0 };
        lock(&self.pool).add(entry, threshold, chance);
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // Relaxed: a count.
        self.past.fetch_add(self.calls.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
