//! How much work a request is.

use std::time::Duration;

use crate::entropy::Entropy;

/// How much work a request is: the time that it takes on one core of its own, at full speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    shape: Shape,
    /// In seconds.
    mean: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Constant,
    Exponential,
    /// Normal, its deviation as large as the mean, drawn anew where it is below zero.
    Normal,
    /// Pareto with a finite variance.
    HeavyTailed,
}

impl Work {
    /// Each request is as much work as the others.
    #[must_use]
    pub const fn constant(each: Duration) -> Self {
        Self { shape: Shape::Constant, mean: each.as_secs_f64() }
    }

    /// Exponential: most are small, the largest of a hundred is 4.6 times the mean.
    #[must_use]
    pub const fn exponential(mean: Duration) -> Self {
        Self { shape: Shape::Exponential, mean: mean.as_secs_f64() }
    }

    /// Normal with a deviation as large as `mu`, truncated at zero: the work of Prequal's testbed
    /// (NSDI'24, section 5). The mean of what is left is 1.29 `mu`.
    #[must_use]
    pub const fn normal(mu: Duration) -> Self {
        Self { shape: Shape::Normal, mean: mu.as_secs_f64() }
    }

    /// Pareto of shape 2.5: a few requests are a hundred times the others.
    #[must_use]
    pub const fn heavy_tailed(mean: Duration) -> Self {
        Self { shape: Shape::HeavyTailed, mean: mean.as_secs_f64() }
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(match self.shape {
            Shape::Normal => self.mean * TRUNCATED_MEAN,
            Shape::Constant | Shape::Exponential | Shape::HeavyTailed => self.mean,
        })
    }

    /// One request's, in seconds.
    pub(super) fn draw(&self, entropy: &Entropy) -> f64 {
        match self.shape {
            Shape::Constant => self.mean,
            Shape::Exponential => exponential(self.mean, entropy),
            Shape::Normal => loop {
                let drawn = self.mean * (1.0 + normal(entropy));
                if drawn > 0.0 {
                    return drawn;
                }
            },
            Shape::HeavyTailed => {
                let least = self.mean * (PARETO - 1.0) / PARETO;
                least * (1.0 - entropy.unit()).powf(-1.0 / PARETO)
            }
        }
    }
}

const PARETO: f64 = 2.5;

/// `1 + φ(1) / Φ(1)`: the mean of a normal distribution with μ = σ = 1, truncated at zero.
const TRUNCATED_MEAN: f64 = 1.287_599_970_939_178_4;

/// A span between the events of a Poisson process.
pub(super) fn exponential(mean: f64, entropy: &Entropy) -> f64 {
    -mean * (1.0 - entropy.unit()).ln()
}

/// Box and Muller's, one of the two.
fn normal(entropy: &Entropy) -> f64 {
    let radius = (-2.0 * (1.0 - entropy.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * entropy.unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_the_mean() {
        let entropy = Entropy::seeded(1);
        let each = Duration::from_millis(80);
        for work in [
            Work::constant(each),
            Work::exponential(each),
            Work::normal(each),
            Work::heavy_tailed(each),
        ] {
            let drawn: f64 = (0..200_000).map(|_| work.draw(&entropy)).sum();
            let mean = work.mean().as_secs_f64();
            assert!((drawn / 200_000.0 / mean - 1.0).abs() < 0.02, "{work:?}: {drawn}");
        }
    }
}
