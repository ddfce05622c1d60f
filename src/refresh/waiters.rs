//! Who is to be woken.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use crate::sync::{Mutex, lock};

/// The tasks that wait for one credential. As a waker it wakes all of them: whichever is polled
/// first carries the fetching on, so it does not depend on any one of them.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug)]
enum Slot {
    Free,
    /// None from when its task was woken until that comes again.
    Taken(Option<Waker>),
}

impl Waiters {
    /// Takes a place, which is given up by dropping it.
    pub(super) fn join(self: &Arc<Self>) -> Place {
        let mut slots = lock(&self.slots);
        let at = slots.free.pop().unwrap_or(slots.all.len());
        let taken = Slot::Taken(None);
        match slots.all.get_mut(at) {
            Some(slot) => *slot = taken,
            None => slots.all.push(taken),
        }
        drop(slots);
        Place { waiters: Arc::clone(self), at }
    }

    pub(super) fn wake_all(&self) {
        let wakers: Vec<Waker> =
            lock(&self.slots).all.iter_mut().filter_map(Slot::take_waker).collect();
        // Not under the lock: to wake a task may drop it, and with it another place.
        wakers.into_iter().for_each(Waker::wake);
    }

    fn wake_one(&self) {
        let waker = lock(&self.slots).all.iter_mut().find_map(Slot::take_waker);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Slot {
    fn take_waker(&mut self) -> Option<Waker> {
        match self {
            Self::Free => None,
            Self::Taken(waker) => waker.take(),
        }
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

/// The place of one task among those that wait.
#[derive(Debug)]
#[must_use = "a place is given up when it is dropped"]
pub(super) struct Place {
    waiters: Arc<Waiters>,
    at: usize,
}

impl Place {
    /// Says whom to wake. Before one looks at what is waited for, or a wake could be lost.
    pub(super) fn register(&self, waker: &Waker) {
        let mut slots = lock(&self.waiters.slots);
        let Slot::Taken(known) = &mut slots.all[self.at] else {
            unreachable!("a place is free only when it has been dropped");
        };
        let outdated = match known {
            Some(known) if known.will_wake(waker) => None,
            known => known.replace(waker.clone()),
        };
        drop(slots);
        drop(outdated);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = lock(&self.waiters.slots);
        let left = std::mem::replace(&mut slots.all[self.at], Slot::Free);
        slots.free.push(self.at);
        drop(slots);
        drop(left);
        // It may have been woken to carry on, and now it does not.
        self.waiters.wake_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn all_are_woken_once_for_each_time_that_they_wait() {
        let waiters = Arc::new(Waiters::default());
        let (places, counts): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (count, waker) = waker();
                let place = waiters.join();
                place.register(&waker);
                place.register(&waker);
                (place, count)
            })
            .unzip();
        let woken = || counts.iter().map(|count| count.0.load(SeqCst)).collect::<Vec<_>>();
        waiters.wake_all();
        waiters.wake_all();
        assert_eq!(woken(), [1, 1, 1]);
        drop(places);
    }

    #[test]
    fn who_leaves_wakes_another_and_its_place_is_used_again() {
        let waiters = Arc::new(Waiters::default());
        let (first, second) = (waiters.join(), waiters.join());
        let (count, waker) = waker();
        second.register(&waker);
        drop(first);
        assert_eq!(count.0.load(SeqCst), 1);
        let third = waiters.join();
        assert_eq!(lock(&waiters.slots).all.len(), 2);
        drop((second, third));
    }
}
