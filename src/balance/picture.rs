//! What a balancer looks like at one moment, for operators: plain values, that can be serialised.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use super::{
    discovery::Discovery, eject::Ejection, node::EndpointStatus, probing::ProbingSnapshot,
    summary::EndpointState,
};
use crate::{
    endpoint::{GateStatus, Health},
    time::wall,
};

/// A balancer at one moment: see [`Balance::snapshot`](super::Balance::snapshot).
///
/// An instant is told as an age (`since`: so long ago) or as what is left (`until`: in so long).
/// With the feature `serde` these are whole milliseconds, in fields whose names end in `_ms`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BalanceSnapshot {
    /// When it was taken; as milliseconds of Unix in `taken_at_ms`.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "taken_at_ms", serialize_with = "crate::time::unix_millis")
    )]
    pub taken_at: SystemTime,
    /// Whether so few endpoints may be called that all of them are, or none.
    pub panic: bool,
    /// How many calls wait for an endpoint.
    pub waiting: usize,
    /// What discovery said last.
    pub discovery: DiscoverySnapshot,
    /// What a policy that probes has come to, if that is how endpoints are picked.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub probing: Option<ProbingSnapshot>,
    /// The endpoints, in the order in which they came.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// What discovery said last.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DiscoverySnapshot {
    /// How long ago it named endpoints; none if it never did.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "last_change_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub last_change: Option<Duration>,
    /// Its last error, with all causes.
    pub last_error: Option<String>,
    /// How long ago that was.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "last_error_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub last_error_age: Option<Duration>,
    /// Nothing was named since the last error, so that what was named before is in use. A registry
    /// that is well again names what there is, if that is what there was.
    pub keeps_last_good: bool,
    /// How long ago it ended; what it named last stays.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "ended_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub ended: Option<Duration>,
}

/// An endpoint at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// As the registry calls it.
    pub id: String,
    /// Where it is.
    pub address: SocketAddr,
    /// As the registry says.
    pub weight: u32,
    /// As the registry says; 0 is the first.
    pub priority: u32,
    /// As the registry says.
    pub zone: Option<String>,
    /// All of what follows in one word.
    pub state: EndpointState,
    /// Why it is in this state: by whom, and with which numbers.
    pub why: Option<String>,
    /// For how long it has been, where that is known.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "since_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub since: Option<Duration>,
    /// For how long it will be, where that is known.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "until_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub until: Option<Duration>,
    /// What the active check says.
    #[cfg_attr(feature = "serde", serde(serialize_with = "health_code"))]
    pub health: Health,
    /// For how long it has said so, or for how long the endpoint is there.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "health_since_ms", serialize_with = "crate::time::millis")
    )]
    pub health_since: Duration,
    /// Its breaker.
    pub breaker: Option<GateSnapshot>,
    /// Its ejection, if it is ejected.
    pub ejected: Option<EjectionSnapshot>,
    /// For how long it still wants to be left alone.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "set_aside_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub set_aside: Option<Duration>,
    /// Whether it failed a short while ago, so that others are preferred.
    pub doubted: bool,
    /// Which share of its weight it has: less than 1 while it starts slowly.
    pub share: f64,
    /// Calls in flight, until their responses have been read.
    pub in_flight: u32,
    /// What its next answer is expected to take, in seconds in `cost_seconds`.
    #[cfg_attr(feature = "serde", serde(rename = "cost_seconds", serialize_with = "seconds"))]
    pub cost: Duration,
    /// What its server has said of itself, if it ever has.
    pub report: Option<ReportSnapshot>,
}

/// A breaker at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GateSnapshot {
    /// A stable code.
    pub state: &'static str,
    /// Why it came into this state; none of the state that it began in.
    pub reason: Option<&'static str>,
    /// For how long it has been.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "since_ms", serialize_with = "crate::time::millis")
    )]
    pub since: Duration,
    /// For how long it still refuses calls, where that is known.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "until_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub until: Option<Duration>,
}

