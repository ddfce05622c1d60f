//! Consul, played by a server of our own: blocking queries and the rules of their index as
//! <https://developer.hashicorp.com/consul/api-docs/features/blocking> has them.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    discover::{Consul, ConsulConfig, EmptyAnswer, RegistryErrorKind},
    find,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::said::{error, resilience, set, silent};

#[path = "../support/mod.rs"]
mod support;

/// An agent, and what it was asked.
#[derive(Clone)]
struct Agent {
    state: watch::Sender<State>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone, Default)]
struct State {
    index: u64,
    instances: Vec<Value>,
    fails: Option<StatusCode>,
    /// Answers at once, whatever it is asked to wait for.
    spins: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Asked {
    at: Instant,
    path: String,
    query: HashMap<String, String>,
    token: Option<String>,
}

impl Asked {
    fn index(&self) -> Option<&str> {
        self.query.get("index").map(String::as_str)
    }
}

impl Agent {
    fn new(index: u64, instances: &[Value]) -> Self {
        let state = State { index, instances: instances.to_vec(), ..State::default() };
        Self { state: watch::Sender::new(state), asked: Arc::default() }
    }

    fn becomes(&self, index: u64, instances: &[Value]) {
        self.state.send_modify(|state| {
            state.index = index;
            state.instances = instances.to_vec();
        });
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics with it").clone()
    }

    fn indices(&self) -> Vec<Option<String>> {
        self.asked().iter().map(|asked| asked.index().map(str::to_owned)).collect()
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Full<Bytes>> {
        let asked = Asked {
            at: Instant::now(),
            path: request.uri().path().to_owned(),
            query: pairs(request.uri().query().unwrap_or_default()),
            token: request
                .headers()
                .get("x-consul-token")
                .map(|token| token.to_str().expect("text").to_owned()),
        };
        self.asked.lock().expect("no test panics with it").push(asked.clone());
        let index: u64 = asked.index().map_or(0, |index| index.parse().expect("a number"));
        let wait: u64 = asked.query["wait"].trim_end_matches('s').parse().expect("seconds");
        // A sixteenth of the wait is added, at the most; here, always.
        let wait = Duration::from_secs(wait) * 17 / 16;
        let mut state = self.state.subscribe();
        let ready = |state: &State| {
            index == 0 || state.index > index || state.fails.is_some() || state.spins
        };
        let _ = timeout(wait, state.wait_for(ready)).await;
        let state = state.borrow().clone();
        if let Some(status) = state.fails {
            let body = Full::from("rpc error: No cluster leader\n");
            return Response::builder().status(status).body(body).expect("it is one");
        }
        let passing = |instance: &&Value| {
            let checks = instance["Checks"].as_array().expect("they have checks");
            checks.iter().all(|check| check["Status"] == "passing")
        };
        let all = !asked.query.contains_key("passing");
        let instances: Vec<_> =
            state.instances.iter().filter(|instance| all || passing(instance)).collect();
        Response::builder()
            .header("x-consul-index", state.index)
            .body(Full::from(serde_json::to_vec(&instances).expect("it is JSON")))
            .expect("it is one")
    }
}

fn pairs(query: &str) -> HashMap<String, String> {
    let pair = |it: &str| {
        let (key, value) = it.split_once('=').unwrap_or((it, ""));
        (key.to_owned(), value.to_owned())
    };
    query.split('&').map(pair).collect()
}

fn instance(id: &str, port: u16, status: &str) -> Value {
    json!({
        "Node": {"ID": "a-b", "Node": "node-1", "Address": "10.0.0.1", "Datacenter": "dc1"},
        "Service": {"ID": id, "Service": "payments", "Address": "", "Port": port, "Tags": [],
                    "Weights": {"Passing": 4, "Warning": 2}},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"Status": status}],
    })
}

fn config() -> ConsulConfig {
    ConsulConfig::new("payments").expect("a name").resilience(resilience())
}

fn consul(agent: &Agent, config: ConsulConfig) -> Consul {
    let agent = agent.clone();
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(agent.answer(request).await) }
    });
    Consul::over(config, service)
}

const A: &str = "a 10.0.0.1:8001 w4 p0 -";
const B: &str = "b 10.0.0.1:8002 w4 p0 -";

