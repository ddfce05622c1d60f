//! A part of a large fleet.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    config::InvalidBalance,
    part::{Part, draw_by_key},
    policy::{Candidates, Member, Picker, Policy},
    probing::Probes,
};
use crate::algo::{
    p2c,
    subset::{self, DEFAULT_LEAST, Rim},
    xxh64::xxh64,
};

/// Only a part of the endpoints, which differs from client to client so that all together load
/// the fleet evenly: where a thousand clients with connections to a thousand servers each
/// would be a million connections ([`algo::subset`](crate::algo::subset), Finagle's deterministic
/// aperture).
///
/// Each client has to know how many clients there are and which of them it is: the ordinal of a
/// StatefulSet, the index of an instance group. Where they are off for some clients (a
/// deploy), the load is as uneven as the apertures of old and new numbers overlap.
///
/// All clients lay the endpoints out in the same order, by the hash of their addresses. Within
/// the aperture the inner policy picks; at the rim, where this client covers an endpoint in part,
/// the endpoint is left out of as many picks as makes its share that part. If nobody in the
/// aperture may be called, the less loaded of two others is.
#[derive(Clone, Debug)]
pub struct Aperture<P> {
    peer: u32,
    peers: NonZeroU32,
    least: usize,
    inner: P,
}

impl<P> Aperture<P> {
    /// For the client number `peer`, from 0, of so many `peers`.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Peer`] if the number is not below that of the peers.
    pub fn new(peer: u32, peers: NonZeroU32, inner: P) -> Result<Self, InvalidBalance> {
        if peer >= peers.get() {
            return Err(InvalidBalance::Peer);
        }
        Ok(Self { peer, peers, least: DEFAULT_LEAST, inner })
    }

    /// How many endpoints the aperture has at the least (default: [12](DEFAULT_LEAST)).
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::Narrow`] if it is 0.
    pub fn least(mut self, endpoints: usize) -> Result<Self, InvalidBalance> {
        if endpoints == 0 {
            return Err(InvalidBalance::Narrow);
        }
        self.least = endpoints;
        Ok(self)
    }
}

impl<P: Policy> Policy for Aperture<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        let count = members.len();
        let aperture = subset::Aperture::new(self.peer, self.peers.get(), count, self.least);
        if aperture.len() == count && aperture.rim().is_none() {
            return self.inner.picker(members);
        }
        let mut circle: Vec<usize> = (0..count).collect();
        circle.sort_by_cached_key(|&at| {
            let address = members[at].endpoint.address();
            (xxh64(address.to_string().as_bytes(), 0), address)
        });
        let part = Part::new(aperture.iter().map(|(at, _)| circle[at]), count);
        let picker = self.inner.picker(&part.of(members));
        Arc::new(Narrowed { part, rim: aperture.rim(), picker })
    }

    fn renew_after(&self) -> Option<Duration> {
        self.inner.renew_after()
    }

    fn probes(&self) -> Option<Probes> {
        self.inner.probes()
    }
}

/// Picks within the aperture.
#[derive(Debug)]
struct Narrowed {
    part: Part,
    rim: Rim,
    picker: Arc<dyn Picker>,
}

impl Picker for Narrowed {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        let left_out = if self.rim.is_none() {
            [None; 2]
        } else {
            self.rim.left_out((draw_by_key(among).0 >> 11) as f64 * UNIT)
        };
        let picked = self.picker.pick(&self.part.among(among, left_out));
        let picked = picked.or_else(|| {
            // What is at the rim is better than what is beyond it.
            left_out
                .iter()
                .any(Option::is_some)
                .then(|| self.picker.pick(&self.part.among(among, [None; 2])))?
        });
        if let Some(place) = picked {
            return self.part.whole(place);
        }
        let load = |at| f64::from(among.load(at).in_flight());
        p2c::pick(among.count(), |at| among.is_fit(at), load, || among.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{choices::LeastRequest, set::Set};

    #[test]
    fn a_client_has_the_same_part_whatever_the_order_in_which_it_heard_of_whom() {
        let peers = NonZeroU32::new(5).expect("not zero");
        let policy = Aperture::new(2, peers, LeastRequest::new()).and_then(|it| it.least(4));
        let policy = policy.expect("it can be");
        let part = |set: &Set| {
            let picks = set.picks(&*policy.picker(&set.members()), 500);
            let picked = picks.iter().zip(&set.endpoints).filter(|(picks, _)| **picks > 0);
            picked
                .map(|(_, endpoint)| endpoint.address())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let (one, mut other) = (Set::new(20), Set::new(20));
        other.endpoints.reverse();
        assert_eq!(part(&one).len(), 4);
        assert_eq!(part(&one), part(&other));
    }
}
