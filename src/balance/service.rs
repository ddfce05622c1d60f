//! The balancer: a handle over what all its clones share.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::task::AbortHandle;
use tower_service::Service;

use super::{
    config::BalanceConfig,
    discovery::Discovery,
    driver::drive,
    eject::Alarm,
    error::OutsideRuntime,
    future::BalanceFuture,
    node::{EndpointStatus, Held},
    picture::BalanceSnapshot,
    policy::Policy,
    probing::{self, Probes},
    recent::Recent,
    snapshot::Snapshot,
};
use crate::{
    call::Carrier,
    classify::Classify,
    endpoint::{Discover, Endpoint, Gate, MakeEndpoint},
    error::BoxError,
    event::Event,
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, Spread, lock},
    time::now,
};

/// Picks an endpoint for each call. Always ready; cheap to clone.
pub struct Balance<S, G, Cl> {
    shared: Spread<Shared<S, G>>,
    classifier: Cl,
}

impl<S, G, Cl> Balance<S, G, Cl>
where
    S: Send + Sync + 'static,
    G: Gate + Send + Sync + 'static,
{
    /// A balancer over the endpoints that `discover` names. `make` builds the service of an
    /// endpoint, `gates` what decides whether it may be called.
    ///
    /// # Errors
    ///
    /// [`OutsideRuntime`] if there is no tokio runtime for the driver.
    pub fn new<D, M, N>(
        config: BalanceConfig,
        discover: D,
        make: M,
        gates: N,
        classifier: Cl,
    ) -> Result<Self, OutsideRuntime>
    where
        D: Discover + Send + 'static,
        M: MakeEndpoint<Service = S> + Send + Sync + 'static,
        N: Fn(&Endpoint) -> G + Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| OutsideRuntime)?;
        let shared = Arc::new(Shared::new(config, now()));
        // After the `Arc` is whole (not in `new_cyclic`): another thread may run the driver at
        // once, and one that can't upgrade its `Weak` takes it that the last handle is gone.
        let driver = runtime.spawn(drive(Arc::downgrade(&shared), discover, make, gates));
        shared.driver.get_or_init(|| driver.abort_handle());
        if let Some(probes) = shared.probes() {
            let (entropy, observer) = (shared.config.entropy.fork(), &shared.config.observer);
            let prober = runtime.spawn(probing::run(probes, entropy, observer.clone()));
            shared.prober.get_or_init(|| prober.abort_handle());
        }
        Ok(Self { shared: Spread::new(shared), classifier })
    }
}

impl<S, G, Cl> Balance<S, G, Cl> {
    /// What its clones share, for who picks from it without its future.
    pub(crate) fn shared(&self) -> &Arc<Shared<S, G>> {
        &self.shared
    }
}

impl<S, G: Gate, Cl> Balance<S, G, Cl> {
    /// The endpoints that are known now, and how each does.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.snapshot.load().statuses(now())
    }

    /// How many calls wait for an endpoint: for a first one, or for one that asked to be left
    /// alone.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting()
    }

    /// All that an operator asks: which endpoints, in which state, why and since when, with what
    /// load. It costs a look at each endpoint, and changes nothing.
    #[must_use]
    pub fn snapshot(&self) -> BalanceSnapshot {
        let (now, shared) = (now(), &**self.shared);
        let snapshot = shared.snapshot.load();
        let discovery = lock(&shared.discovery).clone();
        BalanceSnapshot::new(
            snapshot.statuses(now),
            snapshot.eligible_share(now) < shared.config.panic_threshold,
            shared.waiting(),
            &discovery,
            shared.probes().map(|probes| probes.snapshot()),
            now,
        )
    }
}

impl<S, G, Cl: Clone> Clone for Balance<S, G, Cl> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), classifier: self.classifier.clone() }
    }
}

impl<S, G, Cl> fmt::Debug for Balance<S, G, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Balance({} endpoints)", self.shared.snapshot.load().members.len())
    }
}

impl<S, G, Cl, C> Service<C> for Balance<S, G, Cl>
where
    C: Carrier,
    S: Service<C> + Clone,
    S::Error: Into<BoxError>,
    G: Gate,
    Cl: Classify<S::Response> + Clone,
{
    type Response = Cl::Guarded<Held<S, G>>;
    type Error = BoxError;
    type Future = BalanceFuture<S, G, Cl, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: C) -> Self::Future {
        BalanceFuture::new(self.shared.share(), self.classifier.clone(), call)
    }
}

/// What the clones of a balancer share.
pub(crate) struct Shared<S, G> {
    pub(super) config: BalanceConfig,
    pub(super) snapshot: ArcSwap<Snapshot<S, G>>,
    /// Where answers have just come from.
    pub(super) recent: Arc<Recent>,
    /// What times are counted from.
    pub(super) epoch: Instant,
    /// Raised by a call after which its endpoint has failed too often in a row.
    pub(super) alarm: Arc<Alarm>,
    /// Written by the driver, read by who looks: no call takes this lock.
    pub(super) discovery: Mutex<Discovery>,
    waiting: Mutex<Waiting>,
    panic: AtomicBool,
    /// When the panic is looked at again, in nanoseconds after the epoch.
    panic_due: AtomicU64,
    driver: OnceLock<AbortHandle>,
    /// Sends the probes of a policy that wants some.
    prober: OnceLock<AbortHandle>,
}

