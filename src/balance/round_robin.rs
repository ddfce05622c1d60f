//! One endpoint after the other.

use std::sync::Arc;

use super::{
    policy::{Candidates, Member, Picker, Policy},
    slow_start::handicap,
};
use crate::sync::{AtomicU64, Ordering, Padded};

/// One endpoint after the other, whatever their load.
///
/// It is blind: an endpoint that has become slow gets as many calls as before, and where servers
/// run near their capacity its queue takes the p99 along (see the load ramp in
/// [`docs::balancing`](crate::docs::balancing)). For endpoints that are known to be alike, and calls
/// that are.
///
/// An endpoint [in doubt](super::LoadView::is_doubted) is passed over while the next few are not, and
/// one that [starts slowly](super::SlowStart) in so many of its turns.
///
/// All threads count with one number, since their rounds are one round: that is what keeps two calls
/// from meeting at an endpoint while others have none. In a model of ten servers that take the same for
/// each call, at 0.9 of their capacity, a number for each of eight threads makes the p99 of waiting
/// there 3.7 of such times instead of 2.0, and with a hundred servers 3.3 instead of 0.2. It costs two threads
/// that do nothing but call six of a hundred calls over a hundred endpoints, and over ten nothing that
/// can be told from chance: there they meet at the endpoints' own counts as often.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    // Shared by the pickers of all sets: a change of the set does not begin the round anew.
    next: Arc<Padded<AtomicU64>>,
}

impl RoundRobin {
    /// Begins anywhere: each of many clients that began with the first would add its first call
    /// to the same endpoint's load.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with the count of another round.
    pub(super) const fn going_on(next: Arc<Padded<AtomicU64>>) -> Self {
        Self { next }
    }
}

impl Policy for RoundRobin {
    fn picker(&self, _: &[Member<'_>]) -> Arc<dyn Picker> {
        Arc::new(self.clone())
    }
}

/// Endpoints in doubt that are passed over in one pick.
const PASSED_OVER: usize = 4;

impl Picker for RoundRobin {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        let count = among.count() as u64;
        if count == 0 {
            return None;
        }
        // Relaxed: the number orders nothing but itself.
        if self.next.load(Ordering::Relaxed) == 0 {
            let start = among.draw() % count + 1;
            let _ = self.next.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
        }
        let (mut doubted, mut passed_over) = (None, 0);
        for _ in 0..count {
            // A number for each look, not each pick: else the neighbour of one that does not fit
            // would get its calls as well.
            let at = (self.next.fetch_add(1, Ordering::Relaxed) % count) as usize;
            if !among.is_fit(at) {
                continue;
            }
            let load = among.load(at);
            // One that is slow at first lets so many of its turns pass.
            if !load.is_doubted() && handicap(load.share(), || among.draw()) <= 1.0 {
                return Some(at);
            }
            doubted = doubted.or(Some(at));
            passed_over += 1;
            if passed_over > PASSED_OVER {
                break;
            }
        }
        // Numbers that others took in the meantime may have been those of all that fit.
        doubted.or_else(|| (0..count as usize).find(|&at| among.is_fit(at)))
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`.
#[cfg(all(test, buttress_loom))]
pub(super) mod loom_tests {
    use std::time::Duration;

    use loom::thread;

    use super::*;
    use crate::{
        balance::{load::Load, policy::LoadView, recent::Usual},
        call::Words,
    };

    /// So many endpoints, all of which are well.
    struct Alike(Vec<Load>);

    impl Candidates for Alike {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn is_fit(&self, _: usize) -> bool {
            true
        }

        fn load(&self, at: usize) -> LoadView<'_> {
            LoadView::new(&self.0[at], 0.001, 0)
        }

        fn heard(&self, _: usize) -> Option<usize> {
            None
        }

        fn usual(&self) -> Option<Usual> {
            None
        }

        fn draw(&self) -> u64 {
            7 << 16
        }

        fn now(&self) -> std::time::Instant {
            crate::time::now()
        }

        fn words(&self) -> Option<&Words> {
            None
        }
    }

    /// Two threads make the first picks of a round: each endpoint has one of them.
    pub(in crate::balance) fn each_has_one(picker: fn() -> Arc<dyn Picker>) {
        loom::model(move || {
            let now = crate::time::now();
            let load = || Load::new(now, Duration::from_secs(4), Some(0.001), now);
            let (picker, alike) = (picker(), Arc::new(Alike(vec![load(), load()])));
            let other = {
                let (picker, alike) = (Arc::clone(&picker), Arc::clone(&alike));
                thread::spawn(move || picker.pick(&*alike))
            };
            let mut picked = [picker.pick(&*alike), other.join().expect("it only picks")];
            picked.sort_unstable();
            assert_eq!(picked, [Some(0), Some(1)]);
        });
    }

    #[test]
    fn two_threads_begin_one_round() {
        each_has_one(|| RoundRobin::new().picker(&[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::set::Set;

    #[test]
    fn each_client_begins_anywhere() {
        let first = |seed| {
            let set = Set::new(8).seeded(seed);
            RoundRobin::new().picker(&set.members()).pick(&set)
        };
        let firsts: std::collections::HashSet<_> = (0..32).map(first).collect();
        assert!(firsts.len() > 3, "{firsts:?}");
    }

    #[test]
    fn where_all_are_in_doubt_each_has_its_turn_and_where_none_fits_none_is_picked() {
        let mut set = Set::new(3);
        (0..3).for_each(|at| set.doubt(at));
        let picker = RoundRobin::new().picker(&set.members());
        let first = picker.pick(&set);
        // Three looks a pick: each begins where the one before did.
        assert!((0..9).all(|_| picker.pick(&set) == first));
        set.fit = vec![false; 3];
        assert_eq!(picker.pick(&set), None);
        assert_eq!(picker.pick(&Set::new(0)), None);
    }

    #[test]
    fn four_in_doubt_in_a_row_are_passed_over_and_no_more() {
        let picked = |in_doubt: usize| {
            let set = Set::new(8);
            let picker = RoundRobin::new().picker(&set.members());
            let next = picker.pick(&set).expect("all fit") + 1;
            (0..in_doubt).for_each(|more| set.doubt((next + more) % 8));
            (picker.pick(&set).expect("all fit") + 8 - next % 8) % 8
        };
        assert_eq!((picked(1), picked(4), picked(5)), (1, 4, 0));
    }
}
