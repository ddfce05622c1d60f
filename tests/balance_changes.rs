//! Calls while the set of endpoints changes, over 10,000 of them, on several threads.
//!
//! The balancer's task makes each set and its picker, which takes milliseconds for a ring or a
//! table; calls pick from the set before until the new one is there, and wait for nobody.

use std::{
    future::{Ready, ready},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use buttress::{
    BoxError, Entropy, Event, Observer,
    balance::{
        Aperture, Balance, BalanceConfig, Maglev, Member, PeakEwma, Picker, Policy, Priorities,
        RingHash, Weighted, Zones,
    },
    call::Call,
    classify::PlainClassifier,
    endpoint::{Change, Endpoint, Open},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedSender, unbounded_channel},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Service, ServiceExt};

const MANY: u32 = 10_000;
const SEED: u64 = 20_261_126;
/// Nothing here takes so long, on the slowest machine, unless somebody waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers at once.
#[derive(Clone, Copy)]
struct Leaf;

impl Service<Call<()>> for Leaf {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call<()>) -> Self::Future {
        ready(Ok(()))
    }
}

fn endpoint(at: u32) -> Endpoint {
    let [_, high, middle, low] = at.to_be_bytes();
    let address = SocketAddr::from(([10, high, middle, low], 80));
    let zone = ["a", "b", "c"][(at % 3) as usize];
    Endpoint::from(address).with_zone(zone).with_priority(u32::from(at % 4 == 3))
}

/// A balancer over many endpoints whose task has a thread of its own.
struct Fleet {
    balance: Balance<Leaf, Open, PlainClassifier>,
    changes: UnboundedSender<Result<Change, BoxError>>,
    /// Says when a set without an endpoint that was there is published.
    removed: Receiver<()>,
    runtime: Runtime,
}

impl Fleet {
    fn new(policy: impl Policy + 'static) -> Self {
        eprintln!("seed {SEED}");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.expect("the system has room for a runtime");
        let (changes, stream) = unbounded_channel();
        let (tell, removed) = channel();
        let observer = Observer::new(move |event| {
            if matches!(event, Event::EndpointRemoved(_)) {
                let _ = tell.send(());
            }
        });
        let config = BalanceConfig::new()
            .policy(policy)
            .entropy(Entropy::seeded(SEED))
            .observer(observer)
            .empty_wait(PATIENCE);
        let entered = runtime.enter();
        let stream = UnboundedReceiverStream::new(stream);
        let (make, open) = (|_: &Endpoint| Leaf, |_: &Endpoint| Open::new());
        let balance = Balance::new(config, stream, make, open, PlainClassifier::new());
        drop(entered);
        let balance = balance.expect("inside a runtime");
        let fleet = Self { balance, changes, removed, runtime };
        fleet.tell(Change::Reset((0..MANY).map(endpoint).collect()));
        fleet
    }

    fn tell(&self, change: Change) {
        self.changes.send(Ok(change)).expect("the driver listens");
    }

    /// Waits for the first set.
    fn begin(&self) {
        let first = self.balance.clone().oneshot(Call::new(()));
        self.runtime.block_on(first).expect("there is a set, and it answers");
        assert_eq!(self.balance.endpoints().len(), MANY as usize);
    }
}

/// One call, which has to be over when it is polled once: it waits for nobody.
fn call(balance: &mut Balance<Leaf, Open, PlainClassifier>, key: u64) {
    let mut request = Call::new(());
    request.words.affinity = Some(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut answer = pin!(balance.call(request));
    let answer = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(Ok(()))), "{answer:?}");
}

/// Makes the pickers of another policy, says that it has, and gives them away when it may.
#[derive(Debug)]
struct Held<P> {
    inner: P,
    made: Sender<()>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl<P: Policy> Policy for Held<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        let picker = self.inner.picker(members);
        let _ = self.made.send(());
        // An end of the test lets it go as well.
        let _ = self.go.lock().unwrap_or_else(PoisonError::into_inner).recv();
        picker
    }
}

