//! The power of two choices, by two measures of load.

use std::sync::Arc;

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
                let fresh = !picked.view.is_stale() || picked.view.share() < 1.0;
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
struct Weighed<'a> {
    at: usize,
    view: LoadView<'a>,
    load: f64,
}

/// The less loaded of two drawn at random.
#[inline]
fn lesser<'a, C: Candidates + ?Sized>(
    among: &'a C,
    measure: impl Fn(&LoadView<'_>) -> f64,
) -> Option<Weighed<'a>> {
    let weighed = |at| {
        let view = among.load(at);
        Weighed { at, view, load: measure(&view) }
    };
    let (first, second) = p2c::two(among.count(), |at| among.is_fit(at), || among.draw())?;
    let first = weighed(first);
    Some(match second.map(weighed) {
        Some(second) if second.load < first.load => second,
        _ => first,
    })
}

/// The less loaded of two drawn at random, and of these and the last `heard`.
#[inline]
fn least<'a, C: Candidates + ?Sized>(
    among: &'a C,
    heard: usize,
    measure: impl Fn(&LoadView<'_>) -> f64,
) -> Option<Weighed<'a>> {
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
            best = Weighed { at, view, load };
        }
    }
    if !best.view.is_doubted() {
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
