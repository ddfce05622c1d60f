//! The policy that probes, over HTTP and real sockets.
#![cfg(feature = "hyper")]

mod support;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Event, Observer,
    algo::by_load::LatencyByLoad,
    balance::{BalanceConfig, HttpLoadProbe, Probing, ProbingConfig},
    client::Client,
    transport::{HyperTransport, TransportConfig},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use support::{Nobody, Server};
use tokio::{sync::Notify, time::timeout};

/// How a server says how busy it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    InAHeader,
    InLines,
    AsAnObject,
    Nothing,
    NotFound,
}

/// A server that counts its requests, and answers probes from the counts.
struct Instance {
    server: Server,
    state: Arc<State>,
}

struct State {
    says: Says,
    in_flight: AtomicU32,
    served: AtomicU32,
    probed: AtomicU32,
    latency: Mutex<LatencyByLoad>,
    /// Ends the requests that are held.
    release: Notify,
}

impl Instance {
    async fn start(says: Says) -> Self {
        let state = Arc::new(State {
            says,
            in_flight: AtomicU32::new(0),
            served: AtomicU32::new(0),
            probed: AtomicU32::new(0),
            latency: Mutex::default(),
            release: Notify::new(),
        });
        let server = {
            let state = Arc::clone(&state);
            Server::start(move |request| Arc::clone(&state).answer(request)).await
        };
        Self { server, state }
    }
}

impl State {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/load" => self.load(),
            path => {
                let (others, came) = (self.in_flight.fetch_add(1, SeqCst), Instant::now());
                if path == "/held" {
                    self.release.notified().await;
                } else {
                    self.served.fetch_add(1, SeqCst);
                }
                self.in_flight.fetch_sub(1, SeqCst);
                let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
                latency.record(others, came.elapsed(), Instant::now());
                Response::default()
            }
        }
    }

    fn load(&self) -> Response<Full<Bytes>> {
        self.probed.fetch_add(1, SeqCst);
        let in_flight = self.in_flight.load(SeqCst);
        let latency = self
            .latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .at(in_flight, Instant::now());
        let seconds = latency.unwrap_or_default().as_secs_f64();
        let lines = format!(
            "named_metrics.requests_in_flight={in_flight},named_metrics.latency_seconds={seconds}"
        );
        let object = format!(
            r#"{{"named_metrics": {{"requests_in_flight": {in_flight}, "latency_seconds": {seconds}}}}}"#
        );
        match self.says {
            Says::InAHeader => {
                let builder = Response::builder();
                let response = builder.header("endpoint-load-metrics", format!("TEXT {lines}"));
                response.body(Full::default()).expect("it is text")
            }
            Says::InLines => Response::new(Full::from(lines.replace(',', "\n"))),
            Says::AsAnObject => Response::new(Full::from(object)),
            Says::Nothing => Response::new(Full::from("OK")),
            Says::NotFound => {
                let response = Response::builder().status(StatusCode::NOT_FOUND);
                // As good as any, but for its status.
                response.body(Full::from(object)).expect("it is text")
            }
        }
    }
}

fn policy() -> Result<Probing, BoxError> {
    let transport = HyperTransport::new(TransportConfig::http1());
    let probe = HttpLoadProbe::new(transport, "http://jobs/load")?;
    // A machine that is busy with other tests may take its time.
    let config = ProbingConfig::new().limits(Duration::from_secs(2), 64)?;
    Ok(Probing::new(probe, config))
}

