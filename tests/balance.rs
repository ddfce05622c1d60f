//! The balancer through its public interface, in virtual time.

use std::{
    collections::HashMap,
    future::{Future, pending, poll_fn, ready},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    balance::{
        AtEndpoint, Balance, BalanceConfig, DEFAULT_EMPTY_WAIT, EndpointStatus, MAX_SET_ASIDE,
        NoEndpoint,
    },
    call::{Call, Stage, Trail, Words, mark_handed_over},
    classify::{Blame, HttpClassifier, PlainClassifier, Sent, Verdict, verdict_on_error},
    endpoint::{Change, Endpoint, EndpointKey, Fixed, Gate, Health, Open, Refusal},
    find,
};
use bytes::Bytes;
use futures_core::Stream;
use http::{Response, header::RETRY_AFTER};
use http_body::Frame;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The present of the paused clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(format!("e{port}"), ([127, 0, 0, 1], port).into())
}

fn all(ports: impl IntoIterator<Item = u16>) -> Change {
    Change::Reset(ports.into_iter().map(endpoint).collect())
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type Script<T> = Arc<dyn Fn(u16) -> Answer<T> + Send + Sync>;

/// The service of one endpoint; what it does is up to the test.
struct Backend<T> {
    port: u16,
    script: Script<T>,
    ready: Script<()>,
    /// Locked by nobody: it makes the future `Sync`.
    getting_ready: Mutex<Option<Answer<()>>>,
    hits: Arc<Hits>,
}

impl<T> Clone for Backend<T> {
    fn clone(&self) -> Self {
        Self {
            port: self.port,
            script: Arc::clone(&self.script),
            ready: Arc::clone(&self.ready),
            // A clone carries no readiness.
            getting_ready: Mutex::default(),
            hits: Arc::clone(&self.hits),
        }
    }
}

#[derive(Default)]
struct Hits(Mutex<HashMap<u16, u32>>);

impl Hits {
    fn of(&self, port: u16) -> u32 {
        lock(&self.0).get(&port).copied().unwrap_or_default()
    }

    fn total(&self) -> u32 {
        lock(&self.0).values().sum()
    }
}

// It boxes its future only because a test's script is any future.
impl<T: 'static> Service<Call<()>> for Backend<T> {
    type Response = T;
    type Error = BoxError;
    type Future = Answer<T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let (ready, port) = (&self.ready, self.port);
        lock(&self.getting_ready).get_or_insert_with(|| ready(port)).as_mut().poll(cx)
    }

    fn call(&mut self, _: Call<()>) -> Answer<T> {
        assert!(lock(&self.getting_ready).take().is_some(), "called without having been polled");
        *lock(&self.hits.0).entry(self.port).or_default() += 1;
        (self.script)(self.port)
    }
}

/// A gate that does as it is told and keeps books.
#[derive(Clone, Default)]
struct Door(Arc<DoorState>);

#[derive(Default)]
struct DoorState {
    closed: AtomicBool,
    /// It looks open, and refuses.
    lies: AtomicBool,
    asked: AtomicU32,
    admitted: AtomicU32,
    anyway: AtomicU32,
    found_healthy: AtomicU32,
    held: AtomicU32,
    settled: Mutex<Vec<Verdict>>,
}

impl Door {
    fn ticket(&self) -> Ticket {
        self.0.held.fetch_add(1, SeqCst);
        Ticket { door: self.clone() }
    }

    fn held(&self) -> u32 {
        self.0.held.load(SeqCst)
    }

    fn settled(&self) -> Vec<Blame> {
        lock(&self.0.settled).iter().map(|verdict| verdict.blame).collect()
    }
}

struct Ticket {
    door: Door,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.door.0.held.fetch_sub(1, SeqCst);
    }
}

impl Gate for Door {
    type Ticket = Ticket;

    fn is_open(&self, _: Instant) -> bool {
        !self.0.closed.load(SeqCst)
    }

    fn admit(&self, _: Instant) -> Result<Ticket, Refusal> {
        self.0.asked.fetch_add(1, SeqCst);
        if self.0.closed.load(SeqCst) || self.0.lies.load(SeqCst) {
            return Err(Refusal::indefinite());
        }
        self.0.admitted.fetch_add(1, SeqCst);
        Ok(self.ticket())
    }

    fn admit_anyway(&self, _: Instant) -> Ticket {
        self.0.anyway.fetch_add(1, SeqCst);
        self.ticket()
    }

    fn settle(&self, ticket: Ticket, verdict: Verdict, _: Instant, _: impl FnOnce() -> Instant) {
        assert!(Arc::ptr_eq(&ticket.door.0, &self.0), "a ticket of another gate");
        lock(&self.0.settled).push(verdict);
    }

    fn found_healthy(&self, _: Instant) {
        self.0.found_healthy.fetch_add(1, SeqCst);
    }
}

#[derive(Clone, Default)]
struct Doors(Arc<Mutex<HashMap<u16, Door>>>);

impl Doors {
    fn at(&self, port: u16) -> Door {
        lock(&self.0).entry(port).or_default().clone()
    }
}

type Feed = UnboundedSender<Result<Change, BoxError>>;
type Balancer<T, Cl> = Balance<Backend<T>, Door, Cl>;

struct Bench<T, Cl> {
    balance: Balancer<T, Cl>,
    feed: Feed,
    doors: Doors,
    hits: Arc<Hits>,
}

