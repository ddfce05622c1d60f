//! Whether an endpoint is in doubt, or slow at first: one word of its load.
//!
//! **In doubt** is an endpoint after a failure: it loses against every other, however busy that
//! is. A failure raises the level of doubt by two, a good answer lowers it by one: an endpoint
//! that fails every other call does not talk its way out. The doubt lasts for 200 ms after a
//! first failure, for 6.4 s after four in a row; then the endpoint is on probation and gets one
//! call at a time, until the level is back at zero. So a stray failure costs an endpoint little
//! of its share, and a healed one is back at once when it is tried, within 6.4 s. Only outcomes
//! of calls that began after the last failure change the level: those of one wave count once,
//! and a success from before proves nothing.
//!
//! The obvious alternative, a failure as a slow answer of several times the usual cost, is worse
//! in three ways. It does not scale with the calls in flight: the busier the others are, the
//! sooner a failing endpoint looks the least loaded again (one of five with a mean of 40 ms, at
//! 2000 calls/s: 4.3 % of the calls, and 0.2 % when doubted). It fades no faster than a real
//! peak, so a stray failure is paid for over seconds. And when all fail, penalties that are
//! multiples of the peers' costs multiply each other (2 s of failures at 200 calls/s: 10^18 s).
//!
//! **Slow at first** is an endpoint that joined others or came back (from ejection, or healthy
//! again): it gets the share of its weight that it has by now ([`SlowStart`]), so that few calls
//! meet cold caches and empty pools. It is not on probation: that is for one that failed, and is
//! over after a few good answers, whatever the time. Where both hold, the doubt comes first. Both
//! are said by one word, so an endpoint that is neither costs a pick one look.

use super::{
    load::{TICK_MICROS, TICK_SECONDS, is_after, since, unpack, update},
    slow_start::{SlowStart, handicap},
};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What stands against an endpoint; nothing, mostly, and then it costs a pick one look.
// In this order: the word is read by every pick, with what stands before it in its load.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Standing {
    /// The level of doubt and whether it is slow at first, and the tick of the last failure that
    /// counted.
    word: AtomicU64,
    /// The tick since which it is slow at first, if it is.
    since: AtomicU32,
    slow_start: SlowStart,
}

/// For how many ticks an endpoint is in doubt at level 1: 100 ms; it doubles with each level.
const DOUBT: u32 = 100_000 / TICK_MICROS;
/// What a failure adds to the level; a good answer takes 1. So an endpoint that fails more
/// than a third of its calls rises, and is left with a call every few seconds.
const FAILURE: u32 = 2;
/// The highest level: a doubt of 6.4 s, about as long as a breaker is open at first. It is the
/// longest time until a healed endpoint is tried; a shorter one would spend too many attempts
/// on an endpoint that hangs, each of which costs a whole timeout.
const MAX_LEVEL: u32 = 7;

/// In the half word of the level: it is slow at first.
const STARTING: u32 = 1 << 16;
/// The rest of it.
const LEVEL: u32 = STARTING - 1;

/// Added to the load of an endpoint in doubt: more than any load, and little enough that an
/// `f64` still tells two such loads apart.
const DOUBTED: f64 = 1e6;

impl Standing {
    pub(super) fn new() -> Self {
        Self { word: AtomicU64::new(0), since: AtomicU32::new(0), slow_start: SlowStart::OFF }
    }

