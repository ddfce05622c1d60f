//! What an admitted call holds.

use std::time::Instant;

use super::{handle::Breaker, state::Ticket};
use crate::{
    call::Asked,
    classify::{Settle, Verdict},
    endpoint::Gate,
    time,
};

/// The right to make one call, which takes the call's verdict back to the breaker that gave it.
///
/// Dropped without a verdict, it gives back what it holds: after the call's deadline as a
/// failure (we cut it off), before that as nothing at all (the caller gave up).
#[derive(Debug)]
#[must_use = "the call is over when its permit is dropped"]
pub struct Permit {
    breaker: Breaker,
    /// None once it is settled.
    ticket: Option<Ticket>,
    deadline: Option<Instant>,
    /// None if nobody asks how long it takes.
    began: Option<Instant>,
}

impl Permit {
    pub(super) const fn new(
        breaker: Breaker,
        ticket: Ticket,
        deadline: Option<Instant>,
        began: Option<Instant>,
    ) -> Self {
        Self { breaker, ticket: Some(ticket), deadline, began }
    }

    /// By now the answer has come; of what counts how long it takes, its head may have come before.
    fn give_back(&mut self, verdict: Verdict, now: Instant) {
        self.came(now);
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(ticket, verdict, self.began.unwrap_or(now), || now);
        }
    }

    fn came(&mut self, now: Instant) {
        if let Some(ticket) = &mut self.ticket {
            Gate::answered(&self.breaker, ticket, self.began.unwrap_or(now), now);
        }
    }
}

impl Settle for Permit {
    /// What takes long from here on may well be who reads it.
    fn answered(&mut self, _: Verdict) {
        if self.began.is_some() {
            self.came(time::now());
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        self.give_back(verdict, time::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let now = time::now();
            self.give_back(Asked::dropped_at(self.deadline, now), now);
        }
    }
}
