//! The power of two choices, by two measures of load.

use std::{iter, sync::Arc};

use super::{
    policy::{Candidates, LoadView, Member, Picker, Policy},
    recent::{REMEMBERED, Usual},
    slow_start::handicap,
};
use crate::algo::p2c;

/// Of two endpoints drawn at random the one with the lower latency times calls in flight: the
/// default.
///
/// The latency is Peak EWMA ([`algo::ewma`](crate::algo::ewma)); an endpoint
/// [in doubt](LoadView::is_doubted) loses against every other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeakEwma;

impl PeakEwma {
    /// The default.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// As [`Picker::pick`], for candidates whose type is known: nothing is called by way of a
    /// table, which would cost the default policy a tenth of a pick.
    #[inline]
    pub(super) fn pick_from<C: Candidates + ?Sized>(among: &C) -> Option<usize> {
        match among.usual() {
            None => {
                let picked = least(among, 0, |load| load.peak_ewma(|| among.draw()))?;
                // One that starts slowly is always stale. To prefer the others all the same would
                // leave it with nothing.
                let view = among.load(picked.at);
                let fresh = !view.is_stale() || view.share() < 1.0;
                Some(if fresh { picked.at } else { fresher(among, picked.at, picked.load) })
            }
            Some(usual) => by_report(among, usual),
        }
    }
}

/// This one with this load, of which nothing was heard for a while, or one that has just answered
/// and is less loaded.
#[inline(never)]
fn fresher<C: Candidates + ?Sized>(among: &C, at: usize, load: f64) -> usize {
    let (mut best, mut least) = (at, load);
    for at in (0..HEARD).filter_map(|nth| among.heard(nth)).filter(|&heard| heard != at) {
        let load = among.load(at).peak_ewma(|| among.draw());
        // Looked at last: hardly any of them does not fit.
        if load < least && among.is_fit(at) {
            (best, least) = (at, load);
        }
    }
    best
}

/// The less loaded of two pairs, and of those that were heard last: with a second pair, since of
/// those that were not heard of for long one can only say what is usual.
#[inline(never)]
fn by_report<C: Candidates + ?Sized>(among: &C, usual: Usual) -> Option<usize> {
    let measure = |load: &LoadView<'_>| load.reported(usual, || among.draw());
    let one = least(among, HEARD_REPORTS, measure)?;
    let other = lesser(among, measure)?;
    Some(if other.load < one.load { other.at } else { one.at })
}

impl Policy for PeakEwma {
    fn picker(&self, _: &[Member<'_>]) -> Arc<dyn Picker> {
        Arc::new(*self)
    }
}

impl Picker for PeakEwma {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        Self::pick_from(among)
    }
}

/// Of two endpoints drawn at random the one with fewer calls of this balancer in flight.
///
/// It does not see which endpoint is slow until calls pile up there, and nothing of what other
/// clients send: for few clients, or for calls whose latency says little of the endpoint, such as
/// long polls and streams. One [in doubt](LoadView::is_doubted) loses against every other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeastRequest;

impl LeastRequest {
    /// By the calls in flight alone.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Policy for LeastRequest {
    fn picker(&self, _: &[Member<'_>]) -> Arc<dyn Picker> {
        Arc::new(*self)
    }
}

impl Picker for LeastRequest {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        let picked = least(among, 0, |load| {
            let doubt = if load.is_doubted() { DOUBTED } else { 0.0 };
            (f64::from(load.in_flight()) + 1.0) * handicap(load.share(), || among.draw()) + doubt
        });
        picked.map(|picked| picked.at)
    }
}

/// More than there are ever calls in flight.
const DOUBTED: f64 = (1_u64 << 32) as f64;

/// A candidate that was looked at, and what was measured of it.
#[derive(Clone, Copy)]
struct Weighed {
    at: usize,
    load: f64,
}

