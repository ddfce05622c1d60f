//! Who is an outlier, by each of the tests. Pure.

use std::cmp::Ordering;

use super::{
    counts::Tally,
    ejection::{Evidence, Outlier},
    rules::{FailurePercentage, FailureRate, Latency, SuccessRate, USUAL_DISTANCE},
};
use crate::algo::outlier::{self, Rate};

/// An endpoint that may be judged: where it is in the list, and what it did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) at: usize,
    pub(super) tally: Tally,
}

/// An outlier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) at: usize,
    pub(super) by: Outlier,
    pub(super) evidence: Evidence,
    /// Of a hundred such so many are ejected.
    pub(super) enforced: u32,
}

/// Which failures a test looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// All of them.
    All,
    /// Those that came as an answer, of the calls that had one.
    Answers,
    /// Those without an answer, of all calls.
    Local,
}

impl Side {
    pub(super) const fn rate(self, tally: &Tally) -> Rate {
        let Tally { successes, failures, local_failures, .. } = *tally;
        let answers = successes.saturating_add(failures);
        match self {
            Self::All => Rate::new(
                failures.saturating_add(local_failures),
                answers.saturating_add(local_failures),
            ),
            Self::Answers => Rate::new(failures, answers),
            Self::Local => Rate::new(local_failures, answers.saturating_add(local_failures)),
        }
    }
}

/// Those with far more failures than usual, the worst first, so that a cap spares the least.
pub(super) fn failure_rate(rule: &FailureRate, judged: &[Judged]) -> Vec<Found> {
    let rate = |judged: &Judged| Side::All.rate(&judged.tally);
    let told: Vec<&Judged> =
        judged.iter().filter(|judged| rate(judged).calls >= rule.minimum_calls).collect();
    if told.len() < rule.minimum_hosts {
        return Vec::new();
    }
    let rates: Vec<Rate> = told.iter().map(|judged| rate(judged)).collect();
    let Some(usual) = outlier::usual_share(&rates) else { return Vec::new() };
    let limit = usual + rule.effect;
    // Bonferroni: as many tests as there are endpoints share the one chance of a false alarm.
    let chance = rule.chance / told.len() as f64;
    let mut found: Vec<Found> = told
        .iter()
        .zip(&rates)
        .filter(|(_, rate)| rate.share() >= limit)
        .map(|(judged, &rate)| Found {
            at: judged.at,
            by: Outlier::FailureRate,
            enforced: 100,
            evidence: Evidence {
                chance: Some(outlier::binomial_tail(rate, usual)),
                ..evidence(rate, rate.share(), Some(usual), limit)
            },
        })
        .filter(|found| found.evidence.chance.is_some_and(|tail| tail <= chance))
        .collect();
    let worst = |a: &Found, b: &Found| {
        let tails = a.evidence.chance.partial_cmp(&b.evidence.chance);
        let shares = b.evidence.measured.total_cmp(&a.evidence.measured);
        tails.unwrap_or(Ordering::Equal).then(shares)
    };
    found.sort_by(worst);
    found
}

/// Those far slower than usual, the slowest first. Whether they were so before is asked elsewhere.
pub(super) fn latency(rule: &Latency, judged: &[Judged]) -> Vec<Found> {
    let told: Vec<(&Judged, u32, f64)> = judged
        .iter()
        .filter_map(|judged| {
            let (answers, took) = judged.tally.took?;
            (answers >= rule.minimum_calls).then_some((judged, answers, took.as_secs_f64()))
        })
        .collect();
    if told.len() < rule.minimum_hosts {
        return Vec::new();
    }
    let times: Vec<f64> = told.iter().map(|&(_, _, took)| took).collect();
    let Some((usual, distance)) = outlier::median_and_distance(&times) else { return Vec::new() };
    let above = rule.excess.as_secs_f64().max(USUAL_DISTANCE * distance);
    let limit = (usual * rule.factor).max(usual + above);
    let mut found: Vec<Found> = told
        .iter()
        .filter(|&&(_, _, took)| took >= limit)
        .map(|&(judged, answers, took)| Found {
            at: judged.at,
            by: Outlier::Latency,
            enforced: 100,
            evidence: evidence(Rate::new(0, answers), took, Some(usual), limit),
        })
        .collect();
    found.sort_by(|a, b| b.evidence.measured.total_cmp(&a.evidence.measured));
    found
}

/// Those below the mean by so many deviations.
pub(super) fn success_rate(rule: &SuccessRate, side: Side, judged: &[Judged]) -> Vec<Found> {
    let told = with_volume(judged, side, rule.volume);
    if told.is_empty() || told.len() < rule.minimum_hosts {
        return Vec::new();
    }
    let success = |rate: &Rate| f64::from(rate.calls - rate.failures) / f64::from(rate.calls);
    let rates: Vec<f64> = told.iter().map(|(_, rate)| success(rate)).collect();
    let Some((mean, deviation)) = outlier::mean_and_deviation(&rates) else { return Vec::new() };
    let limit = mean - deviation * (f64::from(rule.factor) / 1000.0);
    let (by, enforced) = match side {
        Side::Local => (Outlier::LocalSuccessRate, rule.enforced_local),
        Side::All | Side::Answers => (Outlier::SuccessRate, rule.enforced),
    };
    told.iter()
        .zip(&rates)
        .filter(|&(_, &success)| success < limit)
        .map(|(&(at, rate), &success)| Found {
            at,
            by,
            enforced,
            evidence: evidence(rate, success, Some(mean), limit),
        })
        .collect()
}

