//! So many at a time, and those who wait in the order in which they came.

use std::{collections::BTreeMap, task::Waker, time::Instant};

use crate::sync::{AtomicU64, Mutex, Ordering, Padded, lock};

/// A semaphore with a fair and bounded queue, whose size may change while it is in use.
///
/// One word holds all that most calls need: how many are inside, how many may be, and whether
/// anybody waits. While nobody waits, to go in and to go out is one compare-exchange each.
/// Somebody waits: then the word is changed under the queue's lock alone, so that nobody who
/// has just come overtakes those who wait, and who goes out hands its place to the first of them.
///
/// Going in acquires what going out released: with a limit of one, a call sees what the call
/// before it did. The lock orders the rest.
#[derive(Debug)]
pub(super) struct Turnstile {
    word: Padded<AtomicU64>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// By ticket, so that the first is the oldest. Whoever was let in is not here any more.
    waiting: BTreeMap<u64, Waiter>,
    next: u64,
    /// Since when there was always somebody who waited.
    since: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    waker: Waker,
    /// From then on it is not let in: it leaves by itself.
    expires: Instant,
}

/// What the word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

const WAITING: u64 = 1 << 63;
const LIMIT_SHIFT: u32 = 32;

impl Word {
    const fn new(limit: u32) -> Self {
        Self((limit as u64) << LIMIT_SHIFT)
    }

    const fn inside(self) -> u32 {
        self.0 as u32
    }

    const fn limit(self) -> u32 {
        ((self.0 & !WAITING) >> LIMIT_SHIFT) as u32
    }

    const fn is_waited_for(self) -> bool {
        self.0 & WAITING != 0
    }

    const fn has_room(self) -> bool {
        self.inside() < self.limit()
    }

    const fn with_limit(self, limit: u32) -> Self {
        Self(self.0 & (WAITING | u32::MAX as u64) | (limit as u64) << LIMIT_SHIFT)
    }

    const fn waited_for(self, waited_for: bool) -> Self {
        Self(if waited_for { self.0 | WAITING } else { self.0 & !WAITING })
    }
}

/// More than this can't be inside: the word has no room for it.
pub(super) const GREATEST: u32 = (1 << 31) - 1;

/// What became of somebody who wants to go in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It is inside.
    Inside,
    /// It waits with this ticket, until then.
    Waiting(u64, Instant),
    /// Too many wait.
    Full,
}

impl Turnstile {
    pub(super) fn new(limit: u32) -> Self {
        debug_assert!(limit <= GREATEST, "the config refuses more");
        Self { word: Padded(AtomicU64::new(Word::new(limit).0)), queue: Mutex::default() }
    }

    /// How many are inside, how many may be, and how many wait.
    pub(super) fn look(&self) -> (u32, u32, usize) {
        let waiting = lock(&self.queue).waiting.len();
        let word = self.load();
        (word.inside(), word.limit(), waiting)
    }

    pub(super) fn limit(&self) -> u32 {
        self.load().limit()
    }

    /// Whether somebody who comes now would have to wait.
    pub(super) fn is_full(&self) -> bool {
        let word = self.load();
        word.is_waited_for() || !word.has_room()
    }

    /// Goes in if there is room and nobody waits: how many are inside then.
    pub(super) fn enter(&self) -> Option<u32> {
        let mut word = self.load();
        while !word.is_waited_for() && word.has_room() {
            match self.exchange(word, Word(word.0 + 1)) {
                Ok(()) => return Some(word.inside() + 1),
                Err(present) => word = present,
            }
        }
        None
    }

    /// Goes in, or waits behind the others if fewer than `room` do. `until` says how long, told
    /// since when there was always somebody who waited.
    pub(super) fn join(
        &self,
        room: impl Fn(u32) -> u32,
        until: impl FnOnce(Option<Instant>) -> Instant,
        now: Instant,
        waker: &Waker,
    ) -> Joined {
        let mut queue = lock(&self.queue);
        let mut word = self.load();
        loop {
            // Where there is room, all who waited for it have been let in.
            let next = if word.has_room() { Word(word.0 + 1) } else { word.waited_for(true) };
            if !word.has_room() && queue.waiting.len() >= room(word.limit()) as usize {
                return Joined::Full;
            }
            match self.exchange(word, next) {
                Ok(()) if word.has_room() => return Joined::Inside,
                Ok(()) => break,
                Err(present) => word = present,
            }
        }
        let expires = until(queue.since);
        queue.since.get_or_insert(now);
        let ticket = queue.next;
        queue.next += 1;
        queue.waiting.insert(ticket, Waiter { waker: waker.clone(), expires });
        Joined::Waiting(ticket, expires)
    }

