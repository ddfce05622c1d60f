//! The default policy in fleets of virtual time: what becomes of an endpoint that fails, hangs, gets
//! slow, leaves, or says how busy it is.
//!
//! Everything is drawn from the seed below, which each run prints; `BUTTRESS_SEED` sets another.

#![cfg(feature = "testing")]

use std::{ops::Range, time::Duration};

use buttress::{
    balance::{BalanceConfig, EjectionConfig, LeastRequest, RoundRobin, SlowStart},
    testing::{Antagonists, Chooser, Ended, Fault, Fleet, Report, Server, View, Work},
};

const DEFAULT_SEED: u64 = 20_261_126;

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

/// Ten servers that are well, and three clients.
fn ten(rate: f64) -> Fleet {
    Fleet::new(seed())
        .servers(10)
        .clients(3)
        .rate(rate)
        .work(Work::exponential(Duration::from_millis(10)))
}

/// From quiet to busy, and with servers that say how busy they are.
fn each_way() -> impl Iterator<Item = (f64, bool)> {
    [60.0, 900.0].into_iter().flat_map(|rate| [(rate, false), (rate, true)])
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let fleet = Fleet::new(seed).servers(5).clients(2).rate(500.0).reports(true);
        fleet.fault(1, millis(500..1_500), Fault::Stray(0.5)).attempts(2).run(seconds(2))
    };
    assert_eq!(run(seed()), run(seed()));
    assert_ne!(run(seed()).latency(0.5), run(seed() + 1).latency(0.5));
}

#[test]
fn a_healthy_fleet_shares_the_work() {
    for (rate, reports) in each_way() {
        // As many calls for each: of a few hundred, chance alone gives somebody half of his share.
        let report = ten(rate).reports(reports).run(seconds(18_000 / rate as u64));
        assert_eq!(report.errors(), 0.0, "{report}");
        // Where nobody has a queue, whoever was lucky with the size of his requests is preferred.
        let fair = if rate < 100.0 { 0.04..0.2 } else { 0.05..0.15 };
        for server in 0..10 {
            let share = report.share(server);
            assert!(fair.contains(&share), "{server} has {share}, {rate}/s: {report}");
        }
    }
}

/// It has at most 2 % of the traffic from a second after its first failure on.
#[test]
fn one_of_ten_that_fails_at_once_is_no_sink() {
    for (rate, reports) in each_way() {
        let fleet = ten(rate).reports(reports).fault(3, millis(5_000..15_000), Fault::Fail);
        let report = fleet.run(seconds(15));
        let after = report.between(millis(6_000..15_000));
        assert!(after.share(3) <= 0.02, "{} at {rate}/s, {reports}: {after}", after.share(3));
    }
}

/// Half of its share within the second after it, and no shadow of it after another.
#[test]
fn one_stray_failure_costs_half_a_share_for_a_second_at_most() {
    let (mut second, mut fair) = (0.0, 0.0);
    let seeds = 0..20;
    for more in seeds.clone() {
        let run = |fault: Range<Duration>| {
            let fleet = Fleet::new(seed() + more).servers(10).clients(1).rate(600.0);
            fleet.fault(3, fault, Fault::Fail).run(seconds(6))
        };
        // Long enough for one call, of the sixty a second that it gets.
        let report = run(millis(3_000..3_017));
        second += report.between(millis(3_017..4_017)).share(3) / seeds.clone().count() as f64;
        fair += report.between(millis(4_017..6_000)).share(3) / seeds.clone().count() as f64;
    }
    assert!(second >= 0.05, "{second} in the second after it");
    assert!(fair >= 0.08, "{fair} after that");
}

/// Slow by 25 times for ten seconds; half of its share within 20 s, all of it within 30.
#[test]
fn one_that_was_slow_and_healed_has_its_share_back_within_the_slow_start_window() {
    for (rate, reports) in each_way() {
        let slow = Fault::Slow(Duration::from_millis(250));
        let fleet = ten(rate).reports(reports).fault(3, millis(5_000..15_000), slow);
        let report = fleet.run(seconds(65));
        let during = report.between(millis(7_000..15_000));
        assert!(during.share(3) < 0.02, "{} at {rate}/s, {reports}: {during}", during.share(3));
        let half = report.between(millis(30_000..45_000));
        assert!(half.share(3) > 0.05, "{} at {rate}/s, {reports}: {half}", half.share(3));
        let whole = report.between(millis(45_000..65_000));
        assert!(whole.share(3) > 0.07, "{} at {rate}/s, {reports}: {whole}", whole.share(3));
    }
}

