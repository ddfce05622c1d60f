//! What happened, in numbers: one client's summary, and the JSON of all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::outage::company::Tenant;
use crate::outage::ledger::Charge;
use crate::outage::load::Settled;
use crate::outage::plan::{Phase, Plan};
use crate::outage::recovery::recovered;
use crate::outage::scenario::Kind;
use crate::outage::witness::{Attempt, by_address};

/// The whole drill, as `--json` writes it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) scenario: String,
    pub(crate) seconds: u64,
    pub(crate) rate: u32,
    pub(crate) http: String,
    /// Whether buttress hedged.
    pub(crate) hedge: bool,
    pub(crate) clients: BTreeMap<&'static str, Summary>,
}

/// One client's part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) calls: u64,
    pub(crate) ok: u64,
    pub(crate) success: f64,
    pub(crate) latency_ms: Latency,
    /// The same, of the calls due before the faults, during one, and after one.
    pub(crate) latency_by_phase: BTreeMap<Phase, Part>,
    /// All attempts, hedges as well.
    pub(crate) attempts_per_call: f64,
    pub(crate) hedges: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) faults_met: BTreeMap<&'static str, u64>,
    pub(crate) charges: Charges,
    pub(crate) recovered_ms: BTreeMap<String, Option<f64>>,
}

/// Of all calls, those that failed too: from when a call was due until the caller knew.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// The latencies of a part of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Part {
    pub(crate) calls: u64,
    #[serde(flatten)]
    pub(crate) latency_ms: Latency,
}

/// What the ledger says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Charges {
    /// Calls that asked for a charge: all of them.
    pub(crate) asked: u64,
    pub(crate) made: u64,
    /// Charges beyond the first of a call, under whatever keys.
    pub(crate) duplicates: u64,
    /// Confirmed to a caller, and not in the ledger with that number for that call.
    pub(crate) confirmed_but_missing: u64,
}

/// What was seen of one client's drill.
pub(crate) struct Evidence<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) start: Instant,
    pub(crate) settled: &'a [Settled],
    pub(crate) attempts: &'a [Attempt],
    /// How many of the attempts are hedges.
    pub(crate) hedges: u64,
    pub(crate) tenants: &'a [Tenant],
    /// Calls that an instance did something to, by the number of the fault.
    pub(crate) met: &'a HashSet<(usize, u64)>,
    pub(crate) charges: &'a [Charge],
}

impl Summary {
    /// Adds it all up.
    pub(crate) fn of(evidence: &Evidence<'_>) -> Self {
        let settled = evidence.settled;
        let calls = settled.len() as u64;
        let ok = settled.iter().filter(|call| call.result.is_ok()).count() as u64;
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        for kind in settled.iter().filter_map(|call| call.result.as_ref().err()) {
            *errors.entry(kind.clone()).or_default() += 1;
        }
        let share = |part: u64| {
            if calls == 0 { 0.0 } else { part as f64 / calls as f64 }
        };
        Self {
            calls,
            ok,
            success: share(ok),
            latency_ms: latency(settled),
            latency_by_phase: evidence.latency_by_phase(),
            attempts_per_call: share(evidence.attempts.len() as u64),
            hedges: evidence.hedges,
            errors,
            faults_met: evidence.faults_met(),
            charges: charges(settled, evidence.charges),
            recovered_ms: evidence.recovered(),
        }
    }
}

