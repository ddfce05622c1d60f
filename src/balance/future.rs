//! One attempt: pick, admit, call.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
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
    classify::{Classify, Settle, Verdict},
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
        call: Option<C>,
        held: Option<Held<S, G>>,
        ticket: Ticket<S, G>,
        #[pin]
        state: State<S, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F> {
        Picking,
        /// For a first endpoint, or for one that asked to be left alone.
        Waiting { #[pin] sleep: Sleep, until: Until },
        GettingReady { service: S },
        Calling { #[pin] attempt: F },
        Ended,
    }
}

/// What is waited for.
#[derive(Clone, Copy)]
enum Until {
    /// A first endpoint.
    Known,
    /// The end of somebody's wish to be left alone.
    Rested,
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
        let call = Some(call);
        Self { shared, classifier, search, call, held: None, ticket, state: State::Picking }
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
                StateProj::Picking => {
                    mark_unsent();
                    let snapshot = this.shared.snapshot.load();
                    match this.search.find(this.shared, &snapshot) {
                        Found::Held(held) => {
                            let service = held.node().service.clone();
                            *this.held = Some(held);
                            this.state.set(State::GettingReady { service });
                        }
                        Found::Wait(at, until) => {
                            this.state.set(State::Waiting { sleep: Sleep::until(at), until });
                        }
                        Found::Nobody(error) => {
                            this.state.set(State::Ended);
                            return Poll::Ready(Err(error.into()));
                        }
                    }
                }
                StateProj::Waiting { sleep, until } => {
                    let elapsed = sleep.poll(cx).is_ready();
                    match until {
                        Until::Rested if !elapsed => return Poll::Pending,
                        Until::Known if this.shared.snapshot.load().members.is_empty() => {
                            if elapsed {
                                let error = this.search.nobody_known();
                                this.state.set(State::Ended);
                                return Poll::Ready(Err(error.into()));
                            }
                            this.ticket.wait(this.shared, cx);
                            // It may have come between the look and the ticket.
                            if this.shared.snapshot.load().members.is_empty() {
                                return Poll::Pending;
                            }
                        }
                        _ => {}
                    }
                    this.state.set(State::Picking);
                }
                StateProj::GettingReady { service } => match ready!(service.poll_ready(cx)) {
                    Ok(()) => {
                        mark_unknown();
                        let call = this.call.take().expect("a call is called once");
                        let attempt = service.call(call);
                        this.state.set(State::Calling { attempt });
                    }
                    Err(error) => {
                        this.state.set(State::Ended);
                        let held = this.held.take().expect("it is held while it is called");
                        return Poll::Ready(Err(this.search.failed(
                            error.into(),
                            held,
                            this.shared,
                            this.classifier,
                        )));
                    }
                },
                StateProj::Calling { attempt } => {
                    let result = ready!(attempt.poll(cx));
                    this.state.set(State::Ended);
                    let mut held = this.held.take().expect("it is held while it is called");
                    let asked = this.search.asked;
                    return Poll::Ready(match result {
                        Ok(response) => {
                            let verdict = this.classifier.response(asked, &response);
                            held.answered(verdict, || penalty(this.shared));
                            Ok(this.classifier.guard(asked, response, verdict, held))
                        }
                        Err(error) => {
                            let error = error.into();
                            Err(this.search.failed(error, held, this.shared, this.classifier))
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
    Wait(Instant, Until),
    Nobody(NoEndpoint),
}

/// Gates that may refuse one call before the panic is asked. More than that many gates that
/// close between a look and an admission is as good as all.
const MAX_REFUSED: usize = 8;

impl Search {
    fn find<S, G: Gate>(
        &mut self,
        shared: &Shared<S, G>,
        snapshot: &Snapshot<S, G>,
    ) -> Found<S, G> {
        let now = now();
        let began = *self.began.get_or_insert(now);
        if snapshot.members.is_empty() {
            let limit = began + shared.config.empty_wait;
            let limit = self.asked.deadline.map_or(limit, |deadline| deadline.min(limit));
            return Found::Wait(limit, Until::Known);
        }
        let mut refused = Refused::default();
        let mut panic = shared.in_panic(snapshot, now, false);
        loop {
            let draw = || shared.config.entropy.draw();
            match snapshot.choose(&self.tried, refused.keys(), panic, now, draw) {
                Choice::Node(node) => match self.admit(node, panic, now) {
                    Some(held) => return Found::Held(held),
                    None if refused.insert(node.key) => {}
                    None => return nobody(snapshot),
                },
                Choice::SetAside(at) => return self.set_aside(at, now, snapshot),
                Choice::Nobody if !panic && shared.in_panic(snapshot, now, true) => {
                    panic = true;
                    refused = Refused::default();
                }
                Choice::Nobody => return nobody(snapshot),
            }
        }
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

    /// All that may be called asked to be left alone: wait for the first, if there is time.
    fn set_aside<S, G: Gate>(
        &self,
        at: Instant,
        now: Instant,
        snapshot: &Snapshot<S, G>,
    ) -> Found<S, G> {
        if self.asked.deadline.is_some_and(|deadline| at >= deadline) {
            let known = snapshot.members.len();
            return Found::Nobody(NoEndpoint::SetAside { known, retry_at: at });
        }
        Found::Wait(at.max(now), Until::Rested)
    }

    fn nobody_known(&self) -> NoEndpoint {
        let waited = self.began.map(|began| now().saturating_duration_since(began));
        NoEndpoint::Unknown { waited: waited.unwrap_or_default() }
    }

    /// Settles an attempt that failed without a response.
    fn failed<S, G: Gate, Res>(
        &self,
        error: BoxError,
        mut held: Held<S, G>,
        shared: &Shared<S, G>,
        classifier: &impl Classify<Res>,
    ) -> BoxError {
        let verdict: Verdict = classifier.error(self.asked, &*error);
        held.answered(verdict, || penalty(shared));
        held.settle(verdict);
        AtEndpoint::new(held.node().endpoint.clone(), error).into()
    }
}

fn nobody<S, G: Gate>(snapshot: &Snapshot<S, G>) -> Found<S, G> {
    Found::Nobody(NoEndpoint::Refused { known: snapshot.members.len() })
}

/// How much slower than a usual answer a failure counts. Small: with a long decay, a large one
/// would shun a good endpoint for a minute after one stray failure.
const PENALTY: f64 = 3.0;

fn penalty<S, G: Gate>(shared: &Shared<S, G>) -> f64 {
    let now = now();
    let usual = shared.snapshot.load().usual_cost(now, || shared.config.entropy.draw());
    usual.unwrap_or_default() * PENALTY
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
}

impl<S, G> Drop for Ticket<S, G> {
    fn drop(&mut self) {
        if let (Some(shared), Some(number)) = (&self.shared, self.number) {
            shared.leave(number);
        }
    }
}