    /// Whether who waits with this ticket was let in. If not, `waker` is woken when it is.
    pub(super) fn is_inside(&self, ticket: u64, waker: &Waker) -> bool {
        let mut queue = lock(&self.queue);
        let Some(waiter) = queue.waiting.get_mut(&ticket) else { return true };
        let outdated = (!waiter.waker.will_wake(waker))
            .then(|| std::mem::replace(&mut waiter.waker, waker.clone()));
        drop(queue);
        // Not under the lock: to drop the last of a task's wakers drops the task.
        drop(outdated);
        false
    }

    /// Waits no longer. `true` if it was let in meanwhile, and so has to go out.
    pub(super) fn leave(&self, ticket: u64) -> bool {
        let mut queue = lock(&self.queue);
        let left = queue.waiting.remove(&ticket);
        self.tell_whether_anybody_waits(&mut queue);
        drop(queue);
        left.is_none()
    }

    /// Goes out. The clock is read only if somebody waits.
    pub(super) fn exit(&self, now: impl FnOnce() -> Instant) {
        let mut word = self.load();
        while !word.is_waited_for() {
            debug_assert!(word.inside() > 0, "who goes out was inside");
            match self.exchange(word, Word(word.0 - 1)) {
                Ok(()) => return,
                Err(present) => word = present,
            }
        }
        let now = now();
        let mut queue = lock(&self.queue);
        // Whether or not somebody waits by now: under the lock nobody begins to.
        self.word.fetch_sub(1, Ordering::AcqRel);
        let woken = self.let_in(&mut queue, now);
        drop(queue);
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    /// Lets so many in from now on. Nobody is thrown out.
    pub(super) fn resize(&self, limit: impl FnOnce() -> u32, now: Instant) {
        let mut queue = lock(&self.queue);
        let limit = limit();
        let mut word = self.load();
        while let Err(present) = self.exchange(word, word.with_limit(limit)) {
            word = present;
        }
        loop {
            let woken = self.let_in(&mut queue, now);
            drop(queue);
            // One by one: to wake a task may run whatever it likes.
            let Some(waker) = woken else { return };
            waker.wake();
            queue = lock(&self.queue);
        }
    }

    /// Lets the first in who still wants to, if there is room.
    fn let_in(&self, queue: &mut Queue, now: Instant) -> Option<Waker> {
        // One who is late leaves by itself within a moment, and is not to be sent.
        let first = queue.waiting.iter().find(|(_, waiter)| waiter.expires > now);
        let ticket = *first?.0;
        let mut word = self.load();
        // Somebody waits, so that nobody else changes the word.
        debug_assert!(word.is_waited_for(), "it says so from when the first began to wait");
        while word.has_room() {
            match self.exchange(word, Word(word.0 + 1)) {
                Ok(()) => {
                    let waiter = queue.waiting.remove(&ticket);
                    self.tell_whether_anybody_waits(queue);
                    return waiter.map(|waiter| waiter.waker);
                }
                Err(present) => word = present,
            }
        }
        None
    }

    fn tell_whether_anybody_waits(&self, queue: &mut Queue) {
        if queue.waiting.is_empty() {
            queue.since = None;
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
    }

    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn exchange(&self, from: Word, to: Word) -> Result<(), Word> {
        self.word
            .compare_exchange_weak(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::Wake,
        time::Duration,
    };

    use super::*;
    use crate::time::now;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn later() -> Instant {
        now() + Duration::from_secs(60)
    }

    fn wait(turnstile: &Turnstile, until: Instant) -> u64 {
        match turnstile.join(|_| 10, |_| until, now(), Waker::noop()) {
            Joined::Waiting(ticket, _) => ticket,
            other => panic!("it is full: {other:?}"),
        }
    }

    fn is_inside(turnstile: &Turnstile, ticket: u64) -> bool {
        turnstile.is_inside(ticket, Waker::noop())
    }

    #[test]
    fn lets_in_as_many_as_it_says() {
        let turnstile = Turnstile::new(2);
        assert_eq!(
            (turnstile.enter(), turnstile.enter(), turnstile.enter()),
            (Some(1), Some(2), None)
        );
        assert!(turnstile.is_full());
        turnstile.exit(now);
        assert_eq!(turnstile.look(), (1, 2, 0));
        assert_eq!(turnstile.enter(), Some(2));
        let joined = turnstile.join(|limit| limit - 2, |_| later(), now(), Waker::noop());
        assert_eq!(joined, Joined::Full);
    }

    #[test]
    fn the_first_who_waits_is_the_next_and_nobody_overtakes() {
        let turnstile = Turnstile::new(1);
        turnstile.enter();
        let (first, second) = (wait(&turnstile, later()), wait(&turnstile, later()));
        turnstile.exit(now);
        assert!(is_inside(&turnstile, first) && !is_inside(&turnstile, second));
        assert_eq!((turnstile.enter(), turnstile.look()), (None, (1, 1, 1)));
        turnstile.exit(now);
        assert!(is_inside(&turnstile, second));
        assert_eq!(turnstile.look(), (1, 1, 0));
        turnstile.exit(now);
        assert_eq!(turnstile.enter(), Some(1), "nobody waits any more");
    }

    #[test]
    fn who_is_let_in_is_woken_by_its_latest_waker() {
        let turnstile = Turnstile::new(1);
        turnstile.enter();
        let ticket = wait(&turnstile, later());
        let count = Arc::new(Count::default());
        assert!(!turnstile.is_inside(ticket, &Waker::from(Arc::clone(&count))));
        turnstile.exit(now);
        assert_eq!(count.0.load(SeqCst), 1);
    }

    #[test]
    fn who_leaves_makes_room_in_the_queue_and_takes_no_place() {
        let turnstile = Turnstile::new(1);
        turnstile.enter();
        let (first, second) = (wait(&turnstile, later()), wait(&turnstile, later()));
        assert!(!turnstile.leave(first));
        turnstile.exit(now);
        assert!(is_inside(&turnstile, second));
        assert!(turnstile.leave(second), "it was let in already, and goes out");
        turnstile.exit(now);
        assert_eq!((turnstile.look(), turnstile.is_full()), ((0, 1, 0), false));
    }

    #[test]
    fn who_is_late_is_passed_over() {
        let turnstile = Turnstile::new(1);
        turnstile.enter();
        let now = now();
        let (late, early) = (wait(&turnstile, now), wait(&turnstile, later()));
        // At the very end of its time.
        turnstile.exit(|| now);
        assert!(!is_inside(&turnstile, late) && is_inside(&turnstile, early));
        turnstile.exit(|| now);
        assert_eq!(turnstile.look(), (0, 1, 1), "the late one has not left yet");
        // Whoever comes has to look at the queue, for one in it may not be late.
        assert!(turnstile.is_full() && turnstile.enter().is_none());
        let joined = turnstile.join(|_| 10, |_| later(), now, Waker::noop());
        assert_eq!(joined, Joined::Inside, "and keeps nobody out");
        assert!(!turnstile.leave(late));
    }

    #[test]
    fn a_greater_limit_lets_those_in_who_wait_and_a_smaller_one_throws_nobody_out() {
        let turnstile = Turnstile::new(1);
        turnstile.enter();
        let tickets: Vec<u64> = (0..3).map(|_| wait(&turnstile, later())).collect();
        turnstile.resize(|| 3, now());
        let inside: Vec<bool> =
            tickets.iter().map(|&ticket| is_inside(&turnstile, ticket)).collect();
        assert_eq!(inside, [true, true, false]);
        turnstile.resize(|| 1, now());
        assert_eq!(turnstile.look(), (3, 1, 1));
        for still in [2, 1, 1] {
            turnstile.exit(now);
            assert_eq!(turnstile.look().0, still);
        }
        assert!(is_inside(&turnstile, tickets[2]));
    }

    #[test]
    fn tells_who_begins_to_wait_since_when_there_is_a_queue() {
        let (turnstile, start) = (Turnstile::new(1), now());
        turnstile.enter();
        let mut seen = Vec::new();
        for second in 0..3 {
            let now = start + Duration::from_secs(second);
            turnstile.join(
                |_| 10,
                |since| {
                    seen.push(since);
                    later()
                },
                now,
                Waker::noop(),
            );
        }
        assert_eq!(seen, [None, Some(start), Some(start)]);
        assert!((0..3).all(|ticket| !turnstile.leave(ticket)));
        turnstile.join(
            |_| 10,
            |since| {
                seen.push(since);
                later()
            },
            start,
            Waker::noop(),
        );
        assert_eq!(seen[3], None);
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`: every order in which two or three
/// threads can go in, wait, leave and go out.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::time::now;

    fn later() -> Instant {
        now() + std::time::Duration::from_secs(3600)
    }

    fn join(turnstile: &Turnstile) -> Joined {
        turnstile.join(|_| 10, |_| later(), now(), Waker::noop())
    }

    #[test]
    fn a_place_that_is_given_up_while_somebody_begins_to_wait_is_not_lost() {
        loom::model(|| {
            let turnstile = Arc::new(Turnstile::new(1));
            turnstile.enter().expect("it is empty");
            let other = Arc::clone(&turnstile);
            let leaving = thread::spawn(move || other.exit(now));
            let joined = match turnstile.enter() {
                Some(_) => Joined::Inside,
                None => join(&turnstile),
            };
            leaving.join().expect("it only goes out");
            if let Joined::Waiting(ticket, _) = joined {
                assert!(turnstile.is_inside(ticket, Waker::noop()), "nobody would wake it");
            }
            turnstile.exit(now);
            assert_eq!(turnstile.look(), (0, 1, 0));
        });
    }

    #[test]
    fn who_leaves_while_it_is_let_in_gives_its_place_back() {
        loom::model(|| {
            let turnstile = Arc::new(Turnstile::new(1));
            turnstile.enter().expect("it is empty");
            let Joined::Waiting(ticket, _) = join(&turnstile) else { panic!("it is full") };
            let other = Arc::clone(&turnstile);
            let leaving = thread::spawn(move || other.exit(now));
            if turnstile.leave(ticket) {
                turnstile.exit(now);
            }
            leaving.join().expect("it only goes out");
            assert_eq!((turnstile.look(), turnstile.is_full()), ((0, 1, 0), false));
        });
    }

    #[test]
    fn never_more_are_inside_than_may_be() {
        loom::model(|| {
            let turnstile = Arc::new(Turnstile::new(1));
            let go_through = |turnstile: &Turnstile| {
                if let Some(inside) = turnstile.enter() {
                    assert_eq!(inside, 1);
                    turnstile.exit(now);
                }
            };
            let other = Arc::clone(&turnstile);
            let coming = thread::spawn(move || go_through(&other));
            go_through(&turnstile);
            coming.join().expect("it only goes through");
            assert_eq!(turnstile.look(), (0, 1, 0));
        });
    }

    #[test]
    fn nobody_overtakes_who_waits_while_a_place_changes_hands() {
        loom::model(|| {
            let turnstile = Arc::new(Turnstile::new(1));
            turnstile.enter().expect("it is empty");
            let Joined::Waiting(ticket, _) = join(&turnstile) else { panic!("it is full") };
            let other = Arc::clone(&turnstile);
            let leaving = thread::spawn(move || other.exit(now));
            assert_eq!(turnstile.enter(), None);
            leaving.join().expect("it only goes out");
            assert!(turnstile.is_inside(ticket, Waker::noop()));
            assert_eq!(turnstile.look(), (1, 1, 0));
        });
    }

    #[test]
    fn a_greater_limit_finds_who_begins_to_wait() {
        loom::model(|| {
            let turnstile = Arc::new(Turnstile::new(1));
            turnstile.enter().expect("it is empty");
            let other = Arc::clone(&turnstile);
            let raising = thread::spawn(move || other.resize(|| 2, now()));
            let joined = join(&turnstile);
            raising.join().expect("it only raises");
            if let Joined::Waiting(ticket, _) = joined {
                assert!(turnstile.is_inside(ticket, Waker::noop()), "nobody would wake it");
            }
            assert_eq!(turnstile.look(), (2, 2, 0));
        });
    }
}
