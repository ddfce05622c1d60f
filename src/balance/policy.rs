//! How an endpoint is picked: a policy makes a picker for each set of endpoints, and the picker
//! picks.
//!
//! The split is that of gRPC (`balancer.Balancer` and `balancer.Picker` in grpc-go): what takes
//! its time (a ring, a table, a schedule of weights) is built by the balancer's task when
//! the set changes, and a call only reads what was built. So a pick takes no lock.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{load::Load, probing::Probes, recent::Usual};
use crate::{
    call::Words,
    endpoint::{Endpoint, EndpointKey, Health},
};

/// A way to pick endpoints.
///
/// Which endpoints may be called is not its business: health, breakers, `Retry-After` and the
/// endpoints that a call has tried are looked at by the balancer, which asks the picker to pick
/// among those that [fit](Candidates::is_fit).
///
/// What is known of one endpoint is kept with it, for as long as it is a member and a minute
/// longer, and is the same for all policies: see [`LoadView`]. What a policy keeps across sets
/// (a place in a round, a pool of probes) it keeps in itself, and shares with its pickers.
pub trait Policy: fmt::Debug + Send + Sync {
    /// The picker for these members. Called by the balancer's own task, with each change of
    /// membership or health; `members` are in the order of [`Candidates`].
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker>;

    /// After which time another picker is asked for though nothing has changed, for pickers that
    /// are made from the endpoints' loads.
    fn renew_after(&self) -> Option<Duration> {
        None
    }

    /// What it wants to ask of the endpoints beside the calls, if it is made of a
    /// [`Probing`](super::Probing) policy: then what that says. The balancer sends the probes from when
    /// it is built until its last handle is gone.
    fn probes(&self) -> Option<Probes> {
        None
    }
}

/// Picks the endpoint of one attempt from one set. Asked by every call, on every thread: it
/// takes no lock, and looks at all the candidates only where that can't be avoided. For each
/// endpoint that an attempt tries to enter it is asked once, and once more only if the endpoints that
/// its call has tried were left out and it found none.
pub trait Picker: fmt::Debug + Send + Sync {
    /// Where in the set the picked one is: one that [fits](Candidates::is_fit), or none if none
    /// does.
    fn pick(&self, among: &dyn Candidates) -> Option<usize>;
}

impl<P: Policy + ?Sized> Policy for Arc<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        (**self).picker(members)
    }

    fn renew_after(&self) -> Option<Duration> {
        (**self).renew_after()
    }

    fn probes(&self) -> Option<Probes> {
        (**self).probes()
    }
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        (**self).picker(members)
    }

    fn renew_after(&self) -> Option<Duration> {
        (**self).renew_after()
    }

    fn probes(&self) -> Option<Probes> {
        (**self).probes()
    }
}

/// What one attempt is picked from: a set of endpoints, some of which fit it.
pub trait Candidates {
    /// How many there are, those that do not fit included.
    fn count(&self) -> usize;

    /// Whether this one may be picked.
    fn is_fit(&self, at: usize) -> bool;

    /// How busy this one is.
    fn load(&self, at: usize) -> LoadView<'_>;

    /// One that has just answered well: 0 is the last that this thread has heard of, 1 the one
    /// before. The last few are remembered. It may be the same one again, and need not fit.
    fn heard(&self, nth: usize) -> Option<usize>;

    /// What is usual in the fleet, while its servers report how many requests they work on: see
    /// [`LoadReport`](crate::endpoint::LoadReport).
    fn usual(&self) -> Option<Usual>;

    /// 64 random bits.
    fn draw(&self) -> u64;

    /// The moment of this pick.
    fn now(&self) -> Instant;

    /// What travels with the call, for policies that go by its key; none if nothing does.
    fn words(&self) -> Option<&Words>;
}

/// One of the endpoints that a picker is made for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Member<'a> {
    /// Which it is.
    pub endpoint: &'a Endpoint,
    /// The key of its state.
    pub key: EndpointKey,
    /// What the active check says of it.
    pub health: Health,
    /// Whether it may be called as things stand: for those who share calls by how many of them
    /// may be. Whether one may be called at a pick is asked at that pick.
    pub fit: bool,
    /// How busy it is.
    pub load: LoadView<'a>,
}

/// How busy one endpoint is, as this balancer knows it, at one moment. To read it changes
/// nothing.
#[derive(Clone, Copy)]
pub struct LoadView<'a> {
    load: &'a Load,
    /// What an answer takes, in seconds.
    usual: f64,
    tick: u32,
}

impl<'a> LoadView<'a> {
    #[inline]
    pub(super) const fn new(load: &'a Load, usual: f64, tick: u32) -> Self {
        Self { load, usual, tick }
    }

    /// The moment, in the loads' own time.
    #[inline]
    pub(super) const fn tick(&self) -> u32 {
        self.tick
    }

    /// This balancer's calls to it, until their responses have been read.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    /// What its next answer is expected to take: Peak EWMA of its good answers, nearer to what is
    /// usual in the fleet the longer the last one is ago; and at least as long as calls have waited in
    /// vain for any answer at all.
    #[inline]
    #[must_use]
    pub fn latency(&self) -> Duration {
        Duration::try_from_secs_f64(self.load.latency_at(self.usual, self.tick))
            .unwrap_or(Duration::MAX)
    }

    /// The [latency](Self::latency), as so many times what is usual in the fleet.
    pub(super) fn slowness(&self) -> f64 {
        self.load.latency_at(self.usual, self.tick) / self.usual
    }

    /// Whether it failed a short while ago, so that any other is to be preferred.
    #[inline]
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.load.is_doubted_at(self.tick)
    }

    /// Which share of its weight it has: less than 1 while it [starts
    /// slowly](super::SlowStart). To divide a load by, or to multiply a weight with.
    #[inline]
    #[must_use]
    pub fn share(&self) -> f64 {
        self.load.standing.share(self.tick)
    }

    /// Whether it was last heard of so long ago that little is known of its queue.
    #[inline]
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.load.is_stale_at(self.tick)
    }

    /// How many requests its server has said that it works on, and the calls that this balancer
    /// has sent since; and how long ago it said so.
    #[must_use]
    pub fn reported_in_flight(&self) -> Option<(f32, Duration)> {
        self.load.said.in_flight(self.tick)
    }

    /// Which part of its capacity its server has said is in use, and how long ago.
    #[must_use]
    pub fn reported_utilization(&self) -> Option<(f32, Duration)> {
        self.load.said.utilization(self.tick)
    }

    /// How many requests its server has said that it serves a second, and how many of these
    /// fail.
    #[must_use]
    pub fn reported_rates(&self) -> (f32, f32) {
        self.load.said.rates()
    }

    /// What [`PeakEwma`](super::PeakEwma) compares.
    #[inline]
    pub(super) fn peak_ewma(&self, draw: impl FnOnce() -> u64) -> f64 {
        self.load.get_at(self.usual, self.tick, draw)
    }

    /// What [`PeakEwma`](super::PeakEwma) compares where servers report.
    #[inline]
    pub(super) fn reported(&self, usual: Usual, draw: impl FnOnce() -> u64) -> f64 {
        self.load.reported_at(usual, self.tick, draw)
    }
}

impl fmt::Debug for LoadView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadView")
            .field("in_flight", &self.in_flight())
            .field("latency", &self.latency())
            .field("is_doubted", &self.is_doubted())
            .finish()
    }
}
