//! Some of the candidates, as a policy sees them that picks among these alone.

use std::time::Instant;

use super::{
    policy::{Candidates, LoadView, Member},
    recent::Usual,
};
use crate::{algo::xxh64::avalanche, call::Words};

/// Which of a set belong to a part.
#[derive(Debug)]
pub(super) struct Part {
    /// Where in the set each of the part is.
    members: Box<[u32]>,
    /// Where in the part each of the set is, or [`ELSEWHERE`].
    places: Box<[u32]>,
}

const ELSEWHERE: u32 = u32::MAX;

impl Part {
    /// These of a set of so many.
    pub(super) fn new(members: impl IntoIterator<Item = usize>, count: usize) -> Self {
        let members: Box<[u32]> = members.into_iter().map(|at| at as u32).collect();
        let mut places = vec![ELSEWHERE; count].into_boxed_slice();
        for (place, &at) in members.iter().enumerate() {
            places[at as usize] = place as u32;
        }
        Self { members, places }
    }

    /// The members of this part, among those of the set.
    pub(super) fn of<'a>(&self, members: &[Member<'a>]) -> Vec<Member<'a>> {
        self.members.iter().map(|&at| members[at as usize]).collect()
    }

    /// Where in the set the one at this place of the part is.
    pub(super) fn whole(&self, place: usize) -> Option<usize> {
        self.members.get(place).map(|&at| at as usize)
    }

    /// The candidates of this part, without those that are left out.
    pub(super) const fn among<'a>(
        &'a self,
        set: &'a dyn Candidates,
        left_out: [Option<usize>; 2],
    ) -> Among<'a> {
        Among { part: self, set, left_out }
    }
}

/// The candidates of a part.
pub(super) struct Among<'a> {
    part: &'a Part,
    set: &'a dyn Candidates,
    /// By their places in the part.
    left_out: [Option<usize>; 2],
}

impl Among<'_> {
    fn at(&self, place: usize) -> usize {
        self.part.members[place] as usize
    }
}

impl Candidates for Among<'_> {
    fn count(&self) -> usize {
        self.part.members.len()
    }

    fn is_fit(&self, place: usize) -> bool {
        !self.left_out.contains(&Some(place)) && self.set.is_fit(self.at(place))
    }

    fn load(&self, place: usize) -> LoadView<'_> {
        self.set.load(self.at(place))
    }

    fn heard(&self, nth: usize) -> Option<usize> {
        let place = *self.part.places.get(self.set.heard(nth)?)?;
        (place != ELSEWHERE).then_some(place as usize)
    }

    fn usual(&self) -> Option<Usual> {
        self.set.usual()
    }

    fn draw(&self) -> u64 {
        self.set.draw()
    }

    fn now(&self) -> Instant {
        self.set.now()
    }

    fn words(&self) -> Option<&Words> {
        self.set.words()
    }
}

/// Chance, but for calls that go by a key always the same: what is decided by it does not part
/// the calls of one key. And whether it goes by a key.
pub(super) fn draw_by_key(among: &dyn Candidates) -> (u64, bool) {
    let key = among.words().and_then(|words| words.affinity);
    key.map_or_else(|| (among.draw(), false), |key| (avalanche(key ^ OTHERWISE), true))
}

/// So that what was decided says nothing of the key's place on a ring.
const OTHERWISE: u64 = 0x7a6f_6e65_6c65_7665;
