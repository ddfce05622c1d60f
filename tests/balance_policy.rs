//! The ways to pick an endpoint, through the public interface, in virtual time.

use std::{
    collections::HashMap,
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    balance::{
        Balance, BalanceConfig, Candidates, LeastRequest, Member, NoEndpoint, PeakEwma, Picker,
        Policy, RoundRobin, Weighted,
    },
    call::{Call, Words},
    classify::{HttpClassifier, PlainClassifier},
    endpoint::{Change, Endpoint, Fixed, Health, Open},
    find,
};
use futures_util::FutureExt;
use http::Response;
use tokio::time::sleep;
use tower::{ServiceExt, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);
const SEED: u64 = 20_261_126;

type Answer = Pin<Box<dyn Future<Output = Result<u16, BoxError>> + Send>>;
type Port = BoxCloneSyncService<Call<()>, u16, BoxError>;

/// A balancer over endpoints `0..count`, which answer as the script says.
fn balance(
    config: BalanceConfig,
    count: u16,
    script: impl Fn(u16) -> Answer + Clone + Send + Sync + 'static,
) -> Balance<Port, Open, PlainClassifier> {
    let endpoints: Vec<Endpoint> =
        (0..count).map(|port| endpoint(port).with_weight(u32::from(port % 3) + 1)).collect();
    let make = move |endpoint: &Endpoint| {
        let (port, script) = (endpoint.address().port() - 1, script.clone());
        BoxCloneSyncService::new(tower::service_fn(move |_: Call<()>| script(port)))
    };
    eprintln!("seed {SEED}");
    let config = config.entropy(Entropy::seeded(SEED));
    let open = |_: &Endpoint| Open::new();
    Balance::new(config, Fixed::new(endpoints), make, open, PlainClassifier::new())
        .expect("inside a runtime")
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(port.to_string(), at(port))
}

fn at(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port + 1).into()
}

fn echo(port: u16) -> Answer {
    Box::pin(ready(Ok(port)))
}

async fn call(balance: &Balance<Port, Open, PlainClassifier>) -> Result<u16, BoxError> {
    balance.clone().oneshot(Call::new(())).await
}

/// How often each answered, of so many calls one after the other.
async fn shares(
    balance: &Balance<Port, Open, PlainClassifier>,
    calls: u32,
) -> Result<HashMap<u16, u32>, BoxError> {
    let mut shares = HashMap::new();
    for _ in 0..calls {
        *shares.entry(call(balance).await?).or_default() += 1;
    }
    Ok(shares)
}

#[tokio::test(start_paused = true)]
async fn round_robin_gives_everybody_the_same() -> Result<(), BoxError> {
    let balance = balance(BalanceConfig::new().policy(RoundRobin::new()), 7, echo);
    let shares = shares(&balance, 700).await?;
    assert!((0..7).all(|port| shares[&port] == 100), "{shares:?}");
    Ok(())
}

/// Goal: two calls don't meet at an endpoint while another has none, whichever threads make them: each
/// call here is made by a thread of its own.
#[test]
fn all_threads_make_one_round() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("the system has room for a runtime");
    let policies: [(Arc<dyn Policy>, [u32; 6]); 2] = [
        (Arc::new(RoundRobin::new()), [20; 6]),
        (Arc::new(Weighted::new()), [10, 20, 30, 10, 20, 30]),
    ];
    for (policy, shares) in policies {
        let balance = runtime.block_on(async {
            let balance = balance(BalanceConfig::new().policy(policy), 6, echo);
            call(&balance).await.expect("it answers");
            balance
        });
        let mut counts = [0_u32; 6];
        for _ in 0..120 {
            let one = || call(&balance).now_or_never().expect("it answers at once");
            let port = std::thread::scope(|scope| scope.spawn(one).join());
            counts[usize::from(port.expect("it only calls").expect("it answers"))] += 1;
        }
        let near = counts.iter().zip(shares).all(|(count, share)| count.abs_diff(share) <= 1);
        assert!(near, "{counts:?}, not {shares:?}");
    }
}