impl Evidence<'_> {
    /// A phase in which nobody called is left out.
    fn latency_by_phase(&self) -> BTreeMap<Phase, Part> {
        let mut calls: BTreeMap<Phase, Vec<&Settled>> = BTreeMap::new();
        for call in self.settled {
            calls.entry(self.plan.phase(call.due)).or_default().push(call);
        }
        let parts = calls.into_iter().map(|(phase, calls)| {
            (phase, Part { calls: calls.len() as u64, latency_ms: latency(calls) })
        });
        parts.collect()
    }

    /// Calls by the kind of fault that they met, each call once for a kind.
    fn faults_met(&self) -> BTreeMap<&'static str, u64> {
        let mut calls: BTreeMap<&'static str, BTreeSet<u64>> = BTreeMap::new();
        let by_address = by_address(self.attempts);
        for (number, fault) in self.plan.faults.iter().enumerate() {
            let of_kind = calls.entry(fault.kind.name()).or_default();
            match fault.kind {
                Kind::Kill | Kind::Hang | Kind::Refuse | Kind::Join => {
                    for tenant in self.tenants {
                        let attempts = by_address.get(&tenant.address).into_iter().flatten();
                        let met = attempts.filter(|one| self.has_met(number, tenant, one));
                        of_kind.extend(met.map(|attempt| attempt.call));
                    }
                }
                Kind::Leave => of_kind.extend(self.without(number)),
                _ => {
                    let met = self.met.iter().filter(|(other, _)| *other == number);
                    of_kind.extend(met.map(|(_, call)| *call));
                }
            }
        }
        calls.into_iter().map(|(kind, calls)| (kind, calls.len() as u64)).collect()
    }

    /// Whether an attempt to a tenant was under way while the fault was on.
    ///
    /// A killed tenant stays dead: who still calls its address after the fault, since the new one
    /// is not known yet, meets it too.
    fn has_met(&self, number: usize, tenant: &Tenant, attempt: &Attempt) -> bool {
        let fault = &self.plan.faults[number];
        let began_before =
            |end: Option<Duration>| end.is_none_or(|end| attempt.began < self.start + end);
        attempt.ended >= self.start + fault.begin
            && match fault.kind {
                Kind::Kill => tenant.killed_by == Some(number),
                _ => {
                    fault.instances.contains(&tenant.instance)
                        && began_before(self.plan.until(number, tenant.instance))
                }
            }
    }

    /// Calls that were due while one of the instances was away.
    fn without(&self, number: usize) -> impl Iterator<Item = u64> {
        let fault = &self.plan.faults[number];
        let ends = fault.instances.iter().map(|instance| self.plan.until(number, *instance));
        let last = ends.max_by_key(|end| end.unwrap_or(Duration::MAX)).flatten();
        let due = self
            .settled
            .iter()
            .filter(move |call| call.due >= fault.begin && last.is_none_or(|last| call.due < last));
        due.map(|call| call.call)
    }

    fn recovered(&self) -> BTreeMap<String, Option<f64>> {
        let calls: Vec<_> =
            self.settled.iter().map(|call| (call.due, call.result.is_ok())).collect();
        let faults = self.plan.faults.iter().map(|fault| {
            let after = recovered(&calls, fault.begin, fault.over());
            (fault.label.clone(), after.map(milliseconds))
        });
        faults.collect()
    }
}

/// Exact, from all the values: a drill has thousands of calls, not millions.
fn latency<'a>(settled: impl IntoIterator<Item = &'a Settled>) -> Latency {
    let mut all: Vec<Duration> = settled.into_iter().map(|call| call.took).collect();
    all.sort_unstable();
    // The nearest rank: the smallest value that at least this share of the calls keeps to.
    let at = |share: f64| {
        let rank = (share * all.len() as f64).ceil() as usize;
        all.get(rank.max(1) - 1).copied().map_or(0.0, milliseconds)
    };
    Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
}

fn charges(settled: &[Settled], charges: &[Charge]) -> Charges {
    let calls: HashSet<u64> = charges.iter().map(|charge| charge.call).collect();
    let there: HashSet<(u64, u64)> =
        charges.iter().map(|charge| (charge.id, charge.call)).collect();
    let missing = settled.iter().filter(|call| match call.result {
        Ok(id) => !there.contains(&(id, call.call)),
        Err(_) => false,
    });
    Charges {
        asked: settled.len() as u64,
        made: charges.len() as u64,
        duplicates: (charges.len() - calls.len()) as u64,
        confirmed_but_missing: missing.count() as u64,
    }
}

