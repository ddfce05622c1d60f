//! What judges the service as a whole, and whom it lets pass.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use crate::{
    breaker::{self, Breaker},
    call::Asked,
    classify::{Settle, Verdict},
    error::BoxError,
    limit::{self, Entry, Limit},
    throttle::{self, Throttle},
    time::now,
};

/// What judges the service as a whole, where anything does.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) throttle: Option<Throttle>,
    pub(super) limit: Option<Limit>,
    pub(super) breaker: Option<Breaker>,
}

impl Doors {
    pub(super) const fn are_there(&self) -> bool {
        self.throttle.is_some() || self.limit.is_some() || self.breaker.is_some()
    }
}

/// The permits of the service's throttle, limit and breaker, where there are any.
// In a box: few services have one, and every attempt would carry the room.
#[derive(Debug, Default)]
pub struct ServicePermits {
    taken: Option<Box<Permits>>,
}

#[derive(Debug, Default)]
struct Permits {
    throttle: Option<throttle::Permit>,
    // The way into the limit.
    entry: Entry,
    place: Option<limit::Permit>,
    breaker: Option<breaker::Permit>,
}

impl ServicePermits {
    pub(super) const NONE: Self = Self { taken: None };

    /// Until it has passed all doors, where there are any. The throttle above the breaker: whom it
    /// refuses must not take a probe's place. The limit between them: who is refused does not wait
    /// first, and who waits holds no probe's place.
    #[inline(never)]
    pub(super) fn poll(
        &mut self,
        doors: &Doors,
        asked: Asked,
        judge: impl FnOnce(&BoxError) -> Verdict,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        let taken = self.taken.get_or_insert_default();
        if let (Some(throttle), None) = (&doors.throttle, &taken.throttle) {
            taken.throttle = Some(throttle.admit(asked, now())?);
        }
        if let (Some(limit), None) = (&doors.limit, &taken.place) {
            match ready!(taken.entry.poll(limit, asked, cx)) {
                Ok(place) => taken.place = Some(place),
                Err(error) => {
                    let error = error.into();
                    self.end(judge(&error));
                    return Poll::Ready(Err(error));
                }
            }
        }
        if let (Some(breaker), None) = (&doors.breaker, &taken.breaker) {
            taken.breaker = Some(breaker.enter(asked, now)?);
        }
        Poll::Ready(Ok(()))
    }

    /// The attempt is over with this verdict.
    pub(super) fn end(&mut self, verdict: Verdict) {
        mem::take(self).settle(verdict);
    }
}

impl Settle for ServicePermits {
    #[inline]
    fn answered(&mut self, head: Verdict) {
        if let Some(taken) = &mut self.taken {
            taken.answered(head);
        }
    }

    #[inline]
    fn settle(&mut self, verdict: Verdict) {
        if let Some(taken) = &mut self.taken {
            taken.settle(verdict);
        }
    }
}

impl Settle for Permits {
    #[inline(never)]
    fn answered(&mut self, head: Verdict) {
        self.throttle.answered(head);
        self.place.answered(head);
        self.breaker.answered(head);
    }

    #[inline(never)]
    fn settle(&mut self, verdict: Verdict) {
        self.throttle.settle(verdict);
        self.place.settle(verdict);
        self.breaker.settle(verdict);
    }
}
