//! An endpoint as the balancer knows it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    config::MAX_SET_ASIDE,
    eject::{Counts, Ejection, Origin},
    load::{Load, later},
    recent::Recent,
};
use crate::{
    call::{Asked, Target},
    classify::{Blame, Pushback, Sent, Settle, Verdict},
    endpoint::{Endpoint, EndpointKey, Gate, GateStatus, Health, LoadReport},
    sync::{AtomicU32, AtomicU64, Ordering},
    time::now,
};

/// One endpoint: its service, its gate, and how it does. Shared by all snapshots it is in.
#[derive(Debug)]
pub(crate) struct Node<S, G> {
    pub(super) key: EndpointKey,
    pub(crate) endpoint: Endpoint,
    pub(crate) service: S,
    pub(super) gate: G,
    pub(super) load: Load,
    /// What ejection looks at, if it does.
    pub(super) counts: Option<Counts>,
    /// Where it is in the set that was published last.
    pub(super) place: AtomicU32,
    recent: Arc<Recent>,
    epoch: Instant,
    /// Until when it asked to be left alone, in nanoseconds after the epoch; 0 is not at all.
    /// Relaxed: it stands alone.
    set_aside: AtomicU64,
    /// Since when it has been what the active check says of it now, as above. Written by the driver
    /// alone, read by who looks.
    health_since: AtomicU64,
}

impl<S, G> Node<S, G> {
    /// Shares with all others of its balancer what was heard when, counted from `epoch`.
    pub(super) fn new(
        endpoint: Endpoint,
        service: S,
        gate: G,
        load: Load,
        recent: Arc<Recent>,
        epoch: Instant,
    ) -> Self {
        let (key, place) = (EndpointKey::unique(), AtomicU32::new(0));
        let (set_aside, health_since) = (AtomicU64::new(0), AtomicU64::new(0));
        let counts = None;
        Self {
            key,
            endpoint,
            service,
            gate,
            load,
            counts,
            place,
            recent,
            epoch,
            set_aside,
            health_since,
        }
    }

    pub(super) fn with_counts(mut self, counts: Option<Counts>) -> Self {
        self.counts = counts;
        self
    }

    pub(super) fn target(&self) -> Target {
        Target::new(self.key, self.endpoint.address())
    }

