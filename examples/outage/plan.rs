//! What will happen when: the scenario with its targets drawn, and the arrivals of the calls.
//!
//! Pure: the same scenario and seed are the same plan, so that each client meets the same thing.

use std::time::Duration;

use serde::Serialize;

use crate::outage::chance::{self, Use};
use crate::outage::scenario::{Fault, Kind, Refused, Scenario, Target};

/// A drill, ready to be played.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) rate: u32,
    pub(crate) instances: usize,
    /// What a charge takes on average, besides the ledger.
    pub(crate) work: Duration,
    pub(crate) faults: Vec<Planned>,
    /// When each call is due, in order; a call's number is its place here.
    pub(crate) arrivals: Vec<Duration>,
    /// Whether an instance stands in the list when the drill begins.
    pub(crate) listed: Vec<bool>,
}

/// A fault whose targets are drawn.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) begin: Duration,
    /// `None` for a `leave` or `join` that nothing takes back.
    pub(crate) end: Option<Duration>,
    /// Counted from 0.
    pub(crate) instances: Vec<usize>,
    line: usize,
}

/// Parts of a drill that callers should hardly be able to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Nobody has been ill yet.
    Before,
    /// Somebody is.
    During,
    /// Nobody is, and somebody was.
    After,
}

/// One entry of the timeline; the number is that of the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    // Ends come first: an instance that heals and falls ill in one moment is ill afterwards.
    End(usize),
    Begin(usize),
}

impl Plan {
    /// Draws the targets and the arrivals.
    ///
    /// # Errors
    /// Faults that can't be played together, with the line of the later one.
    pub(crate) fn draw(scenario: &Scenario, seed: u64) -> Result<Self, Refused> {
        let mut faults: Vec<Planned> = Vec::new();
        for (index, fault) in scenario.faults.iter().enumerate() {
            let instances = targets(scenario, fault, index, seed, &faults)?;
            let label = label(fault, &instances, scenario.instances, &faults);
            faults.push(Planned {
                label,
                kind: fault.kind,
                begin: fault.at,
                end: fault.lasts.map(|lasts| fault.at + lasts),
                instances,
                line: fault.line,
            });
        }
        let listed = listed_at_first(&faults, scenario.instances);
        let plan = Self {
            seed,
            seconds: scenario.seconds,
            rate: scenario.rate,
            instances: scenario.instances,
            work: scenario.work,
            faults,
            arrivals: arrivals(scenario, seed),
            listed,
        };
        plan.check_list()?;
        Ok(plan)
    }

    /// Every beginning and end, in order.
    pub(crate) fn timeline(&self) -> Vec<(Duration, Moment)> {
        let mut moments: Vec<_> = self
            .faults
            .iter()
            .enumerate()
            .flat_map(|(index, fault)| {
                let end = fault.end.map(|end| (end, Moment::End(index)));
                [Some((fault.begin, Moment::Begin(index))), end].into_iter().flatten()
            })
            .collect();
        moments.sort();
        moments
    }

    /// When a fault ends for one of its instances.
    ///
    /// A `leave` without an end lasts until the instance's next `join`, and the other way round.
    pub(crate) fn until(&self, number: usize, instance: usize) -> Option<Duration> {
        let fault = &self.faults[number];
        let next = self
            .faults
            .iter()
            .filter(|other| other.kind.changes_the_list() && other.begin > fault.begin)
            .filter(|other| other.instances.contains(&instance))
            .map(|other| other.begin)
            .min();
        fault.end.or(next.filter(|_| fault.kind.changes_the_list()))
    }

    /// The longest that a `slow` fault holds a call, which may outlast the last arrival.
    pub(crate) fn longest_hold(&self) -> Duration {
        let holds = self.faults.iter().map(|fault| match fault.kind {
            Kind::Slow { latency, jitter, .. } => latency + jitter,
            _ => Duration::ZERO,
        });
        holds.max().unwrap_or_default()
    }

    /// The phase in which a time lies; the list alone makes nobody ill.
    pub(crate) fn phase(&self, time: Duration) -> Phase {
        let mut phase = Phase::Before;
        for fault in self.faults.iter().filter(|fault| !fault.kind.changes_the_list()) {
            if fault.is_active(time) {
                return Phase::During;
            }
            if fault.begin <= time {
                phase = Phase::After;
            }
        }
        phase
    }

