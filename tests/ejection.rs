//! Ejection: the decision over made-up fleets, and the balancer that follows it, in virtual time.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    balance::{
        Action, Balance, BalanceConfig, Candidates, Consecutive, EjectionConfig, EjectionState,
        EndpointStatus, Host, Latency, Member, NoEndpoint, Outlier, Picker, Policy, SuccessRate,
        Tally,
    },
    breaker::{Breaker, BreakerConfig},
    call::Call,
    classify::PlainClassifier,
    endpoint::{Change, Endpoint, EndpointKey, Health, Open},
    find,
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::sleep,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{ServiceExt, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SEED: u64 = 20_261_126;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SplitMix64: chance for the tests, from a printed seed.
struct Chance(AtomicU64);

impl Chance {
    fn new(seed: u64) -> Self {
        eprintln!("seed {seed}");
        Self(AtomicU64::new(seed))
    }

    fn unit(&self) -> f64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// So many calls, each of which fails with this chance.
    fn tally(&self, calls: u32, fails: f64) -> Tally {
        let failures = (0..calls).filter(|_| self.unit() < fails).count() as u32;
        Tally::new(calls - failures, failures)
    }
}

fn keys(count: usize) -> Vec<EndpointKey> {
    (0..count).map(|_| EndpointKey::unique()).collect()
}

/// In how many of so many sweeps of a fresh state somebody is ejected.
fn false_alarms(config: &EjectionConfig, sweeps: u32, fails: f64, chance: &Chance) -> u32 {
    let (keys, now) = (keys(20), Instant::now());
    let alarmed = |_: &u32| {
        let mut state = EjectionState::new(config.clone(), now);
        let hosts: Vec<Host> =
            keys.iter().map(|&key| Host::new(key, chance.tally(200, fails))).collect();
        let rulings = state.sweep(&hosts, now, || 0.0);
        rulings.iter().any(|ruling| ruling.action == Action::Ejected)
    };
    (0..sweeps).filter(alarmed).count() as u32
}

#[test]
fn a_healthy_fleet_ejects_somebody_in_at_most_one_of_a_hundred_sweeps() {
    let chance = Chance::new(SEED);
    for fails in [0.0, 0.001, 0.01, 0.05] {
        let alarms = false_alarms(&EjectionConfig::new(), 1_000, fails, &chance);
        eprintln!("{fails}: {alarms} of 1000");
        assert!(alarms <= 10, "{alarms} of 1000 sweeps at a failure rate of {fails}");
    }
}

/// Why that is not the default.
#[test]
fn by_mean_and_deviation_a_healthy_fleet_ejects_somebody_in_most_sweeps() {
    let chance = Chance::new(SEED);
    let config = EjectionConfig::grpc().success_rate(SuccessRate::new());
    let alarms = false_alarms(&config, 300, 0.001, &chance);
    assert!((225..=270).contains(&alarms), "{alarms} of 300");
}

#[test]
fn eight_bad_ones_of_twenty_are_all_found_and_nobody_else() {
    let chance = Chance::new(SEED);
    let (keys, mut now) = (keys(20), Instant::now());
    // A tenth of the calls fail: a breaker would never open for that.
    let (mut state, bad) = (EjectionState::new(EjectionConfig::new(), now), &keys[5..13]);
    for _ in 0..3 {
        now += 10 * SECOND;
        let host = |&key: &EndpointKey| {
            let fails = if bad.contains(&key) { 0.1 } else { 0.001 };
            let calls = if state.ejection(key).is_some() { 0 } else { 200 };
            Host::new(key, chance.tally(calls, fails))
        };
        let hosts: Vec<Host> = keys.iter().map(host).collect();
        state.sweep(&hosts, now, || 0.5);
    }
    let found: Vec<bool> = keys.iter().map(|&key| state.ejection(key).is_some()).collect();
    let expected: Vec<bool> = keys.iter().map(|key| bad.contains(key)).collect();
    assert_eq!(found, expected);
}

#[test]
fn where_all_are_bad_nobody_stands_out() {
    let chance = Chance::new(SEED);
    for fails in [0.5, 1.0] {
        let alarms = false_alarms(&EjectionConfig::new(), 200, fails, &chance);
        assert!(alarms <= 2, "{alarms} of 200");
    }
}

/// One that is hardly called, since it fails, has its few calls added up.
#[test]
fn a_few_calls_wait_until_they_are_enough() {
    let (keys, mut now) = (keys(5), Instant::now());
    let mut state = EjectionState::new(EjectionConfig::new(), now);
    let mut ejected_after = None;
    for sweep in 1..=6 {
        now += 10 * SECOND;
        let mut hosts: Vec<Host> =
            keys.iter().map(|&key| Host::new(key, Tally::new(200, 0))).collect();
        hosts[2].tally = Tally::new(0, 2);
        if state.sweep(&hosts, now, || 0.0).iter().any(|ruling| ruling.action == Action::Ejected) {
            ejected_after = Some(sweep);
            break;
        }
    }
    assert_eq!(ejected_after, Some(3));
}

#[test]
fn the_time_grows_with_each_ejection_and_is_forgiven_by_healthy_intervals() {
    let (keys, start) = (keys(5), Instant::now());
    let mut state = EjectionState::new(EjectionConfig::new(), start);
    let good = |state: &mut EjectionState, now| {
        let hosts: Vec<Host> = keys.iter().map(|&key| Host::new(key, Tally::new(100, 0))).collect();
        state.sweep(&hosts, now, || 0.0);
    };
    let bad = |state: &mut EjectionState, now| {
        let mut hosts: Vec<Host> =
            keys.iter().map(|&key| Host::new(key, Tally::new(100, 0))).collect();
        hosts[0].tally = Tally::new(50, 50);
        state.sweep(&hosts, now, || 0.0);
        state.ejection(keys[0]).map(|ejection| (ejection.until - now).as_secs())
    };
    let mut now = start;
    for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
        now += 10 * SECOND;
        assert_eq!(bad(&mut state, now), Some(seconds));
        now += Duration::from_secs(seconds);
        assert_eq!(state.due().max(now), now);
        assert_eq!(state.returned(now).len(), 1);
    }
    // It has been ejected eleven times in a row.
    for _ in 0..10 {
        now += 10 * SECOND;
        good(&mut state, now);
    }
    now += 10 * SECOND;
    assert_eq!(bad(&mut state, now), Some(60));
}