    /// Leaves the endpoint alone for `wish`, or for as long as we follow such a wish.
    fn set_aside(&self, wish: Duration, now: Instant) {
        let until = now + wish.min(MAX_SET_ASIDE);
        let nanos = until.saturating_duration_since(self.epoch).as_nanos();
        self.set_aside.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// It has joined, or the active check says something else of it.
    pub(super) fn health_changed(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos();
        // Relaxed: it stands alone.
        self.health_since.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn health_since(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.health_since.load(Ordering::Relaxed))
    }

    /// Until when it is to be left alone, if that is not over.
    pub(super) fn set_aside_until(&self, now: Instant) -> Option<Instant> {
        let nanos = self.set_aside.load(Ordering::Relaxed);
        if nanos == 0 {
            return None;
        }
        let until = self.epoch + Duration::from_nanos(nanos);
        (until > now).then_some(until)
    }

    #[cfg(feature = "testing")]
    pub(crate) const fn key(&self) -> EndpointKey {
        self.key
    }

    /// What an answer takes in the fleet, in seconds.
    pub(super) fn usual_latency(&self) -> f64 {
        self.recent.latency()
    }

    /// A call that was admitted begins.
    #[cfg(feature = "testing")]
    pub(crate) fn begin(&self, now: Instant) {
        self.load.begin(self.load.tick(now));
    }

    /// Its head, or an error, has come to a call that began then, in the loads' own time as well.
    fn answered_at(
        &self,
        verdict: Verdict,
        report: impl FnOnce() -> Option<LoadReport>,
        (began, tick): (Instant, u32),
        now: Instant,
    ) {
        let took = now.saturating_duration_since(began);
        // To a tick, and without the instants' distance from the epoch as well.
        let tick = later(tick, took);
        self.load.heard_at(tick);
        if Sign::of(verdict) == Sign::Good {
            self.load.observe_at(took, tick);
            if let Some(counts) = &self.counts {
                counts.took(took);
            }
            self.recent.heard(self.place.load(Ordering::Relaxed), took.as_secs_f32());
            if let Some(report) = self.recent.listens(tick).then(report).flatten() {
                self.reported(&report, tick);
            }
        }
        // A wish that comes with a failure is the endpoint's. With any other answer it is about
        // that one request (a 409 to a key whose first call still runs).
        if let (Pushback::After(wish), true) = (verdict.pushback, verdict.is_failure()) {
            self.set_aside(wish, now);
        }
    }

    /// Its head, or an error, has come.
    #[cfg(feature = "testing")]
    pub(crate) fn answered(
        &self,
        verdict: Verdict,
        report: impl FnOnce() -> Option<LoadReport>,
        began: Instant,
        now: Instant,
    ) {
        self.answered_at(verdict, report, (began, self.load.tick(began)), now);
    }

    /// With an answer its server said how busy it is.
    fn reported(&self, report: &LoadReport, tick: u32) {
        self.load.said.take(report, tick);
        self.recent.report();
        if let Some(in_flight) = report.in_flight {
            self.recent.reported(in_flight, tick);
        }
    }

    /// What became of it is known, to the end of its body: one that breaks off is a failure too.
    #[cfg(feature = "testing")]
    pub(crate) fn settled(&self, verdict: Verdict, began: Instant, now: impl FnOnce() -> Instant) {
        self.settled_by(verdict, Origin::Answer, began, now);
    }

    fn settled_by(
        &self,
        verdict: Verdict,
        origin: Origin,
        began: Instant,
        now: impl FnOnce() -> Instant,
    ) {
        if let Some(counts) = &self.counts {
            counts.count(verdict, origin);
        }
        match Sign::of(verdict) {
            Sign::Good => self.load.succeeded(began),
            Sign::Bad => self.load.failed(began, now()),
            Sign::None => {}
        }
    }

    /// It was given up before there was an answer.
    pub(crate) fn given_up(&self, deadline: Option<Instant>, began: Instant, now: Instant) {
        self.load.heard(now);
        if Asked::dropped_at(deadline, now).is_failure() {
            // Cut off by our own deadline.
            self.load.failed(began, now);
            if let Some(counts) = &self.counts {
                counts.count(Verdict::TIMED_OUT, Origin::Local);
            }
        } else {
            // Given up by the caller, or the loser of a race. That is no failure, but it would
            // have taken longer.
            self.load.at_least(now.saturating_duration_since(began), now);
        }
    }

    /// It is over, whatever became of it.
    pub(crate) fn end(&self) {
        self.load.end();
    }
}

/// What an outcome says of the endpoint that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It answered for the call, if only to say that the request was wrong.
    Good,
    /// It failed, or turned the call away unprocessed: that took no time, and must not make it
    /// look fast.
    Bad,
    /// Nothing: the request was wrong before it was sent, or its caller gave it up.
    None,
}

impl Sign {
    const fn of(verdict: Verdict) -> Self {
        match (verdict.blame, verdict.sent) {
            (Blame::Endpoint | Blame::Service, _) => Self::Bad,
            (Blame::Caller, _) => Self::None,
            (_, Sent::Processed) => Self::Good,
            (Blame::Nobody, _) => Self::Bad,
            (Blame::Client, _) => Self::None,
        }
    }
}

/// What a call holds of its endpoint until its response has been read: a place in flight and
/// the gate's ticket.
pub struct Held<S, G: Gate> {
    node: Arc<Node<S, G>>,
    /// None once it is settled.
    ticket: Option<G::Ticket>,
    deadline: Option<Instant>,
    began: Instant,
    /// The same in the loads' own time.
    tick: u32,
    /// None while nothing has come.
    answered: Option<Origin>,
}

impl<S, G: Gate> Held<S, G> {
    pub(super) fn new(
        node: Arc<Node<S, G>>,
        ticket: G::Ticket,
        asked: Asked,
        (began, tick): (Instant, u32),
    ) -> Self {
        node.load.begin(tick);
        Self { node, ticket: Some(ticket), deadline: asked.deadline, began, tick, answered: None }
    }

    pub(crate) fn node(&self) -> &Node<S, G> {
        &self.node
    }

    /// When the endpoint was picked.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// The head, or an error, has come: the round trip is known.
    ///
    /// The server's own report is asked for only where there may be one.
    pub(crate) fn answered(
        &mut self,
        verdict: Verdict,
        report: impl FnOnce() -> Option<LoadReport>,
    ) {
        self.heard(Origin::Answer, verdict, report);
    }

