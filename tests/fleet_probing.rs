//! The policy that probes, in fleets of virtual time: the same faults as for the default one in
//! `fleet.rs`, and the capacity.
//!
//! Everything is drawn from the seed below, which each run prints; `BUTTRESS_SEED` sets another.

#![cfg(feature = "testing")]

use std::{ops::Range, time::Duration};

use buttress::{
    BoxError,
    balance::{BalanceConfig, LeastRequest, Probed, Probing, ProbingConfig, SlowStart, Zones},
    endpoint::Endpoint,
    testing::{Antagonists, Fault, Fleet, Report, Server, Work},
};

const DEFAULT_SEED: u64 = 20_261_203;

fn seed() -> u64 {
    match std::env::var("BUTTRESS_SEED") {
        Ok(text) => text.parse().expect("BUTTRESS_SEED is a whole number"),
        Err(_) => DEFAULT_SEED,
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn millis(range: Range<u64>) -> Range<Duration> {
    Duration::from_millis(range.start)..Duration::from_millis(range.end)
}

fn policy(config: ProbingConfig) -> Probing {
    // The fleet's servers answer in its place.
    Probing::new(|_: &Endpoint| std::future::pending::<Result<Probed, BoxError>>(), config)
}

fn probing() -> BalanceConfig {
    BalanceConfig::new().policy(policy(ProbingConfig::new()))
}

/// Ten servers that are well, and three clients.
fn ten(rate: f64) -> Fleet {
    let work = Work::exponential(Duration::from_millis(10));
    Fleet::new(seed()).servers(10).clients(3).rate(rate).work(work).balance(probing)
}

/// From quiet to busy.
const RATES: [f64; 2] = [60.0, 900.0];

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let fleet = Fleet::new(seed).servers(5).clients(2).rate(500.0).balance(probing);
        fleet.fault(1, millis(500..1_500), Fault::Hang).attempts(2).run(seconds(2))
    };
    assert_eq!(run(seed()), run(seed()));
    assert_ne!(run(seed()).latency(0.5), run(seed() + 1).latency(0.5));
}

#[test]
fn a_healthy_fleet_shares_the_work() {
    for rate in RATES {
        let report = ten(rate).run(seconds(20));
        assert_eq!(report.errors(), 0.0, "{report}");
        for server in 0..10 {
            let share = report.share(server);
            assert!((0.03..0.25).contains(&share), "{server} has {share}, {rate}/s: {report}");
        }
    }
}

/// It has nothing to do, and says so.
#[test]
fn one_of_ten_that_fails_at_once_is_no_sink() {
    for rate in RATES {
        let report = ten(rate).fault(3, millis(5_000..15_000), Fault::Fail).run(seconds(15));
        let after = report.between(millis(6_000..15_000));
        assert!(after.share(3) <= 0.02, "{} at {rate}/s: {after}", after.share(3));
    }
}

#[test]
fn one_that_hangs_answers_no_probe_and_gets_next_to_nothing() {
    for rate in RATES {
        let fleet = ten(rate).attempts(2).attempt_timeout(Duration::from_millis(300)).fault(
            3,
            millis(5_000..20_000),
            Fault::Hang,
        );
        let report = fleet.run(seconds(30));
        assert_eq!(report.errors(), 0.0, "{report}");
        let during = report.between(millis(6_500..20_000));
        assert!(during.share(3) < 0.02, "{} at {rate}/s: {during}", during.share(3));
        let after = report.between(millis(25_000..30_000));
        assert!(after.share(3) > 0.03, "{} at {rate}/s: {after}", after.share(3));
    }
}

/// A server at a quarter of its speed, of which this client hears as soon as its queue grows.
#[test]
fn one_that_is_throttled_gets_less_within_a_second() {
    let report = ten(5_000.0).fault(3, millis(5_000..10_000), Fault::Throttled(0.25));
    let report = report.run(seconds(15));
    let during = report.between(millis(6_000..10_000));
    assert!(during.share(3) < 0.05, "{}: {during}", during.share(3));
    let after = report.between(millis(11_000..15_000));
    assert!(after.share(3) > 0.07, "{}: {after}", after.share(3));
}

#[test]
fn one_that_leaves_gets_nothing_and_one_that_comes_is_not_rushed() {
    for rate in RATES {
        let hasty = || probing().slow_start(SlowStart::over(seconds(3)));
        let fleet = ten(rate).absent(3, millis(2_000..100_000)).absent(4, millis(0..4_000));
        let report = fleet.balance(hasty).run(seconds(15));
        assert_eq!(report.errors(), 0.0, "{report}");
        assert_eq!(report.between(millis(2_000..15_000)).share(3), 0.0);
        assert_eq!(report.between(millis(0..4_000)).share(4), 0.0);
        let first = report.between(millis(4_000..5_000)).share(4);
        assert!(first < 0.1, "{first} in its first second, {rate}/s: {report}");
        let later = report.between(millis(8_000..15_000)).share(4);
        assert!((0.03..0.25).contains(&later), "{later}, {rate}/s: {report}");
    }
}

/// The ramp of the guide on balancing at one load and with fewer servers, as `examples/ramp` has
/// it in full.
fn ramp() -> Fleet {
    let server = Server::sharing(4.0).antagonists(Antagonists::new(40.0, 0.6, 1.0, seconds(10)));
    let work = Work::normal(Duration::from_millis(65));
    Fleet::new(seed())
        .servers_of(std::iter::repeat_n(server, 40))
        .clients(40)
        .rate(1.27 * 40.0 * 4.0 / work.mean().as_secs_f64())
        .work(work)
}

fn p99(fleet: Fleet) -> f64 {
    let report: Report = fleet.run(seconds(9)).between(millis(2_000..9_000));
    report.latency(0.99).as_secs_f64()
}

#[test]
fn near_the_capacity_probes_are_worth_their_while() {
    let probing = p99(ramp().balance(probing));
    let ours = p99(ramp());
    let least = p99(ramp().balance(|| BalanceConfig::new().policy(LeastRequest::new())));
    let all = [probing, ours, least];
    assert!(probing < 1.05 * ours && probing < 0.5 * least, "{all:?}");
}

/// As the paper has it: below one probe a call, the pool runs dry; and without the requests in flight,
/// by latency alone, everybody runs to the same servers.
#[test]
fn fewer_probes_and_latency_alone_are_worse() {
    let with = |config: ProbingConfig| {
        p99(ramp().balance(move || BalanceConfig::new().policy(policy(config))))
    };
    let usual = with(ProbingConfig::new());
    let few = with(ProbingConfig::new().rates(0.5, 0.25).expect("more come than go"));
    let blind = with(ProbingConfig::new().cold(1.0).expect("all are cold"));
    let all = [usual, few, blind];
    assert!(1.5 * usual < few && 2.0 * usual < blind, "{all:?}");
}

/// Groups have pools of their own, which last from picker to picker: as one has them, so has the other.
#[test]
fn within_zones_it_is_the_same() {
    let zones = || {
        let near = Zones::new("nowhere", policy(ProbingConfig::new()));
        BalanceConfig::new().policy(near)
    };
    let (plain, zones) = (p99(ramp().balance(probing)), p99(ramp().balance(zones)));
    assert!(zones < 1.2 * plain, "{zones}, and {plain} without zones");
}