/// Holds the balancer's task in the middle of a change, and makes calls meanwhile. Each set takes so
/// many pickers.
fn calls_go_on<P: Policy + 'static>(
    name: &str,
    pickers: u32,
    policy: impl FnOnce(Held<PeakEwma>) -> P,
) {
    let (made, is_made) = channel();
    let (go, may_go) = channel();
    let held = Held { inner: PeakEwma::new(), made, go: Arc::new(Mutex::new(may_go)) };
    let fleet = Fleet::new(policy(held));
    // Ends before the fleet does, whose runtime waits for the task.
    let go = go;
    for _ in 0..pickers {
        is_made.recv_timeout(PATIENCE).expect("the first set has pickers");
        go.send(()).expect("the driver waits for it");
    }
    fleet.begin();

    fleet.tell(Change::Remove(endpoint(0)));
    is_made.recv_timeout(PATIENCE).expect("a change is another picker");
    let (done, is_done) = channel();
    let mut balance = fleet.balance.clone();
    let calls = thread::spawn(move || {
        (0..1_000).for_each(|key| call(&mut balance, key));
        let _ = done.send(());
    });
    assert!(is_done.recv_timeout(PATIENCE).is_ok(), "{name}: calls wait for the balancer's task");
    calls.join().expect("it only calls");
    assert_eq!(fleet.balance.endpoints().len(), MANY as usize, "{name}: nothing is published yet");

    drop(go);
    fleet.removed.recv_timeout(PATIENCE).expect("it is published");
    assert_eq!(fleet.balance.endpoints().len(), MANY as usize - 1, "{name}");
}

#[test]
fn calls_go_on_while_a_change_takes_for_ever() {
    calls_go_on("alone", 1, |held| held);
    calls_go_on("in two levels of three zones", 6, |held| Priorities::new(Zones::new("a", held)));
    calls_go_on("in an aperture", 1, |held| {
        let peers = std::num::NonZeroU32::new(10).expect("10 is not 0");
        Aperture::new(3, peers, held).expect("3 is below 10")
    });
}

/// Makes the pickers of another policy, and counts: an odd number while it makes one.
#[derive(Debug)]
struct Counted<P> {
    inner: P,
    count: Arc<AtomicU64>,
}

impl<P: Policy> Policy for Counted<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        self.count.fetch_add(1, SeqCst);
        let picker = self.inner.picker(members);
        self.count.fetch_add(1, SeqCst);
        picker
    }
}

/// Goal: to build a ring, a table or a round is nothing that a call waits for. Method: calls that
/// begin and end while one and the same is built. If the builder held what a pick needs, there would
/// be none.
#[test]
fn calls_are_made_while_a_ring_or_a_table_is_built() {
    fn meanwhile(name: &str, policy: impl Policy + 'static) {
        const CHANGES: u32 = 10;
        let count = Arc::new(AtomicU64::new(0));
        let fleet = Fleet::new(Counted { inner: policy, count: Arc::clone(&count) });
        fleet.begin();
        let (stop, within) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..2 {
                let (mut balance, count) = (fleet.balance.clone(), Arc::clone(&count));
                let (stop, within) = (&stop, &within);
                scope.spawn(move || {
                    let mut key = thread;
                    while !stop.load(SeqCst) {
                        key += 2;
                        let before = count.load(SeqCst);
                        call(&mut balance, key);
                        let is_within = before % 2 == 1 && before == count.load(SeqCst);
                        within.fetch_add(u64::from(is_within), SeqCst);
                    }
                });
            }
            let published = (0..CHANGES).try_for_each(|at| {
                fleet.tell(Change::Remove(endpoint(at)));
                fleet.removed.recv_timeout(PATIENCE)
            });
            stop.store(true, SeqCst);
            assert_eq!(published, Ok(()), "{name}");
        });
        let within = within.load(SeqCst);
        eprintln!("{name}: {within} calls while {CHANGES} pickers were made");
        assert!(within >= u64::from(CHANGES), "{name}: {within} calls");
    }
    meanwhile("a ring", RingHash::new());
    meanwhile("a table", Maglev::new());
    meanwhile("a round", Weighted::new());
}
