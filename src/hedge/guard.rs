//! What a call holds of the pacer and the budget, and gives back however it ends.

use std::{sync::Arc, time::Instant};

use super::{layer::Shared, state::Unhedged};
use crate::{
    algo::bucket::{Class, Withdrawal},
    call::Asked,
    classify::Verdict,
    event::Event,
    sync::lock,
    time::now,
};

/// Sees to it that a first attempt is counted, however it ends.
pub(super) struct Watch<Cl> {
    pub(super) shared: Arc<Shared<Cl>>,
    pub(super) asked: Asked,
    pub(super) began: Instant,
    counted: bool,
}

impl<Cl> Watch<Cl> {
    pub(super) const fn new(shared: Arc<Shared<Cl>>, asked: Asked, began: Instant) -> Self {
        Self { shared, asked, began, counted: false }
    }

    /// The first attempt has ended, or was cut. `balanced`: a balancer chose its endpoint.
    pub(super) fn count(&mut self, verdict: Verdict, balanced: bool, now: Instant) {
        if !std::mem::replace(&mut self.counted, true) {
            let took = now.saturating_duration_since(self.began);
            lock(&self.shared.pacer).ended(took, verdict, balanced, now);
        }
    }

    /// Asks for a second attempt, now that one is due.
    pub(super) fn ask(&self) -> Result<Ticket<Cl>, Unhedged> {
        let now = now();
        lock(&self.shared.pacer).ask(now)?;
        let shared = Arc::clone(&self.shared);
        let mut ticket = Ticket { shared, withdrawal: None, number: 0, over: false };
        if let Some(budget) = &self.shared.config.budget {
            // Without it, the ticket gives back what the pacer has granted.
            let paid = budget.withdraw_spare(Class::Transient, now).ok_or(Unhedged::Budget)?;
            ticket.withdrawal = Some(paid);
        }
        Ok(ticket)
    }

    /// Tells that a second attempt was due and is not made.
    pub(super) fn refused(&self, reason: Unhedged) {
        self.shared.config.observer.on(|| Event::NotHedged { reason: reason.code() });
    }
}

impl<Cl> Drop for Watch<Cl> {
    fn drop(&mut self) {
        if !self.counted {
            let now = now();
            self.count(self.asked.dropped(now), false, now);
        }
    }
}

/// A second attempt that was granted; gives back what was paid if it is not made.
pub(super) struct Ticket<Cl> {
    shared: Arc<Shared<Cl>>,
    withdrawal: Option<Withdrawal>,
    /// The second attempt's; 0 until it is made.
    number: u32,
    over: bool,
}

impl<Cl> Ticket<Cl> {
    /// The second attempt is made now.
    pub(super) fn made(&mut self, number: u32, began: Instant, watch: &Watch<Cl>) {
        self.number = number;
        let delay = began.saturating_duration_since(watch.began);
        self.shared.config.observer.on(|| Event::Hedged { attempt: number, delay });
    }

    pub(super) const fn is_made(&self) -> bool {
        self.number != 0
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// The race is over. A second attempt that won gives back what it cost the retries.
    pub(super) fn settle(&mut self, winner: Winner) {
        if !self.is_made() || std::mem::replace(&mut self.over, true) {
            return;
        }
        if let (Some(budget), Some(paid)) = (&self.shared.config.budget, self.withdrawal.take()) {
            budget.settle(paid, winner == Winner::Second);
        }
        let (attempt, winner) = (self.number, winner.code());
        self.shared.config.observer.on(|| Event::HedgeEnded { attempt, winner });
    }
}

impl<Cl> Drop for Ticket<Cl> {
    fn drop(&mut self) {
        if self.is_made() {
            self.settle(Winner::Dropped);
            return;
        }
        lock(&self.shared.pacer).give_back();
        if let (Some(budget), Some(paid)) = (&self.shared.config.budget, self.withdrawal.take()) {
            budget.refund(paid);
        }
    }
}

/// Who won a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Winner {
    First,
    Second,
    /// Both failed.
    Neither,
    /// The call was given up.
    Dropped,
}

impl Winner {
    const fn code(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Neither => "neither",
            Self::Dropped => "dropped",
        }
    }
}
