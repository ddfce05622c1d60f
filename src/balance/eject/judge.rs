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