    /// There will be no answer.
    pub(super) fn failed(&mut self, verdict: Verdict) {
        self.heard(Origin::Local, verdict, || None);
    }

    #[inline]
    fn heard(
        &mut self,
        origin: Origin,
        verdict: Verdict,
        report: impl FnOnce() -> Option<LoadReport>,
    ) {
        let now = now();
        if let Some(ticket) = &mut self.ticket {
            self.node.gate.answered(ticket, self.began, now);
        }
        self.answered = Some(origin);
        self.node.answered_at(verdict, report, (self.began, self.tick), now);
    }
}

impl<S, G: Gate> Settle for Held<S, G> {
    fn settle(&mut self, verdict: Verdict) {
        let origin = self.answered.unwrap_or(Origin::Local);
        // Once at the most: a success hardly ever asks.
        let mut read = None;
        let mut now = || *read.get_or_insert_with(now);
        self.node.settled_by(verdict, origin, self.began, &mut now);
        if let Some(ticket) = self.ticket.take() {
            self.node.gate.settle(ticket, verdict, self.began, now);
        }
    }

    fn report(&mut self, report: LoadReport) {
        self.node.reported(&report, self.node.load.tick(now()));
    }
}

// Not derived: a response that holds one is `Debug` whatever the service and the gate are.
impl<S, G: Gate> fmt::Debug for Held<S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.node.endpoint)
    }
}

impl<S, G: Gate> Drop for Held<S, G> {
    fn drop(&mut self) {
        self.node.end();
        if self.answered.is_none() || self.ticket.is_some() {
            self.give_up();
        }
    }
}

impl<S, G: Gate> Held<S, G> {
    /// It is dropped before its answer came, or before somebody said what became of it.
    #[cold]
    fn give_up(&mut self) {
        let now = now();
        if self.answered.is_none() {
            self.node.given_up(self.deadline, self.began, now);
        }
        if let Some(ticket) = self.ticket.take() {
            let verdict = Asked::dropped_at(self.deadline, now);
            self.node.gate.settle(ticket, verdict, self.began, || now);
        }
    }
}

/// How one endpoint does, for operators and tests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Which it is.
    pub endpoint: Endpoint,
    /// The key of its state.
    pub key: EndpointKey,
    /// What the active check says.
    pub health: Health,
    /// Since when it says so; where nobody checks, since when the endpoint is there.
    pub health_since: Instant,
    /// Whether its gate is likely to admit a call.
    pub open: bool,
    /// In which state its gate is, why and since when, if it says so.
    pub gate: Option<GateStatus>,
    /// Since when, until when, by which test and with which numbers it is ejected, if it is.
    pub ejected: Option<Ejection>,
    /// Which share of its weight it has: less than 1 while it starts slowly.
    pub share: f64,
    /// Until when it asked to be left alone.
    pub set_aside_until: Option<Instant>,
    /// What its next answer is expected to take.
    pub cost: Duration,
    /// Whether it failed a short while ago, so that others are preferred.
    pub doubted: bool,
    /// Calls in flight, until their responses have been read.
    pub in_flight: u32,
    /// How many requests its server has said that it works on, and the calls that this client has
    /// sent since; none if it has never said so.
    pub reported_in_flight: Option<f32>,
    /// How long ago it said that.
    pub reported_in_flight_age: Option<Duration>,
    /// How busy its server has said that it is, 1 being all it has, and how long ago.
    pub reported_utilization: Option<(f32, Duration)>,
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::endpoint::Open;

    #[test]
    fn of_two_wishes_to_be_left_alone_the_longer_is_followed() {
        loom::model(|| {
            let now = crate::time::now();
            let endpoint = Endpoint::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
            let load = Load::new(now, Duration::from_secs(4), None, now);
            let recent = Arc::new(Recent::new());
            let node = Arc::new(Node::new(endpoint, (), Open::new(), load, recent, now));
            let other = {
                let node = Arc::clone(&node);
                thread::spawn(move || node.set_aside(Duration::from_secs(2), now))
            };
            node.set_aside(Duration::from_secs(1), now);
            assert!(node.set_aside_until(now) >= Some(now + Duration::from_secs(1)));
            other.join().expect("it only wishes");
            assert_eq!(node.set_aside_until(now), Some(now + Duration::from_secs(2)));
        });
    }
}