impl GateSnapshot {
    pub(crate) fn new(status: GateStatus, now: Instant) -> Self {
        Self {
            state: status.state,
            reason: status.reason,
            since: now.saturating_duration_since(status.since),
            until: status.until.map(|until| until.saturating_duration_since(now)),
        }
    }
}

/// An ejection at one moment, and its [evidence](super::Evidence).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EjectionSnapshot {
    /// The test, as a stable code.
    pub by: &'static str,
    /// The calls that it looked at.
    pub calls: u32,
    /// How many of them failed.
    pub failures: u32,
    /// What was measured: a share or seconds, as the test has it.
    pub measured: f64,
    /// What is usual among the peers, where the test asks.
    pub usual: Option<f64>,
    /// What it must not reach.
    pub limit: f64,
    /// How likely that is by chance alone, where the test asks.
    pub chance: Option<f64>,
    /// How many ejections in a row.
    pub times: u32,
    /// For how long it has been ejected.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "since_ms", serialize_with = "crate::time::millis")
    )]
    pub since: Duration,
    /// For how long it will be.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "until_ms", serialize_with = "crate::time::millis")
    )]
    pub until: Duration,
}

impl EjectionSnapshot {
    fn new(ejection: &Ejection, now: Instant) -> Self {
        let evidence = ejection.evidence;
        Self {
            by: ejection.by.as_str(),
            calls: evidence.calls,
            failures: evidence.failures,
            measured: evidence.measured,
            usual: evidence.usual,
            limit: evidence.limit,
            chance: evidence.chance,
            times: ejection.times,
            since: now.saturating_duration_since(ejection.since),
            until: ejection.until.saturating_duration_since(now),
        }
    }

    pub(super) fn why(&self) -> String {
        let Self { by, calls, failures, measured, limit, .. } = self;
        let usual = self.usual.map(|usual| format!(", usual {usual:.3}")).unwrap_or_default();
        let bounds = format!("limit {limit:.3}{usual}");
        match self.by {
            "latency" => format!("{by}: {measured:.3} s in {calls} answers ({bounds})"),
            "server_errors" | "gateway_failures" | "local_failures" => {
                format!("{by}: {failures} in a row")
            }
            _ => format!("{by}: {failures} of {calls} failed, {measured:.3} ({bounds})"),
        }
    }
}

/// What a server has said of itself.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReportSnapshot {
    /// How many requests it works on, and the calls that were sent to it since.
    pub in_flight: Option<f32>,
    /// How long ago it said that.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "in_flight_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub in_flight_age: Option<Duration>,
    /// How busy it is; 1 is all it has.
    pub utilization: Option<f32>,
    /// How long ago it said that.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "utilization_ms", serialize_with = "crate::time::maybe_millis")
    )]
    pub utilization_age: Option<Duration>,
}

impl BalanceSnapshot {
    pub(super) fn new(
        statuses: Vec<EndpointStatus>,
        panic: bool,
        waiting: usize,
        discovery: &Discovery,
        probing: Option<ProbingSnapshot>,
        now: Instant,
    ) -> Self {
        let endpoints = statuses.iter().map(|status| EndpointSnapshot::new(status, now)).collect();
        let discovery = DiscoverySnapshot::new(discovery, now);
        Self { taken_at: wall(), panic, waiting, discovery, probing, endpoints }
    }
}

impl DiscoverySnapshot {
    fn new(discovery: &Discovery, now: Instant) -> Self {
        let ago = |at: Instant| now.saturating_duration_since(at);
        Self {
            last_change: discovery.named.map(ago),
            last_error: discovery.failed.as_ref().map(|(text, _)| text.clone()),
            last_error_age: discovery.failed.as_ref().map(|&(_, at)| ago(at)),
            keeps_last_good: discovery.is_stale(),
            ended: discovery.ended.map(ago),
        }
    }
}

