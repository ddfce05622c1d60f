//! What operators are told, of a balancer and of a whole client, under paused time.
#![cfg(feature = "hyper")]

mod support;

use std::time::Duration;

use buttress::{
    BoxError,
    balance::{Balance, BalanceConfig, BalanceSnapshot, EndpointSnapshot, EndpointState},
    breaker::{Breaker, BreakerConfig},
    budget::Budget,
    call::Call,
    classify::PlainClassifier,
    client::{Client, Snapshot},
    endpoint::{Change, Endpoint, Health},
    limit::LimitConfig,
    retry::RetryConfig,
    throttle::ThrottleConfig,
};
use http::Request;
use support::company::{Act, Company, MS, address, answer};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{advance, sleep},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

const SECOND: Duration = Duration::from_secs(1);

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(format!("e{port}"), address(port))
}

type Leaf = BoxCloneSyncService<Call<()>, (), BoxError>;
type Tested = Balance<Leaf, Breaker, PlainClassifier>;
type Registry = UnboundedSender<Result<Change, BoxError>>;

/// Endpoints that answer, but for those at odd ports, and the registry that names them.
fn balance(config: BalanceConfig) -> (Tested, Registry) {
    let (registry, changes) = unbounded_channel();
    let make = |endpoint: &Endpoint| {
        let fails = endpoint.address().port() % 2 == 1;
        BoxCloneSyncService::new(tower::service_fn(move |_: Call<()>| async move {
            sleep(MS).await;
            if fails { Err(BoxError::from("broken")) } else { Ok(()) }
        }))
    };
    let gates = |_: &Endpoint| {
        let config = BreakerConfig::new().consecutive_failures(1).expect("one");
        Breaker::new(config)
    };
    let changes = UnboundedReceiverStream::new(changes);
    let balance = Balance::new(config, changes, make, gates, PlainClassifier::new());
    (balance.expect("inside of a runtime"), registry)
}

fn named(registry: &Registry, changes: impl IntoIterator<Item = Change>) {
    changes.into_iter().for_each(|change| registry.send(Ok(change)).expect("it is listened to"));
}