#[test]
fn the_cap_leaves_half_and_counts_those_that_are_out_already_but_lets_one_go() {
    let now = Instant::now();
    let sweep = |count: usize, bad: usize, out: usize, config: EjectionConfig| {
        let mut state = EjectionState::new(config, now);
        let mut hosts: Vec<Host> =
            keys(count).into_iter().map(|key| Host::new(key, Tally::new(100, 0))).collect();
        hosts.iter_mut().take(bad).for_each(|host| host.tally = Tally::new(50, 50));
        hosts.iter_mut().rev().take(out).for_each(|host| host.out = true);
        let rulings = state.sweep(&hosts, now, || 0.0);
        let count = |action| rulings.iter().filter(|ruling| ruling.action == action).count();
        (count(Action::Ejected), count(Action::Capped), count(Action::Spared))
    };
    let ours = EjectionConfig::new;
    assert_eq!(sweep(11, 5, 0, ours()), (5, 0, 0));
    assert_eq!(sweep(10, 4, 2, ours()), (3, 1, 0));
    assert_eq!(sweep(3, 1, 0, ours().max_percent(1).expect("it is")), (1, 0, 0));
    assert_eq!(sweep(11, 5, 0, ours().max_percent(20).expect("it is")), (2, 3, 0));
    assert_eq!(sweep(11, 5, 0, ours().dark()), (0, 0, 5));
    // Of two nobody can say that losing one is worth it.
    assert_eq!(sweep(2, 1, 0, ours()), (0, 0, 0));
}

