//! Drives the library through a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    algo::{
        backoff,
        bucket::{Class, Tariff},
    },
    balance::{Balance, BalanceConfig, Held},
    body::Body,
    budget::Budget,
    call::{Call, Words},
    classify::{Classify, GrpcClassifier, GrpcCode, HttpClassifier},
    endpoint::{Endpoint, Fixed, Open},
    grpc::{AttemptHeader, AttemptHeaderLayer, PeekLayer},
    retry::{Deposit, RetryConfig, RetryLayer},
};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, util::BoxCloneService};

use super::{
    row::{self, Act, Books, Delay, Protocol, Rule, Settings, Span, Step},
    server::{At, Attempt, Seen, Server, code},
    support::{
        company::{lock, now},
        frames::Frames,
    },
};

type Below = BoxCloneService<Attempt, Response<Body>, BoxError>;

/// In virtual time.
pub(super) fn virtually<T>(task: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("the system has room for a runtime").block_on(task)
}

// --- Calls -------------------------------------------------------------------------------------

pub(crate) fn run(
    settings: &Settings,
    script: &[Rule],
    expected: &[row::Call],
) -> Result<(), String> {
    virtually(async {
        let server = Server::new(script);
        match settings.protocol {
            Protocol::Grpc => {
                let classifier = grpc(settings)?;
                calls(settings, classifier, &server, expected).await
            }
            Protocol::Http => calls(settings, HttpClassifier::new(), &server, expected).await,
        }
    })
}

fn grpc(settings: &Settings) -> Result<GrpcClassifier, String> {
    settings.retry.iter().try_fold(GrpcClassifier::new(), |classifier, (name, &retry)| {
        let code = code(name).ok_or_else(|| format!("gRPC has no code {name}"))?;
        classifier.retry(code, retry).map_err(|error| error.to_string())
    })
}

async fn calls<Cl>(
    settings: &Settings,
    classifier: Cl,
    server: &Server,
    expected: &[row::Call],
) -> Result<(), String>
where
    Cl: Classify<Response<Body>> + Classify<Response<Frames>>,
    Cl: Clone + Send + Sync + 'static,
    <Cl as Classify<Response<Body>>>::Guarded<Deposit>: Told,
    <Cl as Classify<Response<Frames>>>::Guarded<Held<At, Open>>: Plain,
{
    let budget = settings.budget.as_ref().map(tariff).transpose()?.map(Budget::new);
    let stopped: Arc<Mutex<Option<&'static str>>> = Arc::default();
    let mut config = config(settings)?.observer({
        let stopped = Arc::clone(&stopped);
        Observer::new(move |event| {
            if let Event::GaveUp { reason, .. } = event {
                *lock(&stopped) = Some(*reason);
            }
        })
    });
    if let Some(budget) = &budget {
        config = config.budget(budget.clone());
    }
    let below = below(settings, classifier.clone(), server)?;
    // Lets the balancer's driver run.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let service = RetryLayer::new(config, classifier).layer(below);
    for (nth, call) in expected.iter().enumerate() {
        for time in 1..=call.times {
            let before = server.seen().len();
            *lock(&stopped) = None;
            let told = service.clone().oneshot(request(settings)?);
            let told = async { told.await.map(Told::told)?.await };
            let limit = call.give_up_after_ms.map_or(Duration::MAX, Duration::from_millis);
            let result = match tokio::time::timeout(limit, told).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => "error".into(),
                Err(_) => "given up".into(),
            };
            let seen = server.seen();
            let last = time == call.times;
            let balance = budget.as_ref().filter(|_| last).map(Budget::balance);
            let stopped = lock(&stopped).take();
            let header = settings.attempt_header.as_deref();
            check(call, &result, &seen, before, stopped, balance, header)
                .map_err(|error| format!("call {nth}: {error}"))?;
        }
    }
    Ok(())
}

