//! What a server has said of its own load, and when.

use std::time::Duration;

use super::load::{TICK_MICROS, TICK_SECONDS, pack, since, unpack, update};
use crate::{
    algo::ewma,
    endpoint::LoadReport,
    sync::{AtomicU64, Ordering},
};

/// How fast a report gets old, in seconds: 200 and 500 ms do as well in the ramp of
/// [`docs::balancing`](crate::docs::balancing).
const DECAY: f64 = 0.3;

/// A server's words on itself, each with the tick at which it came; 0 is never. Relaxed, as the
/// words of [`Load`](super::load::Load).
#[derive(Debug, Default)]
pub(super) struct Said {
    /// An `f32`, and the tick.
    in_flight: AtomicU64,
    /// An `f32`, and the tick.
    utilization: AtomicU64,
    /// Requests a second, and failures a second, each an `f32`.
    rates: AtomicU64,
}

impl Said {
    pub(super) fn take(&self, report: &LoadReport, tick: u32) {
        let words = [&self.in_flight, &self.utilization];
        for (word, value) in words.into_iter().zip([report.in_flight, report.utilization]) {
            if let Some(value) = value {
                word.store(pack(value.to_bits(), tick.max(1)), Ordering::Relaxed);
            }
        }
        if let Some(rate) = report.rate {
            let errors = report.errors.unwrap_or_default();
            self.rates.store(pack(rate.to_bits(), errors.to_bits()), Ordering::Relaxed);
        }
    }

    /// A call was sent there: one more than it said. So a report draws as many calls as it has room
    /// for.
    #[inline]
    pub(super) fn sent(&self) {
        if self.in_flight.load(Ordering::Relaxed) != 0 {
            update(&self.in_flight, |said, tick| {
                Some(((f32::from_bits(said) + 1.0).to_bits(), tick))
            });
        }
    }

    /// How many requests it has by now, as far as one can say: it is true when it is said, and true no
    /// more some hundred milliseconds later, when others have sent their calls there. The older it
    /// is, the nearer it is to what is usual.
    pub(super) fn queue(&self, usual: f64, now: u32) -> f64 {
        let (said, tick) = unpack(self.in_flight.load(Ordering::Relaxed));
        if tick == 0 {
            return usual;
        }
        let age = f64::from(since(tick, now)) * TICK_SECONDS;
        usual + (f64::from(f32::from_bits(said)) - usual) * ewma::kept(age / DECAY)
    }

    pub(super) fn in_flight(&self, now: u32) -> Option<(f32, Duration)> {
        read(&self.in_flight, now)
    }

    pub(super) fn utilization(&self, now: u32) -> Option<(f32, Duration)> {
        read(&self.utilization, now)
    }

    pub(super) fn rates(&self) -> (f32, f32) {
        let (rate, errors) = unpack(self.rates.load(Ordering::Relaxed));
        (f32::from_bits(rate), f32::from_bits(errors))
    }
}

/// A value, and how long ago it was said.
fn read(word: &AtomicU64, now: u32) -> Option<(f32, Duration)> {
    let (value, tick) = unpack(word.load(Ordering::Relaxed));
    let age = Duration::from_micros(u64::from(since(tick, now)) * u64::from(TICK_MICROS));
    (tick != 0).then(|| (f32::from_bits(value), age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_fades_to_what_is_usual_and_counts_what_was_sent_since() {
        let said = Said::default();
        said.sent();
        assert_eq!((said.queue(5.0, 9), said.in_flight(9)), (5.0, None));
        said.take(&LoadReport { in_flight: Some(1.0), ..LoadReport::new() }, 100);
        assert!((said.queue(5.0, 100) - 1.0).abs() < 1e-9);
        said.sent();
        assert!((said.queue(5.0, 100) - 2.0).abs() < 1e-9);
        let later = 100 + (DECAY / TICK_SECONDS) as u32;
        assert!((said.queue(5.0, later) - (5.0 - 3.0 / 1.0_f64.exp())).abs() < 1e-3);
        assert!((said.queue(5.0, later * 100) - 5.0).abs() < 1e-3);
        assert_eq!(said.utilization(100), None);
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`. That a new report is not lost to a call
/// that is sent meanwhile can't be modelled: loom (0.7) does not order a store before an exchange that
/// has not seen it.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn of_two_calls_that_are_sent_at_once_both_count() {
        loom::model(|| {
            let said = Arc::new(Said::default());
            said.take(&LoadReport { in_flight: Some(1.0), ..LoadReport::new() }, 1);
            let other = {
                let said = Arc::clone(&said);
                thread::spawn(move || said.sent())
            };
            said.sent();
            other.join().expect("it only sends");
            assert_eq!(said.in_flight(1).map(|(in_flight, _)| in_flight), Some(3.0));
        });
    }
}
