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
        let (mut orders, fields) = (Vec::new(), self.desk.fields());
        // By chance the first, so that where there is no room for all none is always the last.
        let first = if fields.len() > 1 { draw() as usize % fields.len() } else { 0 };
        for field in fields[first..].iter().chain(&fields[..first]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::{load::Load, policy::LoadView},
        endpoint::Health,
        entropy::Entropy,
    };

    const MS: Duration = Duration::from_millis(1);

    /// Endpoints by number, each with the key that it keeps.
    struct Known {
        endpoints: Vec<(EndpointKey, Endpoint, Health)>,
        load: Load,
        entropy: Entropy,
        now: Instant,
    }

    impl Known {
        fn new(count: u16) -> Self {
            let now = crate::time::now();
            let endpoint = |at: u16| Endpoint::from(std::net::SocketAddr::from(([10; 4], at)));
            let known = |at| (EndpointKey::unique(), endpoint(at), Health::Healthy);
            Self {
                endpoints: (0..count).map(known).collect(),
                load: Load::new(now, MS, None, now),
                entropy: Entropy::seeded(7),
                now,
            }
        }

        /// The field of these.
        fn field(&self, probes: &Probes, which: &[usize]) -> Arc<Field> {
            let member = |&at: &usize| {
                let (key, endpoint, health) = &self.endpoints[at];
                let load = LoadView::new(&self.load, 0.001, 0);
                Member { endpoint, key: *key, health: *health, fit: true, load }
            };
            probes.field(&which.iter().map(member).collect::<Vec<_>>())
        }

        fn due(&self, probes: &Probes) -> Vec<Order> {
            probes.due(self.now, || self.entropy.draw())
        }

        /// Calls so often, and answers the probes of it all.
        fn ask_all(&self, probes: &Probes, field: &Field, calls: usize, in_flight: f32) {
            for _ in 0..calls {
                probes.desk.called(field);
                for order in self.due(probes) {
                    let said = Probed::new(in_flight);
                    order.answered(said, self.now, self.entropy.draw()).expect("it can be");
                }
            }
        }

        fn number(&self, endpoint: &Endpoint) -> usize {
            let found = self.endpoints.iter().position(|(_, known, _)| known == endpoint);
            found.expect("it is known")
        }

        fn numbers(&self, orders: &[Order]) -> Vec<usize> {
            let mut numbers: Vec<_> = orders.iter().map(|it| self.number(it.endpoint())).collect();
            numbers.sort_unstable();
            numbers
        }
    }

    fn probes(config: ProbingConfig) -> Probes {
        let never = |_: &Endpoint| std::future::pending::<Result<Probed, BoxError>>();
        Probes::new(never, config)
    }

    fn pooled(field: &Field) -> Vec<u32> {
        let mut places: Vec<_> =
            lock(&field.pool).entries().iter().map(|entry| entry.place).collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn of_three_endpoints_all_are_asked_and_none_twice_at_a_time() {
        let (known, probes) = (Known::new(3), probes(ProbingConfig::new()));
        let field = known.field(&probes, &[0, 1, 2]);
        let orders = known.due(&probes);
        assert_eq!(known.numbers(&orders), [0, 1, 2], "before the first call");
        probes.desk.called(&field);
        assert_eq!(known.due(&probes).len(), 0, "they are being asked");
        drop(orders);
        probes.desk.called(&field);
        assert_eq!(known.due(&probes).len(), 3);
        let ProbingSnapshot { sent, failed, under_way, picks, .. } = probes.snapshot();
        assert_eq!((sent, failed, under_way, picks), (6, 6, 0, 2));
    }

    #[test]
    fn no_more_are_under_way_than_may_be_and_what_could_not_be_sent_is_not_made_up_for() {
        let config = ProbingConfig::new().limits(MS, 4).expect("four");
        let (known, probes) = (Known::new(100), probes(config));
        let all: Vec<_> = (0..100).collect();
        let field = known.field(&probes, &all);
        let first = known.due(&probes);
        (0..50).for_each(|_| probes.desk.called(&field));
        let second = known.due(&probes);
        assert_eq!((first.len(), second.len()), (4, 0));
        drop((first, second));
        assert_eq!(known.due(&probes).len(), 0);
    }

    #[test]
    fn who_is_unhealthy_is_not_asked_while_others_can_be() {
        let (mut known, probes) = (Known::new(4), probes(ProbingConfig::new()));
        (known.endpoints[1].2, known.endpoints[2].2) = (Health::Unhealthy, Health::Pending);
        let _field = known.field(&probes, &[0, 1, 2, 3]);
        assert_eq!(known.numbers(&known.due(&probes)), [0, 3]);
        known.endpoints.iter_mut().for_each(|known| known.2 = Health::Unhealthy);
        let field = known.field(&probes, &[0, 1, 2, 3]);
        (0..2).for_each(|_| probes.desk.called(&field));
        assert_eq!(known.due(&probes).len(), 4, "of those who are not well, too");
    }

    #[test]
    fn another_set_takes_over_what_is_known_of_its_members() {
        let (known, probes) = (Known::new(5), probes(ProbingConfig::new()));
        let field = known.field(&probes, &[0, 1, 2, 3]);
        known.ask_all(&probes, &field, 8, 9.0);
        assert_eq!(pooled(&field), [0, 1, 2, 3]);

        let same = known.field(&probes, &[0, 1, 2, 3]);
        assert!(Arc::ptr_eq(&field, &same), "nothing has changed");
        let next = known.field(&probes, &[4, 3, 1]);
        assert_eq!(pooled(&next), [1, 2], "3 and 1, by their places");
        let uses: u32 = lock(&next.pool).entries().iter().map(|entry| entry.uses).sum();
        assert!((2..=4).contains(&uses), "{uses}: one call or two each");
        drop((field, same));
        known.ask_all(&probes, &next, 1, 9.0);
        assert_eq!(pooled(&next), [0, 1, 2]);
        assert_eq!(probes.snapshot().picks, 9, "those of a set that is no more count");

        let strangers = known.field(&probes, &[0, 2]);
        assert!(pooled(&strangers).is_empty());
        assert_eq!(known.due(&probes).len(), 2, "before the first call");
    }

    #[test]
    fn an_answer_that_cannot_be_is_none() {
        let (known, probes) = (Known::new(9), probes(ProbingConfig::new()));
        let field = known.field(&probes, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        for (order, in_flight) in known.due(&probes).into_iter().zip([-1.0, f32::NAN, 2.0]) {
            let believed = order.answered(Probed::new(in_flight), known.now, 0).is_ok();
            assert_eq!(believed, in_flight == 2.0, "{in_flight}");
        }
        assert_eq!((pooled(&field).len(), probes.snapshot().failed), (1, 8), "of nine");
    }
}
