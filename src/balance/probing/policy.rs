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

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        balance::{
            load::Load,
            policy::LoadView,
            probing::{Probed, desk::Probes},
            recent::Usual,
        },
        call::Words,
        endpoint::{Endpoint, EndpointKey, Health},
        entropy::Entropy,
        error::BoxError,
        sync::lock,
    };

    /// Four endpoints that are alike.
    struct Four {
        loads: [Load; 4],
        entropy: Entropy,
        now: Instant,
    }

    impl Candidates for Four {
        fn count(&self) -> usize {
            4
        }

        fn is_fit(&self, _: usize) -> bool {
            true
        }

        fn load(&self, at: usize) -> LoadView<'_> {
            LoadView::new(&self.loads[at], 0.001, 0)
        }

        fn heard(&self, _: usize) -> Option<usize> {
            None
        }

        fn usual(&self) -> Option<Usual> {
            None
        }

        fn draw(&self) -> u64 {
            self.entropy.draw()
        }

        fn now(&self) -> Instant {
            self.now
        }

        fn words(&self) -> Option<&Words> {
            None
        }
    }

    /// Goal: a pick does not wait for another thread that is at the pool, and goes by two choices.
    #[test]
    fn a_pick_waits_for_nobody() {
        let now = crate::time::now();
        let load = || Load::new(now, Duration::from_secs(1), None, now);
        let four =
            Four { loads: [load(), load(), load(), load()], entropy: Entropy::seeded(7), now };
        let endpoints: Vec<Endpoint> =
            (0..4).map(|at| std::net::SocketAddr::from(([10; 4], at)).into()).collect();
        let never = |_: &Endpoint| std::future::pending::<Result<Probed, BoxError>>();
        let probes = Probes::new(never, ProbingConfig::new());
        let member = |(at, endpoint)| {
            let (key, health) = (EndpointKey::unique(), Health::Unchecked);
            Member { endpoint, key, health, fit: true, load: four.load(at) }
        };
        let members: Vec<_> = endpoints.iter().enumerate().map(member).collect();
        let field = probes.field(&members);
        drop(members);
        for order in probes.due(now, || four.entropy.draw()) {
            order.answered(Probed::new(1.0), now, 0).expect("it can be");
        }
        let picker = ByAnswers { field: Arc::clone(&field), probes: probes.clone() };
        let told = |probes: &Probes| probes.snapshot().without_answers;
        assert!(picker.pick(&four).is_some());
        assert_eq!(told(&probes), 0, "four have answered");

        let held = lock(&field.pool);
        let (done, picked) = mpsc::channel();
        std::thread::spawn(move || done.send(picker.pick(&four)));
        let picked = picked.recv_timeout(Duration::from_secs(20));
        drop(held);
        assert!(picked.expect("it waits for nobody").is_some());
        assert_eq!(told(&probes), 1);
    }
}
