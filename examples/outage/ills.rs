//! What an instance suffers from, and what that does to one attempt: the decisions alone.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outage::chance::{self, Use};
use crate::outage::scenario::Kind;

/// What the drill tells an instance, one JSON line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    Begin { fault: usize, kind: Kind },
    End { fault: usize },
}

/// The faults that an instance plays itself.
#[derive(Debug, Default)]
pub(crate) struct Ills {
    active: Vec<(usize, Kind)>,
    /// How often a call came by while a fault was on, so that a retry throws another coin.
    visits: HashMap<(usize, u64), u64>,
}

/// What the active faults do to one attempt.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fate {
    /// A status instead of work, and when to come again.
    pub(crate) refusal: Option<(u16, Option<Duration>)>,
    pub(crate) delay: Duration,
    /// The work is done, and nobody is told.
    pub(crate) lost: bool,
    /// The work is done, and the body never comes.
    pub(crate) stalled: bool,
    /// The faults that did something to it.
    pub(crate) met: Vec<usize>,
}

impl Ills {
    pub(crate) fn obey(&mut self, command: &Command) {
        match *command {
            Command::Begin { fault, kind } => self.active.push((fault, kind)),
            Command::End { fault } => self.active.retain(|(other, _)| *other != fault),
        }
    }

    /// Whether connections are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.active.iter().any(|(_, kind)| *kind == Kind::Refuse)
    }

    /// What happens to an attempt of a call at this instance.
    pub(crate) fn fate(&mut self, seed: u64, instance: usize, call: u64) -> Fate {
        let mut fate = Fate::default();
        for (fault, kind) in &self.active {
            let visit = self.visits.entry((*fault, call)).or_default();
            let names = [*fault as u64, instance as u64, call, *visit];
            *visit += 1;
            let hit = |share: f64| chance::share(seed, Use::Coin, &names) < share;
            let met = match *kind {
                Kind::Sink => fate.refuse(503, None),
                Kind::Fail { status, share } => hit(share) && fate.refuse(status, None),
                Kind::Overload { retry_after, share } => {
                    hit(share) && fate.refuse(429, Some(retry_after))
                }
                Kind::Slow { latency, jitter, share } => {
                    let slow = hit(share);
                    if slow {
                        let place = chance::share(seed, Use::Latency, &names);
                        fate.delay += latency - jitter + jitter.mul_f64(2.0 * place);
                    }
                    slow
                }
                Kind::LoseAnswer { share } => {
                    let lost = hit(share);
                    fate.lost |= lost;
                    lost
                }
                Kind::StallBody { share } => {
                    let stalled = hit(share);
                    fate.stalled |= stalled;
                    stalled
                }
                Kind::Kill | Kind::Hang | Kind::Refuse | Kind::Leave | Kind::Join => false,
            };
            if met {
                fate.met.push(*fault);
            }
        }
        fate
    }
}

impl Fate {
    fn refuse(&mut self, status: u16, retry_after: Option<Duration>) -> bool {
        self.refusal.get_or_insert((status, retry_after));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_hits_its_share_of_the_calls_and_a_retry_throws_again() {
        let mut ills = Ills::default();
        ills.obey(&Command::Begin { fault: 4, kind: Kind::LoseAnswer { share: 0.3 } });
        let first: Vec<bool> = (0..1000).map(|call| ills.fate(1, 0, call).lost).collect();
        let again: Vec<bool> = (0..1000).map(|call| ills.fate(1, 0, call).lost).collect();
        let hits = first.iter().filter(|hit| **hit).count();
        assert!((250..350).contains(&hits), "{hits} of 1000");
        let both = first.iter().zip(&again).filter(|(one, two)| **one && **two).count();
        assert!((50..130).contains(&both), "{both} of 1000 were hit twice");
        ills.obey(&Command::End { fault: 4 });
        assert_eq!(ills.fate(1, 0, 1), Fate::default());
    }

    #[test]
    fn the_first_refusal_wins_and_latency_keeps_its_bounds() {
        let mut ills = Ills::default();
        let (latency, jitter) = (Duration::from_millis(400), Duration::from_millis(100));
        ills.obey(&Command::Begin { fault: 0, kind: Kind::Slow { latency, jitter, share: 1.0 } });
        for call in 0..200 {
            let delay = ills.fate(1, 1, call).delay;
            assert!(delay >= latency - jitter && delay <= latency + jitter, "{delay:?}");
        }
        // Two of them add up, where the second hits.
        let kind = Kind::Slow { latency: 2 * latency, jitter: Duration::ZERO, share: 0.5 };
        ills.obey(&Command::Begin { fault: 3, kind });
        let both = (0..200).filter(|call| ills.fate(1, 1, *call).delay >= 3 * latency - jitter);
        assert!((70..130).contains(&both.count()));
        ills.obey(&Command::End { fault: 3 });
        ills.obey(&Command::Begin { fault: 1, kind: Kind::Sink });
        ills.obey(&Command::Begin { fault: 2, kind: Kind::Fail { status: 500, share: 1.0 } });
        let fate = ills.fate(1, 1, 1);
        assert_eq!(fate.refusal, Some((503, None)));
        assert_eq!(fate.met, [0, 1, 2]);
        assert!(!ills.is_refusing());
    }
}
