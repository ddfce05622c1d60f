//! Third ring: what hedging does to the tail, and what it costs, in virtual time.
//!
//! Everything is drawn from one seed, which is printed when a test fails; `BUTTRESS_SEED` sets
//! another.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    balance::{Balance, BalanceConfig},
    call::{Call, Target, Words, mark_target},
    classify::PlainClassifier,
    endpoint::{Endpoint, EndpointKey, Fixed, Open},
    hedge::{HedgeConfig, HedgeLayer},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

const DEFAULT_SEED: u64 = 20_261_123;

fn seed() -> u64 {
    let seed = match std::env::var("BUTTRESS_SEED") {
        Ok(text) => text.parse().expect("BUTTRESS_SEED is a whole number"),
        Err(_) => DEFAULT_SEED,
    };
    // The harness shows it when the test fails.
    eprintln!("BUTTRESS_SEED={seed}");
    seed
}

/// The test's own chance: the library's generator draws for itself.
struct Chance(u64);

impl Chance {
    /// In `(0, 1]`, by xorshift64*; a seed of zero would stay zero.
    fn unit(&mut self) -> f64 {
        let mut x = self.0 | u64::from(self.0 == 0);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        1.0 - (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn quantile<T: Copy + PartialOrd>(values: &mut [T], q: f64) -> T {
    values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    values[((values.len() - 1) as f64 * q) as usize]
}

// --- The Tail at Scale ------------------------------------------------------------------------
//
// J. Dean, L. Barroso, CACM 56(2), 2013, "Hedged requests": a read of 1,000 keys from 100 servers
// of a BigTable, hedged after 10 ms, took 74 ms in place of 1,800 ms at its p99.9, for 2 % more
// requests. The latency of one key is modelled by what that says of it: one request in a
// thousand has a key in a million that takes more than 1,800 ms, and two keys in a hundred take
// more than 10 ms. In between, 1e-3 take more than 70 ms, since of 1,000 keys whose second
// attempts all begin at 10 ms one in a thousand takes more than 74.

/// What share of keys takes longer than so many milliseconds: log S is linear in log t between.
const SURVIVAL: [(f64, f64); 4] = [(1.0, 1.0), (10.0, 2e-2), (70.0, 1e-3), (1800.0, 1e-6)];
const KEYS: u32 = 1_000;
const HEDGED_AT: f64 = 10.0;

/// The latency, in milliseconds, that this share of keys exceeds.
fn latency(survival: f64) -> f64 {
    let end = SURVIVAL.iter().skip(1).position(|&(_, share)| share <= survival);
    let end = end.map_or(SURVIVAL.len() - 1, |index| index + 1);
    let ((t0, s0), (t1, s1)) = (SURVIVAL[end - 1], SURVIVAL[end]);
    let slope = (t1 / t0).ln() / (s1 / s0).ln();
    t0 * (survival / s0).powf(slope)
}

/// The share of keys that takes longer: the inverse of [`latency`].
fn survival(ms: f64) -> f64 {
    let end = SURVIVAL.iter().skip(1).position(|&(t, _)| ms <= t);
    let end = end.map_or(SURVIVAL.len() - 1, |index| index + 1);
    let ((t0, s0), (t1, s1)) = (SURVIVAL[end - 1], SURVIVAL[end]);
    s0 * (ms / t0).powf((s1 / s0).ln() / (t1 / t0).ln())
}

/// What a key takes whose attempts take so long, by the rule that the real layer is held to in
/// [`the_real_layer_does_what_the_model_of_the_tail_at_scale_does`].
fn hedged(first: f64, second: f64) -> f64 {
    if first <= HEDGED_AT { first } else { first.min(HEDGED_AT + second) }
}

#[test]
fn the_model_has_the_survival_that_it_was_given() {
    for (ms, share) in SURVIVAL {
        assert!((latency(share) - ms).abs() < 1e-9 * ms, "{share}: {}", latency(share));
        assert!((survival(ms) - share).abs() < 1e-9 * share, "{ms}: {}", survival(ms));
    }
    assert!((latency(2e-2_f64.sqrt() * 1e-3_f64.sqrt()) - 700_f64.sqrt()).abs() < 1e-9);
}

/// The figures of the paper, from requests enough that a p99.9 is told to less than 2 %.
///
/// Of a request's thousand keys only those slower than 10 ms (20 of them) are drawn: how many
/// fast ones lie between two slow ones is geometric, and no fast one is the slowest of a request
/// that has a slow one.
#[test]
fn hedged_at_10_ms_a_request_of_1000_keys_takes_74_ms_at_its_p999_for_2_percent() {
    const REQUESTS: u32 = 300_000;
    let mut chance = Chance(seed());
    let fast = 0.98_f64.ln();
    let mut slow_keys = 0_u64;
    let (mut plain, mut raced) = (Vec::new(), Vec::new());
    for _ in 0..REQUESTS {
        // Of the slowest key, unhedged and hedged: it is slower than all but this share of keys.
        let (mut share, mut share_raced) = (0.02_f64, 0.02);
        let mut slowest_raced = HEDGED_AT;
        let mut key = 0.0;
        loop {
            key += (chance.unit().ln() / fast).floor() + 1.0;
            if key > f64::from(KEYS) {
                break;
            }
            slow_keys += 1;
            let first = 0.02 * chance.unit();
            share = share.min(first);
            // A second attempt matters only where the first would have been the slowest.
            if first < share_raced {
                let took = hedged(latency(first), latency(chance.unit()));
                if took > slowest_raced {
                    (slowest_raced, share_raced) = (took, survival(took));
                }
            }
        }
        plain.push(latency(share));
        raced.push(slowest_raced);
    }
    // The plain tail is flatter, so its p99.9 needs more requests: of independent keys, the
    // slowest of a thousand is below t with probability (1 − S)^1000.
    for _ in 0..4 * REQUESTS {
        let share = -(chance.unit().ln() / f64::from(KEYS)).exp_m1();
        plain.push(latency(share.min(0.02)));
    }
    let extra = slow_keys as f64 / (f64::from(KEYS) * f64::from(REQUESTS));
    let (plain, raced) = (quantile(&mut plain, 0.999), quantile(&mut raced, 0.999));
    eprintln!("p99.9 {plain:.0} ms, hedged {raced:.1} ms, {:.2} % more calls", 100.0 * extra);
    assert!((plain / 1800.0 - 1.0).abs() < 0.05, "{plain} ms");
    assert!((raced / 74.0 - 1.0).abs() < 0.05, "{raced} ms");
    assert!((extra / 0.02 - 1.0).abs() < 0.05, "{extra}");
}

/// Attempts take what they were drawn to take.
#[derive(Clone)]
struct Keys {
    /// Of each key, the latencies of its attempts in whole milliseconds.
    latencies: Arc<Vec<[u64; 2]>>,
    calls: Arc<AtomicU64>,
}

impl Service<Call<u64>> for Keys {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call<u64>) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        let attempt = call.words.attempt.saturating_sub(1) as usize;
        let ms = self.latencies[call.request as usize][attempt];
        Box::pin(async move {
            sleep(Duration::from_millis(ms)).await;
            Ok(())
        })
    }
}

/// Method: requests of a thousand keys, each key a call of the real layer; every latency must be
/// the model's for the same draws, to the millisecond, and so must the number of calls.
#[tokio::test(start_paused = true)]
async fn the_real_layer_does_what_the_model_of_the_tail_at_scale_does() -> Result<(), BoxError> {
    const REQUESTS: u32 = 40;
    let mut chance = Chance(seed());
    let mut draw = || latency(chance.unit()).ceil() as u64;
    let drawn: Vec<[u64; 2]> = (0..REQUESTS * KEYS).map(|_| [draw(), draw()]).collect();
    let (latencies, calls) = (Arc::new(drawn), Arc::new(AtomicU64::new(0)));
    let leaf = Keys { latencies: Arc::clone(&latencies), calls: Arc::clone(&calls) };
    let config = HedgeConfig::after(Duration::from_millis(HEDGED_AT as u64))?.burst(100)?;
    let stack = HedgeLayer::new(config, PlainClassifier::new()).layer(leaf);
    for request in 0..REQUESTS {
        let began = Instant::now();
        let mut keys = JoinSet::new();
        for key in request * KEYS..(request + 1) * KEYS {
            let call = Call::with_words(u64::from(key), Words::new().idempotent(true));
            let call = stack.clone().oneshot(call);
            keys.spawn(async move {
                call.await?;
                Ok::<_, BoxError>((key, began.elapsed().as_millis() as f64))
            });
        }
        while let Some(key) = keys.join_next().await {
            let (key, took) = key??;
            let [first, second] = latencies[key as usize].map(|ms| ms as f64);
            assert_eq!(took, hedged(first, second), "key {key}: {first}, {second}");
        }
    }
    let slow = latencies.iter().filter(|[first, _]| *first as f64 > HEDGED_AT).count() as u64;
    let keys = u64::from(REQUESTS * KEYS);
    assert_eq!(calls.load(SeqCst), keys + slow);
    let extra = slow as f64 / keys as f64;
    eprintln!("{:.2} % more calls", 100.0 * extra);
    assert!((extra / 0.02 - 1.0).abs() < 0.15, "{extra}");
    Ok(())
}

// --- A delay that follows the latencies -------------------------------------------------------

/// Five instances. A call takes 10 ms in the mean, but `stall` says how much longer at this
/// second, at this instance, for this draw.
struct Plan {
    seconds: f64,
    /// Calls per second.
    rate: f64,
    stall: fn(second: f64, instance: u16, draw: f64) -> f64,
    picks: Picks,
    hedge: Option<HedgeConfig>,
}

/// How an instance is picked.
#[derive(Clone, Copy)]
enum Picks {
    /// By the balancer, which learns who is slow.
    Balanced,
    /// At random, but not twice for one call: nobody learns anything.
    AtRandom,
}

#[derive(Clone)]
struct Instance {
    number: u16,
    world: Arc<World>,
}

struct World {
    began: Instant,
    chance: Mutex<Chance>,
    stall: fn(f64, u16, f64) -> f64,
    /// When each attempt arrived.
    attempts: Mutex<Vec<f64>>,
}

impl Service<Call<u64>> for Instance {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call<u64>) -> Self::Future {
        let Self { number, world } = self.clone();
        Box::pin(async move {
            let at = world.began.elapsed().as_secs_f64();
            lock(&world.attempts).push(at);
            let (work, draw) = {
                let mut chance = lock(&world.chance);
                (-0.01 * chance.unit().ln(), chance.unit())
            };
            let takes = work + (world.stall)(at, number, draw);
            sleep(Duration::from_secs_f64(takes)).await;
            Ok(())
        })
    }
}

