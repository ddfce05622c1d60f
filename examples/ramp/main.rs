//! The load ramp of Prequal (B. Wydrowski et al., "Load is not what you should balance: Introducing
//! Prequal", NSDI 2024, section 5), over our policies and others'.
//!
//! `cargo run --release --example ramp`
//!
//! Prints the table, and writes it and the plot into `src/docs`, where the guide on balancing shows
//! them. Takes some ten minutes of one core; `--quick` takes one, and writes nothing.

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

mod others;
mod plot;

use std::{
    error::Error,
    fmt::Write,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use buttress::{
    BoxError,
    balance::{BalanceConfig, LeastRequest, Probed, Probing, ProbingConfig, RoundRobin},
    endpoint::Endpoint,
    testing::{Antagonists, Fleet, Report, Server, Work},
};

/// Of the servers' allocation.
const LOADS: [f64; 5] = [0.75, 0.93, 1.03, 1.27, 1.57];
const SEEDS: u64 = 10;
const SPAN: Duration = Duration::from_secs(20);
/// Until then nobody knows anything.
const WARM_UP: Duration = Duration::from_secs(5);

/// Each server has four cores of a machine of forty; its neighbours use 60 to 100 % of that, and change
/// their mind every ten seconds or so. A quarter of the servers has its allocation and no more.
const CORES: f64 = 4.0;
const MACHINE: f64 = 40.0;

fn fleet(seed: u64, clients: usize, servers: usize, load: f64) -> Fleet {
    let work = Work::normal(Duration::from_millis(65));
    let antagonists = Antagonists::new(MACHINE, 0.6, 1.0, Duration::from_secs(10));
    let server = Server::sharing(CORES).antagonists(antagonists);
    Fleet::new(seed)
        .servers_of(std::iter::repeat_n(server, servers))
        .clients(clients)
        .rate(load * servers as f64 * CORES / work.mean().as_secs_f64())
        .work(work)
}

struct Policy {
    name: &'static str,
    of: fn(Fleet) -> Fleet,
}

fn policies() -> [Policy; 8] {
    let policy = |name, of| Policy { name, of };
    [
        policy("round robin", |fleet| {
            fleet.balance(|| BalanceConfig::new().policy(RoundRobin::new()))
        }),
        policy("weighted round robin", |fleet| {
            fleet.reports(true).choose_by(|_| others::Weighted::new())
        }),
        policy("least request", |fleet| {
            fleet.balance(|| BalanceConfig::new().policy(LeastRequest::new()))
        }),
        policy("tower's Peak EWMA", |fleet| fleet.choose_by(|_| others::Tower::new())),
        policy("ours, probing (Prequal)", |fleet| fleet.balance(probing)),
        policy("ours", |fleet| fleet),
        policy("ours, with reports", |fleet| fleet.reports(true)),
        policy("oracle", |fleet| fleet.choose_by(|_| others::Oracle)),
    ]
}

/// With the paper's settings. A fleet's servers answer probes themselves: this one is never called.
fn probing() -> BalanceConfig {
    let probe = |_: &Endpoint| std::future::pending::<Result<Probed, BoxError>>();
    BalanceConfig::new().policy(Probing::new(probe, ProbingConfig::new()))
}

/// Means over the seeds.
#[derive(Clone, Copy, Default)]
struct Cell {
    p50: f64,
    p99: f64,
    p999: f64,
    errors: f64,
}

fn cell(policy: &Policy, clients: usize, servers: usize, load: f64, seeds: u64) -> Cell {
    let mut mean = Cell::default();
    for seed in 1..=seeds {
        let report: Report = (policy.of)(fleet(seed, clients, servers, load)).run(SPAN);
        let measured = report.between(WARM_UP..SPAN);
        let [p50, p99, p999] = measured.latencies([0.5, 0.99, 0.999]).map(|it| it.as_secs_f64());
        mean.p50 += p50 * 1e3 / seeds as f64;
        mean.p99 += p99 * 1e3 / seeds as f64;
        mean.p999 += p999 * 1e3 / seeds as f64;
        mean.errors += measured.errors() * 100.0 / seeds as f64;
    }
    mean
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let seeds = if quick { 1 } else { SEEDS };
    let policies = policies();
    // Each cell is a run of its own, so threads take them as they come.
    let cells: Vec<_> = (0..policies.len() * LOADS.len()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&at) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (policy, load) = (&policies[at / LOADS.len()], LOADS[at % LOADS.len()]);
            done.push((at, cell(policy, 100, 100, load, seeds)));
        }
        done
    };
    let mut ramp = vec![Cell::default(); cells.len()];
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            for (at, cell) in worker.join().expect("a run does not panic") {
                ramp[at] = cell;
            }
        }
    });

    let mut table = header(&LOADS);
    for (policy, cells) in policies.iter().zip(ramp.chunks(LOADS.len())) {
        row(&mut table, policy.name, cells);
    }
    println!("100 clients, 100 servers, seeds 1 to {seeds}\n\n{table}");

    let thousand = [1.03, 1.27];
    let mut large = header(&thousand);
    for policy in policies.iter().filter(|policy| !policy.name.contains("round robin")) {
        let started = Instant::now();
        let cells = thousand.map(|load| cell(policy, 1_000, 1_000, load, 1));
        row(&mut large, policy.name, &cells);
        let took = started.elapsed();
        println!("1,000 clients, 1,000 servers, {}: {took:.1?} for both loads", policy.name);
    }
    println!("\n{large}");

    if !quick {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/docs/balancing");
        let lines: Vec<(&str, Vec<f64>)> = policies
            .iter()
            .zip(ramp.chunks(LOADS.len()))
            .map(|(policy, cells)| (policy.name, cells.iter().map(|cell| cell.p99).collect()))
            .collect();
        fs::create_dir_all(&docs)?;
        fs::write(docs.join("ramp.md"), table)?;
        fs::write(docs.join("thousand.md"), large)?;
        fs::write(docs.join("ramp.svg"), plot::svg(&LOADS, &lines))?;
    }
    Ok(())
}

fn header(loads: &[f64]) -> String {
    let mut table = String::from("| p50 / p99 / p99.9 in ms |");
    for load in loads {
        write!(table, " {load:.2} |").expect("a string can be written to");
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(loads.len()));
    table.push('\n');
    table
}

fn row(table: &mut String, name: &str, cells: &[Cell]) {
    write!(table, "| {name} |").expect("a string can be written to");
    for Cell { p50, p99, p999, errors } in cells {
        write!(table, " {p50:.0} / **{p99:.0}** / {p999:.0}").expect("a string can be written to");
        if *errors >= 0.005 {
            write!(table, ", {errors:.2} % failed").expect("a string can be written to");
        }
        table.push_str(" |");
    }
    table.push('\n');
}
