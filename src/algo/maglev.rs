//! Maglev: a table that every owner has its even share of.
//!
//! Each owner fills the table in an order of its own, in turns, so that shares differ by an entry
//! at most and a change of the set moves little besides what it has to (D. Eisenbud et al.,
//! "Maglev", NSDI 2016, section 3.4). A look-up is one access. Weights, and the two hashes that an
//! order comes from, are those of Envoy's table: an owner has its turn in proportion to its
//! weight, and everybody has the first.

use super::xxh64::xxh64;

/// The entries of a table (Maglev's small one; Envoy): a prime, and with 650 owners each has
/// about a hundred.
pub const DEFAULT_SIZE: usize = 65_537;

/// A table, whose owners are numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    owners: Vec<u32>,
}

impl Table {
    /// A table of so many entries, which has to be a prime, for these names and their weights.
    /// Weights of 0 and less have no entries.
    ///
    /// Callers that are to build the same table give the names in the same order.
    #[must_use]
    pub fn new<N: AsRef<str>>(owners: &[(N, f64)], size: usize) -> Self {
        let heaviest = owners.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
        let order = |(at, (name, weight)): (usize, &(N, f64))| {
            let name = name.as_ref().as_bytes();
            let offset = xxh64(name, 0) % size as u64;
            let skip = xxh64(name, 1) % (size as u64 - 1) + 1;
            (*weight > 0.0).then_some(Order {
                at: at as u32,
                offset,
                skip,
                weight: *weight,
                due: 0.0,
            })
        };
        let mut orders: Vec<Order> = owners.iter().enumerate().filter_map(order).collect();
        if orders.is_empty() {
            return Self::default();
        }
        let mut table = vec![FREE; size];
        let mut free = size;
        let mut turn = 0.0;
        loop {
            turn += 1.0;
            for order in &mut orders {
                if turn * order.weight < order.due {
                    continue;
                }
                order.due += heaviest;
                let at = order.next(&table);
                table[at] = order.at;
                free -= 1;
                if free == 0 {
                    return Self { owners: table };
                }
            }
        }
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
        let start = (hash % self.owners.len().max(1) as u64) as usize;
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).map(|&owner| owner as usize)
    }

    /// The owner of this hash.
    #[must_use]
    pub fn owner(&self, hash: u64) -> Option<usize> {
        self.from(hash).next()
    }
}

const FREE: u32 = u32::MAX;

/// In which order an owner wants the entries.
struct Order {
    at: u32,
    /// The next that it wants.
    offset: u64,
    skip: u64,
    weight: f64,
    /// Its turn comes when its weight times the turns is as much.
    due: f64,
}

impl Order {
    /// The next that is free. There is one: the size is a prime, so that every order has all.
    fn next(&mut self, table: &[u32]) -> usize {
        loop {
            let at = self.offset as usize;
            self.offset = (self.offset + self.skip) % table.len() as u64;
            if table[at] == FREE {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<u32>) -> Vec<(String, f64)> {
        range.map(|at| (format!("10.0.{}.{}:80", at / 250, at % 250), 1.0)).collect()
    }

    /// The share of the entries that have another owner, beyond those that had to.
    fn beyond(before: &[(String, f64)], after: &[(String, f64)]) -> f64 {
        let (old, new) = (Table::new(before, DEFAULT_SIZE), Table::new(after, DEFAULT_SIZE));
        let stays = |name: &str, among: &[(String, f64)]| among.iter().any(|(it, _)| it == name);
        let entries = old.owners.iter().zip(&new.owners);
        let moved = entries.filter(|&(&was, &is)| {
            let (was, is) = (&before[was as usize].0, &after[is as usize].0);
            was != is && stays(was, after) && stays(is, before)
        });
        moved.count() as f64 / DEFAULT_SIZE as f64
    }

    #[test]
    fn a_change_moves_less_than_two_percent_beyond_what_it_has_to() {
        for count in [3, 10, 30, 100] {
            let (all, fewer) = (names(0..count), names(1..count));
            let (left, came) = (beyond(&all, &fewer), beyond(&fewer, &all));
            eprintln!("{count}: {left:.4} when one leaves, {came:.4} when it comes back");
            assert!(left < 0.02 && came < 0.02, "{count}: {left} {came}");
        }
    }

    #[test]
    fn everybody_has_the_same_share() {
        let table = Table::new(&names(0..100), DEFAULT_SIZE);
        let mut counts = [0; 100];
        table.owners.iter().for_each(|&owner| counts[owner as usize] += 1);
        assert!(counts.iter().all(|count| (655..=656).contains(count)), "{counts:?}");
    }

    #[test]
    fn shares_follow_the_weights() {
        let table = Table::new(&[("a", 1.0), ("b", 0.0), ("c", 3.0)], DEFAULT_SIZE);
        let of_c = table.owners.iter().filter(|&&owner| owner == 2).count();
        assert!(of_c.abs_diff(DEFAULT_SIZE * 3 / 4) < 3, "{of_c}");
        assert!(!table.owners.contains(&1));
    }

    #[test]
    fn a_table_of_nobody_has_no_owner() {
        assert_eq!(Table::new(&names(0..0), 7).owner(3), None);
        assert_eq!(Table::new(&[("a", 0.0)], 7).owner(3), None);
    }
}
