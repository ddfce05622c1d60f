//! The pool of answers, and which of them a call goes by. Pure.
//!
//! B. Wydrowski, R. Kleinberg, S. Rumble, A. Archer: "Load is not what you should balance:
//! Introducing Prequal", NSDI 2024, section 4.

use std::{cmp::Ordering, time::Instant};

use super::config::{LARGEST_POOL, PoolRules};

/// One answer. Endpoints are named by their place in the set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) place: u32,
    /// What its server said, and the calls that were sent there since.
    pub(super) in_flight: f32,
    /// In seconds, if its server said so.
    pub(super) latency: Option<f32>,
    /// When it came.
    pub(super) at: Instant,
    /// For how many calls it serves.
    pub(super) uses: u32,
}

/// With fewer answers there is no choice.
pub(super) const FEWEST: usize = 2;

/// The answers of late, one of an endpoint at the most, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    rules: PoolRules,
    entries: Vec<Entry>,
    /// Who has more requests in flight is hot.
    threshold: f32,
    /// What is left of the removals.
    owed: f64,
    /// The next one to be removed is the worst, not the oldest.
    worst_next: bool,
}

impl Pool {
    pub(super) fn new(rules: PoolRules) -> Self {
        Self {
            rules,
            // One more, for the moment before the oldest goes: no pick and no answer allocates.
            entries: Vec::with_capacity(rules.size + 1),
            threshold: f32::NEG_INFINITY,
            owed: 0.0,
            worst_next: false,
        }
    }

    /// Who has more requests in flight is hot, until an answer says otherwise.
    pub(super) const fn expect(&mut self, threshold: f32) {
        self.threshold = threshold;
    }

    /// The answers in it, the oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// An answer has come, in the place of an older one of its endpoint, or of the oldest of all
    /// when the pool is full; who has more than so many in flight is hot from now on.
    ///
    /// It serves for as many calls as on average: for the next whole number with a chance that is
    /// the fraction (`chance` is uniform in 0 to 1).
    pub(super) fn add(&mut self, mut entry: Entry, threshold: f32, chance: f64) {
        self.threshold = threshold;
        let uses = self.rules.uses;
        entry.uses = uses as u32 + u32::from(chance < uses.fract());
        self.put(entry);
    }

    /// As [`add`](Self::add), of one that another pool had.
    pub(super) fn put(&mut self, entry: Entry) {
        self.entries.retain(|known| known.place != entry.place);
        let at = self.entries.partition_point(|known| known.at <= entry.at);
        self.entries.insert(at, entry);
        if self.entries.len() > self.rules.size {
            self.entries.remove(0);
        }
    }

    /// Where a call goes: of the cold endpoints to the one with the lowest latency, and where all
    /// are hot to the one with the fewest in flight. None if there are fewer than two that `fit`,
    /// as far as was asked.
    ///
    /// An endpoint whose server does not say what an answer takes, since it had hardly any to do of
    /// late, counts as the quickest of those that do, times what it is `slower` than is usual as far
    /// as this client knows. To count it as an average one would leave it with nothing to do: who is
    /// picked is better than that.
    pub(super) fn pick(
        &mut self,
        now: Instant,
        slower: impl Fn(usize) -> f32,
        fit: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        self.expire(now);
        let said = self.entries.iter().filter_map(|entry| entry.latency);
        let quickest = said.min_by(f32::total_cmp).unwrap_or(1.0);
        let mut ranks = [Rank::LAST; LARGEST_POOL];
        for (rank, entry) in ranks.iter_mut().zip(&self.entries) {
            let unsaid = || quickest * slower(entry.place as usize);
            *rank = Rank::of(entry, entry.latency.unwrap_or_else(unsaid), self.threshold);
        }
        let ranks = &mut ranks[..self.entries.len()];
        let mut left = ranks.len();
        while left >= FEWEST {
            let at = (0..ranks.len()).min_by(|&a, &b| ranks[a].order(&ranks[b]))?;
            let place = self.entries[at].place as usize;
            if fit(place) {
                self.serve(at);
                self.remove_some();
                return Some(place);
            }
            ranks[at] = Rank::LAST;
            left -= 1;
        }
        None
    }

