//! One endpoint after the other, by weight.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    config::InvalidBalance,
    load::{TICKS_A_SECOND, since},
    policy::{Candidates, LoadView, Member, Picker, Policy},
    round_robin::RoundRobin,
};
use crate::{
    algo::stride::Stride,
    endpoint::EndpointKey,
    sync::{AtomicU64, Mutex, Ordering, Padded, lock},
};

/// One endpoint after the other, each in proportion to its weight: a round by static stride
/// ([`algo::stride`](crate::algo::stride)).
///
/// The weights are those [of the endpoints](crate::endpoint::Endpoint::weight); or they come from
/// what the servers [report](crate::endpoint::LoadReport), if they do, by [`Weighted::reported`].
/// Like [`RoundRobin`] it is blind for what is waiting at an endpoint now: for endpoints whose
/// capacity is known and differs, and calls that are alike.
///
/// An endpoint [in doubt](LoadView::is_doubted) is passed over while the next few are not. All threads
/// count with one number, for the reason that stands at [`RoundRobin`].
#[derive(Clone, Debug)]
pub struct Weighted {
    next: Arc<Padded<AtomicU64>>,
    reports: Option<Arc<Reports>>,
}

impl Weighted {
    /// By the weights of the endpoints. One of weight 0 has a call in 65,535 of the
    /// heaviest's; among peers of 0 each has the same.
    #[must_use]
    pub fn new() -> Self {
        Self { next: Arc::default(), reports: None }
    }

    /// By what the servers report.
    #[must_use]
    pub fn reported(config: ReportedConfig) -> Self {
        Self { reports: Some(Arc::new(Reports { config, seen: Mutex::default() })), ..Self::new() }
    }

    fn weights(&self, members: &[Member<'_>]) -> Vec<f64> {
        if let Some(reports) = &self.reports {
            return reports.weights(members);
        }
        let least = least_weight(members);
        members.iter().map(|member| f64::from(member.endpoint.weight()).max(least)).collect()
    }
}

/// What a weight of 0 counts: a call in 65,535 of the heaviest's, and where nobody has a weight
/// as much as any.
pub(super) fn least_weight(members: &[Member<'_>]) -> f64 {
    let heaviest = members.iter().map(|member| member.endpoint.weight()).max();
    match heaviest.unwrap_or_default() {
        0 => 1.0,
        heaviest => f64::from(heaviest) / f64::from(u16::MAX),
    }
}

impl Default for Weighted {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Weighted {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        let next = Arc::clone(&self.next);
        let weights = self.weights(members);
        match Stride::new(&weights) {
            Some(stride) => Arc::new(Round { stride, weights, next }),
            None => RoundRobin::going_on(next).picker(members),
        }
    }

    fn renew_after(&self) -> Option<Duration> {
        self.reports.as_ref().map(|reports| reports.config.update)
    }
}

/// How long a server's reports are only listened to before they count (gRFC A58,
/// `blackout_period`): those of a server that has just come say how it is without its share.
pub const DEFAULT_BLACKOUT: Duration = Duration::from_secs(10);
/// After which time without a report the last is believed no more (gRFC A58,
/// `weight_expiration_period`).
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(180);
/// How often the weights are made anew (gRFC A58, `weight_update_period`).
pub const DEFAULT_UPDATE: Duration = Duration::from_secs(1);
/// How much an error counts, in calls (gRFC A58, `error_utilization_penalty`).
pub const DEFAULT_PENALTY: f64 = 1.0;

/// How weights are made from the servers' reports (gRFC A58):
/// `rate / (utilization + errors / rate × penalty)`.
///
/// A server that reports no rate or no utilization has no weight of its own and counts as the mean of
/// the others, and while fewer than two have one, everybody has the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportedConfig {
    penalty: f64,
    blackout: Duration,
    expiry: Duration,
    update: Duration,
}

impl ReportedConfig {
    /// The defaults of gRFC A58.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            penalty: DEFAULT_PENALTY,
            blackout: DEFAULT_BLACKOUT,
            expiry: DEFAULT_EXPIRY,
            update: DEFAULT_UPDATE,
        }
    }

    /// How much an error counts (default: [1](DEFAULT_PENALTY)). Without, a server that fails at
    /// once looks as if it had all the capacity there is.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Penalty`] if it is below 0, or no number.
    pub fn penalty(mut self, penalty: f64) -> Result<Self, InvalidBalance> {
        if !(penalty.is_finite() && penalty >= 0.0) {
            return Err(InvalidBalance::Penalty);
        }
        self.penalty = penalty;
        Ok(self)
    }

    /// How long the reports of a server are only listened to, from the first on
    /// (default: [10 s](DEFAULT_BLACKOUT)).
    #[must_use]
    pub const fn blackout(mut self, blackout: Duration) -> Self {
        self.blackout = blackout;
        self
    }

    /// How often the weights are made anew (default: [1 s](DEFAULT_UPDATE)), and how long a
    /// report is believed (default: [3 min](DEFAULT_EXPIRY)).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::WeightTimes`] if the update is zero, or the expiry not above it.
    pub fn times(mut self, update: Duration, expiry: Duration) -> Result<Self, InvalidBalance> {
        if update.is_zero() || expiry <= update {
            return Err(InvalidBalance::WeightTimes);
        }
        (self.update, self.expiry) = (update, expiry);
        Ok(self)
    }

    /// The weight that comes of this rate, these errors a second and this utilization; 0 if none
    /// does.
    fn weight(&self, (rate, errors): (f32, f32), utilization: f32) -> f64 {
        let (rate, errors) = (f64::from(rate), f64::from(errors));
        if rate <= 0.0 || utilization <= 0.0 {
            return 0.0;
        }
        rate / (f64::from(utilization) + errors / rate * self.penalty)
    }
}