fn row(snapshot: &BalanceSnapshot, port: u16) -> &EndpointSnapshot {
    let found = snapshot.endpoints.iter().find(|it| it.address == address(port));
    found.unwrap_or_else(|| panic!("it is not there: {snapshot}"))
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_told_as_the_registry_describes_it_and_serves_since_it_came() {
    let (balance, registry) = balance(BalanceConfig::new());
    assert_eq!(balance.snapshot().discovery.last_change, None);
    let far = endpoint(2).with_weight(3).with_priority(1).with_zone("b");
    named(&registry, [Change::Reset(vec![far, endpoint(4)])]);
    sleep(5 * SECOND).await;
    let snapshot = balance.snapshot();
    let first = row(&snapshot, 2);
    assert_eq!((&*first.id, first.weight, first.priority), ("e2", 3, 1));
    assert_eq!(first.zone.as_deref(), Some("b"));
    assert_eq!((first.state, first.health), (EndpointState::Serving, Health::Unchecked));
    assert_eq!((first.since, first.health_since), (Some(5 * SECOND), 5 * SECOND));
    assert_eq!(snapshot.discovery.last_change, Some(5 * SECOND));
    assert!(!snapshot.panic && !snapshot.discovery.keeps_last_good);
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_told_with_its_breaker_its_reason_and_both_times() {
    let (mut balance, registry) = balance(BalanceConfig::new());
    named(&registry, [Change::Reset([1, 2, 4].map(endpoint).to_vec())]);
    sleep(SECOND).await;
    while row(&balance.snapshot(), 1).state != EndpointState::Open {
        let _ = balance.ready().await.expect("always").call(Call::new(())).await;
    }
    advance(SECOND).await;
    let snapshot = balance.snapshot();
    let broken = row(&snapshot, 1);
    assert_eq!(broken.why.as_deref(), Some("breaker: consecutive"));
    let breaker = broken.breaker.as_ref().expect("it has one");
    assert_eq!((breaker.state, breaker.reason), ("open", Some("consecutive")));
    assert_eq!((broken.since, broken.until), (Some(SECOND), breaker.until));
    let left = breaker.until.expect("it tries again");

    // Nobody calls. A look neither moves the breaker nor says that it refuses.
    advance(left + MS).await;
    for _ in 0..2 {
        let snapshot = balance.snapshot();
        let broken = row(&snapshot, 1);
        assert_eq!((broken.state, broken.until), (EndpointState::HalfOpen, Some(Duration::ZERO)));
        assert_eq!(broken.breaker.as_ref().expect("it has one").state, "open");
    }
}

#[tokio::test(start_paused = true)]
async fn health_is_told_since_it_changed_and_comes_first() {
    let (balance, registry) = balance(BalanceConfig::new());
    named(&registry, [Change::Reset([2, 4, 6].map(endpoint).to_vec())]);
    named(&registry, [Change::Health(endpoint(4), Health::Pending)]);
    sleep(3 * SECOND).await;
    let snapshot = balance.snapshot();
    assert_eq!(row(&snapshot, 4).state, EndpointState::Pending);
    assert_eq!(row(&snapshot, 4).since, Some(3 * SECOND));
    named(&registry, [Change::Health(endpoint(4), Health::Unhealthy)]);
    sleep(SECOND).await;
    // Told once more, it does not begin again.
    named(&registry, [Change::Health(endpoint(4), Health::Unhealthy)]);
    sleep(SECOND).await;
    let snapshot = balance.snapshot();
    let sick = row(&snapshot, 4);
    assert_eq!((sick.state, sick.since), (EndpointState::Unhealthy, Some(2 * SECOND)));
    assert_eq!(sick.why.as_deref(), Some("its health check fails"));
    assert!(!snapshot.panic, "two of three may be called");
    assert_eq!(snapshot.discovery.last_change, Some(5 * SECOND), "a check names nobody");

    named(&registry, [Change::Health(endpoint(4), Health::Healthy)]);
    named(&registry, [Change::Health(endpoint(2), Health::Unhealthy)]);
    named(&registry, [Change::Health(endpoint(6), Health::Unhealthy)]);
    sleep(SECOND).await;
    let snapshot = balance.snapshot();
    assert_eq!(row(&snapshot, 4).state, EndpointState::SlowStart);
    assert_eq!(row(&snapshot, 4).why.as_deref(), Some("it has 10 % of its share"));
    assert!(snapshot.panic, "one of three may be called");
}

/// A check that takes its time does not eat up the start of whom it lets in; and the first ones
/// need none.
#[tokio::test(start_paused = true)]
async fn a_newcomer_starts_when_its_first_check_has_let_it_in() {
    let (balance, registry) = balance(BalanceConfig::new());
    let pending = |port| Change::Health(endpoint(port), Health::Pending);
    let healthy = |port| Change::Health(endpoint(port), Health::Healthy);
    named(&registry, [Change::Reset(vec![endpoint(2)]), pending(2)]);
    sleep(SECOND).await;
    named(&registry, [healthy(2), Change::Add(endpoint(4)), pending(4)]);
    sleep(20 * SECOND).await;
    named(&registry, [healthy(4)]);
    sleep(6 * SECOND).await;
    let snapshot = balance.snapshot();
    assert_eq!((row(&snapshot, 2).share, row(&snapshot, 4).share), (1.0, 0.2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_discovery_is_told_until_it_names_endpoints_again() {
    let (balance, registry) = balance(BalanceConfig::new());
    named(&registry, [Change::Reset(vec![endpoint(2)])]);
    sleep(SECOND).await;
    registry.send(Err("the registry is gone".into())).expect("it is listened to");
    sleep(SECOND).await;
    let discovery = balance.snapshot().discovery;
    assert_eq!(discovery.last_error.as_deref(), Some("the registry is gone"));
    assert_eq!((discovery.last_error_age, discovery.keeps_last_good), (Some(SECOND), true));
    assert!(balance.snapshot().to_string().contains("failed 1.0s ago: the registry is gone"));
    named(&registry, [Change::Reset(vec![endpoint(2)])]);
    sleep(SECOND).await;
    assert!(!balance.snapshot().discovery.keeps_last_good);
    drop(registry);
    sleep(2 * SECOND).await;
    assert_eq!(balance.snapshot().discovery.ended, Some(2 * SECOND));
    assert_eq!(balance.snapshot().endpoints.len(), 1);
}

/// A whole client with all that a service can have.
fn whole(company: &Company) -> Client {
    company
        .builder([1, 2, 3])
        .deadline(4 * SECOND)
        .attempt_timeout(SECOND)
        .retry(RetryConfig::new().budget(Budget::default()))
        .service_breaker(BreakerConfig::new())
        .throttle(ThrottleConfig::new())
        .limit(LimitConfig::fixed(5).expect("more than none"))
        .build()
        .expect("all of it can be")
}

#[tokio::test(start_paused = true)]
async fn a_client_tells_what_its_service_has_and_what_is_under_way() {
    let company = Company::new(|_| Act::Hang);
    let client = whole(&company);
    let call = tokio::spawn(client.send(Request::new(())));
    sleep(10 * MS).await;
    let snapshot: Snapshot = client.snapshot();
    assert_eq!(snapshot.service, "http://payments");
    assert_eq!((snapshot.deadline, snapshot.attempt_timeout), (4 * SECOND, SECOND));
    assert_eq!(snapshot.budget.as_ref().map(|budget| budget.tokens), Some(500));
    assert_eq!(snapshot.breaker.as_ref().map(|breaker| breaker.state), Some("closed"));
    assert_eq!(snapshot.throttle.map(|throttle| throttle.pending), Some(1));
    let limit = snapshot.limit.expect("it has one");
    assert_eq!((limit.limit, limit.in_flight, limit.waiting), (5, 1, 0));
    assert_eq!(client.limit().map(|limit| limit.state().in_flight), Some(1));
    let in_flight: u32 = snapshot.balance.endpoints.iter().map(|it| it.in_flight).sum();
    assert_eq!(in_flight, 1);
    call.abort();

    let (service, plain) = (client.service_breaker(), company.builder([1]).build());
    service.expect("it has one").force_open();
    let breaker = client.snapshot().breaker.expect("it has one");
    assert_eq!((breaker.state, breaker.reason), ("forced_open", Some("forced")));
    let plain = plain.expect("it can be").snapshot();
    assert!(plain.breaker.is_none() && plain.throttle.is_none() && plain.limit.is_none());
}

#[tokio::test(start_paused = true)]
async fn it_prints_as_a_table_with_a_row_for_each_endpoint() {
    let company = Company::new(|_| answer(200));
    let client = whole(&company);
    client.send(Request::new(())).await.expect("all are well");
    let table = client.snapshot().to_string();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2 + 1 + 3, "{table}");
    assert!(lines[0].starts_with("http://payments: 4s a call, 1s an attempt; budget 500 tokens"));
    assert!(lines[3].starts_with("10.0.0.1:1 ") && lines[3].contains(" serving "), "{table}");
    assert!(lines[2..].iter().all(|line| line.len() <= 100), "{table}");
}

#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn as_json_spans_are_milliseconds_and_states_are_codes() {
    let company = Company::new(|_| answer(200));
    let client = whole(&company);
    sleep(1500 * MS).await;
    let snapshot = client.snapshot();
    let json = serde_json::to_value(&snapshot).expect("plain values");
    assert_eq!((&json["deadline_ms"], &json["attempt_timeout_ms"]), (&4000.into(), &1000.into()));
    let unix = snapshot.taken_at.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert_eq!(json["taken_at_ms"].as_u64().map(u128::from), Some(unix.as_millis()));
    assert_eq!(json["budget"]["refused"][0]["reason"], "spent");
    let endpoint = &json["balance"]["endpoints"][0];
    assert_eq!(
        (&endpoint["address"], &endpoint["state"]),
        (&"10.0.0.1:1".into(), &"serving".into())
    );
    assert_eq!((&endpoint["health"], &endpoint["since_ms"]), (&"unchecked".into(), &1500.into()));
    assert_eq!(endpoint["breaker"]["state"], "closed");
    assert!(endpoint["until_ms"].is_null() && endpoint["ejected"].is_null());
    assert!(endpoint["cost_seconds"].is_f64());
    for state in [EndpointState::HalfOpen, EndpointState::SlowStart, EndpointState::Unhealthy] {
        assert_eq!(serde_json::to_value(state).expect("a word"), state.as_str());
    }
}