    fn expire(&mut self, now: Instant) {
        let is_old = |entry: &Entry| now.saturating_duration_since(entry.at) >= self.rules.age;
        let old = self.entries.iter().take_while(|entry| is_old(entry)).count();
        self.entries.drain(..old);
    }

    /// A call goes there: one more in flight than it said. So two calls in a row go by the same
    /// answer only if it is still the best with that.
    fn serve(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        entry.in_flight += 1.0;
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses == 0 {
            self.entries.remove(at);
        }
    }

    /// Removes, by turns, the oldest, since it says least of what is now, and the worst: the good
    /// ones are used up, so those that nobody picks would be all that is left.
    ///
    /// Two stay: where there are few endpoints, another removal would leave no choice at all.
    fn remove_some(&mut self) {
        self.owed += self.rules.removals;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            if self.entries.len() <= FEWEST {
                continue;
            }
            let at = if self.worst_next { self.worst() } else { 0 };
            self.entries.remove(at);
            self.worst_next = !self.worst_next;
        }
    }

    /// The hot one with the most in flight, and if all are cold the one with the highest latency.
    /// Of those without a latency the one with the most in flight: what this client knows of them
    /// is not worth another look.
    fn worst(&self) -> usize {
        let rank = |at: &usize| {
            let entry = &self.entries[*at];
            Rank::of(entry, entry.latency.unwrap_or(0.0), self.threshold)
        };
        (0..self.entries.len()).max_by(|a, b| rank(a).order(&rank(b))).unwrap_or(0)
    }
}

/// How good an answer is: the rule "hot-cold lexicographic". Where its first number is the same,
/// the other one decides.
#[derive(Clone, Copy, Debug)]
struct Rank {
    hot: bool,
    first: f32,
    second: f32,
}

impl Rank {
    const LAST: Self = Self { hot: true, first: f32::INFINITY, second: f32::INFINITY };

    fn of(entry: &Entry, latency: f32, threshold: f32) -> Self {
        let in_flight = entry.in_flight;
        if in_flight > threshold {
            Self { hot: true, first: in_flight, second: latency }
        } else {
            Self { hot: false, first: latency, second: in_flight }
        }
    }

