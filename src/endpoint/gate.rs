//! Who may call an endpoint now.

use std::{
    error::Error as StdError,
    fmt,
    time::{Duration, Instant},
};

use crate::classify::{Blame, Mark, Pushback, Retry, Sent, Verdict};

/// Admits calls to one endpoint, and learns what became of them. A circuit breaker is one.
///
/// Admission is one step: what [`Gate::admit`] granted is granted. The balancer keeps the ticket
/// beside the endpoint that its gate belongs to, and gives it back with the call's verdict, once,
/// whatever becomes of the call: one that its caller gave up or that the deadline cut off has a
/// verdict as well ([`Asked::dropped`](crate::call::Asked::dropped)). So a ticket needs no reference to its gate.
pub trait Gate {
    /// What an admitted call holds.
    type Ticket;

    /// Whether a call is likely to be admitted. For choosing among endpoints, so it is cheap
    /// and promises nothing.
    fn is_open(&self, now: Instant) -> bool;

    /// Admits one call, or says when to ask again.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the endpoint is not to be called now.
    fn admit(&self, now: Instant) -> Result<Self::Ticket, Refusal>;

    /// Admits one call whatever the state: too few endpoints are left to be choosy.
    fn admit_anyway(&self, now: Instant) -> Self::Ticket;

    /// The head of the response, or an error, has come to a call that was admitted at `began`.
    fn answered(&self, ticket: &mut Self::Ticket, began: Instant, now: Instant) {
        let _ = (ticket, began, now);
    }

    /// The call is over, with this verdict. `now` reads the clock, for whom it matters.
    fn settle(
        &self,
        ticket: Self::Ticket,
        verdict: Verdict,
        began: Instant,
        now: impl FnOnce() -> Instant,
    );

    /// An active check found the endpoint healthy: what is closed to it may try sooner. It
    /// never lets everybody through by itself.
    fn found_healthy(&self, now: Instant);

    /// In which state it is and why, for operators; none where that has no meaning. Asking changes
    /// nothing.
    fn status(&self) -> Option<GateStatus> {
        None
    }
}

/// In which state a [`Gate`] is, why, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateStatus {
    /// A stable code: of a breaker those of [`State::code`](crate::breaker::State::code).
    pub state: &'static str,
    /// Why it came into this state, as a stable code; none of the state that it began in.
    pub reason: Option<&'static str>,
    /// Since when. What came about by time alone counts from when somebody noticed.
    pub since: Instant,
    /// Until when calls are refused, where that is known. May be over: then the next call is a
    /// probe.
    pub until: Option<Instant>,
}

impl GateStatus {
    /// In this state since then, nobody says why.
    #[must_use]
    pub const fn new(state: &'static str, since: Instant) -> Self {
        Self { state, reason: None, since, until: None }
    }

    /// For this reason, a stable code.
    #[must_use]
    pub const fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Calls are refused until then.
    #[must_use]
    pub const fn until(mut self, until: Instant) -> Self {
        self.until = Some(until);
        self
    }
}

/// A gate that is always open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Open;

impl Open {
    /// A gate that is always open.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Gate for Open {
    type Ticket = ();

    fn is_open(&self, _: Instant) -> bool {
        true
    }

    fn admit(&self, _: Instant) -> Result<(), Refusal> {
        Ok(())
    }

    fn admit_anyway(&self, _: Instant) {}

    fn settle(&self, (): (), _: Verdict, _: Instant, _: impl FnOnce() -> Instant) {}

    fn found_healthy(&self, _: Instant) {}
}

/// A call that was refused before it was sent, by this program itself.
///
/// It costs nothing: no attempt, no backoff, no budget, no blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// When to ask again, if that is known.
    pub retry_at: Option<Instant>,
    mark: Mark,
}

impl Refusal {
    /// Refused until `retry_at`.
    #[must_use]
    pub fn until(retry_at: Instant, now: Instant) -> Self {
        let wait = retry_at.saturating_duration_since(now);
        Self {
            retry_at: Some(retry_at),
            mark: Mark::new(REFUSED.with_pushback(Pushback::After(wait))),
        }
    }

    /// Refused, nobody knows for how long.
    #[must_use]
    pub const fn indefinite() -> Self {
        Self { retry_at: None, mark: Mark::new(REFUSED.with_pushback(Pushback::Never)) }
    }

    /// How long to wait, if that is known.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.retry_at.map(|at| at.saturating_duration_since(now))
    }
}

/// Nobody is to blame for a call that we did not make.
const REFUSED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the circuit breaker is open")
    }
}

impl StdError for Refusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}
