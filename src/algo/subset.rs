//! The aperture: which part of a large fleet one of many clients calls.
//!
//! Clients and endpoints lie on the same circle, each with an even piece. A client calls the
//! endpoints over its own piece and over the pieces of the clients after it, as many as it takes
//! for the aperture to be wide enough; endpoints at the rim it calls for the part that it covers
//! (Finagle's deterministic aperture, `DeterministicAperture.scala`, and
//! <https://twitter.github.io/finagle/guide/ApertureLoadBalancers.html>). As all apertures are
//! the same whole number of pieces wide, every point of the circle is covered as often: the load
//! is exactly even, where random subsets of five of a hundred deviate by 42 %.
//!
//! All in whole numbers: with a rounding, nobody would be sure that it is exact.

/// The least endpoints of an aperture (Finagle, `minAperture`): fewer leave too little choice
/// between loads, and too few when some fail.
pub const DEFAULT_LEAST: usize = 12;

/// What a client calls of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aperture {
    /// The endpoints in the order of the circle, with how much of each is covered.
    parts: Vec<(usize, u64)>,
    whole: u64,
}

impl Aperture {
    /// The aperture of the client number `peer` (from 0) of so many `peers`, over so many
    /// `endpoints`, at least `least` of them wide. A number beyond the peers begins anew at 0.
    #[must_use]
    pub fn new(peer: u32, peers: u32, endpoints: usize, least: usize) -> Self {
        let (peers, count) = (u64::from(peers.max(1)), endpoints as u64);
        if count == 0 {
            return Self { parts: Vec::new(), whole: peers };
        }
        // The circle is as long as both numbers multiplied: a client's piece is as long as there
        // are endpoints, an endpoint's as there are clients.
        let pieces = (least as u64 * peers).div_ceil(count).clamp(1, peers);
        if pieces == peers {
            return Self { parts: (0..endpoints).map(|at| (at, peers)).collect(), whole: peers };
        }
        let start = u64::from(peer) % peers * count;
        let end = start + pieces * count;
        let mut parts: Vec<(usize, u64)> = Vec::new();
        let mut at = start;
        while at < end {
            let next = ((at / peers + 1) * peers).min(end);
            let endpoint = (at / peers % count) as usize;
            match parts.first_mut() {
                // All around: the last is the other side of the first.
                Some(first) if at > start && first.0 == endpoint => first.1 += next - at,
                _ => parts.push((endpoint, next - at)),
            }
            at = next;
        }
        Self { parts, whole: peers }
    }

    /// The endpoints, each with the share of it that is covered: 1 for all but those at the rim.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.parts.iter().map(|&(at, part)| (at, part as f64 / self.whole as f64))
    }

    /// How many endpoints it has, those at the rim included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How often the endpoints at the rim are left out, by their places in the aperture.
    #[must_use]
    pub fn rim(&self) -> Rim {
        let mut rim = self.iter().map(|(_, part)| part).enumerate().filter(|&(_, part)| part < 1.0);
        let mut next = || rim.next();
        let (first, last) = (next(), next());
        let inner = self.parts.len() - usize::from(first.is_some()) - usize::from(last.is_some());
        Rim::new(first, last, inner)
    }
}

/// Which endpoints of the rim are left out of one pick, so that a choice that is even among
/// those that are left is even over the covered part of the circle.
///
/// With `k` whole endpoints and parts `f` and `g` of two, an even choice has to give each whole
/// one `1 / (k + f + g)` and the others `f` and `g` times that. With `f + g ≤ 1` that is never
/// both, the first alone with `f (k + 1) / (k + f + g)`, the last with `g` in the same way, else
/// none; with more it is never none, both with `(f + g - 1) (k + 2) / (k + f + g)`, and each alone
/// with `(1 - g)` or `(1 - f)` times `(k + 1) / (k + f + g)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rim {
    first: Option<usize>,
    last: Option<usize>,
    /// Below this the first alone is called, below the next the last alone, then both, then
    /// none.
    bounds: [f64; 3],
}