#[test]
fn a_slow_one_is_ejected_when_it_is_slow_twice_and_a_fleet_of_unlike_ones_has_none() {
    let now = Instant::now();
    let sweeps = |times: [&[u32]; 2]| {
        let keys = keys(times[0].len());
        let config = EjectionConfig::new().latency(Latency::new());
        let mut state = EjectionState::new(config, now);
        for (at, times) in times.into_iter().enumerate() {
            let host = |(&key, &ms): (&EndpointKey, &u32)| {
                Host::new(key, Tally::new(100, 0).with_latency(100, ms * MS))
            };
            let hosts: Vec<Host> = keys.iter().zip(times).map(host).collect();
            let rulings = state.sweep(&hosts, now + at as u32 * 10 * SECOND, || 0.0);
            assert!(at == 1 || rulings.is_empty());
        }
        let of = |&key| state.ejection(key).copied();
        keys.iter().map(of).collect::<Vec<_>>()
    };
    let found = sweeps([&[10, 11, 9, 10, 50, 10], &[10, 11, 9, 10, 50, 10]]);
    assert!(found.iter().enumerate().all(|(at, found)| found.is_some() == (at == 4)), "{found:?}");
    let ejection = found[4].expect("it is");
    assert_eq!((ejection.by, ejection.evidence.usual), (Outlier::Latency, Some(0.01)));
    // Once is a pause.
    let paused = sweeps([&[10, 11, 9, 10, 50, 10], &[10, 11, 9, 10, 10, 50]]);
    assert!(paused.iter().all(Option::is_none));
    // Three times the median, but not by the fleet's own measure; and three times nothing.
    let unlike = [10, 20, 5, 40, 70, 8, 30];
    assert!(sweeps([&unlike, &unlike]).iter().all(Option::is_none));
    let quick = [1, 1, 1, 1, 4, 1];
    assert!(sweeps([&quick, &quick]).iter().all(Option::is_none));
}

// --- The balancer ----------------------------------------------------------------------------

type Answer = Pin<Box<dyn Future<Output = Result<u16, BoxError>> + Send>>;
type Port = BoxCloneSyncService<Call<()>, u16, BoxError>;

/// One after the other, of those that fit.
#[derive(Debug, Default)]
struct InTurn(Arc<AtomicU64>);

impl Policy for InTurn {
    fn picker(&self, _: &[Member<'_>]) -> Arc<dyn Picker> {
        Arc::new(Self(Arc::clone(&self.0)))
    }
}

impl Picker for InTurn {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        let start = self.0.fetch_add(1, SeqCst) as usize;
        let count = among.count();
        (start..start + count).map(|at| at % count).find(|&at| among.is_fit(at))
    }
}

struct Bench {
    balance: Balance<Port, Open, PlainClassifier>,
    feed: UnboundedSender<Result<Change, BoxError>>,
    hits: Arc<Mutex<BTreeMap<u16, u32>>>,
    said: Arc<Mutex<Vec<String>>>,
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::from(SocketAddr::from(([127, 0, 0, 1], port)))
}

impl Bench {
    /// Over the endpoints 1 to `count`, which answer as the script says.
    async fn new(
        config: BalanceConfig,
        count: u16,
        script: impl Fn(u16) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        eprintln!("seed {SEED}");
        let (feed, changes) = unbounded_channel();
        let (hits, said) = (Arc::<Mutex<BTreeMap<u16, u32>>>::default(), Arc::default());
        let make = {
            let hits = Arc::clone(&hits);
            move |endpoint: &Endpoint| {
                let (port, script, hits) =
                    (endpoint.address().port(), script.clone(), Arc::clone(&hits));
                BoxCloneSyncService::new(tower::service_fn(move |_: Call<()>| {
                    *lock(&hits).entry(port).or_default() += 1;
                    script(port)
                }))
            }
        };
        let observer = {
            let said: Arc<Mutex<Vec<String>>> = Arc::clone(&said);
            Observer::new(move |event| match event {
                Event::Outlier { endpoint, by, action, ejected_for, times, .. } => {
                    let port = endpoint.address().port();
                    lock(&said).push(format!("{port} {by} {action} {ejected_for:?} {times}"));
                }
                Event::EjectionEnded { endpoint, reason, .. } => {
                    lock(&said).push(format!("{} {reason}", endpoint.address().port()));
                }
                _ => {}
            })
        };
        let config = config.entropy(Entropy::seeded(SEED)).observer(observer);
        let changes = UnboundedReceiverStream::new(changes);
        let open = |_: &Endpoint| Open::new();
        let balance = Balance::new(config, changes, make, open, PlainClassifier::new())
            .expect("inside a runtime");
        let bench = Self { balance, feed, hits, said };
        bench.tell(Change::Reset((1..=count).map(endpoint).collect())).await;
        bench
    }

