//! Slow start and ejection in the simulator: how the calls come back to an endpoint that is well
//! again.
#![cfg(feature = "testing")]

use std::time::Duration;

use buttress::{
    balance::{BalanceConfig, EjectionConfig, Latency, RoundRobin, SlowStart},
    testing::{Fault, Fleet, Report, Work},
};

const SEED: u64 = 20_261_126;
const SERVERS: usize = 10;
const FAIR: f64 = 1.0 / SERVERS as f64;

fn seconds(from: u64, to: u64) -> std::ops::Range<Duration> {
    Duration::from_secs(from)..Duration::from_secs(to)
}

/// Two clients over ten servers of which nobody is short; one server is ill for a while.
fn ill(fault: Fault, when: std::ops::Range<Duration>, config: fn() -> BalanceConfig) -> Report {
    Fleet::new(SEED)
        .servers(SERVERS)
        .clients(2)
        .rate(600.0)
        .work(Work::exponential(Duration::from_millis(10)))
        .attempts(2)
        .fault(3, when, fault)
        .balance(config)
        .run(Duration::from_secs(85))
}

/// The share of server 3, in parts of a fair one.
fn share(report: &Report, from: u64, to: u64) -> f64 {
    report.between(seconds(from, to)).share(3) / FAIR
}

#[test]
fn a_slow_endpoint_that_healed_has_its_share_back_within_the_window() {
    let report = ill(Fault::Slow(Duration::from_millis(200)), seconds(10, 40), BalanceConfig::new);
    let (slow, healed) = (share(&report, 12, 40), share(&report, 65, 75));
    eprintln!("{report}: {slow} while slow, {healed} when healed");
    assert!(slow < 0.3, "{slow}");
    // In well under the window's 30 s: it was never left alone, so it needs no start.
    assert!(share(&report, 50, 60) > 0.7, "{}", share(&report, 50, 60));
    assert!(healed > 0.8, "{healed}");
}

#[test]
fn an_ejected_endpoint_that_healed_ramps_up_and_has_its_share_back_within_the_window() {
    let ejects = || BalanceConfig::new().ejection(EjectionConfig::new());
    let report = ill(Fault::Stray(0.2), seconds(5, 25), ejects);
    // It is ejected at 10 s, for 30 to 33 s, by each of the two clients.
    let (out, ramp, back) =
        (share(&report, 11, 39), share(&report, 43, 48), share(&report, 73, 83));
    eprintln!("{report}: {out} ejected, {ramp} at first, {back} in the end");
    assert_eq!(out, 0.0);
    assert!((0.05..0.5).contains(&ramp), "{ramp}");
    assert!(back > 0.8, "{back}");
    assert!(report.between(seconds(11, 39)).attempts() > 0);
}

#[test]
fn a_slow_endpoint_is_ejected_by_a_policy_that_does_not_see_it() {
    let blind = || BalanceConfig::new().policy(RoundRobin::new());
    let judged = || {
        let config = EjectionConfig::new().latency(Latency::new());
        BalanceConfig::new().policy(RoundRobin::new()).ejection(config)
    };
    let fault = || Fault::Slow(Duration::from_millis(200));
    let (before, after) =
        (ill(fault(), seconds(5, 60), blind), ill(fault(), seconds(5, 60), judged));
    let p99 = |report: &Report| report.between(seconds(32, 50)).latency(0.99);
    eprintln!("p99 {:?} without, {:?} with", p99(&before), p99(&after));
    assert!(p99(&before) > Duration::from_millis(200));
    assert!(p99(&after) < Duration::from_millis(100));
}

/// A newcomer gets what its age is worth, whether the others are busy or not.
#[test]
fn the_share_of_a_newcomer_grows_with_its_age() {
    for (rate, config) in [
        (200.0, BalanceConfig::new as fn() -> BalanceConfig),
        (1_000.0, BalanceConfig::new),
        (200.0, || BalanceConfig::new().policy(RoundRobin::new())),
    ] {
        let report = Fleet::new(SEED)
            .servers(SERVERS)
            .clients(2)
            .rate(rate)
            .absent(3, seconds(0, 20))
            .balance(config)
            .run(Duration::from_secs(60));
        let shares = [(20, 23), (30, 34), (50, 60)].map(|(from, to)| share(&report, from, to));
        eprintln!("{report}: {shares:?}");
        assert!((0.01..0.3).contains(&shares[0]), "{rate}: {shares:?}");
        assert!(shares[0] < shares[1] && shares[1] < shares[2], "{rate}: {shares:?}");
        // Where nobody has a queue, whoever was lucky with the size of his requests is preferred.
        assert!((0.5..1.5).contains(&shares[2]), "{rate}: {shares:?}");
    }
    let at_once = || BalanceConfig::new().slow_start(SlowStart::OFF);
    let report = Fleet::new(SEED)
        .servers(SERVERS)
        .clients(2)
        .rate(200.0)
        .absent(3, seconds(0, 20))
        .balance(at_once)
        .run(Duration::from_secs(25));
    assert!(share(&report, 20, 25) > 0.6, "{}", share(&report, 20, 25));
}
