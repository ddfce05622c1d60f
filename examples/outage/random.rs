//! Scenarios nobody has tuned for: drawn from a seed, never more than two of five instances bad.
//!
//! `outage random --seed 7 > seven.toml`, then `outage --scenario seven.toml`.

use std::fmt::Write as _;

use crate::outage::chance::{Use, draw};

const SECONDS: u64 = 20;
const INSTANCES: u64 = 5;

/// A scenario as a file would hold it.
///
/// Episodes follow each other with a pause between them; in each, one or two instances fall ill,
/// for part of it. So no more than two are ever bad, without counting.
pub(crate) fn scenario(seed: u64) -> String {
    let mut dice = Dice { seed, thrown: 0 };
    let mut text = format!(
        "name = \"random {seed}\"\nseconds = {SECONDS}\nrate = 200\ninstances = {INSTANCES}\n"
    );
    let mut time = 1000 + dice.below(1000);
    while time + 2500 < SECONDS * 1000 {
        let length = 1500 + dice.below(3000);
        let length = length.min(SECONDS * 1000 - 1000 - time);
        let first = 1 + dice.below(INSTANCES);
        episode(&mut text, &mut dice, first, time, length);
        if dice.below(2) == 0 {
            let second = 1 + (first + dice.below(INSTANCES - 1)) % INSTANCES;
            let late = dice.below(length / 2);
            episode(&mut text, &mut dice, second, time + late, length - late);
        }
        time += length + 500 + dice.below(2000);
    }
    text
}

fn episode(text: &mut String, dice: &mut Dice, instance: u64, at: u64, lasts: u64) {
    let some = (2 + dice.below(9)) as f64 / 10.0;
    let (kind, more) = match dice.below(10) {
        0 => ("kill", String::new()),
        1 => ("hang", String::new()),
        2 => ("refuse", String::new()),
        3 => ("sink", String::new()),
        4 => ("leave", String::new()),
        5 => {
            let latency = 50 + dice.below(950);
            let jitter = dice.below(latency);
            ("slow", format!("latency = \"{latency}ms\"\njitter = \"{jitter}ms\"\n"))
        }
        6 => {
            let status = [500, 502, 503, 504][usize::try_from(dice.below(4)).unwrap_or(0)];
            ("fail", format!("status = {status}\nshare = {some:?}\n"))
        }
        7 => ("overload", format!("retry_after = \"1s\"\nshare = {some:?}\n")),
        8 => ("lose_answer", format!("share = {some:?}\n")),
        _ => ("stall_body", format!("share = {some:?}\n")),
    };
    // Writing to a string can't fail.
    let _ = write!(
        text,
        "\n[[fault]]\nkind = \"{kind}\"\nat = \"{at}ms\"\nfor = \"{lasts}ms\"\n\
         target = \"payments/{instance}\"\n{more}"
    );
}

struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.thrown += 1;
        draw(self.seed, Use::Random, &[self.thrown]) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outage::plan::Plan;
    use crate::outage::scenario::Scenario;

    #[test]
    fn every_seed_is_a_scenario_with_at_most_two_bad_at_once() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let text = scenario(seed);
            let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let plan = Plan::draw(&scenario, 1).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert!(
                (1..=2).contains(&plan.worst_at_once())
                    || plan.faults.iter().all(|one| one.kind.changes_the_list()),
                "{text}"
            );
            kinds.extend(plan.faults.iter().map(|fault| fault.kind.name()));
        }
        assert_eq!(kinds.len(), 10, "all but join: {kinds:?}");
    }
}
