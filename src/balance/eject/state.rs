//! The decision: who is ejected and who returns. Plain state, without a clock, a lock or a draw of
//! its own.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    config::{Arithmetic, EjectionConfig},
    counts::Tally,
    ejection::{Action, Ejection, Evidence, Outlier, Ruling},
    judge::{self, Found, Judged, Side},
};
use crate::{endpoint::EndpointKey, time::after};

/// An endpoint as a sweep sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// Which.
    pub key: EndpointKey,
    /// What it did since the last sweep.
    pub tally: Tally,
    /// Whether it is out for another reason: then it is not judged, is nobody's peer, and counts for
    /// the cap. (Envoy and gRPC don't ask.)
    pub out: bool,
}

impl Host {
    /// An endpoint that is in.
    #[must_use]
    pub const fn new(key: EndpointKey, tally: Tally) -> Self {
        Self { key, tally, out: false }
    }
}

/// Who is ejected, and why.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::balance::{Action, EjectionConfig, EjectionState, Host, Tally};
/// use buttress::endpoint::EndpointKey;
///
/// let now = Instant::now();
/// let mut state = EjectionState::new(EjectionConfig::new(), now);
/// let mut hosts = vec![];
/// for _ in 0..5 {
///     hosts.push(Host::new(EndpointKey::unique(), Tally::new(200, 0)));
/// }
/// hosts[3].tally = Tally::new(180, 20);
///
/// let rulings = state.sweep(&hosts, now, || 0.0);
/// assert_eq!((rulings.len(), rulings[0].key), (1, hosts[3].key));
/// assert_eq!(rulings[0].action, Action::Ejected);
/// assert_eq!(state.ejection(hosts[3].key).map(|e| e.until), Some(now + Duration::from_secs(30)));
/// ```
#[derive(Clone, Debug)]
pub struct EjectionState {
    config: EjectionConfig,
    records: HashMap<EndpointKey, Record>,
    next_sweep: Instant,
}

/// What is known of one endpoint from before.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    ejection: Option<Ejection>,
    /// How many ejections in a row: the time grows with it.
    times: u32,
    /// When the last one ended.
    returned: Option<Instant>,
    /// Calls that were too few to tell, and for how many sweeps they have waited.
    waiting: Tally,
    waited: u32,
    /// It was slow in the sweep before.
    slow: bool,
}

/// For so many sweeps an endpoint keeps calls that were too few: a minute.
const WAIT_SWEEPS: u32 = 6;

impl EjectionState {
    /// Nobody is ejected; the first sweep is one interval after `now`.
    #[must_use]
    pub fn new(config: EjectionConfig, now: Instant) -> Self {
        let next_sweep = after(now, config.interval);
        Self { config, records: HashMap::new(), next_sweep }
    }

    /// Compares all endpoints, lets those return whose time is over, and says what came of it.
    ///
    /// `draw` gives draws from `[0, 1)`, for enforcement and jitter. Those that are not among the
    /// `hosts` keep what they have.
    pub fn sweep(
        &mut self,
        hosts: &[Host],
        now: Instant,
        mut draw: impl FnMut() -> f64,
    ) -> Vec<Ruling> {
        self.next_sweep = after(now, self.config.interval);
        let mut rulings = Vec::new();
        let grpc = self.config.arithmetic == Arithmetic::Grpc;
        // A50 judges first, and lets those return who have the call counts of an ejected one.
        if !grpc {
            rulings.extend(self.returns(now));
        }
        for found in self.found(hosts) {
            rulings.extend(self.rule(found, hosts, now, &mut draw));
        }
        self.forgive(now);
        if grpc {
            rulings.extend(self.returns(now));
        }
        rulings
    }

    /// An endpoint has failed too often in a row, by one of the [consecutive] tests.
    ///
    /// [consecutive]: super::Consecutive
    pub fn struck(
        &mut self,
        at: usize,
        by: Outlier,
        hosts: &[Host],
        now: Instant,
        mut draw: impl FnMut() -> f64,
    ) -> Option<Ruling> {
        let row = match by {
            Outlier::ServerErrors => 0,
            Outlier::GatewayFailures => 1,
            Outlier::LocalFailures => 2,
            _ => return None,
        };
        let (count, enforced) = self.config.consecutive?.rows[row];
        let evidence = Evidence {
            calls: count,
            failures: count,
            measured: f64::from(count),
            limit: f64::from(count),
            ..Evidence::default()
        };
        self.rule(Found { at, by, evidence, enforced }, hosts, now, &mut draw)
    }

