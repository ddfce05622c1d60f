//! A registry beneath a balancer: nothing but time drives it, and state survives what it says.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    BoxError, Event, Observer,
    balance::{Balance, BalanceConfig, NoEndpoint},
    call::Call,
    classify::PlainClassifier,
    discover::{Consul, ConsulConfig, RegistryError},
    endpoint::{Endpoint, Open},
    find,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::time::sleep;
use tower::{Service, ServiceExt, service_fn};

use crate::said::resilience;

/// An agent that answers at once, what it is told.
#[derive(Clone)]
struct Agent(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    /// Ports and weights.
    instances: Vec<(u16, u32)>,
    fails: bool,
    asked: u64,
}

impl Agent {
    fn says(&self, instances: &[(u16, u32)]) {
        self.0.lock().expect("no test panics with it").instances = instances.to_vec();
    }

    fn fails(&self, fails: bool) {
        self.0.lock().expect("no test panics with it").fails = fails;
    }

    fn asked(&self) -> u64 {
        self.0.lock().expect("no test panics with it").asked
    }

    fn answer(&self) -> Response<Full<Bytes>> {
        let mut told = self.0.lock().expect("no test panics with it");
        told.asked += 1;
        if told.fails {
            let response = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
            return response.body(Full::default()).expect("it is one");
        }
        let instance = |(port, weight): &(u16, u32)| {
            json!({
                "Node": { "Address": "10.0.0.1" }, "Checks": [],
                "Service": { "ID": format!("p{port}"), "Port": port,
                             "Weights": { "Passing": weight, "Warning": 1 } },
            })
        };
        let instances: Vec<_> = told.instances.iter().map(instance).collect();
        let body = serde_json::to_vec(&instances).expect("it is JSON");
        let response = Response::builder().header("x-consul-index", told.asked);
        response.body(Full::from(body)).expect("it is one")
    }

    fn registry(&self) -> Consul {
        let agent = self.clone();
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            std::future::ready(Ok::<_, Infallible>(agent.answer()))
        });
        let config = ConsulConfig::new("payments").expect("a name").resilience(resilience());
        Consul::over(config, service)
    }
}

#[tokio::test(start_paused = true)]
async fn state_survives_errors_flaps_and_other_weights_without_a_call() {
    let agent = Agent(Arc::default());
    agent.says(&[(1, 1), (2, 1)]);
    let failures = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&failures);
    let observer = Observer::new(move |event: &Event<'_>| {
        if let Event::DiscoveryFailed(error) = event {
            let error = find::<RegistryError>(*error).expect("the registry's own");
            heard.lock().expect("no test panics with it").push(error.to_string());
        }
    });
    let balance = Balance::new(
        BalanceConfig::new().observer(observer),
        agent.registry(),
        |endpoint: &Endpoint| {
            let port = endpoint.address().port();
            service_fn(move |_: Call<()>| std::future::ready(Ok::<u16, BoxError>(port)))
        },
        |_: &Endpoint| Open::new(),
        PlainClassifier::new(),
    )
    .expect("inside a runtime");
    // Port, weight and key.
    let known = || {
        let statuses = balance.endpoints();
        let known = |it: &buttress::balance::EndpointStatus| {
            (it.endpoint.address().port(), it.endpoint.weight(), it.key)
        };
        statuses.iter().map(known).collect::<Vec<_>>()
    };
    let heard = || failures.lock().expect("no test panics with it").clone();

    sleep(Duration::from_secs(5)).await;
    let first = known();
    assert_eq!(first.iter().map(|it| (it.0, it.1)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);

    // Another weight, the same state.
    agent.says(&[(1, 7), (2, 1)]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(known()[0], (1, 7, first[0].2));

    // A failure keeps them all, and is reported.
    agent.fails(true);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(known().len(), 2);
    assert!(heard().iter().all(|it| it.contains("the last good set stays")), "{:?}", heard());
    assert!((5..40).contains(&heard().len()), "{:?}", heard());
    assert!(balance.snapshot().discovery.keeps_last_good);
    agent.fails(false);
    sleep(Duration::from_secs(10)).await;
    // It is well again and has nothing new to say: that holds, and nothing is lost by it.
    let discovery = balance.snapshot().discovery;
    assert!(!discovery.keeps_last_good && discovery.last_error.is_some(), "{discovery:?}");
    assert_eq!(known().iter().map(|it| it.2).collect::<Vec<_>>(), [first[0].2, first[1].2]);

    // One goes and comes back: a flap.
    agent.says(&[(2, 1)]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(known().len(), 1);
    agent.says(&[(1, 7), (2, 1)]);
    sleep(Duration::from_secs(5)).await;
    let mut again = known();
    again.sort_by_key(|it| it.0);
    assert_eq!(again.iter().map(|it| it.2).collect::<Vec<_>>(), [first[0].2, first[1].2]);

    // With the last handle it ends.
    drop(balance);
    sleep(Duration::from_secs(1)).await;
    let asked = agent.asked();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(agent.asked(), asked, "nobody asks any more");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_never_answered_is_a_clear_error() {
    let agent = Agent(Arc::default());
    agent.fails(true);
    let mut balance = Balance::new(
        BalanceConfig::new(),
        agent.registry(),
        |_: &Endpoint| service_fn(|_: Call<()>| std::future::ready(Ok::<u16, BoxError>(0))),
        |_: &Endpoint| Open::new(),
        PlainClassifier::new(),
    )
    .expect("inside a runtime");
    let error = balance.ready().await.expect("always ready").call(Call::new(())).await;
    let error: BoxError = error.expect_err("there is nobody to call");
    let unknown = find::<NoEndpoint>(&*error).expect("it says so");
    assert!(matches!(unknown, NoEndpoint::Unknown { .. }), "{unknown}");
    assert!(unknown.to_string().contains("does discovery answer?"), "{unknown}");
}
