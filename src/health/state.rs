//! What a row of answers says about an endpoint, and when to ask again.

use std::time::{Duration, Instant};

use super::config::{HealthConfig, Rules};
use crate::endpoint::Health;

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Finding {
    /// It answered, and well.
    Passed,
    /// It did not answer, or not well.
    Failed,
    /// It says itself that it does not serve.
    Unavailable,
}

/// The verdict on one endpoint. Plain state: it reads no clock and draws no chance.
///
/// ```
/// use buttress::{endpoint::Health, health::{Finding, HealthConfig, HealthState}};
///
/// let mut state = HealthState::new(&HealthConfig::new());
/// assert_eq!(state.health(), Health::Pending);
/// // The first answer decides alone; then it takes three failures in a row.
/// assert_eq!(state.record(Finding::Passed), Some(Health::Healthy));
/// assert_eq!(state.record(Finding::Failed), None);
/// assert_eq!(state.record(Finding::Failed), None);
/// assert_eq!(state.record(Finding::Failed), Some(Health::Unhealthy));
/// ```
#[derive(Clone, Debug)]
pub struct HealthState {
    rules: Rules,
    health: Health,
    /// How many answers in a row contradict the verdict.
    against: u32,
}

impl HealthState {
    /// Nothing is known so far.
    #[must_use]
    pub const fn new(config: &HealthConfig) -> Self {
        Self { rules: config.rules, health: Health::Pending, against: 0 }
    }