struct Report {
    /// When each call began and how long it took, in seconds.
    calls: Vec<(f64, f64)>,
    attempts: Vec<f64>,
    /// When a hedge was refused, and why.
    refused: Vec<(f64, &'static str)>,
}

impl Report {
    fn quantile(&self, from: f64, until: f64, q: f64) -> f64 {
        let within = self.calls.iter().filter(|(at, _)| (from..until).contains(at));
        quantile(&mut within.map(|&(_, took)| took).collect::<Vec<_>>(), q)
    }

    fn calls(&self, from: f64, until: f64) -> f64 {
        self.calls.iter().filter(|(at, _)| (from..until).contains(at)).count() as f64
    }

    /// How many attempts were made beyond one a call.
    fn extra(&self, from: f64, until: f64) -> f64 {
        let attempts = self.attempts.iter().filter(|at| (from..until).contains(*at)).count();
        attempts as f64 - self.calls(from, until)
    }

    fn refused(&self, from: f64, until: f64, why: &str) -> f64 {
        let within = |&&(at, reason): &&(f64, &str)| (from..until).contains(&at) && reason == why;
        self.refused.iter().filter(within).count() as f64
    }
}

type Picked = BoxCloneSyncService<Call<u64>, (), BoxError>;

fn balanced(seed: u64, instance: impl Fn(u16) -> Instance + Send + Sync + 'static) -> Picked {
    let endpoints = (1..=5).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let balance = Balance::new(
        BalanceConfig::new().entropy(Entropy::seeded(seed)),
        Fixed::new(endpoints),
        move |endpoint: &Endpoint| instance(endpoint.address().port()),
        |_: &Endpoint| Open::new(),
        PlainClassifier::new(),
    );
    Picked::new(balance.expect("inside a runtime"))
}

fn at_random(seed: u64, instance: impl Fn(u16) -> Instance) -> Picked {
    let target = |port| Target::new(EndpointKey::unique(), ([127, 0, 0, 1], port).into());
    let instances: Vec<_> = (1..=5).map(|port| (target(port), instance(port))).collect();
    let chance = Arc::new(Mutex::new(Chance(seed.rotate_left(32))));
    Picked::new(service_fn(move |call: Call<u64>| {
        let untried: Vec<_> =
            instances.iter().filter(|(target, _)| !call.words.tried.contains(target.key)).collect();
        let pick = (lock(&chance).unit() * untried.len() as f64).ceil() as usize - 1;
        let (target, mut instance) = untried[pick].clone();
        async move {
            mark_target(target);
            instance.call(call).await
        }
    }))
}

async fn simulate(seed: u64, plan: Plan) -> Report {
    let began = Instant::now();
    let world = Arc::new(World {
        began,
        chance: Mutex::new(Chance(seed)),
        stall: plan.stall,
        attempts: Mutex::default(),
    });
    let refused = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&refused);
    let observer = Observer::new(move |event| {
        if let Event::NotHedged { reason } = event {
            lock(&log).push((began.elapsed().as_secs_f64(), *reason));
        }
    });
    let instance = {
        let world = Arc::clone(&world);
        move |number| Instance { number, world: Arc::clone(&world) }
    };
    let picked = match plan.picks {
        Picks::Balanced => balanced(seed, instance),
        Picks::AtRandom => at_random(seed, instance),
    };
    let stack = match plan.hedge {
        Some(config) => {
            let layer = HedgeLayer::new(config.observer(observer), PlainClassifier::new());
            Picked::new(layer.layer(picked))
        }
        None => picked,
    };

