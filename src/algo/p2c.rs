//! The power of two choices.
//!
//! Of two candidates drawn at random the less loaded one (M. Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", IEEE TPDS 2001): nearly as even as asking all, at the
//! cost of asking two, and without the herd that all callers would form behind the best one.

/// Picks one of `0..count`: the less loaded of two that were drawn from those which are `fit`.
///
/// `draw` gives 64 random bits. A few draws look for two; only when that fails, since few are
/// fit, all are looked at. `None` if none is fit.
pub fn pick(
    count: usize,
    fit: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> f64,
    draw: impl FnMut() -> u64,
) -> Option<usize> {
    let (first, second) = two(count, fit, draw)?;
    let Some(second) = second else { return Some(first) };
    let least = load(first);
    Some(if load(second) < least { second } else { first })
}

/// Draws before all are looked at. With half of them fit, six find two in 89 of 100 cases.
const DRAWS: usize = 6;

/// Two of `0..count` that are fit, of which the first is to win where they are equal, as in [`pick`];
/// the second is none if only one is fit.
#[inline]
pub fn two(
    count: usize,
    fit: impl Fn(usize) -> bool,
    mut draw: impl FnMut() -> u64,
) -> Option<(usize, Option<usize>)> {
    let mut first = None;
    if count > 2 {
        for _ in 0..DRAWS {
            let at = below(draw(), count);
            if first == Some(at) || !fit(at) {
                continue;
            }
            match first {
                None => first = Some(at),
                Some(first) => return Some((first, Some(at))),
            }
        }
    }
    reservoir(count, fit, draw)
}

/// Two of all that are fit, each pair with the same chance (algorithm R, Vitter 1985).
#[inline(never)]
fn reservoir(
    count: usize,
    fit: impl Fn(usize) -> bool,
    mut draw: impl FnMut() -> u64,
) -> Option<(usize, Option<usize>)> {
    let (mut first, mut second, mut seen) = (None, None, 0);
    for at in (0..count).filter(|&at| fit(at)) {
        seen += 1;
        match seen {
            1 => first = Some(at),
            2 => second = Some(at),
            _ => match below(draw(), seen) {
                0 => first = Some(at),
                1 => second = Some(at),
                _ => {}
            },
        }
    }
    let (first, Some(second)) = (first?, second) else {
        return first.map(|first| (first, None));
    };
    // Equal loads go to the first: which of the two that is must be chance as well.
    Some(if draw() & 1 == 0 { (first, Some(second)) } else { (second, Some(first)) })
}

/// Uniform in `0..bound`, by multiplication (Lemire 2019); its bias is below `bound / 2⁶⁴`.
fn below(bits: u64, bound: usize) -> usize {
    ((u128::from(bits) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn counts(n: usize, fit: impl Fn(usize) -> bool, load: impl Fn(usize) -> f64) -> Vec<u32> {
        let entropy = Entropy::seeded(42);
        let mut counts = vec![0; n];
        for _ in 0..60_000 {
            if let Some(at) = pick(n, &fit, &load, || entropy.draw()) {
                counts[at] += 1;
            }
        }
        counts
    }

    #[test]
    fn equal_loads_share_evenly() {
        for n in [2, 3, 10] {
            let fair = 60_000 / n as u32;
            for count in counts(n, |_| true, |_| 1.0) {
                assert!(count.abs_diff(fair) < fair / 10, "{n}: {count} of {fair}");
            }
        }
    }

    #[test]
    fn the_most_loaded_of_all_is_never_picked() {
        let picked = counts(5, |_| true, |at| at as f64);
        assert_eq!(picked[4], 0);
        // The least loaded wins each pair that it is in: 2 of 5.
        assert!(picked[0].abs_diff(24_000) < 1_000, "{picked:?}");
    }

    #[test]
    fn only_fit_ones_are_picked_and_evenly() {
        let picked = counts(20, |at| at % 5 == 0, |_| 1.0);
        for (at, count) in picked.into_iter().enumerate() {
            if at % 5 == 0 {
                assert!(count.abs_diff(15_000) < 1_500, "{at}: {count}");
            } else {
                assert_eq!(count, 0);
            }
        }
    }

    #[test]
    fn one_is_enough_and_none_is_none() {
        assert_eq!(pick(1, |_| true, |_| 9.0, || 0), Some(0));
        assert_eq!(pick(9, |at| at == 7, |_| 9.0, || 3), Some(7));
        assert_eq!(pick(9, |_| false, |_| 9.0, || 3), None);
        assert_eq!(pick(0, |_| true, |_| 9.0, || 3), None);
    }
}
