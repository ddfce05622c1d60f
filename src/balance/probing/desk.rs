//! Who is to be asked, and where the answers go. Knows no clock, and does not ask itself.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    answer::{Ask, Asking, Probed, Unbelievable},
    config::ProbingConfig,
    field::Field,
    pace::Pace,
};
use crate::{
    balance::policy::Member,
    endpoint::{Endpoint, EndpointKey},
    error::BoxError,
    sync::{AtomicU64, Mutex, Ordering, Padded, lock},
};

/// What a [`Probing`](super::Probing) policy wants to ask of endpoints beside the calls.
///
/// The balancer takes it from [`Policy::probes`](crate::balance::Policy::probes) and sends the
/// probes, in a task that ends with its last handle.
#[derive(Clone)]
pub struct Probes {
    pub(super) desk: Arc<Desk>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probes").field(&self.snapshot()).finish()
    }
}

/// What a policy's probing has come to, for operators and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProbingSnapshot {
    /// Answers that are in the pool now, old ones that no call has looked at included; in all
    /// pools, where the policy picks within groups.
    pub pooled: usize,
    /// Probes that are under way now.
    pub under_way: usize,
    /// Probes that were sent so far.
    pub sent: u64,
    /// Those of them that brought no answer.
    pub failed: u64,
    /// Calls that an endpoint was picked for so far.
    pub picks: u64,
    /// Those of them that were picked by two choices, since fewer than two answers served.
    pub without_answers: u64,
}

impl Probes {
    pub(super) fn new(probe: impl Ask + 'static, config: ProbingConfig) -> Self {
        let desk = Desk {
            config,
            probe: Box::new(probe),
            fields: Mutex::default(),
            under_way: Mutex::default(),
            wanted: Notify::new(),
            counts: Counts::default(),
        };
        Self { desk: Arc::new(desk) }
    }

    /// The field of these members: the one that there is, or a new one that takes over what is known
    /// of them.
    pub(super) fn field(&self, members: &[Member<'_>]) -> Arc<Field> {
        let others = self.desk.fields();
        if let Some(same) = others.iter().find(|other| other.is_of(members)) {
            return Arc::clone(same);
        }
        let past = Arc::clone(&self.desk.counts.past);
        let field = Arc::new(Field::new(members, &self.desk.config, &others, past));
        let mut fields = lock(&self.desk.fields);
        fields.retain(|field| field.strong_count() > 0);
        fields.push(Arc::downgrade(&field));
        drop(fields);
        self.desk.wanted.notify_one();
        field
    }

    /// The probes that are due now. What is not ordered for want of room is not made up for.
    pub(in crate::balance) fn due(&self, now: Instant, draw: impl Fn() -> u64) -> Vec<Order> {
        let mut orders = Vec::new();
        for field in self.desk.fields() {
            let due = field.due(now, &self.desk.config);
            let due = due.min(self.desk.config.under_way);
            let end = orders.len() + due;
            // Some of the draws hit who is being asked already. Without replacement, as the paper
            // has it, so that of three endpoints all are asked.
            for _ in 0..4 * due + LUCK {
                if orders.len() == end {
                    break;
                }
                let Some((key, endpoint)) = field.draw(draw()) else { break };
                match self.desk.begin(key) {
                    Begun::Ordered => {
                        let desk = Arc::clone(&self.desk);
                        orders.push(Order { key, endpoint: endpoint.clone(), desk, open: true });
                    }
                    Begun::Already => {}
                    Begun::Full => return orders,
                }
            }
        }
        orders
    }

    /// When some are due although nobody calls; none if never.
    pub(in crate::balance) fn next(&self) -> Option<Instant> {
        let silence = self.desk.config.idle;
        self.desk.fields().iter().filter_map(|field| field.next(silence)).min()
    }

    /// Waits until a call, or a new set of endpoints, has made some due.
    pub(super) async fn wanted(&self) {
        self.desk.wanted.notified().await;
    }

    /// How long an answer is waited for.
    pub(in crate::balance) fn timeout(&self) -> Duration {
        self.desk.config.timeout
    }

    pub(in crate::balance) fn snapshot(&self) -> ProbingSnapshot {
        let (desk, fields) = (&*self.desk, self.desk.fields());
        // Relaxed: counts, each true for itself.
        let calls = |field: &Arc<Field>| field.calls.load(Ordering::Relaxed);
        ProbingSnapshot {
            pooled: fields.iter().map(|field| lock(&field.pool).entries().len()).sum(),
            under_way: lock(&desk.under_way).len(),
            sent: desk.counts.sent.load(Ordering::Relaxed),
            failed: desk.counts.failed.load(Ordering::Relaxed),
            picks: desk.counts.past.load(Ordering::Relaxed) + fields.iter().map(calls).sum::<u64>(),
            without_answers: desk.counts.without_answers.load(Ordering::Relaxed),
        }
    }
}

/// Draws beyond four for each probe, before the others are taken to be under way.
const LUCK: usize = 8;

pub(super) struct Desk {
    config: ProbingConfig,
    probe: Box<dyn Ask>,
    /// Those that pickers pick from. They are theirs: of what they have let go of nothing is asked.
    fields: Mutex<Vec<Weak<Field>>>,
    /// Who is being asked.
    under_way: Mutex<HashSet<EndpointKey>>,
    wanted: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    /// Calls of the fields that are no more.
    past: Arc<AtomicU64>,
    without_answers: Padded<AtomicU64>,
}

enum Begun {
    Ordered,
    /// It is being asked.
    Already,
    /// As many are being asked as may be.
    Full,
}

impl Desk {
    /// A call picks from this field. It wakes who sends the probes, and does no more of it.
    #[inline]
    pub(super) fn called(&self, field: &Field) {
        // Relaxed: a count. Who is woken and does not see it yet is woken by the next call, too.
        let before = field.calls.fetch_add(1, Ordering::Relaxed);
        if Pace::calls_for_one(before.wrapping_add(1), self.config.probes) {
            self.wanted.notify_one();
        }
    }