impl EndpointSnapshot {
    fn new(status: &EndpointStatus, now: Instant) -> Self {
        let left = |until: Option<Instant>| until.map(|at| at.saturating_duration_since(now));
        let health_since = now.saturating_duration_since(status.health_since);
        let breaker = status.gate.map(|gate| GateSnapshot::new(gate, now));
        let ejected = status.ejected.as_ref().map(|ejection| EjectionSnapshot::new(ejection, now));
        let set_aside = left(status.set_aside_until);
        let (utilization, utilization_age) = status.reported_utilization.unzip();
        let report = ReportSnapshot {
            in_flight: status.reported_in_flight,
            in_flight_age: status.reported_in_flight_age,
            utilization,
            utilization_age,
        };
        let has_said = report.in_flight.is_some() || report.utilization.is_some();
        let state = EndpointState::of(status, now);
        let mut snapshot = Self {
            id: status.endpoint.id().to_owned(),
            address: status.endpoint.address(),
            weight: status.endpoint.weight(),
            priority: status.endpoint.priority(),
            zone: status.endpoint.zone().map(ToOwned::to_owned),
            state,
            why: None,
            since: None,
            until: None,
            health: status.health,
            health_since,
            breaker,
            ejected,
            set_aside,
            doubted: status.doubted,
            share: status.share,
            in_flight: status.in_flight,
            cost: status.cost,
            report: has_said.then_some(report),
        };
        snapshot.explain();
        snapshot
    }
}

#[cfg(feature = "serde")]
fn health_code<S: serde::Serializer>(health: &Health, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(health.as_str())
}

