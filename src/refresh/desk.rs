//! Where calls wait for the one credential that is being fetched.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use super::{
    Awaited, Held, Keeper, Refresh, RefreshConfig, RefreshTimedOut, Refusal,
    error::{Cause, Panicked, WaitsForItself},
    waiters::{Place, Waiters},
};
use crate::{
    call::apart,
    error::BoxError,
    event::{Event, Observer},
    sync::{Mutex, lock},
    time::now,
};

/// What all calls of a layer share: the credential, and the fetching of the next.
///
/// No task of its own does that, and no call in particular: the fetching lies here, and whichever
/// of the waiting calls is polled carries it on. So a call that is dropped takes nothing away
/// from the others, and a fetching that all have left is carried on by the next who needs it;
/// it would be a pity about a token that may be asked for only once.
pub(super) struct Desk<C, F> {
    inner: Mutex<Inner<C, F>>,
    waiters: Arc<Waiters>,
    limit: Duration,
    observer: Observer,
}

struct Inner<C, F> {
    keeper: Keeper<C, Cause>,
    /// The fetching under way, unless somebody polls it just now.
    fetching: Option<Pin<Box<F>>>,
    /// Which it is: what another one brings is not wanted any more.
    number: u64,
    began: Instant,
    /// Who polls it just now.
    polled_by: Option<ThreadId>,
    /// Somebody came for it while it was being polled.
    missed: bool,
}

/// What follows a refusal.
pub(super) enum Next {
    /// Another try, with the credential that holds now.
    Repeat,
    /// A wait.
    Wait(Place),
    /// The refusal is the answer.
    Stands,
    Failed(Cause),
}

