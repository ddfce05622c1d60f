//! Third ring: a fleet of servers that fail in all the ways that servers fail, in virtual time.
//!
//! Calls arrive as an open loop (Poisson; they don't wait for each other) at the stack that the
//! client has: deadline > retry > balance > attempt timeout > server. Everything is drawn from
//! one seed, which is printed when a test fails; `BUTTRESS_SEED` sets another.

use std::{
    future::{Future, pending},
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    balance::{Balance, BalanceConfig},
    call::{Call, Words},
    classify::HttpClassifier,
    endpoint::{Endpoint, Fixed, Open},
    retry::{RetryConfig, RetryLayer},
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
};
use bytes::Bytes;
use http::{Request, Response, header::RETRY_AFTER};
use http_body_util::{BodyExt, Empty, Full};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};
use tower::{Layer, Service, ServiceExt};

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
#[derive(Clone)]
struct Chance(Arc<Mutex<u64>>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    fn unit(&self) -> f64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // xorshift64*; a seed of zero would stay zero.
        let mut x = *state | u64::from(*state == 0);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        *state = x;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.unit()).ln())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// The connection is refused.
    Dead,
    /// Takes the request and says nothing.
    Hang,
    /// 503 at once.
    Sink,
    /// This much longer.
    Slow(Duration),
    /// 500 to this share of calls, at once.
    Fail(f64),
    /// 429 with a `Retry-After` in seconds.
    Overload(u32),
}

#[derive(Clone, Copy)]
struct Fault {
    server: usize,
    from: f64,
    until: f64,
    kind: Kind,
}

const fn fault(server: usize, from: f64, until: f64, kind: Kind) -> Fault {
    Fault { server, from, until, kind }
}

struct Plan {
    servers: usize,
    /// Calls per second.
    rate: f64,
    seconds: f64,
    /// The mean of a server's service time.
    service_time: Duration,
    /// How many calls a server works on at a time; the others queue.
    capacity: usize,
    faults: Vec<Fault>,
}

impl Plan {
    fn new(seconds: f64, faults: impl Into<Vec<Fault>>) -> Self {
        Self {
            servers: 5,
            rate: 200.0,
            seconds,
            service_time: Duration::from_millis(10),
            capacity: 8,
            faults: faults.into(),
        }
    }
}

/// One request as a server saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hit {
    at: f64,
    server: usize,
}

/// One call as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    at: f64,
    ok: bool,
    took: f64,
}

#[derive(Debug, Default, PartialEq)]
struct Report {
    hits: Vec<Hit>,
    calls: Vec<Outcome>,
}

impl Report {
    fn within(&self, from: f64, until: f64) -> Self {
        let within = |at: f64| (from..until).contains(&at);
        Self {
            hits: self.hits.iter().copied().filter(|hit| within(hit.at)).collect(),
            calls: self.calls.iter().copied().filter(|call| within(call.at)).collect(),
        }
    }

    fn success(&self) -> f64 {
        self.calls.iter().filter(|call| call.ok).count() as f64 / self.calls.len() as f64
    }

    fn attempts_per_call(&self) -> f64 {
        self.hits.len() as f64 / self.calls.len() as f64
    }

    fn share(&self, server: usize) -> f64 {
        let hits = self.hits.iter().filter(|hit| hit.server == server).count();
        hits as f64 / self.hits.len() as f64
    }

    /// In seconds.
    fn quantile(&self, q: f64) -> f64 {
        let mut took: Vec<f64> = self.calls.iter().map(|call| call.took).collect();
        took.sort_unstable_by(f64::total_cmp);
        took[((took.len() - 1) as f64 * q) as usize]
    }
}

struct World {
    began: Instant,
    chance: Chance,
    plan: Plan,
    report: Mutex<Report>,
}

impl World {
    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn note(&self, note: impl FnOnce(&mut Report)) {
        note(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Clone)]
struct Server {
    index: usize,
    world: Arc<World>,
    slots: Arc<Semaphore>,
}

type Attempted = Call<Request<buttress::body::ReplayBody<Empty<Bytes>>>>;

impl Service<Attempted> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Attempted) -> Self::Future {
        Box::pin(self.clone().serve())
    }
}

