//! The first before the second, and zones that are near before those that are far.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    config::InvalidBalance,
    groups::{Groups, RENEWED},
    policy::{Member, Picker, Policy},
    probing::Probes,
};
use crate::algo::shares::{self, DEFAULT_OVERPROVISIONING};

/// Levels of [priority](crate::endpoint::Endpoint::priority): the first takes all the calls while
/// enough of it may be called, and what it can't take goes to the next.
///
/// Enough is when its fit part (by weight), times the overprovisioning factor of 1.4, is all: with
/// 71 % a level gives away 1 % of its calls, with half 30 % (Envoy, "Priority levels"). The shares
/// are made anew every second; a call for which a level has nobody goes to the next at once.
///
/// Within a level the inner policy picks:
///
/// ```
/// use buttress::balance::{BalanceConfig, PeakEwma, Priorities, Zones};
///
/// // The level first, then the zone, then the load.
/// let near = Zones::new("eu-1a", PeakEwma::new());
/// let config = BalanceConfig::new().policy(Priorities::new(near));
/// ```
#[derive(Clone, Debug)]
pub struct Priorities<P> {
    inner: P,
    overprovisioning: f64,
}

impl<P> Priorities<P> {
    /// Levels, in each of which `inner` picks.
    #[must_use]
    pub const fn new(inner: P) -> Self {
        Self { inner, overprovisioning: DEFAULT_OVERPROVISIONING }
    }

    /// How much more than its share of the calls a level is trusted with, when a part of it
    /// can't be called (default: [1.4](DEFAULT_OVERPROVISIONING)).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Overprovisioning`] if it is below 1.
    pub fn overprovisioning(mut self, factor: f64) -> Result<Self, InvalidBalance> {
        self.overprovisioning = checked(factor)?;
        Ok(self)
    }
}

fn checked(factor: f64) -> Result<f64, InvalidBalance> {
    let is_valid = factor.is_finite() && factor >= 1.0;
    is_valid.then_some(factor).ok_or(InvalidBalance::Overprovisioning)
}

impl<P: Policy> Policy for Priorities<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        let mut levels = BTreeMap::<u32, Vec<usize>>::new();
        for (at, member) in members.iter().enumerate() {
            levels.entry(member.endpoint.priority()).or_default().push(at);
        }
        Groups::picker(levels.into_values().collect(), members, &self.inner, |weights| {
            let fit = |&(fit, all): &(f64, f64)| if all > 0.0 { fit / all } else { 0.0 };
            let fit: Vec<f64> = weights.iter().map(fit).collect();
            shares::by_priority(&fit, self.overprovisioning)
        })
    }

    fn renew_after(&self) -> Option<Duration> {
        Some(self.inner.renew_after().map_or(RENEWED, |inner| inner.min(RENEWED)))
    }

    fn probes(&self) -> Option<Probes> {
        self.inner.probes()
    }
}

/// The own [zone](crate::endpoint::Endpoint::zone) first: calls that cross zones take longer and
/// cost money.
///
/// All calls stay in the zone while its fit capacity (by weight), times the overprovisioning
/// factor of 1.4, is at least its part of the clients; the rest goes to the other zones, in
/// proportion to what they can spare ([`shares::by_zone`](crate::algo::shares::by_zone), after
/// Envoy's zone aware routing). How many clients there are in each zone nobody tells a client: as
/// many in each as in the others, if you say nothing, and see [`Zones::own_part`].
///
/// Endpoints of which no zone is known are in none of the near. The shares are made anew every
/// second; a call for which the zone has nobody (all failed, or tried by this call's earlier
/// attempts) goes elsewhere at once. Within a zone the inner policy picks.
#[derive(Clone, Debug)]
pub struct Zones<P> {
    zone: Arc<str>,
    own: Option<f64>,
    inner: P,
    overprovisioning: f64,
}

impl<P> Zones<P> {
    /// For a client in this zone, with `inner` to pick in each.
    pub fn new(zone: impl Into<Arc<str>>, inner: P) -> Self {
        let overprovisioning = DEFAULT_OVERPROVISIONING;
        Self { zone: zone.into(), own: None, inner, overprovisioning }
    }

    /// Which part of all clients is in this zone (default: one of so many zones as there are).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::OwnPart`] if it is not between 0 and 1.
    pub fn own_part(mut self, part: f64) -> Result<Self, InvalidBalance> {
        if !(0.0..=1.0).contains(&part) {
            return Err(InvalidBalance::OwnPart);
        }
        self.own = Some(part);
        Ok(self)
    }

    /// As [`Priorities::overprovisioning`].
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Overprovisioning`] if it is below 1.
    pub fn overprovisioning(mut self, factor: f64) -> Result<Self, InvalidBalance> {
        self.overprovisioning = checked(factor)?;
        Ok(self)
    }
}

impl<P: Policy> Policy for Zones<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        let (mut near, mut far) = (Vec::new(), BTreeMap::<Option<&str>, Vec<usize>>::new());
        for (at, member) in members.iter().enumerate() {
            match member.endpoint.zone() {
                Some(zone) if *zone == *self.zone => near.push(at),
                zone => far.entry(zone).or_default().push(at),
            }
        }
        if near.is_empty() {
            // Nobody is near, so nobody is nearer.
            return self.inner.picker(members);
        }
        let groups: Vec<_> = std::iter::once(near).chain(far.into_values()).collect();
        let own = self.own.unwrap_or(1.0 / groups.len() as f64);
        Groups::picker(groups, members, &self.inner, |weights| {
            let all: f64 = weights.iter().map(|(_, all)| all).sum();
            let fit: Vec<f64> = weights.iter().map(|(fit, _)| fit / all).collect();
            shares::by_zone(&fit, own, self.overprovisioning)
        })
    }

    fn renew_after(&self) -> Option<Duration> {
        Some(self.inner.renew_after().map_or(RENEWED, |inner| inner.min(RENEWED)))
    }

    fn probes(&self) -> Option<Probes> {
        self.inner.probes()
    }
}
