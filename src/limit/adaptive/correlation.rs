//! Whether two things rise and fall together.

/// The last pairs of two quantities.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    pairs: [(f64, f64); PAIRS],
    /// How many of them there are.
    count: usize,
    next: usize,
}

/// As many as failsafe-go's documentation names for its correlation windows. Each change of the
/// limit asks once, so that a walk over all of them costs nothing that counts.
const PAIRS: usize = 20;
/// Fewer say nothing (failsafe-go: `warmupSamples`).
const FEWEST: usize = 10;

impl Correlation {
    pub(super) const fn new() -> Self {
        Self { pairs: [(0.0, 0.0); PAIRS], count: 0, next: 0 }
    }

    pub(super) fn add(&mut self, x: f64, y: f64) {
        self.pairs[self.next] = (x, y);
        self.next = (self.next + 1) % PAIRS;
        self.count = (self.count + 1).min(PAIRS);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Pearson's coefficient, between -1 and 1. None where too little is known, and where one of
    /// the two does not change.
    pub(super) fn coefficient(&self) -> Option<f64> {
        let pairs = self.known()?;
        let (x, y) = (mean(pairs, |pair| pair.0), mean(pairs, |pair| pair.1));
        let both = mean(pairs, |pair| (pair.0 - x) * (pair.1 - y));
        let spread =
            mean(pairs, |pair| (pair.0 - x).powi(2)) * mean(pairs, |pair| (pair.1 - y).powi(2));
        (spread > 0.0).then(|| both / spread.sqrt())
    }

    /// How much the second varies, as a part of its mean.
    pub(super) fn variation(&self) -> Option<f64> {
        let pairs = self.known()?;
        let y = mean(pairs, |pair| pair.1);
        (y > 0.0).then(|| mean(pairs, |pair| (pair.1 - y).powi(2)).sqrt() / y)
    }

    fn known(&self) -> Option<&[(f64, f64)]> {
        (self.count >= FEWEST).then(|| &self.pairs[..self.count])
    }
}

fn mean(pairs: &[(f64, f64)], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    pairs.iter().map(of).sum::<f64>() / pairs.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Correlation {
        let mut correlation = Correlation::new();
        pairs.into_iter().for_each(|(x, y)| correlation.add(x, y));
        correlation
    }

    #[test]
    fn says_whether_two_things_go_together() {
        let rising = of((0..20).map(|n| (f64::from(n), 3.0 + 2.0 * f64::from(n))));
        assert!((rising.coefficient().expect("enough") - 1.0).abs() < 1e-9);
        let falling = of((0..20).map(|n| (f64::from(n), -f64::from(n))));
        assert!((falling.coefficient().expect("enough") + 1.0).abs() < 1e-9);
        let apart = of((0..20).map(|n| (f64::from(n % 2), f64::from(n / 2 % 2))));
        assert!(apart.coefficient().expect("enough").abs() < 1e-9);
    }

    #[test]
    fn says_nothing_of_few_and_of_what_does_not_change() {
        let so_many = |count| of((0..count).map(|n| (f64::from(n), f64::from(n)))).coefficient();
        assert_eq!((so_many(9), so_many(10).is_some()), (None, true));
        assert_eq!(of((0..20).map(|n| (1.0, f64::from(n)))).coefficient(), None);
    }

    #[test]
    fn forgets_what_is_long_ago() {
        let mut correlation = of((0..20).map(|n| (f64::from(n), f64::from(n))));
        (0..20).for_each(|n| correlation.add(f64::from(n), -f64::from(n)));
        assert!(correlation.coefficient().expect("enough") < -0.99);
    }

    #[test]
    fn varies_by_a_part_of_the_mean() {
        let half = of((0..20).map(|n| (0.0, if n % 2 == 0 { 5.0 } else { 15.0 })));
        assert!((half.variation().expect("enough") - 0.5).abs() < 1e-9);
    }
}
