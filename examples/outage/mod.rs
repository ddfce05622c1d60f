//! The drill: a small company as processes of this machine, faults by a timetable, and three
//! clients that call it in turn.
//!
//! `cargo run --release --example outage`, and `--help` for the rest; `README.md` beside this file
//! says what is counted and how.
//!
//! The drill starts itself again as its children (`ledger`, `payments`, `warden`). None of them
//! outlives it: see `lifeline`.

#![allow(clippy::print_stdout, reason = "the table is what the drill is for")]

mod args;
mod chance;
mod clients;
mod company;
mod form;
mod ills;
mod ledger;
mod lifeline;
mod load;
mod payments;
mod plan;
mod process;
mod progress;
mod random;
mod recovery;
mod report;
mod scenario;
mod table;
mod witness;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::outage::args::{Cli, ClientName, Options, Role, Who};
use crate::outage::clients::Setup;
use crate::outage::company::Company;
use crate::outage::plan::{Moment, Plan};
use crate::outage::progress::{Progress, Tally};
use crate::outage::report::{Evidence, Report, Summary};
use crate::outage::scenario::Scenario;
use crate::outage::witness::Witness;

/// Any error; the drill prints it and ends.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Names the call that an attempt belongs to, so that the ledger can tell charges made twice. No
/// client uses it for anything.
const CALL_HEADER: &str = "x-drill-call";
/// The header of the IETF's draft, in small letters as hyper wants it.
const KEY_HEADER: &str = "idempotency-key";

/// The scenario that is played when none is named.
const DEFAULT: (&str, &str) = ("default.toml", include_str!("scenarios/default.toml"));

/// After the last answer nothing may be added to the ledger for this long, before it is read.
const QUIET: Duration = Duration::from_millis(500);
/// Between the first look at the company and the first call, for the client to look around too.
const LEAD: Duration = Duration::from_millis(200);

/// Runs the drill, or one of its children: what this means is in the arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Role::Warden) = cli.role {
        return lifeline::warden();
    }
    // Children are started on this thread, since Linux ties them to it and not to the process.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.map_err(BoxError::from).and_then(|runtime| runtime.block_on(play(cli)));
    ended.unwrap_or_else(|error| {
        lifeline::say(&error.to_string());
        ExitCode::FAILURE
    })
}

