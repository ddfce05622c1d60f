//! Successes that wait to be counted.

use std::time::Instant;

use super::state::{Circuit, Unmoved};
use crate::sync::{AtomicU64, Ordering};

/// How many calls a circuit has seen succeed and has not counted yet, since that would change
/// nothing else: of a closed breaker almost every outcome is one, and none of those takes the lock.
///
/// It is open for one generation and one bucket of the window at a time, and counts in it the calls
/// whose heads came in its time; when those ended would be another reading of the clock. A head from
/// before, whose body took long, or from after it comes to the lock, and so the window slides on,
/// however long the bodies are. Whoever takes the lock closes it first, and what comes until it is
/// open again comes to the lock as well: behind the lock no success is ever missing.
///
/// All accesses are relaxed: the word is generation and count in one. What is read beside it may be
/// of the bucket before or after: then the lock is taken without need, or a call that was answered
/// just as one bucket followed the other is counted in the other of the two.
#[derive(Debug)]
pub(super) struct Tally {
    /// The generation's lower half, which is [`CLOSED`] for none, and the count.
    word: AtomicU64,
    /// When the bucket is over, in nanoseconds after the origin.
    ends: AtomicU64,
    /// How long it is, in nanoseconds.
    width: u64,
    origin: Instant,
}

const CLOSED: u32 = 0;

impl Tally {
    pub(super) fn new(circuit: &Circuit, origin: Instant) -> Self {
        let width = u64::try_from(circuit.bucket().as_nanos()).unwrap_or(u64::MAX);
        let tally = Self { word: AtomicU64::new(0), ends: AtomicU64::new(0), width, origin };
        tally.open(circuit);
        tally
    }

    /// An instant in its time.
    #[inline]
    pub(super) fn time(&self, at: Instant) -> u64 {
        nanoseconds(self.origin, at)
    }

    /// Counts a call of this generation that was answered then and has ended well, unless the lock
    /// has to be taken for it.
    #[inline]
    pub(super) fn count(&self, generation: u64, answered: u64) -> bool {
        let mut seen = self.word.load(Ordering::Relaxed);
        // One comparison tells both: who is after the end is left with more than a width.
        let left = self.ends.load(Ordering::Relaxed).wrapping_sub(1).wrapping_sub(answered);
        if left >= self.width {
            return false;
        }
        // Full at four billion.
        while half(seen) != CLOSED && half(seen) == generation as u32 && seen as u32 != u32::MAX {
            let next = seen + 1;
            match self.word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
        false
    }

    /// Closes it. What was in it is the circuit's.
    pub(super) fn close(&self, circuit: &mut Circuit) {
        if half(self.word.load(Ordering::Relaxed)) != CLOSED {
            circuit.add_successes(self.word.swap(0, Ordering::Relaxed) as u32);
        }
    }

    /// Opens it, if the circuit is one that can wait for successes.
    pub(super) fn open(&self, circuit: &Circuit) {
        let Some(Unmoved { generation, until }) = circuit.unmoved() else { return };
        self.ends.store(self.time(until), Ordering::Relaxed);
        self.word.store(generation << 32, Ordering::Relaxed);
    }
}

const fn half(word: u64) -> u32 {
    (word >> 32) as u32
}

/// 584 years fit.
#[inline]
pub(super) fn nanoseconds(origin: Instant, at: Instant) -> u64 {
    let since = at.saturating_duration_since(origin);
    since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos()))
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`: every order of a success that takes no
/// lock and of what takes it.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::{sync::atomic::AtomicBool, thread};

    use super::*;
    use crate::{
        breaker::{Breaker, BreakerConfig, State},
        call::Asked,
        classify::{Settle, Verdict},
        time,
    };

    #[test]
    fn a_success_past_the_lock_ends_a_streak_or_comes_after_it() {
        loom::model(|| {
            let config = BreakerConfig::new().consecutive_failures(2).expect("two");
            let breaker = Breaker::new(config);
            let now = time::now();
            let ask = || breaker.admit(now, Asked::default()).expect("closed");
            let (mut first, mut second, mut good) = (ask(), ask(), ask());
            first.settle(Verdict::TIMED_OUT);
            let told = Arc::new(AtomicBool::new(false));
            let telling = Arc::clone(&told);
            let other = thread::spawn(move || {
                good.settle(Verdict::SUCCESS);
                telling.store(true, Ordering::Release);
            });
            let was_told = told.load(Ordering::Acquire);
            second.settle(Verdict::TIMED_OUT);
            other.join().expect("it only settles");
            let is_closed = matches!(breaker.state(), State::Closed);
            assert!(is_closed || !was_told, "of what came before, nothing is missing");
            // Both are counted, in whichever order they came.
            if is_closed {
                ask().settle(Verdict::TIMED_OUT);
                assert!(matches!(breaker.state(), State::Open { .. }));
            }
        });
    }

    #[test]
    fn a_success_of_another_generation_is_not_counted() {
        loom::model(|| {
            let config = BreakerConfig::new().consecutive_failures(2).expect("two");
            let breaker = Breaker::new(config);
            let mut good = breaker.admit(time::now(), Asked::default()).expect("closed");
            let forced = breaker.clone();
            let other = thread::spawn(move || {
                forced.force_closed();
                forced.release();
                let permit = forced.admit(time::now(), Asked::default());
                permit.expect("closed").settle(Verdict::TIMED_OUT);
                let permit = forced.admit(time::now(), Asked::default());
                permit.expect("closed").settle(Verdict::TIMED_OUT);
                assert!(matches!(forced.state(), State::Open { .. }));
            });
            good.settle(Verdict::SUCCESS);
            other.join().expect("two failures of its own generation open it");
        });
    }
}