    /// It was picked without an answer.
    pub(super) fn without_answers(&self) {
        // Relaxed: a count.
        self.counts.without_answers.fetch_add(1, Ordering::Relaxed);
    }

    fn fields(&self) -> Vec<Arc<Field>> {
        lock(&self.fields).iter().filter_map(Weak::upgrade).collect()
    }

    fn begin(&self, key: EndpointKey) -> Begun {
        let mut under_way = lock(&self.under_way);
        if under_way.len() >= self.config.under_way {
            Begun::Full
        } else if under_way.insert(key) {
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
            Begun::Ordered
        } else {
            Begun::Already
        }
    }
}

/// A probe that is to be sent. Dropped without an answer, it has failed.
#[must_use]
pub(crate) struct Order {
    key: EndpointKey,
    endpoint: Endpoint,
    desk: Arc<Desk>,
    open: bool,
}

impl Order {
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks the endpoint.
    pub(super) fn ask(&self) -> Asking<'_> {
        self.desk.probe.ask(&self.endpoint)
    }

    /// This came; `draw` is a random number.
    ///
    /// # Errors
    ///
    /// If it can't be.
    pub(crate) fn answered(
        mut self,
        said: Probed,
        now: Instant,
        draw: u64,
    ) -> Result<(), BoxError> {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        if !(said.in_flight.is_finite() && said.in_flight >= 0.0) {
            return Err(Unbelievable(said.in_flight).into());
        }
        self.open = false;
        let chance = (draw >> 11) as f64 * UNIT;
        // It is in one field, or for a moment in an old one and in a new one.
        for field in self.desk.fields() {
            field.answered(self.key, said, self.desk.config.quantile(), now, chance);
        }
        Ok(())
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        lock(&self.desk.under_way).remove(&self.key);
        if self.open {
            // Relaxed: a count.
            self.desk.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
