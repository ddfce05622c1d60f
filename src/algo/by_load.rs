//! What an answer takes at a server that has so many requests.
//!
//! For the side that is asked how busy it is. The mean over all answers of late says how it was: with
//! four requests then and forty now, the next answer takes far longer than that. So each answer's
//! time is kept with the number of requests that there were when it came, and what is told is the
//! median of those that came to about as many as there are now (B. Wydrowski et al., "Load is not
//! what you should balance: Introducing Prequal", NSDI 2024, section 4).

use std::time::Duration;

/// How many answers are remembered: at a hundred a second, those of the last seconds. Fewer do not
/// have enough of each number: in the ramp of [`docs::balancing`](crate::docs::balancing), at 1.57 of
/// the capacity, a policy that probes has a p99 of 0.5 s with 128 of them and 0.4 s with 256.
const REMEMBERED: usize = 256;

/// Of so many of them, those that came to the most similar number of requests, the median is told:
/// odd, so that there is one in the middle, and enough that a large request or two do not matter.
const COMPARED: usize = 9;

/// What the last answers took, by how many requests there were when each came.
///
/// To record one is a write; to ask looks at all of them, some microseconds. The whole takes 6 KiB.
///
/// ```
/// use std::time::Duration;
/// use buttress::algo::by_load::LatencyByLoad;
///
/// let mut latency = LatencyByLoad::new();
/// assert_eq!(latency.at(1), None, "nothing is known yet");
/// for _ in 0..20 {
///     latency.record(1, Duration::from_millis(10));
///     latency.record(8, Duration::from_millis(80));
/// }
/// assert_eq!(latency.at(2), Some(Duration::from_millis(10)));
/// assert_eq!(latency.at(30), Some(Duration::from_millis(80)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct LatencyByLoad {
    /// The requests that there were, and the time. Full, it is a ring.
    answers: Vec<(u32, Duration)>,
    next: usize,
}

impl LatencyByLoad {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self { answers: Vec::new(), next: 0 }
    }

    /// An answer took this long; when its request came there were so many others.
    pub fn record(&mut self, in_flight: u32, took: Duration) {
        if self.answers.len() < REMEMBERED {
            self.answers.reserve_exact(REMEMBERED - self.answers.len());
            self.answers.push((in_flight, took));
        } else {
            self.answers[self.next] = (in_flight, took);
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// What an answer takes where there are so many requests; none before the first.
    #[must_use]
    pub fn at(&self, in_flight: u32) -> Option<Duration> {
        let mut near = [(u32::MAX, 0, Duration::ZERO); REMEMBERED];
        let near = &mut near[..self.answers.len()];
        let newest = self.next + REMEMBERED;
        for (at, (near, &(there, took))) in near.iter_mut().zip(&self.answers).enumerate() {
            // Of two that came to as many the newer one is nearer.
            *near = (there.abs_diff(in_flight), (newest - 1 - at) % REMEMBERED, took);
        }
        if near.is_empty() {
            return None;
        }
        let compared = near.len().min(COMPARED);
        near.select_nth_unstable(compared - 1);
        let near = &mut near[..compared];
        let (_, &mut (.., median), _) =
            near.select_nth_unstable_by_key((compared - 1) / 2, |&(.., took)| took);
        Some(median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_median_is_of_those_that_came_to_about_as_many() {
        let mut latency = LatencyByLoad::new();
        for there in 0..100 {
            latency.record(there, (there + 1) * MS);
        }
        // The nine that are nearest to 50 are 46 to 54.
        assert_eq!(latency.at(50), Some(51 * MS));
        assert_eq!(latency.at(0), Some(5 * MS), "0 to 8");
        assert_eq!(latency.at(u32::MAX), Some(96 * MS), "91 to 99");
    }

    #[test]
    fn a_large_request_or_two_do_not_matter() {
        let mut latency = LatencyByLoad::new();
        for took in [10, 2_000, 11, 12, 1, 3_000, 10] {
            latency.record(4, took * MS);
        }
        assert_eq!(latency.at(4), Some(11 * MS));
    }

    #[test]
    fn of_as_near_ones_the_newest_count_and_the_oldest_are_forgotten() {
        let mut latency = LatencyByLoad::new();
        (0..REMEMBERED).for_each(|_| latency.record(3, 10 * MS));
        (0..COMPARED).for_each(|_| latency.record(3, 50 * MS));
        assert_eq!(latency.at(3), Some(50 * MS));
        (0..REMEMBERED).for_each(|_| latency.record(9, 90 * MS));
        assert_eq!(latency.at(3), Some(90 * MS), "nothing else is remembered");
    }
}