impl Default for ReportedConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// What the servers report, and since when.
#[derive(Debug)]
struct Reports {
    config: ReportedConfig,
    /// Locked by the balancer's task alone, when the weights are made.
    seen: Mutex<HashMap<EndpointKey, Seen>>,
}

/// In ticks of the loads.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: u32,
    last: u32,
    /// The blackout is over: so that it does not begin again when the ticks wrap.
    heeded: bool,
}

impl Reports {
    /// The weights by the reports of late; 0 for those of which none counts.
    fn weights(&self, members: &[Member<'_>]) -> Vec<f64> {
        let mut seen = lock(&self.seen);
        let expiry = to_ticks(self.config.expiry);
        if let Some(member) = members.first() {
            let now = member.load.tick();
            seen.retain(|_, seen| since(seen.last, now) <= expiry);
        }
        members.iter().map(|member| self.weight(member, &mut seen)).collect()
    }

    fn weight(&self, member: &Member<'_>, seen: &mut HashMap<EndpointKey, Seen>) -> f64 {
        let load: &LoadView<'_> = &member.load;
        let Some((utilization, age)) = load.reported_utilization() else { return 0.0 };
        if age > self.config.expiry {
            return 0.0;
        }
        let (now, said) = (load.tick(), load.tick().wrapping_sub(to_ticks(age)));
        let fresh = Seen { first: said, last: said, heeded: false };
        let seen = seen.entry(member.key).or_insert(fresh);
        seen.last = said;
        seen.heeded |= since(seen.first, now) >= to_ticks(self.config.blackout);
        if seen.heeded { self.config.weight(load.reported_rates(), utilization) } else { 0.0 }
    }
}

fn to_ticks(span: Duration) -> u32 {
    (span.as_secs_f64() * TICKS_A_SECOND as f64) as u32
}

/// Endpoints that do not fit before one that does is drawn by its weight from all.
const LOOKS: u32 = 32;
/// Endpoints in doubt that are passed over in one pick.
const PASSED_OVER: u32 = 4;

/// Picks in a round.
#[derive(Debug)]
struct Round {
    stride: Stride,
    weights: Vec<f64>,
    next: Arc<Padded<AtomicU64>>,
}

impl Picker for Round {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        // Relaxed: the number orders nothing but itself.
        if self.next.load(Ordering::Relaxed) == 0 {
            // Anywhere: see `RoundRobin::new`. Low enough not to wrap, which would break the round.
            let start = (among.draw() >> 16) | 1;
            let _ = self.next.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
        }
        let (mut unfit, mut in_doubt, mut doubted) = (0, 0, None);
        while unfit < LOOKS && in_doubt <= PASSED_OVER {
            let Some(at) = self.stride.at(self.next.fetch_add(1, Ordering::Relaxed)) else {
                continue;
            };
            if !among.is_fit(at) {
                unfit += 1;
            } else if among.load(at).is_doubted() {
                in_doubt += 1;
                doubted = doubted.or(Some(at));
            } else {
                return Some(at);
            }
        }
        doubted.or_else(|| self.draw(among))
    }
}

