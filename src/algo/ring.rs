//! A ring of hashes: consistent hashing.
//!
//! Each owner stands at several places of a ring of all 64-bit numbers, and a key belongs to the
//! first owner at or after its hash (D. Karger et al., STOC 1997). Built as gRPC (gRFC A42) and
//! Envoy do: the place of an owner's nth entry is [`xxh64`] of `name_n`, and there are as
//! many entries as give the least weight a whole number of them.

use super::xxh64::xxh64;

/// The least number of entries of a ring (gRFC A42, `min_ring_size`; Envoy).
pub const DEFAULT_MIN: usize = 1024;
/// The most entries of a ring (gRFC A42, `max_ring_size`; Envoy): 8 Mi, of 12 bytes each.
pub const DEFAULT_MAX: usize = 8 * 1024 * 1024;

/// How many entries a ring has.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Size {
    /// As few as give each owner a whole number of entries in proportion to its weight, but
    /// within these bounds; then some owners may have none.
    ///
    /// The number of an owner's entries depends on how many owners there are. So when the set
    /// changes, some keys move between owners that stay.
    Between(usize, usize),
    /// So many for each unit of weight, rounded. The owners that stay keep their entries, so no
    /// key moves but those of the owner that left or came.
    Each(f64),
}

impl Default for Size {
    fn default() -> Self {
        Self::Between(DEFAULT_MIN, DEFAULT_MAX)
    }
}

/// So much of an entry is none: sums of weights that have no exact number are off by less.
const ROUNDING: f64 = 1e-6;

/// A ring, whose owners are numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    hashes: Vec<u64>,
    owners: Vec<u32>,
}

impl Ring {
    /// A ring of these names and their weights. Weights of 0 and less have no entries.
    ///
    /// Where the weights don't come out even, who comes first has the entry more: callers that
    /// are to build the same ring give the names in the same order.
    #[must_use]
    pub fn new<N: AsRef<str>>(owners: &[(N, f64)], size: Size) -> Self {
        let sum: f64 = owners.iter().map(|(_, weight)| weight.max(0.0)).sum();
        if sum <= 0.0 {
            return Self::default();
        }
        let (scale, most) = match size {
            Size::Between(min, max) => {
                let weights = owners.iter().map(|(_, weight)| weight / sum);
                let least = weights.filter(|&weight| weight > 0.0).fold(1.0, f64::min);
                let scale = ((least * min as f64).ceil() / least).min(max as f64);
                (scale / sum, scale.ceil() as usize)
            }
            Size::Each(entries) => (entries, DEFAULT_MAX),
        };
        let mut places = Vec::new();
        let (mut target, mut name) = (0.0, String::new());
        for (at, (owner, weight)) in owners.iter().enumerate() {
            let count = match size {
                Size::Between(..) => {
                    target += scale * weight.max(0.0);
                    (target - places.len() as f64 - ROUNDING).ceil().max(0.0) as usize
                }
                Size::Each(_) => (scale * weight.max(0.0)).round() as usize,
            };
            for nth in 0..count.min(most - places.len().min(most)) {
                name.clear();
                // Writing to a string does not fail.
                let _ = std::fmt::write(&mut name, format_args!("{}_{nth}", owner.as_ref()));
                places.push((xxh64(name.as_bytes(), 0), at as u32));
            }
        }
        places.sort_unstable();
        let (hashes, owners) = places.into_iter().unzip();
        Self { hashes, owners }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The owners from this hash on, once around.
    #[inline]
    pub fn from(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.hashes.partition_point(|&place| place < hash);
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).map(|&owner| owner as usize)
    }

    /// The owner of this hash.
    #[must_use]
    pub fn owner(&self, hash: u64) -> Option<usize> {
        self.from(hash).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::xxh64::avalanche;

    fn names(range: std::ops::Range<u32>) -> Vec<(String, f64)> {
        range.map(|at| (format!("10.0.0.{at}:80"), 1.0)).collect()
    }

    /// Of 20,000 keys: how many have another owner, and how many had one that is gone.
    fn moved(before: &[(String, f64)], after: &[(String, f64)], size: Size) -> (usize, usize) {
        let (old, new) = (Ring::new(before, size), Ring::new(after, size));
        let (mut moved, mut needed) = (0, 0);
        for key in (0..20_000).map(avalanche) {
            let was = &before[old.owner(key).expect("it has entries")].0;
            let is = &after[new.owner(key).expect("it has entries")].0;
            moved += usize::from(was != is);
            needed += usize::from(after.iter().all(|(name, _)| name != was));
        }
        (moved, needed)
    }

    #[test]
    fn with_entries_for_each_only_the_keys_of_who_left_move() {
        let size = Size::Each(100.0);
        let (moved_keys, needed) = moved(&names(0..10), &names(1..10), size);
        assert!(needed > 1_000);
        assert_eq!(moved_keys, needed);
        // A newcomer takes what is its own, and nothing moves between the others.
        let (fewer, more) = (names(0..10), names(0..11));
        let (old, new) = (Ring::new(&fewer, size), Ring::new(&more, size));
        for key in (0..20_000).map(avalanche) {
            let (was, is) = (old.owner(key), new.owner(key));
            assert!(was == is || is == Some(10), "{key}: {was:?} {is:?}");
        }
    }

    #[test]
    fn by_the_letter_some_keys_move_between_those_who_stay() {
        // 103 entries each, and then 114: every tenth entry is new.
        let (moved, needed) = moved(&names(0..10), &names(1..10), Size::default());
        let beyond = (moved - needed) as f64 / 20_000.0;
        assert!((0.04..0.12).contains(&beyond), "{beyond}");
    }

    #[test]
    fn the_bounds_hold_and_a_ring_of_nobody_has_no_owner() {
        let owners = names(0..3);
        assert_eq!(Ring::new(&owners, Size::Between(1024, 2048)).len(), 1026);
        assert_eq!(Ring::new(&owners, Size::Between(1024, 1024)).len(), 1024);
        assert_eq!(Ring::new(&owners[..0], Size::default()).owner(7), None);
        assert_eq!(Ring::new(&[("a", 0.0)], Size::default()).owner(7), None);
    }

    #[test]
    fn shares_follow_the_weights() {
        let owners = [("a", 1.0), ("b", 0.0), ("c", 3.0)];
        let ring = Ring::new(&owners, Size::Between(8192, DEFAULT_MAX));
        let of_c = (0..40_000).filter(|&key| ring.owner(avalanche(key)) == Some(2)).count();
        assert!(of_c.abs_diff(30_000) < 1_200, "{of_c}");
        assert!((0..40_000).all(|key| ring.owner(avalanche(key)) != Some(1)));
    }
}
