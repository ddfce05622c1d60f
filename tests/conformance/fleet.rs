//! Drives a balancer through a row about ejection or panic.

use std::{
    collections::{BTreeSet, VecDeque},
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    balance::{
        Balance, BalanceConfig, Candidates, Consecutive, EjectionConfig, FailurePercentage, Member,
        Picker, Policy, SuccessRate,
    },
    call::Call,
    classify::HttpClassifier,
    endpoint::{Change, Endpoint, Health, Open},
};
use http::Response;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Service, ServiceExt};

use super::{
    client::virtually,
    row::{Ejection, Panic, Sweep, Test},
    support::company::lock,
};

/// Picks the one that is told, or any that fits.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicUsize>);

impl Policy for Told {
    fn picker(&self, _: &[Member<'_>]) -> Arc<dyn Picker> {
        Arc::new(self.clone())
    }
}

impl Picker for Told {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        let told = self.0.load(SeqCst);
        (told..told + among.count()).map(|at| at % among.count()).find(|&at| among.is_fit(at))
    }
}

/// Answers with what is next in its script.
#[derive(Clone)]
struct Scripted {
    port: u16,
    script: Arc<Mutex<VecDeque<char>>>,
    called: Arc<Mutex<Vec<u16>>>,
}

impl Service<Call<()>> for Scripted {
    type Response = Response<String>;
    type Error = BoxError;
    type Future = Ready<Result<Response<String>, BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call<()>) -> Self::Future {
        lock(&self.called).push(self.port);
        let status = match lock(&self.script).pop_front() {
            Some('-') => 500,
            Some('g') => 503,
            Some('w') => 400,
            Some('l') => return ready(Err("no answer".into())),
            _ => 200,
        };
        ready(Ok(Response::builder().status(status).body(String::new()).expect("a status")))
    }
}

struct Fleet {
    balance: Balance<Scripted, Open, HttpClassifier>,
    feed: UnboundedSender<Result<Change, BoxError>>,
    told: Told,
    script: Arc<Mutex<VecDeque<char>>>,
    called: Arc<Mutex<Vec<u16>>>,
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

impl Fleet {
    async fn new(config: BalanceConfig, endpoints: u16) -> Self {
        let (feed, changes) = unbounded_channel();
        let (told, script, called) = (Told::default(), Arc::default(), Arc::default());
        let make = {
            let (script, called) = (Arc::clone(&script), Arc::clone(&called));
            move |endpoint: &Endpoint| Scripted {
                port: endpoint.address().port(),
                script: Arc::clone(&script),
                called: Arc::clone(&called),
            }
        };
        let config = config.policy(told.clone()).entropy(Entropy::seeded(1));
        let open = |_: &Endpoint| Open::new();
        let changes = UnboundedReceiverStream::new(changes);
        let balance = Balance::new(config, changes, make, open, HttpClassifier::new())
            .expect("inside a runtime");
        let fleet = Self { balance, feed, told, script, called };
        fleet.tell(Change::Reset((1..=endpoints).map(endpoint).collect())).await;
        fleet
    }