    /// Takes an answer; gives the verdict if it changed.
    pub fn record(&mut self, finding: Finding) -> Option<Health> {
        let found = match finding {
            Finding::Passed => Health::Healthy,
            Finding::Failed | Finding::Unavailable => Health::Unhealthy,
        };
        if found == self.health {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let needed = match (self.health, finding) {
            // Calls may be waiting for the first answer.
            (Health::Pending, _) | (_, Finding::Unavailable) => 1,
            (_, Finding::Passed) => self.rules.rise,
            (_, Finding::Failed) => self.rules.fall,
        };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.health = found;
        Some(found)
    }

    /// Takes a word that the endpoint said by itself, which counts at once; gives the verdict if it
    /// changed.
    pub fn told(&mut self, healthy: bool) -> Option<Health> {
        let health = if healthy { Health::Healthy } else { Health::Unhealthy };
        self.against = 0;
        (std::mem::replace(&mut self.health, health) != health).then_some(health)
    }

    /// The verdict.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// When the next check is due after one that ended `now`. `chance` is a draw from `[0, 1)`
    /// and says where in the spread.
    #[must_use]
    pub fn due(&self, now: Instant, chance: f64) -> Instant {
        now + self.spread(self.interval(), chance)
    }

    /// The same for an endpoint that has no calls: while all is well nobody is in a hurry.
    #[must_use]
    pub fn due_without_traffic(&self, now: Instant, chance: f64) -> Instant {
        let is_well = matches!(self.health, Health::Healthy) && self.against == 0;
        let interval = if is_well { self.rules.no_traffic_interval } else { self.interval() };
        now + self.spread(interval, chance)
    }

    fn spread(&self, interval: Duration, chance: f64) -> Duration {
        interval.mul_f64(1.0 + self.rules.jitter * (2.0 * chance - 1.0))
    }

    const fn interval(&self) -> Duration {
        match self.health {
            _ if self.against > 0 => self.rules.edge_interval,
            Health::Unhealthy => self.rules.unhealthy_interval,
            _ => self.rules.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> HealthState {
        HealthState::new(&HealthConfig::new())
    }

    fn play(state: &mut HealthState, findings: &str) -> Vec<Option<Health>> {
        let finding = |c| match c {
            '+' => Finding::Passed,
            '-' => Finding::Failed,
            _ => Finding::Unavailable,
        };
        findings.chars().map(|c| state.record(finding(c))).collect()
    }

    #[test]
    fn the_first_answer_decides_alone() {
        assert_eq!(play(&mut state(), "+"), [Some(Health::Healthy)]);
        assert_eq!(play(&mut state(), "-"), [Some(Health::Unhealthy)]);
        assert_eq!(play(&mut state(), "!"), [Some(Health::Unhealthy)]);
    }

    #[test]
    fn falls_after_three_failures_in_a_row_and_rises_after_two_good_answers() {
        let mut state = state();
        assert_eq!(
            play(&mut state, "+--+---"),
            [Some(Health::Healthy), None, None, None, None, None, Some(Health::Unhealthy)],
        );
        assert_eq!(play(&mut state, "-+-++"), [None, None, None, None, Some(Health::Healthy)]);
    }

    #[test]
    fn one_that_says_that_it_does_not_serve_falls_at_once_and_rises_as_others_do() {
        let mut state = state();
        assert_eq!(
            play(&mut state, "+!+!++"),
            [
                Some(Health::Healthy),
                Some(Health::Unhealthy),
                None,
                None,
                None,
                Some(Health::Healthy)
            ],
        );
    }

    #[test]
    fn a_word_of_its_own_counts_at_once() {
        let mut state = state();
        assert_eq!(state.told(true), Some(Health::Healthy));
        assert_eq!(play(&mut state, "--"), [None, None]);
        assert_eq!(state.told(true), None);
        assert_eq!(play(&mut state, "--"), [None, None], "it has begun anew");
        assert_eq!(state.told(false), Some(Health::Unhealthy));
        assert_eq!(state.told(true), Some(Health::Healthy));
    }

    #[test]
    fn flapping_changes_nothing() {
        let mut state = state();
        play(&mut state, "+");
        assert!(play(&mut state, "--+--+--+--+").iter().all(Option::is_none));
        play(&mut state, "---");
        assert!(play(&mut state, "+-+-+-+-").iter().all(Option::is_none));
    }

    #[test]
    fn asks_less_often_while_all_is_well_and_soon_at_the_edge() {
        let now = crate::time::now();
        let wait = |state: &HealthState| state.due(now, 0.5) - now;
        let mut state = state();
        for (finding, seconds) in [
            (Finding::Passed, 5),
            (Finding::Failed, 1),
            (Finding::Passed, 5),
            (Finding::Failed, 1),
            (Finding::Failed, 1),
            (Finding::Failed, 2),
            (Finding::Failed, 2),
            (Finding::Passed, 1),
            (Finding::Passed, 5),
        ] {
            state.record(finding);
            assert_eq!(wait(&state), Duration::from_secs(seconds), "{state:?}");
        }
    }

    proptest! {
        #[test]
        fn the_wait_stays_within_the_spread(millis in 1_u64..100_000, chance in 0.0..1.0) {
            let interval = Duration::from_millis(millis);
            let config = HealthConfig::new().interval(interval).expect("within a day");
            let mut state = HealthState::new(&config);
            state.record(Finding::Passed);
            let now = crate::time::now();
            let wait = state.due(now, chance) - now;
            prop_assert!(wait >= interval.mul_f64(0.799) && wait <= interval.mul_f64(1.201));
        }

        /// Against a plain count of the answers since the last change.
        #[test]
        fn changes_only_on_enough_answers_in_a_row(
            answers in proptest::collection::vec(any::<bool>(), 1..200),
            rise in 1_u32..5,
            fall in 1_u32..5,
        ) {
            let config = HealthConfig::new().rise(rise).and_then(|c| c.fall(fall));
            let mut state = HealthState::new(&config.expect("none is zero"));
            let mut since = Vec::new();
            for (n, &good) in answers.iter().enumerate() {
                since.push(good);
                let changed = state.record(if good { Finding::Passed } else { Finding::Failed });
                let needed = if n == 0 { 1 } else if good { rise } else { fall } as usize;
                if let Some(health) = changed {
                    prop_assert_eq!(health == Health::Healthy, good);
                    prop_assert!(since.len() >= needed);
                    prop_assert!(since.iter().rev().take(needed).all(|&a| a == good));
                    since.clear();
                } else if (state.health() == Health::Healthy) != good {
                    prop_assert!(since.iter().rev().take_while(|&&a| a == good).count() < needed);
                }
            }
        }
    }
}
