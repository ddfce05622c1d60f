//! What a client looks like at one moment, for operators.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

#[cfg(feature = "hyper")]
use super::Client;
use super::{Roof, permits::Doors};
use crate::{
    balance::{BalanceSnapshot, GateSnapshot},
    budget::Budget,
    limit::{self, Limit},
    throttle,
    time::now,
};

/// A client at one moment: see [`Roof::snapshot`].
///
/// With the feature `serde` it can be serialised; spans are then whole milliseconds, in fields whose
/// names end in `_ms`, and the time of day those of Unix. What there is not is null. Fields may be
/// added, none is renamed within a major version.
///
/// It prints as a few lines and a table.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the service.
    pub service: String,
    /// When it was taken.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "taken_at_ms", serialize_with = "crate::time::unix_millis")
    )]
    pub taken_at: SystemTime,
    /// How long a whole call may take.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "deadline_ms", serialize_with = "crate::time::millis")
    )]
    pub deadline: Duration,
    /// How long one attempt may take.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "attempt_timeout_ms", serialize_with = "crate::time::millis")
    )]
    pub attempt_timeout: Duration,
    /// The budget of retries and hedges, if they have one.
    pub budget: Option<BudgetSnapshot>,
    /// The breaker of the service as a whole, if there is one.
    pub breaker: Option<GateSnapshot>,
    /// The throttle of the service, if there is one.
    pub throttle: Option<ThrottleSnapshot>,
    /// The limit of the service, if there is one.
    pub limit: Option<LimitSnapshot>,
    /// Discovery and the endpoints.
    pub balance: BalanceSnapshot,
}

/// A budget at one moment.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// How many tokens are left.
    pub tokens: u32,
    /// How many retries and hedges were refused so far, by why, as stable codes.
    pub refused: Vec<Refused>,
}

/// How many were refused for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Refused {
    /// A stable code.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// A throttle at one moment, as [`throttle::State`] has it.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ThrottleSnapshot {
    /// The calls within the window.
    pub requests: u64,
    /// How many of them the service accepted.
    pub accepts: u64,
    /// The calls under way.
    pub pending: u64,
    /// The probability with which the next call is refused.
    pub probability: f64,
}

/// A limit at one moment, as [`limit::State`] has it.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LimitSnapshot {
    /// How many attempts may be under way.
    pub limit: u32,
    /// How many are.
    pub in_flight: u32,
    /// How many wait for a place.
    pub waiting: usize,
}

impl<T, Cl> Roof<T, Cl> {
    /// All that an operator asks, at one moment. It costs a look at each endpoint, takes each lock
    /// for a few reads, and changes nothing.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shared = self.shared();
        let attempts = shared.attempts.shared();
        let balance = attempts.balance.snapshot();
        let Doors { throttle, limit, breaker } = &attempts.doors;
        Snapshot {
            service: shared.target.name(),
            taken_at: balance.taken_at,
            deadline: shared.deadline,
            attempt_timeout: attempts.limit,
            budget: shared.retry.payer().map(BudgetSnapshot::of),
            breaker: breaker.as_ref().map(|breaker| GateSnapshot::new(breaker.status(), now())),
            throttle: throttle.as_ref().map(|it| ThrottleSnapshot::of(it.state())),
            limit: limit.as_ref().map(|limit| LimitSnapshot::of(limit.state())),
            balance,
        }
    }

    /// The limit of the service, if there is one.
    #[must_use]
    pub fn limit(&self) -> Option<&Limit> {
        self.shared().attempts.shared().doors.limit.as_ref()
    }
}

impl BudgetSnapshot {
    fn of(budget: &Budget) -> Self {
        let refused = budget.refusals().iter();
        let refused = refused.map(|(why, count)| Refused { reason: why.code(), count }).collect();
        Self { tokens: budget.balance(), refused }
    }
}

impl ThrottleSnapshot {
    const fn of(state: throttle::State) -> Self {
        let throttle::State { requests, accepts, pending, probability, .. } = state;
        Self { requests, accepts, pending, probability }
    }
}

impl LimitSnapshot {
    const fn of(state: limit::State) -> Self {
        let limit::State { limit, in_flight, waiting, .. } = state;
        Self { limit, in_flight, waiting }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, deadline, attempt_timeout, .. } = self;
        write!(f, "{service}: {deadline:?} a call, {attempt_timeout:?} an attempt")?;
        if let Some(budget) = &self.budget {
            let refused: u64 = budget.refused.iter().map(|refused| refused.count).sum();
            write!(f, "; budget {} tokens, {refused} refused", budget.tokens)?;
        }
        if let Some(GateSnapshot { state, reason, since, .. }) = &self.breaker {
            write!(f, "; breaker {state} for {:.1}s", since.as_secs_f64())?;
            reason.map_or(Ok(()), |reason| write!(f, " ({reason})"))?;
        }
        if let Some(throttle) = &self.throttle {
            write!(f, "; throttle refuses {:.0} %", throttle.probability * 100.0)?;
        }
        if let Some(LimitSnapshot { limit, in_flight, waiting }) = self.limit {
            write!(f, "; limit {in_flight} of {limit}, {waiting} waiting")?;
        }
        writeln!(f)?;
        self.balance.fmt(f)
    }
}

#[cfg(feature = "hyper")]
impl Client {
    /// All that an operator asks, at one moment: which endpoints, in which state, why, since when,
    /// with what load, ejected by whom. It costs a look at each endpoint, and changes nothing.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.look().snapshot()
    }

    /// The limit of the service, if there is one.
    #[must_use]
    pub fn limit(&self) -> Option<&Limit> {
        self.look().limit()
    }
}

/// What can be seen of a stack whose types are erased.
#[cfg(feature = "hyper")]
pub(super) trait Look {
    fn snapshot(&self) -> Snapshot;
    fn limit(&self) -> Option<&Limit>;
}

#[cfg(feature = "hyper")]
impl<T, Cl> Look for Roof<T, Cl> {
    fn snapshot(&self) -> Snapshot {
        Self::snapshot(self)
    }

    fn limit(&self) -> Option<&Limit> {
        Self::limit(self)
    }
}
