//! What an answer takes at a server that has so many requests.
//!
//! For the side that is asked how busy it is. The mean over all answers of late says how it was: with
//! four requests then and forty now, the next answer takes far longer than that. So each answer's
//! time is kept with the number of requests that there were when it came, and what is told is the
//! median of those that came to about as many as there are now (B. Wydrowski et al., "Load is not
//! what you should balance: Introducing Prequal", NSDI 2024, section 4).

use std::time::{Duration, Instant};

/// How many answers are remembered: at fifty a second, those of [`RECENT`]. Fewer do not have enough
/// of each number.
const REMEMBERED: usize = 256;

/// For how long. A server that was unlucky with a few requests and is not called for it must not say
/// so for ever.
const RECENT: Duration = Duration::from_secs(5);

/// Of so many of them, those that came to the most similar number of requests, the median is told:
/// odd, so that there is one in the middle, and enough that a large request or two do not matter.
const COMPARED: usize = 9;

/// Fewer say nothing.
const FEWEST: usize = 5;

/// What the answers of the last five seconds took, by how many requests there were when each came.
///
/// To record one is a write; to ask looks at up to 256 of them, some microseconds. The whole takes
/// 10 KiB.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::algo::by_load::LatencyByLoad;
///
/// let (mut latency, now) = (LatencyByLoad::new(), Instant::now());
/// assert_eq!(latency.at(1, now), None, "nothing is known yet");
/// for _ in 0..20 {
///     latency.record(1, Duration::from_millis(10), now);
///     latency.record(8, Duration::from_millis(80), now);
/// }
/// assert_eq!(latency.at(2, now), Some(Duration::from_millis(10)));
/// assert_eq!(latency.at(30, now), Some(Duration::from_millis(80)));
/// assert_eq!(latency.at(1, now + Duration::from_secs(5)), None, "that was then");
/// ```
#[derive(Clone, Debug, Default)]
pub struct LatencyByLoad {
    /// Full, it is a ring.
    answers: Vec<Answer>,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    /// How many others there were.
    in_flight: u32,
    took: Duration,
    at: Instant,
}

impl LatencyByLoad {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self { answers: Vec::new(), next: 0 }
    }

    /// An answer took this long; when its request came there were so many others.
    pub fn record(&mut self, in_flight: u32, took: Duration, now: Instant) {
        let answer = Answer { in_flight, took, at: now };
        if self.answers.len() < REMEMBERED {
            self.answers.reserve_exact(REMEMBERED - self.answers.len());
            self.answers.push(answer);
        } else {
            self.answers[self.next] = answer;
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// What an answer takes where there are so many requests; none if there have been fewer than five
    /// answers of late.
    #[must_use]
    pub fn at(&self, in_flight: u32, now: Instant) -> Option<Duration> {
        // Of two that came to as many the newer one is nearer.
        let mut near = [(u32::MAX, Duration::MAX, Duration::ZERO); REMEMBERED];
        let mut count = 0;
        for &Answer { in_flight: there, took, at } in &self.answers {
            let age = now.saturating_duration_since(at);
            if age < RECENT {
                near[count] = (there.abs_diff(in_flight), age, took);
                count += 1;
            }
        }
        if count < FEWEST {
            return None;
        }
        let compared = count.min(COMPARED);
        near[..count].select_nth_unstable(compared - 1);
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
        let (mut latency, now) = (LatencyByLoad::new(), crate::time::now());
        for there in 0..100 {
            latency.record(there, (there + 1) * MS, now);
        }
        // The nine that are nearest to 50 are 46 to 54.
        assert_eq!(latency.at(50, now), Some(51 * MS));
        assert_eq!(latency.at(0, now), Some(5 * MS), "0 to 8");
        assert_eq!(latency.at(u32::MAX, now), Some(96 * MS), "91 to 99");
    }

    #[test]
    fn a_large_request_or_two_do_not_matter() {
        let (mut latency, now) = (LatencyByLoad::new(), crate::time::now());
        for took in [10, 2_000, 11, 12, 1, 3_000, 10] {
            latency.record(4, took * MS, now);
        }
        assert_eq!(latency.at(4, now), Some(11 * MS));
    }

    #[test]
    fn of_as_near_ones_the_newest_count_and_the_oldest_are_forgotten() {
        let (mut latency, mut now) = (LatencyByLoad::new(), crate::time::now());
        (0..REMEMBERED).for_each(|_| latency.record(3, 10 * MS, now));
        now += MS;
        (0..COMPARED).for_each(|_| latency.record(3, 50 * MS, now));
        assert_eq!(latency.at(3, now), Some(50 * MS));
        (0..REMEMBERED).for_each(|_| latency.record(9, 90 * MS, now));
        assert_eq!(latency.at(3, now), Some(90 * MS), "nothing else is remembered");
    }

    #[test]
    fn a_few_answers_or_old_ones_say_nothing() {
        let (mut latency, start) = (LatencyByLoad::new(), crate::time::now());
        for at in 0..5 {
            assert_eq!(latency.at(1, start + 4 * MS), None, "{at} are too few");
            latency.record(1, 10 * MS, start + at * MS);
        }
        assert_eq!(latency.at(1, start + RECENT - MS), Some(10 * MS));
        assert_eq!(latency.at(1, start + RECENT), None, "the first is too old");
    }
}
