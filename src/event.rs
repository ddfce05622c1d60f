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
        /// How long the first has been waited for.
        delay: Duration,
    },
    /// An attempt is slow, and no second one is made.
    NotHedged {
        /// Why, as a stable code: `extra_load`, `budget`, `overload`, ….
        reason: &'static str,
    },
    /// A race of two attempts is over.
    HedgeEnded {
        /// The number of the second.
        attempt: u32,
        /// Who won, as a stable code: `first`, `second`, `neither` (both failed), `dropped` (the
        /// call was given up).
        winner: &'static str,
    },
    /// No connection could be made within the limit. (The other timeouts end attempts, and show
    /// as [`Event::Retrying`] or [`Event::GaveUp`].)
    ConnectTimedOut {
        /// Where to.
        address: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// A request came with a deadline that can't be read.
    DeadlineUnreadable {
        /// The header's name.
        header: &'a str,
        /// It was answered with an error at once, instead of being served without a deadline.
        refused: bool,
    },
    /// A request to this program is overdue: nobody waits for its answer any more.
    Overdue {
        /// What became of the work, as a stable code: `not_begun`, `dropped` while it ran,
        /// `body_dropped` while its answer was read, `let_run` to its end.
        stage: &'static str,
        /// How much time the request had.
        limit: Duration,
    },
    /// A new credential was fetched, after one that the service refused.
    CredentialRefreshed {
        /// How long that took.
        took: Duration,
    },
    /// No new credential could be fetched. The calls that waited for it failed.
    CredentialRefreshFailed(&'a (dyn std::error::Error + 'static)),
    /// A credential was refused, and the refusal is the caller's answer.
    CredentialRefused {
        /// Why no new one was tried, as a stable code: `new_credential` for one that was fetched
        /// a moment ago, `again` for the second refusal of one call, `not_replayable`,
        /// `deadline`, `unavailable`.
        reason: &'static str,
    },
    /// A call whose outcome was unknown was looked up.
    Reconciled {
        /// What is known now, as a stable code: `found`, `not_carried_out`, or that it is still
        /// unknown: `lookup_failed`, `still_running`, `no_time`.
        outcome: &'static str,
        /// How many lookups were made.
        lookups: u32,
    },
    /// A breaker changed its state.
    Breaker {
        /// The endpoint it guards, or none if it guards the whole service.
        endpoint: Option<&'a Endpoint>,
        /// The new state, as a stable code: `closed`, `open`, `half_open`, `forced_open`,
        /// `forced_closed`.
        state: &'static str,
        /// Why, as a stable code: `consecutive`, `ratio`, `slow`, `probe_failed`, `recovered`, ….
        reason: &'static str,
        /// How long it stays open, where it does.
        open_for: Option<Duration>,
    },
    /// A call was not sent, since the service refuses too many.
    Throttled {
        /// Why, as a stable code: `few_accepts`, `no_accepts`.
        reason: &'static str,
        /// The probability with which it was refused.
        probability: f64,
    },
    /// A call was not sent, since as many are under way as may be.
    AtLimit {
        /// The endpoint whose calls are limited, or none for the whole service.
        endpoint: Option<&'a Endpoint>,
        /// Why, as a stable code: `queue_full`, `waited`, `deadline`.
        reason: &'static str,
        /// How many may be under way.
        limit: u32,
    },
    /// An adaptive limit changed.
    LimitChanged {
        /// The endpoint whose calls are limited, or none for the whole service.
        endpoint: Option<&'a Endpoint>,
        /// How many calls may be under way from now on.
        limit: u32,
        /// Why, as a stable code: `room`, `queue`, `correlation`, `dropped`, `idle`,
        /// `not_our_doing`.
        reason: &'static str,
    },
    /// A fault that was asked for struck a request.
    FaultInjected {
        /// The endpoint, where it is known.
        endpoint: Option<&'a Endpoint>,
        /// Which, as a stable code: `delay`, `refused`, `reset`, `answer`, `hang`, `cut_body`, ….
        fault: &'static str,
    },
    /// A fallback answers in the place of a call that failed.
    FellBack {
        /// The fallback's name.
        by: &'static str,
        /// Why, as a stable code: `refused`, `endpoint`, `service`, `not_there`, `rule`.
        reason: &'static str,
        /// What the failure meant.
        verdict: Verdict,
        /// How old the answer is, if it was remembered.
        age: Option<Duration>,
    },
    /// A call failed, and its fallback does not answer either.
    NoFallback {
        /// The fallback's name.
        by: &'static str,
        /// Why, as a stable code: `deadline`, `not_repeatable`, `not_replayable`, `unknown`,
        /// `failed`.
        reason: &'static str,
        /// What the failure meant.
        verdict: Verdict,
    },
    /// An endpoint came.
    EndpointAdded(&'a Endpoint),
    /// An endpoint went.
    EndpointRemoved(&'a Endpoint),
    /// An active check changed its mind about an endpoint.
    HealthChanged(&'a Endpoint, Health),
    /// An active check of an endpoint failed, which need not change the mind; this is why.
    ProbeFailed(&'a Endpoint, &'a (dyn std::error::Error + 'static)),
    /// An endpoint did not say how busy it is, when a [policy that probes](crate::balance::Probing)
    /// asked it.
    LoadProbeFailed(&'a Endpoint, &'a (dyn std::error::Error + 'static)),
    /// An endpoint does worse than its peers.
    Outlier {
        /// Which.
        endpoint: &'a Endpoint,
        /// By which test, as a stable code: `failure_rate`, `latency`, `server_errors`, ….
        by: &'static str,
        /// What becomes of it, as a stable code: `ejected`; or it stays, `capped` since as many are
        /// out as may be, `spared` since the test is only to be watched.
        action: &'static str,
        /// For how long it is ejected, if it is.
        ejected_for: Option<Duration>,
        /// How often in a row, this time included.
        times: u32,
        /// How many of its calls were looked at.
        calls: u32,
        /// How many of them failed.
        failures: u32,
        /// What was measured: a share, seconds, or failures in a row.
        measured: f64,
        /// What its peers have, where they were asked.
        usual: Option<f64>,
        /// What is an outlier.
        limit: f64,
    },
    /// An ejected endpoint is back.
    EjectionEnded {
        /// Which.
        endpoint: &'a Endpoint,
        /// By which test it was ejected.
        by: &'static str,
        /// Why it is back, as a stable code: `returned` when its time was over, `found_healthy`.
        reason: &'static str,
    },
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