    /// Lets those return whose time is over; in the arithmetic of Envoy and gRPC only sweeps do.
    pub fn returned(&mut self, now: Instant) -> Vec<Ruling> {
        match self.config.arithmetic {
            Arithmetic::Ours => self.returns(now),
            Arithmetic::Envoy { .. } | Arithmetic::Grpc => Vec::new(),
        }
    }

    /// An active check found it healthy after it was not. That may shorten an ejection; in Envoy's
    /// arithmetic it ends it.
    pub fn found_healthy(&mut self, key: EndpointKey, now: Instant) -> Option<Ruling> {
        let record = self.records.get_mut(&key)?;
        let ejection = record.ejection.as_mut()?;
        match self.config.arithmetic {
            Arithmetic::Envoy { .. } => Some(record.end(key, Action::FoundHealthy, now)?),
            Arithmetic::Ours => {
                ejection.until = ejection.until.min(after(ejection.since, self.config.time));
                None
            }
            Arithmetic::Grpc => None,
        }
    }

    /// Whether this one is ejected, and why.
    #[must_use]
    pub fn ejection(&self, key: EndpointKey) -> Option<&Ejection> {
        self.records.get(&key)?.ejection.as_ref()
    }

    /// When there is something to do: the next sweep, or a return.
    #[must_use]
    pub fn due(&self) -> Instant {
        let returns = match self.config.arithmetic {
            Arithmetic::Ours => self.records.values().filter_map(|record| record.ejection),
            Arithmetic::Envoy { .. } | Arithmetic::Grpc => return self.next_sweep,
        };
        returns.map(|ejection| ejection.until).fold(self.next_sweep, Instant::min)
    }

    /// Whether a sweep is due, and not only a return.
    #[must_use]
    pub fn is_sweep_due(&self, now: Instant) -> bool {
        self.next_sweep <= now
    }

    /// Forgets those that are no members any more.
    pub fn retain(&mut self, keep: impl Fn(EndpointKey) -> bool) {
        self.records.retain(|&key, _| keep(key));
    }

    /// The outliers, test by test.
    fn found(&mut self, hosts: &[Host]) -> Vec<Found> {
        let judged = self.judged(hosts);
        let config = &self.config;
        let grpc = config.arithmetic == Arithmetic::Grpc;
        let sides: &[Side] =
            if config.split { &[Side::Answers, Side::Local] } else { &[Side::All] };
        let mut found = Vec::new();
        if let Some(rule) = &config.failure_rate {
            found.extend(judge::failure_rate(rule, &judged));
        }
        for &side in sides {
            if let Some(rule) = &config.success_rate {
                found.extend(judge::success_rate(rule, side, &judged));
            }
            if let Some(rule) = &config.failure_percentage {
                found.extend(judge::failure_percentage(rule, side, grpc, &judged));
            }
        }
        if let Some(rule) = config.latency {
            let slow = judge::latency(&rule, &judged);
            found.extend(self.slow_again(hosts, &judged, slow));
        }
        found
    }

    /// Those that are judged, with the calls that they had waiting.
    fn judged(&mut self, hosts: &[Host]) -> Vec<Judged> {
        let minimum = self.config.failure_rate.map_or(0, |rule| rule.minimum_calls);
        let grpc = self.config.arithmetic == Arithmetic::Grpc;
        let ours = self.config.arithmetic == Arithmetic::Ours;
        let mut judged = Vec::with_capacity(hosts.len());
        for (at, host) in hosts.iter().enumerate() {
            let record = self.records.entry(host.key).or_default();
            let tally = host.tally.and(std::mem::take(&mut record.waiting));
            let calls = Side::All.rate(&tally).calls;
            if calls < minimum && record.waited < WAIT_SWEEPS {
                record.waiting = Tally { took: None, ..tally };
                record.waited += 1;
            } else {
                record.waited = 0;
            }
            // In A50 those ejected are not left out; they have hardly any calls.
            if !(ours && host.out) && (grpc || record.ejection.is_none()) {
                judged.push(Judged { at, tally });
            }
        }
        judged
    }

