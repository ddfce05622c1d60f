//! The timers that nobody waits for.
//!
//! A thread keeps those that its last sleeps left, at most 32, in a list of its own that takes no
//! lock. Until an idle timer is taken, or goes, it keeps
//!
//! - its place in the runtime's wheel, where it comes up once, in vain, at the instant for which it
//!   was set last; if another sleep has taken it by then, that one's task is woken, and sets it anew;
//! - until then the waker of who polled it last. That task may be woken once for nothing, and the
//!   memory of its state is kept; what its future held is not, since an executor drops a future
//!   that is done. A waker of our own in between would keep nothing of it, and cost nearly half of
//!   what the idle timers save;
//! - its runtime's handle, and with it what tokio keeps behind that: memory, and the descriptors of
//!   its driver, but no task, and no thread. Those of a runtime that has ended go when their thread
//!   sleeps in another one, or ends. The workers of a runtime end with it.
//!
//! A task that sleeps again mostly finds the timer that it has just left, which would still wake it:
//! then nothing has to be said to tokio. For a call from a task that makes one after the other, this
//! is six atomic operations that threads would contend for, or would not need. Only then is a timer
//! of another runtime taken: by a task that sleeps within the context of one
//! ([`Handle::enter`](tokio::runtime::Handle::enter)), and then outside of it. If nobody drives that
//! one, it does not come up; if that one ends meanwhile, who waits is told so by a panic, as tokio does.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::{self, Handle},
    task::coop,
};

/// As many are kept on each thread. A thread has one in use for each call that it has in flight,
/// and between the end of one and the beginning of the next few are idle.
const MOST: usize = 32;

/// Among so many that were left last a task looks for its own.
const LOOKED_AT: usize = 4;

thread_local! {
    static IDLE: RefCell<Idle> =
        const { RefCell::new(Idle { runtime: None, timers: VecDeque::new() }) };
}

/// A timer of a runtime, to be set as often as one likes.
// One word, since it moves with whatever waits.
#[derive(Debug)]
pub(super) struct Timer {
    inner: Pin<Box<Inner>>,
}

pin_project! {
    #[derive(Debug)]
    struct Inner {
        #[pin]
        sleep: tokio::time::Sleep,
        runtime: runtime::Id,
        // Whom it wakes when it comes up. None if nobody has said so since it was set.
        wakes: Option<Waiter>,
    }
}

/// Who waits: a task of tokio. Its address is that of no other one for as long as the timer keeps its
/// waker, which is until it comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiter(usize);

impl Waiter {
    /// None unless a task of tokio is polled as a whole. What else wakes may belong to a thread, in
    /// whatever runtime that is, or to one of several futures that a task polls; and the address of
    /// a clone of it may be another.
    #[inline]
    fn of(waker: &Waker) -> Option<Self> {
        (TASKS.get() == Some(&vtable(waker))).then(|| Self(waker.data().addr()))
    }
}

fn vtable(waker: &Waker) -> usize {
    let vtable: *const _ = waker.vtable();
    vtable.addr()
}

/// Where the table of the wakers of tokio's tasks is. Until it is known nobody is.
static TASKS: OnceLock<usize> = OnceLock::new();

/// Learns it: to be awaited in what is a task of tokio by itself, and so polled by its own waker.
pub(crate) async fn know_tasks() {
    poll_fn(|cx| {
        let _ = TASKS.set(vtable(cx.waker()));
        Poll::Ready(())
    })
    .await;
}

impl Timer {
    /// One that comes up at `at` or before, and has been polled: of the current runtime, or of the
    /// one in which this task slept last.
    #[inline]
    pub(super) fn begin(at: Instant, cx: &mut Context<'_>) -> (Self, Poll<()>) {
        let again = Waiter::of(cx.waker()).and_then(|waiter| {
            IDLE.try_with(|idle| idle.borrow_mut().take_again(waiter, at)).ok().flatten()
        });
        match again {
            Some(timer) => (timer, Poll::Pending),
            None => {
                let mut timer = Self::take(at);
                let polled = timer.poll(at, cx);
                (timer, polled)
            }
        }
    }