impl<T: 'static, Cl: Clone> Bench<T, Cl> {
    fn new(
        config: BalanceConfig,
        classifier: Cl,
        script: impl Fn(u16) -> Answer<T> + Send + Sync + 'static,
    ) -> Self {
        Self::with_ready(config, classifier, script, |_| Box::pin(ready(Ok(()))))
    }

    fn with_ready(
        config: BalanceConfig,
        classifier: Cl,
        script: impl Fn(u16) -> Answer<T> + Send + Sync + 'static,
        ready: impl Fn(u16) -> Answer<()> + Send + Sync + 'static,
    ) -> Self {
        let (feed, changes) = unbounded_channel();
        let (doors, hits) = (Doors::default(), Arc::<Hits>::default());
        let (script, ready): (Script<T>, _) = (Arc::new(script), Arc::new(ready));
        let make = {
            let hits = Arc::clone(&hits);
            move |endpoint: &Endpoint| Backend {
                port: endpoint.address().port(),
                script: Arc::clone(&script),
                ready: Arc::clone(&ready) as Arc<_>,
                getting_ready: Mutex::default(),
                hits: Arc::clone(&hits),
            }
        };
        let gates = {
            let doors = doors.clone();
            move |endpoint: &Endpoint| doors.at(endpoint.address().port())
        };
        let changes = UnboundedReceiverStream::new(changes);
        let balance =
            Balance::new(config.entropy(Entropy::seeded(1)), changes, make, gates, classifier)
                .expect("inside a runtime");
        Self { balance, feed, doors, hits }
    }

    async fn tell(&self, change: Change) {
        self.feed.send(Ok(change)).expect("the driver listens");
        settle().await;
    }

    fn status(&self, port: u16) -> EndpointStatus {
        let statuses = self.balance.endpoints();
        statuses.into_iter().find(|status| status.endpoint == endpoint(port)).expect("a member")
    }

    fn in_flight(&self) -> u32 {
        self.balance.endpoints().iter().map(|status| status.in_flight).sum()
    }
}

/// Lets the driver, and whoever was woken, run.
async fn settle() {
    for _ in 0..10 {
        yield_now().await;
    }
}

/// Every endpoint answers its own port at once.
fn echo(port: u16) -> Answer<u16> {
    Box::pin(ready(Ok(port)))
}

fn plain(
    script: impl Fn(u16) -> Answer<u16> + Send + Sync + 'static,
) -> Bench<u16, PlainClassifier> {
    Bench::new(BalanceConfig::new(), PlainClassifier::new(), script)
}

fn call<T, Cl>(
    balance: &Balancer<T, Cl>,
    words: Words,
) -> impl Future<Output = Result<<Balancer<T, Cl> as Service<Call<()>>>::Response, BoxError>> + use<T, Cl>
where
    T: 'static,
    Cl: buttress::classify::Classify<T> + Clone,
{
    balance.clone().oneshot(Call::with_words((), words))
}

fn no_endpoint(error: &BoxError) -> NoEndpoint {
    *find::<NoEndpoint>(&**error).expect("nobody could be called")
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

// Discovery and readiness.

#[tokio::test(start_paused = true)]
async fn is_ready_even_while_nothing_is_known_and_its_clones_share_what_comes() {
    let bench = plain(echo);
    let mut clone = bench.balance.clone();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(Service::<Call<()>>::poll_ready(&mut clone, &mut cx), Poll::Ready(Ok(()))));
    bench.tell(all([1, 2])).await;
    assert_eq!(clone.endpoints().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn discovery_is_driven_without_traffic() {
    let bench = plain(echo);
    for count in 1..5 {
        bench.tell(all(0..count)).await;
        assert_eq!(bench.balance.endpoints().len(), usize::from(count));
    }
}

#[tokio::test(start_paused = true)]
async fn a_discovery_error_keeps_the_last_good_set_and_calls_go_on() -> Result<(), BoxError> {
    let errors = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&errors);
    let observer = Observer::new(move |event| {
        if matches!(event, Event::DiscoveryFailed(_)) {
            seen.fetch_add(1, SeqCst);
        }
    });
    let config = BalanceConfig::new().observer(observer);
    let bench = Bench::new(config, PlainClassifier::new(), echo);
    bench.tell(all([1])).await;
    bench.feed.send(Err("the registry is down".into()))?;
    settle().await;
    assert_eq!(errors.load(SeqCst), 1);
    assert_eq!(call(&bench.balance, Words::new()).await?, 1);
    bench.tell(all([2])).await;
    sleep(20 * MS).await;
    assert_eq!(call(&bench.balance, Words::new()).await?, 2);
    Ok(())
}

/// A stream that is at its end after these, and can't be polled again.
struct Once {
    changes: Vec<Change>,
    ended: bool,
    polled_after_its_end: Arc<AtomicBool>,
}

impl Stream for Once {
    type Item = Result<Change, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            // The driver's task swallows the panic.
            self.polled_after_its_end.store(true, SeqCst);
            panic!("polled after its end");
        }
        let next = self.changes.pop();
        self.ended = next.is_none();
        Poll::Ready(next.map(Ok))
    }
}