#[tokio::test(start_paused = true)]
async fn is_asked_once_and_then_waits_for_what_changes() {
    let agent = Agent::new(7, &[instance("a", 8001, "passing"), instance("x", 8009, "critical")]);
    let mut consul = consul(&agent, config());
    assert!(agent.asked().is_empty(), "nothing happens before it is polled");
    assert_eq!(set(&mut consul).await, [A]);

    // The wait is over three times without a change, and that is no news.
    silent(&mut consul, Duration::from_secs(3 * 320 + 10)).await;
    agent.becomes(9, &[instance("a", 8001, "passing"), instance("b", 8002, "passing")]);
    assert_eq!(set(&mut consul).await, [A, B]);
    // Another index and the same instances: no news either.
    agent.becomes(10, &[instance("b", 8002, "passing"), instance("a", 8001, "passing")]);
    silent(&mut consul, Duration::from_secs(100)).await;
    agent.becomes(11, &[instance("b", 8002, "passing")]);
    assert_eq!(set(&mut consul).await, [B]);

    let seven = || Some("7".to_owned());
    let expected = [None, seven(), seven(), seven(), seven(), Some("9".into()), Some("10".into())];
    assert_eq!(agent.indices(), expected);
    let asked = agent.asked();
    let asked = asked.first().expect("it was asked");
    assert_eq!(asked.path, "/v1/health/service/payments");
    assert_eq!(asked.query, pairs("wait=300s&passing=1"));
}

