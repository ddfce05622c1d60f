//! What the layers below tell the layers above while an attempt is under way.
//!
//! A timeout has to know whether the request it gives up was handed to a connection, and a
//! retry has to know to which endpoint its attempt went, although neither has come back yet.
//! A shared cell would cost every call an allocation and two contended reference counts. But an
//! attempt is polled by the layers above it, on their thread, within their own `poll`: so they
//! put their [`Trail`] into a slot of the thread while they poll, the layers below write into
//! that slot, and what was written is taken out again when the poll returns. tokio hands its
//! own task budget down in the same way.
//!
//! A layer between the two that moves the attempt to another task (`tower::Buffer`) cuts the
//! trail: then nothing is known, which counts as "maybe sent", the safe side.

use std::{cell::Cell, net::SocketAddr, time::Instant};

use crate::{classify::Sent, endpoint::EndpointKey};

/// The trail of an attempt, held by the layer that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trail {
    marks: Marks,
    target: Option<Target>,
    expires: Option<Instant>,
    wakes: bool,
}

/// What is marked often, and small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    stage: Stage,
    sent_before: bool,
    /// In the slot: its target was marked since the innermost trail was entered.
    target: bool,
    /// A timer is armed that wakes this poll's task before the trail expires, or just then.
    wakes: bool,
}

impl Marks {
    const NONE: Self =
        Self { stage: Stage::Unknown, sent_before: false, target: false, wakes: false };

    const fn sent(self) -> Sent {
        match self.stage {
            Stage::Unsent if !self.sent_before => Sent::No,
            _ => Sent::Maybe,
        }
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Nothing below says; it may have been sent.
    #[default]
    Unknown,
    /// Waiting for an endpoint or a connection.
    Unsent,
    /// Handed to a connection.
    HandedOver,
}

/// Where an attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Target {
    /// The endpoint's key.
    pub key: EndpointKey,
    /// Its address.
    pub address: SocketAddr,
}

impl Target {
    /// An endpoint and its address.
    #[must_use]
    pub const fn new(key: EndpointKey, address: SocketAddr) -> Self {
        Self { key, address }
    }
}

impl Trail {
    /// A trail on which nothing is known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { marks: Marks::NONE, target: None, expires: None, wakes: false }
    }

    /// The same, for an attempt that will be dropped at `expires`: so that the transport can
    /// tell an attempt that timed out from one that its caller gave up.
    #[must_use]
    pub const fn expiring(expires: Option<Instant>) -> Self {
        Self { expires, ..Self::new() }
    }

    /// Runs `poll` with this trail in the thread's slot.
    // Always: every poll of every call passes here, and what is polled is one call more anyway.
    #[inline(always)]
    pub fn enter<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        let outer = Outer::left_for(self.marks, self.expires);
        let _leave = Leave { trail: self, outer };
        poll()
    }

    /// Runs `poll` within a trail of its own that ends at `expires`, and of which nothing is asked
    /// afterwards: what is found out on it is told to the outer one alone.
    #[inline]
    pub(crate) fn until<T>(expires: Option<Instant>, poll: impl FnOnce() -> T) -> T {
        let _back = Back { outer: Outer::left_for(Marks::NONE, expires) };
        poll()
    }

    #[inline]
    fn leave(&mut self, outer: Outer) {
        CURRENT.with(|slot| {
            let inner = slot.marks.get();
            self.expires = slot.expires.get();
            self.marks = Marks { target: false, wakes: false, ..inner };
            self.wakes = inner.wakes;
            if inner.target {
                self.target = slot.target.get();
            } else if self.target.is_some() {
                slot.target.set(self.target);
            }
            outer.back(slot, inner, self.target.is_some());
        });
    }

    /// Whether the poll that was entered last left a timer armed that wakes its task before
    /// this trail expires, or just then. Then no other is needed.
    pub(crate) const fn wakes(&self) -> bool {
        self.wakes
    }

    /// The same, for an attempt of which nothing has been sent.
    pub(crate) const fn unsent(self) -> Self {
        Self { marks: Marks { stage: Stage::Unsent, ..self.marks }, ..self }
    }

    /// How far the latest attempt has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.marks.stage
    }

    /// Where it went, if a balancer below chose.
    #[must_use]
    pub const fn target(&self) -> Option<Target> {
        self.target
    }

    /// Whether the request may have been carried out, if it is given up now.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.marks.sent()
    }
}

