//! What the layers report, in one vocabulary.
//!
//! A layer says `observer.on(|| Event::…)` and nothing else: the event is built only when
//! somebody listens. Levels, names and labels live with the listener (see
//! [`observe`](crate::observe)).

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    classify::Verdict,
    endpoint::{Endpoint, Health},
};

/// Something that a layer did or decided.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An attempt failed, and another will be made after `delay`.
    Retrying {
        /// The attempt that failed; the first is 1.
        attempt: u32,
        /// What it meant.
        verdict: Verdict,
        /// How long until the next.
        delay: Duration,
    },
    /// An attempt failed, and no other will be made.
    GaveUp {
        /// How many attempts were made.
        attempts: u32,
        /// What the last one meant.
        verdict: Verdict,
        /// Why no other is made, as a stable code: `exhausted`, `budget`, ….
        reason: &'static str,
    },
    /// An attempt is slow, and a second one races it.
    Hedged {
        /// The number of the second.
        attempt: u32,
    },
    /// No connection could be made within the limit. (The other timeouts end attempts, and show
    /// as [`Event::Retrying`] or [`Event::GaveUp`].)
    ConnectTimedOut {
        /// Where to.
        address: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// A breaker changed its state.
    Breaker {
        /// The endpoint it guards, or none if it guards the whole service.
        endpoint: Option<&'a Endpoint>,
        /// The new state, as a stable code: `closed`, `open`, `half_open`, `forced_open`,
        /// `forced_closed`.
        state: &'static str,
        /// Why, as a stable code: `consecutive`, `ratio`, `probe_failed`, `recovered`, ….
        reason: &'static str,
        /// How long it stays open, where it does.
        open_for: Option<Duration>,
    },
    /// An endpoint came.
    EndpointAdded(&'a Endpoint),
    /// An endpoint went.
    EndpointRemoved(&'a Endpoint),
    /// An active check changed its mind about an endpoint.
    HealthChanged(&'a Endpoint, Health),
    /// An active check of an endpoint failed, which need not change the mind; this is why.
    ProbeFailed(&'a Endpoint, &'a (dyn std::error::Error + 'static)),
    /// Too few endpoints are eligible: all are used (`true`), or that is over (`false`).
    Panic(bool),
    /// Discovery failed; the last good set stays in use.
    DiscoveryFailed(&'a (dyn std::error::Error + 'static)),
    /// Discovery ended; the last good set stays in use.
    DiscoveryEnded,
    /// A server told a stored answer to a request whose idempotency key came again.
    KeyReplayed,
    /// A server answered a request with a problem for its idempotency key's sake.
    KeyNotHonoured {
        /// Which, as a stable code: `request_outstanding`, `idempotency_key_reused`,
        /// `outcome_unknown`, ….
        code: &'static str,
    },
    /// A server's store of idempotency keys failed.
    KeyStoreFailed(&'a (dyn std::error::Error + 'static)),
}

/// Who listens. Cheap to clone, and by default nobody.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Listen>>);

type Listen = dyn Fn(&Event<'_>) + Send + Sync;

impl Observer {
    /// Calls `listen` with every event, on the thread where it happens: it must not block.
    pub fn new(listen: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listen)))
    }

    /// Nobody listens.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether somebody does.
    pub(crate) const fn is_listening(&self) -> bool {
        self.0.is_some()
    }

    /// Reports an event, if somebody listens.
    pub(crate) fn on<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(listen) = &self.0 {
            listen(&event());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(listening)" } else { "Observer(none)" })
    }
}