    /// One of the current runtime that comes up at `at` or before. It is to be polled: nothing says
    /// that tokio keeps a waker when a timer is set anew (of its two kinds of timers one does).
    fn take(at: Instant) -> Self {
        // To learn the current runtime costs a clone of its handle. But a timer of another one may
        // have nobody who drives it.
        let runtime = Handle::current().id();
        // Set, made and dropped while nothing is borrowed: any of it may run what others put into
        // a waker, and that may drop a sleep.
        match IDLE.try_with(|idle| idle.borrow_mut().take(runtime)) {
            Ok(Ok(mut timer)) => {
                if timer.inner.deadline() > at {
                    timer.inner.as_mut().set(at);
                }
                timer
            }
            Ok(Err(_)) | Err(_) => {
                let sleep = tokio::time::sleep_until(at.into());
                Self { inner: Box::pin(Inner { sleep, runtime, wakes: None }) }
            }
        }
    }

    /// Keeps it for who takes one next, if that may be on this thread; else it goes.
    pub(super) fn leave(self) {
        // Dropped as above. A thread that ends keeps none.
        drop(IDLE.try_with(|idle| idle.borrow_mut().leave(self)));
    }

    /// Whether it is `at`, for which it was taken.
    #[inline]
    pub(super) fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.as_mut();
        ready!(inner.as_mut().poll(cx));
        // It was set for a sleep before this one, and has come up in vain.
        if inner.deadline() < at {
            inner.as_mut().set(at);
            return inner.poll(cx);
        }
        Poll::Ready(())
    }
}

impl Inner {
    fn deadline(&self) -> Instant {
        self.sleep.deadline().into_std()
    }

    fn set(self: Pin<&mut Self>, at: Instant) {
        let this = self.project();
        *this.wakes = None;
        this.sleep.reset(at.into());
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // A task without budget is woken at once, and not let at the timer.
        let heard = coop::has_budget_remaining();
        let polled = this.sleep.poll(cx);
        *this.wakes = if heard { Waiter::of(cx.waker()) } else { None };
        polled
    }

    /// Whether it would wake this one, at `at` or before, without being polled.
    ///
    /// One whose runtime has ended has come up, as one has that has woken somebody already. Whoever
    /// was woken by it sees that it came up, since its task was woken after.
    #[inline]
    fn would_wake(&self, waiter: Waiter, at: Instant) -> bool {
        self.wakes == Some(waiter) && self.deadline() <= at && !self.sleep.is_elapsed()
    }
}

/// The idle timers of one thread, all of the runtime in which it asked for one last.
#[derive(Debug)]
struct Idle {
    runtime: Option<runtime::Id>,
    /// The one that was left first is taken first. Of two waits, one within the other, the inner
    /// one begins first and ends first, so each gets the timer back that it left; in the other
    /// order they would swap them in every call, and one of the two is then set for an earlier
    /// instant, which takes the lock.
    timers: VecDeque<Timer>,
}

impl Idle {
    /// One that this task left, and that would wake it in time.
    #[inline]
    fn take_again(&mut self, waiter: Waiter, at: Instant) -> Option<Timer> {
        let last = self.timers.len().saturating_sub(LOOKED_AT)..self.timers.len();
        let own = last.rev().find(|&nth| self.timers[nth].inner.would_wake(waiter, at))?;
        self.timers.swap_remove_back(own)
    }

    /// One that is left; or all that are of no use any more.
    #[inline]
    fn take(&mut self, runtime: runtime::Id) -> Result<Timer, VecDeque<Timer>> {
        if self.runtime == Some(runtime) {
            return self.timers.pop_front().ok_or_else(VecDeque::new);
        }
        self.runtime = Some(runtime);
        Err(mem::take(&mut self.timers))
    }

    /// Gives back what it doesn't keep.
    #[inline]
    fn leave(&mut self, timer: Timer) -> Option<Timer> {
        if self.runtime != Some(timer.inner.runtime) || self.timers.len() >= MOST {
            return Some(timer);
        }
        self.timers.push_back(timer);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
        task::{Wake, Waker},
        thread,
        time::Duration,
    };

    use tokio::{
        runtime::{Builder, Runtime},
        task::coop,
        time::timeout,
    };