    async fn tell(&self, change: Change) {
        self.feed.send(Ok(change)).expect("the driver listens");
        sleep(MS).await;
    }

    async fn call(&self) -> Result<u16, BoxError> {
        self.balance.clone().oneshot(Call::new(())).await
    }

    /// So many calls a second, one after the other; how many each endpoint got.
    async fn calls(&self, a_second: u32, span: Duration) -> BTreeMap<u16, u32> {
        lock(&self.hits).clear();
        let end = tokio::time::Instant::now() + span;
        while tokio::time::Instant::now() < end {
            let _ = self.call().await;
            sleep(SECOND / a_second).await;
        }
        lock(&self.hits).clone()
    }

    fn status(&self, port: u16) -> EndpointStatus {
        let statuses = self.balance.endpoints();
        statuses.into_iter().find(|status| status.endpoint == endpoint(port)).expect("a member")
    }

    fn ejected(&self) -> Vec<u16> {
        let statuses = self.balance.endpoints();
        let ejected = statuses.into_iter().filter(|status| status.ejected.is_some());
        ejected.map(|status| status.endpoint.address().port()).collect()
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.said))
    }
}

/// This endpoint fails every so-manieth call; the others none.
fn failing(bad: u16, every: u64) -> impl Fn(u16) -> Answer + Clone + Send + Sync + 'static {
    let count = Arc::new(AtomicU64::new(0));
    move |port| {
        let fails = port == bad && count.fetch_add(1, SeqCst) % every == 0;
        Box::pin(async move { if fails { Err("broken".into()) } else { Ok(port) } })
    }
}