    /// The most instances that are bad in one moment; the list alone makes none bad.
    pub(crate) fn worst_at_once(&self) -> usize {
        let begins = self.faults.iter().map(|fault| fault.begin);
        let bad_at = |time| {
            let mut bad: Vec<usize> = self
                .faults
                .iter()
                .filter(|fault| !fault.kind.changes_the_list() && fault.is_active(time))
                .flat_map(|fault| fault.instances.iter().copied())
                .collect();
            bad.sort_unstable();
            bad.dedup();
            bad.len()
        };
        begins.map(bad_at).max().unwrap_or(0)
    }

    /// Plays the list alone: a `leave` needs an instance that is there, and somebody must stay.
    fn check_list(&self) -> Result<(), Refused> {
        let mut listed = self.listed.clone();
        for (time, moment) in self.timeline() {
            let (Moment::Begin(index) | Moment::End(index)) = moment;
            let fault = &self.faults[index];
            if !fault.kind.changes_the_list() {
                continue;
            }
            let there = (fault.kind == Kind::Join) == matches!(moment, Moment::Begin(_));
            for instance in &fault.instances {
                if listed[*instance] == there {
                    let now = if there { "already on" } else { "not on" };
                    return Err(Refused {
                        line: fault.line,
                        reason: format!(
                            "payments/{} is {now} the list at {time:?}; choose another instance \
                             or another time",
                            instance + 1
                        ),
                    });
                }
                listed[*instance] = there;
            }
            if !listed.contains(&true) {
                return Err(Refused {
                    line: fault.line,
                    reason: format!(
                        "nobody would be on the list at {time:?}; leave at least one instance"
                    ),
                });
            }
        }
        Ok(())
    }
}

impl Planned {
    /// Whether it goes on at this time; what has no end goes on for ever.
    pub(crate) fn is_active(&self, time: Duration) -> bool {
        time >= self.begin && self.end.is_none_or(|end| time < end)
    }

    /// When the company is whole again. A change of the list that stays is over at once.
    pub(crate) fn over(&self) -> Duration {
        self.end.unwrap_or(self.begin)
    }

    fn overlaps(&self, other: &Fault) -> bool {
        let other_end = other.lasts.map(|lasts| other.at + lasts);
        self.end.is_none_or(|end| other.at < end) && other_end.is_none_or(|end| self.begin < end)
    }
}

/// The instances of one fault, counted from 0.
///
/// A process can be taken away once at a time. Drawn targets avoid those that are taken; a target
/// that was written down and is taken is refused.
fn targets(
    scenario: &Scenario,
    fault: &Fault,
    index: usize,
    seed: u64,
    before: &[Planned],
) -> Result<Vec<usize>, Refused> {
    let taken_by = |instance: usize| {
        before.iter().find(|other| {
            other.kind.takes_the_process()
                && fault.kind.takes_the_process()
                && other.overlaps(fault)
                && other.instances.contains(&instance)
        })
    };
    let wanted: Vec<usize> = match fault.target {
        Target::One(one) => vec![one - 1],
        Target::All => (0..scenario.instances).collect(),
        Target::Drawn(count) => {
            let mut free: Vec<usize> =
                (0..scenario.instances).filter(|one| taken_by(*one).is_none()).collect();
            if free.len() < count {
                return Err(Refused {
                    line: fault.line,
                    reason: format!(
                        "{count} instances can't be drawn, since only {} are not killed, hung or \
                         refusing at {:?}; draw fewer or change the time",
                        free.len(),
                        fault.at
                    ),
                });
            }
            let name = |one: usize| [index as u64, one as u64];
            free.sort_by_key(|one| chance::draw(seed, Use::Targets, &name(*one)));
            free.truncate(count);
            free.sort_unstable();
            free
        }
    };
    for instance in &wanted {
        if let Some(other) = taken_by(*instance) {
            return Err(Refused {
                line: fault.line,
                reason: format!(
                    "payments/{} already meets the `{}` of line {} then; choose another instance \
                     or another time",
                    instance + 1,
                    other.kind.name(),
                    other.line
                ),
            });
        }
    }
    Ok(wanted)
}

