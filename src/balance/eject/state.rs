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
                record.waiting = tally;
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
            record.slow = false;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::eject::rules::{Consecutive, FailurePercentage, Latency, SuccessRate};

    const SECOND: Duration = Duration::from_secs(1);
    const GOOD: Tally = Tally::new(200, 0);
    const BAD: Tally = Tally::new(100, 100);
    const NONE: Tally = Tally::new(0, 0);

    /// A fleet, swept every ten seconds.
    struct Fleet {
        state: EjectionState,
        hosts: Vec<Host>,
        now: Instant,
        draw: f64,
    }

    impl Fleet {
        fn new(config: EjectionConfig, count: usize) -> Self {
            let now = crate::time::now();
            let hosts = (0..count).map(|_| Host::new(EndpointKey::unique(), GOOD)).collect();
            Self { state: EjectionState::new(config, now), hosts, now, draw: 0.0 }
        }

        fn place(&self, key: EndpointKey) -> usize {
            self.hosts.iter().position(|host| host.key == key).expect("one of the fleet")
        }

        /// Ten seconds later, in which the first few did this and the others well.
        fn sweep(&mut self, tallies: &[Tally]) -> Vec<(usize, Action)> {
            self.now += 10 * SECOND;
            self.sweep_now(tallies)
        }

        fn sweep_now(&mut self, tallies: &[Tally]) -> Vec<(usize, Action)> {
            let tallies = tallies.iter().copied().chain(std::iter::repeat(GOOD));
            self.hosts.iter_mut().zip(tallies).for_each(|(host, tally)| host.tally = tally);
            let draw = self.draw;
            let rulings = self.state.sweep(&self.hosts, self.now, || draw);
            rulings.iter().map(|ruling| (self.place(ruling.key), ruling.action)).collect()
        }

        fn strike(&mut self, at: usize, by: Outlier) -> Option<Ruling> {
            let draw = self.draw;
            self.state.struck(at, by, &self.hosts, self.now, || draw)
        }

        fn ejection(&self, at: usize) -> Ejection {
            *self.state.ejection(self.hosts[at].key).expect("it is ejected")
        }
    }

    fn capped_at(percent: u32, config: EjectionConfig) -> EjectionConfig {
        config.max_percent(percent).expect("it is")
    }

    /// As gRPC, by a percentage.
    fn grpc() -> EjectionConfig {
        let percentage = FailurePercentage::new().threshold(49).expect("it is");
        EjectionConfig::grpc().failure_percentage(percentage)
    }

    // --- Who is judged -----------------------------------------------------------------------

    #[test]
    fn calls_that_were_too_few_are_given_up_after_a_minute() {
        let fail = |failures| [Tally::new(0, failures)];
        let after = |idle| {
            let mut fleet = Fleet::new(EjectionConfig::new(), 5);
            assert_eq!(fleet.sweep(&fail(2)), []);
            (0..idle).for_each(|_| assert_eq!(fleet.sweep(&[NONE]), []));
            let found = fleet.sweep(&fail(3));
            (fleet, found)
        };
        assert_eq!(after(5).1, [(0, Action::Ejected)], "two and three, a minute later");
        let (mut fleet, found) = after(6);
        assert_eq!(found, [], "the two are forgotten");
        assert_eq!(fleet.sweep(&fail(2)), [(0, Action::Ejected)], "and the three are kept");
    }

    #[test]
    fn calls_that_were_enough_are_judged_once() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 5);
        // One of five may be chance, two of ten may not.
        assert_eq!(fleet.sweep(&[Tally::new(4, 1)]), []);
        assert_eq!(fleet.sweep(&[Tally::new(4, 1)]), []);
        assert_eq!(fleet.sweep(&[Tally::new(8, 2)]), [(0, Action::Ejected)]);
    }

    #[test]
    fn one_that_is_out_is_neither_judged_nor_anybodys_peer_but_in_envoys_arithmetic() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 5);
        fleet.hosts[0].out = true;
        assert_eq!(fleet.sweep(&[BAD]), []);
        let mut fleet = Fleet::new(EjectionConfig::new(), 3);
        fleet.hosts[0].out = true;
        assert_eq!(fleet.sweep(&[GOOD, BAD]), [], "two are no fleet");
        let config = capped_at(50, EjectionConfig::envoy());
        let mut fleet = Fleet::new(config, 5);
        fleet.hosts[0].out = true;
        assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
    }

    #[test]
    fn one_that_is_ejected_is_not_anybodys_peer_and_not_ejected_again() {
        let mut fleet = Fleet::new(capped_at(100, EjectionConfig::new()), 3);
        assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
        let until = fleet.ejection(0).until;
        // Those of its calls that were under way still come in.
        assert_eq!(fleet.sweep(&[GOOD, BAD]), [], "two are no fleet");
        assert_eq!(fleet.sweep(&[BAD]), []);
        assert_eq!((fleet.ejection(0).until, fleet.ejection(0).times), (until, 1));
    }

    #[test]
    fn in_grpc_one_that_is_ejected_is_judged_and_ejected_again() {
        let mut fleet = Fleet::new(capped_at(100, grpc()), 5);
        assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
        assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
        let ejection = fleet.ejection(0);
        assert_eq!((ejection.times, ejection.until - fleet.now), (2, 60 * SECOND));
    }

    #[test]
    fn one_that_two_tests_find_is_ejected_and_counted_once() {
        let percentage = FailurePercentage::new().threshold(30).expect("it is");
        let config = EjectionConfig::envoy().failure_percentage(percentage);
        let mut fleet = Fleet::new(capped_at(50, config), 6);
        assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
        let ejection = fleet.ejection(0);
        assert_eq!((ejection.by, ejection.times), (Outlier::SuccessRate, 1));
    }

    #[test]
    fn who_is_slow_is_so_in_two_sweeps_with_answers_and_anew_after_a_return() {
        let mut fleet = Fleet::new(EjectionConfig::new().latency(Latency::new()), 6);
        let slow = |fleet: &mut Fleet, first: Option<u64>| {
            let took = |ms| GOOD.with_latency(100, Duration::from_millis(ms));
            let mut tallies = [took(10); 6];
            tallies[0] = first.map_or(GOOD, took);
            fleet.sweep(&tallies)
        };
        assert_eq!(slow(&mut fleet, Some(90)), []);
        assert_eq!(slow(&mut fleet, None), [], "no answer says nothing");
        assert_eq!(slow(&mut fleet, Some(90)), [(0, Action::Ejected)]);
        fleet.now += 20 * SECOND;
        assert_eq!(slow(&mut fleet, None), [(0, Action::Returned)]);
        assert_eq!(slow(&mut fleet, Some(90)), [], "once");
        assert_eq!(slow(&mut fleet, Some(10)), []);
        assert_eq!(slow(&mut fleet, Some(90)), [], "not in a row");
    }

    #[test]
    fn what_it_did_while_it_was_ejected_does_not_count_when_it_is_back() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 5);
        assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
        // Two answers that were late.
        (0..2).for_each(|_| assert_eq!(fleet.sweep(&[Tally::new(0, 1)]), []));
        fleet.now += 10 * SECOND;
        assert_eq!(fleet.state.returned(fleet.now).len(), 1);
        assert_eq!(fleet.sweep(&[Tally::new(0, 3)]), []);
        assert_eq!(fleet.sweep(&[Tally::new(0, 2)]), [(0, Action::Ejected)]);
    }

    #[test]
    fn failures_that_are_counted_apart_are_judged_apart() {
        let config = EjectionConfig::envoy().split_local().success_rate(SuccessRate::new());
        let mut fleet = Fleet::new(capped_at(50, config), 6);
        let local = Tally::new(100, 0).with_local_failures(100);
        assert_eq!(fleet.sweep(&[local]), [(0, Action::Ejected)]);
        assert_eq!(fleet.ejection(0).by, Outlier::LocalSuccessRate);
    }

    #[test]
    fn a_percentage_is_reached_in_envoy_and_passed_in_grpc() {
        let percentage = FailurePercentage::new().threshold(50).expect("it is");
        let envoy = EjectionConfig::envoy().failure_percentage(percentage);
        let envoy = capped_at(50, envoy.success_rate(SuccessRate::new().minimum_hosts(100)));
        assert_eq!(Fleet::new(envoy, 6).sweep(&[BAD]), [(0, Action::Ejected)]);
        let grpc = capped_at(50, EjectionConfig::grpc().failure_percentage(percentage));
        assert_eq!(Fleet::new(grpc, 6).sweep(&[BAD]), []);
    }

    // --- For how long ------------------------------------------------------------------------

    #[test]
    fn an_ejection_is_longer_by_a_part_of_the_jitter_and_envoys_is_not() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 5);
        fleet.draw = 0.5;
        fleet.sweep(&[BAD]);
        assert_eq!(fleet.ejection(0).until - fleet.now, Duration::from_millis(31_500));
        let mut fleet = Fleet::new(capped_at(50, EjectionConfig::envoy()), 6);
        fleet.draw = 0.5;
        fleet.sweep(&[BAD]);
        assert_eq!(fleet.ejection(0).until - fleet.now, 30 * SECOND);
    }

    /// `eject_time_backoff` of Envoy is not raised any more when the time it stands for is one
    /// step above the longest.
    #[test]
    fn envoy_counts_to_one_more_than_the_longest_takes() {
        let config = EjectionConfig::envoy().ejection_time(30 * SECOND, 60 * SECOND);
        let mut fleet = Fleet::new(capped_at(50, config.expect("in order")), 6);
        let mut seen = Vec::new();
        for _ in 0..5 {
            assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
            let ejection = fleet.ejection(0);
            seen.push((ejection.times, (ejection.until - fleet.now).as_secs()));
            // Returned and found bad in the next sweep but one: no healthy interval in between.
            fleet.now = ejection.until;
            let back = fleet.sweep_now(&[NONE]);
            assert_eq!(back, [(0, Action::Returned)]);
        }
        assert_eq!(seen, [(1, 30), (2, 60), (3, 60), (3, 60), (3, 60)]);
    }

    #[test]
    fn a_count_is_forgiven_after_a_whole_interval_in_which_it_was_in() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 5);
        let eject = |fleet: &mut Fleet| {
            assert_eq!(fleet.sweep(&[BAD]), [(0, Action::Ejected)]);
            fleet.ejection(0).times
        };
        let ends = |fleet: &mut Fleet| {
            fleet.now = fleet.ejection(0).until;
            assert_eq!(fleet.state.returned(fleet.now).len(), 1);
        };
        assert_eq!(eject(&mut fleet), 1);
        ends(&mut fleet);
        fleet.now += 9 * SECOND;
        fleet.sweep_now(&[]);
        // It is judged before it is forgiven.
        fleet.now -= 9 * SECOND;
        assert_eq!(eject(&mut fleet), 2, "nine seconds are no interval");
        // While it is ejected nothing is forgiven.
        (0..3).for_each(|_| drop(fleet.sweep(&[NONE])));
        ends(&mut fleet);
        fleet.now -= 10 * SECOND;
        assert_eq!(eject(&mut fleet), 3);
        ends(&mut fleet);
        fleet.sweep(&[]);
        assert_eq!(eject(&mut fleet), 3, "ten seconds are one");
    }

    #[test]
    fn in_grpc_every_sweep_in_which_it_is_in_forgives() {
        let mut fleet = Fleet::new(capped_at(50, grpc()), 5);
        fleet.sweep(&[BAD]);
        fleet.now = fleet.ejection(0).until;
        assert_eq!(fleet.sweep_now(&[]), [], "until the time is over, and not until it is reached");
        fleet.now += SECOND;
        assert_eq!(fleet.sweep_now(&[]), [(0, Action::Returned)]);
        fleet.now += SECOND;
        fleet.sweep_now(&[]);
        fleet.sweep(&[BAD]);
        assert_eq!(fleet.ejection(0).times, 1);
    }

    /// A50 compares first, and lets return afterwards: one whose time is over may be ejected anew
    /// in the same sweep.
    #[test]
    fn grpc_and_envoy_let_return_in_a_sweep_alone_and_grpc_after_it_has_judged() {
        let mut fleet = Fleet::new(capped_at(50, grpc()), 5);
        fleet.sweep(&[BAD]);
        fleet.now += 31 * SECOND;
        assert_eq!(fleet.state.returned(fleet.now), []);
        assert_eq!(fleet.sweep_now(&[BAD]), [(0, Action::Ejected)]);
        assert_eq!(fleet.ejection(0).times, 2);

        let mut fleet = Fleet::new(capped_at(50, EjectionConfig::envoy()), 6);
        fleet.sweep(&[BAD]);
        fleet.now = fleet.ejection(0).until;
        assert_eq!(fleet.state.returned(fleet.now), []);
        assert_eq!(fleet.sweep_now(&[]), [(0, Action::Returned)]);
    }

    #[test]
    fn those_who_return_together_do_so_in_the_order_in_which_they_came() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 21);
        fleet.sweep(&[BAD; 10]);
        fleet.now += 30 * SECOND;
        let rulings = fleet.state.returned(fleet.now);
        let back: Vec<usize> = rulings.iter().map(|ruling| fleet.place(ruling.key)).collect();
        assert_eq!(back, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_known_of_those_who_are_gone_is_forgotten() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 5);
        fleet.sweep(&[BAD]);
        let gone = fleet.hosts[0].key;
        fleet.state.retain(|key| key != gone);
        assert_eq!((fleet.state.ejection(gone), fleet.state.records.len()), (None, 4));
    }

    // --- How many ----------------------------------------------------------------------------

    #[test]
    fn one_that_is_ejected_and_out_counts_once_for_the_cap() {
        let mut fleet = Fleet::new(EjectionConfig::new(), 10);
        assert_eq!(fleet.sweep(&[BAD; 2]).len(), 2);
        fleet.hosts[..2].iter_mut().for_each(|host| host.out = true);
        let found = fleet.sweep(&[NONE, NONE, BAD, BAD, BAD]);
        assert_eq!(found, [2, 3, 4].map(|at| (at, Action::Ejected)));
        let (_, action) = fleet.sweep(&[NONE, NONE, NONE, NONE, NONE, BAD])[0];
        assert_eq!(action, Action::Capped, "five of ten are out");
    }

    /// Of so many with ten percent, how many of the first two are ejected.
    #[test]
    fn the_caps_of_envoy_and_grpc_differ_where_a_percentage_is_no_whole_number() {
        let ejected = |config: EjectionConfig, count| {
            let config = config.success_rate(SuccessRate::new().stdev_factor(1000));
            let found = Fleet::new(config, count).sweep(&[BAD, BAD]);
            assert_eq!(found.len(), 2, "both are found");
            found.iter().filter(|(_, action)| *action == Action::Ejected).count()
        };
        let envoy = |count| ejected(EjectionConfig::envoy(), count);
        assert_eq!((envoy(9), envoy(10), envoy(19), envoy(20)), (0, 1, 1, 2));
        let one = |count| ejected(EjectionConfig::envoy().always_one(), count);
        assert_eq!((one(9), one(10), one(19), one(20)), (1, 1, 1, 2));
        let grpc = |count| ejected(EjectionConfig::grpc(), count);
        assert_eq!((grpc(9), grpc(10), grpc(11), grpc(20)), (1, 1, 2, 2));
    }

    // --- In a row ----------------------------------------------------------------------------

    #[test]
    fn each_row_has_its_own_count_and_its_own_enforcement() {
        let rule = Consecutive::new().gateway_failures(3, 50).expect("they are");
        let rule = rule.local_failures(7, 100).expect("they are");
        let mut fleet = Fleet::new(capped_at(100, EjectionConfig::envoy().consecutive(rule)), 9);
        let mut strike = |at, by, draw| {
            fleet.draw = draw;
            fleet.strike(at, by).map(|it| (it.action, it.ejection.evidence.calls))
        };
        assert_eq!(strike(0, Outlier::ServerErrors, 0.99), Some((Action::Ejected, 5)));
        assert_eq!(strike(1, Outlier::LocalFailures, 0.99), Some((Action::Ejected, 7)));
        assert_eq!(strike(2, Outlier::GatewayFailures, 0.5), Some((Action::Spared, 3)));
        assert_eq!(strike(2, Outlier::GatewayFailures, 0.49), Some((Action::Ejected, 3)));
        assert_eq!(strike(3, Outlier::SuccessRate, 0.0), None, "that is no row");
        // By default a gateway's failures are watched alone, whatever is drawn.
        let mut fleet = Fleet::new(EjectionConfig::envoy().always_one(), 9);
        let ruling = fleet.strike(0, Outlier::GatewayFailures).expect("it is told");
        assert_eq!(ruling.action, Action::Spared);
    }

    #[test]
    fn an_active_check_shortens_an_ejection_ends_envoys_and_is_nothing_to_grpc() {
        let ejected = |config: EjectionConfig| {
            let mut fleet = Fleet::new(capped_at(50, config), 6);
            for _ in 0..2 {
                fleet.sweep(&[Tally::new(20, 180)]);
                fleet.now = fleet.ejection(0).until + SECOND;
                fleet.sweep_now(&[NONE]);
            }
            fleet.sweep(&[Tally::new(20, 180)]);
            let (key, since) = (fleet.hosts[0].key, fleet.now);
            let ruling = fleet.state.found_healthy(key, since + SECOND);
            let until = fleet.state.ejection(key).map(|ejection| ejection.until - since);
            (ruling.map(|ruling| ruling.action), until)
        };
        assert_eq!(ejected(EjectionConfig::new()), (None, Some(30 * SECOND)));
        assert_eq!(ejected(EjectionConfig::envoy()), (Some(Action::FoundHealthy), None));
        let (ruling, until) = ejected(grpc());
        assert!(ruling.is_none() && until > Some(30 * SECOND), "{until:?}");
    }
}