impl Default for Trail {
    fn default() -> Self {
        Self::new()
    }
}

/// The request waits for an endpoint or a connection: given up now, it was not sent.
#[inline]
pub fn mark_unsent() {
    update(|marks| marks.stage = Stage::Unsent);
}

/// The request goes on to a service of which nothing is known.
#[inline]
pub fn mark_unknown() {
    update(|marks| marks.stage = Stage::Unknown);
}

/// The request is handed to a connection: from now on it may have been carried out.
#[inline]
pub fn mark_handed_over() {
    update(|marks| marks.stage = Stage::HandedOver);
}

/// The attempt goes to this endpoint.
#[inline]
pub fn mark_target(target: Target) {
    CURRENT.with(|slot| slot.target.set(Some(target)));
    update(|marks| marks.target = true);
}

/// An earlier attempt of this call may have been carried out, whatever becomes of this one.
#[inline]
pub(crate) fn mark_sent_before() {
    update(|marks| marks.sent_before = true);
}

/// Tells the layers above of a timer that is armed for `at`, if it wakes them in time.
pub(crate) fn mark_waking(at: Instant) {
    CURRENT.with(|slot| {
        if slot.expires.get().is_none_or(|expires| at <= expires) {
            slot.marks.set(Marks { wakes: true, ..slot.marks.get() });
        }
    });
}

/// A timer that was marked is armed no more. Whoever has relied on it has not returned yet, or
/// is woken by it after all: who drops it does so in a poll.
pub(crate) fn mark_not_waking() {
    update(|marks| marks.wakes = false);
}

/// Whether a timer beneath was marked, as seen from within the trail that was entered last.
#[inline]
pub(crate) fn is_waking() -> bool {
    CURRENT.with(|slot| slot.marks.get().wakes)
}

/// Whether what the trail that was entered last follows may have been carried out, if it is
/// given up now.
pub(crate) fn current_sent() -> Sent {
    CURRENT.with(|slot| slot.marks.get().sent())
}

/// The attempt will be dropped at this time, if that is sooner than was known: from now on, for
/// as long as the trail lasts that was entered last.
#[inline]
pub(crate) fn expire_at(expires: Instant) {
    CURRENT.with(|slot| slot.expires.set(earlier(Some(expires), slot.expires.get())));
}

/// When the attempt that is being polled will be dropped by a timeout above it.
pub(crate) fn current_expiry() -> Option<Instant> {
    CURRENT.with(|slot| slot.expires.get())
}

/// Whether what is dropped now is given up by a timeout above it. Those drop what is beneath
/// within a trail that expires at their time, and nobody else does. The call's deadline alone
/// can't tell: it passes, too, for a caller who only holds on to a response.
pub(crate) fn is_expired(now: impl FnOnce() -> Instant) -> bool {
    current_expiry().is_some_and(|expires| now() >= expires)
}

/// Runs work that is no part of the call above it (the fetching of a credential, a lookup, a
/// server's handler) as if no trail were entered: what it marks is of other calls.
pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let _restored = CURRENT.with(|slot| Apart {
        marks: slot.marks.replace(Marks::NONE),
        target: slot.target.take(),
        expires: slot.expires.take(),
    });
    work()
}

/// Puts back what was known before, also when the work panics.
struct Apart {
    marks: Marks,
    target: Option<Target>,
    expires: Option<Instant>,
}

impl Drop for Apart {
    fn drop(&mut self) {
        CURRENT.with(|slot| {
            slot.marks.set(self.marks);
            slot.target.set(self.target);
            slot.expires.set(self.expires);
        });
    }
}

/// The innermost trail of those that are being polled on this thread. In parts, since every
/// poll of every layer that waits passes here, and the target hardly ever changes.
struct Slot {
    marks: Cell<Marks>,
    target: Cell<Option<Target>>,
    expires: Cell<Option<Instant>>,
}

thread_local! {
    static CURRENT: Slot = const {
        Slot {
            marks: Cell::new(Marks::NONE),
            target: Cell::new(None),
            expires: Cell::new(None),
        }
    };
}

#[inline]
fn update(change: impl FnOnce(&mut Marks)) {
    CURRENT.with(|slot| {
        let mut marks = slot.marks.get();
        change(&mut marks);
        slot.marks.set(marks);
    });
}

/// What stood in the thread's slot when a trail was entered. The target stays there.
#[derive(Clone, Copy)]
struct Outer {
    marks: Marks,
    expires: Option<Instant>,
}

