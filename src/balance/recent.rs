//! Where answers have just come from.
//!
//! With many endpoints a client hears of each one rarely: a hundred clients that spread 5,000
//! calls/s over a hundred servers hear of one every two seconds, and what was true of a queue two
//! seconds ago says little. Of whom they have heard a moment ago they know, and a server that has
//! just answered has a place free. So these are looked at besides those that are drawn at random. It
//! is the pool of Prequal (B. Wydrowski et al., "Load is not what you should balance", NSDI 2024)
//! with answers in the place of probes; and as an answer is heard by one client alone, no herd
//! runs to the server that sent it.
//!
//! In the ramp of [`docs::balancing`](crate::docs::balancing), at 1.27 of the capacity: p99 592 ms
//! with two drawn at random alone, and 414 ms with the two that were heard last.

use std::time::Duration;

use super::load::{TICKS_A_SECOND, since};
use crate::sync::{AtomicBool, AtomicU32, Lanes, Ordering};

/// How many are remembered.
pub(super) const REMEMBERED: usize = 4;

/// How fast the averages follow: over so many answers. Of requests whose size is normal with a
/// deviation as large as the mean, it is known to a seventh.
const AVERAGED: f32 = 16.0;

/// What answers take where nothing is known of any, in seconds.
const UNKNOWN: f64 = 0.001;

/// Of so many answers one is looked at for a report, until one had one.
const LOOKED_AT: u32 = 64;

/// Reports count while there was one in this time. When the service has stopped to send them,
/// the last ones are not believed for longer.
const FRESH: u32 = 10 * TICKS_A_SECOND as u32;

/// Where answers have just come from, by thread: to share the memory would cost more than it gives.
///
/// Relaxed throughout, and counted without a compare-exchange: each word is a hint, and a lost
/// one is one hint less.
#[derive(Debug)]
pub(super) struct Recent {
    /// Whether there ever was a report.
    reports: AtomicBool,
    lanes: Lanes<Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    next: AtomicU32,
    /// Places in the set, plus one; 0 is none.
    places: [AtomicU32; REMEMBERED],
    /// The tick of the last report; 0 if there was none.
    reported: AtomicU32,
    /// What servers report, on average.
    in_flight: AtomicU32,
    /// What good answers take on average, in seconds; 0 if there were none.
    latency: AtomicU32,
}

/// What is usual in the fleet, by its servers' own reports.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    pub(super) in_flight: f64,
    /// In seconds.
    pub(super) latency: f64,
}

impl Usual {
    /// How many requests a server works on.
    #[must_use]
    pub const fn in_flight(&self) -> f64 {
        self.in_flight
    }

