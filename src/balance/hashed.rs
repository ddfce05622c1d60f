//! By a key of the call: the same key to the same endpoint, while that is well.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    config::InvalidBalance,
    policy::{Candidates, Member, Picker, Policy},
};
use crate::{
    algo::{
        maglev::{self, Table},
        ring::{self, Ring, Size},
        xxh64::avalanche,
    },
    endpoint::EndpointKey,
    sync::{AtomicU64, Mutex, Ordering, Padded, lock},
};

/// By how much an endpoint's calls in flight may be above its share of all before its keys go to
/// the next one (V. Mirrokni et al., "Consistent hashing with bounded loads", SODA 2018; the
/// factor of Vimeo's and HAProxy's first use of it): a quarter.
pub const DEFAULT_LOAD_BOUND: f64 = 1.25;

/// By a key of the call, on a ring of hashes: the same key goes to the same endpoint, and when one
/// comes or goes, few others move. For caches and sessions.
///
/// The key is the call's [affinity](crate::call::Words::affinity): set by the caller, or from a
/// header or by a function with an [`AffinityLayer`](super::AffinityLayer) above the balancer. A
/// call without one goes to a place of the ring at random (gRFC A76).
///
/// Ring, hash and sizes are those of gRPC and Envoy (gRFC A42: XXH64 of `address_n`, 1,024 to 8 Mi
/// entries in proportion to the weights; [`algo::ring`](crate::algo::ring)), so that a key is at home
/// at the same endpoint for them and for this client. A pick is a binary search, O(log entries).
/// With [`Maglev`] it is one access, and the shares are more even; on the ring fewer
/// keys move when weights change.
///
/// An endpoint that may not be called gives each of its keys to the next on the ring. So does one
/// that has too much in flight, more than [1.25](DEFAULT_LOAD_BOUND) times its share of what this
/// client has in flight: a key that everybody asks for does not take its endpoint down. One that is
/// only [in doubt](super::LoadView::is_doubted) keeps its keys, as a stray failure is no reason to
/// fill another cache: breakers and health checks decide.
#[derive(Clone, Debug)]
pub struct RingHash {
    size: Size,
    common: Common<Ring>,
}

impl RingHash {
    /// A ring as gRPC and Envoy build it, with loads bounded at 1.25.
    #[must_use]
    pub fn new() -> Self {
        Self { size: Size::default(), common: Common::new() }
    }

    /// How many entries there are at the least and at the most (default:
    /// [1,024](ring::DEFAULT_MIN) and [8 Mi](ring::DEFAULT_MAX)). The more, the more even.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::RingSize`] if there are none at the least, fewer at the most, or more
    /// than 8 Mi.
    pub fn entries(mut self, least: usize, most: usize) -> Result<Self, InvalidBalance> {
        if least == 0 || least > most || most > ring::DEFAULT_MAX {
            return Err(InvalidBalance::RingSize);
        }
        self.size = Size::Between(least, most);
        Ok(self)
    }

    /// So many entries for each unit of weight, however many endpoints there are: no key moves
    /// between endpoints that stay. Then the ring is not that of gRPC and Envoy, on which the
    /// number of entries changes with the set, and 9 % of the keys move needlessly when one of
    /// ten endpoints leaves. 100 entries spread an endpoint's share by about a tenth.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::RingSize`] if it is 0 or more than 8 Mi.
    pub fn entries_each(mut self, entries: u32) -> Result<Self, InvalidBalance> {
        if entries == 0 || entries as usize > ring::DEFAULT_MAX {
            return Err(InvalidBalance::RingSize);
        }
        self.size = Size::Each(f64::from(entries));
        Ok(self)
    }

    /// Names the endpoints on the ring by their ids in the registry instead of their addresses,
    /// so that one that is started again elsewhere under its old name has its old keys (gRFC
    /// A76, `hash_key`).
    #[must_use]
    pub const fn by_id(mut self) -> Self {
        self.common.by_id = true;
        self
    }