fn check(
    call: &row::Call,
    result: &str,
    seen: &[Seen],
    before: usize,
    stopped: Option<&str>,
    balance: Option<u32>,
    header: Option<&str>,
) -> Result<(), String> {
    let own = &seen[before..];
    same("result", result, &*call.result)?;
    same_if("last", seen.len().checked_sub(1), call.last.map(Some))?;
    same_if("attempts", own.len(), call.attempts)?;
    same_if("stopped", stopped, call.stopped.as_deref().map(Some))?;
    if let (Some(balance), Some(expected)) = (balance, call.balance) {
        same("balance", balance, expected)?;
    }
    let ports: BTreeSet<u16> = own.iter().map(|seen| seen.port).collect();
    same_if("endpoints", ports.len(), call.endpoints)?;
    if let Some(expected) = &call.waits_ms {
        let waits: Vec<Duration> = own.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        let fit = waits.len() == expected.len()
            && waits.iter().zip(expected).all(|(wait, span)| span.holds_time(*wait));
        if !fit {
            return Err(format!("waits of {waits:?}, not {expected:?}"));
        }
    }
    if let Some(expected) = &call.counted {
        let name = header.ok_or("no header was set")?;
        let name = if name == "grpc" { "grpc-previous-rpc-attempts" } else { name };
        let name = name.trim_start_matches('#');
        let counted = |seen: &Seen| {
            let value = seen.headers.get(name)?;
            Some(value.to_str().expect("digits").to_owned())
        };
        same("counted", own.iter().map(counted).collect::<Vec<_>>(), expected.clone())?;
    }
    Ok(())
}

fn same<T: PartialEq + Debug>(what: &str, is: T, expected: T) -> Result<(), String> {
    if is == expected { Ok(()) } else { Err(format!("{what}: {is:?}, not {expected:?}")) }
}

fn same_if<T: PartialEq + Debug>(what: &str, is: T, expected: Option<T>) -> Result<(), String> {
    expected.map_or(Ok(()), |expected| same(what, is, expected))
}

impl Span {
    /// Timers fire at full milliseconds, never early.
    fn holds_time(self, wait: Duration) -> bool {
        let ms = Duration::from_millis;
        match self {
            Self::Exactly(at) => (ms(at)..=ms(at + 1)).contains(&wait),
            Self::Between(from, to) => (ms(from)..=ms(to + 1)).contains(&wait),
        }
    }

    fn holds(self, number: u64) -> bool {
        match self {
            Self::Exactly(exactly) => number == exactly,
            Self::Between(from, to) => (from..=to).contains(&number),
        }
    }
}

// --- Settings ----------------------------------------------------------------------------------

fn config(settings: &Settings) -> Result<RetryConfig, String> {
    let seed = if settings.seed == 0 { 7 } else { settings.seed };
    let mut config = RetryConfig::new().without_budget().entropy(Entropy::seeded(seed));
    if let Some(attempts) = settings.max_attempts {
        config = config.max_attempts(attempts).map_err(|error| error.to_string())?;
    }
    if let Some(backoff) = settings.backoff {
        config = config.backoff(waits(backoff)?);
    }
    if let Some(cap) = settings.pushback_cap_ms {
        config = config.pushback_cap(Duration::from_millis(cap));
    }
    if let Some(cap) = settings.replay_cap {
        config = config.replay_cap(cap);
    }
    Ok(config)
}

fn waits(backoff: row::Backoff) -> Result<backoff::Backoff, String> {
    let ms = Duration::from_millis;
    let made = backoff::Backoff::new(ms(backoff.base_ms), ms(backoff.cap_ms));
    let made = made.map_err(|error| error.to_string())?;
    backoff.spread.map_or(Ok(made), |(least, most)| {
        made.spread(least, most).map_err(|error| error.to_string())
    })
}

fn tariff(tariff: &row::Tariff) -> Result<Tariff, String> {
    match *tariff {
        row::Tariff::Grpc { max_tokens, ratio } => {
            Tariff::grpc(max_tokens, ratio).map_err(|error| error.to_string())
        }
        row::Tariff::Tokens { capacity, deposit, transient, throttled, floor_ms, gives_back } => {
            let mut made = Tariff::default();
            made.capacity = capacity.unwrap_or(made.capacity);
            made.deposit = deposit.unwrap_or(made.deposit);
            made.transient = transient.unwrap_or(made.transient);
            made.throttled = throttled.unwrap_or(made.throttled);
            made.gives_back = gives_back.unwrap_or(made.gives_back);
            if let Some(ms) = floor_ms {
                made.floor_interval = (ms > 0).then(|| Duration::from_millis(ms));
            }
            Ok(made)
        }
    }
}

fn request(settings: &Settings) -> Result<Call<Request<Body>>, String> {
    let method = settings.method.as_deref().unwrap_or(match settings.protocol {
        Protocol::Grpc => "POST",
        Protocol::Http => "GET",
    });
    let method: Method = method.parse().map_err(|_| format!("no method: {method}"))?;
    let mut request = Request::new(Body::full(vec![7; settings.request_bytes]));
    *request.method_mut() = method;
    let mut words = Words::new();
    words.keyed = settings.keyed;
    words.idempotent = settings.idempotent;
    if let Some(ms) = settings.deadline_ms {
        words = words.deadline(now() + Duration::from_millis(ms));
    }
    Ok(Call::with_words(request, words))
}

