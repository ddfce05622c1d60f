//! The state of an endpoint in one word, and why.

use std::time::Instant;

use super::{
    node::EndpointStatus,
    picture::{EjectionSnapshot, EndpointSnapshot},
};
use crate::endpoint::Health;

/// The state of an endpoint in one word: of all that holds, what comes first in the order of who
/// wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum EndpointState {
    /// The active check finds it unhealthy.
    Unhealthy,
    /// It does worse than its peers.
    Ejected,
    /// Its breaker refuses calls.
    Open,
    /// Its breaker lets a few calls try.
    HalfOpen,
    /// Its first check is under way.
    Pending,
    /// It has asked to be left alone for a while.
    SetAside,
    /// It failed a short while ago.
    Doubted,
    /// It has joined or come back, and gets a part of its share.
    SlowStart,
    /// It gets its share.
    Serving,
}

impl EndpointState {
    /// A stable code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Pending => "pending",
            Self::SetAside => "set_aside",
            Self::Doubted => "doubted",
            Self::SlowStart => "slow_start",
            Self::Serving => "serving",
        }
    }

    pub(super) fn of(status: &EndpointStatus, now: Instant) -> Self {
        let gate = status.gate.map(|gate| gate.state);
        match status.health {
            Health::Unhealthy => Self::Unhealthy,
            _ if status.ejected.is_some() => Self::Ejected,
            _ if gate == Some("half_open") => Self::HalfOpen,
            _ if !status.open => Self::Open,
            // Its open time is over, and nobody has called since.
            _ if gate == Some("open") => Self::HalfOpen,
            Health::Pending => Self::Pending,
            _ if status.set_aside_until.is_some_and(|until| until > now) => Self::SetAside,
            _ if status.doubted => Self::Doubted,
            _ if status.share < 1.0 => Self::SlowStart,
            _ => Self::Serving,
        }
    }
}

impl EndpointSnapshot {
    /// Why it is in its state, since when and until when.
    pub(super) fn explain(&mut self) {
        let breaker = self.breaker.as_ref();
        let (why, since, until) = match self.state {
            EndpointState::Unhealthy => {
                (Some("its health check fails".to_owned()), Some(self.health_since), None)
            }
            EndpointState::Ejected => {
                let ejected = self.ejected.as_ref();
                let since = ejected.map(|ejected| ejected.since);
                (ejected.map(EjectionSnapshot::why), since, ejected.map(|ejected| ejected.until))
            }
            EndpointState::Open | EndpointState::HalfOpen => {
                let reason = breaker.and_then(|breaker| breaker.reason);
                let why = reason.map(|reason| format!("breaker: {reason}"));
                let since = breaker.map(|breaker| breaker.since);
                (why, since, breaker.and_then(|breaker| breaker.until))
            }
            EndpointState::Pending => {
                let why = "its first health check is under way";
                (Some(why.to_owned()), Some(self.health_since), None)
            }
            EndpointState::SetAside => {
                (Some("it asked to be left alone".to_owned()), None, self.set_aside)
            }
            EndpointState::Doubted => (Some("it failed a short while ago".to_owned()), None, None),
            EndpointState::SlowStart => {
                (Some(format!("it has {:.0} % of its share", self.share * 100.0)), None, None)
            }
            EndpointState::Serving => {
                let closed = breaker.map(|breaker| breaker.since);
                (None, Some(closed.map_or(self.health_since, |it| it.min(self.health_since))), None)
            }
        };
        (self.why, self.since, self.until) = (why, since, until);
    }
}