async fn play(cli: Cli) -> Result<ExitCode, BoxError> {
    match cli.role {
        Some(Role::Ledger { folder }) => ledger::serve(folder).await?,
        Some(Role::Payments { instance, seed, work, http, ledger }) => {
            let work = Duration::from_micros(work);
            payments::serve(payments::Identity { instance, seed, work, http, ledger }).await?;
        }
        Some(Role::Random { seed }) => print!("{}", random::scenario(seed)),
        Some(Role::Warden) => {}
        None => return rehearse(&cli.options).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The drill itself, unless a signal ends it.
async fn rehearse(options: &Options) -> Result<ExitCode, BoxError> {
    let (name, plan) = match prepare(options) {
        Ok(prepared) => prepared,
        Err(error) => {
            lifeline::say(&error.to_string());
            return Ok(ExitCode::from(2));
        }
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // The drill is dropped by a signal, and its children with it.
    let code = tokio::select! {
        ended = drill(options, name, Arc::new(plan)) => return ended.map(|()| ExitCode::SUCCESS),
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hangup.recv() => 129,
    };
    lifeline::say("interrupted; everybody is sent home");
    Ok(ExitCode::from(code))
}

/// Reads the scenario and what the options change of it.
fn prepare(options: &Options) -> Result<(String, Plan), BoxError> {
    for client in options.client.names() {
        // Of `all` it is left out, and said so.
        if options.client != Who::All && !clients::is_built(client) {
            let name = client.name();
            return Err(format!("the client `{name}` is not built yet; use bare or tower").into());
        }
    }
    if options.hedge && !options.client.names().contains(&ClientName::Buttress) {
        return Err("only buttress hedges; leave out --hedge, or play buttress too".into());
    }
    if let Some(file) = &options.json {
        // Now, and not after two minutes of drill.
        let writable = OpenOptions::new().append(true).create(true).open(file);
        writable.map_err(|error| {
            format!("{} can't be written: {error}; name a file that can", file.display())
        })?;
    }
    let (file, text) = match &options.scenario {
        None => (DEFAULT.0.to_owned(), DEFAULT.1.to_owned()),
        Some(path) => (path.display().to_string(), read(path)?),
    };
    let refused = |refused: scenario::Refused| format!("{file}, {refused}");
    let mut scenario = Scenario::parse(&text).map_err(refused)?;
    if let Some(rate) = options.rate {
        scenario.set_rate(rate);
    }
    if let Some(seconds) = options.seconds {
        scenario.set_seconds(seconds);
    }
    let plan = Plan::draw(&scenario, options.seed).map_err(refused)?;
    Ok((scenario.name, plan))
}

fn read(path: &Path) -> Result<String, BoxError> {
    std::fs::read_to_string(path).map_err(|error| {
        format!("the scenario {} can't be read: {error}; name a TOML file", path.display()).into()
    })
}

async fn drill(options: &Options, scenario: String, plan: Arc<Plan>) -> Result<(), BoxError> {
    println!(
        "\"{scenario}\": {} s at {} calls/s over {}, seed {}{}",
        plan.seconds,
        plan.rate,
        options.http.spoken(),
        options.seed,
        if options.hedge { ", buttress hedges" } else { "" }
    );
    println!("{} instances, at worst {} of them bad at once", plan.instances, plan.worst_at_once());
    let mut order = Vec::new();
    let mut clients = BTreeMap::new();
    for name in options.client.names() {
        if !clients::is_built(name) {
            println!("{}: not built yet, left out", name.name());
            continue;
        }
        let summary = turn(options, name, &plan).await?;
        println!("{}: {} of {} calls went well", name.name(), summary.ok, summary.calls);
        order.push(name.name());
        clients.insert(name.name(), summary);
    }
    let report = Report {
        seed: options.seed,
        scenario,
        seconds: plan.seconds,
        rate: plan.rate,
        http: options.http.to_string(),
        hedge: options.hedge,
        clients,
    };
    println!("\n{}", table::table(&report, &plan, &order).trim_end());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text)
            .map_err(|error| format!("{} can't be written: {error}", file.display()))?;
    }
    Ok(())
}

/// One client's turn, with a company of its own.
async fn turn(options: &Options, name: ClientName, plan: &Arc<Plan>) -> Result<Summary, BoxError> {
    let tally = Arc::new(Tally::default());
    let progress = Progress::new(name.name(), plan, tally.clone())?;
    progress.say("the company opens");
    let mut company = Company::start(plan, options.http).await?;
    let witness = Witness::default();
    let setup = Setup {
        list: company.list(),
        http: options.http,
        hedge: options.hedge,
        page: options.page,
        witness: witness.clone(),
    };
    let client = clients::open(name, setup).await?;

    let start = Instant::now() + LEAD;
    let load = tokio::spawn(load::run(client, plan.clone(), start, tally));
    play_faults(&mut company, plan, start, &progress).await?;
    progress.say("waiting for the last answers");
    let settled = load.await??;
    progress.say("reading the ledger");
    let charges = company.audit(QUIET.max(plan.longest_hold() + QUIET / 2)).await?;
    let (tenants, met) = (company.tenants().to_vec(), company.met());
    company.stop().await?;

    let met = met.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Summary::of(&Evidence {
        plan,
        start,
        settled: &settled,
        attempts: &witness.attempts(),
        hedges: witness.hedges(),
        tenants: &tenants,
        met: &met,
        charges: &charges,
    }))
}

/// Plays the timeline to its end, and sees to it that nobody else falls ill.
async fn play_faults(
    company: &mut Company,
    plan: &Plan,
    start: Instant,
    progress: &Progress,
) -> Result<(), BoxError> {
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Duration::from_secs(plan.seconds);
    let mut moments = plan.timeline().into_iter().peekable();
    loop {
        let next = moments.peek().map_or(end, |(time, _)| *time);
        tokio::select! {
            biased;
            () = sleep_until((start + next).into()) => match moments.next() {
                Some((_, Moment::Begin(fault))) => company.begin(fault, &plan.faults[fault]).await?,
                Some((_, Moment::End(fault))) => company.end(fault, &plan.faults[fault]).await?,
                None => return Ok(()),
            },
            _ = ticks.tick() => {
                company.check()?;
                progress.show(plan, Instant::now().saturating_duration_since(start));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_scenarios_can_be_played_with_any_seed() {
        let short = ("ci.toml", include_str!("scenarios/ci.toml"));
        let one_slow = ("one_slow.toml", include_str!("scenarios/one_slow.toml"));
        let stray = ("stray.toml", include_str!("scenarios/stray.toml"));
        for ((file, text), worst) in [(DEFAULT, 2), (short, 2), (one_slow, 1), (stray, 5)] {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{file}, {error}"));
            assert_eq!((scenario.rate, scenario.instances), (200, 5), "{file}");
            for seed in 0..50 {
                let plan = Plan::draw(&scenario, seed);
                let plan = plan.unwrap_or_else(|error| panic!("{file}, {error}"));
                assert_eq!(plan.worst_at_once(), worst, "{file} with seed {seed}");
            }
        }
    }

    #[test]
    fn the_default_scenario_has_every_kind_of_fault() {
        let scenario = Scenario::parse(DEFAULT.1).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.seconds, 30);
        for kind in scenario::Kind::NAMES {
            assert!(scenario.faults.iter().any(|fault| fault.kind.name() == kind), "no {kind}");
        }
    }
}