/// Goal: of twenty servers one works on twenty requests of somebody else, of which this client knows
/// nothing but by what the server says; it gets none of the calls that are picked by answers.
#[tokio::test]
async fn calls_avoid_the_one_that_others_keep_busy() -> Result<(), BoxError> {
    const CALLS: u32 = 400;
    let forms = [Says::InAHeader, Says::InLines, Says::AsAnObject];
    let mut instances = Vec::new();
    for at in 0..20 {
        instances.push(Instance::start(forms[at % 3]).await);
    }
    let busy = &instances[7];
    let others = Client::builder("http://jobs").endpoints([busy.server.address()]).build()?;
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, request) = (others.clone(), Request::get("/held").body("")?);
        held.spawn(async move { client.send(request).await.map(|response| response.status()) });
    }
    let all_there = async {
        while busy.state.in_flight.load(SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), all_there).await?;

    let policy = policy()?;
    let client = Client::builder("http://jobs")
        .endpoints(instances.iter().map(|it| it.server.address()))
        .balance(BalanceConfig::new().policy(policy.clone()))
        .build()?;
    for _ in 0..CALLS {
        let response = client.send(Request::get("/").body("")?).await?;
        response.into_body().collect().await?;
    }

    let served = |it: &Instance| it.state.served.load(SeqCst);
    let counts: Vec<u32> = instances.iter().map(served).collect();
    let snapshot = policy.snapshot();
    assert_eq!((counts.iter().sum::<u32>(), snapshot.picks), (CALLS, CALLS.into()), "{counts:?}");
    assert!(snapshot.without_answers < 40, "{snapshot:?}");
    // Of those that are picked without answers a twentieth goes there.
    assert!(counts[7] < 10, "{counts:?} {snapshot:?}");
    assert!(counts.iter().filter(|&&count| count > 0).count() > 10, "{counts:?}");
    assert!(instances.iter().all(|it| it.state.probed.load(SeqCst) > 3), "{snapshot:?}");
    assert_eq!(snapshot.failed, 0, "each form is read");
    let probing = client.snapshot().balance.probing.ok_or("it probes")?;
    assert_eq!(probing.picks, snapshot.picks);

    busy.state.release.notify_waiters();
    while let Some(status) = held.join_next().await {
        assert_eq!(status??, StatusCode::OK);
    }
    Ok(())
}

/// Goal: one says nothing of its load, one does not know the page, at one nobody listens: all of that
/// is told, and they are called all the same where they can be.
#[tokio::test]
async fn what_is_wrong_with_a_probe_is_told() -> Result<(), BoxError> {
    let silent = Instance::start(Says::Nothing).await;
    let (strange, nobody) = (Instance::start(Says::NotFound).await, Nobody::new());
    let all = [silent.server.address(), strange.server.address(), nobody.address()];
    let told = Arc::<Mutex<Vec<String>>>::default();
    let observer = {
        let told = Arc::clone(&told);
        Observer::new(move |event| {
            if let Event::LoadProbeFailed(endpoint, error) = event {
                let which = all.iter().position(|&it| it == endpoint.address());
                let told = &mut told.lock().unwrap_or_else(PoisonError::into_inner);
                told.push(format!("{}: {error}", which.expect("it is one of them")));
            }
        })
    };
    let client = Client::builder("http://jobs")
        .endpoints(all)
        .balance(BalanceConfig::new().policy(policy()?))
        .observer(observer)
        .build()?;
    for _ in 0..20 {
        client.send(Request::get("/").body("")?).await?;
    }
    let is_told = |which: &str, what: &str| {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().any(|said| said.starts_with(which) && said.contains(what))
    };
    let each = async {
        while !(is_told("0:", "requests_in_flight") && is_told("1:", "404") && is_told("2:", "")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), each).await?;
    let served = [&silent, &strange].map(|it| it.state.served.load(SeqCst));
    assert_eq!(served.iter().sum::<u32>(), 20);
    assert!(served.iter().all(|&served| served > 0), "{served:?}");
    Ok(())
}

#[test]
fn a_page_without_a_name_is_refused() {
    let transport =
        || HyperTransport::<http_body_util::Empty<Bytes>>::new(TransportConfig::http1());
    for page in ["/load", "jobs/load", "http://", "no page"] {
        let error = HttpLoadProbe::new(transport(), page).expect_err("it names no service");
        assert!(error.to_string().contains("`http://payments/load`"), "{error}");
    }
    assert!(HttpLoadProbe::new(transport(), "http://jobs/load?now").is_ok());
}
