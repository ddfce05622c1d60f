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

use std::{
    cell::Cell,
    ops::Deref,
    sync::{
        Arc, TryLockError,
        atomic::{AtomicUsize, Ordering as StdOrdering},
    },
};

/// Locks for a few field writes; never across an `await`. A poisoned lock is recovered: the
/// states behind it are consistent after each of their methods, and a panic in one call must
/// not end all the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// As [`lock`], if nobody holds it now: for who has something else to do and must not wait.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
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

/// Threads that have lanes of their own; more share them.
const LANES: usize = 16;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(LANES) };
}

/// How many threads have a lane. The standard library's: loom's can't be made in a static.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The lane of this thread.
#[inline]
fn lane() -> usize {
    LANE.with(|lane| {
        if lane.get() == LANES {
            // In turn, not by chance: of eight threads that draw their lanes two have the same in
            // seven of eight cases. Relaxed: the number orders nothing but itself.
            lane.set(THREADS.fetch_add(1, StdOrdering::Relaxed) % LANES);
        }
        lane.get()
    })
}

/// A value for each thread, which others may share: what is in it is shared as any other.
#[derive(Debug)]
pub(crate) struct Lanes<T>(Box<[Padded<T>; LANES]>);

impl<T: Default> Default for Lanes<T> {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| Padded::default())))
    }
}

impl<T> Lanes<T> {
    /// That of this thread.
    #[inline]
    pub(crate) fn own(&self) -> &T {
        &self.0[lane()]
    }
}

/// What many threads share and each call holds: an [`Arc`] whose references are counted in a
/// place for each lane, so that threads don't contend for one count. (Two threads that do
/// nothing but count on one word reach a quarter of what they reach apart.)
pub(crate) struct Spread<T> {
    lanes: Arc<[Share<T>; LANES]>,
}

/// What one call holds of it.
pub(crate) struct Share<T> {
    counted: Arc<Padded<Arc<T>>>,
}

impl<T> Spread<T> {
    pub(crate) fn new(shared: Arc<T>) -> Self {
        let share = |_| Share { counted: Arc::new(Padded(Arc::clone(&shared))) };
        Self { lanes: Arc::new(std::array::from_fn(share)) }
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
    use std::{sync::Weak, thread};

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
    fn threads_have_lanes_of_their_own() {
        let lanes = Lanes::<AtomicU32>::default();
        lanes.own().fetch_add(1, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| lanes.own().fetch_add(1, Ordering::Relaxed));
        });
        assert_eq!(lanes.own().load(Ordering::Relaxed), 1);
    }
}