impl<C, F> Desk<C, F>
where
    C: Clone,
    F: Future<Output = Result<C, BoxError>>,
{
    pub(super) fn new(first: Option<C>, config: &RefreshConfig) -> Self {
        let inner = Inner {
            keeper: Keeper::new(first, config.limit, config.pause),
            fetching: None,
            number: 0,
            began: now(),
            polled_by: None,
            missed: false,
        };
        Self {
            inner: Mutex::new(inner),
            waiters: Arc::default(),
            limit: config.limit,
            observer: config.observer.clone(),
        }
    }

    /// The credential for a call.
    pub(super) fn held(&self) -> Held<C> {
        lock(&self.inner).keeper.held()
    }

    /// Decides on a refusal of the credential of this `generation`.
    pub(super) fn refused<R>(&self, generation: u64, refresh: &R, now: Instant) -> Next
    where
        R: Refresh<Credential = C, Future = F>,
    {
        let mut inner = lock(&self.inner);
        match inner.keeper.refused(generation, now) {
            Refusal::Repeat(_) => Next::Repeat,
            Refusal::Wait => Next::Wait(self.waiters.join()),
            Refusal::Stands => Next::Stands,
            Refusal::Failed(cause) => Next::Failed(cause),
            Refusal::Fetch => {
                let old = inner.keeper.held().credential;
                inner.number += 1;
                inner.began = now;
                inner.polled_by = Some(thread::current().id());
                let (number, abandoned) = (inner.number, inner.fetching.take());
                drop(inner);
                // The program's own code, which may come back here: not under the lock.
                drop(abandoned);
                let place = self.waiters.join();
                let unwinding = Unwinding { desk: self, number };
                let fetching = Box::pin(refresh.refresh(old));
                std::mem::forget(unwinding);
                self.put_back(number, fetching);
                // Whoever came in between found nothing to carry on.
                self.waiters.wake_all();
                Next::Wait(place)
            }
        }
    }

    /// Waits in `place` for a credential newer than that of `generation`, and carries on the
    /// fetching of it. While it is pending, says until when at the latest.
    pub(super) fn poll(
        &self,
        place: &Place,
        generation: u64,
        cx: &mut Context<'_>,
    ) -> Result<(), Waiting> {
        place.register(cx.waker());
        let at = now();
        let mut inner = lock(&self.inner);
        let expires = match inner.keeper.awaited(generation, at) {
            Awaited::Renewed(_) => return Ok(()),
            Awaited::Failed(cause) => return Err(Waiting::Failed(cause)),
            Awaited::UnderWay(expires) => expires,
            Awaited::Expired => {
                let number = inner.number;
                drop(inner);
                let error = RefreshTimedOut::new(self.limit);
                return Err(Waiting::Failed(self.fail(number, error.into())));
            }
        };
        let this_thread = thread::current().id();
        let Some(mut fetching) = inner.fetching.take() else {
            // Two polls on one thread, one within the other.
            if inner.polled_by == Some(this_thread) {
                return Err(Waiting::Failed(Cause::new(WaitsForItself.into())));
            }
            inner.missed = true;
            return Err(Waiting::Until(expires));
        };
        inner.polled_by = Some(this_thread);
        let number = inner.number;
        drop(inner);

        let unwinding = Unwinding { desk: self, number };
        let waker = Waker::from(Arc::clone(&self.waiters));
        // It is no part of this call, whose trail stays as it is.
        let fetched = apart(|| fetching.as_mut().poll(&mut Context::from_waker(&waker)));
        std::mem::forget(unwinding);
        match fetched {
            Poll::Ready(Ok(credential)) => {
                drop(fetching);
                self.renew(number, credential);
                match lock(&self.inner).keeper.awaited(generation, now()) {
                    Awaited::Renewed(_) => Ok(()),
                    // It came too late, and another one is being fetched.
                    _ => {
                        cx.waker().wake_by_ref();
                        Err(Waiting::Until(expires))
                    }
                }
            }
            Poll::Ready(Err(error)) => {
                drop(fetching);
                Err(Waiting::Failed(self.fail(number, error)))
            }
            Poll::Pending => {
                // What somebody was woken for, who came while it was away, is not lost.
                if self.put_back(number, fetching) {
                    cx.waker().wake_by_ref();
                }
                Err(Waiting::Until(expires))
            }
        }
    }

    /// Lays it where the next who is polled finds it, and says whether somebody looked for it
    /// meanwhile.
    fn put_back(&self, number: u64, fetching: Pin<Box<F>>) -> bool {
        let mut inner = lock(&self.inner);
        if inner.number != number {
            // Another one lies there, or none is wanted. Dropped without the lock.
            drop(inner);
            return true;
        }
        inner.fetching = Some(fetching);
        inner.polled_by = None;
        std::mem::take(&mut inner.missed)
    }

    fn renew(&self, number: u64, credential: C) {
        let at = now();
        let mut inner = lock(&self.inner);
        if inner.number != number {
            return;
        }
        inner.keeper.renewed(credential, at);
        let took = at.saturating_duration_since(inner.began);
        drop(inner);
        self.observer.on(|| Event::CredentialRefreshed { took });
        self.waiters.wake_all();
    }

    /// Ends the fetching of this `number` with an error, for all who wait. One that has ended
    /// otherwise meanwhile is left as it is.
    fn fail(&self, number: u64, error: BoxError) -> Cause {
        let cause = Cause::new(error);
        let mut inner = lock(&self.inner);
        if inner.number != number {
            return cause;
        }
        // Whoever polls it just now brings it back in vain.
        inner.number += 1;
        inner.keeper.failed(cause.clone(), now());
        let abandoned = inner.fetching.take();
        drop(inner);
        drop(abandoned);
        self.observer.on(|| Event::CredentialRefreshFailed(cause.error()));
        self.waiters.wake_all();
        cause
    }
}

/// Why there is no credential yet.
pub(super) enum Waiting {
    /// It is being fetched, until then at the latest.
    Until(Instant),
    Failed(Cause),
}

/// The program's own code panics: nobody is to wait for what it was about to fetch.
struct Unwinding<'a, C, F>
where
    C: Clone,
    F: Future<Output = Result<C, BoxError>>,
{
    desk: &'a Desk<C, F>,
    number: u64,
}

impl<C, F> Drop for Unwinding<'_, C, F>
where
    C: Clone,
    F: Future<Output = Result<C, BoxError>>,
{
    fn drop(&mut self) {
        self.desk.fail(self.number, Panicked.into());
    }
}