impl Server {
    async fn serve(self) -> Result<Response<Full<Bytes>>, BoxError> {
        let at = self.world.now();
        self.world.note(|report| report.hits.push(Hit { at, server: self.index }));
        let plan = &self.world.plan;
        let mut extra = Duration::ZERO;
        let faults = plan.faults.iter().filter(|fault| fault.server == self.index);
        for fault in faults.filter(|fault| (fault.from..fault.until).contains(&at)) {
            match fault.kind {
                Kind::Dead => return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
                Kind::Hang => pending().await,
                Kind::Sink => return answer(503, None),
                Kind::Slow(by) => extra += by,
                Kind::Fail(share) if self.world.chance.unit() < share => return answer(500, None),
                Kind::Fail(_) => {}
                Kind::Overload(retry_after) => return answer(429, Some(retry_after)),
            }
        }
        let _slot = self.slots.acquire().await?;
        sleep(self.world.chance.exponential(plan.service_time) + extra).await;
        answer(200, None)
    }
}

fn answer(status: u16, retry_after: Option<u32>) -> Result<Response<Full<Bytes>>, BoxError> {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    Ok(response.body(Full::from("done"))?)
}

async fn simulate(seed: u64, plan: Plan) -> Report {
    let (chance, entropy) = (Chance::new(seed), Entropy::seeded(seed));
    let (servers, seconds, rate) = (plan.servers, plan.seconds, plan.rate);
    let world = Arc::new(World { began: Instant::now(), chance, plan, report: Mutex::default() });
    let endpoints: Vec<Endpoint> = (0..servers)
        .map(|index| Endpoint::new(index.to_string(), ([127, 0, 0, 1], 1 + index as u16).into()))
        .collect();
    let timeout = AttemptTimeoutLayer::new(Duration::from_millis(300)).expect("above zero");
    let make = {
        let world = Arc::clone(&world);
        move |endpoint: &Endpoint| {
            let index = endpoint.id().parse().expect("made above from a number");
            let slots = Arc::new(Semaphore::new(world.plan.capacity));
            timeout.layer(Server { index, world: Arc::clone(&world), slots })
        }
    };
    let balance = Balance::new(
        BalanceConfig::new().entropy(entropy.fork()),
        Fixed::new(endpoints),
        make,
        |_: &Endpoint| Open::new(),
        HttpClassifier::new(),
    )
    .expect("inside a runtime");
    let retry = RetryLayer::new(RetryConfig::new().entropy(entropy.fork()), HttpClassifier::new());
    let deadline = DeadlineLayer::new(Duration::from_secs(1)).expect("above zero");
    let stack = deadline.layer(retry.layer(balance));

    let mut calls = tokio::task::JoinSet::new();
    let mut planned = world.began;
    loop {
        planned += world.chance.exponential(Duration::from_secs_f64(1.0 / rate));
        let at = (planned - world.began).as_secs_f64();
        if at >= seconds {
            break;
        }
        sleep_until(planned).await;
        let (stack, world) = (stack.clone(), Arc::clone(&world));
        calls.spawn(async move {
            let ok = call(stack).await.is_ok_and(|status| status == 200);
            // Latency counts from the planned arrival.
            let took = planned.elapsed().as_secs_f64();
            world.note(|report| report.calls.push(Outcome { at, ok, took }));
        });
    }
    while calls.join_next().await.is_some() {}
    let mut report = world.report.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *report)
}

