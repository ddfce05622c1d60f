//! What a scenario says, once it is read; `form` reads it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a charge takes on average where the scenario does not say.
pub(crate) const WORK: Duration = Duration::from_millis(5);

/// What a drill plays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) seconds: u64,
    pub(crate) rate: u32,
    pub(crate) instances: usize,
    /// What a charge takes on average, besides the ledger.
    pub(crate) work: Duration,
    pub(crate) loads: Vec<Load>,
    pub(crate) faults: Vec<Fault>,
}

/// A change of the rate of calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) at: Duration,
    pub(crate) rate: u32,
}

/// One fault as it is written, its target not drawn yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) at: Duration,
    /// `None` for a `leave` or `join` that nothing takes back.
    pub(crate) lasts: Option<Duration>,
    pub(crate) target: Target,
    pub(crate) line: usize,
}

/// The kinds of faults with their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Kill,
    Hang,
    Slow { latency: Duration, jitter: Duration, share: f64 },
    Fail { status: u16, share: f64 },
    Sink,
    Refuse,
    Overload { retry_after: Duration, share: f64 },
    LoseAnswer { share: f64 },
    StallBody { share: f64 },
    Leave,
    Join,
}

/// Whom a fault hits; instances count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    One(usize),
    All,
    Drawn(usize),
}

/// Why a scenario is refused: the line, what is wrong, what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl Kind {
    /// Their names, in the order of the documentation.
    pub(crate) const NAMES: [&'static str; 11] = [
        "kill",
        "hang",
        "slow",
        "fail",
        "sink",
        "refuse",
        "overload",
        "lose_answer",
        "stall_body",
        "leave",
        "join",
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Slow { .. } => "slow",
            Self::Fail { .. } => "fail",
            Self::Sink => "sink",
            Self::Refuse => "refuse",
            Self::Overload { .. } => "overload",
            Self::LoseAnswer { .. } => "lose_answer",
            Self::StallBody { .. } => "stall_body",
            Self::Leave => "leave",
            Self::Join => "join",
        }
    }

    /// Whether the process can't answer at all meanwhile, so that two such faults exclude each other.
    pub(crate) fn takes_the_process(self) -> bool {
        matches!(self, Self::Kill | Self::Hang | Self::Refuse)
    }

    /// Whether it changes the list alone.
    pub(crate) fn changes_the_list(self) -> bool {
        matches!(self, Self::Leave | Self::Join)
    }
}

impl Scenario {
    /// Another rate; the changes of rate grow or shrink alike.
    pub(crate) fn set_rate(&mut self, rate: u32) {
        let factor = f64::from(rate) / f64::from(self.rate);
        for load in &mut self.loads {
            // At least one: a rate of nothing would never end.
            load.rate = ((f64::from(load.rate) * factor).round() as u32).max(1);
        }
        self.rate = rate;
    }

    /// Another length; what would begin later is left out, what would end later ends with it.
    pub(crate) fn set_seconds(&mut self, seconds: u64) {
        let end = Duration::from_secs(seconds);
        self.seconds = seconds;
        self.loads.retain(|load| load.at < end);
        self.faults.retain(|fault| fault.at < end);
        for fault in &mut self.faults {
            fault.lasts = fault.lasts.map(|lasts| lasts.min(end - fault.at));
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for Refused {}
