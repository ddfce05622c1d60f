//! The report as people read it, in 80 columns.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::outage::plan::{Phase, Plan};
use crate::outage::report::{Report, Summary};

/// The width of the first column and of the others: 38 + 3 × 14 = 80.
const FIRST: usize = 38;
const REST: usize = 14;

const PHASES: [(Phase, &str); 3] = [
    (Phase::Before, "p99      before the faults"),
    (Phase::During, "         during one"),
    (Phase::After, "         after one"),
];

/// A table with one column for each client that was played, in that order.
pub(crate) fn table(report: &Report, plan: &Plan, order: &[&'static str]) -> String {
    let clients: Vec<&Summary> = order.iter().filter_map(|name| report.clients.get(name)).collect();
    let mut table = Table { text: String::new(), clients };
    table.line("", order.iter().map(|name| (*name).to_owned()));
    table.row("success", |one| format!("{:.2} %", one.success * 100.0));
    table.row("latency  p50", |one| ms(one.latency_ms.p50));
    table.row("         p95", |one| ms(one.latency_ms.p95));
    table.row("         p99", |one| ms(one.latency_ms.p99));
    table.row("         max", |one| ms(one.latency_ms.max));
    if !plan.faults.is_empty() {
        for (phase, when) in PHASES {
            table.row(when, |one| match one.latency_by_phase.get(&phase) {
                Some(part) => ms(part.latency_ms.p99),
                None => "no calls".to_owned(),
            });
        }
    }
    table.row("attempts per call", |one| format!("{:.2}", one.attempts_per_call));
    if report.hedge {
        table.row("hedges", |one| one.hedges.to_string());
    }
    table.counts(
        "errors",
        |one| one.errors.keys().cloned().collect(),
        |one, kind| one.errors.get(kind).copied().unwrap_or(0),
    );
    table.row("charges  asked", |one| one.charges.asked.to_string());
    table.row("         made", |one| one.charges.made.to_string());
    table.row("         made twice", |one| one.charges.duplicates.to_string());
    table
        .row("         confirmed but missing", |one| one.charges.confirmed_but_missing.to_string());
    let kinds = |one: &Summary| one.faults_met.keys().map(|kind| (*kind).to_owned()).collect();
    table.counts("calls that met", kinds, |one, kind| {
        one.faults_met.get(kind).copied().unwrap_or(0)
    });
    if !plan.faults.is_empty() {
        table.title("recovered after");
    }
    for fault in &plan.faults {
        table.row(&format!("  {}", fault.label), |one| {
            match one.recovered_ms.get(&fault.label).copied().flatten() {
                Some(after) => ms(after),
                None => "never".to_owned(),
            }
        });
    }
    table.text
}

struct Table<'a> {
    text: String,
    clients: Vec<&'a Summary>,
}

impl Table<'_> {
    fn row(&mut self, name: &str, cell: impl Fn(&Summary) -> String) {
        let cells: Vec<String> = self.clients.iter().map(|one| cell(one)).collect();
        self.line(name, cells);
    }

    /// One row for each word that any of the clients has.
    fn counts(
        &mut self,
        title: &str,
        words: impl Fn(&Summary) -> Vec<String>,
        count: impl Fn(&Summary, &str) -> u64,
    ) {
        let all: BTreeSet<String> = self.clients.iter().flat_map(|one| words(one)).collect();
        if all.is_empty() {
            return self.row(title, |_| "none".to_owned());
        }
        self.title(title);
        for word in all {
            self.row(&format!("  {word}"), |one| count(one, &word).to_string());
        }
    }

    fn title(&mut self, title: &str) {
        self.line(title, []);
    }

    fn line(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        let short: String = if name.chars().count() > FIRST {
            name.chars().take(FIRST - 1).chain(['…']).collect()
        } else {
            name.to_owned()
        };
        let mut line = format!("{short:<FIRST$}");
        for cell in cells {
            // Writing to a string can't fail.
            let _ = write!(line, "{cell:>REST$}");
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

fn ms(ms: f64) -> String {
    if ms >= 100.0 { format!("{ms:.0} ms") } else { format!("{ms:.1} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outage::report::{Charges, Latency, Part};
    use crate::outage::scenario::Scenario;
    use std::collections::BTreeMap;

    fn summary(label: &str) -> Summary {
        let during = Latency { p50: 7.2, p95: 14.0, p99: 834.5, max: 12_345.6 };
        Summary {
            calls: 6000,
            ok: 5990,
            success: 0.998_333,
            latency_ms: Latency { p50: 7.1, p95: 12.0, p99: 512.3, max: 12_345.6 },
            latency_by_phase: BTreeMap::from([(
                Phase::During,
                Part { calls: 1000, latency_ms: during },
            )]),
            attempts_per_call: 1.054,
            hedges: 77,
            errors: BTreeMap::from([("status_503".to_owned(), 10)]),
            faults_met: BTreeMap::from([("sink", 321)]),
            charges: Charges { asked: 6000, made: 5991, duplicates: 0, confirmed_but_missing: 0 },
            recovered_ms: BTreeMap::from([(label.to_owned(), None)]),
        }
    }

    #[test]
    fn keeps_to_80_columns() {
        let text = "name = \"x\"\nseconds = 10\nrate = 1\ninstances = 9\n\
            [[fault]]\nkind = \"lose_answer\"\nat = \"1.234567s\"\nfor = \"1s\"\n\
            target = \"payments/8 of 9\"\n";
        let plan = Plan::draw(&Scenario::parse(text).expect("parses"), 1).expect("plays");
        let order = ["bare", "tower", "buttress"];
        let clients = order.iter().map(|name| (*name, summary(&plan.faults[0].label))).collect();
        let report = Report {
            seed: 1,
            scenario: "x".to_owned(),
            seconds: 10,
            rate: 1,
            http: "1".to_owned(),
            hedge: true,
            clients,
        };
        let table = table(&report, &plan, &order);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert!(table.contains("success                                      99.83 %"), "{table}");
        let has = |line: &str| table.lines().any(|one| one.split_whitespace().eq(line.split(' ')));
        assert!(has("during one 834 ms 834 ms 834 ms"), "{table}");
        assert!(has("hedges 77 77 77"), "{table}");
        assert!(table.contains("no calls"), "{table}");
        assert!(table.contains("12346 ms") && table.contains("never"), "{table}");
        assert!(table.lines().all(|line| line.trim_end() == line));
    }
}
