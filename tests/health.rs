//! Active health checks, through the public interface.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    discover::{Resilient, ResilientConfig},
    endpoint::{Change, Endpoint, Health},
    health::{Checked, HealthConfig, Probe, ProbeTimedOut, Teller, Unavailable},
};
use futures_util::{Stream, StreamExt, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

fn endpoint(port: u16) -> Endpoint {
    Endpoint::from(SocketAddr::from(([127, 0, 0, 1], port)))
}

type Item = Result<Change, BoxError>;

/// How a scripted probe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Good,
    Bad,
    Unavailable,
    Hang,
    Panic,
}

use Answer::{Bad, Good, Hang, Panic};

/// Answers as it is told, and remembers when it was asked.
#[derive(Clone, Default)]
struct Scripted(Arc<Shared>);

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<u16, Vec<Answer>>>,
    asked: Mutex<Vec<(u16, Instant)>>,
    live: Arc<AtomicUsize>,
}

/// Counts a probe that is under way.
struct Live(Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scripted {
    /// Answers so, in this order, and then goes on with the last; `Good` for whom nothing is
    /// said.
    fn says(self, port: u16, answers: &[Answer]) -> Self {
        let mut reversed = answers.to_vec();
        reversed.reverse();
        lock(&self.0.answers).insert(port, reversed);
        self
    }

    fn next(&self, port: u16) -> Answer {
        match lock(&self.0.answers).get_mut(&port) {
            Some(answers) if answers.len() > 1 => answers.pop().unwrap_or(Good),
            Some(answers) => answers.first().copied().unwrap_or(Good),
            None => Good,
        }
    }

    fn live(&self) -> usize {
        self.0.live.load(Ordering::Relaxed)
    }

    fn asked(&self, port: u16) -> Vec<Instant> {
        lock(&self.0.asked).iter().filter(|(p, _)| *p == port).map(|&(_, at)| at).collect()
    }

    /// The times between the questions.
    fn waits(&self, port: u16) -> Vec<Duration> {
        self.asked(port).windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probe for Scripted {
    fn probe(&self, endpoint: &Endpoint) -> impl Future<Output = Result<(), BoxError>> + Send {
        let port = endpoint.address().port();
        lock(&self.0.asked).push((port, Instant::now()));
        self.0.live.fetch_add(1, Ordering::Relaxed);
        let live = Live(Arc::clone(&self.0.live));
        let answer = self.next(port);
        async move {
            let _live = live;
            match answer {
                Good => Ok(()),
                Bad => Err("bad".into()),
                Answer::Unavailable => Err(Unavailable::new().into()),
                Hang => std::future::pending().await,
                Panic => panic!("the probe panics, as the test wants"),
            }
        }
    }
}

/// A registry that says what it is given, and the hand that gives.
fn registry() -> (mpsc::UnboundedSender<Item>, impl Stream<Item = Item> + Unpin) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    (sender, stream::poll_fn(move |cx| receiver.poll_recv(cx)))
}

fn config() -> HealthConfig {
    HealthConfig::new().entropy(Entropy::seeded(7))
}

fn steady() -> HealthConfig {
    config().jitter_percent(0).expect("at most 50")
}

type Changes = Pin<Box<dyn Stream<Item = Item>>>;

/// A stage over a registry that has these endpoints, past the answer that names them.
async fn checked(ports: &[u16], probe: &Scripted, config: HealthConfig) -> (Sender, Changes) {
    let (sender, registry) = registry();
    let endpoints: Vec<_> = ports.iter().copied().map(endpoint).collect();
    sender.send(Ok(Change::Reset(endpoints.clone()))).expect("it is listened to");
    let mut changes: Changes = Box::pin(Checked::new(registry, probe.clone(), config));
    assert_eq!(next(&mut changes).await, Change::Reset(endpoints));
    for &port in ports {
        assert_eq!(next(&mut changes).await, health(port, Health::Pending));
    }
    (sender, changes)
}

type Sender = mpsc::UnboundedSender<Item>;

fn health(port: u16, health: Health) -> Change {
    Change::Health(endpoint(port), health)
}

async fn next(changes: &mut Changes) -> Change {
    let within = timeout(Duration::from_secs(600), changes.next()).await;
    within.expect("something is said soon").expect("it goes on").expect("no error")
}

/// Nothing is said for so long.
async fn silent(changes: &mut Changes, time: Duration) {
    let said = timeout(time, changes.next()).await;
    assert!(said.is_err(), "{said:?}");
}

/// Lets tasks that were ended come to their end.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_pending_right_after_it_came_and_judged_by_its_first_answer() {
    let probe = Scripted::default().says(1, &[Hang, Good]).says(2, &[Bad]);
    let start = Instant::now();
    let (sender, mut changes) = checked(&[1], &probe, steady()).await;

    sender.send(Ok(Change::Add(endpoint(2)))).expect("it is listened to");
    sender.send(Ok(Change::Add(endpoint(3)))).expect("it is listened to");
    assert_eq!(next(&mut changes).await, Change::Add(endpoint(2)));
    assert_eq!(next(&mut changes).await, health(2, Health::Pending));
    assert_eq!(next(&mut changes).await, Change::Add(endpoint(3)));
    assert_eq!(next(&mut changes).await, health(3, Health::Pending));

    // The hung probe of the first holds up neither of the others.
    let mut judged = vec![next(&mut changes).await, next(&mut changes).await];
    judged.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(judged, [health(2, Health::Unhealthy), health(3, Health::Healthy)]);
    assert_eq!(start.elapsed(), Duration::ZERO, "the first probes begin at once");
    // It has failed when its second is over.
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy));
    let waited = start.elapsed().as_millis();
    assert!((1_000..1_010).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn it_takes_three_failures_to_fall_and_two_good_answers_to_rise() {
    let probe = Scripted::default().says(1, &[Good, Bad, Bad, Bad, Bad, Good, Bad, Good, Good]);
    let (_sender, mut changes) = checked(&[1], &probe, steady()).await;
    let mut asked = Vec::new();
    for expected in [Health::Healthy, Health::Unhealthy, Health::Healthy] {
        assert_eq!(next(&mut changes).await, health(1, expected));
        asked.push(probe.asked(1).len());
    }
    assert_eq!(asked, [1, 4, 9]);
    // 5 s while all is well, 1 s at the edge, 2 s while it is unhealthy.
    let seconds: Vec<u64> = probe.waits(1).iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [5, 1, 1, 2, 2, 1, 2, 1]);
}

