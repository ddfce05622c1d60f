//! Who is a member, as the changes say. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::endpoint::{Change, Endpoint, Health};

/// How long the state of an endpoint that left is kept, in case it only flapped.
const FLAP: Duration = Duration::from_secs(60);

/// The members, each with a value of type `T`, and for a while the values of those who left.
#[derive(Debug)]
pub(super) struct Members<T> {
    present: HashMap<Endpoint, Member<T>>,
    left: HashMap<Endpoint, (T, Instant)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Member<T> {
    value: T,
    /// As the registry described it last.
    endpoint: Arc<Endpoint>,
    health: Health,
    arrival: u64,
}

/// What a change came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) added: Vec<Endpoint>,
    pub(super) removed: Vec<Endpoint>,
    pub(super) health: Option<(Endpoint, Health)>,
    /// Something else is said of an endpoint that was there.
    pub(super) described: bool,
}

impl Effect {
    pub(super) fn is_empty(&self) -> bool {
        let moved = !self.added.is_empty() || !self.removed.is_empty();
        !moved && self.health.is_none() && !self.described
    }
}

impl<T> Members<T> {
    pub(super) fn new() -> Self {
        Self { present: HashMap::new(), left: HashMap::new(), arrivals: 0 }
    }

    /// Applies a change; `make` gives the value of an endpoint that is new.
    pub(super) fn apply(
        &mut self,
        change: Change,
        now: Instant,
        mut make: impl FnMut(&Endpoint) -> T,
    ) -> Effect {
        self.forget(now);
        let mut effect = Effect::default();
        match change {
            Change::Reset(all) => {
                let stay: HashSet<&Endpoint> = all.iter().collect();
                let mut gone: Vec<Endpoint> =
                    self.present.keys().filter(|known| !stay.contains(known)).cloned().collect();
                gone.sort_unstable_by_key(|endpoint| self.present[endpoint].arrival);
                gone.into_iter().for_each(|endpoint| self.remove(endpoint, now, &mut effect));
                all.into_iter().for_each(|endpoint| self.add(endpoint, &mut make, &mut effect));
            }
            Change::Add(endpoint) => self.add(endpoint, &mut make, &mut effect),
            Change::Remove(endpoint) => self.remove(endpoint, now, &mut effect),
            Change::Health(endpoint, health) => {
                let member = self.present.get_mut(&endpoint);
                if let Some(member) = member.filter(|member| member.health != health) {
                    member.health = health;
                    effect.health = Some((endpoint, health));
                }
            }
        }
        effect
    }

    /// Lets go of those who left too long ago to have flapped.
    pub(super) fn forget(&mut self, now: Instant) {
        self.left.retain(|_, (_, since)| now.saturating_duration_since(*since) < FLAP);
    }

    /// When there will be something to [forget](Self::forget).
    pub(super) fn forget_at(&self) -> Option<Instant> {
        self.left.values().map(|(_, since)| *since + FLAP).min()
    }

    /// The value of a member.
    pub(super) fn get(&self, endpoint: &Endpoint) -> Option<&T> {
        self.present.get(endpoint).map(|member| &member.value)
    }

    /// The members in the order in which they came.
    pub(super) fn list(&self) -> Vec<(&T, &Arc<Endpoint>, Health)> {
        let mut members: Vec<&Member<T>> = self.present.values().collect();
        members.sort_unstable_by_key(|member| member.arrival);
        members.into_iter().map(|it| (&it.value, &it.endpoint, it.health)).collect()
    }

    fn add(
        &mut self,
        endpoint: Endpoint,
        make: &mut impl FnMut(&Endpoint) -> T,
        effect: &mut Effect,
    ) {
        if let Some(member) = self.present.get_mut(&endpoint) {
            if member.endpoint.differs(&endpoint) {
                member.endpoint = Arc::new(endpoint);
                effect.described = true;
            }
            return;
        }
        let value = match self.left.remove(&endpoint) {
            Some((value, _)) => value,
            None => make(&endpoint),
        };
        effect.added.push(endpoint.clone());
        self.arrivals += 1;
        let member = Member {
            value,
            endpoint: Arc::new(endpoint.clone()),
            health: Health::default(),
            arrival: self.arrivals,
        };
        self.present.insert(endpoint, member);
    }

