//! What the public suites and specifications of others say about retries, balancing, ejection and
//! panic, as data.
//!
//! Each row of `tests/conformance/*.json` has a `source`, a `case` in words, `settings`, a
//! `script` for the server, and what is `expected`; `row.rs` says what each of them may hold. The
//! rows are in a form of our own, and say what a source's numbers and rules come to. Where we
//! differ on purpose, the row says what we do, and `differs` names the section of
//! `DIFFERENCES.md` that says why.
//!
//! All runs in virtual time. `cargo test --test conformance -- --nocapture` prints the cases.
#![cfg(feature = "hyper")]

#[path = "conformance/balance.rs"]
mod balance;
#[path = "conformance/client.rs"]
mod client;
#[path = "conformance/fleet.rs"]
mod fleet;
#[path = "conformance/row.rs"]
mod row;
#[path = "conformance/server.rs"]
mod server;
mod support;

use std::collections::BTreeSet;

use row::{Row, What};

const DIFFERENCES: &str = include_str!("conformance/DIFFERENCES.md");

const SUITES: [(&str, &str); 7] = [
    ("grpc", include_str!("conformance/grpc.json")),
    ("aws", include_str!("conformance/aws.json")),
    ("envoy", include_str!("conformance/envoy.json")),
    ("polly", include_str!("conformance/polly.json")),
    ("finagle", include_str!("conformance/finagle.json")),
    ("fleet", include_str!("conformance/fleet.json")),
    ("balance", include_str!("conformance/balance.json")),
];

#[test]
fn retries_as_grpc_does() {
    run("grpc");
}

#[test]
fn retries_as_the_sdks_of_aws_do() {
    run("aws");
}

#[test]
fn retries_as_envoy_does() {
    run("envoy");
}

#[test]
fn retries_as_polly_does() {
    run("polly");
}

#[test]
fn pays_for_retries_as_finagle_does() {
    run("finagle");
}

#[test]
fn ejects_as_grpc_and_envoy_do_and_panics_as_envoy_does() {
    run("fleet");
}

#[test]
fn balances_as_envoy_grpc_and_finagle_do() {
    run("balance");
}

#[test]
fn every_difference_has_its_reason_and_a_row_that_shows_it() {
    let listed: BTreeSet<&str> =
        DIFFERENCES.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rows: Vec<Row> = SUITES.iter().flat_map(|(suite, text)| rows(suite, text)).collect();
    let shown: BTreeSet<&str> = rows.iter().filter_map(|row| row.differs.as_deref()).collect();
    assert_eq!(shown, listed, "the rows' differences, and the sections of DIFFERENCES.md");
}

#[test]
fn no_two_cases_have_the_same_name() {
    let rows: Vec<Row> = SUITES.iter().flat_map(|(suite, text)| rows(suite, text)).collect();
    let names: BTreeSet<(&str, &str)> = rows.iter().map(|row| (&*row.source, &*row.case)).collect();
    assert_eq!(names.len(), rows.len());
}

fn rows(suite: &str, text: &str) -> Vec<Row> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{suite}.json: {error}"))
}

fn run(suite: &str) {
    let (_, text) = SUITES.iter().find(|(name, _)| *name == suite).expect("it is in the list");
    let rows = rows(suite, text);
    let mut failed = Vec::new();
    for row in &rows {
        let name = format!("{}: {}", row.source, row.case);
        let differs = if row.differs.is_some() { " (differs on purpose)" } else { "" };
        let outcome = match &row.what {
            What::Calls { settings, script, expected } => client::run(settings, script, expected),
            What::Budget { tariff, steps, expected } => client::budget(tariff, steps, expected),
            What::Backoff { backoff, delays } => client::backoff(backoff, delays),
            What::Ejection { ejection, endpoints, sweeps } => {
                fleet::ejection(ejection, *endpoints, sweeps)
            }
            What::Panic { panic, endpoints, healthy } => fleet::panic(panic, *endpoints, healthy),
            What::Ring(row) => balance::ring(row),
            What::Maglev(row) => balance::maglev(row),
            What::Stride { stride, picks, counts } => balance::stride(stride, *picks, counts),
            What::Levels { levels, percent } => balance::levels(levels, percent),
            What::LeastRequest { in_flight, percent } => balance::least_request(in_flight, percent),
            What::Fleet { fleet, most } => balance::fleet(fleet, *most),
            What::Apertures { apertures, deviation } => balance::apertures(apertures, *deviation),
        };
        match outcome {
            Ok(()) => eprintln!("ok    {name}{differs}"),
            Err(error) => {
                eprintln!("WRONG {name}: {error}");
                failed.push(format!("{name}\n    {error}"));
            }
        }
    }
    assert!(!rows.is_empty(), "{suite}.json is empty");
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), rows.len(), failed.join("\n"));
}
