//! The power of two choices, by two measures of load.

use std::sync::Arc;

use super::{
    policy::{Candidates, LoadView, Member, Picker, Policy},
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
        lesser(among, |load| load.peak_ewma(|| among.draw()))
    }
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
        lesser(among, |load| {
            let doubt = if load.is_doubted() { DOUBTED } else { 0.0 };
            (f64::from(load.in_flight()) + 1.0) * handicap(load.share(), || among.draw()) + doubt
        })
    }
}

/// More than there are ever calls in flight.
const DOUBTED: f64 = (1_u64 << 32) as f64;

/// The less loaded of two.
#[inline]
fn lesser<C: Candidates + ?Sized>(
    among: &C,
    measure: impl Fn(&LoadView<'_>) -> f64,
) -> Option<usize> {
    let fit = |at| among.is_fit(at);
    let load = |at| measure(&among.load(at));
    let at = p2c::pick(among.count(), fit, load, || among.draw())?;
    if !among.load(at).is_doubted() {
        return Some(at);
    }
    // Both were in doubt, as one pair in ten is when two of five fail. Another pair, and no more:
    // to look until somebody is found who is not would throw all the calls on the first one that
    // comes back.
    let again = p2c::pick(among.count(), fit, load, || among.draw())?;
    Some(if load(again) < load(at) { again } else { at })
}