    /// What an answer takes.
    #[must_use]
    pub fn latency(&self) -> Duration {
        Duration::try_from_secs_f64(self.latency).unwrap_or(Duration::MAX)
    }
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { reports: AtomicBool::new(false), lanes: Lanes::default() }
    }

    #[inline]
    fn lane(&self) -> &Lane {
        self.lanes.own()
    }

    /// A good answer has come from this place, after so many seconds.
    #[inline]
    pub(super) fn heard(&self, place: u32, took: f32) {
        let lane = self.lane();
        // In no time at all is not the same as never.
        follow(&lane.latency, took.max(f32::MIN_POSITIVE));
        let next = lane.next.load(Ordering::Relaxed);
        lane.places[next as usize % REMEMBERED].store(place.wrapping_add(1), Ordering::Relaxed);
        lane.next.store(next.wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether to look for the server's own report in an answer that comes at this tick: in each,
    /// once there was one. Until then in one of 64, by the clock, since a service that sends none
    /// should not pay for those that do.
    #[inline]
    pub(super) fn listens(&self, tick: u32) -> bool {
        tick % LOOKED_AT == 0 || self.reports.load(Ordering::Relaxed)
    }

    /// A report has come, whatever it says.
    pub(super) fn report(&self) {
        if !self.reports.load(Ordering::Relaxed) {
            self.reports.store(true, Ordering::Relaxed);
        }
    }

    /// It said how many requests are in flight.
    pub(super) fn reported(&self, in_flight: f32, tick: u32) {
        self.report();
        let lane = self.lane();
        lane.reported.store(tick.max(1), Ordering::Relaxed);
        follow(&lane.in_flight, in_flight);
    }

    /// Where the last answer but `nth` came from, in the set of that time.
    #[inline]
    pub(super) fn get(&self, nth: usize) -> Option<usize> {
        let lane = self.lane();
        let at = lane.next.load(Ordering::Relaxed).wrapping_sub(1 + nth as u32);
        let place = lane.places[at as usize % REMEMBERED].load(Ordering::Relaxed);
        (place as usize).checked_sub(1)
    }

    /// What is usual, while servers report.
    #[inline]
    pub(super) fn usual(&self, tick: u32) -> Option<Usual> {
        let lane = self.lane();
        let reported = lane.reported.load(Ordering::Relaxed);
        if reported == 0 || since(reported, tick) > FRESH {
            return None;
        }
        Some(Usual { in_flight: read(&lane.in_flight), latency: read(&lane.latency) })
    }

    /// What an answer takes, in seconds, as far as this thread knows.
    #[inline]
    pub(super) fn latency(&self) -> f64 {
        let latency = read(&self.lane().latency);
        if latency > 0.0 { latency } else { UNKNOWN }
    }
}

#[inline]
fn read(word: &AtomicU32) -> f64 {
    f64::from(f32::from_bits(word.load(Ordering::Relaxed)))
}

/// Moves a mean towards a value, and to it where there is none yet.
#[inline]
fn follow(mean: &AtomicU32, value: f32) {
    let old = f32::from_bits(mean.load(Ordering::Relaxed));
    let new = if old == 0.0 { value } else { old + (value - old) / AVERAGED };
    mean.store(new.to_bits(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_is_the_first_and_the_oldest_is_forgotten() {
        let recent = Recent::new();
        assert_eq!(recent.get(0), None);
        (0..6).for_each(|place| recent.heard(place, 0.01));
        let remembered: Vec<_> = (0..REMEMBERED).map(|nth| recent.get(nth)).collect();
        assert_eq!(remembered, [Some(5), Some(4), Some(3), Some(2)]);
    }

    #[test]
    fn the_averages_follow_the_reports_and_end_with_them() {
        let recent = Recent::new();
        assert!(recent.usual(7).is_none());
        assert_eq!(recent.latency(), UNKNOWN);
        recent.heard(3, 0.010);
        recent.reported(4.0, 0);
        let usual = recent.usual(FRESH / 2).expect("there was one");
        assert!((usual.in_flight - 4.0).abs() < 1e-6 && (usual.latency - 0.010).abs() < 1e-6);
        (0..400).for_each(|_| recent.reported(8.0, 10));
        (0..400).for_each(|_| recent.heard(3, 0.020));
        let usual = recent.usual(20).expect("there were some");
        assert!((usual.in_flight - 8.0).abs() < 0.01 && (usual.latency - 0.020).abs() < 1e-4);
        assert!(recent.usual(FRESH + 11).is_none());
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`: two threads that share a lane, as the
/// seventeenth and the first do.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn of_two_answers_of_one_moment_one_may_be_lost_and_never_both() {
        loom::model(|| {
            let recent = Arc::new(Recent::new());
            let other = {
                let recent = Arc::clone(&recent);
                thread::spawn(move || recent.heard(7, 0.032))
            };
            recent.heard(3, 0.016);
            let seen = (recent.get(0), recent.latency());
            // Seen while the other writes: nothing, or what somebody has said.
            assert!(matches!(seen.0, None | Some(3 | 7)), "{seen:?}");
            other.join().expect("it only hears");
            assert!(matches!(recent.get(0), Some(3 | 7)), "{:?}", recent.get(0));
            for latency in [seen.1, recent.latency()] {
                assert!((0.016..0.0321).contains(&latency), "{latency}");
            }
        });
    }

    #[test]
    fn who_sees_a_report_sees_what_it_said_or_what_was_said_before() {
        loom::model(|| {
            let recent = Arc::new(Recent::new());
            recent.reported(4.0, 1);
            let other = {
                let recent = Arc::clone(&recent);
                thread::spawn(move || recent.reported(8.0, 2))
            };
            let usual = recent.usual(2).expect("there was one");
            assert!((4.0..8.0).contains(&usual.in_flight), "{usual:?}");
            other.join().expect("it only reports");
            let usual = recent.usual(2).expect("there were two");
            assert!((usual.in_flight - 4.25).abs() < 1e-6, "{usual:?}");
        });
    }
}