#[tokio::test(start_paused = true)]
async fn an_ended_discovery_is_not_polled_again_and_its_set_stays() -> Result<(), BoxError> {
    let polled_after_its_end = Arc::new(AtomicBool::new(false));
    let discover = Once {
        changes: vec![all([7])],
        ended: false,
        polled_after_its_end: Arc::clone(&polled_after_its_end),
    };
    let make = |_: &Endpoint| tower::service_fn(|_: Call<()>| ready(Ok::<_, BoxError>(7)));
    let config = BalanceConfig::new();
    let mut balance =
        Balance::new(config, discover, make, |_: &Endpoint| Open::new(), PlainClassifier::new())?;
    settle().await;
    sleep(Duration::from_secs(600)).await;
    assert!(!polled_after_its_end.load(SeqCst));
    assert_eq!(balance.ready().await?.call(Call::new(())).await?, 7);
    Ok(())
}

/// Fails whenever it is asked.
struct Failing(Arc<AtomicUsize>);

impl Stream for Failing {
    type Item = Result<Change, BoxError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.fetch_add(1, SeqCst);
        Poll::Ready(Some(Err("no".into())))
    }
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_always_fails_does_not_spin() -> Result<(), BoxError> {
    let polls = Arc::new(AtomicUsize::new(0));
    let make = |_: &Endpoint| tower::service_fn(|_: Call<()>| ready(Ok::<_, BoxError>(7)));
    let discover = Failing(Arc::clone(&polls));
    let config = BalanceConfig::new();
    let _balance =
        Balance::new(config, discover, make, |_: &Endpoint| Open::new(), PlainClassifier::new())?;
    sleep(Duration::from_secs(60)).await;
    let polls = polls.load(SeqCst);
    assert!((10..40).contains(&polls), "{polls}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_empty_set_is_waited_for_up_to_the_limit_or_the_deadline() {
    let config = BalanceConfig::new().empty_wait(Duration::from_secs(2));
    let bench = Bench::new(config, PlainClassifier::new(), echo);
    let began = now();
    let error = call(&bench.balance, Words::new()).await.expect_err("nobody answers");
    assert_eq!(now() - began, Duration::from_secs(2));
    assert_eq!(no_endpoint(&error), NoEndpoint::Unknown { waited: Duration::from_secs(2) });
    assert_eq!(verdict_on_error(&*error).sent, Sent::No);
    let began = now();
    let error = call(&bench.balance, Words::new().deadline(now() + 300 * MS))
        .await
        .expect_err("nobody answers");
    assert_eq!(now() - began, 300 * MS);
    assert!(matches!(no_endpoint(&error), NoEndpoint::Unknown { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_ever_is_not_a_panic() {
    let config = BalanceConfig::new().empty_wait(Duration::MAX);
    let bench = Bench::new(config, PlainClassifier::new(), echo);
    let waiting = timeout(Duration::from_secs(100), call(&bench.balance, Words::new())).await;
    assert!(waiting.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_is_woken_by_the_first_endpoint_and_does_not_spin() {
    let bench = plain(echo);
    let polls = Arc::new(AtomicUsize::new(0));
    let waiting = tokio::spawn({
        let (call, polls) = (call(&bench.balance, Words::new()), Arc::clone(&polls));
        async move {
            let mut call = pin!(call);
            poll_fn(|cx| {
                polls.fetch_add(1, SeqCst);
                call.as_mut().poll(cx)
            })
            .await
        }
    });
    sleep(1000 * MS).await;
    assert_eq!(bench.balance.waiting(), 1);
    let began = now();
    bench.tell(all([3])).await;
    assert_eq!(waiting.await.expect("no panic").expect("an answer"), 3);
    assert_eq!(now(), began, "it did not wait for its timer");
    assert_eq!(polls.load(SeqCst), 2);
    assert_eq!(bench.balance.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_that_is_dropped_leaves_nothing_behind() {
    let bench = plain(echo);
    let waiting: Vec<_> =
        (0..50).map(|_| tokio::spawn(call(&bench.balance, Words::new()))).collect();
    settle().await;
    assert_eq!(bench.balance.waiting(), 50);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    assert_eq!(bench.balance.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_handle() {
    let bench = plain(echo);
    bench.tell(all([1])).await;
    let Bench { balance, feed, .. } = bench;
    let clone = balance.clone();
    drop(balance);
    settle().await;
    assert!(!feed.is_closed());
    drop(clone);
    settle().await;
    assert!(feed.is_closed());
}

#[test]
fn to_build_outside_of_a_runtime_is_an_error_with_a_name() {
    let make = |_: &Endpoint| tower::service_fn(|_: Call<()>| ready(Ok::<_, BoxError>(7)));
    let discover = Fixed::new([endpoint(1)]);
    let gates = |_: &Endpoint| Open::new();
    let built = Balance::new(BalanceConfig::new(), discover, make, gates, PlainClassifier::new());
    let error = built.expect_err("there is no runtime");
    assert!(error.to_string().contains("runtime"), "{error}");
}

/// The driver may run before `new` has returned, on another thread. Not paused: that needs a
/// runtime of one thread.
#[test]
fn no_driver_gives_up_before_its_balancer_is_built() -> Result<(), BoxError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    runtime.block_on(async {
        for _ in 0..2000 {
            let make = |_: &Endpoint| tower::service_fn(|_: Call<()>| ready(Ok::<_, BoxError>(7)));
            let discover = Fixed::new([endpoint(1)]);
            let gates = |_: &Endpoint| Open::new();
            let config = BalanceConfig::new().empty_wait(Duration::from_secs(5));
            let mut balance = Balance::new(config, discover, make, gates, PlainClassifier::new())?;
            balance.ready().await?.call(Call::new(())).await?;
        }
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn the_service_of_an_endpoint_that_left_is_let_go_without_another_change() {
    let bench = plain(echo);
    bench.tell(all([1])).await;
    let door = bench.doors.at(1);
    // Ours, the map's, the node's.
    assert_eq!(Arc::strong_count(&door.0), 3);
    bench.tell(all([])).await;
    sleep(Duration::from_secs(59)).await;
    assert_eq!(Arc::strong_count(&door.0), 3, "kept, in case it flapped");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(Arc::strong_count(&door.0), 2);
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_together_are_seen_together() {
    let bench = plain(echo);
    let waiting = tokio::spawn(call(&bench.balance, Words::new()));
    settle().await;
    for change in [
        Change::Add(endpoint(1)),
        Change::Health(endpoint(1), Health::Unhealthy),
        Change::Add(endpoint(2)),
    ] {
        bench.feed.send(Ok(change)).expect("the driver listens");
    }
    assert_eq!(waiting.await.expect("no panic").expect("an answer"), 2);
}

// The pick.

#[tokio::test(start_paused = true)]
async fn the_endpoint_that_was_picked_is_the_one_that_is_called() -> Result<(), BoxError> {
    let bench = plain(echo);
    bench.tell(all(0..10)).await;
    let mut left: Vec<u16> = (0..10).collect();
    for gone in [4, 0, 9, 5, 2] {
        bench.tell(Change::Remove(endpoint(gone))).await;
        left.retain(|&port| port != gone);
        for _ in 0..100 {
            let (mut trail, mut call) = (Trail::new(), pin!(call(&bench.balance, Words::new())));
            let port = poll_fn(|cx| trail.enter(|| call.as_mut().poll(cx))).await?;
            let target = trail.target().expect("the balancer chose");
            assert!(left.contains(&port), "{port} is gone");
            assert_eq!(target.address, endpoint(port).address());
            assert_eq!(target.key, bench.status(port).key);
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn goes_where_the_call_has_not_been_and_back_when_it_has_been_everywhere()
-> Result<(), BoxError> {
    let bench = plain(echo);
    bench.tell(all(1..=3)).await;
    let key = |port| bench.status(port).key;
    let tried = |ports: &[u16]| {
        let mut words = Words::new();
        ports.iter().for_each(|&port| words.tried.insert(key(port)));
        words
    };
    for _ in 0..50 {
        assert_eq!(call(&bench.balance, tried(&[1, 3])).await?, 2);
        assert_ne!(call(&bench.balance, tried(&[2])).await?, 2);
    }
    for _ in 0..50 {
        call(&bench.balance, tried(&[1, 2, 3])).await?;
    }
    assert!((1..=3).all(|port| bench.hits.of(port) > 5));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_refuses_after_all_costs_no_attempt() -> Result<(), BoxError> {
    let bench = plain(echo);
    bench.tell(all(1..=4)).await;
    for liar in [1, 2] {
        bench.doors.at(liar).0.lies.store(true, SeqCst);
    }
    let asked = || bench.doors.at(1).0.asked.load(SeqCst);
    for _ in 0..100 {
        let before = asked();
        assert!(call(&bench.balance, Words::new()).await? > 2);
        assert!(asked() - before <= 1, "who has refused a call is not asked again");
    }
    assert_eq!(bench.hits.total(), 100, "one attempt a call");
    assert!(asked() > 10, "it was picked, and refused");
    assert_eq!(bench.doors.at(1).0.admitted.load(SeqCst), 0);
    assert_eq!(bench.in_flight(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn many_gates_that_refuse_do_not_hide_the_one_that_does_not() -> Result<(), BoxError> {
    let bench = plain(echo);
    bench.tell(all(0..40)).await;
    for liar in 0..39 {
        bench.doors.at(liar).0.lies.store(true, SeqCst);
    }
    for _ in 0..50 {
        assert_eq!(call(&bench.balance, Words::new()).await?, 39);
    }
    Ok(())
}

/// Breakers that recover look open and admit a few. Goal: when these few are taken, calls flow
/// (more would be refused by nobody's fault), unless panic is ruled out.
#[tokio::test(start_paused = true)]
async fn when_all_that_look_open_refuse_all_are_used() -> Result<(), BoxError> {
    for (count, threshold) in [(3, 0.5), (40, 0.5), (3, 0.0), (40, 0.0)] {
        let config = BalanceConfig::new().panic_threshold(threshold)?;
        let bench = Bench::new(config, PlainClassifier::new(), echo);
        bench.tell(all(1..=count)).await;
        (1..=count).for_each(|port| bench.doors.at(port).0.lies.store(true, SeqCst));
        let answer = call(&bench.balance, Words::new()).await;
        if threshold > 0.0 {
            let port = answer?;
            assert_eq!(bench.doors.at(port).0.anyway.load(SeqCst), 1);
        } else {
            let error = answer.expect_err("nobody answers");
            assert_eq!(no_endpoint(&error), NoEndpoint::Refused { known: count.into() });
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn unhealthy_and_unchecked_endpoints_are_not_called_while_others_can_be()
-> Result<(), BoxError> {
    let bench = plain(echo);
    bench.tell(all(1..=4)).await;
    bench.tell(Change::Health(endpoint(1), Health::Pending)).await;
    bench.tell(Change::Health(endpoint(2), Health::Unhealthy)).await;
    bench.tell(Change::Health(endpoint(3), Health::Healthy)).await;
    for _ in 0..100 {
        assert!(call(&bench.balance, Words::new()).await? >= 3);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nobody_is_called_before_its_first_check_unless_that_takes_too_long() -> Result<(), BoxError>
{
    let bench = plain(echo);
    let health = |port, health| Change::Health(endpoint(port), health);
    bench.tell(all(1..=3)).await;
    for port in 1..=3 {
        bench.tell(health(port, Health::Pending)).await;
    }
    let mut first = pin!(call(&bench.balance, Words::new()));
    assert!(poll_once(first.as_mut()).is_pending());
    // None of three may be called, which would be a panic if all had been asked.
    bench.tell(health(1, Health::Unhealthy)).await;
    assert!(poll_once(first.as_mut()).is_pending());
    bench.tell(health(2, Health::Healthy)).await;
    assert_eq!(first.await?, 2);
    for _ in 0..20 {
        assert_eq!(call(&bench.balance, Words::new()).await?, 2);
    }

    bench.tell(Change::Remove(endpoint(2))).await;
    let began = now();
    call(&bench.balance, Words::new()).await?;
    assert_eq!(now() - began, DEFAULT_EMPTY_WAIT, "then it is a panic like any other");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_good_check_is_told_to_the_gate() {
    let bench = plain(echo);
    bench.tell(all([1, 2])).await;
    let found = |port| bench.doors.at(port).0.found_healthy.load(SeqCst);
    for told in 1..=3 {
        // Not only when the health changes: the gate may have closed in between.
        bench.tell(Change::Health(endpoint(1), Health::Healthy)).await;
        assert_eq!((found(1), found(2)), (told, 0));
    }
    bench.tell(Change::Health(endpoint(1), Health::Unhealthy)).await;
    assert_eq!(found(1), 3);
}

#[tokio::test(start_paused = true)]
async fn when_most_are_out_all_are_used() -> Result<(), BoxError> {
    let panics = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&panics);
    let observer = Observer::new(move |event| {
        if let Event::Panic(panic) = event {
            lock(&seen).push(*panic);
        }
    });
    let config = BalanceConfig::new().observer(observer);
    let bench = Bench::new(config, PlainClassifier::new(), echo);
    bench.tell(all(1..=5)).await;
    for closed in [1, 2] {
        bench.doors.at(closed).0.closed.store(true, SeqCst);
    }
    for _ in 0..50 {
        assert!(call(&bench.balance, Words::new()).await? > 2);
    }
    bench.doors.at(3).0.closed.store(true, SeqCst);
    sleep(101 * MS).await;
    for _ in 0..100 {
        call(&bench.balance, Words::new()).await?;
    }
    assert!((1..=5).all(|port| bench.doors.at(port).0.anyway.load(SeqCst) > 5));
    bench.doors.at(3).0.closed.store(false, SeqCst);
    sleep(101 * MS).await;
    for _ in 0..50 {
        assert!(call(&bench.balance, Words::new()).await? > 2);
    }
    assert_eq!(*lock(&panics), [true, false]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn without_panic_a_call_that_nobody_may_take_fails_at_once() -> Result<(), BoxError> {
    let config = BalanceConfig::new().panic_threshold(0.0)?;
    let bench = Bench::new(config, PlainClassifier::new(), echo);
    bench.tell(all(1..=3)).await;
    (1..=3).for_each(|port| bench.doors.at(port).0.closed.store(true, SeqCst));
    let began = now();
    let error = call(&bench.balance, Words::new()).await.expect_err("nobody answers");
    assert_eq!(no_endpoint(&error), NoEndpoint::Refused { known: 3 });
    let verdict = verdict_on_error(&*error);
    assert_eq!((verdict.blame, verdict.sent), (Blame::Nobody, Sent::No));
    assert_eq!((now(), bench.hits.total()), (began, 0));
    Ok(())
}

// Permits and places in flight.

#[tokio::test(start_paused = true)]
async fn a_permit_is_settled_once_by_success_and_by_failure() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let bench = plain(move |port| {
        let answer = if failing.load(SeqCst) { Err("broken".into()) } else { Ok(port) };
        Box::pin(ready(answer))
    });
    bench.tell(all([1])).await;
    assert!(call(&bench.balance, Words::new()).await.is_ok());
    fails.store(true, SeqCst);
    let error = call(&bench.balance, Words::new()).await.expect_err("nobody answers");
    let at = find::<AtEndpoint>(&*error).expect("it names the endpoint");
    assert_eq!(at.endpoint(), &endpoint(1));
    assert_eq!(bench.doors.at(1).settled(), [Blame::Nobody, Blame::Endpoint]);
    assert_eq!((bench.doors.at(1).held(), bench.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_polled_takes_nothing() {
    let bench = plain(echo);
    bench.tell(all([1])).await;
    drop(bench.balance.clone().call(Call::new(())));
    assert_eq!(bench.doors.at(1).0.asked.load(SeqCst), 0);
    assert_eq!((bench.hits.total(), bench.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_its_endpoint_gets_ready_gives_all_back_and_was_not_sent() {
    let bench = Bench::with_ready(BalanceConfig::new(), PlainClassifier::new(), echo, |_| {
        Box::pin(pending())
    });
    bench.tell(all([1])).await;
    let mut trail = Trail::new();
    {
        let mut call = pin!(bench.balance.clone().call(Call::new(())));
        assert!(trail.enter(|| poll_once(call.as_mut())).is_pending());
        assert_eq!((bench.doors.at(1).held(), bench.in_flight()), (1, 1));
        assert_eq!(trail.sent(), Sent::No);
    }
    assert_eq!((bench.doors.at(1).held(), bench.in_flight()), (0, 0));
    assert_eq!((bench.hits.total(), bench.doors.at(1).settled()), (0, vec![Blame::Caller]));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_in_flight_gives_all_back_and_blames_nobody() {
    let bench = plain(|_| {
        mark_handed_over();
        Box::pin(pending())
    });
    bench.tell(all([1])).await;
    let mut trail = Trail::new();
    {
        let mut call = pin!(bench.balance.clone().call(Call::new(())));
        assert!(trail.enter(|| poll_once(call.as_mut())).is_pending());
        assert_eq!((bench.doors.at(1).held(), bench.in_flight()), (1, 1));
        assert_eq!(trail.stage(), Stage::HandedOver);
    }
    assert_eq!((bench.doors.at(1).held(), bench.in_flight()), (0, 0));
    assert_eq!(bench.doors.at(1).settled(), [Blame::Caller]);
    assert!(!bench.status(1).doubted);
}

#[tokio::test(start_paused = true)]
async fn a_call_cut_by_its_deadline_counts_against_its_endpoint() {
    let bench = plain(|_| Box::pin(pending()));
    bench.tell(all([1])).await;
    let words = Words::new().deadline(now() + 100 * MS);
    assert!(timeout(100 * MS, call(&bench.balance, words)).await.is_err());
    assert_eq!((bench.doors.at(1).held(), bench.in_flight()), (0, 0));
    assert!(bench.status(1).doubted);
}

/// A body of two pieces; its sender holds it open.
struct Slow(tokio::sync::oneshot::Receiver<Result<(), BoxError>>);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll(cx).map(|end| match end {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(closed) => Some(Err(closed.into())),
        })
    }
}

type Ends = Arc<Mutex<Vec<tokio::sync::oneshot::Sender<Result<(), BoxError>>>>>;

fn streaming() -> (Bench<Response<Slow>, HttpClassifier>, Ends) {
    let ends = Ends::default();
    let opened = Arc::clone(&ends);
    let bench = Bench::new(BalanceConfig::new(), HttpClassifier::new(), move |_| {
        let (end, body) = tokio::sync::oneshot::channel();
        lock(&opened).push(end);
        Box::pin(ready(Ok(Response::new(Slow(body)))))
    });
    (bench, ends)
}

#[tokio::test(start_paused = true)]
async fn in_flight_lasts_to_the_end_of_the_body() -> Result<(), BoxError> {
    use http_body_util::BodyExt;
    let (bench, ends) = streaming();
    bench.tell(all([1])).await;
    let door = bench.doors.at(1);
    // Read to its end.
    let response = call(&bench.balance, Words::new()).await?;
    assert_eq!((bench.in_flight(), door.held(), door.settled().len()), (1, 1, 0));
    assert!(lock(&ends).remove(0).send(Ok(())).is_ok());
    response.into_body().collect().await?;
    assert_eq!((bench.in_flight(), door.held()), (0, 0));
    // Broken off: the endpoint's fault, though its head said yes.
    let response = call(&bench.balance, Words::new()).await?;
    assert!(lock(&ends).remove(0).send(Err("reset".into())).is_ok());
    assert!(response.into_body().collect().await.is_err());
    assert!(bench.status(1).doubted);
    // Dropped unread.
    drop(call(&bench.balance, Words::new()).await?);
    assert_eq!((bench.in_flight(), door.held()), (0, 0));
    assert_eq!(door.settled(), [Blame::Nobody, Blame::Endpoint, Blame::Nobody]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_to_get_ready_is_named_and_was_not_called() {
    let bench = Bench::with_ready(BalanceConfig::new(), PlainClassifier::new(), echo, |_| {
        Box::pin(ready(Err("no file descriptors".into())))
    });
    bench.tell(all([6])).await;
    let error = call(&bench.balance, Words::new()).await.expect_err("nobody answers");
    let at = find::<AtEndpoint>(&*error).expect("it names the endpoint");
    assert_eq!(at.endpoint(), &endpoint(6));
    let verdict = verdict_on_error(&*error);
    assert_eq!((verdict.blame, verdict.sent), (Blame::Endpoint, Sent::No));
    assert!(verdict.permits_retry(false), "not even a POST has happened");
    assert_eq!(bench.doors.at(6).settled(), [Blame::Endpoint]);
    assert_eq!((bench.hits.total(), bench.in_flight(), bench.doors.at(6).held()), (0, 0, 0));
}

// Wishes to be left alone.

fn http(
    script: impl Fn(u16) -> Response<String> + Send + Sync + 'static,
) -> Bench<Response<String>, HttpClassifier> {
    Bench::new(BalanceConfig::new(), HttpClassifier::new(), move |port| {
        Box::pin(ready(Ok(script(port))))
    })
}

fn answer(status: u16, retry_after: Option<u32>) -> Response<String> {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.body(String::new()).expect("a valid response")
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_asked_to_be_left_alone_is_and_others_take_over() -> Result<(), BoxError> {
    let busy = Arc::new(AtomicBool::new(true));
    let pushes_back = Arc::clone(&busy);
    let bench = http(move |port| match port {
        1 if pushes_back.load(SeqCst) => answer(503, Some(3)),
        _ => answer(200, None),
    });
    bench.tell(all(1..=3)).await;
    while bench.hits.of(1) == 0 {
        call(&bench.balance, Words::new()).await?;
    }
    busy.store(false, SeqCst);
    assert_eq!(bench.status(1).set_aside_until, Some(now() + 3000 * MS));
    for _ in 0..29 {
        sleep(100 * MS).await;
        call(&bench.balance, Words::new()).await?;
    }
    assert_eq!(bench.hits.of(1), 1);
    sleep(200 * MS).await;
    for _ in 0..50 {
        sleep(MS).await;
        call(&bench.balance, Words::new()).await?;
    }
    assert!(bench.hits.of(1) > 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn when_all_asked_to_be_left_alone_the_first_is_waited_for_or_it_fails_at_once()
-> Result<(), BoxError> {
    let busy = Arc::new(AtomicBool::new(true));
    let pushes_back = Arc::clone(&busy);
    let bench = http(move |port| match pushes_back.load(SeqCst) {
        true => answer(429, Some(u32::from(port))),
        false => answer(200, None),
    });
    bench.tell(all([2, 4])).await;
    let began = now();
    while bench.hits.total() < 2 {
        call(&bench.balance, Words::new()).await?;
    }
    busy.store(false, SeqCst);
    // No time for it.
    let error = call(&bench.balance, Words::new().deadline(began + 1900 * MS))
        .await
        .expect_err("nobody answers");
    let retry_at = began + 2000 * MS;
    assert_eq!(no_endpoint(&error), NoEndpoint::SetAside { known: 2, retry_at });
    assert_eq!(now(), began);
    assert!(!verdict_on_error(&*error).permits_retry(true));
    // Time enough.
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(call(&bench.balance, Words::new()))).collect();
    let mut waits = Vec::new();
    for call in calls {
        assert_eq!(call.await?.expect("an answer").status(), 200);
        waits.push(now() - began);
    }
    assert!(waits.iter().all(|wait| (2000..=3001).contains(&wait.as_millis())), "{waits:?}");
    assert!(waits.last() > Some(&(2200 * MS)), "they don't return together: {waits:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_not_waited_past() -> Result<(), BoxError> {
    let bench = http(|port| if port == 1 { answer(429, Some(20)) } else { answer(200, None) });
    bench.tell(all([1])).await;
    call(&bench.balance, Words::new()).await?;
    let waiting = tokio::spawn(call(&bench.balance, Words::new()));
    sleep(1000 * MS).await;
    let began = now();
    bench.tell(Change::Add(endpoint(2))).await;
    assert_eq!(waiting.await?.expect("an answer").status(), 200);
    assert_eq!(now(), began);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_a_day_is_capped() -> Result<(), BoxError> {
    let bench = http(|_| answer(503, Some(86_400)));
    bench.tell(all([1])).await;
    call(&bench.balance, Words::new()).await?;
    assert_eq!(bench.status(1).set_aside_until, Some(now() + MAX_SET_ASIDE));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_wish_about_one_request_sets_nobody_aside() -> Result<(), BoxError> {
    let bench = http(|_| answer(409, Some(20)));
    bench.tell(all([1])).await;
    let mut words = Words::new();
    words.keyed = true;
    call(&bench.balance, words).await?;
    assert_eq!(bench.status(1).set_aside_until, None);
    Ok(())
}

// Load.

/// Sends a call each `every` for a `span`; they don't wait for each other.
async fn open_loop<T, Cl>(bench: &Bench<T, Cl>, every: Duration, span: Duration)
where
    T: Send + 'static,
    Cl: buttress::classify::Classify<T> + Clone + Send + Sync + 'static,
    Cl::Guarded<buttress::balance::Held<Backend<T>, Door>>: Send,
{
    let mut calls = tokio::task::JoinSet::new();
    let end = now() + span;
    while now() < end {
        calls.spawn(call(&bench.balance, Words::new()));
        sleep(every).await;
    }
    calls.detach_all();
}

fn after(port: u16, delay: Duration) -> Answer<u16> {
    Box::pin(async move {
        sleep(delay).await;
        Ok(port)
    })
}

#[tokio::test(start_paused = true)]
async fn the_fast_one_of_two_gets_most() {
    let bench = plain(|port| after(port, if port == 1 { 5 * MS } else { 50 * MS }));
    bench.tell(all([1, 2])).await;
    open_loop(&bench, 10 * MS, Duration::from_secs(5)).await;
    assert!(bench.hits.of(1) > 9 * bench.hits.of(2), "{}", bench.hits.of(2));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_at_once_is_no_sink_however_busy_the_others_are() {
    for every in [5 * MS, MS] {
        let bench = plain(|port| match port {
            1 => Box::pin(ready(Err("broken".into()))),
            _ => after(port, 40 * MS),
        });
        bench.tell(all(1..=5)).await;
        while bench.hits.of(1) == 0 {
            open_loop(&bench, every, every).await;
        }
        let before = (bench.hits.of(1), bench.hits.total());
        open_loop(&bench, every, Duration::from_secs(1)).await;
        let (one, total) = (bench.hits.of(1) - before.0, bench.hits.total() - before.1);
        assert!(one * 100 < total * 2, "{one} of {total}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_turns_calls_away_unprocessed_is_no_sink() -> Result<(), BoxError> {
    let bench = http(|port| if port == 1 { answer(421, None) } else { answer(200, None) });
    bench.tell(all(1..=5)).await;
    for _ in 0..200 {
        call(&bench.balance, Words::new()).await?;
        sleep(5 * MS).await;
    }
    assert!(bench.hits.of(1) < 10, "{}", bench.hits.of(1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_nothing_of_how_slow_an_answer_is() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let bench = plain(move |port| match failing.load(SeqCst) {
        true => Box::pin(ready(Err("broken".into()))),
        false => after(port, 10 * MS),
    });
    bench.tell(all(1..=3)).await;
    open_loop(&bench, 5 * MS, Duration::from_secs(2)).await;
    fails.store(true, SeqCst);
    open_loop(&bench, 5 * MS, Duration::from_secs(2)).await;
    for status in bench.balance.endpoints() {
        assert!(status.cost <= 11 * MS, "{status:?}");
    }
    // All have failed hundreds of times. They are back soon, and evenly.
    fails.store(false, SeqCst);
    open_loop(&bench, 5 * MS, Duration::from_secs(1)).await;
    let before: Vec<u32> = (1..=3).map(|port| bench.hits.of(port)).collect();
    open_loop(&bench, 5 * MS, Duration::from_secs(2)).await;
    for (port, before) in (1..=3).zip(before) {
        let hits = bench.hits.of(port) - before;
        assert!((90..180).contains(&hits), "{port}: {hits}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_stray_failure_is_soon_forgotten() {
    let stray = Arc::new(AtomicBool::new(true));
    let once = Arc::clone(&stray);
    let bench = plain(move |port| match port {
        1 if once.swap(false, SeqCst) => Box::pin(ready(Err("a hiccup".into()))),
        _ => after(port, 10 * MS),
    });
    bench.tell(all(1..=3)).await;
    while stray.load(SeqCst) {
        open_loop(&bench, 5 * MS, 5 * MS).await;
    }
    assert!(bench.status(1).doubted);
    sleep(200 * MS).await;
    assert!(!bench.status(1).doubted);
    let before = bench.hits.of(1);
    open_loop(&bench, 5 * MS, Duration::from_secs(3)).await;
    let hits = bench.hits.of(1) - before;
    assert!((150..250).contains(&hits), "{hits} of 600");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_turns_calls_away_long_before_they_time_out() {
    let bench = plain(|port| match port {
        1 => Box::pin(pending()),
        _ => after(port, 10 * MS),
    });
    bench.tell(all(1..=3)).await;
    // Nothing ends at the one that hangs, so nothing but its silence speaks against it.
    open_loop(&bench, 5 * MS, Duration::from_secs(20)).await;
    assert!(bench.hits.of(1) <= 6, "{}", bench.hits.of(1));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_not_rushed_and_has_its_share_when_its_window_is_over() {
    let bench = plain(|port| after(port, 20 * MS));
    bench.tell(all(1..=4)).await;
    open_loop(&bench, 5 * MS, Duration::from_secs(2)).await;
    bench.tell(Change::Add(endpoint(5))).await;
    assert!((bench.status(5).share - 0.1).abs() < 1e-9);
    open_loop(&bench, 5 * MS, Duration::from_secs(2)).await;
    // A fair share would be 80: a tenth of that, and what the others are too busy for.
    let early = bench.hits.of(5);
    assert!((1..=30).contains(&early), "{early} of 400");
    open_loop(&bench, 5 * MS, Duration::from_secs(28)).await;
    let before = bench.hits.of(5);
    open_loop(&bench, 5 * MS, Duration::from_secs(2)).await;
    let late = bench.hits.of(5) - before;
    assert!((60..=100).contains(&late), "{late} of 400");
    assert_eq!(bench.status(5).share, 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_leaves_finishes_what_it_has_and_gets_nothing_new() -> Result<(), BoxError>
{
    let bench = plain(|port| after(port, 100 * MS));
    bench.tell(all([1])).await;
    let under_way = tokio::spawn(call(&bench.balance, Words::new()));
    settle().await;
    assert_eq!(bench.hits.of(1), 1);
    bench.tell(all([2, 3])).await;
    // Not in a panic either: it is none of those that are left.
    bench.tell(Change::Health(endpoint(2), Health::Unhealthy)).await;
    bench.tell(Change::Health(endpoint(3), Health::Unhealthy)).await;
    for _ in 0..20 {
        assert_ne!(call(&bench.balance, Words::new()).await?, 1);
    }
    assert_eq!(under_way.await.expect("no panic")?, 1);
    assert_eq!(bench.hits.of(1), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn state_survives_a_flap_and_not_a_new_address() {
    let bench = plain(|_| Box::pin(ready(Err("broken".into()))));
    bench.tell(all([1])).await;
    assert!(call(&bench.balance, Words::new()).await.is_err());
    let key: EndpointKey = bench.status(1).key;
    bench.tell(Change::Remove(endpoint(1))).await;
    bench.tell(Change::Add(endpoint(1))).await;
    assert_eq!((bench.status(1).key, bench.status(1).doubted), (key, true));
    let moved = Endpoint::new("e1", ([127, 0, 0, 1], 9).into());
    bench.tell(Change::Reset(vec![moved])).await;
    let status = bench.balance.endpoints().remove(0);
    assert!(status.key != key && !status.doubted);
}

#[test]
fn handles_and_futures_go_from_thread_to_thread() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send>() {}
    type Leaf = tower::util::BoxCloneSyncService<Call<()>, u16, BoxError>;
    shared::<Balance<Leaf, Door, PlainClassifier>>();
    shared::<Balancer<u16, PlainClassifier>>();
    sent::<<Balance<Leaf, Door, PlainClassifier> as Service<Call<()>>>::Future>();
    sent::<<Balance<Leaf, Door, PlainClassifier> as Service<Call<()>>>::Response>();
}