    #[inline]
    fn order(&self, other: &Self) -> Ordering {
        self.hot
            .cmp(&other.hot)
            .then(self.first.total_cmp(&other.first))
            .then(self.second.total_cmp(&other.second))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RULES: PoolRules =
        PoolRules { size: 16, age: Duration::from_secs(1), removals: 0.0, uses: 1_000.0 };

    fn entry(place: u32, in_flight: f32, latency: f32, at: Instant) -> Entry {
        Entry { place, in_flight, latency: Some(latency), at, uses: 0 }
    }

    /// A pool of answers that came a millisecond after each other, and the moment of the last.
    fn pool(rules: PoolRules, threshold: f32, said: &[(f32, f32)]) -> (Pool, Instant) {
        let (mut pool, mut now) = (Pool::new(rules), crate::time::now());
        for (place, &(in_flight, latency)) in said.iter().enumerate() {
            now += MS;
            pool.add(entry(place as u32, in_flight, latency, now), threshold, 0.5);
        }
        (pool, now)
    }

    fn pick(pool: &mut Pool, now: Instant) -> Option<usize> {
        pool.pick(now, |_| f32::NAN, |_| true)
    }

    fn places(pool: &Pool) -> Vec<u32> {
        pool.entries().iter().map(|entry| entry.place).collect()
    }

    #[test]
    fn of_the_cold_the_quickest_and_of_the_hot_the_emptiest() {
        let (mut some, now) =
            pool(RULES, 5.0, &[(9.0, 0.01), (5.0, 0.03), (2.0, 0.02), (0.0, 0.04)]);
        assert_eq!(pick(&mut some, now), Some(2), "the quickest of all is hot");
        let (mut all, now) = pool(RULES, 5.0, &[(9.0, 0.01), (7.0, 0.09), (8.0, 0.02)]);
        assert_eq!(pick(&mut all, now), Some(1));
    }

    #[test]
    fn as_quick_ones_are_told_apart_by_what_they_have() {
        let (mut pool, now) = pool(RULES, 5.0, &[(3.0, 0.01), (1.0, 0.01), (2.0, 0.01)]);
        let picked: Vec<_> = (0..4).filter_map(|_| pick(&mut pool, now)).collect();
        // Each call that is sent there counts.
        assert_eq!(picked[0], 1);
        let mut rest = picked[1..3].to_vec();
        rest.sort_unstable();
        assert_eq!(rest, [1, 2]);
    }

    #[test]
    fn calls_make_the_best_one_hot() {
        let (mut pool, now) = pool(RULES, 5.0, &[(4.0, 0.01), (3.0, 0.02), (3.0, 0.03)]);
        let picked: Vec<_> = (0..6).filter_map(|_| pick(&mut pool, now)).collect();
        assert_eq!(picked, [0, 0, 1, 1, 1, 2], "4 and 5 are cold, 6 is hot");
    }

    #[test]
    fn an_answer_is_forgotten_when_it_is_old_or_its_endpoint_has_answered_anew() {
        let (mut pool, now) = pool(RULES, 5.0, &[(0.0, 0.01), (0.0, 0.02), (0.0, 0.03)]);
        pool.add(entry(0, 0.0, 0.09, now + MS), 5.0, 0.5);
        assert_eq!(places(&pool), [1, 2, 0]);
        assert_eq!(pick(&mut pool, now + MS), Some(1));
        // They came 1 ms before `now`, then, and 1 ms after it.
        let later = now + RULES.age;
        assert_eq!(pick(&mut pool, later - MS - MS / 1_000), Some(1));
        assert_eq!(pick(&mut pool, later - MS), Some(2));
        assert_eq!(pick(&mut pool, later), None, "one is no choice");
        assert_eq!(places(&pool), [0]);
    }

    #[test]
    fn a_full_pool_loses_the_oldest() {
        let rules = PoolRules { size: 3, ..RULES };
        let (pool, now) = pool(rules, 5.0, &[(0.0, 0.01); 5]);
        assert_eq!(places(&pool), [2, 3, 4]);
        let mut late = pool;
        late.put(entry(7, 0.0, 0.01, now - 10 * MS));
        assert_eq!(places(&late), [2, 3, 4], "it is older than all of them");
    }

    #[test]
    fn an_answer_serves_for_as_many_calls_as_it_may() {
        let rules = PoolRules { uses: 2.25, ..RULES };
        let mut served = [0; 2];
        for (chance, served) in [0.24, 0.25].into_iter().zip(&mut served) {
            let (mut pool, now) = pool(rules, 99.0, &[(0.0, 0.02), (0.0, 0.02)]);
            pool.add(entry(7, 0.0, 0.01, now), 99.0, chance);
            *served = (0..9).filter_map(|_| pick(&mut pool, now)).filter(|&it| it == 7).count();
        }
        assert_eq!(served, [3, 2]);
    }

    #[test]
    fn the_oldest_and_the_worst_are_removed_by_turns() {
        let said = [(1.0, 0.05), (1.0, 0.01), (1.0, 0.09), (8.0, 0.01), (9.0, 0.02), (2.0, 0.02)];
        let (mut pool, now) = pool(PoolRules { removals: 1.0, ..RULES }, 5.0, &said);
        let expected: [(usize, &[u32]); 5] = [
            (1, &[1, 2, 3, 4, 5]),
            (1, &[1, 2, 3, 5]),
            (1, &[2, 3, 5]),
            (5, &[2, 5]),
            (5, &[2, 5]),
        ];
        for (picked, left) in expected {
            assert_eq!((pick(&mut pool, now), &*places(&pool)), (Some(picked), left));
        }
    }

    #[test]
    fn of_the_cold_the_slowest_is_the_worst() {
        let rules = PoolRules { removals: 2.0, ..RULES };
        let said = [(1.0, 0.05), (1.0, 0.01), (3.0, 0.08), (1.0, 0.09), (1.0, 0.02)];
        let (mut pool, now) = pool(rules, 5.0, &said);
        assert_eq!((pick(&mut pool, now), &*places(&pool)), (Some(1), &[1, 2, 4][..]));
        for entry in &mut pool.entries {
            entry.latency = None;
        }
        assert_eq!(pool.worst(), 1, "where none is known, the one with the most in flight");
    }

    #[test]
    fn half_a_removal_a_call_is_one_every_second_call() {
        let (mut pool, now) = pool(PoolRules { removals: 0.5, ..RULES }, 99.0, &[(0.0, 0.01); 8]);
        let mut left = Vec::new();
        for _ in 0..6 {
            pick(&mut pool, now).expect("there are more than two");
            left.push(pool.entries().len());
        }
        assert_eq!(left, [8, 7, 7, 6, 6, 5]);
    }

    #[test]
    fn who_does_not_fit_is_passed_over_and_stays() {
        let said = [(0.0, 0.01), (0.0, 0.02), (0.0, 0.03)];
        let (mut pool, now) = pool(RULES, 5.0, &said);
        assert_eq!(pool.pick(now, |_| 0.0, |place| place != 0), Some(1));
        assert_eq!(pool.pick(now, |_| 0.0, |place| place == 2), None, "one is no choice");
        assert_eq!(places(&pool), [0, 1, 2]);
    }

    #[test]
    fn of_a_latency_that_its_server_does_not_say_this_client_knows_something() {
        let unsaid = |place, now| Entry { latency: None, uses: 9, ..entry(place, 0.0, 0.0, now) };
        let (mut some, now) = pool(RULES, 5.0, &[(0.0, 0.02), (0.0, 0.05)]);
        some.put(unsaid(2, now));
        assert_eq!(some.pick(now, |_| 1.2, |_| true), Some(0));
        assert_eq!(some.pick(now, |_| 0.9, |_| true), Some(2));

        let mut none = Pool::new(RULES);
        (0..3).for_each(|place| none.put(unsaid(place, now)));
        none.expect(5.0);
        assert_eq!(none.pick(now, |place| [3.0, 0.5, 1.0][place], |_| true), Some(1));
    }

    #[test]
    fn who_had_nothing_to_do_is_as_good_as_the_quickest() {
        let (mut pool, now) = pool(RULES, 5.0, &[(1.0, 0.02), (1.0, 0.03)]);
        pool.put(Entry { latency: None, uses: 9, ..entry(2, 0.0, 0.0, now) });
        assert_eq!(pool.pick(now, |_| 1.0, |_| true), Some(2));
    }

    proptest! {
        /// Whatever comes: no more answers than there may be, one of an endpoint, in order; and
        /// whoever is picked fits.
        #[test]
        fn the_pool_keeps_its_bounds(
            size in 2..=LARGEST_POOL,
            removals in 0.0..3.0,
            uses in 1.0..5.0,
            steps in prop::collection::vec((0..40_u32, 0.0..20.0_f32, 0.0..1.0_f32, 0..400_u64), 1..200),
        ) {
            let rules = PoolRules { size, removals, uses, ..RULES };
            let (mut pool, mut now) = (Pool::new(rules), crate::time::now());
            for (place, in_flight, latency, pause) in steps {
                now += Duration::from_millis(pause);
                pool.add(entry(place, in_flight, latency, now), 8.0, f64::from(latency));
                let capacity = pool.entries.capacity();
                if let Some(picked) = pool.pick(now, |_| 0.0, |place| place % 3 != 0) {
                    prop_assert!(picked % 3 != 0);
                }
                prop_assert_eq!(capacity, pool.entries.capacity());
                prop_assert!(pool.entries.len() <= size);
                prop_assert!(pool.entries.iter().all(|it| it.uses > 0 && now - it.at < RULES.age));
                let mut places = places(&pool);
                places.sort_unstable();
                places.dedup();
                prop_assert_eq!(places.len(), pool.entries.len());
                prop_assert!(pool.entries.is_sorted_by_key(|it| it.at));
            }
        }
    }
}