async fn call<S, B>(stack: S) -> Result<u16, BoxError>
where
    S: Service<Call<Request<Empty<Bytes>>>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let call = Call::with_words(Request::new(Empty::new()), Words::new());
    let response = stack.oneshot(call).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await.map_err(Into::into)?;
    Ok(status)
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_run() {
    let seed = seed();
    let plan = || Plan::new(3.0, [fault(0, 0.5, 2.0, Kind::Fail(0.5))]);
    let first = simulate(seed, plan()).await;
    assert_eq!(first, simulate(seed, plan()).await);
    assert_ne!(first, simulate(seed.wrapping_add(1), plan()).await);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_fleet_shares_the_work_and_needs_no_retries() {
    let report = simulate(seed(), Plan::new(20.0, [])).await;
    assert_eq!(report.success(), 1.0);
    assert_eq!(report.attempts_per_call(), 1.0);
    for server in 0..5 {
        let share = report.share(server);
        assert!((0.15..0.25).contains(&share), "{server} has {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_of_five_are_dead_and_nobody_notices() {
    let faults = [fault(1, 2.0, 22.0, Kind::Dead), fault(3, 2.0, 22.0, Kind::Dead)];
    let report = simulate(seed(), Plan::new(30.0, faults)).await;
    let during = report.within(2.0, 22.0);
    assert!(during.success() >= 0.999, "{}", during.success());
    assert!(during.attempts_per_call() <= 1.3, "{}", during.attempts_per_call());
    assert!(during.quantile(0.99) < 0.15, "{}", during.quantile(0.99));
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_503_at_once_is_no_sink() {
    for rate in [20.0, 200.0, 2000.0] {
        let faults = [fault(2, 2.0, 12.0, Kind::Sink)];
        let plan = Plan { rate, capacity: 64, ..Plan::new(12.0, faults) };
        let during = simulate(seed(), plan).await.within(2.0, 12.0);
        assert!(during.share(2) <= 0.05, "{} at {rate}", during.share(2));
        assert!(during.success() >= 0.999, "{} at {rate}", during.success());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_half_of_its_calls_gets_few() {
    let faults = [fault(2, 2.0, 12.0, Kind::Fail(0.5))];
    let during = simulate(seed(), Plan::new(12.0, faults)).await.within(2.0, 12.0);
    assert!(during.share(2) <= 0.05, "{}", during.share(2));
    assert!(during.success() >= 0.999, "{}", during.success());
}

#[tokio::test(start_paused = true)]
async fn a_slow_one_costs_the_others_nothing_and_gets_its_share_back() {
    let slow = Kind::Slow(Duration::from_millis(250));
    let report = simulate(seed(), Plan::new(60.0, [fault(2, 2.0, 32.0, slow)])).await;
    let during = report.within(2.0, 32.0);
    assert!(during.quantile(0.99) < 0.1, "{}", during.quantile(0.99));
    assert!(during.share(2) < 0.01, "{}", during.share(2));
    // Half of its fair share within twelve seconds of its healing.
    let after = report.within(44.0, 49.0);
    assert!(after.share(2) > 0.1, "{}", after.share(2));
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_costs_few_calls_an_attempt() {
    let report = simulate(seed(), Plan::new(40.0, [fault(2, 2.0, 12.0, Kind::Hang)])).await;
    let during = report.within(2.0, 12.0);
    assert!(during.success() >= 0.999, "{}", during.success());
    assert!(during.share(2) < 0.02, "{}", during.share(2));
    assert!(during.quantile(0.99) < 0.45, "{}", during.quantile(0.99));
    let after = report.within(18.0, 23.0);
    assert!(after.share(2) > 0.1, "{}", after.share(2));
}

#[tokio::test(start_paused = true)]
async fn one_that_asks_to_be_left_alone_is() {
    let faults = [fault(2, 2.0, 12.0, Kind::Overload(2))];
    let during = simulate(seed(), Plan::new(12.0, faults)).await.within(2.0, 12.0);
    assert!(during.success() >= 0.999, "{}", during.success());
    let hits = during.hits.iter().filter(|hit| hit.server == 2).count();
    // Once every two seconds, and those that were on their way at that moment.
    assert!(hits <= 20, "{hits}");
}

#[tokio::test(start_paused = true)]
async fn a_brown_out_of_all_is_not_made_worse_and_passes() {
    let faults: Vec<Fault> = (0..5).map(|server| fault(server, 5.0, 7.0, Kind::Sink)).collect();
    let report = simulate(seed(), Plan::new(25.0, faults)).await;
    // The budget pays for some retries, and then for no more.
    let during = report.within(5.0, 7.0);
    assert!(during.attempts_per_call() < 1.3, "{}", during.attempts_per_call());
    let after = report.within(7.2, 12.0);
    assert!(after.success() >= 0.999, "{}", after.success());
    assert!(after.attempts_per_call() < 1.05, "{}", after.attempts_per_call());
    // Nobody is rushed, and after the longest doubt nobody is shunned.
    for (from, until, fair) in [(7.5, 9.5, 0.0..0.45), (13.5, 25.0, 0.12..0.28)] {
        let after = report.within(from, until);
        for server in 0..5 {
            let share = after.share(server);
            assert!(fair.contains(&share), "{server} has {share} from {from} on");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stray_failure_shuns_nobody() {
    let mut faults: Vec<Fault> =
        (0..5).map(|server| fault(server, 0.0, 20.0, Kind::Fail(0.01))).collect();
    faults.push(fault(4, 5.0, 5.02, Kind::Sink));
    let report = simulate(seed(), Plan::new(20.0, faults)).await;
    assert!(report.success() >= 0.999, "{}", report.success());
    let after = report.within(5.5, 8.5);
    assert!(after.share(4) > 0.1, "{}", after.share(4));
}
