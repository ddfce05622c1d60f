//! The policy that probes, through the public interface, in virtual time.

use std::{
    collections::HashMap,
    future::{Future, pending, ready},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    balance::{
        Aperture, Balance, BalanceConfig, Policy, Priorities, Probed, Probing, ProbingConfig,
        ProbingSnapshot, Zones,
    },
    call::Call,
    classify::PlainClassifier,
    endpoint::{Change, Endpoint, Open},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{ServiceExt, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SEED: u64 = 20_261_202;

type Answer = Pin<Box<dyn Future<Output = Result<u16, BoxError>> + Send>>;
type Asked = Pin<Box<dyn Future<Output = Result<Probed, BoxError>> + Send>>;
type Port = BoxCloneSyncService<Call<()>, u16, BoxError>;

/// A balancer whose policy probes, and what was asked.
struct Company {
    balance: Balance<Port, Open, PlainClassifier>,
    policy: Probing,
    changes: mpsc::UnboundedSender<Result<Change, BoxError>>,
    asked: Arc<Mutex<HashMap<u16, u32>>>,
    /// Probes whose future is alive.
    alive: Arc<AtomicU32>,
    failed: Arc<Mutex<Vec<String>>>,
}

struct Alive(Arc<AtomicU32>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Company {
    /// Of endpoints at ports 1 to `count`, which answer probes as `says`, and calls as `script`.
    async fn new<P: Policy + 'static>(
        count: u16,
        config: ProbingConfig,
        within: impl FnOnce(Probing) -> P,
        says: impl Fn(u16) -> Asked + Send + Sync + 'static,
        script: impl Fn(u16) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        eprintln!("seed {SEED}");
        let (asked, alive) = (Arc::<Mutex<HashMap<u16, u32>>>::default(), Arc::default());
        let failed = Arc::<Mutex<Vec<String>>>::default();
        let probe = {
            let (asked, alive) = (Arc::clone(&asked), Arc::<AtomicU32>::clone(&alive));
            move |endpoint: &Endpoint| {
                let port = endpoint.address().port();
                *lock(&asked).entry(port).or_default() += 1;
                alive.fetch_add(1, SeqCst);
                let (alive, said) = (Alive(Arc::clone(&alive)), says(port));
                async move {
                    let _alive = alive;
                    said.await
                }
            }
        };
        let policy = Probing::new(probe, config);
        let observer = {
            let failed = Arc::clone(&failed);
            Observer::new(move |event| {
                if let Event::LoadProbeFailed(endpoint, error) = event {
                    lock(&failed).push(format!("{}: {error}", endpoint.address().port()));
                }
            })
        };
        let config = BalanceConfig::new()
            .policy(within(policy.clone()))
            .entropy(Entropy::seeded(SEED))
            .observer(observer);
        let make = move |endpoint: &Endpoint| {
            let (port, script) = (endpoint.address().port(), script.clone());
            BoxCloneSyncService::new(tower::service_fn(move |_: Call<()>| script(port)))
        };
        let (changes, stream) = mpsc::unbounded_channel();
        let (open, stream) = (|_: &Endpoint| Open::new(), UnboundedReceiverStream::new(stream));
        let balance = Balance::new(config, stream, make, open, PlainClassifier::new());
        let balance = balance.expect("inside a runtime");
        let company = Self { balance, policy, changes, asked, alive, failed };
        company.say(Change::Reset((1..=count).map(endpoint).collect())).await;
        company
    }

    async fn say(&self, change: Change) {
        self.changes.send(Ok(change)).expect("the balancer listens");
        sleep(2 * MS).await;
    }

    /// How often each was called, of so many calls a millisecond after each other.
    async fn shares(&self, calls: u32) -> HashMap<u16, u32> {
        let mut shares = HashMap::new();
        for _ in 0..calls {
            if let Ok(port) = self.balance.clone().oneshot(Call::new(())).await {
                *shares.entry(port).or_default() += 1;
            }
            sleep(MS).await;
        }
        shares
    }

    fn asked(&self) -> u32 {
        lock(&self.asked).values().sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(port.to_string(), ([127, 0, 0, 1], port).into()).with_zone(if port % 2 == 0 {
        "even"
    } else {
        "odd"
    })
}

fn said(in_flight: f32, latency: Duration) -> Asked {
    Box::pin(ready(Ok(Probed::new(in_flight).with_latency(latency))))
}

fn echo(port: u16) -> Answer {
    Box::pin(ready(Ok(port)))
}

fn alone(policy: Probing) -> Probing {
    policy
}

/// All answer calls at once, so that nothing but the probes tells them apart: 1 is quick and has far too
/// much to do, 2 is slow, 3 is quick.
#[tokio::test(start_paused = true)]
async fn calls_go_where_the_answers_say() {
    let says = |port| match port {
        1 => said(50.0, MS),
        2 => said(0.0, 90 * MS),
        3 => said(1.0, 5 * MS),
        _ => said(1.0, 20 * MS),
    };
    let company = Company::new(10, ProbingConfig::new(), alone, says, echo).await;
    let shares = company.shares(400).await;
    let share = |port| shares.get(&port).copied().unwrap_or_default();
    assert_eq!((share(1), share(2)), (0, 0), "{shares:?}");
    assert!(share(3) > 100, "{shares:?}");
    let ProbingSnapshot { picks, without_answers, .. } = company.policy.snapshot();
    assert_eq!((picks, without_answers), (400, 0));
}

/// What a server does not say of its latency, its answers to calls say.
#[tokio::test(start_paused = true)]
async fn without_a_latency_that_of_the_calls_counts() {
    let says = |_| Box::pin(ready(Ok(Probed::new(1.0)))) as Asked;
    let script = |port: u16| {
        Box::pin(async move {
            sleep(if port <= 2 { 40 * MS } else { 4 * MS }).await;
            Ok(port)
        }) as Answer
    };
    let company = Company::new(8, ProbingConfig::new(), alone, says, script).await;
    company.shares(200).await;
    let shares = company.shares(400).await;
    let slow = shares.get(&1).unwrap_or(&0) + shares.get(&2).unwrap_or(&0);
    assert!(slow < 20, "{shares:?}");
    assert_eq!(company.policy.snapshot().without_answers, 0);
}

#[tokio::test(start_paused = true)]
async fn three_probes_a_call_and_three_in_each_half_second_of_silence() {
    let says = |_| said(0.0, MS);
    let company = Company::new(60, ProbingConfig::new(), alone, says, echo).await;
    assert_eq!(company.asked(), 16, "before the first call");
    company.shares(100).await;
    assert_eq!(company.asked(), 316);
    sleep(5 * SECOND).await;
    assert_eq!(company.asked(), 346);

    let few = ProbingConfig::new().rates(0.4, 0.1).and_then(|few| few.idle(None));
    let boxed = |policy| Box::new(policy) as Box<dyn Policy>;
    let company = Company::new(60, few.expect("more than go"), boxed, says, echo).await;
    assert_eq!(company.asked(), 16, "before the first call");
    company.shares(100).await;
    assert_eq!(company.asked(), 56);
    sleep(5 * SECOND).await;
    assert_eq!(company.asked(), 56);
}

/// Goal: probes that bring nothing hold up no call and no other probe. Of ten, 1 hangs, 2 fails, 3
/// panics twice and then fails, and 4 says what can't be.
#[tokio::test(start_paused = true)]
async fn a_probe_without_an_answer_is_an_event_and_no_more() {
    let panics = AtomicU32::new(0);
    let says = move |port| match port {
        1 => Box::pin(pending()) as Asked,
        3 if panics.fetch_add(1, SeqCst) < 2 => panic!("a probe panics, as the test wants it"),
        2 | 3 => Box::pin(ready(Err("no such page".into()))),
        4 => said(-1.0, MS),
        _ => said(1.0, MS),
    };
    let company = Company::new(10, ProbingConfig::new(), alone, says, echo).await;
    let shares = company.shares(1_000).await;
    assert_eq!(shares.values().sum::<u32>(), 1_000);
    assert!((5..=10).all(|port| shares[&port] > 50), "{shares:?}");
    let hung = lock(&company.asked)[&1];
    assert!((9..=11).contains(&hung), "one at a time, for 100 ms each: {hung}");
    {
        let failed = lock(&company.failed);
        for (text, least) in [
            ("1: the probe got no answer within 100ms", 8),
            ("2: no such page", 100),
            ("3: no such page", 100),
            ("4: a server can't have -1 requests in flight", 100),
        ] {
            let count = failed.iter().filter(|said| *said == text).count();
            assert!(count >= least, "{count} of {text}");
        }
    }
    let ProbingSnapshot { sent, failed, without_answers, .. } = company.policy.snapshot();
    assert!(failed > 300 && failed < sent / 2, "{failed} of {sent}");
    assert!(without_answers < 10, "{without_answers}");
}

#[tokio::test(start_paused = true)]
async fn where_no_probe_is_answered_calls_are_picked_as_if_nobody_probed() {
    let says = |_| Box::pin(ready(Err("no such page".into()))) as Asked;
    let company = Company::new(5, ProbingConfig::new(), Arc::new, says, echo).await;
    let shares = company.shares(1_000).await;
    assert!(company.asked() > 3_000 / 2, "{}", company.asked());
    assert!((1..=5).all(|port| shares[&port] > 120), "{shares:?}");
    assert_eq!(company.policy.snapshot().without_answers, 1_000);
}

#[tokio::test(start_paused = true)]
async fn the_probes_end_with_the_last_handle_of_the_balancer() {
    let says = |port| if port == 1 { Box::pin(pending()) as Asked } else { said(0.0, MS) };
    let limits = ProbingConfig::new().limits(60 * SECOND, 64).expect("a minute");
    let company = Company::new(3, limits, alone, says, echo).await;
    company.shares(10).await;
    assert_eq!(company.alive.load(SeqCst), 1, "the one that hangs");
    let other = company.balance.clone();
    let Company { balance, policy, asked, alive, .. } = company;
    drop(balance);
    let count = || lock(&asked).values().sum::<u32>();
    let before = count();
    sleep(2 * SECOND).await;
    assert!(count() > before, "another handle is alive");
    drop(other);
    let before = count();
    sleep(5 * SECOND).await;
    assert_eq!((count(), alive.load(SeqCst)), (before, 0));
    assert_eq!(policy.snapshot().under_way, 0);
}

/// It fails each call at once, so it has nothing to do, and says so.
#[tokio::test(start_paused = true)]
async fn one_that_fails_and_is_idle_is_no_sink() {
    let failed = Arc::new(AtomicU32::new(0));
    let script = {
        let failed = Arc::clone(&failed);
        move |port| {
            if port == 1 {
                failed.fetch_add(1, SeqCst);
                return Box::pin(ready(Err("down".into()))) as Answer;
            }
            echo(port)
        }
    };
    let says = |port| if port == 1 { said(0.0, MS / 10) } else { said(3.0, 20 * MS) };
    let company = Company::new(10, ProbingConfig::new(), alone, says, script).await;
    let shares = company.shares(2_000).await;
    assert!(failed.load(SeqCst) < 20, "{failed:?} calls for one that is down");
    assert!(shares.values().sum::<u32>() > 1_980, "{shares:?}");
}

/// It says that it is idle, and so it is: a connection pool to fill, code to warm up.
#[tokio::test(start_paused = true)]
async fn one_that_joins_the_others_is_not_rushed() {
    let says = |port| if port == 11 { said(0.0, MS / 10) } else { said(3.0, 20 * MS) };
    let company = Company::new(10, ProbingConfig::new(), alone, says, echo).await;
    company.shares(100).await;
    company.say(Change::Add(endpoint(11))).await;
    let early = company.shares(1_000).await.get(&11).copied().unwrap_or_default();
    sleep(30 * SECOND).await;
    let late = company.shares(1_000).await.get(&11).copied().unwrap_or_default();
    assert!(early > 10 && early * 4 < late, "{early} in its first second, {late} in its 31st");
}

/// Goal: what is known is not lost when pickers are made anew, as within groups it is every second, or
/// with each change of the set.
#[tokio::test(start_paused = true)]
async fn a_new_picker_goes_on_with_what_is_known() {
    let says = |port| if port == 1 { said(9.0, 90 * MS) } else { said(1.0, MS) };
    let near = |policy| Priorities::new(Zones::new("odd", policy));
    let company = Company::new(20, ProbingConfig::new(), near, says, echo).await;
    for round in 1..=5 {
        for port in 1..=20 {
            // Every fifth call is the first after a change.
            company.say(Change::Add(endpoint(port).with_weight(1 + round))).await;
            let shares = company.shares(5).await;
            assert_eq!(shares.get(&1), None, "{shares:?}");
        }
        sleep(1_100 * MS).await;
    }
    let ProbingSnapshot { picks, without_answers, .. } = company.policy.snapshot();
    assert_eq!(picks, 500);
    assert_eq!(without_answers, 0);
}

#[tokio::test(start_paused = true)]
async fn only_who_is_in_the_aperture_is_asked() {
    let peers = std::num::NonZeroU32::new(5).expect("5 is not 0");
    let narrow = |policy| Aperture::new(2, peers, policy).and_then(|it| it.least(4)).expect("four");
    let says = |_| said(1.0, MS);
    let company = Company::new(20, ProbingConfig::new(), narrow, says, echo).await;
    let shares = company.shares(200).await;
    let asked = lock(&company.asked).len();
    assert!((4..=6).contains(&asked) && shares.len() <= asked, "{asked} were asked: {shares:?}");
    assert_eq!(company.policy.snapshot().without_answers, 0);
}

#[tokio::test(start_paused = true)]
async fn operators_are_told() {
    let says = |_| said(1.0, MS);
    let company = Company::new(30, ProbingConfig::new(), alone, says, echo).await;
    company.shares(20).await;
    let snapshot = company.balance.snapshot();
    assert_eq!(snapshot.probing, Some(company.policy.snapshot()));
    let probing = snapshot.probing.expect("it probes");
    assert_eq!((probing.sent, probing.picks, probing.failed), (76, 20, 0));
    assert!((3..=16).contains(&probing.pooled), "{probing:?}");
    let text = snapshot.to_string();
    assert!(text.contains("76 probes, 0 without an answer, 0 under way"), "{text}");
    assert!(text.contains("20 picks, 0 without them"), "{text}");
}
