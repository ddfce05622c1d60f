//! Groups of endpoints that share the calls, each with a picker of its own.

use std::{sync::Arc, time::Duration};

use super::{
    part::{Part, draw_by_key},
    policy::{Candidates, Member, Picker, Policy},
    weighted::least_weight,
};
/// How often the shares are made anew, by who may be called then. Breakers open and close without
/// a word.
pub(super) const RENEWED: Duration = Duration::from_secs(1);

/// Groups in the order in which they are preferred.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    part: Part,
    /// A draw below this, and not below that of the group before, is for this group.
    below: u64,
    picker: Arc<dyn Picker>,
}

impl Groups {
    /// A picker over groups that are given by their members, with the policy that picks within
    /// each. `shares` gives the groups' shares by their fit weight and their whole weight.
    pub(super) fn picker(
        groups: Vec<Vec<usize>>,
        members: &[Member<'_>],
        inner: &dyn Policy,
        shares: impl FnOnce(&[(f64, f64)]) -> Vec<f64>,
    ) -> Arc<dyn Picker> {
        if groups.len() <= 1 {
            return inner.picker(members);
        }
        let least = least_weight(members);
        let weighed: Vec<_> = groups.iter().map(|group| weigh(group, members, least)).collect();
        let mut sum = 0.0;
        let group = |(group, share): (Vec<usize>, f64)| {
            sum += share;
            let part = Part::new(group, members.len());
            let picker = inner.picker(&part.of(members));
            // Saturates: a sum that is a little above 1 is 1.
            Group { part, below: (sum * TWO_POW_64) as u64, picker }
        };
        let groups = groups.into_iter().zip(shares(&weighed)).map(group).collect();
        Arc::new(Self { groups })
    }

    fn pick_in(&self, group: usize, among: &dyn Candidates) -> Option<usize> {
        let Group { part, picker, .. } = &self.groups[group];
        picker.pick(&part.among(among, [None; 2])).and_then(|place| part.whole(place))
    }
}

const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;

/// The fit weight of a group, and its whole weight. A weight of 0 is nearly nothing beside others,
/// and as much as any where nobody has one.
fn weigh(group: &[usize], members: &[Member<'_>], least: f64) -> (f64, f64) {
    let weight = |at: usize| f64::from(members[at].endpoint.weight()).max(least);
    let fit = group.iter().filter(|&&at| members[at].fit).map(|&at| weight(at)).sum();
    (fit, group.iter().map(|&at| weight(at)).sum())
}

impl Picker for Groups {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        // The calls of a key stay in the group of their key, while its share allows it.
        let (draw, is_keyed) = draw_by_key(among);
        let drawn = self.groups.iter().position(|group| draw < group.below).unwrap_or(0);
        let mut doubted = None;
        let others = (0..self.groups.len()).filter(|&group| group != drawn);
        for group in std::iter::once(drawn).chain(others) {
            let Some(at) = self.pick_in(group, among) else { continue };
            // Within a group all may be in doubt, and no breaker has opened yet.
            if is_keyed || !among.load(at).is_doubted() {
                return Some(at);
            }
            doubted = doubted.or(Some(at));
        }
        doubted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{choices::LeastRequest, set::Set};

    /// The first two, who have so much of the calls, and two others.
    fn halves(set: &Set, first: f64) -> Arc<dyn Picker> {
        let groups = vec![vec![0, 1], vec![2, 3]];
        let shares = |_: &[(f64, f64)]| vec![first, 1.0 - first];
        Groups::picker(groups, &set.members(), &LeastRequest::new(), shares)
    }

    #[test]
    fn where_all_are_in_doubt_the_group_that_was_drawn_is_as_good_as_any() {
        let set = Set::new(4);
        (0..4).for_each(|at| set.doubt(at));
        let picks = set.picks(&*halves(&set, 0.75), 1_000);
        assert!((650..850).contains(&(picks[0] + picks[1])), "{picks:?}");
    }

    #[test]
    fn the_calls_of_a_key_stay_in_their_group_though_it_is_in_doubt_and_others_do_not() {
        let mut set = Set::new(4);
        [0, 1].into_iter().for_each(|at| set.doubt(at));
        let picker = halves(&set, 1.0);
        let keyed = set.pick_for("k", &*picker).expect("all fit");
        assert!(keyed < 2, "{keyed}");
        set.words = None;
        assert!(picker.pick(&set).is_some_and(|at| at >= 2));
    }
}
