//! The settings of a retry.

use std::{error::Error as StdError, fmt, num::NonZeroU32, time::Duration};

use super::{LivePolicy, Policy, policies::Policies};
use crate::{
    algo::backoff::Backoff, budget::Budget, call::DEFAULT_REPLAY_CAP, entropy::Entropy,
    event::Observer,
};

/// Attempts in total, the first included (SRE book, "Handling Overload"; AWS standard mode).
pub const DEFAULT_ATTEMPTS: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");

/// How much longer than our own backoff a service may make us wait (AWS, retry 2.1).
pub const DEFAULT_PUSHBACK_CAP: Duration = Duration::from_secs(5);

/// How much of the body of an answer that failed is read while the call backs off, in bytes, so
/// that its HTTP/1 connection can be used again. Error pages are a few hundred bytes to a few
/// KiB; for more than this Chromium opens another connection, too (`HttpResponseBodyDrainer`,
/// 16 KiB within 5 s). Go's client reads 2 KiB of an answer that it does not hand out
/// (`net/http`, redirects), go-retryablehttp 4 KiB between its attempts, .NET's 1 MiB within 2 s.
/// Here it is kept as well, since the answer may be the last real one.
pub const DEFAULT_DRAIN_LIMIT: usize = 16 * 1024;

/// The settings of a [`RetryLayer`](super::RetryLayer).
#[derive(Debug)]
pub struct RetryConfig {
    pub(super) policies: Policies,
    pub(super) replay_cap: usize,
    pub(super) drain_limit: usize,
    pub(super) begin_late: bool,
    pub(super) budget: Option<Budget>,
    pub(super) entropy: Entropy,
    pub(super) observer: Observer,
}

impl RetryConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            policies: Policies::default(),
            replay_cap: DEFAULT_REPLAY_CAP,
            drain_limit: DEFAULT_DRAIN_LIMIT,
            begin_late: false,
            budget: Some(Budget::default()),
            entropy: Entropy::system(),
            observer: Observer::none(),
        }
    }

    /// How many attempts a call may take, the first included. 1 means no retry, but for what was
    /// [turned away unprocessed](super#unprocessed), and counts as no attempt: see
    /// [`transparent`](Self::transparent).
    ///
    /// # Errors
    ///
    /// [`InvalidRetry`] if it is 0.
    pub fn max_attempts(mut self, attempts: u32) -> Result<Self, InvalidRetry> {
        self.policies.own.max_attempts = NonZeroU32::new(attempts).ok_or(InvalidRetry)?;
        Ok(self)
    }

    /// Whether what a server that works has provably not looked at is sent again, whatever its
    /// method and however many attempts there may be (default: yes). A call that may make one
    /// attempt, and none of these, keeps no copy of its request.
    #[must_use]
    pub const fn transparent(mut self, again: bool) -> Self {
        self.policies.own.transparent = again;
        self
    }

    /// How long to wait before another attempt.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.policies.own.backoff = backoff;
        self
    }

    /// How much longer than the backoff a service may make a call wait.
    #[must_use]
    pub const fn pushback_cap(mut self, cap: Duration) -> Self {
        self.policies.own.pushback_cap = cap;
        self
    }

    /// How much of a request's body is kept for further attempts, in bytes. A body that is
    /// larger is sent unharmed, once.
    #[must_use]
    pub const fn replay_cap(mut self, cap: usize) -> Self {
        self.replay_cap = cap;
        self
    }

    /// How much of the body of an answer that failed is read while the call backs off, in bytes;
    /// each piece counts 128 more. 0 reads nothing, and a body that is known to be longer is not
    /// begun. No attempt is put off for it.
    #[must_use]
    pub const fn drain_limit(mut self, limit: usize) -> Self {
        self.drain_limit = limit;
        self
    }

    /// Whether a further attempt is begun although most would take longer than what is left of
    /// the deadline (default: no).
    #[must_use]
    pub const fn begin_late(mut self, begin: bool) -> Self {
        self.begin_late = begin;
        self
    }

    /// Who pays. Give the same budget to everything that calls the same service.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Nobody pays: retries are bounded per call alone. A service that is down then gets
    /// [`max_attempts`](Self::max_attempts) times its load, and may never recover.
    #[must_use]
    pub fn without_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// Who pays, if anybody does: for a hedge beside the retries, which has to share it.
    pub(crate) const fn payer(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// Where the jitter comes from; a seed makes it repeatable.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Who is told of each retry, and of each that is not made.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Decides by `policy` about the calls whose words name this
    /// [route](crate::call::Words::route), in the place of the settings above.
    #[must_use]
    pub fn route(mut self, route: &'static str, policy: Policy) -> Self {
        self.policies.set(route, policy);
        self
    }

    /// Decides by what `policy` holds when a failure is known, in the place of the settings above:
    /// for a policy that changes while calls are made. Routes of their own stay as they are.
    #[must_use]
    pub fn live(mut self, policy: LivePolicy) -> Self {
        self.policies.live = Some(policy);
        self
    }

    /// How a failure is decided on, at present, unless its call names a route of its own.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policies.of(None)
    }

    /// All policies, at present.
    pub(crate) fn all_policies(&self) -> impl Iterator<Item = Policy> + '_ {
        self.policies.all()
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A number of attempts that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidRetry;

impl fmt::Display for InvalidRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no attempt at all is no call: set max_attempts to 1 for a call without retry")
    }
}

impl StdError for InvalidRetry {}