fn in_turn() -> BalanceConfig {
    BalanceConfig::new().policy(InTurn::default()).ejection(EjectionConfig::new())
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_a_tenth_of_its_calls_is_ejected_and_comes_back_slowly() {
    let bench = Bench::new(in_turn(), 5, failing(3, 10)).await;
    bench.calls(100, 9 * SECOND).await;
    assert_eq!(bench.ejected(), [0; 0]);
    bench.calls(100, 2 * SECOND).await;
    assert_eq!(bench.ejected(), [3]);
    let ejection = bench.status(3).ejected.expect("it is");
    let (evidence, span) = (ejection.evidence, ejection.until - ejection.since);
    assert_eq!((ejection.by, ejection.times), (Outlier::FailureRate, 1));
    assert!(evidence.failures * 11 > evidence.calls && evidence.measured > evidence.limit);
    assert!(evidence.chance.expect("it is told") < 1e-3);
    assert!((30 * SECOND..=33 * SECOND).contains(&span), "{span:?}");
    assert_eq!(bench.said(), [format!("3 failure_rate ejected Some({span:?}) 1")]);

    let hits = bench.calls(100, 25 * SECOND).await;
    assert_eq!(hits.get(&3), None);
    sleep(8 * SECOND).await;
    assert_eq!((bench.ejected(), bench.said()), (vec![], vec!["3 returned".to_owned()]));
    assert!(bench.status(3).share < 0.3);
}

/// What a retry makes good counts all the same: the caller of each of these calls would have seen
/// an answer.
#[tokio::test(start_paused = true)]
async fn a_failure_counts_for_its_endpoint_though_the_next_attempt_succeeds() {
    let config = BalanceConfig::new().ejection(EjectionConfig::new());
    let bench = Bench::new(config, 5, failing(2, 5)).await;
    for _ in 0..2_000 {
        if bench.call().await.is_err() {
            bench.call().await.expect("another one answers, or the same");
        }
        sleep(10 * MS).await;
    }
    assert_eq!(bench.said().first().map(|said| &said[..24]), Some("2 failure_rate ejected S"));
}

#[tokio::test(start_paused = true)]
async fn in_the_dark_it_says_so_and_ejects_nobody() {
    let config = in_turn().ejection(EjectionConfig::new().dark());
    let bench = Bench::new(config, 5, failing(3, 5)).await;
    bench.calls(100, 11 * SECOND).await;
    assert_eq!(bench.said(), ["3 failure_rate spared None 1"]);
    assert_eq!(bench.ejected(), [0; 0]);
    let without =
        Bench::new(BalanceConfig::new().policy(InTurn::default()), 5, failing(3, 5)).await;
    without.calls(100, 11 * SECOND).await;
    assert_eq!((without.said(), without.ejected()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn where_all_are_bad_calls_flow_or_fail_at_once_if_asked() {
    let broken = |_| -> Answer { Box::pin(async { Err("broken".into()) }) };
    let bench = Bench::new(in_turn(), 5, broken).await;
    let hits = bench.calls(100, 30 * SECOND).await;
    assert_eq!(bench.ejected(), [0; 0]);
    assert!((1..=5).all(|port| hits[&port] > 500), "{hits:?}");

    // Most are known to be bad: all of them are used, or none.
    for closed in [false, true] {
        let config = if closed { in_turn().fail_in_panic() } else { in_turn() };
        let bench = Bench::new(config, 5, failing(0, 1)).await;
        for port in 1..=3 {
            bench.tell(Change::Health(endpoint(port), Health::Unhealthy)).await;
        }
        sleep(SECOND).await;
        let hits = bench.calls(100, SECOND).await;
        if closed {
            assert!(hits.is_empty(), "{hits:?}");
            let error = bench.call().await.expect_err("it fails at once");
            let error = find::<NoEndpoint>(&*error);
            assert!(matches!(error, Some(NoEndpoint::Refused { known: 5 })), "{error:?}");
        } else {
            assert_eq!(hits.len(), 5);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_at_once_and_not_at_the_next_sweep() {
    let config = EjectionConfig::envoy()
        .consecutive(Consecutive::new().server_errors(5, 100).expect("it is"))
        .max_percent(50)
        .expect("it is");
    let bench = Bench::new(in_turn().ejection(config), 4, failing(3, 1)).await;
    for _ in 0..16 {
        let _ = bench.call().await;
    }
    sleep(MS).await;
    assert_eq!(bench.ejected(), [0; 0]);
    for _ in 0..4 {
        let _ = bench.call().await;
    }
    sleep(MS).await;
    assert_eq!(bench.ejected(), [3]);
    assert_eq!(bench.said(), ["3 server_errors ejected Some(30s) 1"]);
    // Envoy's sweep, every ten seconds, lets it return.
    sleep(29 * SECOND).await;
    assert_eq!(bench.ejected(), [3]);
    sleep(11 * SECOND).await;
    assert_eq!(bench.said(), ["3 returned"]);
}

#[tokio::test(start_paused = true)]
async fn an_active_check_outweighs_and_may_shorten_an_ejection_but_does_not_end_it() {
    let ejection = EjectionConfig::new().jitter(Duration::ZERO).expect("it is");
    let bench = Bench::new(in_turn().ejection(ejection), 5, failing(3, 10)).await;
    let until = |bench: &Bench| {
        let ejection = bench.status(3).ejected.expect("it is");
        (ejection.until - ejection.since).as_secs()
    };
    // The second time in a row it would take a minute.
    bench.calls(100, 42 * SECOND).await;
    bench.calls(100, 8 * SECOND).await;
    assert_eq!((bench.ejected(), until(&bench)), (vec![3], 60));
    bench.tell(Change::Health(endpoint(3), Health::Unhealthy)).await;
    bench.tell(Change::Health(endpoint(3), Health::Healthy)).await;
    assert_eq!((bench.ejected(), until(&bench)), (vec![3], 30));

    // In Envoy it ends it; and an unhealthy one is out whatever else is said.
    let ejection = EjectionConfig::envoy().max_percent(50).expect("it is");
    let bench = Bench::new(in_turn().ejection(ejection), 5, failing(3, 1)).await;
    bench.calls(100, SECOND).await;
    assert_eq!(bench.ejected(), [3]);
    bench.tell(Change::Health(endpoint(3), Health::Unhealthy)).await;
    let hits = bench.calls(100, SECOND).await;
    assert_eq!(hits.get(&3), None);
    bench.said();
    bench.tell(Change::Health(endpoint(3), Health::Healthy)).await;
    assert_eq!((bench.ejected(), bench.said()), (vec![], vec!["3 found_healthy".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_is_ejected_where_that_is_asked_for() {
    let slow = |port| -> Answer {
        let takes = if port == 4 { 80 * MS } else { 8 * MS };
        Box::pin(async move {
            sleep(takes).await;
            Ok(port)
        })
    };
    let latency = Latency::new().minimum_calls(10).expect("above 0");
    let config = in_turn().ejection(EjectionConfig::new().latency(latency));
    let bench = Bench::new(config, 6, slow).await;
    bench.calls(50, 22 * SECOND).await;
    assert_eq!(bench.ejected(), [4]);
    let evidence = bench.status(4).ejected.expect("it is").evidence;
    assert!((0.08..0.1).contains(&evidence.measured), "{evidence:?}");
}

#[tokio::test(start_paused = true)]
async fn the_state_of_an_ejected_endpoint_survives_a_flap() {
    let bench = Bench::new(in_turn(), 5, failing(3, 5)).await;
    bench.calls(100, 11 * SECOND).await;
    assert_eq!(bench.ejected(), [3]);
    bench.tell(Change::Remove(endpoint(3))).await;
    assert_eq!(bench.ejected(), [0; 0]);
    sleep(10 * SECOND).await;
    bench.tell(Change::Add(endpoint(3))).await;
    assert_eq!(bench.ejected(), [3]);
}

/// Whoever fails too often in a row is looked at at once. What it did is counted by the next sweep
/// all the same.
#[tokio::test(start_paused = true)]
async fn what_was_counted_before_a_row_was_full_is_there_for_the_sweep() {
    let rows = Consecutive::new().server_errors(5, 0).expect("it is");
    let config = EjectionConfig::new().consecutive(rows.local_failures(5, 0).expect("it is"));
    let bench = Bench::new(in_turn().ejection(config), 5, failing(3, 1)).await;
    // Twenty calls of it, of which the last row was full a moment ago.
    bench.calls(100, SECOND).await;
    assert!(bench.said().len() > 2, "the rows are watched");
    sleep(9 * SECOND).await;
    let ejection = bench.status(3).ejected.expect("by the sweep");
    assert_eq!((ejection.by, ejection.evidence.calls), (Outlier::FailureRate, 20));
}

#[tokio::test(start_paused = true)]
async fn ejection_goes_on_when_discovery_has_ended() {
    let Bench { balance, feed, .. } = Bench::new(in_turn(), 5, failing(3, 5)).await;
    drop(feed);
    for _ in 0..1_100 {
        let _ = balance.clone().oneshot(Call::new(())).await;
        sleep(10 * MS).await;
    }
    let ejected = balance.endpoints().into_iter().filter(|status| status.ejected.is_some());
    assert_eq!(ejected.map(|status| status.endpoint).collect::<Vec<_>>(), [endpoint(3)]);
}

/// Five of ten are out already, by their checks or their breakers: one more may be ejected, since
/// one always may, and no second.
#[tokio::test(start_paused = true)]
async fn the_cap_counts_those_that_their_checks_or_breakers_keep_out() {
    for by_breaker in [false, true] {
        let make = |endpoint: &Endpoint| {
            let fails = [1, 2].contains(&endpoint.address().port());
            BoxCloneSyncService::new(tower::service_fn(move |_: Call<()>| async move {
                if fails { Err(BoxError::from("broken")) } else { Ok(0_u16) }
            }))
        };
        let gates = move |endpoint: &Endpoint| {
            // No failure opens these.
            let config = BreakerConfig::new().consecutive_failures(10_000);
            let config = config.and_then(|config| config.minimum_calls(10_000)).expect("they are");
            let breaker = Breaker::new(config);
            if by_breaker && endpoint.address().port() > 5 {
                breaker.force_open();
            }
            breaker
        };
        let mut changes = vec![Change::Reset((1..=10).map(endpoint).collect())];
        if !by_breaker {
            changes.extend((6..=10).map(|port| Change::Health(endpoint(port), Health::Unhealthy)));
        }
        let changes = tokio_stream::iter(changes.into_iter().map(Ok::<_, BoxError>));
        let balance = Balance::new(in_turn(), changes, make, gates, PlainClassifier::new());
        let balance = balance.expect("inside a runtime");
        for _ in 0..1_000 {
            sleep(11 * MS).await;
            let _ = balance.clone().oneshot(Call::new(())).await;
        }
        let ejected = balance.endpoints().iter().filter(|status| status.ejected.is_some()).count();
        assert_eq!(ejected, 1, "by a breaker: {by_breaker}");
    }
}