/// Those at the threshold, or above it.
pub(super) fn failure_percentage(
    rule: &FailurePercentage,
    side: Side,
    above: bool,
    judged: &[Judged],
) -> Vec<Found> {
    let told = with_volume(judged, side, rule.volume);
    if told.len() < rule.minimum_hosts {
        return Vec::new();
    }
    let (by, enforced) = match side {
        Side::Local => (Outlier::LocalFailurePercentage, rule.enforced_local),
        Side::All | Side::Answers => (Outlier::FailurePercentage, rule.enforced),
    };
    // In whole numbers: 15 of 100 are 15 percent, whatever 0.15 is in binary.
    let beyond = |rate: &Rate| {
        let failures = 100 * u64::from(rate.failures);
        let threshold = u64::from(rule.threshold) * u64::from(rate.calls);
        if above { failures > threshold } else { failures >= threshold }
    };
    told.iter()
        .filter(|(_, rate)| beyond(rate))
        .map(|&(at, rate)| Found {
            at,
            by,
            enforced,
            evidence: evidence(rate, rate.share(), None, f64::from(rule.threshold) / 100.0),
        })
        .collect()
}

fn with_volume(judged: &[Judged], side: Side, volume: u32) -> Vec<(usize, Rate)> {
    let rate = |judged: &Judged| (judged.at, side.rate(&judged.tally));
    // Of no calls there is no rate, even where the volume asked for is none.
    judged.iter().map(rate).filter(|(_, rate)| rate.calls >= volume.max(1)).collect()
}