    let mut arrivals = Chance(!seed);
    let mut calls = JoinSet::new();
    let mut planned = began;
    loop {
        planned += Duration::from_secs_f64(-arrivals.unit().ln() / plan.rate);
        let at = (planned - began).as_secs_f64();
        if at >= plan.seconds {
            break;
        }
        sleep_until(planned).await;
        let call = Call::with_words(0, Words::new().idempotent(true));
        let call = stack.clone().oneshot(call);
        calls.spawn(async move {
            call.await.expect("no instance fails");
            (at, planned.elapsed().as_secs_f64())
        });
    }
    let calls = calls.join_all().await;
    let (attempts, refused) = (lock(&world.attempts).clone(), lock(&refused).clone());
    Report { calls, attempts, refused }
}

/// One of five instances pauses for a third of a second, at each fifth of its calls.
fn one_of_five_pauses(_: f64, instance: u16, draw: f64) -> f64 {
    if instance == 3 && draw < 0.2 { 0.3 } else { 0.0 }
}

/// Of all calls 4 % meet a pause where nobody learns: fewer than the 5 % that are hedged.
#[tokio::test(start_paused = true)]
async fn one_slow_instance_of_five_no_longer_makes_the_p99() {
    let plan = |hedge| {
        let picks = Picks::AtRandom;
        Plan { seconds: 60.0, rate: 200.0, stall: one_of_five_pauses, picks, hedge }
    };
    let plain = simulate(seed(), plan(None)).await;
    let hedged = simulate(seed(), plan(Some(HedgeConfig::new()))).await;
    assert_eq!(plain.extra(0.0, f64::MAX), 0.0);
    // After the first look at the latencies.
    let p99 = |report: &Report| report.quantile(5.0, 60.0, 0.99);
    eprintln!("p99 {:.3} s, hedged {:.3} s", p99(&plain), p99(&hedged));
    assert!(p99(&plain) > 0.3, "{}", p99(&plain));
    assert!(p99(&hedged) < 0.1, "{}", p99(&hedged));
    let (calls, extra) = (hedged.calls(0.0, 60.0), hedged.extra(0.0, f64::MAX));
    eprintln!("{extra} more than {calls} calls");
    assert!(extra <= 0.05 * calls + 10.0, "{extra} more than {calls}");
}