/// The less loaded of two drawn at random.
#[inline]
fn lesser<C: Candidates + ?Sized>(
    among: &C,
    measure: impl Fn(&LoadView<'_>) -> f64,
) -> Option<Weighed> {
    let (first, second) = p2c::two(among.count(), |at| among.is_fit(at), || among.draw())?;
    let mut best = Weighed { at: first, load: f64::INFINITY };
    for at in iter::once(first).chain(second) {
        let load = measure(&among.load(at));
        if load < best.load {
            best = Weighed { at, load };
        }
    }
    Some(best)
}

/// The less loaded of two drawn at random, and of these and the last `heard`.
#[inline]
fn least<C: Candidates + ?Sized>(
    among: &C,
    heard: usize,
    measure: impl Fn(&LoadView<'_>) -> f64,
) -> Option<Weighed> {
    let mut best = lesser(among, &measure)?;
    for nth in 0..heard {
        let Some(at) = among.heard(nth) else { break };
        if at == best.at {
            continue;
        }
        let view = among.load(at);
        let load = measure(&view);
        // Looked at last: hardly any of them does not fit. One that starts slowly is looked at only
        // when it is drawn, or it would be heard the more, the more it is looked at.
        if load < best.load && among.is_fit(at) && view.share() >= 1.0 {
            best = Weighed { at, load };
        }
    }
    if !among.load(best.at).is_doubted() {
        return Some(best);
    }
    // All were in doubt, as one pair in ten is when two of five fail. Another pair, and no more:
    // to look until somebody is found who is not would throw all the calls on the first one that
    // comes back.
    let again = lesser(among, &measure)?;
    Some(if again.load < best.load { again } else { best })
}

/// How many of those that have just answered are looked at. Four do no better than two where there
/// are ten endpoints, and with a hundred cost a third of a pick for a tenth of the p99.
const HEARD: usize = 2;
/// As many as are remembered where servers report: what they have just said is what is true.
const HEARD_REPORTS: usize = REMEMBERED;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{balance::set::Set, endpoint::LoadReport};

    /// How many of a thousand picks go to this one.
    fn of_a_thousand(set: &Set, picker: &dyn Picker, at: usize) -> u32 {
        set.picks(picker, 1_000)[at]
    }

    #[test]
    fn of_whom_nothing_was_heard_for_long_one_that_has_just_answered_is_preferred() {
        let mut set = Set::new(50);
        (0..50).filter(|&at| at != 17).for_each(|at| set.busy(at, 2));
        set.heard = vec![17, 17];
        let picker = PeakEwma::new();
        assert!(of_a_thousand(&set, &picker, 17) < 100, "all have just been heard of");
        set.now += Duration::from_secs(5);
        assert_eq!(of_a_thousand(&set, &picker, 17), 1_000);
        // Unless it is busier, or does not fit.
        set.busy(17, 9);
        assert!(of_a_thousand(&set, &picker, 17) < 100);
        (0..9).for_each(|_| set.loads[17].end());
        set.fit[17] = false;
        assert_eq!(of_a_thousand(&set, &picker, 17), 0);
    }

    #[test]
    fn where_servers_report_those_that_were_heard_last_are_looked_at_if_they_fit() {
        let mut set = Set::new(50);
        set.usual = Some(Usual { in_flight: 5.0, latency: 0.001 });
        set.report(17, &LoadReport { in_flight: Some(0.0), ..LoadReport::new() });
        let picker = PeakEwma::new();
        assert!(of_a_thousand(&set, &picker, 17) < 200, "as often as it is drawn");
        set.heard = vec![3, 17];
        assert_eq!(of_a_thousand(&set, &picker, 17), 1_000);
        // One that starts slowly is looked at only when it is drawn.
        set.loads[17].standing.start(set.loads[17].tick(set.now));
        assert!(of_a_thousand(&set, &picker, 17) < 200);
        set.fit[17] = false;
        assert_eq!(of_a_thousand(&set, &picker, 17), 0);
    }

    /// Two pairs: one of four is the least loaded, where of one pair it would be one of two.
    #[test]
    fn where_servers_report_two_pairs_are_drawn() {
        let mut set = Set::new(20);
        set.usual = Some(Usual { in_flight: 5.0, latency: 0.001 });
        (0..5).for_each(|at| {
            set.report(at, &LoadReport { in_flight: Some(0.0), ..LoadReport::new() })
        });
        let idle: u32 = set.picks(&PeakEwma::new(), 2_000)[..5].iter().sum();
        // 1 - (15/20 × 14/19)² is 0.695, and of one pair 0.447.
        assert!((1_300..1_480).contains(&idle), "{idle} of 2000");
    }

    #[test]
    fn a_pair_in_doubt_is_drawn_once_more_and_no_further() {
        for picker in [&PeakEwma::new() as &dyn Picker, &LeastRequest::new()] {
            let set = Set::new(10);
            (0..5).for_each(|at| set.doubt(at));
            let doubted: u32 = set.picks(picker, 4_000)[..5].iter().sum();
            // (5/10 × 4/9)² is 0.049, and of one pair 0.222.
            assert!((120..280).contains(&doubted), "{doubted} of 4000");
        }
    }

    #[test]
    fn least_request_prefers_the_busy_to_the_doubtful_and_starts_slowly() {
        let set = Set::new(2);
        set.doubt(0);
        set.busy(1, 50);
        assert_eq!(of_a_thousand(&set, &LeastRequest::new(), 0), 0);
        // It has a tenth of its share: in one pick of ten it is as good as the other.
        let set = Set::new(2);
        set.loads[0].standing.start(set.loads[0].tick(set.now));
        let picks = of_a_thousand(&set, &LeastRequest::new(), 0);
        assert!((1..150).contains(&picks), "{picks}");
    }
}