/// Ejections and slow starts of a tenth of their usual time, which keeps the runs short.
fn hasty() -> BalanceConfig {
    let ejection = EjectionConfig::new().ejection_time(seconds(3), seconds(30)).expect("it is");
    BalanceConfig::new().ejection(ejection).slow_start(SlowStart::over(seconds(3)))
}

/// A call whose first attempt hangs is repeated once, elsewhere, and is good.
#[test]
fn one_that_hangs_costs_each_call_at_most_one_attempt() {
    for (rate, reports) in each_way() {
        let fleet = ten(rate)
            .reports(reports)
            .attempts(2)
            .attempt_timeout(Duration::from_millis(300))
            .fault(3, millis(5_000..20_000), Fault::Hang);
        let report = fleet.balance(hasty).run(seconds(70));
        assert_eq!(report.errors(), 0.0, "{report}");
        let during = report.between(millis(6_000..20_000));
        assert!(during.share(3) < 0.02, "{} at {rate}/s, {reports}: {during}", during.share(3));
        // It is ejected for a while when enough of its calls have timed out, and then starts slowly.
        let after = report.between(millis(55_000..70_000));
        assert!(after.share(3) > 0.07, "{} at {rate}/s, {reports}: {after}", after.share(3));
    }
}

#[test]
fn one_that_leaves_gets_nothing_and_one_that_comes_is_not_rushed() {
    for (rate, reports) in each_way() {
        let fleet = ten(rate)
            .reports(reports)
            .absent(3, millis(2_000..100_000))
            .absent(4, millis(0..4_000));
        let report = fleet.balance(hasty).run(seconds(15));
        assert_eq!(report.errors(), 0.0, "{report}");
        assert_eq!(report.between(millis(2_000..15_000)).share(3), 0.0);
        assert_eq!(report.between(millis(0..4_000)).share(4), 0.0);
        let first = report.between(millis(4_000..5_000)).share(4);
        assert!(first < 0.1, "{first} in its first second, {rate}/s: {report}");
        // When it has started.
        let later = report.between(millis(8_000..15_000)).share(4);
        assert!((0.05..0.25).contains(&later), "{later}, {rate}/s: {report}");
    }
}

/// A throttled server, at half the speed, gets less; and with its queue in sight the right part.
#[test]
fn one_that_is_throttled_gets_less() {
    for reports in [false, true] {
        let fleet =
            ten(6_000.0).reports(reports).fault(3, millis(0..20_000), Fault::Throttled(0.5));
        let report = fleet.run(seconds(20)).between(millis(2_000..20_000));
        assert!(report.share(3) < 0.085, "{}, {reports}: {report}", report.share(3));
    }
}

/// The queue of the shortest, as no client sees it.
struct Oracle;

impl Chooser for Oracle {
    fn choose(&mut self, view: &View<'_>) -> Option<usize> {
        let (count, start) = (view.count(), view.below(view.count()));
        (0..count).map(|at| (start + at) % count).min_by_key(|&at| view.in_flight(at))
    }

    fn ended(&mut self, _: usize, _: &Ended, _: &View<'_>) {}

    fn changed(&mut self, _: usize, _: bool, _: &View<'_>) {}
}

/// The ramp of the guide on balancing at one load and with fewer servers, as `examples/ramp` has
/// it in full.
#[test]
fn near_the_capacity_reports_are_nearly_as_good_as_an_oracle() {
    let ramp = || {
        let server =
            Server::sharing(4.0).antagonists(Antagonists::new(40.0, 0.6, 1.0, seconds(10)));
        let work = Work::normal(Duration::from_millis(65));
        Fleet::new(seed())
            .servers_of(std::iter::repeat_n(server, 40))
            .clients(40)
            .rate(1.27 * 40.0 * 4.0 / work.mean().as_secs_f64())
            .work(work)
    };
    let p99 = |fleet: Fleet| -> f64 {
        let report: Report = fleet.run(seconds(9)).between(millis(2_000..9_000));
        report.latency(0.99).as_secs_f64()
    };
    let oracle = p99(ramp().choose_by(|_| Oracle));
    let reports = p99(ramp().reports(true));
    let ours = p99(ramp());
    let least = p99(ramp().balance(|| BalanceConfig::new().policy(LeastRequest::new())));
    let turns = p99(ramp().balance(|| BalanceConfig::new().policy(RoundRobin::new())));
    let all = [oracle, reports, ours, least, turns];
    assert!(reports < 1.2 * oracle, "{all:?}");
    assert!(reports < 0.9 * ours && ours < 0.5 * least && least < 0.6 * turns, "{all:?}");
}