impl Rim {
    fn new(first: Option<(usize, f64)>, last: Option<(usize, f64)>, inner: usize) -> Self {
        let part = |of: Option<(usize, f64)>| of.map_or(0.0, |(_, part)| part);
        let (f, g, k) = (part(first), part(last), inner as f64);
        let sum = k + f + g;
        let (alone, both) = if f + g <= 1.0 {
            ([f * (k + 1.0) / sum, g * (k + 1.0) / sum], 0.0)
        } else {
            let alone = [(1.0 - g) * (k + 1.0) / sum, (1.0 - f) * (k + 1.0) / sum];
            (alone, (f + g - 1.0) * (k + 2.0) / sum)
        };
        let bounds = [alone[0], alone[0] + alone[1], alone[0] + alone[1] + both];
        Self { first: first.map(|it| it.0), last: last.map(|it| it.0), bounds }
    }

    /// Whether there is none, so that nobody is ever left out.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.first.is_none() && self.last.is_none()
    }

    /// Which are left out at this draw from `[0, 1)`.
    #[must_use]
    pub fn left_out(&self, draw: f64) -> [Option<usize>; 2] {
        let [first, last, both] = self.bounds;
        if draw < first {
            [None, self.last]
        } else if draw < last {
            [self.first, None]
        } else if draw < both {
            [None, None]
        } else {
            [self.first, self.last]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What all clients together send to each endpoint, if each sends 1 evenly over its aperture.
    fn loads(peers: u32, endpoints: usize, least: usize) -> Vec<f64> {
        let mut loads = vec![0.0; endpoints];
        for peer in 0..peers {
            let aperture = Aperture::new(peer, peers, endpoints, least);
            let sum: f64 = aperture.iter().map(|(_, part)| part).sum();
            aperture.iter().for_each(|(at, part)| loads[at] += part / sum);
        }
        loads
    }

    #[test]
    fn the_load_is_even_whatever_the_numbers() {
        for (peers, endpoints, least) in
            [(100, 100, 5), (100, 100, 12), (7, 93, 12), (93, 7, 12), (1, 50, 12), (1000, 13, 12)]
        {
            let loads = loads(peers, endpoints, least);
            let mean = f64::from(peers) / endpoints as f64;
            let worst = loads.iter().map(|load| (load / mean - 1.0).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-9, "{peers} clients, {endpoints} endpoints: {worst}");
        }
    }

    #[test]
    fn it_is_as_wide_as_asked_and_as_the_whole_at_most() {
        for peer in 0..10 {
            let aperture = Aperture::new(peer, 10, 100, 12);
            // Two pieces of ten.
            assert_eq!(aperture.len(), 20);
            assert_eq!(Aperture::new(peer, 10, 5, 12).len(), 5);
            assert!((12..=13).contains(&Aperture::new(peer, 100, 15, 12).len()));
        }
        assert!(Aperture::new(3, 10, 0, 12).is_empty());
        assert_eq!(Aperture::new(13, 10, 100, 12), Aperture::new(3, 10, 100, 12));
    }

    #[test]
    fn an_even_choice_among_those_that_are_left_covers_the_rim_by_its_parts() {
        for (peer, peers, endpoints) in
            [(1, 7, 93), (3, 10, 15), (2, 9, 40), (7, 9, 40), (0, 3, 14)]
        {
            let aperture = Aperture::new(peer, peers, endpoints, 12);
            let (rim, sum) = (aperture.rim(), aperture.iter().map(|(_, part)| part).sum::<f64>());
            let mut shares = vec![0.0; endpoints];
            const DRAWS: u32 = 100_000;
            for draw in 0..DRAWS {
                let out = rim.left_out((f64::from(draw) + 0.5) / f64::from(DRAWS));
                let count = aperture.len() - out.iter().flatten().count();
                let left = aperture.iter().enumerate().filter(|(at, _)| !out.contains(&Some(*at)));
                left.for_each(|(_, (at, _))| shares[at] += 1.0 / count as f64 / f64::from(DRAWS));
            }
            for (at, part) in aperture.iter() {
                let wanted = part / sum;
                assert!((shares[at] - wanted).abs() < 1e-5, "{peer}/{peers} {endpoints}: {at}");
            }
        }
    }
}