#[tokio::test(start_paused = true)]
async fn an_index_that_goes_backwards_begins_anew_and_zero_is_asked_as_one() {
    let agent = Agent::new(50, &[instance("a", 8001, "passing")]);
    let mut consul = consul(&agent, config());
    set(&mut consul).await;
    // The servers were restored from an older state: the agent answers at the end of the wait,
    // with an index that is lower.
    agent.becomes(20, &[instance("b", 8002, "passing")]);
    assert_eq!(set(&mut consul).await, [B]);
    agent.becomes(21, &[instance("a", 8001, "passing")]);
    assert_eq!(set(&mut consul).await, [A]);
    assert_eq!(agent.indices(), [None, Some("50".into()), None]);

    let agent = Agent::new(0, &[instance("a", 8001, "passing")]);
    let mut consul = self::consul(&agent, config());
    set(&mut consul).await;
    silent(&mut consul, Duration::from_secs(400)).await;
    assert_eq!(agent.indices(), [None, Some("1".into()), Some("1".into())].map(|it| it));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_waits_is_asked_at_a_pace() {
    let agent = Agent::new(7, &[instance("a", 8001, "passing")]);
    agent.state.send_modify(|state| state.spins = true);
    let mut consul = consul(&agent, config().pace(Duration::from_secs(3)).expect("short"));
    set(&mut consul).await;
    silent(&mut consul, Duration::from_secs(30)).await;
    let asked = agent.asked();
    assert!((10..=12).contains(&asked.len()), "{} times in 30 s", asked.len());
    assert_eq!(asked[0].at, asked[1].at, "two at once");
    assert!(asked[2..].windows(2).all(|two| two[1].at - two[0].at >= Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_the_last_good_set_and_begins_anew() {
    let agent = Agent::new(7, &[instance("a", 8001, "passing")]);
    let mut consul = consul(&agent, config());
    set(&mut consul).await;
    agent.state.send_modify(|state| state.fails = Some(StatusCode::INTERNAL_SERVER_ERROR));
    let said = error(&mut consul).await;
    assert_eq!(said.kind(), RegistryErrorKind::Refused);
    let text = said.to_string();
    let expected = "Consul at http://127.0.0.1:8500/ for `payments`: it answered 500 Internal \
                    Server Error: rpc error: No cluster leader; the last good set stays, and it \
                    is asked anew in ";
    assert!(text.starts_with(expected), "{text}");
    let wait = said.retry_in().expect("it is asked anew");
    assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_millis(200), "{wait:?}");

    let waits: Vec<_> = [error(&mut consul).await, error(&mut consul).await]
        .iter()
        .map(|error| error.retry_in().expect("it is asked anew"))
        .collect();
    assert!(waits[0] >= Duration::from_millis(200), "{waits:?} doubles");
    assert!(waits[1] >= Duration::from_millis(400), "{waits:?} doubles");

    agent.state.send_modify(|state| state.fails = None);
    // Nothing is different: that is said once. It was asked for what there is.
    assert_eq!(set(&mut consul).await, [A]);
    silent(&mut consul, Duration::from_secs(2)).await;
    let indices = agent.indices();
    assert_eq!(indices[indices.len() - 2..], [None, Some("7".to_owned())]);
    agent.becomes(8, &[]);
    assert_eq!(error(&mut consul).await.kind(), RegistryErrorKind::Empty);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_answered_says_so() {
    let agent = Agent::new(7, &[]);
    agent.state.send_modify(|state| state.fails = Some(StatusCode::FORBIDDEN));
    let mut consul = consul(&agent, config());
    let said = error(&mut consul).await;
    assert!(!said.named_some());
    assert!(said.to_string().contains("it has named no endpoint so far"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_hung_agent_is_given_up_a_little_later_than_it_should_have_answered() {
    let service = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        if request.uri().query().is_some_and(|query| query.contains("index=")) {
            std::future::pending::<()>().await;
        }
        let response = Response::builder().header("x-consul-index", 3);
        let body = serde_json::to_vec(&[instance("a", 8001, "passing")]).expect("it is JSON");
        Ok::<_, Infallible>(response.body(Full::<Bytes>::from(body)).expect("it is one"))
    });
    let config = config().wait(Duration::from_secs(160)).expect("within ten minutes");
    let mut consul = Consul::over(config, service);
    set(&mut consul).await;
    let before = Instant::now();
    assert_eq!(error(&mut consul).await.kind(), RegistryErrorKind::TimedOut);
    let waited = before.elapsed().as_secs();
    assert_eq!(waited, 170 + 10, "17/16 of the wait, and the usual limit");
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_a_decision() {
    let agent = Agent::new(7, &[instance("a", 8001, "passing")]);
    let mut keeps = consul(&agent, config());
    let mut clears = consul(&agent, config().resilience(resilience().keep_when_empty(false)));
    set(&mut keeps).await;
    set(&mut clears).await;
    agent.becomes(8, &[instance("a", 8001, "critical")]);
    let said = error(&mut keeps).await;
    assert_eq!((said.kind(), said.retry_in()), (RegistryErrorKind::Empty, None));
    assert!(find::<EmptyAnswer>(&said).is_some());
    assert!(said.to_string().ends_with("it knows no endpoint; the last good set stays"), "{said}");
    silent(&mut keeps, Duration::from_secs(1_000)).await;
    assert_eq!(set(&mut clears).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn warnings_count_with_their_weight_where_they_are_asked_for() {
    let instances = [
        instance("a", 8001, "passing"),
        instance("b", 8002, "warning"),
        instance("c", 8003, "critical"),
    ];
    let agent = Agent::new(7, &instances);
    let config = config()
        .warning(true)
        .stale(true)
        .datacenter("eu/1")
        .tag("v2")
        .wait(Duration::from_millis(1500))
        .expect("long enough")
        .token("s3cret")
        .expect("text");
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    let mut consul = consul(&agent, config);
    assert_eq!(set(&mut consul).await, [A, "b 10.0.0.1:8002 w2 p0 -"]);
    let asked = agent.asked();
    assert_eq!(asked[0].query, pairs("wait=2s&stale=&dc=eu%2F1&tag=v2"));
    assert_eq!(asked[0].token.as_deref(), Some("s3cret"));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cant_be_read_is_said_once_and_the_rest_counts() {
    let mut odd = instance("b", 8002, "passing");
    odd["Node"]["Address"] = json!("node-1.example");
    let agent = Agent::new(7, &[instance("a", 8001, "passing"), odd.clone()]);
    let mut consul = consul(&agent, config());
    assert_eq!(set(&mut consul).await, [A]);
    let said = error(&mut consul).await;
    assert_eq!((said.kind(), said.retry_in()), (RegistryErrorKind::Malformed, None));
    assert!(said.to_string().contains("`node-1.example` of the instance `b`"), "{said}");
    assert!(said.to_string().ends_with("the rest is used"), "{said}");
    // As odd as before, so that there is nothing to be said of it.
    agent.becomes(8, &[instance("c", 8003, "passing"), odd.clone()]);
    assert_eq!(set(&mut consul).await, ["c 10.0.0.1:8003 w4 p0 -"]);
    silent(&mut consul, Duration::from_secs(10)).await;
    agent.becomes(9, &[odd]);
    assert_eq!(error(&mut consul).await.kind(), RegistryErrorKind::Empty);
}

#[tokio::test]
async fn is_asked_over_a_socket() {
    let agent = Agent::new(7, &[instance("a", 8001, "passing")]);
    let answering = agent.clone();
    let server = support::Server::start(move |request| answering.clone().answer(request)).await;
    let url = format!("http://{}", server.address());
    let mut consul = Consul::new(config().server(&url).expect("a server")).expect("no TLS");
    assert_eq!(set(&mut consul).await, [A]);
    let change = async {
        // Not before it waits for it.
        while agent.asked().len() < 2 {
            tokio::task::yield_now().await;
        }
        agent.becomes(8, &[instance("a", 8001, "passing"), instance("b", 8002, "passing")]);
    };
    let ((), both) = tokio::join!(change, set(&mut consul));
    assert_eq!(both, [A, B]);
    drop(server);
    let said = error(&mut consul).await;
    assert_eq!(said.kind(), RegistryErrorKind::Unreachable, "{said}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    assert!(ConsulConfig::new(" ").is_err());
    assert!(config().wait(Duration::ZERO).is_err());
    assert!(config().wait(Duration::from_secs(601)).is_err());
    assert!(config().pace(Duration::from_secs(61)).is_err());
    assert!(config().token("a\nb").is_err());
    assert!(config().server("127.0.0.1:8500").is_err());
    let tls = config().server("https://consul:8501").expect("a server");
    let refusal = Consul::new(tls).expect_err("no TLS here");
    assert!(refusal.to_string().contains("`over`"), "{refusal}");
}
