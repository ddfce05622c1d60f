//! Who stands out among his peers.
//!
//! What is usual is told by the middle of the peers, not by their mean: a mean moves towards the
//! outliers, and so does a standard deviation. By mean - 1.9 σ (Envoy, gRPC A50) a healthy fleet of
//! 20 that serves 99.9 % ejects somebody in four of five sweeps, and from a fifth of bad ones on
//! nobody is found any more.

/// How many calls there were and how many of them failed, of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rate {
    /// Those that failed.
    pub failures: u32,
    /// All of them.
    pub calls: u32,
}

impl Rate {
    /// So many of so many.
    #[must_use]
    pub const fn new(failures: u32, calls: u32) -> Self {
        Self { failures, calls }
    }

    /// The share that failed; 0 of no calls.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.calls == 0 { 0.0 } else { f64::from(self.failures) / f64::from(self.calls) }
    }
}

/// With what chance a usual peer's call fails: the median of the peers' shares, and not less than
/// what the better half of them could have hidden.
///
/// The second matters where failures are rare. Of 20 peers with 200 calls each at 99.9 %, more than
/// half have no failure at all: their median is 0, and against 0 every single failure is a proof.
/// One failure more than the better half has, of all its calls and one more, is the least that fits
/// what was seen (the rule of succession, but for the second call that it adds).
///
/// None of no peers. As long as fewer than half of them are bad it is that of a good one.
#[must_use]
pub fn usual_share(peers: &[Rate]) -> Option<f64> {
    let mut sorted: Vec<Rate> = peers.to_vec();
    sorted.sort_unstable_by(|a, b| a.share().total_cmp(&b.share()));
    let half = &sorted[..sorted.len().div_ceil(2)];
    let median = half.last()?.share();
    let (failures, calls) = half.iter().fold((0_u64, 0_u64), |(failures, calls), rate| {
        (failures + u64::from(rate.failures), calls + u64::from(rate.calls))
    });
    Some(median.max((failures + 1) as f64 / (calls + 1) as f64))
}

/// The chance that of `rate.calls` calls which fail with the chance `p` each, `rate.failures` or
/// more fail: the upper tail of the binomial distribution, exact but for the rounding.
///
/// In logarithms: the terms of 10,000 calls are far below what an `f64` can tell.
///
/// ```
/// use buttress::algo::outlier::{Rate, binomial_tail};
///
/// // 1 - 0.999^200, and a coin that falls on its head twice or thrice in three throws.
/// assert!((binomial_tail(Rate::new(1, 200), 0.001) - 0.181_351).abs() < 1e-6);
/// assert!((binomial_tail(Rate::new(2, 3), 0.5) - 0.5).abs() < 1e-12);
/// ```
#[must_use]
pub fn binomial_tail(rate: Rate, p: f64) -> f64 {
    let (n, k) = (u64::from(rate.calls), u64::from(rate.failures));
    if k == 0 || p >= 1.0 {
        return 1.0;
    }
    if k > n || p.is_nan() || p <= 0.0 {
        return 0.0;
    }
    // The terms fall from the mean on to both sides: summed from their largest, few matter.
    if k as f64 > n as f64 * p {
        terms(n, k, p, Towards::All).min(1.0)
    } else {
        (1.0 - terms(n, k - 1, p, Towards::None)).max(0.0)
    }
}

#[derive(Clone, Copy)]
enum Towards {
    All,
    None,
}

/// The sum of the chances of exactly `from` failures and of all further ones to one side.
fn terms(n: u64, from: u64, p: f64, towards: Towards) -> f64 {
    let odds = p / (1.0 - p);
    let choose = ln_factorial(n) - ln_factorial(from) - ln_factorial(n - from);
    let mut term = (choose + from as f64 * p.ln() + (n - from) as f64 * (-p).ln_1p()).exp();
    let (mut sum, mut at) = (term, from);
    loop {
        match towards {
            Towards::All if at < n => {
                term *= (n - at) as f64 / (at + 1) as f64 * odds;
                at += 1;
            }
            Towards::None if at > 0 => {
                term *= at as f64 / (n - at + 1) as f64 / odds;
                at -= 1;
            }
            _ => return sum,
        }
        sum += term;
        if term <= sum * f64::EPSILON {
            return sum;
        }
    }
}

/// `ln(n!)`: summed where `n` is small, else by Stirling's series, whose next term is below 1e-13
/// there.
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|n| (n as f64).ln()).sum();
    }
    let n = n as f64;
    let series = 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3)) + 1.0 / (1260.0 * n.powi(5));
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + series
}

