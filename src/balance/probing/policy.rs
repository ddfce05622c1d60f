//! The policy, and its picker.

use std::{fmt, sync::Arc};

use super::{
    answer::LoadProbe,
    config::ProbingConfig,
    desk::{Probes, ProbingSnapshot},
    field::Field,
};
use crate::{
    balance::{
        choices::PeakEwma,
        policy::{Candidates, Member, Picker, Policy},
    },
    sync::try_lock,
};

/// By probes: each endpoint is asked now and then how many requests it has and what an answer takes,
/// and a call goes by the answers of the last second. See [the room's documentation](super) for
/// the rule, and for what it costs.
///
/// A clone is another handle of the same policy: one for the balancer, and one to
/// [look](Self::snapshot) by.
#[derive(Clone)]
pub struct Probing {
    probes: Probes,
}

impl Probing {
    /// A policy that asks by this probe. Nothing is asked before a balancer has it.
    pub fn new(probe: impl LoadProbe + Send + Sync + 'static, config: ProbingConfig) -> Self {
        Self { probes: Probes::new(probe, config) }
    }

    /// What it has come to.
    #[must_use]
    pub fn snapshot(&self) -> ProbingSnapshot {
        self.probes.snapshot()
    }
}

impl fmt::Debug for Probing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probing").field(&self.snapshot()).finish()
    }
}

impl Policy for Probing {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        Arc::new(ByAnswers { field: self.probes.field(members), probes: self.probes.clone() })
    }

    fn probes(&self) -> Option<Probes> {
        Some(self.probes.clone())
    }
}

/// Picks by the answers to probes.
struct ByAnswers {
    field: Arc<Field>,
    probes: Probes,
}

impl fmt::Debug for ByAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByAnswers").field(&self.probes).finish()
    }
}

impl Picker for ByAnswers {
    fn pick(&self, among: &dyn Candidates) -> Option<usize> {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        self.probes.desk.called(&self.field);
        let slower = |at| among.load(at).slowness() as f32;
        let fit = |at| {
            // An endpoint that fails at once has nothing to do, and says so. And one that starts
            // slowly is looked at as often as is its share.
            among.is_fit(at) && {
                let load = among.load(at);
                let share = load.share();
                !load.is_doubted() && (share >= 1.0 || (among.draw() >> 11) as f64 * UNIT < share)
            }
        };
        // Of those who find it held none waits: on a machine of many cores, where that would be the
        // bottleneck, some of the calls go by two choices.
        let picked =
            try_lock(&self.field.pool).and_then(|mut pool| pool.pick(among.now(), slower, fit));
        picked.or_else(|| {
            self.probes.desk.without_answers();
            PeakEwma::pick_from(among)
        })
    }
}
