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
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering as StdOrdering},
};

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

/// Threads that have lanes of their own; more share them.
const LANES: usize = 16;

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
        &self.0[LANE.with(|&lane| lane)]
    }
}

thread_local! {
    // In turn, not by chance: of eight threads that draw their lanes two have the same in seven of
    // eight cases. Relaxed: the number orders nothing but itself.
    static LANE: usize = THREADS.fetch_add(1, StdOrdering::Relaxed) % LANES;
}

/// How many threads have a lane. The standard library's: loom's can't be made in a static.
static THREADS: AtomicUsize = AtomicUsize::new(0);

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn threads_have_lanes_of_their_own() {
        let lanes = Lanes::<AtomicU32>::default();
        lanes.own().fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| lanes.own().fetch_add(1, Ordering::Relaxed));
        });
        assert_eq!(lanes.own().load(Ordering::Relaxed), 1);
    }
}