/// The middle of some values; of an even number of them the lower one of the two, so that it is
/// one that occurs. Sorts them. None of none.
#[must_use]
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// The median and the median distance from it, the robust kin of mean and deviation (F. R. Hampel,
/// "The Influence Curve and its Role in Robust Estimation", JASA 1974). None of no values.
#[must_use]
pub fn median_and_distance(values: &[f64]) -> Option<(f64, f64)> {
    let mut values = values.to_vec();
    let middle = median(&mut values)?;
    values.iter_mut().for_each(|value| *value = (*value - middle).abs());
    Some((middle, median(&mut values)?))
}

/// The mean and the standard deviation (of all there are, not of a sample), as Envoy and gRPC use
/// them. None of no values.
#[must_use]
pub fn mean_and_deviation(values: &[f64]) -> Option<(f64, f64)> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    Some((mean, variance.sqrt()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1e-300)
    }

    /// Worked out in whole numbers elsewhere: sums of C(n, k) p^k (1 - p)^(n - k).
    #[test]
    fn tails_that_were_worked_out_by_hand() {
        let tail = |failures, calls, p| binomial_tail(Rate::new(failures, calls), p);
        // 10 · 0.1³ · 0.9² + 5 · 0.1⁴ · 0.9 + 0.1⁵
        assert!(near(tail(3, 5, 0.1), 0.00856));
        assert!(near(tail(5, 5, 0.1), 1e-5));
        assert!(near(tail(10, 10, 0.5), 1.0 / 1024.0));
        assert!(near(tail(1, 10_000, 1e-4), 1.0 - 0.9999_f64.powi(10_000)));
        assert_eq!(tail(0, 10, 0.3), 1.0);
        assert_eq!(tail(1, 10, 0.0), 0.0);
        assert_eq!(tail(10, 10, 1.0), 1.0);
        assert_eq!(tail(11, 10, 0.5), 0.0);
    }

    #[test]
    fn a_tail_beyond_what_an_f64_tells_is_zero_and_not_an_error() {
        assert_eq!(binomial_tail(Rate::new(1_000_000, 1_000_000), 1e-9), 0.0);
        let half = binomial_tail(Rate::new(2_000_000_000, 4_000_000_000), 0.5);
        assert!((half - 0.5).abs() < 1e-4, "{half}");
    }

    #[test]
    fn half_of_the_peers_may_be_bad_and_the_usual_one_is_good() {
        let mut peers = vec![Rate::new(0, 200); 11];
        peers.extend([Rate::new(100, 200); 9]);
        let usual = usual_share(&peers).expect("there are some");
        assert!(usual < 0.001, "{usual}");
        assert_eq!(usual_share(&[]), None);
        // One alone, who never failed: no more than one of all and one could.
        assert_eq!(usual_share(&[Rate::new(0, 19)]), Some(0.05));
    }

    #[test]
    fn the_middle_of_an_even_number_is_one_of_them() {
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [5.0]), Some(5.0));
        assert_eq!(median(&mut []), None);
        assert_eq!(median_and_distance(&[1.0, 2.0, 3.0, 4.0, 90.0]), Some((3.0, 1.0)));
    }

    /// The example in Envoy's source.
    #[test]
    fn mean_and_deviation_are_those_of_envoy() {
        let (mean, deviation) =
            mean_and_deviation(&[50.0, 100.0, 100.0, 100.0, 100.0]).expect("some");
        assert_eq!((mean, deviation, mean - 1.9 * deviation), (90.0, 20.0, 52.0));
    }

    proptest! {
        /// Against the sum of all terms, each as a product.
        #[test]
        fn agrees_with_the_plain_sum(n in 1_u32..60, k in 0_u32..60, p in 0.001_f64..0.999) {
            let k = k.min(n);
            let term = |j: u32| {
                let choose: f64 = (0..j).map(|i| f64::from(n - i) / f64::from(i + 1)).product();
                choose * p.powi(j as i32) * (1.0 - p).powi((n - j) as i32)
            };
            let plain: f64 = (k..=n).map(term).sum();
            let tail = binomial_tail(Rate::new(k, n), p);
            prop_assert!((tail - plain).abs() <= 1e-9 * plain.max(1e-3), "{} {}", tail, plain);
        }

        #[test]
        fn more_failures_are_never_more_likely(n in 1_u32..100_000, k in 0_u32..100_000, p in 0.0_f64..1.0) {
            let k = k.min(n - 1);
            let (fewer, more) = (binomial_tail(Rate::new(k, n), p), binomial_tail(Rate::new(k + 1, n), p));
            prop_assert!((0.0..=1.0).contains(&fewer) && more <= fewer + 1e-9);
        }
    }
}