    fn remove(&mut self, endpoint: Endpoint, now: Instant, effect: &mut Effect) {
        if let Some(member) = self.present.remove(&endpoint) {
            effect.removed.push(endpoint.clone());
            self.left.insert(endpoint, (member.value, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(id: &str, port: u16) -> Endpoint {
        Endpoint::new(id, ([127, 0, 0, 1], port).into())
    }

    /// Gives every new endpoint the next number.
    fn numbered() -> impl FnMut(&Endpoint) -> u32 {
        let mut next = 0;
        move |_| {
            next += 1;
            next
        }
    }

    fn values(members: &Members<u32>) -> Vec<u32> {
        members.list().into_iter().map(|(&value, ..)| value).collect()
    }

    #[test]
    fn a_reset_keeps_the_state_of_those_who_stay() {
        let (a, b, c) = (endpoint("a", 1), endpoint("b", 2), endpoint("c", 3));
        let (mut members, mut make, now) = (Members::new(), numbered(), crate::time::now());
        members.apply(Change::Reset(vec![a.clone(), b.clone()]), now, &mut make);
        let effect = members.apply(Change::Reset(vec![c.clone(), b]), now, &mut make);
        assert_eq!((effect.added, effect.removed), (vec![c], vec![a]));
        assert_eq!(values(&members), [2, 3]);
    }

    #[test]
    fn a_flap_keeps_its_state_for_a_minute() {
        let (a, mut members, mut make) = (endpoint("a", 1), Members::new(), numbered());
        let now = crate::time::now();
        members.apply(Change::Add(a.clone()), now, &mut make);
        members.apply(Change::Remove(a.clone()), now, &mut make);
        members.apply(Change::Add(a.clone()), now + FLAP / 2, &mut make);
        assert_eq!(values(&members), [1]);
        members.apply(Change::Remove(a.clone()), now, &mut make);
        members.apply(Change::Add(a), now + FLAP, &mut make);
        assert_eq!(values(&members), [2]);
    }

    #[test]
    fn what_left_is_let_go_without_another_change() {
        let (a, mut members, mut make) = (endpoint("a", 1), Members::new(), numbered());
        let now = crate::time::now();
        members.apply(Change::Add(a.clone()), now, &mut make);
        assert_eq!(members.forget_at(), None);
        members.apply(Change::Remove(a), now, &mut make);
        assert_eq!(members.forget_at(), Some(now + FLAP));
        members.forget(now + FLAP);
        assert!(members.left.is_empty());
    }

    #[test]
    fn a_new_address_is_new_state() {
        let (mut members, mut make, now) = (Members::new(), numbered(), crate::time::now());
        members.apply(Change::Reset(vec![endpoint("a", 1)]), now, &mut make);
        members.apply(Change::Reset(vec![endpoint("a", 2)]), now, &mut make);
        assert_eq!(values(&members), [2]);
    }

    #[test]
    fn another_weight_is_taken_over_and_the_state_stays() {
        let (a, b) = (endpoint("a", 1), endpoint("b", 2));
        let (mut members, mut make, now) = (Members::new(), numbered(), crate::time::now());
        members.apply(Change::Reset(vec![a.clone(), b.clone()]), now, &mut make);
        let weights = |members: &Members<u32>| -> Vec<(u32, u32)> {
            members.list().into_iter().map(|(&value, it, _)| (value, it.weight())).collect()
        };

        let heavy = a.with_weight(5);
        let effect = members.apply(Change::Reset(vec![heavy.clone(), b.clone()]), now, &mut make);
        assert!(effect.described && !effect.is_empty(), "{effect:?}");
        assert_eq!((effect.added, effect.removed), (vec![], vec![]));
        assert_eq!(weights(&members), [(1, 5), (2, 1)]);
        let effect = members.apply(Change::Reset(vec![heavy.clone(), b]), now, &mut make);
        assert!(effect.is_empty(), "nothing else is said");

        members.apply(Change::Remove(heavy.clone()), now, &mut make);
        members.apply(Change::Add(heavy.with_weight(7)), now, &mut make);
        assert_eq!(weights(&members), [(2, 1), (1, 7)]);
    }

    #[test]
    fn health_changes_only_what_it_names_and_only_once() {
        let (a, b) = (endpoint("a", 1), endpoint("b", 2));
        let (mut members, mut make, now) = (Members::new(), numbered(), crate::time::now());
        members.apply(Change::Reset(vec![a.clone(), b]), now, &mut make);
        let unhealthy = Change::Health(a, Health::Unhealthy);
        assert!(!members.apply(unhealthy.clone(), now, &mut make).is_empty());
        assert!(members.apply(unhealthy, now, &mut make).is_empty());
        let stranger = Change::Health(endpoint("z", 9), Health::Unhealthy);
        assert!(members.apply(stranger, now, &mut make).is_empty());
        let health: Vec<Health> = members.list().into_iter().map(|(.., health)| health).collect();
        assert_eq!(health, [Health::Unhealthy, Health::Unchecked]);
    }
}
