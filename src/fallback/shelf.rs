//! What is remembered, and for how long: no clock, no lock.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Keeps the latest value of each key, up to a number of them and up to an age.
///
/// When it is full the one goes that was put there longest ago: of all it is the least worth.
/// Each step is O(1). A chain through the slots is the order in which they were put.
#[derive(Clone, Debug)]
pub(super) struct Shelf<K, V> {
    places: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    oldest: Option<usize>,
    newest: Option<usize>,
    capacity: usize,
    max_age: Duration,
}

#[derive(Clone, Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    put: Instant,
    older: Option<usize>,
    newer: Option<usize>,
}

/// Of what is too old, so many go when one comes: more than come, so that none stay for want of
/// somebody who asks, and few, so that nobody has to clear the whole shelf.
const CLEARED: usize = 2;

impl<K, V> Shelf<K, V>
where
    K: Clone + Eq + Hash,
{
    pub(super) fn new(capacity: usize, max_age: Duration) -> Self {
        let (places, slots) = (HashMap::new(), Vec::new());
        Self { places, slots, oldest: None, newest: None, capacity, max_age }
    }

    /// Keeps `value` in the place of what was known of `key`.
    pub(super) fn put(&mut self, key: K, value: V, now: Instant) {
        for _ in 0..CLEARED {
            match self.oldest {
                Some(oldest) if self.age(oldest, now) > self.max_age => self.remove(oldest),
                _ => break,
            }
        }
        if let Some(&place) = self.places.get(&key) {
            self.unlink(place);
            let slot = &mut self.slots[place];
            (slot.value, slot.put) = (value, now);
            self.link(place);
            return;
        }
        if self.slots.len() >= self.capacity {
            let Some(oldest) = self.oldest else { return };
            self.remove(oldest);
        }
        let place = self.slots.len();
        self.places.insert(key.clone(), place);
        self.slots.push(Slot { key, value, put: now, older: None, newer: None });
        self.link(place);
    }

    /// Forgets what is known of `key`.
    pub(super) fn forget(&mut self, key: &K) {
        if let Some(&place) = self.places.get(key) {
            self.remove(place);
        }
    }

    /// What is known of `key`, and its age, unless that is too great.
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<(&V, Duration)> {
        let place = *self.places.get(key)?;
        let age = self.age(place, now);
        (age <= self.max_age).then(|| (&self.slots[place].value, age))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn age(&self, place: usize, now: Instant) -> Duration {
        now.saturating_duration_since(self.slots[place].put)
    }

    fn remove(&mut self, place: usize) {
        self.unlink(place);
        let gone = self.slots.swap_remove(place);
        self.places.remove(&gone.key);
        // The last slot has moved into the gap: who points to it has to be told.
        let Some(moved) = self.slots.get(place) else { return };
        let (older, newer) = (moved.older, moved.newer);
        if let Some(of_moved) = self.places.get_mut(&moved.key) {
            *of_moved = place;
        }
        self.join(older, Some(place));
        self.join(Some(place), newer);
    }

    /// Puts a slot that is in no chain at the newest end.
    fn link(&mut self, place: usize) {
        let newest = self.newest;
        self.join(newest, Some(place));
        self.join(Some(place), None);
    }

    fn unlink(&mut self, place: usize) {
        let Slot { older, newer, .. } = self.slots[place];
        self.join(older, newer);
    }

    /// Makes two slots neighbours; none is the end of the chain.
    fn join(&mut self, older: Option<usize>, newer: Option<usize>) {
        match older {
            Some(older) => self.slots[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.slots[newer].older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn the_one_that_was_put_longest_ago_goes_when_it_is_full() {
        let now = crate::time::now();
        let mut shelf = Shelf::new(2, s(60));
        shelf.put("a", 1, now);
        shelf.put("b", 2, now + s(1));
        shelf.put("a", 3, now + s(2));
        shelf.put("c", 4, now + s(3));
        assert_eq!(shelf.get(&"b", now + s(3)), None);
        assert_eq!(shelf.get(&"a", now + s(3)), Some((&3, s(1))));
        assert_eq!(shelf.get(&"c", now + s(3)), Some((&4, s(0))));
        assert_eq!(shelf.len(), 2);
    }

    #[test]
    fn what_is_too_old_is_not_given_and_goes_by_itself() {
        let now = crate::time::now();
        let mut shelf = Shelf::new(100, s(60));
        for key in 0..10 {
            shelf.put(key, key, now);
        }
        assert_eq!(shelf.get(&3, now + s(60)), Some((&3, s(60))));
        assert_eq!(shelf.get(&3, now + s(61)), None);
        for key in 10..20 {
            shelf.put(key, key, now + s(61));
        }
        assert_eq!(shelf.len(), 10);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put(u8),
        Forget(u8),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_u8..12).prop_map(Step::Put),
            2 => (0_u8..12).prop_map(Step::Forget),
            2 => (0_u64..8).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Against a list in the order in which things were put.
        #[test]
        fn agrees_with_a_list(
            capacity in 1_usize..8,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let max_age = s(10);
            let mut now = crate::time::now();
            let mut shelf = Shelf::new(capacity, max_age);
            let mut list: Vec<(u8, usize, Instant)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(key) => {
                        shelf.put(key, number, now);
                        for _ in 0..2 {
                            if list.first().is_some_and(|&(.., put)| now - put > max_age) {
                                list.remove(0);
                            }
                        }
                        let known = list.iter().position(|&(other, ..)| other == key);
                        if let Some(known) = known {
                            list.remove(known);
                        } else if list.len() == capacity {
                            list.remove(0);
                        }
                        list.push((key, number, now));
                    }
                    Step::Forget(key) => {
                        shelf.forget(&key);
                        list.retain(|&(other, ..)| other != key);
                    }
                    Step::Wait(time) => now += s(time),
                }
                prop_assert_eq!(shelf.len(), list.len());
                prop_assert!(shelf.len() <= capacity);
                for key in 0..12 {
                    let expected = list
                        .iter()
                        .find(|&&(other, _, put)| other == key && now - put <= max_age)
                        .map(|&(_, number, put)| (number, now - put));
                    let got = shelf.get(&key, now).map(|(&number, age)| (number, age));
                    prop_assert_eq!(got, expected);
                }
            }
        }
    }
}
