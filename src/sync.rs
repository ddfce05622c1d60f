//! The one door to what threads share, so that loom can stand in for it
//! (`RUSTFLAGS="--cfg buttress_loom"`; a cfg of our own, since plain `loom` also changes tokio).

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use std::{cell::Cell, ops::Deref, sync::Arc};

/// Locks for a few field writes; never across an `await`. A poisoned lock is recovered: the
/// states behind it are consistent after each of their methods, and a panic in one call must
/// not end all the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A value on cache lines of its own, so that threads that write its neighbours don't slow it.
/// 128 bytes: processors fetch lines of 64 bytes in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Threads that have a lane of their own in what is kept by thread; more share them.
pub(crate) const LANES: usize = 16;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(LANES) };
}

/// The lane of this thread, below [`LANES`]: in turn, so that a few threads never share one.
#[inline]
pub(crate) fn lane() -> usize {
    // Not loom's: it is no part of any model, and would only multiply the orders.
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    LANE.with(|lane| {
        if lane.get() == LANES {
            lane.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % LANES);
        }
        lane.get()
    })
}

/// What many threads share and each call holds: an [`Arc`] whose references are counted in a
/// place for each lane, so that threads don't contend for one count. (Two threads that do
/// nothing but count on one word reach a quarter of what they reach apart.)
pub(crate) struct Spread<T> {
    lanes: Arc<[Share<T>]>,
}

/// What one call holds of it.
pub(crate) struct Share<T> {
    counted: Arc<Padded<Arc<T>>>,
}

impl<T> Spread<T> {
    pub(crate) fn new(shared: Arc<T>) -> Self {
        let share = |_| Share { counted: Arc::new(Padded(Arc::clone(&shared))) };
        Self { lanes: (0..LANES).map(share).collect() }
    }

    /// For one call, on this thread; it may end on another.
    #[inline]
    pub(crate) fn share(&self) -> Share<T> {
        self.lanes[lane()].clone()
    }
}

impl<T> Deref for Spread<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.lanes[0]
    }
}

impl<T> Deref for Share<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.counted
    }
}

impl<T> Clone for Spread<T> {
    fn clone(&self) -> Self {
        Self { lanes: Arc::clone(&self.lanes) }
    }
}

impl<T> Clone for Share<T> {
    fn clone(&self) -> Self {
        Self { counted: Arc::clone(&self.counted) }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{collections::HashSet, sync::Weak, thread};

    use super::*;

    #[test]
    fn what_is_spread_lives_as_long_as_the_last_share_of_any_lane() {
        let whole = Spread::new(Arc::new(7));
        let alive: Weak<i32> = Arc::downgrade(&whole);
        let own = whole.share();
        let other = {
            let whole = whole.clone();
            thread::spawn(move || whole.share()).join().expect("it only takes a share")
        };
        drop(whole);
        assert_eq!((**own, **other, alive.upgrade().is_some()), (7, 7, true));
        drop(own);
        assert!(alive.upgrade().is_some());
        drop(other);
        assert!(alive.upgrade().is_none());
    }

    #[test]
    fn few_threads_count_in_lanes_of_their_own() {
        let seen: HashSet<_> = (0..4)
            .map(|_| thread::spawn(|| [lane(), lane()]).join().expect("it only looks"))
            .inspect(|[first, again]| assert_eq!(first, again))
            .map(|[lane, _]| lane)
            .collect();
        // Tests on other threads take lanes in between, and there are but so many.
        assert!(seen.len() > 1, "{seen:?}");
    }
}