/// To the tenth, which is finer than the clock of a timer.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outage::scenario::Scenario;
    use std::net::SocketAddr;

    fn settled(call: u64, took: u64, result: Result<u64, &str>) -> Settled {
        Settled {
            call,
            due: Duration::from_millis(call * 10),
            took: Duration::from_millis(took),
            result: result.map_err(str::to_owned),
        }
    }

    fn charge(id: u64, call: u64) -> Charge {
        Charge { id, call, account: "a".to_owned(), amount: 1 }
    }

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        let calls: Vec<_> = (1..=200).map(|n| settled(n, n, Ok(n))).collect();
        let exact = Latency { p50: 100.0, p95: 190.0, p99: 198.0, max: 200.0 };
        assert_eq!(latency(&calls), exact);
        assert_eq!(latency(&calls[..1]), Latency { p50: 1.0, p95: 1.0, p99: 1.0, max: 1.0 });
        assert_eq!(latency(&[]), Latency { p50: 0.0, p95: 0.0, p99: 0.0, max: 0.0 });
    }

    #[test]
    fn charges_made_twice_and_confirmed_for_nothing_are_found() {
        let calls = [
            settled(1, 1, Ok(1)),
            settled(2, 1, Err("timeout")), // made all the same, twice
            settled(3, 1, Ok(9)),          // no such charge
            settled(4, 1, Ok(1)),          // somebody else's charge
            settled(5, 1, Err("timeout")), // not made
        ];
        let found = charges(&calls, &[charge(1, 1), charge(2, 2), charge(3, 2)]);
        let right = Charges { asked: 5, made: 3, duplicates: 1, confirmed_but_missing: 2 };
        assert_eq!(found, right);
    }

    #[test]
    fn counts_each_call_once_for_a_kind_it_met() {
        let text = "name = \"x\"\nseconds = 10\nrate = 1\ninstances = 2\n\
            [[fault]]\nkind = \"kill\"\nat = \"1s\"\nfor = \"1s\"\ntarget = \"payments/1\"\n\
            [[fault]]\nkind = \"sink\"\nat = \"3s\"\nfor = \"1s\"\ntarget = \"payments/1\"\n\
            [[fault]]\nkind = \"leave\"\nat = \"5s\"\nfor = \"1s\"\ntarget = \"payments/2\"\n";
        let plan = Plan::draw(&Scenario::parse(text).expect("parses"), 1).expect("plays");
        let start = Instant::now();
        let (old, new) =
            (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let other = SocketAddr::from(([127, 0, 0, 1], 3));
        let attempt = |call, address, began: u64, ended: u64| Attempt {
            call,
            address,
            began: start + Duration::from_millis(began),
            ended: start + Duration::from_millis(ended),
        };
        let attempts = [
            attempt(1, old, 900, 1000),    // under way when it was killed
            attempt(2, old, 1500, 1501),   // refused
            attempt(2, old, 1600, 1601),   // the same call again
            attempt(3, other, 1500, 1510), // another instance
            attempt(4, new, 2000, 2010),   // it is back
            attempt(5, old, 100, 110),     // before
            attempt(6, old, 2050, 2051),   // the new address is not known yet
        ];
        let tenants = [(old, 0, Some(0)), (new, 0, None), (other, 1, None)]
            .map(|(address, instance, killed_by)| Tenant { address, instance, killed_by });
        // Due each 10 ms: calls 500 to 599 while payments/2 is away.
        let calls: Vec<_> = (0..1000).map(|n| settled(n, 1, Ok(n))).collect();
        let summary = Summary::of(&Evidence {
            plan: &plan,
            start,
            settled: &calls,
            attempts: &attempts,
            hedges: 2,
            tenants: &tenants,
            met: &[(1, 7), (1, 8)].into_iter().collect(),
            charges: &[],
        });
        let met = BTreeMap::from([("kill", 3), ("sink", 2), ("leave", 100)]);
        assert_eq!(summary.faults_met, met);
        assert_eq!(summary.calls, 1000);
        assert!((summary.success - 1.0).abs() < 1e-9);
        assert!((summary.attempts_per_call - 0.007).abs() < 1e-9);
        assert_eq!(summary.hedges, 2);
        // The kill and the sink, of 100 calls each; before them 100, and the rest after one.
        let parts: Vec<_> =
            summary.latency_by_phase.iter().map(|(phase, part)| (*phase, part.calls)).collect();
        assert_eq!(parts, [(Phase::Before, 100), (Phase::During, 200), (Phase::After, 700)]);
        assert_eq!(summary.recovered_ms["1s kill payments/1"], Some(0.0));
    }
}