/// Listens to what it is given, and ends when there is no more; is asked never.
#[derive(Clone)]
struct Heard(Arc<Mutex<Option<Said>>>);

type Said = mpsc::UnboundedReceiver<Result<(), BoxError>>;

impl Probe for Heard {
    async fn probe(&self, _: &Endpoint) -> Result<(), BoxError> {
        panic!("it listens")
    }

    fn watch(&self, _: &Endpoint, teller: Teller) -> impl Future<Output = Option<BoxError>> + Send {
        let words = lock(&self.0).take();
        async move {
            let mut words = words.unwrap_or_else(|| mpsc::unbounded_channel().1);
            while let Some(word) = words.recv().await {
                teller.tell(word).await;
            }
            Some("it has ended".into())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_heard_counts_at_once_and_an_end_is_a_failed_check() {
    let (says, words) = mpsc::unbounded_channel();
    let probe = Heard(Arc::new(Mutex::new(Some(words))));
    let (sender, registry) = registry();
    sender.send(Ok(Change::Reset(vec![endpoint(1)]))).expect("it is listened to");
    let mut changes: Changes = Box::pin(Checked::new(registry, probe, steady()));
    assert_eq!(next(&mut changes).await, Change::Reset(vec![endpoint(1)]));
    assert_eq!(next(&mut changes).await, health(1, Health::Pending));
    for (word, said) in [
        (Ok(()), Health::Healthy),
        (Err("not so well".into()), Health::Unhealthy),
        (Ok(()), Health::Healthy),
    ] {
        says.send(word).expect("it listens");
        let start = Instant::now();
        assert_eq!(next(&mut changes).await, health(1, said));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
    // It may say nothing for as long as it likes.
    silent(&mut changes, Duration::from_secs(3600)).await;
    let start = Instant::now();
    drop(says);
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy));
    // Three failures, and the waits at the edge between them.
    let waited = start.elapsed().as_millis();
    assert!((2_000..2_010).contains(&waited), "{waited}");
}

/// Says nothing by itself, and counts how often it was to listen.
struct Deaf(Arc<AtomicUsize>);

impl Probe for Deaf {
    async fn probe(&self, _: &Endpoint) -> Result<(), BoxError> {
        Ok(())
    }

    async fn watch(&self, _: &Endpoint, _: Teller) -> Option<BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_is_nothing_to_listen_to_nobody_listens_a_second_time() {
    let listened = Arc::new(AtomicUsize::new(0));
    let (sender, registry) = registry();
    sender.send(Ok(Change::Reset(vec![endpoint(1)]))).expect("it is listened to");
    let probe = Deaf(Arc::clone(&listened));
    let mut changes: Changes = Box::pin(Checked::new(registry, probe, steady()));
    silent_after(&mut changes, 3).await;
    assert_eq!(listened.load(Ordering::Relaxed), 1);
}

/// Nothing is said for a minute, after so many words.
async fn silent_after(changes: &mut Changes, words: usize) {
    for _ in 0..words {
        next(changes).await;
    }
    silent(changes, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_at_first_has_failed_when_its_time_is_over() {
    let (_says, words) = mpsc::unbounded_channel();
    let probe = Heard(Arc::new(Mutex::new(Some(words))));
    let (sender, registry) = registry();
    sender.send(Ok(Change::Reset(vec![endpoint(1)]))).expect("it is listened to");
    let mut changes: Changes = Box::pin(Checked::new(registry, probe, steady()));
    next(&mut changes).await;
    next(&mut changes).await;
    let start = Instant::now();
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy));
    let waited = start.elapsed().as_millis();
    assert!((1_000..1_010).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_calls_is_asked_once_a_minute_while_it_is_well() {
    let probe = Scripted::default().says(1, &[Good, Good, Bad, Good]);
    let config = steady()
        .no_traffic_interval(Duration::from_secs(60), |endpoint| endpoint.address().port() != 1)
        .expect("within a day");
    let (_sender, mut changes) = checked(&[1, 2], &probe, config).await;
    next(&mut changes).await;
    next(&mut changes).await;
    silent(&mut changes, Duration::from_secs(185)).await;
    let waits: Vec<_> = probe.waits(1).iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [60, 60, 1, 60]);
    assert!(probe.waits(2).iter().all(|wait| wait.as_secs() == 5));
}

#[tokio::test(start_paused = true)]
async fn flapping_changes_no_verdict() {
    let flaps: Vec<Answer> = [Good, Bad, Bad].into_iter().cycle().take(60).collect();
    let probe = Scripted::default().says(1, &flaps);
    let (_sender, mut changes) = checked(&[1], &probe, steady()).await;
    assert_eq!(next(&mut changes).await, health(1, Health::Healthy));
    silent(&mut changes, Duration::from_secs(100)).await;
    assert!(probe.asked(1).len() > 30);
}

#[tokio::test(start_paused = true)]
async fn one_that_says_that_it_does_not_serve_falls_at_once() {
    let probe = Scripted::default().says(1, &[Good, Answer::Unavailable, Good, Good]);
    let (_sender, mut changes) = checked(&[1], &probe, steady()).await;
    assert_eq!(next(&mut changes).await, health(1, Health::Healthy));
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy));
    assert_eq!(probe.asked(1).len(), 2);
    assert_eq!(next(&mut changes).await, health(1, Health::Healthy));
    assert_eq!(probe.asked(1).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn intervals_are_spread_within_their_bounds_and_differ_between_endpoints() {
    let probe = Scripted::default();
    let (_sender, mut changes) = checked(&[1, 2], &probe, config()).await;
    next(&mut changes).await;
    next(&mut changes).await;
    silent(&mut changes, Duration::from_secs(500)).await;
    for port in [1, 2] {
        let waits: Vec<f64> = probe.waits(port).iter().map(Duration::as_secs_f64).collect();
        assert!(waits.len() > 80, "{waits:?}");
        // A timer fires up to a millisecond late.
        assert!(waits.iter().all(|wait| (4.0..6.002).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|&wait| wait < 4.3), "{waits:?}");
        assert!(waits.iter().any(|&wait| wait > 5.7), "{waits:?}");
    }
    let (ours, theirs) = (probe.waits(1), probe.waits(2));
    assert!(ours.iter().zip(&theirs).filter(|(a, b)| a == b).count() < 5, "{ours:?} {theirs:?}");
}

#[tokio::test(start_paused = true)]
async fn checks_go_on_without_anybody_who_listens() {
    let probe = Scripted::default();
    let (_sender, _changes) = checked(&[1], &probe, steady()).await;
    tokio::time::sleep(Duration::from_secs(52)).await;
    assert_eq!(probe.asked(1).len(), 11, "at once, and then every 5 s");
}

#[tokio::test(start_paused = true)]
async fn the_checks_of_an_endpoint_end_when_it_goes() {
    let probe = Scripted::default().says(1, &[Hang]).says(2, &[Hang]).says(3, &[Hang]);
    let (sender, mut changes) = checked(&[1, 2, 3], &probe, steady()).await;
    settle().await;
    assert_eq!(probe.live(), 3);

    sender.send(Ok(Change::Remove(endpoint(1)))).expect("it is listened to");
    assert_eq!(next(&mut changes).await, Change::Remove(endpoint(1)));
    settle().await;
    assert_eq!(probe.live(), 2, "in the middle of its probe");

    sender.send(Ok(Change::Reset(vec![endpoint(3)]))).expect("it is listened to");
    assert_eq!(next(&mut changes).await, Change::Reset(vec![endpoint(3)]));
    settle().await;
    assert_eq!(probe.live(), 1);

    assert_eq!(next(&mut changes).await, health(3, Health::Unhealthy));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!((probe.asked(1).len(), probe.asked(2).len()), (1, 1), "they are asked no more");
    assert!(probe.asked(3).len() > 20);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stage_ends_all_checks() {
    let probe = Scripted::default().says(1, &[Hang]);
    let (_sender, mut changes) = checked(&[1, 2, 3], &probe, steady()).await;
    next(&mut changes).await;
    settle().await;
    assert_eq!(probe.live(), 1);
    drop(changes);
    settle().await;
    assert_eq!(probe.live(), 0);
    assert_eq!(Arc::strong_count(&probe.0), 1, "no task holds the probe any more");
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(alive, 0, "and no task is left");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_comes_again_is_checked_anew_and_one_that_stays_goes_on() {
    let probe = Scripted::default().says(1, &[Bad, Good]).says(2, &[Good]);
    let (sender, mut changes) = checked(&[1, 2], &probe, steady()).await;
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy));
    assert_eq!(next(&mut changes).await, health(2, Health::Healthy));

    sender.send(Ok(Change::Remove(endpoint(1)))).expect("it is listened to");
    sender.send(Ok(Change::Add(endpoint(1)))).expect("it is listened to");
    // Named again, in a set and by itself: no news.
    sender.send(Ok(Change::Reset(vec![endpoint(2), endpoint(1)]))).expect("it is listened to");
    sender.send(Ok(Change::Add(endpoint(2)))).expect("it is listened to");
    assert_eq!(next(&mut changes).await, Change::Remove(endpoint(1)));
    assert_eq!(next(&mut changes).await, Change::Add(endpoint(1)));
    assert_eq!(next(&mut changes).await, health(1, Health::Pending));
    assert_eq!(next(&mut changes).await, Change::Reset(vec![endpoint(2), endpoint(1)]));
    assert_eq!(next(&mut changes).await, Change::Add(endpoint(2)));
    // Unhealthy as it was, it would have needed two good answers.
    assert_eq!(next(&mut changes).await, health(1, Health::Healthy));
    assert_eq!(probe.asked(1).len(), 2);
    silent(&mut changes, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_report_does_not_judge_the_endpoint_that_came_again() {
    let probe = Scripted::default().says(1, &[Bad, Hang]);
    let (sender, mut changes) = checked(&[1], &probe, steady()).await;
    // The first row's verdict waits in the channel while its endpoint goes and comes.
    settle().await;
    sender.send(Ok(Change::Remove(endpoint(1)))).expect("it is listened to");
    sender.send(Ok(Change::Add(endpoint(1)))).expect("it is listened to");
    assert_eq!(next(&mut changes).await, Change::Remove(endpoint(1)));
    assert_eq!(next(&mut changes).await, Change::Add(endpoint(1)));
    assert_eq!(next(&mut changes).await, health(1, Health::Pending));
    silent(&mut changes, Duration::from_millis(900)).await;
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy), "by its own probe");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_has_failed_and_is_asked_again() {
    let probe = Scripted::default().says(1, &[Panic, Good, Good]);
    let (_sender, mut changes) = checked(&[1], &probe, steady()).await;
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy));
    assert_eq!(next(&mut changes).await, health(1, Health::Healthy));
}

#[tokio::test(start_paused = true)]
async fn failed_probes_are_reported_with_their_reason() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let observer = Observer::new(move |event| {
        if let Event::ProbeFailed(endpoint, why) = event {
            let late = why.is::<ProbeTimedOut>();
            lock(&list).push((endpoint.address().port(), late, why.to_string()));
        }
    });
    let probe = Scripted::default().says(1, &[Bad, Hang, Good]);
    let (_sender, mut changes) = checked(&[1], &probe, steady().observer(observer)).await;
    next(&mut changes).await;
    assert_eq!(next(&mut changes).await, health(1, Health::Healthy));
    let late = "the health check got no answer within 1s".to_owned();
    assert_eq!(*lock(&seen), [(1, false, "bad".to_owned()), (1, true, late)]);
}

#[tokio::test(start_paused = true)]
async fn goes_on_when_the_registry_has_failed_or_ended() {
    let probe = Scripted::default().says(1, &[Good, Bad, Bad, Bad]);
    let (sender, mut changes) = checked(&[1], &probe, steady()).await;
    sender.send(Err("connection reset".into())).expect("it is listened to");
    let error = changes.next().await.expect("it goes on").expect_err("the registry's");
    assert_eq!(error.to_string(), "connection reset");
    drop(sender);
    assert_eq!(next(&mut changes).await, health(1, Health::Healthy));
    assert_eq!(next(&mut changes).await, health(1, Health::Unhealthy));
}

#[tokio::test(start_paused = true)]
async fn ends_when_the_registry_has_ended_and_nothing_is_left_to_check() {
    let (sender, mut changes) = checked(&[], &Scripted::default(), steady()).await;
    drop(sender);
    assert!(changes.next().await.is_none());
    assert!(changes.next().await.is_none(), "and the registry is not polled after its end");
}

#[tokio::test(start_paused = true)]
async fn the_worse_verdict_of_two_stages_counts() {
    let inner = Scripted::default().says(1, &[Good, Answer::Unavailable, Good]);
    let outer = Scripted::default();
    let (_sender, registry) = registry();
    _sender.send(Ok(Change::Add(endpoint(1)))).expect("it is listened to");
    let stages = Checked::new(Checked::new(registry, inner, steady()), outer, steady());
    let mut changes: Changes = Box::pin(stages);
    assert_eq!(next(&mut changes).await, Change::Add(endpoint(1)));
    for expected in [Health::Pending, Health::Healthy, Health::Unhealthy, Health::Healthy] {
        assert_eq!(next(&mut changes).await, health(1, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_keeps_its_verdict_while_its_registry_is_made_anew() {
    let probe = Scripted::default();
    let make = || stream::iter([Ok::<_, BoxError>(Change::Reset(vec![endpoint(1)]))]);
    let registry = Resilient::new(make, ResilientConfig::new());
    let mut changes: Changes = Box::pin(Checked::new(registry, probe.clone(), steady()));
    let (mut ends, mut verdicts) = (0, Vec::new());
    while ends < 5 {
        match changes.next().await.expect("it never ends") {
            Ok(Change::Health(_, verdict)) => verdicts.push(verdict),
            Ok(_) => {}
            Err(_) => ends += 1,
        }
    }
    assert_eq!(verdicts, [Health::Pending, Health::Healthy]);
    assert!(probe.waits(1).iter().all(|wait| wait.as_secs() == 5), "{:?}", probe.waits(1));
}

#[test]
fn needs_no_runtime_to_be_made_and_refuses_what_cannot_be_meant() {
    let registry = stream::empty::<Item>();
    drop(Checked::new(registry, Scripted::default(), HealthConfig::new()));

    let day = Duration::from_secs(24 * 60 * 60);
    for refused in [
        HealthConfig::new().rise(0),
        HealthConfig::new().fall(0),
        HealthConfig::new().interval(Duration::ZERO),
        HealthConfig::new().unhealthy_interval(Duration::ZERO),
        HealthConfig::new().edge_interval(day * 2),
        HealthConfig::new().timeout(Duration::MAX),
        HealthConfig::new().jitter_percent(51),
    ] {
        let sentence = refused.expect_err("it can't be meant").to_string();
        assert!(sentence.contains("at least") || sentence.contains("at most"), "{sentence}");
    }
}

/// Real sockets and real time.
#[cfg(feature = "hyper")]
mod http {
    use buttress::{
        find,
        health::{HttpProbe, UnexpectedStatus},
    };
    use http_body_util::Empty;
    use hyper::{Request, Response, body::Incoming, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpSocket},
        task::JoinHandle,
    };

    use super::*;

    /// What a request to the server was: its method, its target and the name it called.
    type Asked = Arc<Mutex<Vec<String>>>;

    async fn bind() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        (listener, Endpoint::from(address))
    }

    /// Answers every request with this status.
    async fn server(status: u16, http2: bool) -> (Endpoint, Asked, JoinHandle<()>) {
        let (listener, endpoint) = bind().await;
        let asked = Asked::default();
        let list = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let list = Arc::clone(&list);
                let service = service_fn(move |request: Request<Incoming>| {
                    let uri = request.uri();
                    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
                    let name = uri.authority().map(|name| name.as_str()).or(host);
                    let line = format!("{} {} {name:?}", request.method(), uri.path());
                    lock(&list).push(line);
                    let response = Response::builder().status(status).body(Empty::<&[u8]>::new());
                    std::future::ready(response)
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    if http2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(server.serve_connection(io, service).await);
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        drop(server.serve_connection(io, service).await);
                    }
                });
            }
        });
        (endpoint, asked, task)
    }