    pub(super) fn with_slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = slow_start;
        self
    }

    /// The load of an endpoint that has this standing. Whether calls wait for its answer, and a
    /// draw, are asked for only if it matters.
    #[inline]
    pub(super) fn weigh(
        &self,
        load: f64,
        awaited: impl FnOnce() -> bool,
        now: u32,
        draw: impl FnOnce() -> u64,
    ) -> f64 {
        let (standing, tick) = unpack(self.word.load(Ordering::Relaxed));
        if standing == 0 {
            return load;
        }
        let doubted = if doubts(standing, tick, now, awaited) { DOUBTED } else { 0.0 };
        load * handicap(self.share_of(standing, now), draw) + doubted
    }

    #[inline]
    pub(super) fn is_doubted(&self, awaited: impl FnOnce() -> bool, now: u32) -> bool {
        let (standing, tick) = unpack(self.word.load(Ordering::Relaxed));
        standing != 0 && doubts(standing, tick, now, awaited)
    }

    /// A call that began then has failed.
    pub(super) fn failed(&self, began: u32, now: u32) {
        update(&self.word, |standing, since| {
            let (starting, level) = (standing & STARTING, standing & LEVEL);
            let counts = level == 0 || is_after(began, since);
            counts.then(|| ((level + FAILURE).min(MAX_LEVEL) | starting, now))
        });
    }

    /// A call that began then has ended well.
    pub(super) fn succeeded(&self, began: impl Fn() -> u32) {
        update(&self.word, |standing, since| {
            if standing == 0 {
                return None;
            }
            let (starting, level) = (standing & STARTING, standing & LEVEL);
            if level > 0 && is_after(began(), since) {
                return Some(((level - 1) | starting, since));
            }
            // Its start is over: from now on a look is enough again.
            let over = starting != 0 && self.share_of(standing, began()) >= 1.0;
            over.then_some((level, since))
        });
    }

    /// Which share of its weight it has: less than 1 while it is slow at first.
    #[inline]
    pub(super) fn share(&self, now: u32) -> f64 {
        let (standing, _) = unpack(self.word.load(Ordering::Relaxed));
        if standing == 0 { 1.0 } else { self.share_of(standing, now) }
    }

    fn share_of(&self, standing: u32, now: u32) -> f64 {
        if standing & STARTING == 0 {
            return 1.0;
        }
        let age = f64::from(since(self.since.load(Ordering::Relaxed), now)) * TICK_SECONDS;
        self.slow_start.share(age)
    }

    /// It is slow at first, from now on.
    pub(super) fn start(&self, now: u32) {
        if self.slow_start.is_off() {
            return;
        }
        // The tick before the bit that says that it holds; who reads them the other way round takes
        // an old start for this one, for a moment.
        self.since.store(now, Ordering::Relaxed);
        update(&self.word, |standing, tick| Some((standing | STARTING, tick)));
    }

    /// Whether it is slow at first, or still marked as that.
    pub(super) fn is_starting(&self) -> bool {
        unpack(self.word.load(Ordering::Relaxed)).0 & STARTING != 0
    }

    /// Nobody doubts it any more.
    pub(super) fn acquit(&self) {
        update(&self.word, |standing, tick| Some((standing & STARTING, tick)));
    }
}

fn doubts(standing: u32, tick: u32, now: u32, awaited: impl FnOnce() -> bool) -> bool {
    let level = standing & LEVEL;
    level > 0 && (since(tick, now) < doubt(level) || awaited())
}

/// For how many ticks an endpoint is in doubt at a level above 0.
const fn doubt(level: u32) -> u32 {
    let level = level.saturating_sub(1);
    DOUBT << if level < MAX_LEVEL { level } else { MAX_LEVEL - 1 }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`: every order in which two threads can
/// say how a call ended, or that the endpoint is back.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::{sync::Arc, time::Duration};

    use loom::thread;

    use super::*;

    fn with(standing: &Arc<Standing>, act: impl Fn(&Standing) + 'static) -> thread::JoinHandle<()> {
        let standing = Arc::clone(standing);
        thread::spawn(move || act(&standing))
    }

    #[test]
    fn a_failure_is_not_lost_to_a_good_answer_of_the_same_moment() {
        loom::model(|| {
            let standing = Arc::new(Standing::new());
            standing.failed(1, 2);
            let other = with(&standing, |standing| standing.failed(3, 4));
            standing.succeeded(|| 3);
            other.join().expect("it only fails");
            let (level, tick) = unpack(standing.word.load(Ordering::Relaxed));
            // The answer came first, or to a call that began before the failure was known.
            assert!(matches!((level, tick), (3 | 4, 4)), "{level} at {tick}");
        });
    }

    #[test]
    fn one_wave_of_failures_counts_once() {
        loom::model(|| {
            let standing = Arc::new(Standing::new());
            let other = with(&standing, |standing| standing.failed(1, 2));
            standing.failed(1, 3);
            other.join().expect("it only fails");
            assert_eq!(unpack(standing.word.load(Ordering::Relaxed)).0, FAILURE);
        });
    }

    #[test]
    fn a_start_is_not_lost_to_a_failure_nor_a_failure_to_a_start() {
        loom::model(|| {
            let start = SlowStart::over(Duration::from_secs(30));
            let standing = Arc::new(Standing::new().with_slow_start(start));
            let other = with(&standing, |standing| standing.start(5));
            standing.failed(3, 4);
            // Another thread's start may be seen before the tick that it began at: then as an old
            // one, which is over.
            let share = standing.share(6);
            assert!(share == 1.0 || (share - 0.1).abs() < 1e-9, "{share}");
            other.join().expect("it only starts");
            assert!(standing.is_doubted(|| false, 6) && standing.is_starting());
            assert!((standing.share(6) - 0.1).abs() < 1e-9);
        });
    }
}