    async fn tell(&self, change: Change) {
        self.feed.send(Ok(change)).expect("the driver listens");
        // Lets it run.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// One call, to the endpoint at this place if it may be called.
    async fn call(&self, at: usize) -> Result<(), BoxError> {
        self.told.0.store(at, SeqCst);
        self.balance.clone().oneshot(Call::new(())).await.map(drop)
    }

    fn ejected(&self) -> Vec<u16> {
        let statuses = self.balance.endpoints();
        let ejected = statuses.iter().filter(|status| status.ejected.is_some());
        ejected.map(|status| status.endpoint.address().port()).collect()
    }
}

pub(crate) fn ejection(rule: &Ejection, endpoints: u16, sweeps: &[Sweep]) -> Result<(), String> {
    let config = config(rule).map_err(|error| error.to_string())?;
    virtually(async {
        let fleet = Fleet::new(BalanceConfig::new().ejection(config), endpoints).await;
        for (nth, sweep) in sweeps.iter().enumerate() {
            let scripts = sweep
                .calls
                .iter()
                .flat_map(|(script, times)| std::iter::repeat_n(script, usize::from(*times)));
            for (at, script) in scripts.enumerate() {
                for step in steps(script)? {
                    lock(&fleet.script).push_back(step);
                    let _ = fleet.call(at).await;
                }
            }
            let wait = match (sweep.at_once, sweep.after_s) {
                (true, _) => Duration::from_millis(1),
                (false, seconds) => Duration::from_secs(seconds.unwrap_or(10)),
            };
            tokio::time::sleep(wait).await;
            let ejected = fleet.ejected();
            let fits = sweep.ejected.as_ref().is_none_or(|expected| *expected == ejected)
                && sweep.ejected_count.is_none_or(|expected| expected == ejected.len());
            if !fits {
                return Err(format!("sweep {nth}: ejected {ejected:?}, not as in {sweep:?}"));
            }
        }
        Ok(())
    })
}

/// The calls of `+7-2`.
fn steps(script: &str) -> Result<Vec<char>, String> {
    let wrong = || format!("{script} is no script");
    if let Some(times) = script.strip_prefix("mixed") {
        let times = times.parse().map_err(|_| wrong())?;
        return Ok(std::iter::repeat_n(['+', '-'], times).flatten().collect());
    }
    let mut steps = Vec::new();
    let mut rest = script;
    while let Some(kind) = rest.chars().next() {
        let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |at| at + 1);
        let times: usize = rest[1..digits].parse().map_err(|_| wrong())?;
        steps.extend(std::iter::repeat_n(kind, times));
        rest = &rest[digits..];
    }
    Ok(steps)
}

fn config(rule: &Ejection) -> Result<EjectionConfig, BoxError> {
    let mut config = match &*rule.mode {
        "grpc" => EjectionConfig::grpc(),
        "envoy" => EjectionConfig::envoy(),
        mode => return Err(format!("no mode {mode}").into()),
    };
    if let Some(percent) = rule.max_percent {
        config = config.max_percent(percent)?;
    }
    if rule.always_one {
        config = config.always_one();
    }
    if rule.split_local {
        config = config.split_local();
    }
    if let Some(Test { stdev_factor, minimum_hosts, volume, enforcing, .. }) = rule.success_rate {
        let mut test = SuccessRate::new();
        test = stdev_factor.map_or(test, |factor| test.stdev_factor(factor));
        test = minimum_hosts.map_or(test, |hosts| test.minimum_hosts(hosts));
        test = volume.map_or(test, |volume| test.request_volume(volume));
        config = config.success_rate(test.enforcing(enforcing.unwrap_or(100))?);
    }
    if let Some(Test { threshold, minimum_hosts, volume, enforcing, .. }) = rule.failure_percentage
    {
        let mut test = FailurePercentage::new().threshold(threshold.unwrap_or(85))?;
        test = minimum_hosts.map_or(test, |hosts| test.minimum_hosts(hosts));
        test = volume.map_or(test, |volume| test.request_volume(volume));
        config = config.failure_percentage(test.enforcing(enforcing.unwrap_or(100))?);
    }
    if let Some(rows) = &rule.consecutive {
        let mut test = Consecutive::new();
        if let Some((failures, enforcing)) = rows.server_errors {
            test = test.server_errors(failures, enforcing)?;
        }
        if let Some((failures, enforcing)) = rows.gateway_failures {
            test = test.gateway_failures(failures, enforcing)?;
        }
        config = config.consecutive(test);
    }
    Ok(config)
}

pub(crate) fn panic(rule: &Panic, endpoints: u16, healthy: &[(u16, String)]) -> Result<(), String> {
    virtually(async {
        let config = BalanceConfig::new().panic_threshold(rule.threshold);
        let config = config.map_err(|error| error.to_string())?;
        let config = if rule.fail { config.fail_in_panic() } else { config };
        let fleet = Fleet::new(config, endpoints).await;
        for (healthy, expected) in healthy {
            for port in 1..=endpoints {
                let health = if port <= *healthy { Health::Healthy } else { Health::Unhealthy };
                fleet.tell(Change::Health(endpoint(port), health)).await;
            }
            // The share is counted ten times a second.
            tokio::time::sleep(Duration::from_millis(200)).await;
            lock(&fleet.called).clear();
            for at in 0..usize::from(endpoints) {
                let _ = fleet.call(at).await;
            }
            let called: BTreeSet<u16> = lock(&fleet.called).iter().copied().collect();
            let called = match called.last() {
                None => "none".to_owned(),
                Some(&last) if last == *healthy => "healthy".to_owned(),
                Some(&last) if last == endpoints => "all".to_owned(),
                Some(last) => format!("up to {last}"),
            };
            if called != *expected {
                return Err(format!(
                    "{healthy} healthy ones: {called} were called, not {expected}"
                ));
            }
        }
        Ok(())
    })
}