/// A cost is less than a millisecond as often as not.
#[cfg(feature = "serde")]
fn seconds<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::eject::{Evidence, Outlier},
        endpoint::{Endpoint, EndpointKey},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn ejection(by: Outlier, now: Instant) -> Ejection {
        let mut evidence = Evidence::default();
        (evidence.calls, evidence.failures, evidence.measured) = (40, 10, 0.25);
        (evidence.usual, evidence.limit, evidence.chance) = (Some(0.01), 0.03, Some(1e-9));
        Ejection { by, evidence, since: now - 7 * SECOND, until: now + 23 * SECOND, times: 2 }
    }

    /// All that can be wrong is.
    fn worst(now: Instant) -> EndpointStatus {
        EndpointStatus {
            endpoint: Endpoint::from(SocketAddr::from(([10, 0, 0, 1], 80))),
            key: EndpointKey::unique(),
            health: Health::Unhealthy,
            health_since: now - 3 * SECOND,
            open: false,
            gate: Some(GateStatus {
                reason: Some("ratio"),
                ..GateStatus::new("half_open", now - 5 * SECOND).until(now + 2 * SECOND)
            }),
            ejected: Some(ejection(Outlier::FailureRate, now)),
            share: 0.4,
            set_aside_until: Some(now + SECOND),
            cost: Duration::from_millis(2),
            doubted: true,
            in_flight: 3,
            reported_in_flight: None,
            reported_in_flight_age: None,
            reported_utilization: None,
        }
    }

    #[test]
    fn of_all_that_holds_one_state_is_told_with_its_reason_and_its_times() {
        use EndpointState::{
            Doubted, Ejected, HalfOpen, Open, Pending, Serving, SetAside, SlowStart, Unhealthy,
        };
        let now = crate::time::now();
        let mut status = worst(now);
        let mut told = |change: fn(&mut EndpointStatus, Instant)| {
            change(&mut status, now);
            let EndpointSnapshot { state, why, since, until, .. } =
                EndpointSnapshot::new(&status, now);
            (state, why.unwrap_or_default(), since, until)
        };
        let s = |seconds| Some(seconds * SECOND);
        let is = |state, why: &str, since, until| (state, why.to_owned(), since, until);
        // What comes first is taken away, one after the other.
        let (sick, first) = ("its health check fails", "its first health check is under way");
        assert_eq!(told(|_, _| ()), is(Unhealthy, sick, s(3), None));
        let why = "failure_rate: 10 of 40 failed, 0.250 (limit 0.030, usual 0.010)";
        assert_eq!(told(|it, _| it.health = Health::Pending), is(Ejected, why, s(7), s(23)));
        assert_eq!(told(|it, _| it.ejected = None), is(HalfOpen, "breaker: ratio", s(5), s(2)));
        let open = |it: &mut EndpointStatus, _| {
            it.gate.iter_mut().for_each(|gate| gate.state = "open");
        };
        assert_eq!(told(open), is(Open, "breaker: ratio", s(5), s(2)));
        assert_eq!(told(|it, _| it.open = true), is(HalfOpen, "breaker: ratio", s(5), s(2)));
        let closed = |it: &mut EndpointStatus, _| {
            it.gate.iter_mut().for_each(|gate| (gate.state, gate.until) = ("closed", None));
        };
        assert_eq!(told(closed), is(Pending, first, s(3), None));
        let asked = "it asked to be left alone";
        assert_eq!(told(|it, _| it.health = Health::Healthy), is(SetAside, asked, None, s(1)));
        let rested = |it: &mut EndpointStatus, now| it.set_aside_until = Some(now);
        assert_eq!(told(rested), is(Doubted, "it failed a short while ago", None, None));
        let trusted = told(|it, _| it.doubted = false);
        assert_eq!(trusted, is(SlowStart, "it has 40 % of its share", None, None));
        // Since it was well and its breaker closed, whichever came later.
        assert_eq!(told(|it, _| it.share = 1.0), is(Serving, "", s(3), None));
        let well = |it: &mut EndpointStatus, now: Instant| it.health_since = now - 9 * SECOND;
        assert_eq!(told(well), is(Serving, "", s(5), None));
        assert_eq!(told(|it, _| it.gate = None), is(Serving, "", s(9), None));
    }

    #[test]
    fn an_ejection_is_told_with_its_evidence_in_the_words_of_its_test() {
        let now = crate::time::now();
        for (by, why) in [
            (Outlier::FailureRate, "10 of 40 failed, 0.250 (limit 0.030, usual 0.010)"),
            (Outlier::Latency, "0.250 s in 40 answers (limit 0.030, usual 0.010)"),
            (Outlier::ServerErrors, "10 in a row"),
            (Outlier::GatewayFailures, "10 in a row"),
            (Outlier::LocalFailures, "10 in a row"),
        ] {
            let told = EjectionSnapshot::new(&ejection(by, now), now);
            assert_eq!(told.why(), format!("{}: {why}", by.as_str()));
            assert_eq!((told.since, told.until, told.times), (7 * SECOND, 23 * SECOND, 2));
            assert_eq!(told.chance, Some(1e-9));
        }
        let mut alone = ejection(Outlier::FailurePercentage, now);
        alone.evidence.usual = None;
        let why = EjectionSnapshot::new(&alone, now).why();
        assert_eq!(why, "failure_percentage: 10 of 40 failed, 0.250 (limit 0.030)");
    }

    #[test]
    fn a_server_that_has_said_one_thing_of_itself_is_told_with_that() {
        let now = crate::time::now();
        let told = |change: fn(&mut EndpointStatus)| {
            let mut status = worst(now);
            change(&mut status);
            EndpointSnapshot::new(&status, now).report
        };
        assert!(told(|_| ()).is_none());
        let report = told(|it| {
            (it.reported_in_flight, it.reported_in_flight_age) = (Some(7.0), Some(SECOND));
        });
        let report = report.expect("it has said how many");
        assert_eq!((report.in_flight, report.in_flight_age), (Some(7.0), Some(SECOND)));
        let report = told(|it| it.reported_utilization = Some((0.5, 2 * SECOND)));
        let report = report.expect("it has said how busy");
        assert_eq!((report.utilization, report.utilization_age), (Some(0.5), Some(2 * SECOND)));
    }
}
