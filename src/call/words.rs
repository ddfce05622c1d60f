//! The words that travel with a request.

use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::{algo::xxh64::xxh64, classify::Verdict, endpoint::EndpointKey};

/// What travels with one request through the layers.
///
/// A caller may set some of them before the call: on a [`Call`](super::Call), or by inserting
/// `Words` into the extensions of an [`http::Request`].
///
/// ```
/// use std::time::Duration;
/// use buttress::call::Words;
///
/// let mut request = http::Request::get("http://files/big.iso").body(())?;
/// // A download: no deadline on its body, but no more than 5 s between two pieces of it.
/// request.extensions_mut().insert(Words::new().lasting_body(Duration::from_secs(5)));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Words {
    /// The instant by which the whole call must have ended, its response body included.
    pub deadline: Option<Instant>,
    /// Which attempt this is; the first is 1, and 0 stands for a request outside of any retry. An
    /// [`http::Request`] without words is given its first ones by its first retry.
    pub attempt: u32,
    /// Why this attempt is made.
    pub kind: AttemptKind,
    /// The endpoints that earlier attempts of this call went to.
    pub tried: Tried,
    /// It carries an idempotency key that the service honours, so it is safe to repeat.
    pub keyed: bool,
    /// The caller's own word on whether the call is safe to repeat; it overrules the method.
    pub idempotent: Option<bool>,
    /// What kind of call it is, for policies of its own: one of few names, such as the service's
    /// methods.
    pub route: Option<&'static str>,
    /// What calls have in common that are to go to the same endpoint, hashed: see
    /// [`Words::affinity`].
    pub affinity: Option<u64>,
    /// How the response's body belongs to the call.
    pub body: BodyMode,
    /// The trace that the call belongs to, if it did not start here.
    pub trace: Option<TraceParent>,
}

impl Words {
    /// Nothing said.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the call at `deadline`, or at its earlier deadline if it has one.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.shorten(deadline);
        self
    }

    /// Says that the call may (or may not) be repeated safely, whatever its method.
    #[must_use]
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = Some(idempotent);
        self
    }

    /// Names the kind of call.
    #[must_use]
    pub const fn route(mut self, route: &'static str) -> Self {
        self.route = Some(route);
        self
    }

    /// Says what calls have in common that are to go to the same endpoint: a user, a session, the
    /// name of a thing that is cached. Followed by balancers whose policy goes by it
    /// ([`RingHash`](crate::balance::RingHash), [`Maglev`](crate::balance::Maglev)).
    ///
    /// It is kept as its XXH64, as Envoy and gRPC hash a header, so that they and this client
    /// agree on where a key is at home.
    #[must_use]
    pub fn affinity(mut self, key: impl AsRef<[u8]>) -> Self {
        self.affinity = Some(xxh64(key.as_ref(), 0));
        self
    }

    /// Takes the response's body out of the deadline, for streams that are meant to last
    /// (server-sent events, downloads). Instead, `idle` may pass between two pieces of it; with
    /// an `idle` of zero, the first piece that has to be waited for ends it.
    #[must_use]
    pub const fn lasting_body(mut self, idle: Duration) -> Self {
        self.body = BodyMode::Lasting { idle };
        self
    }

    /// Continues a trace that came in with a request to this program.
    #[must_use]
    pub fn trace(mut self, parent: TraceParent) -> Self {
        self.trace = Some(parent);
        self
    }

    /// Takes the earlier of the deadline so far and this one.
    pub fn shorten(&mut self, deadline: Instant) {
        self.deadline = Some(self.deadline.map_or(deadline, |own| own.min(deadline)));
    }

    /// The same without the trace: plain values alone, which cost next to nothing to copy.
    #[inline]
    pub(crate) const fn untraced(&self) -> Self {
        Self { trace: None, ..*self }
    }

    /// What a classifier has to know of the request.
    #[must_use]
    pub const fn asked(&self) -> Asked {
        Asked { keyed: self.keyed, body: self.body, deadline: self.deadline }
    }
}

/// What a classifier has to know of the request to judge its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// The request carried an idempotency key of ours or the caller's.
    pub keyed: bool,
    /// How the response's body belongs to the call.
    pub body: BodyMode,
    /// The call's deadline: what is dropped after it was dropped by us, not by the caller.
    pub deadline: Option<Instant>,
}

