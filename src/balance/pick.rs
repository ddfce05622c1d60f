//! The search for the endpoint of one attempt.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

use super::{
    error::NoEndpoint,
    load::tick,
    node::{Held, Node},
    service::Shared,
    snapshot::{Choice, Snapshot, Wanted},
};
use crate::{
    call::{Asked, Tried, Words, mark_target, mark_unsent},
    endpoint::{EndpointKey, Gate},
    time::{Sleep, now},
};

/// Finds an endpoint whose gate admits the attempt; waits for a first one, or for one that asked
/// to be left alone.
pub(crate) struct Pick<S, G> {
    /// When it was first looked for.
    began: Option<Instant>,
    // In a box: hardly any call waits, and its timer would make all of them larger.
    waiting: Option<Pin<Box<Waiting<S, G>>>>,
}

impl<S, G: Gate> Pick<S, G> {
    pub(crate) const fn new() -> Self {
        Self { began: None, waiting: None }
    }

    /// What the attempt holds of the endpoint that was found for it.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        shared: &Arc<Shared<S, G>>,
        words: Option<&Words>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Held<S, G>, NoEndpoint>> {
        let search = Search::of(words);
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            mark_unsent();
            let snapshot = shared.snapshot.load();
            match search.find(&mut self.began, shared, &snapshot, now()) {
                Found::Admitted(node, ticket, begun) => {
                    let held = Held::new(node, ticket, search.asked, begun);
                    return Poll::Ready(Ok(held));
                }
                Found::Nobody(error) => return Poll::Ready(Err(error)),
                Found::Wait(at) => {
                    self.waiting = Some(Box::pin(Waiting {
                        sleep: Sleep::until(at),
                        ticket: Ticket { shared: Arc::clone(shared), number: None },
                        seen: snapshot.version,
                    }));
                }
            }
        }
    }
}

pin_project! {
    /// The wait for an instant, or for another set of endpoints than the one that was `seen`.
    struct Waiting<S, G> {
        #[pin]
        sleep: Sleep,
        ticket: Ticket<S, G>,
        seen: u64,
    }
}

impl<S, G> Future for Waiting<S, G> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.sleep.poll(cx).is_pending() {
            this.ticket.wait(cx);
            // Looked at after the ticket: a change before it wakes nobody.
            if this.ticket.shared.snapshot.load().version == *this.seen {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

/// A place among the calls that wait, given back on drop.
struct Ticket<S, G> {
    shared: Arc<Shared<S, G>>,
    number: Option<u64>,
}

impl<S, G> Ticket<S, G> {
    fn wait(&mut self, cx: &Context<'_>) {
        self.shared.wait(&mut self.number, cx.waker());
    }
}

impl<S, G> Drop for Ticket<S, G> {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.shared.leave(number);
        }
    }
}

/// What the search has to know of the call.
pub(super) struct Search<'a> {
    asked: Asked,
    wanted: Wanted<'a>,
}

/// What came of a search.
pub(super) enum Found<S, G: Gate> {
    /// This one, and since when, in the loads' own time as well.
    Admitted(Arc<Node<S, G>>, G::Ticket, (Instant, u32)),
    Wait(Instant),
    Nobody(NoEndpoint),
}

/// Gates that may refuse one call before everybody left is asked in turn: so many refusals by
/// gates that looked open are rare, and to remember more would make each call larger.
const MAX_REFUSED: usize = 8;

/// As good as for ever, for a wait that is too long to be counted.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

impl<'a> Search<'a> {
    #[inline]
    pub(super) fn of(words: Option<&'a Words>) -> Self {
        let tried = words.map_or(&Tried::NONE, |words| &words.tried);
        let asked = words.map(Words::asked).unwrap_or_default();
        Self { asked, wanted: Wanted { tried, words } }
    }

    pub(super) fn find<S, G: Gate>(
        &self,
        began: &mut Option<Instant>,
        shared: &Shared<S, G>,
        snapshot: &Snapshot<S, G>,
        now: Instant,
    ) -> Found<S, G> {
        let began = *began.get_or_insert(now);
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
        let since = now.saturating_duration_since(shared.epoch);
        let begun = (now, tick(since));
        let mut panic = !early && shared.in_panic(snapshot, now, since, false);
        if panic && shared.config.fails_in_panic {
            return nobody(snapshot);
        }
        loop {
            let draw = || shared.config.entropy.draw();
            match snapshot.choose(self.wanted, &shared.recent, refused.keys(), panic, begun, draw) {
                Choice::Node(node) => match self.admit(node, panic, begun) {
                    Some(admitted) => return admitted,
                    None if refused.insert(node.key) => {}
                    None => match self.ask_all(shared, snapshot, begun) {
                        Some(admitted) => return admitted,
                        None if shared.may_panic() && !shared.config.fails_in_panic => panic = true,
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
                            || shared.in_panic(snapshot, now, since, true)) =>
                {
                    if shared.config.fails_in_panic {
                        return nobody(snapshot);
                    }
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
        begun: (Instant, u32),
    ) -> Option<Found<S, G>> {
        let start = shared.config.entropy.draw();
        snapshot.in_turn(start, begun.0).find_map(|node| self.admit(node, false, begun))
    }

    fn admit<S, G: Gate>(
        &self,
        node: &Arc<Node<S, G>>,
        panic: bool,
        begun: (Instant, u32),
    ) -> Option<Found<S, G>> {
        let (now, _) = begun;
        let ticket = if panic { node.gate.admit_anyway(now) } else { node.gate.admit(now).ok()? };
        mark_target(node.target());
        Some(Found::Admitted(Arc::clone(node), ticket, begun))
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
