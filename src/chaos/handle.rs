//! The faults that are set at present, and the switch.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;

use super::{
    fault::{Fault, Head},
    state::{Plan, Strike},
    transport::Chaotic,
};
use crate::{
    entropy::Entropy,
    event::{Event, Observer},
    time::now,
};

/// What goes wrong at present: nothing, to begin with.
///
/// It is a handle; its clones are the same chaos. Give one to a [`ChaosLayer`](super::ChaosLayer)
/// or [around a transport](Self::around), and keep one to switch it.
///
/// ```
/// use buttress::chaos::{Chaos, Failure, Fault};
///
/// let chaos = Chaos::seeded(7);
/// println!("{chaos:?}"); // says the seed
/// chaos.set([Fault::failure(Failure::Refused).share(0.1)?]);
/// assert!(chaos.is_on());
/// chaos.clear();
/// assert!(!chaos.is_on());
/// # Ok::<(), buttress::chaos::InvalidFault>(())
/// ```
#[derive(Clone)]
pub struct Chaos {
    shared: Arc<Shared>,
}

struct Shared {
    plan: ArcSwapOption<Plan>,
    seed: u64,
    entropy: Entropy,
    observer: Observer,
}

impl Chaos {
    /// Nothing goes wrong yet. What will be left to chance is drawn from this seed: the same
    /// requests in the same order meet the same faults.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::observed(seed, Observer::none())
    }

    /// The same with a seed from the operating system. Print it ([`Chaos::seed`]), so that what
    /// failed can be repeated.
    #[must_use]
    pub fn new() -> Self {
        Self::seeded(Entropy::system().draw())
    }

    /// As [`Chaos::seeded`], with somebody who hears of each fault that strikes.
    #[must_use]
    pub fn observed(seed: u64, observer: Observer) -> Self {
        let entropy = Entropy::seeded(seed);
        let plan = ArcSwapOption::empty();
        Self { shared: Arc::new(Shared { plan, seed, entropy, observer }) }
    }

    /// From now on these faults, in the place of those before. Their times count from now.
    pub fn set(&self, faults: impl IntoIterator<Item = Fault>) {
        let plan = Plan::new(faults.into_iter().collect(), now());
        self.shared.plan.store(plan.map(Arc::new));
    }

    /// From now on nothing goes wrong. Requests that were struck stay so.
    pub fn clear(&self) {
        self.shared.plan.store(None);
    }

    /// Whether faults are set. Their times may be over, or yet to come.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.plan.load().is_some()
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// A transport whose endpoints meet these faults, in the place of `make`: so that a fault can
    /// be for [one endpoint](Fault::at). For [`Builder::transport`
    /// ](crate::client::Builder::transport).
    pub const fn around<M>(self, make: M) -> Chaotic<M> {
        Chaotic::new(self, make)
    }

    /// What strikes this request. While nothing is set this is one load: the clock is not read,
    /// and nothing is drawn.
    pub(super) fn strike<'a>(&self, head: impl FnOnce() -> Head<'a>) -> Option<Strike> {
        let plan = self.shared.plan.load();
        let plan = plan.as_ref()?;
        let (head, observer) = (head(), &self.shared.observer);
        let hear = |fault| observer.on(|| Event::FaultInjected { endpoint: head.endpoint, fault });
        plan.strike(&head, now(), || self.shared.entropy.unit(), hear)
    }
}

impl Default for Chaos {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("seed", &self.shared.seed)
            .field("plan", &self.shared.plan.load().as_deref())
            .finish_non_exhaustive()
    }
}