/// "3s kill payments/2": what a fault is called in the table and in the JSON, each once.
fn label(fault: &Fault, instances: &[usize], all: usize, before: &[Planned]) -> String {
    let whom = if instances.len() == all && all > 1 {
        "*".to_owned()
    } else {
        let numbers: Vec<String> = instances.iter().map(|one| (one + 1).to_string()).collect();
        numbers.join("+")
    };
    let plain = format!("{:?} {} payments/{whom}", fault.at, fault.kind.name());
    let same = before
        .iter()
        .filter(|other| other.label == plain || other.label.starts_with(&format!("{plain} (")))
        .count();
    if same == 0 { plain } else { format!("{plain} ({})", same + 1) }
}

/// An instance whose first change of the list is a `join` is not on it before.
fn listed_at_first(faults: &[Planned], instances: usize) -> Vec<bool> {
    (0..instances)
        .map(|instance| {
            let first = faults
                .iter()
                .filter(|fault| fault.kind.changes_the_list())
                .filter(|fault| fault.instances.contains(&instance))
                .min_by_key(|fault| fault.begin);
            first.is_none_or(|fault| fault.kind != Kind::Join)
        })
        .collect()
}

/// Poisson arrivals: callers that know nothing of each other, so that calls come in bunches.
///
/// The gaps are exponential in the number of calls that are due, not in time, which keeps the
/// process right over a change of the rate.
fn arrivals(scenario: &Scenario, seed: u64) -> Vec<Duration> {
    let end = scenario.seconds as f64;
    let mut changes = scenario.loads.iter().peekable();
    let (mut time, mut rate) = (0.0_f64, f64::from(scenario.rate));
    let mut arrivals = Vec::new();
    loop {
        let draw = chance::share(seed, Use::Arrivals, &[arrivals.len() as u64]);
        let mut due = -(1.0 - draw).ln();
        while let Some(change) = changes.peek() {
            let reach = (change.at.as_secs_f64() - time) * rate;
            if due < reach {
                break;
            }
            due -= reach;
            (time, rate) = (change.at.as_secs_f64(), f64::from(change.rate));
            changes.next();
        }
        time += due / rate;
        if time >= end {
            return arrivals;
        }
        arrivals.push(Duration::from_secs_f64(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rest: &str, seed: u64) -> Result<Plan, Refused> {
        let head = "name = \"x\"\nseconds = 20\nrate = 100\ninstances = 5\n";
        Plan::draw(&Scenario::parse(&format!("{head}{rest}")).expect("it is a scenario"), seed)
    }

    fn fault(kind: &str, at: &str, lasts: &str, target: &str) -> String {
        let lasts = if lasts.is_empty() { String::new() } else { format!("for = \"{lasts}\"\n") };
        format!("[[fault]]\nkind = \"{kind}\"\nat = \"{at}\"\n{lasts}target = \"{target}\"\n")
    }

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_seed_another() {
        let text = fault("kill", "1s", "2s", "payments/2 of 5");
        let (one, same) = (plan(&text, 3).expect("plays"), plan(&text, 3).expect("plays"));
        assert_eq!(one.arrivals, same.arrivals);
        assert_eq!(one.faults[0].instances, same.faults[0].instances);
        assert_eq!(one.faults[0].instances.len(), 2);
        let drawn: std::collections::HashSet<_> = (0..40)
            .map(|seed| plan(&text, seed).expect("plays").faults[0].instances.clone())
            .collect();
        assert!(drawn.len() > 5, "40 seeds drew only {drawn:?}");
        assert_ne!(one.arrivals, plan(&text, 4).expect("plays").arrivals);
    }

    #[test]
    fn arrivals_keep_the_rate_over_a_change() {
        let plan = plan("[[load]]\nat = \"10s\"\nrate = 400\n", 1).expect("plays");
        assert!(plan.arrivals.is_sorted());
        let early = plan.arrivals.iter().filter(|at| at.as_secs() < 10).count();
        let late = plan.arrivals.len() - early;
        // Five deviations of a Poisson count: 1,000 ± 158 and 4,000 ± 316.
        assert!((842..1158).contains(&early), "{early} early");
        assert!((3684..4316).contains(&late), "{late} late");
    }

    #[test]
    fn ends_come_before_beginnings_of_the_same_moment() {
        let text =
            fault("kill", "1s", "2s", "payments/1") + &fault("kill", "3s", "2s", "payments/1");
        let plan = plan(&text, 1).expect("one ends as the other begins");
        let moments: Vec<_> = plan.timeline().into_iter().map(|(_, moment)| moment).collect();
        use Moment::{Begin, End};
        assert_eq!(moments, [Begin(0), End(0), Begin(1), End(1)]);
        assert_eq!(plan.faults[1].label, "3s kill payments/1");
    }

    #[test]
    fn a_process_can_be_taken_once_at_a_time() {
        let text =
            fault("kill", "1s", "2s", "payments/1") + &fault("hang", "2s", "2s", "payments/*");
        let refused = plan(&text, 1).expect_err("payments/1 is dead");
        assert_eq!(refused.line, 11);
        assert!(refused.reason.starts_with("payments/1 already meets the `kill` of line 6"));
        let drawn = fault("kill", "1s", "2s", "payments/1")
            + &fault("refuse", "2s", "2s", "payments/4 of 5");
        assert_eq!(plan(&drawn, 1).expect("four are free").faults[1].instances, [1, 2, 3, 4]);
    }

    #[test]
    fn who_joins_first_is_not_on_the_list_before() {
        let text =
            fault("join", "4s", "", "payments/5") + &fault("leave", "1s", "1s", "payments/1");
        let joined = plan(&text, 1).expect("plays");
        assert_eq!(joined.listed, [true, true, true, true, false]);
        assert_eq!(joined.faults[0].over(), Duration::from_secs(4));
        let again =
            fault("leave", "1s", "", "payments/1") + &fault("leave", "2s", "", "payments/1");
        let refused = plan(&again, 1).expect_err("it has left already");
        assert!(refused.reason.starts_with("payments/1 is not on the list at 2s"), "{refused}");
        let refused = plan(&fault("leave", "1s", "1s", "payments/*"), 1).expect_err("all leave");
        assert!(refused.reason.starts_with("nobody would be on the list"), "{refused}");
    }

    #[test]
    fn a_leave_without_an_end_lasts_until_the_next_join() {
        let text = fault("leave", "2s", "", "payments/1")
            + &fault("join", "5s", "", "payments/1")
            + &fault("leave", "3s", "1s", "payments/2");
        let plan = plan(&text, 1).expect("plays");
        assert_eq!(plan.until(0, 0), Some(Duration::from_secs(5)));
        assert_eq!(plan.until(1, 0), None);
        assert_eq!(plan.until(2, 1), Some(Duration::from_secs(4)));
    }

    #[test]
    fn counts_who_is_bad_at_once() {
        let text = fault("sink", "1s", "3s", "payments/1")
            + &fault("kill", "2s", "1s", "payments/1")
            + &fault("kill", "3s", "1s", "payments/2")
            + &fault("leave", "3s", "1s", "payments/3");
        assert_eq!(plan(&text, 1).expect("plays").worst_at_once(), 2);
    }

    #[test]
    fn a_drill_is_before_its_faults_during_one_or_after_one() {
        let text = fault("leave", "1s", "1s", "payments/1")
            + &fault("sink", "3s", "3s", "payments/1")
            + &fault("kill", "5s", "2s", "payments/2")
            + &fault("kill", "9s", "1s", "payments/2");
        let plan = plan(&text, 1).expect("plays");
        use Phase::{After, Before, During};
        let phases = [(1500, Before), (2999, Before), (3000, During), (6500, During)];
        for (ms, phase) in
            phases.into_iter().chain([(7000, After), (9000, During), (10_000, After)])
        {
            assert_eq!(plan.phase(Duration::from_millis(ms)), phase, "at {ms} ms");
        }
    }

    #[test]
    fn labels_are_unique() {
        let one = fault("sink", "1s", "3s", "payments/1");
        let plan = plan(&(one.clone() + &one + &one), 1).expect("plays");
        let labels: Vec<_> = plan.faults.iter().map(|fault| fault.label.as_str()).collect();
        assert_eq!(
            labels,
            ["1s sink payments/1", "1s sink payments/1 (2)", "1s sink payments/1 (3)"]
        );
    }
}
