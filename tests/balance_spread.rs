//! Weights, priorities, zones and apertures, through the public interface, in virtual time.

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    balance::{
        Aperture, Balance, BalanceConfig, InvalidBalance, LeastRequest, PeakEwma, Policy,
        Priorities, ReportedConfig, RoundRobin, Weighted, Zones,
    },
    call::{Asked, Call, Words},
    classify::{Classify, PlainClassifier, Settle, Verdict},
    endpoint::{Change, Endpoint, Health, LoadReport, Open},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{ServiceExt, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SEED: u64 = 20_261_128;

/// A port, and what its server says of its load.
type Said = (u16, Option<LoadReport>);
type Answer = Pin<Box<dyn Future<Output = Result<Said, BoxError>> + Send>>;
type Port = BoxCloneSyncService<Call<()>, Said, BoxError>;

/// Reads what the server says.
#[derive(Clone, Copy, Debug)]
struct Reading;

impl Classify<Said> for Reading {
    type Guarded<G: Settle> = Said;

    fn response(&self, asked: Asked, response: &Said) -> Verdict {
        PlainClassifier::new().response(asked, response)
    }

    fn load_report(&self, response: &Said) -> Option<LoadReport> {
        response.1
    }

    fn guard<G: Settle>(&self, asked: Asked, response: Said, head: Verdict, guard: G) -> Said {
        PlainClassifier::new().guard(asked, response, head, guard)
    }
}

struct Registry {
    balance: Balance<Port, Open, Reading>,
    changes: mpsc::UnboundedSender<Result<Change, BoxError>>,
}

impl Registry {
    async fn new(
        policy: impl Policy + 'static,
        endpoints: Vec<Endpoint>,
        script: impl Fn(u16) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        eprintln!("seed {SEED}");
        let (changes, stream) = mpsc::unbounded_channel();
        let config = BalanceConfig::new().policy(policy).entropy(Entropy::seeded(SEED));
        let make = move |endpoint: &Endpoint| {
            let (port, script) = (endpoint.address().port(), script.clone());
            BoxCloneSyncService::new(tower::service_fn(move |_: Call<()>| script(port)))
        };
        let (open, stream) = (|_: &Endpoint| Open::new(), UnboundedReceiverStream::new(stream));
        let balance = Balance::new(config, stream, make, open, Reading).expect("inside a runtime");
        let registry = Self { balance, changes };
        registry.say(Change::Reset(endpoints)).await;
        registry
    }

    async fn say(&self, change: Change) {
        self.changes.send(Ok(change)).expect("the balancer listens");
        sleep(MS).await;
    }

    async fn unhealthy(&self, ports: std::ops::RangeInclusive<u16>) {
        for port in ports {
            self.say(Change::Health(endpoint(port), Health::Unhealthy)).await;
        }
    }

    /// How often each answered, of so many calls one after the other.
    async fn shares(&self, calls: u32) -> BTreeMap<u16, u32> {
        let mut shares = BTreeMap::new();
        for _ in 0..calls {
            if let Ok((port, _)) = self.balance.clone().oneshot(Call::new(())).await {
                *shares.entry(port).or_default() += 1;
            }
        }
        shares
    }

    /// Which part of so many calls these answered.
    async fn part(&self, ports: std::ops::RangeInclusive<u16>, calls: u32) -> f64 {
        let shares = self.shares(calls).await;
        let here: u32 = shares.range(ports).map(|(_, count)| count).sum();
        f64::from(here) / f64::from(calls)
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(format!("node-{port}"), ([127, 0, 0, 1], port).into())
}

fn echo(port: u16) -> Answer {
    Box::pin(ready(Ok((port, None))))
}

fn near(part: f64, wanted: f64) -> bool {
    (part - wanted).abs() < 0.03
}

#[tokio::test(start_paused = true)]
async fn calls_follow_the_weights_and_what_becomes_of_them() {
    let weights = |weights: [u32; 4]| {
        let of = |(port, weight): (u16, u32)| endpoint(port).with_weight(weight);
        (1..).zip(weights).map(of).collect::<Vec<_>>()
    };
    let registry = Registry::new(Weighted::new(), weights([1, 2, 3, 0]), echo).await;
    let shares = registry.shares(6_000).await;
    for (port, wanted) in [(1, 1_000), (2, 2_000), (3, 3_000)] {
        assert!(shares[&port].abs_diff(wanted) < 3, "{shares:?}");
    }
    registry.say(Change::Reset(weights([3, 2, 0, 1]))).await;
    let shares = registry.shares(6_000).await;
    assert!(shares[&1].abs_diff(3_000) < 3 && !shares.contains_key(&3), "{shares:?}");
    registry.say(Change::Reset(weights([0, 0, 0, 0]))).await;
    let shares = registry.shares(400).await;
    assert!(shares.values().all(|&count| count == 100), "{shares:?}");
    // Who is left takes over by weight.
    registry.say(Change::Reset(weights([4, 2, 3, 1]))).await;
    registry.unhealthy(1..=1).await;
    let shares = registry.shares(6_000).await;
    assert!(shares[&2].abs_diff(2_000) < 3 && shares[&3].abs_diff(3_000) < 3, "{shares:?}");
}

/// Server 1 reports that it serves 100/s at half its capacity, server 2 as much at a tenth, and
/// server 3 nothing.
#[tokio::test(start_paused = true)]
async fn reports_count_after_ten_seconds_and_for_three_minutes() {
    let silent = Arc::new(AtomicU32::new(0));
    let script = {
        let silent = Arc::clone(&silent);
        move |port| {
            let mut report = LoadReport::new();
            report.rate = Some(100.0);
            report.utilization = Some(if port == 1 { 0.5 } else { 0.1 });
            let says = port < 3 && silent.load(SeqCst) == 0;
            Box::pin(ready(Ok((port, says.then_some(report))))) as Answer
        }
    };
    let registry = Registry::new(
        Weighted::reported(ReportedConfig::new()),
        (1..=3).map(endpoint).collect(),
        script,
    )
    .await;
    let even = |shares: BTreeMap<u16, u32>| {
        assert!(shares.values().all(|&count| count.abs_diff(1_000) < 5), "{shares:?}");
    };
    // One answer in 64, by the clock, is looked at for a first report.
    for _ in 0..1_000 {
        registry.shares(1).await;
        sleep(MS).await;
    }
    even(registry.shares(3_000).await);
    for _ in 0..11 {
        registry.shares(100).await;
        sleep(SECOND).await;
    }
    // 200 against 1,000, and the mean of both.
    let shares = registry.shares(9_000).await;
    for (port, wanted) in [(1, 1_000), (2, 5_000), (3, 3_000)] {
        assert!(shares[&port].abs_diff(wanted) < 30, "{shares:?}");
    }
    silent.store(1, SeqCst);
    sleep(178 * SECOND).await;
    let shares = registry.shares(9_000).await;
    assert!(shares[&2].abs_diff(5_000) < 30, "{shares:?}");
    sleep(4 * SECOND).await;
    even(registry.shares(3_000).await);
}

fn levels(first: u16, second: u16) -> Vec<Endpoint> {
    let of = |port| endpoint(port).with_priority(u32::from(port > first));
    (1..=first + second).map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_level_takes_all_and_gives_away_what_it_cannot() {
    let registry = Registry::new(Priorities::new(PeakEwma::new()), levels(10, 20), echo).await;
    assert!(near(registry.part(1..=10, 2_000).await, 1.0));
    registry.unhealthy(1..=2).await;
    assert!(near(registry.part(1..=10, 2_000).await, 1.0));
    registry.unhealthy(3..=5).await;
    let part = registry.part(1..=10, 10_000).await;
    assert!(near(part, 0.7), "{part}");
    registry.unhealthy(6..=10).await;
    assert!(near(registry.part(11..=30, 2_000).await, 1.0));
}

/// Goal: weights of nothing are no reason to leave a level out (SRV records without weights).
#[tokio::test(start_paused = true)]
async fn a_level_without_weights_is_a_level() {
    let of = |it: Endpoint| match it.priority() {
        0 => it.with_weight(0),
        _ => it.with_weight(10),
    };
    let levels = levels(4, 4).into_iter().map(of).collect();
    let registry = Registry::new(Priorities::new(PeakEwma::new()), levels, echo).await;
    assert!(near(registry.part(1..=4, 1_000).await, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_level_whose_endpoints_the_call_has_tried_gives_it_to_the_next_at_once()
-> Result<(), BoxError> {
    let registry = Registry::new(Priorities::new(RoundRobin::new()), levels(1, 3), echo).await;
    let mut words = Words::new();
    words.tried.insert(registry.balance.endpoints()[0].key);
    let (port, _) = registry.balance.clone().oneshot(Call::with_words((), words)).await?;
    assert_ne!(port, 1);
    Ok(())
}

/// Three zones of ten: 1 to 10, 11 to 20 and 21 to 30.
fn zones() -> Vec<Endpoint> {
    let zone = |port: u16| ["a", "b", "c"][usize::from((port - 1) / 10)];
    (1..=30).map(|port| endpoint(port).with_zone(zone(port))).collect()
}

#[tokio::test(start_paused = true)]
async fn calls_stay_in_their_zone_until_it_has_too_little() -> Result<(), BoxError> {
    let registry = Registry::new(Zones::new("b", LeastRequest::new()), zones(), echo).await;
    assert!(near(registry.part(11..=20, 2_000).await, 1.0));
    registry.unhealthy(11..=12).await;
    assert!(near(registry.part(11..=20, 2_000).await, 1.0));
    registry.unhealthy(13..=15).await;
    let part = registry.part(11..=20, 10_000).await;
    assert!(near(part, 0.7), "{part}");
    // Half of all the clients are here, and there is a third of the capacity.
    let crowded = Zones::new("b", LeastRequest::new()).own_part(0.5)?.overprovisioning(1.0)?;
    let registry = Registry::new(crowded, zones(), echo).await;
    let part = registry.part(11..=20, 10_000).await;
    assert!(near(part, 0.667), "{part}");
    // In a zone of its own, all the others are as near.
    let registry = Registry::new(Zones::new("z", RoundRobin::new()), zones(), echo).await;
    assert!(registry.shares(300).await.values().all(|&count| count == 10));
    Ok(())
}

/// Goal: until a breaker or a check has said so, a zone that fails at once takes no more than
/// what it takes to see whether it is back.
#[tokio::test(start_paused = true)]
async fn a_zone_that_fails_gives_its_calls_away_at_once() {
    let failed = Arc::new(AtomicU32::new(0));
    let script = {
        let failed = Arc::clone(&failed);
        move |port| {
            if (11..=20).contains(&port) {
                failed.fetch_add(1, SeqCst);
                return Box::pin(ready(Err("down".into()))) as Answer;
            }
            echo(port)
        }
    };
    let registry = Registry::new(Zones::new("b", PeakEwma::new()), zones(), script).await;
    for _ in 0..2_000 {
        registry.shares(1).await;
        sleep(MS).await;
    }
    assert!(failed.load(SeqCst) < 60, "{failed:?} of 2,000 calls failed");
}

#[tokio::test(start_paused = true)]
async fn priorities_zones_and_weights_go_together() {
    // The first level: 1 to 10 in zone a, 11 to 20 in b. The second: 21 to 30 in a. The even
    // ones weigh three times as much.
    let of = |port: u16| {
        let zone = if (11..=20).contains(&port) { "b" } else { "a" };
        let weight = if port % 2 == 0 { 3 } else { 1 };
        endpoint(port).with_zone(zone).with_weight(weight).with_priority(u32::from(port > 20))
    };
    let policy = Priorities::new(Zones::new("a", Weighted::new()));
    let registry = Registry::new(policy, (1..=30).map(of).collect(), echo).await;
    let shares = registry.shares(2_000).await;
    assert_eq!(shares.values().sum::<u32>(), 2_000);
    for (port, count) in &shares {
        let wanted = if port % 2 == 0 { 300 } else { 100 };
        assert!(*port <= 10 && count.abs_diff(wanted) <= 6, "{shares:?}");
    }
    registry.unhealthy(1..=20).await;
    assert!(near(registry.part(21..=30, 1_000).await, 1.0));
}

/// Twenty clients, fifty servers: 15 servers each, some of them in part.
#[tokio::test(start_paused = true)]
async fn apertures_of_all_clients_load_the_fleet_evenly() -> Result<(), BoxError> {
    let peers = NonZeroU32::new(20).expect("20 is not 0");
    let mut loads = BTreeMap::<u16, u32>::new();
    for peer in 0..20 {
        let aperture = Aperture::new(peer, peers, LeastRequest::new())?;
        let registry = Registry::new(aperture, (1..=50).map(endpoint).collect(), echo).await;
        let shares = registry.shares(2_500).await;
        assert!((13..=14).contains(&shares.len()), "5 pieces of 2.5: {}", shares.len());
        shares.into_iter().for_each(|(port, count)| *loads.entry(port).or_default() += count);
    }
    let mean = 1_000.0;
    let variance = loads.values().map(|&load| (f64::from(load) - mean).powi(2)).sum::<f64>() / 50.0;
    let deviation = variance.sqrt() / mean;
    assert!(loads.len() == 50 && deviation < 0.05, "{deviation}: {loads:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_aperture_in_which_nobody_is_left_opens() -> Result<(), BoxError> {
    let peers = NonZeroU32::new(10).expect("10 is not 0");
    let aperture = Aperture::new(3, peers, PeakEwma::new())?;
    let registry = Registry::new(aperture, (1..=100).map(endpoint).collect(), echo).await;
    let shares = registry.shares(1_000).await;
    assert_eq!(shares.len(), 20);
    for &port in shares.keys() {
        registry.unhealthy(port..=port).await;
    }
    let others = registry.shares(1_000).await;
    assert!(others.len() > 70 && others.keys().all(|port| !shares.contains_key(port)));
    Ok(())
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let peers = NonZeroU32::new(3).expect("3 is not 0");
    assert_eq!(Aperture::new(3, peers, PeakEwma::new()).err(), Some(InvalidBalance::Peer));
    let aperture = Aperture::new(2, peers, PeakEwma::new()).map(|it| it.least(0).err());
    assert_eq!(aperture.ok(), Some(Some(InvalidBalance::Narrow)));
    let priorities = || Priorities::new(PeakEwma::new());
    let low = Some(InvalidBalance::Overprovisioning);
    assert_eq!(priorities().overprovisioning(0.9).err(), low);
    assert_eq!(Zones::new("a", priorities()).overprovisioning(f64::NAN).err(), low);
    assert_eq!(Zones::new("a", priorities()).own_part(1.1).err(), Some(InvalidBalance::OwnPart));
    assert_eq!(ReportedConfig::new().penalty(-0.1).err(), Some(InvalidBalance::Penalty));
    let times = ReportedConfig::new().times(SECOND, SECOND);
    assert_eq!(times.err(), Some(InvalidBalance::WeightTimes));
}