// --- The stack below the retry -----------------------------------------------------------------

fn below<Cl>(settings: &Settings, classifier: Cl, server: &Server) -> Result<Below, String>
where
    Cl: Classify<Response<Frames>> + Clone + Send + Sync + 'static,
    Cl::Guarded<Held<At, Open>>: Plain,
{
    let mut below: Below = if settings.endpoints == 0 {
        boxed(server.at(0))
    } else {
        let server = server.clone();
        let addresses =
            (1..=settings.endpoints).map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        let balance = Balance::new(
            BalanceConfig::new().entropy(Entropy::seeded(7)),
            Fixed::new(addresses),
            move |endpoint: &Endpoint| server.at(endpoint.address().port()),
            |_: &Endpoint| Open::new(),
            classifier,
        );
        boxed(balance.map_err(|error| format!("{error:?}"))?)
    };
    if let Some(header) = settings.attempt_header.as_deref() {
        let header = match header {
            "grpc" => Ok(AttemptHeader::grpc()),
            name => match name.strip_prefix('#') {
                Some(name) => AttemptHeader::number(name),
                None => AttemptHeader::previous(name),
            },
        };
        let header = header.map_err(|error| error.to_string())?;
        below = boxed(AttemptHeaderLayer::new(header).layer(below));
    }
    if settings.peek {
        below = boxed(PeekLayer::new().layer(below));
    }
    Ok(below)
}

/// A response whose body can be boxed.
trait Plain: Send {
    fn plain(self) -> Response<Body>;
}

impl<B> Plain for Response<B>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    fn plain(self) -> Response<Body> {
        self.map(Body::new)
    }
}

fn boxed<S>(service: S) -> Below
where
    S: Service<Attempt, Response: Plain, Error: Into<BoxError>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let plain = service.map_response(Plain::plain).map_err(Into::into);
    BoxCloneService::new(plain)
}

/// What an answer says, once it has been read to its end.
trait Told {
    fn told(self) -> impl Future<Output = Result<String, BoxError>>;
}

impl<B> Told for Response<B>
where
    B: http_body::Body<Data = Bytes, Error = BoxError>,
{
    async fn told(self) -> Result<String, BoxError> {
        let (head, body) = self.into_parts();
        let body = body.collect().await?;
        let code = body.trailers().and_then(GrpcCode::of).or_else(|| GrpcCode::of(&head.headers));
        Ok(code.map_or_else(|| head.status.as_u16().to_string(), |code| code.to_string()))
    }
}

// --- Budgets and backoffs alone ----------------------------------------------------------------

pub(crate) fn budget(terms: &row::Tariff, steps: &[Step], expected: &Books) -> Result<(), String> {
    virtually(async {
        let budget = Budget::new(tariff(terms)?);
        let mut granted = 0;
        for step in steps {
            for _ in 0..step.times {
                for act in &step.acts {
                    granted += u64::from(do_one(&budget, *act).await);
                }
            }
        }
        if !expected.granted.holds(granted) {
            return Err(format!("granted: {granted}, not {:?}", expected.granted));
        }
        same_if("balance", budget.balance(), expected.balance)?;
        if let Some(refused) = &expected.refused {
            let counted = budget.refusals();
            let counted = counted.iter().filter(|&(_, count)| count > 0);
            let counted: BTreeMap<String, u64> =
                counted.map(|(why, count)| (why.code().into(), count)).collect();
            same("refused", &counted, refused)?;
        }
        Ok(())
    })
}

/// Whether a retry was granted.
async fn do_one(budget: &Budget, act: Act) -> bool {
    match act {
        Act::Deposit => budget.deposit(),
        Act::WaitMs(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Act::Retry | Act::RetryThatSucceeds | Act::RetryThatFails => {
            let Some(paid) = budget.withdraw(Class::Transient, now()) else { return false };
            match act {
                Act::RetryThatSucceeds => budget.settle(paid, true),
                Act::RetryThatFails => budget.settle(paid, false),
                _ => {}
            }
            return true;
        }
    }
    false
}

pub(crate) fn backoff(backoff: &row::Backoff, delays: &[Delay]) -> Result<(), String> {
    let backoff = waits(*backoff)?;
    for &Delay { n, draw, ms } in delays {
        let delay = backoff.delay(n, draw);
        let expected = Duration::from_millis(ms);
        if delay.abs_diff(expected) > Duration::from_nanos(1) {
            return Err(format!("retry {n} at {draw}: {delay:?}, not {expected:?}"));
        }
    }
    Ok(())
}