/// Goal: the neighbour of an endpoint that is passed over does not get its calls as well.
#[tokio::test(start_paused = true)]
async fn round_robin_passes_over_one_in_doubt_and_shares_its_calls_evenly() -> Result<(), BoxError>
{
    let failed = Arc::new(AtomicUsize::new(0));
    let script = {
        let failed = Arc::clone(&failed);
        move |port| {
            if port == 2 {
                failed.fetch_add(1, SeqCst);
                return Box::pin(ready(Err("down".into()))) as Answer;
            }
            echo(port)
        }
    };
    let balance = balance(BalanceConfig::new().policy(RoundRobin::new()), 5, script);
    let mut shares = HashMap::<u16, u32>::new();
    for _ in 0..4_000 {
        if let Ok(port) = call(&balance).await {
            *shares.entry(port).or_default() += 1;
        }
        sleep(MS).await;
    }
    assert!(failed.load(SeqCst) < 10, "{failed:?} calls for one that is down");
    for port in [0, 1, 3, 4] {
        assert!(shares[&port].abs_diff(1_000) < 10, "{shares:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn least_request_goes_where_the_fewest_wait() {
    let calls = Arc::new(Mutex::new(HashMap::<u16, u32>::new()));
    let script = {
        let calls = Arc::clone(&calls);
        move |port| {
            *calls.lock().unwrap_or_else(PoisonError::into_inner).entry(port).or_default() += 1;
            let takes = if port == 0 { 1_000 * MS } else { 10 * MS };
            Box::pin(async move {
                sleep(takes).await;
                Ok(port)
            }) as Answer
        }
    };
    let balance = balance(BalanceConfig::new().policy(LeastRequest::new()), 4, script);
    for _ in 0..400 {
        tokio::spawn(balance.clone().oneshot(Call::new(())));
        sleep(5 * MS).await;
    }
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    // It has one or two in flight for a second each, where the others are free after 10 ms.
    assert!(calls[&0] < 12, "{calls:?}");
    assert!(calls[&1].min(calls[&2]).min(calls[&3]) > 100, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn the_default_said_is_the_default_unsaid() -> Result<(), BoxError> {
    let mut runs = Vec::new();
    for config in [BalanceConfig::new(), BalanceConfig::new().policy(PeakEwma::new())] {
        let balance = balance(config, 9, echo);
        let mut run = Vec::new();
        for _ in 0..100 {
            run.push(call(&balance).await?);
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    Ok(())
}

/// Always the first, whether it fits or not; counts its pickers.
#[derive(Clone, Debug, Default)]
struct First {
    fit: bool,
    made: Arc<AtomicUsize>,
}

impl Policy for First {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        assert!(members.iter().enumerate().all(|(at, member)| {
            member.endpoint.id() == at.to_string() && member.load.in_flight() == 0
        }));
        self.made.fetch_add(1, SeqCst);
        Arc::new(self.clone())
    }

    fn renew_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
}

impl Picker for First {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        if self.fit { (0..among.count()).find(|&at| among.is_fit(at)) } else { Some(0) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_ones_own_picks_and_its_pickers_are_renewed() -> Result<(), BoxError> {
    let policy = First { fit: true, ..First::default() };
    let balance = balance(BalanceConfig::new().policy(policy.clone()), 3, echo);
    assert_eq!(shares(&balance, 10).await?, HashMap::from([(0, 10)]));
    assert_eq!(policy.made.load(SeqCst), 1);
    sleep(10_500 * MS).await;
    assert_eq!(policy.made.load(SeqCst), 11, "one a second, calls or none");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_picker_that_picks_what_does_not_fit_is_not_obeyed() -> Result<(), BoxError> {
    let balance = balance(BalanceConfig::new().policy(First::default()), 3, echo);
    call(&balance).await?;
    let mut words = Words::new();
    words.tried.insert(balance.endpoints()[0].key);
    // It has been there, and where it has not been nothing was picked: back to the first.
    assert_eq!(balance.clone().oneshot(Call::with_words((), words)).await?, 0);
    Ok(())
}

/// Always this one, whatever it is told.
#[derive(Debug)]
struct At(usize);

impl Policy for At {
    fn picker(&self, _: &[Member<'_>]) -> Arc<dyn Picker> {
        Arc::new(Self(self.0))
    }
}

impl Picker for At {
    fn pick(&self, _: &dyn Candidates) -> Option<usize> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_picker_that_picks_one_that_is_ill_or_not_there_has_picked_nobody() -> Result<(), BoxError>
{
    let all: Vec<_> = (0..3).map(|port| Endpoint::new(port.to_string(), at(port))).collect();
    for (picks, answered) in [(0, None), (1, Some(1)), (7, None)] {
        let ill = Change::Health(all[0].clone(), Health::Unhealthy);
        let changes = [Ok::<_, BoxError>(Change::Reset(all.clone())), Ok(ill)];
        let changes = tokio_stream::iter(changes);
        let make = |endpoint: &Endpoint| {
            let port = endpoint.address().port() - 1;
            BoxCloneSyncService::new(tower::service_fn(move |_: Call<()>| echo(port)))
        };
        let (config, open) = (BalanceConfig::new().policy(At(picks)), |_: &Endpoint| Open::new());
        let balance = Balance::new(config, changes, make, open, PlainClassifier::new())?;
        sleep(MS).await;
        match call(&balance).await {
            Ok(port) => assert_eq!(Some(port), answered),
            Err(error) => {
                assert!(answered.is_none() && find::<NoEndpoint>(&*error).is_some(), "{error}");
            }
        }
    }
    Ok(())
}

/// A server's own report, in each of its forms, reaches the balancer by way of the classifier.
#[tokio::test(start_paused = true)]
async fn a_servers_own_report_is_taken_from_its_answers() -> Result<(), BoxError> {
    for (header, value) in [
        ("endpoint-load-metrics", "TEXT cpu_utilization=0.5,named_metrics.requests_in_flight=7"),
        ("endpoint-load-metrics", r#"JSON {"named_metrics":{"requests_in_flight":7}}"#),
        // Field 8, an entry of 29 bytes: the name, and 7.0.
        ("endpoint-load-metrics-bin", "Qh0KEnJlcXVlc3RzX2luX2ZsaWdodBEAAAAAAAAcQA=="),
    ] {
        let make = move |_: &Endpoint| {
            tower::service_fn(move |_: Call<()>| {
                ready(Response::builder().header(header, value).body(String::new()))
            })
        };
        let (fixed, open) = (Fixed::new([at(0)]), |_: &Endpoint| Open::new());
        let config = BalanceConfig::new();
        let balance = Balance::new(config, fixed, make, open, HttpClassifier::new())?;
        // Until there was one, only one answer in 64 is looked at, by the clock.
        for _ in 0..300 {
            balance.clone().oneshot(Call::new(())).await?;
            sleep(MS).await;
        }
        let said = balance.endpoints()[0].reported_in_flight;
        assert_eq!(said, Some(7.0), "{header}: {value}");
    }
    Ok(())
}

/// A server that reports a long queue gets little, although it is as quick as the others.
#[tokio::test(start_paused = true)]
async fn who_reports_a_long_queue_is_sent_less() -> Result<(), BoxError> {
    let hits = Arc::new([const { AtomicUsize::new(0) }; 4]);
    let make = {
        let hits = Arc::clone(&hits);
        move |endpoint: &Endpoint| {
            let (port, hits) = (usize::from(endpoint.address().port()) - 1, Arc::clone(&hits));
            tower::service_fn(move |_: Call<()>| {
                hits[port].fetch_add(1, SeqCst);
                async move {
                    sleep(5 * MS).await;
                    let busy = if port == 2 { 40 } else { 4 };
                    Response::builder()
                        .header(
                            "endpoint-load-metrics",
                            format!("TEXT named_metrics.requests_in_flight={busy}"),
                        )
                        .body(String::new())
                }
            })
        }
    };
    let config = BalanceConfig::new().entropy(Entropy::seeded(SEED));
    let (fixed, open) = (Fixed::new((0..4).map(at)), |_: &Endpoint| Open::new());
    let balance = Balance::new(config, fixed, make, open, HttpClassifier::new())?;
    for _ in 0..2_000 {
        tokio::spawn(balance.clone().oneshot(Call::new(())));
        sleep(MS).await;
    }
    let hits: Vec<usize> = hits.iter().map(|hits| hits.load(SeqCst)).collect();
    assert!(hits[2] < 200, "{hits:?}");
    assert!([0, 1, 3].iter().all(|&port| hits[port] > 300), "{hits:?}");
    Ok(())
}