    use super::*;
    use crate::{
        sync::{Mutex, lock},
        time::{Sleep, now},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn runtime() -> Runtime {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("it needs no descriptor")
    }

    fn within<T>(runtime: &Runtime, act: impl FnOnce() -> T) -> T {
        let _within = runtime.enter();
        act()
    }

    /// One that was polled, and waits.
    fn begun(at: Instant) -> Sleep {
        begun_by(Waker::noop(), at)
    }

    fn begun_by(waker: &Waker, at: Instant) -> Sleep {
        let mut sleep = Sleep::until(at);
        assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(waker)).is_pending());
        sleep
    }

    /// How many timers this thread keeps.
    fn idle() -> usize {
        IDLE.with(|idle| idle.borrow().timers.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_with_a_timer_that_was_left_ends_at_its_own_instant() {
        for (last, next) in [(1, 3), (3, 1)] {
            let began = now();
            drop(begun(began + last * SECOND));
            assert_eq!(idle(), 1);
            let sleep = begun(began + next * SECOND);
            assert_eq!(idle(), 0);
            sleep.await;
            assert_eq!(now() - began, next * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_does_one_with_a_timer_whose_time_has_come() {
        let began = now();
        Sleep::until(began + SECOND).await;
        drop(begun(began + 2 * SECOND));
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(idle(), 1);
        Sleep::until(began + 7 * SECOND).await;
        assert_eq!(now() - began, 7 * SECOND);
    }

    /// A task without budget is not let at tokio's timer, so none is registered.
    #[tokio::test(start_paused = true)]
    async fn so_does_one_with_a_timer_that_was_never_registered() {
        let began = now();
        poll_fn(|cx| {
            for _ in 0..1_000 {
                let Poll::Ready(budget) = coop::poll_proceed(cx) else { break };
                budget.made_progress();
            }
            assert!(!coop::has_budget_remaining());
            drop(begun(began));
            Poll::Ready(())
        })
        .await;
        assert_eq!(idle(), 1);
        Sleep::until(began + SECOND).await;
        assert_eq!(now() - began, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_waits_each_gets_its_own_timer_back() {
        let timer = |timer: &Timer| std::ptr::from_ref(&*timer.inner);
        let at = now();
        let (inner, outer) = (Timer::take(at + 2 * SECOND), Timer::take(at + SECOND));
        let left = [timer(&inner), timer(&outer)];
        inner.leave();
        outer.leave();
        let (inner, outer) = (Timer::take(at + 3 * SECOND), Timer::take(at + 2 * SECOND));
        assert_eq!([timer(&inner), timer(&outer)], left);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_keeps_only_so_many() {
        let sleeps: Vec<_> = (0..=MOST).map(|_| begun(now() + SECOND)).collect();
        drop(sleeps);
        assert_eq!(idle(), MOST);
    }

    #[test]
    fn a_timer_of_another_runtime_is_not_used() {
        let (other, own) = (runtime(), runtime());
        within(&other, || drop(begun(now() + SECOND)));
        assert_eq!(idle(), 1);
        // The other one is not driven any more: its timers never fire.
        let slept = own.block_on(async { timeout(9 * SECOND, Sleep::until(now() + SECOND)).await });
        assert_eq!(slept, Ok(()));
        assert_eq!(idle(), 1);
    }

    #[test]
    fn a_timer_of_another_runtime_is_not_kept() {
        let (other, own) = (runtime(), runtime());
        let sleep = within(&other, || begun(now() + SECOND));
        within(&own, || drop(begun(now() + SECOND)));
        drop(sleep);
        assert_eq!(idle(), 1);
    }

    /// What tokio's own timers do then: who polls one is told so by a panic, and who drops one, and
    /// who has left one, is not disturbed.
    #[test]
    fn in_a_runtime_that_has_ended_nobody_sleeps() {
        let ended = runtime();
        let handle = ended.handle().clone();
        let mut old = within(&ended, || {
            let (left, old) = (begun(now() + SECOND), begun(now() + SECOND));
            drop(left);
            old
        });
        drop(ended);
        let _within = handle.enter();
        let mut new = Sleep::until(now() + SECOND);
        for sleep in [&mut old, &mut new] {
            let mut cx = Context::from_waker(Waker::noop());
            let poll = AssertUnwindSafe(|| Pin::new(sleep).poll(&mut cx));
            assert!(catch_unwind(poll).is_err());
        }
        assert_eq!(idle(), 0);
        drop((old, new));

        runtime().block_on(async { Sleep::until(now() + SECOND).await });
        assert_eq!(idle(), 1);
    }

    #[test]
    fn a_timer_may_be_taken_on_one_thread_and_left_on_another() {
        let runtime = runtime();
        let _within = runtime.enter();
        let (began, handle) = (now(), runtime.handle());
        let (first, second) = (begun(began + SECOND), begun(began + SECOND));
        let third = thread::scope(|scope| {
            let there = scope.spawn(|| {
                // Who never sleeps here has no use for it.
                drop(first);
                assert_eq!(idle(), 0);

                let _within = handle.enter();
                drop(begun(began + SECOND));
                drop(second);
                assert_eq!(idle(), 2);
                begun(began + 2 * SECOND)
            });
            there.join().expect("it keeps what it has a use for")
        });
        runtime.block_on(third);
        assert_eq!(now() - began, 2 * SECOND);
    }

    /// Runs it as a task, which has an identity, for nine seconds at the most.
    fn in_a_task<F: Future<Output: Send> + Send + 'static>(future: F) -> Option<F::Output> {
        runtime().block_on(async {
            tokio::spawn(know_tasks()).await.expect("it only looks");
            let task = tokio::spawn(timeout(9 * SECOND, future));
            task.await.expect("it does not panic").ok()
        })
    }

    async fn begun_here(at: Instant) -> Sleep {
        poll_fn(|cx| {
            let mut sleep = Sleep::until(at);
            assert!(Pin::new(&mut sleep).poll(cx).is_pending());
            Poll::Ready(sleep)
        })
        .await
    }

    /// A task that has done this sleeps until so many seconds after it began, neither more nor less.
    fn sleeps_after<F>(seconds: u32, before: impl FnOnce(Instant) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let slept = in_a_task(async move {
            let began = now();
            before(began).await;
            Sleep::until(began + seconds * SECOND).await;
            now() - began
        });
        assert_eq!(slept, Some(seconds * SECOND));
    }

    fn address(sleep: &Sleep) -> usize {
        sleep.timer().map_or(0, |timer| std::ptr::from_ref(&*timer.inner).addr())
    }

    #[test]
    fn a_task_that_sleeps_again_finds_its_own_timer_and_is_woken_by_it() {
        let slept = in_a_task(async {
            let began = now();
            let mine = begun_here(began + SECOND).await;
            let own = address(&mine);
            drop(mine);
            // Those that others left are older and younger.
            drop([begun(began + SECOND), begun(began + SECOND)]);
            let again = begun_here(began + 3 * SECOND).await;
            assert_eq!(address(&again), own);
            again.await;
            now() - began
        });
        assert_eq!(slept, Some(3 * SECOND));
    }

    #[test]
    fn a_task_looks_for_its_own_timer_among_a_few() {
        in_a_task(async {
            let at = now() + SECOND;
            let (oldest, mine) = (begun(at), begun_here(at).await);
            let others: [Sleep; LOOKED_AT] = std::array::from_fn(|_| begun(at));
            let first = address(&oldest);
            drop((oldest, mine, others));
            assert_eq!(address(&begun_here(at).await), first);
            // Now it has left this one last.
            assert_eq!(address(&begun_here(at).await), first);
        })
        .expect("nobody waits");
    }

    #[test]
    fn outside_of_tasks_nobody_is_known_again() {
        runtime().block_on(async {
            drop(begun_here(now() + SECOND).await);
            IDLE.with_borrow(|idle| assert_eq!(idle.timers[0].inner.wakes, None));
        });
    }

    #[test]
    fn a_task_whose_timer_is_set_too_late_sets_one() {
        sleeps_after(1, |began| async move { drop(begun_here(began + 3 * SECOND).await) });
    }

    #[test]
    fn a_task_whose_timer_has_come_up_in_vain_sets_one() {
        sleeps_after(3, |began| async move {
            drop(begun_here(began + SECOND).await);
            tokio::time::sleep(2 * SECOND).await;
        });
    }

    #[test]
    fn a_timer_that_would_wake_another_task_is_told_whom_to_wake() {
        sleeps_after(2, |began| async move {
            let other = tokio::spawn(async move { drop(begun_here(began + SECOND).await) });
            other.await.expect("it only begins");
            assert_eq!(idle(), 1);
        });
    }

    /// As futures do that poll several, and give each a waker of its own.
    #[test]
    fn so_is_one_that_would_wake_a_part_of_this_task() {
        sleeps_after(2, |began| async move { drop(begun(began + SECOND)) });
    }

    #[test]
    fn so_is_one_that_was_polled_by_this_task_without_budget() {
        sleeps_after(2, |began| async move {
            poll_fn(|cx| {
                while let Poll::Ready(budget) = coop::poll_proceed(cx) {
                    budget.made_progress();
                }
                let mut sleep = Sleep::until(began + SECOND);
                assert!(Pin::new(&mut sleep).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(idle(), 1);
            tokio::task::yield_now().await;
        });
    }

    #[test]
    fn whom_a_timer_wakes_is_forgotten_when_it_is_set() {
        in_a_task(async {
            let began = now();
            drop(begun_here(began + 3 * SECOND).await);
            IDLE.with_borrow(|idle| assert!(idle.timers[0].inner.wakes.is_some()));
            assert_eq!(Timer::take(began + SECOND).inner.wakes, None);
        })
        .expect("nobody waits");
    }

    /// Such as that by which a thread blocks, now on the one runtime and then on the other.
    #[test]
    fn whoever_is_no_task_is_not_known_again() {
        in_a_task(async {}).expect("nobody waits");
        let (other, own) = (runtime(), runtime());
        let waker = holder_of(None);
        let theirs = within(&other, || begun_by(&waker, now() + SECOND));
        let left = address(&theirs);
        drop(theirs);
        assert_eq!(idle(), 1);
        assert_ne!(within(&own, || address(&begun_by(&waker, now() + 2 * SECOND))), left);
    }

    #[test]
    fn a_timer_of_a_runtime_that_has_ended_is_not_taken_again() {
        sleeps_after(2, |began| async move {
            let other = runtime();
            poll_fn(|cx| {
                let waker = cx.waker().clone();
                within(&other, || drop(begun_by(&waker, began + SECOND)));
                Poll::Ready(())
            })
            .await;
            other.shutdown_background();
        });
    }

    /// In which order a thread drops what it keeps is not ours to say: one of the two is dropped
    /// when the idle timers have gone, or both are when they have not.
    #[test]
    fn a_thread_that_ends_drops_what_sleeps() {
        thread_local! {
            static FIRST: RefCell<Option<Sleep>> = const { RefCell::new(None) };
            static LAST: RefCell<Option<Sleep>> = const { RefCell::new(None) };
        }
        let ended = thread::spawn(|| {
            let runtime = runtime();
            let _within = runtime.enter();
            FIRST.set(None);
            let sleep = begun(now() + SECOND);
            LAST.set(Some(begun(now() + SECOND)));
            FIRST.set(Some(sleep));
            drop(begun(now() + SECOND));
        });
        assert!(ended.join().is_ok());
    }

    /// A waker that drops a sleep when it is woken, and when it goes.
    struct Holder(Mutex<Option<Sleep>>);

    impl Wake for Holder {
        fn wake(self: Arc<Self>) {
            let sleep = lock(&self.0).take();
            drop(sleep);
        }
    }

    fn holder() -> Waker {
        holder_of(Some(begun(now() + SECOND)))
    }

    fn holder_of(sleep: Option<Sleep>) -> Waker {
        Waker::from(Arc::new(Holder(Mutex::new(sleep))))
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_woken_when_a_timer_is_set_may_drop_a_sleep() {
        drop(begun_by(&holder(), now() + SECOND));
        // Its time has come when it is set, and tokio calls the last waker.
        let now = Sleep::until(now());
        let mut now = std::pin::pin!(now);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(now.as_mut().poll(&mut cx).is_ready());
        assert_eq!(idle(), 1);
    }

    #[test]
    fn a_waker_that_goes_with_its_runtimes_timers_may_drop_a_sleep() {
        let (other, own) = (runtime(), runtime());
        within(&other, || drop(begun_by(&holder(), now() + SECOND)));
        within(&own, || drop(begun(now() + SECOND)));
        assert_eq!(idle(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_that_goes_with_one_timer_too_many_may_drop_a_sleep() {
        let held = begun_by(&holder(), now() + SECOND);
        let sleeps: Vec<_> = (0..MOST).map(|_| begun(now() + SECOND)).collect();
        drop(sleeps);
        drop(held);
        assert_eq!(idle(), MOST);
    }
}