    async fn ask(probe: &HttpProbe, endpoint: &Endpoint) -> Result<(), BoxError> {
        let answer = timeout(Duration::from_secs(10), probe.probe(endpoint)).await;
        answer.expect("it is answered or refused")
    }

    fn probes() -> [(HttpProbe, bool); 2] {
        [(HttpProbe::new(), false), (HttpProbe::new().http2(), true)]
    }

    #[tokio::test]
    async fn a_page_that_is_there_is_a_good_answer_over_both_versions() {
        for (probe, http2) in probes() {
            for status in [200, 204] {
                let (endpoint, asked, _) = server(status, http2).await;
                ask(&probe, &endpoint).await.expect("it is healthy");
                let named = probe.clone().authority("payments:80").expect("a name");
                let named = named.path("/deep/check?now=1").expect("a path");
                ask(&named, &endpoint).await.expect("it is healthy");
                let address = endpoint.address().to_string();
                assert_eq!(
                    *lock(&asked),
                    [
                        format!("GET /health {:?}", Some(&*address)),
                        format!("GET /deep/check {:?}", Some("payments:80")),
                    ],
                    "over HTTP/{}",
                    if http2 { 2 } else { 1 },
                );
            }
        }
    }

    #[tokio::test]
    async fn a_503_says_that_it_does_not_serve_and_any_other_status_is_a_failure() {
        for (probe, http2) in probes() {
            let (endpoint, ..) = server(503, http2).await;
            let error = ask(&probe, &endpoint).await.expect_err("it says so");
            assert!(find::<Unavailable>(&*error).is_some(), "{error}");

            for status in [301, 404, 429, 500, 502] {
                let (endpoint, ..) = server(status, http2).await;
                let error = ask(&probe, &endpoint).await.expect_err("it is no good answer");
                let unexpected = find::<UnexpectedStatus>(&*error).expect("it has a name");
                assert_eq!(unexpected.status.as_u16(), status);
                assert!(find::<Unavailable>(&*error).is_none(), "{error}");
            }
        }
        let (endpoint, ..) = server(404, false).await;
        let error = ask(&HttpProbe::new(), &endpoint).await.expect_err("no such page");
        let said = error.to_string();
        assert!(said.contains("`/health`") && said.contains("the right path?"), "{said}");
    }

