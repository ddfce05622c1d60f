//! An endpoint's load: how slow it is, times how much it has to do.
//!
//! Cost and time of its last sample share one atomic word, so a pick reads a pair that belongs
//! together, without a lock and without a write. Each value stands alone: nothing is published
//! through these atomics, so all orderings are relaxed.

use std::time::{Duration, Instant};

use crate::{
    algo::ewma,
    sync::{AtomicU32, AtomicU64, Ordering, Padded},
};

/// The time unit of a sample: 2³² of them are 19 hours. A cost that old reads as fresh for a
/// moment, once; the next sample corrects it.
const TICK_MICROS: u128 = 16;

/// The cost of an endpoint of which nothing is known, where nothing is known of others either.
const UNKNOWN_COST: f64 = 0.001;

#[derive(Debug)]
pub(super) struct Load {
    epoch: Instant,
    decay: Duration,
    /// The cost as `f32` seconds in the upper half, the tick of its sample in the lower.
    sample: Padded<AtomicU64>,
    in_flight: AtomicU32,
}

impl Load {
    /// Starts at the cost of its peers, so that nobody rushes to a newcomer.
    pub(super) fn new(epoch: Instant, decay: Duration, peers: Option<f64>, now: Instant) -> Self {
        let load =
            Self { epoch, decay, sample: Padded(AtomicU64::new(0)), in_flight: AtomicU32::new(0) };
        let cost = peers.unwrap_or(UNKNOWN_COST);
        load.sample.store(pack(cost, load.tick(now)), Ordering::Relaxed);
        load
    }

    /// What a pick compares.
    pub(super) fn get(&self, now: Instant) -> f64 {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        self.cost(now) * (f64::from(in_flight) + 1.0)
    }

    /// The cost alone, in seconds.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let (cost, tick) = unpack(self.sample.load(Ordering::Relaxed));
        ewma::read(cost, self.since(tick, now), self.decay)
    }

    /// An answer took this long.
    pub(super) fn observe(&self, sample: Duration, now: Instant) {
        self.update(now, sample.as_secs_f64());
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn update(&self, now: Instant, sample: f64) {
        let mut seen = self.sample.load(Ordering::Relaxed);
        loop {
            let (cost, tick) = unpack(seen);
            let cost = ewma::observe(cost, self.since(tick, now), sample, self.decay);
            let next = pack(cost, self.tick(now));
            match self.sample.compare_exchange_weak(
                seen,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(newer) => seen = newer,
            }
        }
    }

    fn tick(&self, now: Instant) -> u32 {
        // The low bits on purpose: see `TICK_MICROS`.
        (now.saturating_duration_since(self.epoch).as_micros() / TICK_MICROS) as u32
    }

    fn since(&self, tick: u32, now: Instant) -> Duration {
        let ticks = self.tick(now).wrapping_sub(tick);
        // Another thread's sample may be a little younger than this thread's `now`.
        let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
        Duration::from_micros(u64::from(ticks) * TICK_MICROS as u64)
    }
}

fn pack(cost: f64, tick: u32) -> u64 {
    u64::from((cost as f32).to_bits()) << 32 | u64::from(tick)
}

fn unpack(word: u64) -> (f64, u32) {
    (f64::from(f32::from_bits((word >> 32) as u32)), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: Duration = Duration::from_secs(10);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn counts_what_is_in_flight() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.010), now);
        let idle = load.get(now);
        load.begin();
        assert!((load.get(now) / idle - 2.0).abs() < 1e-9);
        load.end();
        assert_eq!(load.get(now), idle);
    }

    #[test]
    fn a_peak_is_taken_over_and_fades_while_nobody_calls() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.005), now);
        load.observe(400 * MS, now + MS);
        assert!((load.cost(now + MS) - 0.4).abs() < 1e-6);
        let later = load.cost(now + TAU);
        assert!((later - 0.4 * (-1.0_f64).exp()).abs() < 1e-3, "{later}");
    }

    #[test]
    fn reading_changes_nothing() {
        let now = crate::time::now();
        let load = Load::new(now, TAU, Some(0.1), now);
        let before = load.sample.load(Ordering::Relaxed);
        load.get(now + TAU);
        assert_eq!(load.sample.load(Ordering::Relaxed), before);
    }

    #[test]
    fn survives_the_wrap_of_its_clock() {
        let epoch = crate::time::now();
        let wrap = Duration::from_micros((1_u64 << 32) * TICK_MICROS as u64);
        let load = Load::new(epoch, TAU, Some(0.1), epoch + wrap - 5 * MS);
        let after = load.cost(epoch + wrap + 5 * MS);
        assert!((after - 0.1).abs() < 0.001, "{after}");
    }
}
