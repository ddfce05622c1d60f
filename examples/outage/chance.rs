//! Chance that can be repeated: every draw of the drill is a hash of the seed and of what it is for.
//!
//! A generator that is shared hands out its numbers in the order in which they are asked for, and
//! that order differs from client to client. A hash does not: call 17 meets the same coin at the
//! same instance whoever sends it.

/// What a draw is for, so that two uses of the same numbers are not the same draw.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    Arrivals = 1,
    Targets,
    Order,
    Work,
    Coin,
    Latency,
    Random,
}

/// One draw, a number of 64 even bits.
///
/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014,
/// figure 17), run once over each of the numbers that name the draw.
pub(crate) fn draw(seed: u64, purpose: Use, names: &[u64]) -> u64 {
    let start = mix(seed ^ mix(purpose as u64));
    names.iter().fold(start, |state, name| mix(state ^ mix(name.wrapping_add(1))))
}

/// The same draw as a number from 0 up to, but not including, 1.
pub(crate) fn share(seed: u64, purpose: Use, names: &[u64]) -> f64 {
    // 53 bits: each of them fits the mantissa of an f64, so that 1.0 can't come out.
    (draw(seed, purpose, names) >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_itself_and_tells_uses_and_names_apart() {
        let one = draw(1, Use::Coin, &[2, 3]);
        assert_eq!(one, draw(1, Use::Coin, &[2, 3]));
        assert_ne!(one, draw(2, Use::Coin, &[2, 3]));
        assert_ne!(one, draw(1, Use::Work, &[2, 3]));
        assert_ne!(one, draw(1, Use::Coin, &[3, 2]));
        assert_ne!(draw(1, Use::Coin, &[0]), draw(1, Use::Coin, &[]));
    }

    #[test]
    fn shares_are_even() {
        let mean = (0..10_000).map(|n| share(7, Use::Coin, &[n])).sum::<f64>() / 10_000.0;
        assert!((0.49..0.51).contains(&mean), "the mean was {mean}");
    }
}