fn evidence(rate: Rate, measured: f64, usual: Option<f64>, limit: f64) -> Evidence {
    let Rate { failures, calls, .. } = rate;
    Evidence { calls, failures, measured, usual, limit, chance: None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judged(tallies: &[Tally]) -> Vec<Judged> {
        tallies.iter().enumerate().map(|(at, &tally)| Judged { at, tally }).collect()
    }

    fn places(found: &[Found]) -> Vec<usize> {
        found.iter().map(|found| found.at).collect()
    }

    /// Their answers took so many milliseconds.
    fn timed<const N: usize>(times: [(u32, u64); N]) -> Vec<Judged> {
        let tally =
            |(answers, ms)| Tally::new(answers, 0).with_latency(answers, Duration::from_millis(ms));
        judged(&times.map(tally))
    }

    #[test]
    fn a_failure_rate_is_told_from_the_least_of_calls_on_among_the_least_of_endpoints() {
        let rule = FailureRate::new();
        let of = |calls, peers: usize| {
            let mut tallies = vec![Tally::new(0, calls)];
            tallies.resize(1 + peers, Tally::new(200, 0));
            places(&failure_rate(&rule, &judged(&tallies)))
        };
        assert_eq!((of(5, 2), of(4, 2), of(5, 1)), (vec![0], vec![], vec![]));
    }

    #[test]
    fn an_outlier_is_above_the_usual_by_the_effect_however_sure_it_is() {
        let good = Tally::new(100_000, 0);
        let of = |bad| places(&failure_rate(&FailureRate::new(), &judged(&[good, good, bad])));
        assert_eq!(of(Tally::new(98_500, 1_500)), [0; 0], "one and a half percent, for certain");
        assert_eq!(of(Tally::new(97_000, 3_000)), [2]);
        // To the point: usual is the quarter of the one in the middle, and the effect another.
        let rule = FailureRate::new().effect_percent(25).expect("it is");
        let middle = [Tally::new(400, 0), Tally::new(300, 100)];
        let of = |bad| places(&failure_rate(&rule, &judged(&[middle[0], middle[1], bad])));
        assert_eq!((of(Tally::new(200, 200)), of(Tally::new(201, 199))), (vec![2], vec![]));
    }

    #[test]
    fn the_worst_come_first_so_that_a_cap_spares_the_least() {
        let bad = |failures| Tally::new(1_000 - failures, failures);
        let good = bad(0);
        let hosts = [good, bad(60), good, bad(90), good, bad(70), good, good];
        assert_eq!(places(&failure_rate(&FailureRate::new(), &judged(&hosts))), [3, 5, 1]);
        // Of chances that no number tells apart the larger share decides.
        let bad = |failures| Tally::new(100_000 - failures, failures);
        let good = bad(0);
        let hosts = [good, bad(60_000), good, bad(90_000), good, good];
        assert_eq!(places(&failure_rate(&FailureRate::new(), &judged(&hosts))), [3, 1]);
        let hosts = timed([(50, 10), (50, 80), (50, 10), (50, 90), (50, 10), (50, 10), (50, 10)]);
        assert_eq!(places(&latency(&Latency::new(), &hosts)), [3, 1]);
    }

    #[test]
    fn the_slow_are_told_by_enough_answers_of_enough_endpoints() {
        let of = |hosts: &[Judged]| places(&latency(&Latency::new(), hosts));
        assert_eq!(of(&timed([(50, 10), (50, 10), (50, 10), (50, 10), (50, 90)])), [4]);
        assert_eq!(of(&timed([(50, 10), (50, 10), (50, 10), (50, 10), (49, 90)])), [0; 0]);
        assert_eq!(of(&timed([(50, 10), (50, 10), (50, 10), (50, 90)])), [0; 0]);
    }

    #[test]
    fn the_slow_are_so_by_the_factor_to_the_point() {
        let rule = Latency::new().factor(2.0).expect("it is");
        let of = |ms| {
            let hosts = timed([(50, 125), (50, 125), (50, 125), (50, 125), (50, ms)]);
            places(&latency(&rule, &hosts))
        };
        assert_eq!((of(250), of(249)), (vec![4], vec![]));
    }

    #[test]
    fn who_is_as_the_mean_is_no_outlier_and_a_few_have_none() {
        let rule = SuccessRate::new();
        let fleet = |count, bad| {
            let mut tallies = vec![Tally::new(100, 0); count];
            tallies[0] = Tally::new(100 - bad, bad);
            places(&success_rate(&rule, Side::All, &judged(&tallies)))
        };
        assert_eq!((fleet(5, 50), fleet(4, 50), fleet(5, 0)), (vec![0], vec![], vec![]));
        let mut tallies = vec![Tally::new(100, 0); 5];
        tallies[0] = Tally::new(49, 50);
        assert_eq!(places(&success_rate(&rule, Side::All, &judged(&tallies))), [0; 0], "99 calls");
    }

    #[test]
    fn a_percentage_is_reached_in_envoy_and_passed_in_grpc() {
        let rule = FailurePercentage::new().threshold(15).expect("it is");
        let fleet = |count, bad, above| {
            let mut tallies = vec![Tally::new(100, 0); count];
            tallies[0] = Tally::new(100 - bad, bad);
            places(&failure_percentage(&rule, Side::All, above, &judged(&tallies)))
        };
        assert_eq!((fleet(5, 15, false), fleet(5, 14, false)), (vec![0], vec![]));
        assert_eq!((fleet(5, 16, true), fleet(5, 15, true)), (vec![0], vec![]));
        assert_eq!(fleet(4, 16, true), [0; 0]);
        // Of no calls there is no percentage.
        let rule = FailurePercentage::new().threshold(0).expect("it is").request_volume(0);
        let mut tallies = vec![Tally::new(1, 0); 6];
        tallies[2] = Tally::new(0, 0);
        let found = failure_percentage(&rule, Side::All, false, &judged(&tallies));
        assert_eq!(places(&found), [0, 1, 3, 4, 5]);
    }

    #[test]
    fn each_side_looks_at_its_own_failures_and_has_its_own_enforcement() {
        let tally = Tally::new(60, 20).with_local_failures(20);
        let rates = [Side::All, Side::Answers, Side::Local].map(|side| side.rate(&tally));
        assert_eq!(rates, [Rate::new(40, 100), Rate::new(20, 80), Rate::new(20, 100)]);

        let mut tallies = vec![Tally::new(100, 0); 5];
        tallies[1] = Tally::new(10, 0).with_local_failures(90);
        tallies[2] = Tally::new(10, 90);
        let hosts = judged(&tallies);
        let of = |found: Vec<Found>| {
            let rulings = found.into_iter().map(|found| (found.at, found.by, found.enforced));
            rulings.collect::<Vec<_>>()
        };
        let rule = SuccessRate::new().stdev_factor(1000).request_volume(10);
        let rule = rule.enforcing(70).and_then(|rule| rule.enforcing_local(30)).expect("they are");
        assert_eq!(of(success_rate(&rule, Side::Answers, &hosts)), [(2, Outlier::SuccessRate, 70)]);
        let local = [(1, Outlier::LocalSuccessRate, 30)];
        assert_eq!(of(success_rate(&rule, Side::Local, &hosts)), local);

        let rule = FailurePercentage::new().request_volume(10);
        let rule = rule.enforcing(70).and_then(|rule| rule.enforcing_local(30)).expect("they are");
        let answers = of(failure_percentage(&rule, Side::Answers, false, &hosts));
        assert_eq!(answers, [(2, Outlier::FailurePercentage, 70)]);
        let local = of(failure_percentage(&rule, Side::Local, false, &hosts));
        assert_eq!(local, [(1, Outlier::LocalFailurePercentage, 30)]);
    }
}