    /// How far above its share an endpoint's calls in flight may be; none for as far as they get
    /// (default: [1.25](DEFAULT_LOAD_BOUND)).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::LoadBound`] if it is not above 1.
    pub fn load_bound(mut self, bound: Option<f64>) -> Result<Self, InvalidBalance> {
        self.common.bound = checked(bound)?;
        Ok(self)
    }
}

impl Default for RingHash {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for RingHash {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        self.common.picker(members, |owners| Ring::new(owners, self.size))
    }
}

/// By a key of the call, with a table in which every endpoint has its exact share: as
/// [`RingHash`], but a pick is one access, O(1), and the shares differ by an entry at most.
///
/// When one comes or goes, less than 2 % of the keys move besides those that have to
/// ([`algo::maglev`](crate::algo::maglev)). The table has 65,537 entries, enough for a few hundred
/// endpoints of the same weight; take a larger prime for more. To build it takes about 2 ms in
/// the balancer's task, whenever membership or weights change.
#[derive(Clone, Debug)]
pub struct Maglev {
    size: usize,
    common: Common<Table>,
}

/// Envoy's limit, and a prime.
const LARGEST: usize = 5_000_011;

impl Maglev {
    /// A table of 65,537 entries, with loads bounded at 1.25.
    #[must_use]
    pub fn new() -> Self {
        Self { size: maglev::DEFAULT_SIZE, common: Common::new() }
    }

    /// How many entries there are: a prime (default: [65,537](maglev::DEFAULT_SIZE)), and best a
    /// hundred times as many as endpoints. An entry takes 4 bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::TableSize`] if it is no prime, or above 5,000,011.
    pub fn entries(mut self, entries: usize) -> Result<Self, InvalidBalance> {
        let is_prime = entries > 2
            && entries <= LARGEST
            && (2..).take_while(|it| it * it <= entries).all(|it| entries % it != 0);
        if !is_prime {
            return Err(InvalidBalance::TableSize);
        }
        self.size = entries;
        Ok(self)
    }

    /// As [`RingHash::by_id`].
    #[must_use]
    pub const fn by_id(mut self) -> Self {
        self.common.by_id = true;
        self
    }

