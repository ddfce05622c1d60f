//! The power of two choices, by two measures of load.

use std::sync::Arc;

use super::{
    policy::{Candidates, LoadView, Member, Picker, Policy},
    recent::{REMEMBERED, Usual},
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
                let at = least(among, 0, |load| load.peak_ewma())?;
                Some(if among.load(at).is_stale() { fresher(among, at) } else { at })
            }
            Some(usual) => by_report(among, usual),
        }
    }
}

/// This one, of which nothing was heard for a while, or one that has just answered and is less
/// loaded.
#[inline(never)]
fn fresher<C: Candidates + ?Sized>(among: &C, at: usize) -> usize {
    let load = |at| among.load(at).peak_ewma();
    let (mut best, mut least) = (at, load(at));
    for at in (0..HEARD).filter_map(|nth| among.heard(nth)) {
        if at != best && load(at) < least && among.is_fit(at) {
            (best, least) = (at, load(at));
        }
    }
    best
}

/// The less loaded of two pairs, and of those that were heard last: with a second pair, since of
/// those that were not heard of for long one can only say what is usual.
#[inline(never)]
fn by_report<C: Candidates + ?Sized>(among: &C, usual: Usual) -> Option<usize> {
    let measure = |load: &LoadView<'_>| load.reported(usual);
    let at = least(among, HEARD_REPORTS, measure)?;
    let (other, load) = lesser(among, measure)?;
    Some(if load < measure(&among.load(at)) { other } else { at })
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
        least(among, 0, |load| {
            let doubt = if load.is_doubted() { DOUBTED } else { 0.0 };
            f64::from(load.in_flight()) + doubt
        })
    }
}

/// More than there are ever calls in flight.
const DOUBTED: f64 = (1_u64 << 32) as f64;

/// The less loaded of two drawn at random.
#[inline]
fn lesser<C: Candidates + ?Sized>(
    among: &C,
    measure: impl Fn(&LoadView<'_>) -> f64,
) -> Option<(usize, f64)> {
    let load = |at| measure(&among.load(at));
    p2c::pick_and_weigh(among.count(), |at| among.is_fit(at), load, || among.draw())
}

/// The less loaded of two drawn at random, and of these and the last `heard`.
#[inline]
fn least<C: Candidates + ?Sized>(
    among: &C,
    heard: usize,
    measure: impl Fn(&LoadView<'_>) -> f64,
) -> Option<usize> {
    let (mut best, mut least) = lesser(among, &measure)?;
    for nth in 0..heard {
        let Some(at) = among.heard(nth) else { break };
        if at == best {
            continue;
        }
        let load = measure(&among.load(at));
        // Looked at last: hardly any of them does not fit.
        if load < least && among.is_fit(at) {
            (best, least) = (at, load);
        }
    }
    if !among.load(best).is_doubted() {
        return Some(best);
    }
    // All were in doubt, as one pair in ten is when two of five fail. Another pair, and no more:
    // to look until somebody is found who is not would throw all the calls on the first one that
    // comes back.
    let (again, load) = lesser(among, &measure)?;
    Some(if load < least { again } else { best })
}

/// How many of those that have just answered are looked at. Four do no better than two where there
/// are ten endpoints, and with a hundred cost a third of a pick for a tenth of the p99.
const HEARD: usize = 2;
/// As many as are remembered where servers report: what they have just said is what is true.
const HEARD_REPORTS: usize = REMEMBERED;