impl Round {
    /// One of all that fit, with a chance in proportion to its weight.
    fn draw(&self, among: &dyn Candidates) -> Option<usize> {
        let (mut picked, mut sum) = (None, 0.0);
        for at in (0..among.count()).filter(|&at| among.is_fit(at)) {
            // Of the same weight where none is known.
            let weight = self.weights.get(at).copied().filter(|&it| it > 0.0).unwrap_or(1.0);
            sum += weight;
            const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
            if picked.is_none() || (among.draw() >> 11) as f64 * UNIT * sum < weight {
                picked = Some(at);
            }
        }
        picked
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::{super::round_robin::loom_tests::each_has_one, *};

    #[test]
    fn two_threads_begin_one_round() {
        each_has_one(|| {
            let (stride, next) = (Stride::new(&[1.0, 1.0]), Arc::default());
            Arc::new(Round { stride: stride.expect("two are known"), weights: vec![1.0; 2], next })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{balance::set::Set, endpoint::LoadReport};

    const SECOND: Duration = Duration::from_secs(1);

    /// gRFC A58: `qps / (utilization + eps / qps * penalty)`.
    #[test]
    fn a_weight_is_that_of_a58_and_none_without_a_rate_or_a_utilization() {
        let config = ReportedConfig::new();
        assert!((config.weight((100.0, 10.0), 0.5) - 100.0 / 0.6).abs() < 1e-5);
        let harsh = config.penalty(5.0).expect("it is");
        assert!((harsh.weight((100.0, 10.0), 0.5) - 100.0).abs() < 1e-5);
        assert_eq!((config.weight((0.0, 0.0), 0.5), config.weight((100.0, 10.0), 0.0)), (0.0, 0.0));
    }

    /// Two that report a rate of 100 and of 300 a second, every ten seconds or not at all.
    struct Reporting {
        set: Set,
        policy: Weighted,
    }

    impl Reporting {
        fn new() -> Self {
            let policy = Weighted::reported(ReportedConfig::new());
            Self { set: Set::new(2), policy }
        }

        /// The weights after so many seconds of them.
        fn after(&mut self, seconds: u32, reports: bool) -> Vec<f64> {
            for _ in 0..seconds {
                self.set.now += SECOND;
                for (at, rate) in [100.0, 300.0].into_iter().enumerate().filter(|_| reports) {
                    let (rate, utilization) = (Some(rate), Some(1.0));
                    self.set.report(at, &LoadReport { rate, utilization, ..LoadReport::new() });
                }
                self.policy.weights(&self.set.members());
            }
            self.policy.weights(&self.set.members())
        }
    }

    #[test]
    fn reports_that_go_on_go_on_to_count_and_those_that_begin_anew_are_listened_to_first() {
        let mut reporting = Reporting::new();
        assert_eq!(reporting.after(9, true), [0.0, 0.0]);
        // For longer than the expiry.
        for _ in 0..5 {
            assert_eq!(reporting.after(60, true), [100.0, 300.0]);
        }
        assert_eq!(reporting.after(179, false), [100.0, 300.0]);
        assert_eq!(reporting.after(2, false), [0.0, 0.0]);
        assert_eq!(reporting.after(9, true), [0.0, 0.0]);
        assert_eq!(reporting.after(3, true), [100.0, 300.0]);
    }

    #[test]
    fn what_was_seen_of_those_who_are_gone_is_forgotten() {
        let mut reporting = Reporting::new();
        reporting.after(1, true);
        let reports = reporting.policy.reports.clone().expect("it is by reports");
        assert_eq!(lock(&reports.seen).len(), 2);
        let mut other = Set::new(1);
        other.now = reporting.set.now + 181 * SECOND;
        reporting.policy.weights(&other.members());
        assert_eq!(lock(&reports.seen).len(), 0);
    }

    fn round(set: &Set) -> Arc<dyn Picker> {
        Weighted::new().picker(&set.members())
    }

    #[test]
    fn each_client_begins_anywhere() {
        let first = |seed| {
            let set = Set::new(8).seeded(seed).weights(&[1, 2, 1, 2, 1, 2, 1, 2]);
            round(&set).pick(&set)
        };
        let firsts: std::collections::HashSet<_> = (0..32).map(first).collect();
        assert!(firsts.len() > 3, "{firsts:?}");
    }

    #[test]
    fn one_in_doubt_is_passed_over_and_where_all_are_the_next_is_picked() {
        let set = Set::new(3).weights(&[1, 2, 1]);
        set.doubt(1);
        let picker = round(&set);
        assert_eq!(set.picks(&*picker, 100)[1], 0);
        (0..3).for_each(|at| set.doubt(at));
        // Each pick looks at the next few, and takes the first of them.
        let picks = set.picks(&*picker, 400);
        assert!(picks.iter().all(|&picks| picks > 40), "{picks:?}");
    }

    /// So few fit that the round does not come to them: they are drawn by their weights.
    #[test]
    fn those_that_fit_are_found_among_many_that_do_not_and_share_by_weight() {
        let mut weights = [1_000; 400];
        (weights[100], weights[300]) = (1, 3);
        let mut set = Set::new(400).weights(&weights);
        set.fit = (0..400).map(|at| at == 100 || at == 300).collect();
        let picks = set.picks(&*round(&set), 4_000);
        assert!((850..1_150).contains(&picks[100]), "{} and {}", picks[100], picks[300]);
        set.fit = vec![false; 400];
        assert_eq!(round(&set).pick(&set), None);
    }

    /// Those of which no weight is known are drawn like one of weight 1.
    #[test]
    fn those_that_never_reported_are_drawn_all_the_same() {
        let mut reporting = Reporting::new();
        reporting.after(20, true);
        let (stride, next) = (Stride::new(&[100.0, 100.0, 0.0]).expect("two"), Arc::default());
        let picker = Round { stride, weights: vec![100.0, 100.0, 0.0, 0.0], next };
        let mut set = Set::new(4);
        set.fit = vec![false, false, false, true];
        assert_eq!(picker.draw(&set), Some(3));
        set.fit = vec![false, false, true, true];
        let drawn = (0..1_000).filter(|_| picker.draw(&set) == Some(2)).count();
        assert!((400..600).contains(&drawn), "{drawn}");
    }
}