/// Everything is many times as slow from the 20th second to the 60th.
fn all_are_slow(second: f64, _: u16, draw: f64) -> f64 {
    if (20.0..60.0).contains(&second) { 0.3 * draw } else { 0.0 }
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_slow_the_allowance_ends_hedging_and_the_delay_follows() {
    let hedge = Some(HedgeConfig::new());
    let picks = Picks::Balanced;
    let plan = Plan { seconds: 100.0, rate: 200.0, stall: all_are_slow, picks, hedge };
    let report = simulate(seed(), plan).await;
    for second in 0..100 {
        // No window of whatever length has more than its share and a burst. (Those that waited
        // when it began, and end in it, pay in too: at 200 a second fewer than a hundred.)
        for until in [1.0, 5.0, 40.0].map(|length| f64::from(second) + length) {
            let from = f64::from(second);
            let (calls, extra) = (report.calls(from, until), report.extra(from, until));
            assert!(extra <= 0.05 * (calls + 100.0) + 10.0, "{extra} from {from} to {until}");
        }
    }
    // At first nearly all calls are slower than the delay, and nearly none is hedged.
    let (calls, refused) = (report.calls(20.0, 23.0), report.refused(20.0, 23.0, "extra_load"));
    assert!(refused > 0.6 * calls, "{refused} of {calls}");
    // Then the delay is that of the slow time.
    let refused = report.refused(35.0, 60.0, "extra_load");
    assert!(refused < 0.02 * report.calls(35.0, 60.0), "{refused}");
    // As long as it is remembered no call is slow enough for a hedge, and then some are again.
    assert!(report.extra(62.0, 70.0) <= 2.0, "{}", report.extra(62.0, 70.0));
    let (calls, extra) = (report.calls(85.0, 100.0), report.extra(85.0, 100.0));
    assert!((0.01..0.06).contains(&(extra / calls)), "{extra} of {calls}");
}