/// Calls that wait for another set of endpoints.
#[derive(Default)]
struct Waiting {
    wakers: HashMap<u64, Waker>,
    next: u64,
}

/// How often the share of endpoints that may be called is counted. Gates open and close without
/// a word, and counting takes a look at each: this bounds both the delay and the cost.
const PANIC_INTERVAL: Duration = Duration::from_millis(100);

impl<S, G> Shared<S, G> {
    pub(super) fn new(config: BalanceConfig, epoch: Instant) -> Self {
        Self {
            config,
            snapshot: ArcSwap::default(),
            recent: Arc::new(Recent::new()),
            epoch,
            alarm: Arc::default(),
            discovery: Mutex::default(),
            waiting: Mutex::default(),
            panic: AtomicBool::new(false),
            panic_due: AtomicU64::new(0),
            driver: OnceLock::new(),
            prober: OnceLock::new(),
        }
    }

    /// What the policy wants to ask of the endpoints.
    pub(super) fn probes(&self) -> Option<Probes> {
        self.config.policy.as_deref().and_then(Policy::probes)
    }

    pub(super) fn publish(&self, snapshot: Snapshot<S, G>) {
        self.snapshot.store(Arc::new(snapshot));
        // Another set is another share.
        self.panic_due.store(0, Ordering::Relaxed);
        let wakers = std::mem::take(&mut lock(&self.waiting).wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    /// Has the waiting call `ticket` woken by the next change.
    pub(super) fn wait(&self, ticket: &mut Option<u64>, waker: &Waker) {
        let mut waiting = lock(&self.waiting);
        let ticket = *ticket.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        let old = waiting.wakers.insert(ticket, waker.clone());
        // Somebody else's code runs when a waker is dropped: never under the lock.
        drop(waiting);
        drop(old);
    }

    /// The call `ticket` waits no more.
    pub(super) fn leave(&self, ticket: u64) {
        let old = lock(&self.waiting).wakers.remove(&ticket);
        drop(old);
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiting).wakers.len()
    }
}

impl<S, G: Gate> Shared<S, G> {
    /// Whether too few endpoints are ever a reason to use all.
    pub(super) fn may_panic(&self) -> bool {
        self.config.panic_threshold > 0.0
    }

    /// Whether too few endpoints may be called, so that all (or none) of them are, at `now`, which is
    /// so long `since` the epoch. Counted anew when it is due, or `at_once`, since nobody was found.
    pub(super) fn in_panic(
        &self,
        snapshot: &Snapshot<S, G>,
        now: Instant,
        since: Duration,
        at_once: bool,
    ) -> bool {
        let elapsed = since.as_nanos() as u64;
        // Relaxed: two calls that both count come to the same.
        if !at_once && elapsed < self.panic_due.load(Ordering::Relaxed) {
            return self.panic.load(Ordering::Relaxed);
        }
        let due = elapsed + PANIC_INTERVAL.as_nanos() as u64;
        self.panic_due.store(due, Ordering::Relaxed);
        let panic = snapshot.eligible_share(now) < self.config.panic_threshold;
        if self.panic.swap(panic, Ordering::Relaxed) != panic {
            self.config.observer.on(|| Event::Panic(panic));
        }
        panic
    }
}

impl<S, G> Drop for Shared<S, G> {
    fn drop(&mut self) {
        for task in [&self.driver, &self.prober] {
            if let Some(task) = task.get() {
                task.abort();
            }
        }
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicU32, Ordering::SeqCst},
    };

    use loom::thread;

    use super::*;
    use crate::{
        balance::{load::Load, node::Node, snapshot::Member},
        endpoint::{Health, Open},
        event::Observer,
    };

    /// Two calls find at once that nobody may be called.
    #[test]
    fn a_panic_is_told_once() {
        loom::model(|| {
            let (now, told) = (now(), Arc::new(AtomicU32::new(0)));
            let counted = Arc::clone(&told);
            let observer = Observer::new(move |_| {
                counted.fetch_add(1, SeqCst);
            });
            let shared = Arc::new(Shared::new(BalanceConfig::new().observer(observer), now));
            let endpoint = Endpoint::from(SocketAddr::from(([127, 0, 0, 1], 1)));
            let load = Load::new(now, Duration::from_secs(4), None, now);
            let recent = Arc::clone(&shared.recent);
            let node = Arc::new(Node::new(endpoint.clone(), (), Open::new(), load, recent, now));
            let (endpoint, health) = (Arc::new(endpoint), Health::Unhealthy);
            let members = vec![Member { node, endpoint, health, eligible: false }];
            shared.publish(Snapshot::new(1, members, Vec::new(), None, now));
            let looks = move |shared: &Shared<(), Open>| {
                assert!(shared.in_panic(&shared.snapshot.load(), now, Duration::ZERO, true));
            };
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || looks(&shared))
            };
            looks(&shared);
            other.join().expect("it only looks");
            assert_eq!(told.load(SeqCst), 1);
        });
    }
}