    /// As [`RingHash::load_bound`].
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::LoadBound`] if it is not above 1.
    pub fn load_bound(mut self, bound: Option<f64>) -> Result<Self, InvalidBalance> {
        self.common.bound = checked(bound)?;
        Ok(self)
    }
}

impl Default for Maglev {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Maglev {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        self.common.picker(members, |owners| Table::new(owners, self.size))
    }
}

fn checked(bound: Option<f64>) -> Result<Option<f64>, InvalidBalance> {
    let is_valid = bound.is_none_or(|bound| bound.is_finite() && bound > 1.0);
    is_valid.then_some(bound).ok_or(InvalidBalance::LoadBound)
}

/// What both policies have in common.
#[derive(Clone)]
struct Common<T> {
    by_id: bool,
    bound: Option<f64>,
    built: Built<T>,
}

/// What has been built of which members, while somebody picks from it: a change of health, or
/// of the shares between groups of endpoints, is no reason to build it again. Locked by the
/// balancer's task alone.
type Built<T> = Arc<Mutex<Vec<(Members, Weak<Hashed<T>>)>>>;

type Members = Vec<(EndpointKey, u32)>;

impl<T> fmt::Debug for Common<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by_id, bound, .. } = self;
        f.debug_struct("Common").field("by_id", by_id).field("bound", bound).finish()
    }
}

impl<T: Walk + 'static> Common<T> {
    fn new() -> Self {
        Self { by_id: false, bound: Some(DEFAULT_LOAD_BOUND), built: Arc::default() }
    }

    fn picker(
        &self,
        members: &[Member<'_>],
        build: impl FnOnce(&[(String, f64)]) -> T,
    ) -> Arc<dyn Picker> {
        let of: Members =
            members.iter().map(|member| (member.key, member.endpoint.weight())).collect();
        let mut built = lock(&self.built);
        built.retain(|(_, picker)| picker.strong_count() > 0);
        let known = built.iter().find(|(known, _)| *known == of);
        if let Some(known) = known.and_then(|(_, picker)| picker.upgrade()) {
            return known;
        }
        let none = of.iter().all(|(_, weight)| *weight == 0);
        let weigh = |weight: u32| if none { 1.0 } else { f64::from(weight) };
        // In the order of their names, so that all clients build the same.
        let mut owners: Vec<(String, f64, u32)> = members
            .iter()
            .enumerate()
            .map(|(at, Member { endpoint, .. })| {
                let address = || endpoint.address().to_string();
                let name = if self.by_id { endpoint.id().to_owned() } else { address() };
                (name, weigh(endpoint.weight()), at as u32)
            })
            .collect();
        owners.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(one.2.cmp(&other.2)));
        let places = owners.iter().map(|owner| owner.2).collect();
        let owners: Vec<_> = owners.into_iter().map(|(name, weight, _)| (name, weight)).collect();
        let sum: f64 = owners.iter().map(|(_, weight)| weight).sum();
        let shares = of.iter().map(|(_, weight)| weigh(*weight) / sum).collect();
        let (walk, in_flight) = (build(&owners), Padded(AtomicU64::new(0)));
        let picker = Arc::new(Hashed { walk, places, shares, bound: self.bound, in_flight });
        built.push((of, Arc::downgrade(&picker)));
        picker
    }
}

/// Gives the owners from a hash on.
trait Walk: Send + Sync {
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize>;
}

impl Walk for Ring {
    #[inline]
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        self.from(hash)
    }
}

impl Walk for Table {
    #[inline]
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        self.from(hash)
    }
}

/// Picks by the key of a call.
struct Hashed<T> {
    walk: T,
    /// Where in the set each owner is.
    places: Vec<u32>,
    /// Which share of all is each one's, by its place in the set.
    shares: Vec<f64>,
    bound: Option<f64>,
    /// The calls in flight at all endpoints, as they were counted last.
    in_flight: Padded<AtomicU64>,
}

impl<T> fmt::Debug for Hashed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hashed({} owners)", self.places.len())
    }
}

/// Entries that are looked at from a key's place on. With half of the endpoints unfit, one in
/// 2³² keys has only such among the first 32 that differ.
const WALKED: usize = 128;

/// To count all calls in flight takes a look at all endpoints: that is done at one of so many
/// picks that a pick takes this many looks on average. In between so many calls may begin for each
/// endpoint as are one in 16: so far the mean may be off.
const COUNTED: usize = 16;

/// A share of a tenth is no exact number, and a limit of 125 is not to become 126.
const ROUNDING: f64 = 1e-6;

impl<T: Walk> Picker for Hashed<T> {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        let key = among.words().and_then(|words| words.affinity);
        let hash = key.unwrap_or_else(|| among.draw());
        let mut most = None;
        let mut last = usize::MAX;
        for owner in self.walk.walk(hash).take(WALKED) {
            if owner == last {
                continue;
            }
            last = owner;
            let at = self.places[owner] as usize;
            if among.is_fit(at) && !self.is_full(at, &mut most, among) {
                return Some(at);
            }
        }
        self.by_rank(hash, &mut most, among)
    }
}

impl<T> Hashed<T> {
    /// Whether the one at this place has as much in flight as it may.
    fn is_full(&self, at: usize, most: &mut Option<f64>, among: &dyn Candidates) -> bool {
        let Some(bound) = self.bound else { return false };
        let in_flight = among.load(at).in_flight();
        if in_flight == 0 {
            return false;
        }
        // With this call.
        let most = most.get_or_insert_with(|| bound * (self.count(among) + 1) as f64);
        f64::from(in_flight) >= (*most * self.shares[at] - ROUNDING).ceil()
    }

    /// The calls in flight at all endpoints.
    fn count(&self, among: &dyn Candidates) -> u64 {
        let count = among.count();
        let is_counted = count <= COUNTED || {
            let draw = ((u128::from(among.draw()) * count as u128) >> 64) as usize;
            draw < COUNTED
        };
        if !is_counted {
            // Relaxed: an estimate.
            return self.in_flight.load(Ordering::Relaxed);
        }
        let sum = (0..count).map(|at| u64::from(among.load(at).in_flight())).sum();
        self.in_flight.store(sum, Ordering::Relaxed);
        sum
    }

    /// Of those that fit the one that ranks first for this key (D. Thaler, C. Ravishankar,
    /// "Using name-based mappings to increase hit rates", 1998), if possible of those that are
    /// not full: the same for the same key, and each key with an order of its own. Takes a look at
    /// all, as only few are left.
    fn by_rank(&self, hash: u64, most: &mut Option<f64>, among: &dyn Candidates) -> Option<usize> {
        let mut rank = |at: &usize| {
            let rank = avalanche(hash ^ avalanche(*at as u64 + 1));
            (!self.is_full(*at, most, among), rank)
        };
        (0..among.count()).filter(|&at| among.is_fit(at)).max_by_key(&mut rank)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        balance::{load::Load, policy::LoadView, set::Set},
        endpoint::{Endpoint, Health},
    };

    /// Where so many keys are at home.
    fn homes(set: &mut Set, policy: &dyn Policy, keys: u32) -> Vec<usize> {
        let picker = policy.picker(&set.members());
        let home = |key: u32| set.pick_for(key.to_string(), &*picker).expect("all fit");
        (0..keys).map(home).collect()
    }

    fn shares(homes: &[usize], count: usize) -> Vec<f64> {
        let share = |at| homes.iter().filter(|&&home| home == at).count() as f64;
        (0..count).map(|at| share(at) / homes.len() as f64).collect()
    }

    #[test]
    fn where_nobody_has_a_weight_all_have_the_same() {
        for policy in [&RingHash::new() as &dyn Policy, &Maglev::new()] {
            let mut set = Set::new(4).weights(&[0; 4]);
            let shares = shares(&homes(&mut set, policy, 4_000), 4);
            assert!(shares.iter().all(|share| (0.2..0.3).contains(share)), "{shares:?}");
        }
    }

    #[test]
    fn all_clients_build_the_same_whatever_the_order_in_which_they_heard_of_whom() {
        let mut one = Set::new(5);
        let mut other = Set::new(5);
        other.endpoints.reverse();
        for policy in [&RingHash::new() as &dyn Policy, &Maglev::new()] {
            let there: Vec<usize> =
                homes(&mut other, policy, 500).into_iter().map(|at| 4 - at).collect();
            assert_eq!(homes(&mut one, policy, 500), there);
        }
    }

    #[test]
    fn one_that_moved_has_its_old_keys_if_it_goes_by_its_id() {
        let named = |port: u16| {
            let mut set = Set::new(3);
            let address = std::net::SocketAddr::from(([10, 0, 0, 2], port));
            set.endpoints[1] = Endpoint::new("b", address);
            set
        };
        let kept = |policy: &dyn Policy| {
            let (before, after) =
                (homes(&mut named(1), policy, 1_000), homes(&mut named(2), policy, 1_000));
            before.iter().zip(&after).filter(|(one, other)| one == other).count()
        };
        assert_eq!((kept(&RingHash::new().by_id()), kept(&Maglev::new().by_id())), (1_000, 1_000));
        assert!(kept(&RingHash::new()) < 900 && kept(&Maglev::new()) < 900);
    }

    /// In flight at the home of a key, elsewhere, and whether the home gets one more.
    #[test]
    fn the_bound_counts_the_call_that_is_to_begin_and_is_exact() {
        let stays = |policy: &dyn Policy, mut set: Set, at_home: u32, elsewhere: u32| {
            let picker = policy.picker(&set.members());
            let home = set.pick_for("k", &*picker).expect("all fit");
            set.busy(home, at_home);
            set.busy((home + 1) % set.endpoints.len(), elsewhere);
            set.pick_for("k", &*picker) == Some(home)
        };
        for policy in [&RingHash::new() as &dyn Policy, &Maglev::new()] {
            // 1.25 × 9 / 5 is 2.25: a third, and no fourth.
            assert!(stays(policy, Set::new(5), 2, 6));
            // 1.25 × 8 / 5 is 2.
            assert!(!stays(policy, Set::new(5), 2, 5));
        }
        // 1.1 × 100 / 10 is 11, though not for an f64, which has a little more.
        let bounded = RingHash::new().load_bound(Some(1.1)).expect("above 1");
        assert!(stays(&bounded, Set::new(10), 10, 89) && !stays(&bounded, Set::new(10), 11, 88));
    }

    #[test]
    fn the_bound_goes_by_the_weights() {
        let policy = Maglev::new();
        let mut set = Set::new(2).weights(&[1, 3]);
        let picker = policy.picker(&set.members());
        let mut key = (0_u32..).map(|key| key.to_string());
        let light = key.find(|key| set.pick_for(key, &*picker) == Some(0)).expect("some are");
        let heavy = key.find(|key| set.pick_for(key, &*picker) == Some(1)).expect("some are");
        // Of eight, 1.25 times a quarter is 2.5 and 1.25 times three quarters 7.5.
        set.busy(0, 3);
        set.busy(1, 4);
        assert_eq!(set.pick_for(&light, &*picker), Some(1));
        set.busy(1, 3);
        assert_eq!(set.pick_for(&heavy, &*picker), Some(1), "1.25 × 11 × 0.75 is 10.3");
    }

    #[test]
    fn tables_have_a_prime_number_of_entries_that_is_not_too_large() {
        for (entries, is_fine) in [
            (3, true),
            (9, false),
            (49, false),
            (65_537, true),
            (LARGEST, true),
            (5_000_077, false),
        ] {
            assert_eq!(Maglev::new().entries(entries).is_ok(), is_fine, "{entries}");
        }
    }

    /// Goal: health that flips does not build a table again, which takes its time.
    #[test]
    fn a_table_is_built_once_for_the_same_members_and_let_go_with_its_last_picker() {
        let now = crate::time::now();
        let load = Load::new(now, Duration::from_secs(4), None, now);
        let endpoints: Vec<Endpoint> = (1..=3)
            .map(|port| Endpoint::from(std::net::SocketAddr::from(([127, 0, 0, 1], port))))
            .collect();
        let keys: Vec<EndpointKey> = endpoints.iter().map(|_| EndpointKey::unique()).collect();
        let heavy = endpoints[2].clone().with_weight(5);
        let members = |last, health| {
            let endpoints = [&endpoints[0], &endpoints[1], last];
            let load = LoadView::new(&load, 0.001, 0);
            let member = |(endpoint, &key)| Member { endpoint, key, health, fit: true, load };
            endpoints.into_iter().zip(&keys).map(member).collect::<Vec<_>>()
        };
        let policy = Maglev::new();
        let first = policy.picker(&members(&endpoints[2], Health::Healthy));
        let second = policy.clone().picker(&members(&endpoints[2], Health::Unhealthy));
        assert!(Arc::ptr_eq(&first, &second));
        let other = policy.picker(&members(&heavy, Health::Healthy));
        assert!(!Arc::ptr_eq(&first, &other));
        drop((first, second));
        policy.picker(&members(&heavy, Health::Healthy));
        assert_eq!(lock(&policy.common.built).len(), 1);
    }
}
