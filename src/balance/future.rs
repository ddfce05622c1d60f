//! One attempt: pick, admit, call.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    error::{AtEndpoint, NoEndpoint},
    node::{Held, Node},
    service::Shared,
    snapshot::{Choice, Snapshot},
};
use crate::{
    call::{Asked, Carrier, Tried, mark_target, mark_unknown, mark_unsent},
    classify::{Classify, Marked, Retry, Sent, Settle, Verdict},
    endpoint::{EndpointKey, Gate},
    error::BoxError,
    time::{Sleep, now},
};

pin_project! {
    /// The future of [`Balance`](super::Balance).
    pub struct BalanceFuture<S, G, Cl, C>
    where
        S: Service<C>,
        G: Gate,
    {
        shared: Arc<Shared<S, G>>,
        classifier: Cl,
        search: Search,
        ticket: Ticket<S, G>,
        #[pin]
        state: State<C, S, S::Future, Held<S, G>>,
    }
}

pin_project! {
    #[project = StateProj]
    // The call stands where its attempt will: both together would make every future larger.
    enum State<C, S, F, H> {
        Picking { call: Option<C> },
        /// For a first endpoint, or for one that asked to be left alone; or for another set
        /// than the one that was `seen`.
        Waiting { call: Option<C>, #[pin] sleep: Sleep, seen: u64 },
        GettingReady { call: Option<C>, service: S, held: Option<H> },
        Calling { #[pin] attempt: F, held: Option<H> },
        Ended,
    }
}

/// What the search for an endpoint has to know.
#[derive(Clone, Copy)]
struct Search {
    asked: Asked,
    tried: Tried,
    began: Option<Instant>,
}

impl<S, G, Cl, C> BalanceFuture<S, G, Cl, C>
where
    S: Service<C>,
    G: Gate,
    C: Carrier,
{
    pub(super) fn new(shared: Arc<Shared<S, G>>, classifier: Cl, call: C) -> Self {
        let search = call.words().map_or_else(
            || Search { asked: Asked::default(), tried: Tried::default(), began: None },
            |words| Search { asked: words.asked(), tried: words.tried, began: None },
        );
        let ticket = Ticket { shared: None, number: None };
        Self { shared, classifier, search, ticket, state: State::Picking { call: Some(call) } }
    }
}

impl<S, G, Cl, C> Future for BalanceFuture<S, G, Cl, C>
where
    S: Service<C> + Clone,
    S::Error: Into<BoxError>,
    G: Gate,
    Cl: Classify<S::Response>,
{
    type Output = Result<Cl::Guarded<Held<S, G>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Picking { call } => {
                    mark_unsent();
                    let snapshot = this.shared.snapshot.load();
                    match this.search.find(this.shared, &snapshot) {
                        Found::Held(held) => {
                            let mut service = held.node().service.clone();
                            // Most are ready at once: their call moves once less.
                            match service.poll_ready(cx) {
                                Poll::Ready(Ok(())) => {
                                    let call = call.take().expect("a call is called once");
                                    this.state.set(begin(&mut service, call, held));
                                }
                                Poll::Ready(Err(error)) => {
                                    this.state.set(State::Ended);
                                    let asked = this.search.asked;
                                    let error = unready(error, asked, held, this.classifier);
                                    return Poll::Ready(Err(error));
                                }
                                Poll::Pending => {
                                    let (call, held) = (call.take(), Some(held));
                                    this.state.set(State::GettingReady { call, service, held });
                                    return Poll::Pending;
                                }
                            }
                        }
                        Found::Wait(at) => {
                            let (call, sleep) = (call.take(), Sleep::until(at));
                            let seen = snapshot.version;
                            this.state.set(State::Waiting { call, sleep, seen });
                        }
                        Found::Nobody(error) => {
                            this.state.set(State::Ended);
                            return Poll::Ready(Err(error.into()));
                        }
                    }
                }
                StateProj::Waiting { call, sleep, seen } => {
                    if sleep.poll(cx).is_pending() {
                        this.ticket.wait(this.shared, cx);
                        // Looked at after the ticket: a change before it wakes nobody.
                        if this.shared.snapshot.load().version == *seen {
                            return Poll::Pending;
                        }
                    }
                    this.ticket.leave();
                    let call = call.take();
                    this.state.set(State::Picking { call });
                }
                StateProj::GettingReady { call, service, held } => {
                    let ready = ready!(service.poll_ready(cx));
                    let held = held.take().expect("it is held while it is called");
                    if let Err(error) = ready {
                        this.state.set(State::Ended);
                        let asked = this.search.asked;
                        let error = unready(error, asked, held, this.classifier);
                        return Poll::Ready(Err(error));
                    }
                    let call = call.take().expect("a call is called once");
                    let begun = begin(service, call, held);
                    this.state.set(begun);
                }
                StateProj::Calling { attempt, held } => {
                    let result = ready!(attempt.poll(cx));
                    let mut held = held.take().expect("it is held while it is called");
                    this.state.set(State::Ended);
                    let asked = this.search.asked;
                    return Poll::Ready(match result {
                        Ok(response) => {
                            let verdict = this.classifier.response(asked, &response);
                            held.answered(verdict);
                            Ok(this.classifier.guard(asked, response, verdict, held))
                        }
                        Err(error) => {
                            let error = error.into();
                            let verdict = this.classifier.error(asked, &*error);
                            Err(failed(error, verdict, held))
                        }
                    });
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        }
    }
}

/// What came of a search.
enum Found<S, G: Gate> {
    Held(Held<S, G>),
    Wait(Instant),
    Nobody(NoEndpoint),
}

/// Gates that may refuse one call before everybody left is asked in turn: so many refusals by
/// gates that looked open are rare, and to remember more would make each call larger.
const MAX_REFUSED: usize = 8;

/// As good as for ever, for a wait that is too long to be counted.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

impl Search {
    fn find<S, G: Gate>(
        &mut self,
        shared: &Shared<S, G>,
        snapshot: &Snapshot<S, G>,
    ) -> Found<S, G> {
        let now = now();
        let began = *self.began.get_or_insert(now);
        let deadline = self.asked.deadline;
        let limit = || {
            let limit = began.checked_add(shared.config.empty_wait).unwrap_or(began + FOREVER);
            deadline.map_or(limit, |deadline| deadline.min(limit))
        };
        if snapshot.members.is_empty() {
            let limit = limit();
            if now < limit {
                return Found::Wait(limit);
            }
            let waited = now.saturating_duration_since(began);
            return Found::Nobody(NoEndpoint::Unknown { waited });
        }
        let mut refused = Refused::default();
        // While first checks are under way nobody knows how few are fit: it is too early for
        // panic, which would call those that have not even been asked.
        let early = snapshot.awaited && now < limit();
        let mut panic = !early && shared.in_panic(snapshot, now, false);
        loop {
            let draw = || shared.config.entropy.draw();
            match snapshot.choose(&self.tried, refused.keys(), panic, now, draw) {
                Choice::Node(node) => match self.admit(node, panic, now) {
                    Some(held) => return Found::Held(held),
                    None if refused.insert(node.key) => {}
                    None => match self.ask_all(shared, snapshot, now) {
                        Some(held) => return Found::Held(held),
                        None if shared.may_panic() => panic = true,
                        None => return nobody(snapshot),
                    },
                },
                Choice::SetAside(at) => return self.set_aside(at, now, shared, snapshot),
                Choice::Nobody if early => return Found::Wait(limit()),
                // Where all that looked open have refused after all (breakers that let only a few
                // pass while they recover), nobody may be called: fewer than any threshold.
                Choice::Nobody
                    if !panic
                        && (refused.is_some() && shared.may_panic()
                            || shared.in_panic(snapshot, now, true)) =>
                {
                    panic = true;
                    refused = Refused::default();
                }
                Choice::Nobody => return nobody(snapshot),
            }
        }
    }

    /// Asks everybody in turn, whatever their load, from a random one on.
    fn ask_all<S, G: Gate>(
        &self,
        shared: &Shared<S, G>,
        snapshot: &Snapshot<S, G>,
        now: Instant,
    ) -> Option<Held<S, G>> {
        let start = shared.config.entropy.draw();
        snapshot.in_turn(start, now).find_map(|node| self.admit(node, false, now))
    }

    fn admit<S, G: Gate>(
        &self,
        node: &Arc<Node<S, G>>,
        panic: bool,
        now: Instant,
    ) -> Option<Held<S, G>> {
        let permit = if panic {
            node.gate.admit_anyway(now, self.asked)
        } else {
            node.gate.admit(now, self.asked).ok()?
        };
        mark_target(node.target());
        Some(Held::new(Arc::clone(node), permit, self.asked, now))
    }

    /// All that may be called asked to be left alone: wait for the first, if there is time, and
    /// up to half as long again (Envoy), so that those who wait don't all return at once.
    fn set_aside<S, G: Gate>(
        &self,
        at: Instant,
        now: Instant,
        shared: &Shared<S, G>,
        snapshot: &Snapshot<S, G>,
    ) -> Found<S, G> {
        let mut spread = at.saturating_duration_since(now) / 2;
        if let Some(deadline) = self.asked.deadline {
            if at >= deadline {
                let known = snapshot.members.len();
                return Found::Nobody(NoEndpoint::SetAside { known, retry_at: at });
            }
            // What is left is for the call.
            spread = spread.min(deadline.saturating_duration_since(at) / 2);
        }
        Found::Wait(at + spread.mul_f64(shared.config.entropy.unit()))
    }
}

/// Calls the instance that was ready.
fn begin<C, S: Service<C>, H>(service: &mut S, call: C, held: H) -> State<C, S, S::Future, H> {
    mark_unknown();
    State::Calling { attempt: service.call(call), held: Some(held) }
}

/// Settles an attempt whose endpoint failed to get ready.
fn unready<S, G: Gate, Res>(
    error: impl Into<BoxError>,
    asked: Asked,
    held: Held<S, G>,
    classifier: &impl Classify<Res>,
) -> BoxError {
    let error = error.into();
    let verdict = uncalled(classifier.error(asked, &*error));
    failed(Marked::new(verdict, error).into(), verdict, held)
}

/// Settles an attempt that failed without a response.
fn failed<S, G: Gate>(error: BoxError, verdict: Verdict, mut held: Held<S, G>) -> BoxError {
    held.answered(verdict);
    held.settle(verdict);
    AtEndpoint::new(held.node().endpoint.clone(), error).into()
}

/// An endpoint that failed to get ready was not called: whatever its error looks like, the
/// request was not carried out, and may be tried elsewhere.
const fn uncalled(mut verdict: Verdict) -> Verdict {
    verdict.sent = Sent::No;
    if matches!(verdict.retry, Retry::IfSafe) {
        verdict.retry = Retry::Always;
    }
    verdict
}

fn nobody<S, G: Gate>(snapshot: &Snapshot<S, G>) -> Found<S, G> {
    Found::Nobody(NoEndpoint::Refused { known: snapshot.members.len() })
}

/// Endpoints whose gates have refused this search.
#[derive(Default)]
struct Refused {
    keys: [Option<EndpointKey>; MAX_REFUSED],
    count: usize,
}

impl Refused {
    fn keys(&self) -> &[Option<EndpointKey>] {
        &self.keys[..self.count]
    }

    const fn is_some(&self) -> bool {
        self.count > 0
    }

    /// `false` when there is no place for another.
    fn insert(&mut self, key: EndpointKey) -> bool {
        let Some(place) = self.keys.get_mut(self.count) else { return false };
        *place = Some(key);
        self.count += 1;
        true
    }
}

/// A place among the calls that wait, given back on drop.
struct Ticket<S, G> {
    shared: Option<Arc<Shared<S, G>>>,
    number: Option<u64>,
}

impl<S, G> Ticket<S, G> {
    fn wait(&mut self, shared: &Arc<Shared<S, G>>, cx: &Context<'_>) {
        let shared = self.shared.get_or_insert_with(|| Arc::clone(shared));
        shared.wait(&mut self.number, cx.waker());
    }

    fn leave(&mut self) {
        if let (Some(shared), Some(number)) = (&self.shared, self.number.take()) {
            shared.leave(number);
        }
    }
}

impl<S, G> Drop for Ticket<S, G> {
    fn drop(&mut self) {
        self.leave();
    }
}