impl Outer {
    /// Puts an inner trail in its place, which ends no later.
    #[inline]
    fn left_for(marks: Marks, expires: Option<Instant>) -> Self {
        CURRENT.with(|slot| {
            let outer = slot.expires.get();
            slot.expires.set(earlier(expires, outer));
            Self { marks: slot.marks.replace(marks), expires: outer }
        })
    }

    /// Puts it back, with what was marked on the inner trail, on which a target is known or not.
    #[inline]
    fn back(self, slot: &Slot, inner: Marks, target: bool) {
        slot.marks.set(Marks {
            stage: inner.stage,
            sent_before: self.marks.sent_before | inner.sent_before,
            // A layer between the one that waits and the balancer's endpoints knows of none.
            target: self.marks.target | target,
            wakes: self.marks.wakes | inner.wakes,
        });
        slot.expires.set(self.expires);
    }
}

/// Puts the outer trail back, also when the poll panics.
struct Leave<'a> {
    trail: &'a mut Trail,
    outer: Outer,
}

impl Drop for Leave<'_> {
    #[inline]
    fn drop(&mut self) {
        self.trail.leave(self.outer);
    }
}

/// The same after a trail that nobody keeps.
struct Back {
    outer: Outer,
}

impl Drop for Back {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with(|slot| {
            let inner = slot.marks.get();
            self.outer.back(slot, inner, inner.target);
        });
    }
}

#[inline]
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_marked_below_is_known_above() {
        let mut outer = Trail::new();
        let mut inner = Trail::new();
        outer.enter(|| {
            mark_unsent();
            inner.enter(mark_handed_over);
        });
        assert_eq!(inner.sent(), Sent::Maybe);
        assert_eq!(outer.stage(), Stage::HandedOver);
        assert_eq!(CURRENT.with(|slot| slot.marks.get().stage), Stage::HandedOver);
        CURRENT.with(|slot| slot.marks.set(Marks::NONE));
    }

    #[test]
    fn a_trail_keeps_what_it_knew_between_polls() {
        let mut trail = Trail::new();
        trail.enter(mark_unsent);
        trail.enter(|| ());
        assert_eq!(trail.sent(), Sent::No);
        Trail::new().enter(mark_handed_over);
        assert_eq!(trail.sent(), Sent::No, "another attempt's marks are not ours");
    }

    #[test]
    fn a_target_is_kept_above_a_timeout_that_stands_below_the_balancer() {
        let target = Target::new(EndpointKey::unique(), ([127, 0, 0, 1], 80).into());
        let mut retry = Trail::new();
        retry.enter(|| {
            mark_target(target);
            Trail::new().enter(mark_handed_over);
        });
        assert_eq!(retry.target(), Some(target));
        assert_eq!(retry.stage(), Stage::HandedOver);
    }

    #[test]
    fn an_earlier_attempt_is_not_forgotten() {
        let mut call = Trail::new();
        call.enter(|| Trail::new().enter(mark_handed_over));
        call.enter(mark_sent_before);
        call.enter(|| Trail::new().enter(mark_unsent));
        assert_eq!(call.stage(), Stage::Unsent);
        assert_eq!(call.sent(), Sent::Maybe);
    }

    #[test]
    fn the_nearest_expiry_reaches_the_transport() {
        let now = crate::time::now();
        let (near, far) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let mut outer = Trail::expiring(Some(near));
        let mut inner = Trail::expiring(Some(far));
        let seen = outer.enter(|| inner.enter(current_expiry));
        assert_eq!(seen, Some(near));
        assert_eq!(current_expiry(), None);
    }

    #[test]
    fn what_is_done_apart_neither_hears_of_the_call_nor_is_heard() {
        let target = Target::new(EndpointKey::unique(), ([127, 0, 0, 1], 80).into());
        let mut call = Trail::expiring(Some(crate::time::now()));
        call.enter(|| {
            mark_unsent();
            apart(|| {
                assert_eq!(current_expiry(), None);
                mark_sent_before();
                mark_handed_over();
                mark_target(target);
            });
        });
        assert_eq!((call.sent(), call.target()), (Sent::No, None));
    }

    #[test]
    fn a_panic_below_leaves_the_thread_as_it_was() {
        let result = std::panic::catch_unwind(|| {
            Trail::expiring(Some(crate::time::now())).enter(|| panic!("below"));
        });
        assert!(result.is_err());
        assert_eq!(current_expiry(), None);
    }
}
