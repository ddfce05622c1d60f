//! A weighted round without a queue: static stride.
//!
//! Rounds go over all in the same order, and in each of them one is passed over in as many rounds
//! as its weight says, by an arithmetic that needs no more than the number of the step (the
//! scheduler of gRPC's `weighted_round_robin`, gRFC A58). So threads share one counter, and there
//! is no heap to lock; the calls of each are spread evenly over the rounds.
//!
//! A round has as many steps for one pick as the heaviest weight is above the mean: one of 10,000
//! that weighs a thousand times as much as the others would cost all picks 900 steps. gRPC cuts
//! weights off at ten times the mean. Here the heavy have several places in the round instead,
//! when the heaviest weighs more than [`TALLEST`] times the mean: the weights hold, and a pick
//! takes three steps on average at the most.

/// Up to this, times the mean, an owner has one place in the round.
pub const TALLEST: f64 = 4.0;

/// The tallest place of a round in which the heavy have several.
const CUT: f64 = 2.0;

/// The weight of the heaviest place.
const FULL: u64 = u16::MAX as u64;

/// A weighted round, whose owners are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stride {
    weights: Vec<u16>,
    /// Whose place it is, where that is not its number.
    owners: Option<Vec<u32>>,
}

impl Stride {
    /// A round of these weights. A weight that is not known (0, negative, infinite, not a
    /// number) counts as the mean of those that are. `None` if fewer than two are known: then
    /// everybody has the same (gRFC A58).
    #[must_use]
    pub fn new(weights: &[f64]) -> Option<Self> {
        let is_known = |weight: f64| weight.is_finite() && weight > 0.0;
        let known = weights.iter().copied().filter(|&weight| is_known(weight));
        let count = known.clone().count();
        if count < 2 {
            return None;
        }
        // Scaled first: a sum of what is finite may not be.
        let heaviest = known.clone().fold(0.0, f64::max);
        let mean = known.map(|weight| weight / heaviest).sum::<f64>() / count as f64;
        let scaled =
            weights.iter().map(|&weight| if is_known(weight) { weight / heaviest } else { mean });
        if mean * TALLEST >= 1.0 {
            let weights = scaled.map(|weight| to_full(weight, 1.0)).collect();
            return Some(Self { weights, owners: None });
        }
        // Where each place stands in the round, its weight, and whose it is.
        let mut places = Vec::new();
        for (at, weight) in scaled.enumerate() {
            let parts = (weight / (mean * CUT)).ceil().max(1.0);
            let phase = (at as f64 + 0.5) / weights.len() as f64;
            for part in 0..parts as u32 {
                let spread = (f64::from(part) + phase) / parts;
                places.push((spread, to_full(weight / parts, mean * CUT), at as u32));
            }
        }
        places.sort_by(|one, other| one.0.total_cmp(&other.0));
        let weights = places.iter().map(|&(_, weight, _)| weight).collect();
        let owners = places.into_iter().map(|(.., at)| at).collect();
        Some(Self { weights, owners: Some(owners) })
    }

    /// Whose this step is, or nobody's. Steps count from anywhere, each once.
    #[inline]
    #[must_use]
    pub fn at(&self, step: u64) -> Option<usize> {
        let count = self.weights.len() as u64;
        let (round, place) = (step / count, step % count);
        let weight = u64::from(self.weights[place as usize]);
        // Half a round apart from the neighbour, so that they are not passed over together.
        let phase = weight.wrapping_mul(round).wrapping_add(place * (FULL / 2)) % FULL;
        (phase >= FULL - weight).then(|| {
            let place = place as usize;
            self.owners.as_ref().map_or(place, |owners| owners[place] as usize)
        })
    }
}

fn to_full(weight: f64, full: f64) -> u16 {
    (weight / full * FULL as f64).round().clamp(1.0, FULL as f64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each is picked, and in how many steps.
    fn picks(weights: &[f64], picks: usize) -> (Vec<usize>, u64) {
        let stride = Stride::new(weights).expect("two are known");
        let mut counts = vec![0; weights.len()];
        let mut steps = 0..;
        for at in steps.by_ref().filter_map(|step| stride.at(step)).take(picks) {
            counts[at] += 1;
        }
        (counts, steps.start)
    }

    #[test]
    fn each_is_picked_by_its_weight_in_few_steps() {
        let mut weights = vec![1.0; 10_000];
        weights[17] = 1_000.0;
        weights[4_000] = 10.0;
        let (counts, steps) = picks(&weights, 110_080);
        assert!(steps <= 3 * 110_080, "{steps}");
        assert!(counts[17].abs_diff(10_000) < 20, "{}", counts[17]);
        assert!(counts[4_000].abs_diff(100) < 3, "{}", counts[4_000]);
        assert!(counts[5..17].iter().all(|&count| (9..=11).contains(&count)));
    }

    #[test]
    fn the_heavy_are_spread_over_the_round() {
        let mut weights = vec![1.0; 100];
        weights[0] = 100.0;
        let stride = Stride::new(&weights).expect("two are known");
        let picked: Vec<usize> = (0..).filter_map(|step| stride.at(step)).take(2_000).collect();
        let longest = picked.split(|&at| at == 0).map(<[usize]>::len).max();
        assert!(longest < Some(12), "{longest:?} others in a row");
    }

    #[test]
    fn weights_that_cannot_be_are_not_known() {
        assert_eq!(Stride::new(&[]), None);
        assert_eq!(Stride::new(&[3.0, 0.0, -1.0, f64::NAN, f64::INFINITY]), None);
        let (counts, _) = picks(&[f64::MAX, f64::MAX, f64::NAN], 300);
        assert_eq!(counts, [100, 100, 100]);
    }
}