    #[tokio::test]
    async fn a_refused_connection_is_a_failure() {
        // Taken and not listened on, so that no other test gets the port.
        let held = TcpSocket::new_v4().expect("a socket");
        held.bind(([127, 0, 0, 1], 0).into()).expect("loopback");
        let endpoint = Endpoint::from(held.local_addr().expect("bound"));
        for (probe, _) in probes() {
            let error = ask(&probe, &endpoint).await.expect_err("nobody listens");
            let io = find::<std::io::Error>(&*error).expect("the system says so");
            assert_eq!(io.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }

    #[tokio::test]
    async fn garbage_and_a_connection_that_is_cut_are_failures() {
        for answer in [b"\x00\x01garbage\r\n\r\n".as_slice(), b"", b"HTTP/1.1 200"] {
            for (probe, _) in probes() {
                let (listener, endpoint) = bind().await;
                tokio::spawn(async move {
                    let (mut stream, _) = listener.accept().await.expect("the probe comes");
                    let mut asked = [0; 1024];
                    let _ = stream.read(&mut asked).await;
                    let _ = stream.write_all(answer).await;
                });
                ask(&probe, &endpoint).await.expect_err("that is no answer");
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_hangs_is_unhealthy_when_the_time_is_over_and_is_left_alone() {
        for (probe, _) in probes() {
            // Accepts, reads, and never answers.
            let (listener, endpoint) = bind().await;
            let registry = buttress::endpoint::Fixed::new([endpoint.clone()]);
            let config = HealthConfig::new().timeout(Duration::from_millis(50));
            let config = config.and_then(|c| c.unhealthy_interval(Duration::from_secs(3_600)));
            let stage = Checked::new(registry, probe, config.expect("within a day"));
            let mut changes: Changes = Box::pin(stage);
            next(&mut changes).await;
            assert_eq!(next(&mut changes).await, Change::Health(endpoint.clone(), Health::Pending));
            assert_eq!(next(&mut changes).await, Change::Health(endpoint, Health::Unhealthy));

            // The connection goes with its probe: what is read from it comes to an end.
            let (mut stream, _) = listener.accept().await.expect("the probe came");
            let mut asked = Vec::new();
            let end = timeout(Duration::from_secs(10), stream.read_to_end(&mut asked)).await;
            assert!(end.is_ok(), "the connection is still open");
            drop(stream);
            tasks_fall_to(1).await;
            drop(changes);
            tasks_fall_to(0).await;
        }
    }

    #[tokio::test]
    async fn a_connection_is_closed_after_its_answer() {
        for (probe, http2) in probes() {
            let (endpoint, ..) = server(200, http2).await;
            ask(&probe, &endpoint).await.expect("it is healthy");
            // What is left is the listener of each server so far.
            tasks_fall_to(1 + usize::from(http2)).await;
        }
    }

    /// Waits until no more than so many tasks are left: a socket's end takes its time.
    async fn tasks_fall_to(count: usize) {
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        for _ in 0..1_000 {
            if alive() <= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(alive() <= count, "{} tasks are left", alive());
    }

    #[test]
    fn paths_and_names_that_cannot_be_meant_are_refused() {
        for path in ["", "health", "http://payments/health", "/a b", "/\n"] {
            HttpProbe::new().path(path).expect_err(path);
        }
        for name in ["", "http://payments", "payments/health", "me:secret@payments", "a b", ":80"] {
            HttpProbe::new().authority(name).expect_err(name);
        }
    }
}

#[cfg(feature = "hyper")]
mod grpc {
    use std::convert::Infallible;

    use buttress::{
        find,
        health::{GrpcProbe, NoHealthAnswer},
    };
    use bytes::Bytes;
    use http_body_util::StreamBody;
    use hyper::{
        HeaderMap, Request, Response,
        body::{Frame, Incoming},
        server::conn::http2,
        service::service_fn,
    };
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpListener;

    use super::*;

    const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";

    /// Answers every call so: a status of HTTP, messages, and gRPC's status in the trailers. Whom
    /// each call named is told.
    async fn server(
        code: u16,
        messages: Vec<u8>,
        status: Option<&'static str>,
    ) -> (Endpoint, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let endpoint = Endpoint::from(listener.local_addr().expect("it is bound"));
        let named = Arc::<Mutex<Vec<String>>>::default();
        let names = Arc::clone(&named);
        let answer = move |request: Request<Incoming>| {
            lock(&names).extend(request.uri().authority().map(ToString::to_string));
            let trailers = status.map(|status| {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().expect("a value"));
                Frame::trailers(trailers)
            });
            let frames =
                std::iter::once(Frame::data(Bytes::from(messages.clone()))).chain(trailers);
            let frames: Vec<_> = frames.map(Ok::<_, Infallible>).collect();
            let response = Response::builder().status(code);
            std::future::ready(response.body(StreamBody::new(stream::iter(frames))))
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, answer) = (http2::Builder::new(TokioExecutor::new()), answer.clone());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        });
        (endpoint, named)
    }

    #[tokio::test]
    async fn an_answer_is_one_message_in_200_and_a_status_at_its_end() {
        let unreadable = Some(NoHealthAnswer::Unreadable);
        let lost = Some(NoHealthAnswer::Http(hyper::StatusCode::NOT_FOUND));
        for (code, messages, status, error) in [
            (200, SERVING.to_vec(), Some("0"), None),
            (404, SERVING.to_vec(), Some("0"), lost),
            (200, SERVING.repeat(2), Some("0"), unreadable.clone()),
            (200, Vec::new(), Some("0"), unreadable.clone()),
            (200, SERVING.to_vec(), Some("fine"), unreadable.clone()),
            (200, SERVING.to_vec(), None, unreadable),
        ] {
            let (endpoint, named) = server(code, messages, status).await;
            let probe = GrpcProbe::new().authority("shop:80").expect("a name");
            let answer = timeout(Duration::from_secs(20), probe.probe(&endpoint)).await;
            let answer = answer.expect("it is answered");
            let said = answer.err().and_then(|error| find::<NoHealthAnswer>(&*error).cloned());
            assert_eq!(said, error);
            assert_eq!(*lock(&named), ["shop:80"]);
        }
    }

    /// It would be asked instead, and be well, if the end meant that there is nothing to hear.
    #[tokio::test]
    async fn a_watch_that_ends_well_has_ended_all_the_same() {
        let (endpoint, _) = server(200, SERVING.to_vec(), Some("0")).await;
        let (sender, registry) = registry();
        sender.send(Ok(Change::Add(endpoint.clone()))).expect("it is listened to");
        let config = steady().fall(1).expect("above 0");
        let mut changes = Checked::new(registry, GrpcProbe::new().watch(), config);
        let mut said = Vec::new();
        while said.last() != Some(&Health::Unhealthy) {
            let change = timeout(Duration::from_secs(20), changes.next()).await;
            match change.expect("it falls").expect("it goes on").expect("no error") {
                Change::Health(_, health) => said.push(health),
                other => assert_eq!(other, Change::Add(endpoint.clone())),
            }
        }
        assert_eq!(said, [Health::Pending, Health::Healthy, Health::Unhealthy]);
    }
}