    /// Those of the slow ones that were slow before.
    fn slow_again(&mut self, hosts: &[Host], judged: &[Judged], slow: Vec<Found>) -> Vec<Found> {
        let now: HashSet<usize> = slow.iter().map(|found| found.at).collect();
        let mut again = HashSet::new();
        for judged in judged.iter().filter(|judged| judged.tally.took.is_some()) {
            let record = self.records.entry(hosts[judged.at].key).or_default();
            let before = std::mem::replace(&mut record.slow, now.contains(&judged.at));
            if before && record.slow {
                again.insert(judged.at);
            }
        }
        slow.into_iter().filter(|found| again.contains(&found.at)).collect()
    }

    /// What becomes of an outlier.
    fn rule(
        &mut self,
        found: Found,
        hosts: &[Host],
        now: Instant,
        draw: &mut impl FnMut() -> f64,
    ) -> Option<Ruling> {
        let key = hosts.get(found.at)?.key;
        let capped = !self.has_room(hosts);
        let jitter = self.config.jitter;
        let (time, longest) = (self.config.time, self.config.longest);
        let arithmetic = self.config.arithmetic;
        let record = self.records.entry(key).or_default();
        if record.ejection.is_some() && arithmetic != Arithmetic::Grpc {
            return None;
        }
        let times = match arithmetic {
            // Not counted on when the longest is reached, so that it takes no longer to forget.
            Arithmetic::Envoy { .. } if time * record.times >= longest + time => record.times,
            _ => record.times.saturating_add(1),
        };
        let span = time.saturating_mul(times).min(longest.max(time));
        let mut ejection = Ejection {
            by: found.by,
            evidence: found.evidence,
            since: now,
            until: after(now, span),
            times,
        };
        let action = if capped {
            Action::Capped
        } else if self.config.dark || draw() * 100.0 >= f64::from(found.enforced) {
            Action::Spared
        } else {
            Action::Ejected
        };
        if action == Action::Ejected {
            if !jitter.is_zero() {
                ejection.until += jitter.mul_f64(draw());
            }
            record.times = times;
            record.ejection = Some(ejection);
            (record.waiting, record.waited, record.slow) = (Tally::default(), 0, false);
        }
        Some(Ruling::new(key, action, ejection))
    }

    /// Whether one more may be ejected.
    fn has_room(&self, hosts: &[Host]) -> bool {
        let is_ejected = |host: &&Host| self.ejection(host.key).is_some();
        let ejected = hosts.iter().filter(is_ejected).count() as u64;
        let (all, percent) = (hosts.len() as u64, u64::from(self.config.max_percent));
        match self.config.arithmetic {
            Arithmetic::Ours => {
                let out = hosts.iter().filter(|host| host.out && !is_ejected(host)).count() as u64;
                ejected == 0 || 100 * (ejected + out + 1) <= percent * all
            }
            Arithmetic::Envoy { always_one } => {
                (always_one && ejected == 0) || 100 * (ejected + 1) <= percent * all
            }
            Arithmetic::Grpc => 100 * ejected < percent * all,
        }
    }

    fn returns(&mut self, now: Instant) -> Vec<Ruling> {
        // A50 waits until the time is over, the others until it is reached.
        let after = self.config.arithmetic == Arithmetic::Grpc;
        let over = |until| if after { until < now } else { until <= now };
        let records = self.records.iter_mut();
        let mut back: Vec<Ruling> = records
            .filter(|(_, record)| record.ejection.is_some_and(|ejection| over(ejection.until)))
            .filter_map(|(&key, record)| record.end(key, Action::Returned, now))
            .collect();
        // The map has no order, and a run should be repeatable.
        back.sort_by_key(|ruling| ruling.key);
        back
    }

    /// A healthy interval takes one from the count.
    fn forgive(&mut self, now: Instant) {
        let interval = match self.config.arithmetic {
            Arithmetic::Grpc => Duration::ZERO,
            Arithmetic::Ours | Arithmetic::Envoy { .. } => self.config.interval,
        };
        for record in self.records.values_mut().filter(|record| record.ejection.is_none()) {
            let back =
                record.returned.is_some_and(|at| now.saturating_duration_since(at) >= interval);
            if back {
                record.times = record.times.saturating_sub(1);
            }
        }
    }
}

impl Record {
    fn end(&mut self, key: EndpointKey, action: Action, now: Instant) -> Option<Ruling> {
        let ejection = self.ejection.take()?;
        self.returned = Some(now);
        (self.waiting, self.waited) = (Tally::default(), 0);
        Some(Ruling::new(key, action, ejection))
    }
}