impl Asked {
    /// What a future or body that is dropped `now` without an outcome means: given up by the
    /// caller, or cut off by the deadline.
    #[must_use]
    pub fn dropped(&self, now: Instant) -> Verdict {
        Self::dropped_at(self.deadline, now)
    }

    /// The same for those who keep the deadline alone, since it is all that this asks for.
    pub(crate) fn dropped_at(deadline: Option<Instant>, now: Instant) -> Verdict {
        match deadline {
            Some(deadline) if now >= deadline => Verdict::TIMED_OUT,
            _ => Verdict::CANCELLED,
        }
    }
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptKind {
    /// The first one.
    #[default]
    First,
    /// The one before failed.
    Retry,
    /// The one before is slow; this one races it.
    Hedge,
    /// The one before was provably never processed.
    Transparent,
}

/// How a response's body belongs to the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyMode {
    /// It has to be read to its end within the deadline (the default).
    #[default]
    Timely,
    /// It is collected within the attempt, so that the attempt's end is the body's end.
    Collected,
    /// It is meant to last: no deadline, but a limit between two pieces of it.
    Lasting {
        /// The longest silence.
        idle: Duration,
    },
}

/// The endpoints that earlier attempts went to: the last four.
///
/// Four, because three attempts are the default and a pick has to compare with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    keys: [Option<EndpointKey>; 4],
    next: u8,
}

impl Tried {
    /// None yet.
    pub(crate) const NONE: Self = Self { keys: [None; 4], next: 0 };

    /// Adds an endpoint, in the place of the oldest when four are known.
    pub fn insert(&mut self, key: EndpointKey) {
        if !self.contains(key) {
            self.keys[usize::from(self.next)] = Some(key);
            self.next = (self.next + 1) % 4;
        }
    }

    /// Adds those that were tried later, in their order.
    pub(crate) fn extend(&mut self, later: Self) {
        let oldest = usize::from(later.next);
        let keys = (0..4).filter_map(|nth| later.keys[(oldest + nth) % 4]);
        keys.for_each(|key| self.insert(key));
    }

    /// Whether an earlier attempt went there.
    #[must_use]
    pub fn contains(&self, key: EndpointKey) -> bool {
        self.keys.contains(&Some(key))
    }

    /// Whether this is the first attempt.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys[0].is_none()
    }

    /// The endpoints.
    pub fn iter(&self) -> impl Iterator<Item = EndpointKey> + '_ {
        self.keys.iter().flatten().copied()
    }
}

/// The part of a W3C trace context that a request continues (Trace Context level 2).
///
/// The `trace` room reads and writes the headers; this is what travels between.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceParent {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The span that called; never zero.
    pub span_id: u64,
    /// `trace-flags`: bit 0 sampled, bit 1 random trace id.
    pub flags: u8,
    /// `tracestate`, passed on as it came.
    pub state: Option<HeaderValue>,
}

impl TraceParent {
    /// The caller's side of a trace. `None` if an id is zero, which the standard forbids.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, flags, state: None })
    }

    /// The same with a `tracestate`.
    #[must_use]
    pub fn with_state(mut self, state: HeaderValue) -> Self {
        self.state = Some(state);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_deadline_wins() {
        let now = crate::time::now();
        let late = now + Duration::from_secs(2);
        let early = now + Duration::from_secs(1);
        assert_eq!(Words::new().deadline(late).deadline(early).deadline, Some(early));
        assert_eq!(Words::new().deadline(early).deadline(late).deadline, Some(early));
    }

    #[test]
    fn remembers_the_last_four_endpoints() {
        let keys: Vec<EndpointKey> = (0..5).map(|_| EndpointKey::unique()).collect();
        let mut tried = Tried::default();
        assert!(tried.is_empty());
        for &key in &keys {
            tried.insert(key);
            tried.insert(key);
            assert!(tried.contains(key));
        }
        assert!(!tried.contains(keys[0]));
        assert_eq!(tried.iter().count(), 4);

        // Of two that came before and the four that came after them, the last four, and of those
        // the oldest goes next.
        let mut all = Tried::default();
        keys[..1].iter().for_each(|&key| all.insert(key));
        all.extend(tried);
        assert!(!all.contains(keys[0]) && all.contains(keys[1]) && all.contains(keys[4]));
        all.insert(EndpointKey::unique());
        assert!(!all.contains(keys[1]) && all.contains(keys[2]) && all.contains(keys[4]));
    }
}
