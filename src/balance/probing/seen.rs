//! How many requests endpoints had in flight of late.

/// How many answers are remembered: a quantile of 0.84 is then known to three hundredths.
const REMEMBERED: usize = 128;

/// The requests in flight of the last answers, whose distribution says what is many.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Full, it is a ring.
    in_flight: Vec<f32>,
    next: usize,
}

impl Seen {
    pub(super) fn add(&mut self, in_flight: f32) {
        if self.in_flight.len() < REMEMBERED {
            self.in_flight.push(in_flight);
        } else {
            self.in_flight[self.next] = in_flight;
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// Who has more is hot: at a quantile of 0 all are, at 1 none. Of few answers the highest is hot
    /// rather than cold: among the first three one may well have far too much to do.
    pub(super) fn threshold(&self, quantile: f64) -> f32 {
        let count = self.in_flight.len();
        let rank = (quantile * count as f64) as usize;
        if rank == 0 {
            return f32::NEG_INFINITY;
        }
        if quantile >= 1.0 {
            return f32::INFINITY;
        }
        let mut sorted = [0.0; REMEMBERED];
        let sorted = &mut sorted[..count];
        sorted.copy_from_slice(&self.in_flight);
        *sorted.select_nth_unstable_by(rank - 1, f32::total_cmp).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_sixteen_are_hot() {
        let mut seen = Seen::default();
        (1..=100).rev().for_each(|in_flight| seen.add(in_flight as f32));
        assert_eq!(seen.threshold(0.84), 84.0);
        assert_eq!(seen.threshold(0.0), f32::NEG_INFINITY);
        assert_eq!(seen.threshold(1.0), f32::INFINITY);
        let mut few = Seen::default();
        for (in_flight, threshold) in [(9.0, f32::NEG_INFINITY), (5.0, 5.0), (7.0, 7.0)] {
            few.add(in_flight);
            assert_eq!(few.threshold(0.84), threshold, "9 is hot");
        }
        (0..REMEMBERED).for_each(|_| seen.add(3.0));
        assert_eq!(seen.threshold(0.84), 3.0, "what was before is forgotten");
    }

    #[test]
    fn where_nothing_was_seen_all_are_hot() {
        assert_eq!(Seen::default().threshold(0.84), f32::NEG_INFINITY);
    }
}
