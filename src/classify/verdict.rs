//! The four questions about an outcome, and their answers.

use std::{fmt, time::Duration};

/// What one outcome means, to all layers alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Who is to blame. Breaker, ejection and load follow it.
    pub blame: Blame,
    /// Did it happen?
    pub sent: Sent,
    /// May it be tried again?
    pub retry: Retry,
    /// When the service wants to hear from us again.
    pub pushback: Pushback,
}

impl Verdict {
    /// It worked.
    pub const SUCCESS: Self = Self::new(Blame::Nobody, Sent::Processed, Retry::Never);
    /// The caller gave up, by dropping the future.
    pub const CANCELLED: Self = Self::new(Blame::Caller, Sent::Maybe, Retry::Never);
    /// No connection to the endpoint could be made, so nothing was sent; another may be reached.
    /// What a transport of your own says of its connecting, where its error does not:
    /// `Marked::new(Verdict::UNREACHED, error)` ([`Marked`](super::Marked)).
    pub const UNREACHED: Self = Self::new(Blame::Endpoint, Sent::No, Retry::Always);
    /// An attempt that was cut off by a deadline or timeout after the hand-over.
    pub const TIMED_OUT: Self = Self::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);

    /// A verdict without pushback.
    #[must_use]
    pub const fn new(blame: Blame, sent: Sent, retry: Retry) -> Self {
        Self { blame, sent, retry, pushback: Pushback::None }
    }

    /// This verdict with the service's wish as to when it is called again.
    #[must_use]
    pub const fn with_pushback(mut self, pushback: Pushback) -> Self {
        self.pushback = pushback;
        self
    }

    /// The verdict on a service that failed to get ready, and was not called: whatever its error
    /// looks like, the request was not carried out, and may be tried elsewhere.
    pub(crate) const fn uncalled(mut self) -> Self {
        self.sent = Sent::No;
        if matches!(self.retry, Retry::IfSafe) {
            self.retry = Retry::Always;
        }
        self
    }

    /// Nobody is to blame and the request was processed: the call succeeded.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!((self.blame, self.sent), (Blame::Nobody, Sent::Processed))
            && matches!(self.retry, Retry::Never)
    }

    /// Counts against whoever served it: the endpoint, or the whole service.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(self.blame, Blame::Endpoint | Blame::Service)
    }

    /// Whether another attempt may be made, for a request that is (or is not) safe to repeat
    /// because its method is idempotent or it carries an idempotency key.
    #[must_use]
    pub const fn permits_retry(&self, repeatable: bool) -> bool {
        if matches!(self.pushback, Pushback::Never) {
            return false;
        }
        match self.retry {
            Retry::Never => false,
            Retry::IfSafe => repeatable || matches!(self.sent, Sent::No),
            Retry::Always => true,
            // As it says, if it is one; a contradiction falls back to the safe side.
            Retry::Transparent => repeatable || matches!(self.sent, Sent::No),
        }
    }

    /// Whether a server that works has turned the request away unlooked at, so that another
    /// attempt counts as none: see [`Retry::Transparent`].
    ///
    /// A verdict that claims it of a request that may have been carried out is not believed, and
    /// a service that says when to come back has looked.
    #[must_use]
    pub const fn is_transparent(&self) -> bool {
        matches!((self.retry, self.sent), (Retry::Transparent, Sent::No))
            && matches!(self.pushback, Pushback::None)
    }
}

/// Who is to blame for an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// It succeeded, or failed through no fault of anybody.
    Nobody,
    /// The request was wrong; every endpoint would say so.
    Client,
    /// The endpoint that served it; another may do better.
    Endpoint,
    /// The service as a whole is overloaded.
    Service,
    /// The caller gave up before there was an outcome.
    Caller,
}

/// Whether the request may have been carried out: the question that every remote call leaves
/// open.
///
/// Ordered by certainty that something happened, so the answer for several attempts is the
/// greatest of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Sent {
    /// It was not carried out: never handed to a connection, or refused unprocessed.
    No,
    /// Nobody knows: handed to a connection, and no answer that decides.
    Maybe,
    /// The service answered for it.
    Processed,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "the request was not carried out",
            Self::Maybe => "the request may have been carried out",
            Self::Processed => "the request was processed",
        })
    }
}

/// Whether another attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// Another attempt would end the same.
    Never,
    /// If the request is safe to repeat: idempotent, keyed, or not [sent](Sent::No).
    IfSafe,
    /// Whatever the method.
    Always,
    /// Whatever the method, and as if nothing had been tried: a server that works was reached,
    /// and has provably not looked at the request. It refused the stream, or was closing the
    /// connection (RFC 9113, section 8.7).
    ///
    /// gRPC calls it a transparent retry (proposal A6): outside the count of attempts and the
    /// budget, since the failure says nothing of the load. An endpoint that was not reached is
    /// not of this kind, although nothing was [sent](Sent::No) there either: to dial the dead
    /// again must cost something.
    Transparent,
}

/// When the service wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pushback {
    /// It said nothing.
    None,
    /// After this long (`Retry-After`, `grpc-retry-pushback-ms`).
    After(Duration),
    /// Not for this call.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_turned_away_unlooked_at_may_be_repeated_whatever_it_is() {
        let verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent);
        assert!(verdict.is_transparent() && verdict.permits_retry(false));
        assert!(!verdict.is_success() && !verdict.is_failure());
        let stopped = verdict.with_pushback(Pushback::Never);
        assert!(!stopped.is_transparent() && !stopped.permits_retry(true));
        let later = verdict.with_pushback(Pushback::After(Duration::from_secs(1)));
        assert!(!later.is_transparent() && later.permits_retry(false));
    }

    #[test]
    fn not_sent_alone_is_not_transparent() {
        for retry in [Retry::Never, Retry::IfSafe, Retry::Always] {
            assert!(!Verdict::new(Blame::Endpoint, Sent::No, retry).is_transparent(), "{retry:?}");
        }
    }

    #[test]
    fn a_transparent_verdict_on_what_may_have_happened_is_not_believed() {
        for sent in [Sent::Maybe, Sent::Processed] {
            let verdict = Verdict::new(Blame::Nobody, sent, Retry::Transparent);
            assert!(!verdict.is_transparent() && !verdict.permits_retry(false));
            assert!(verdict.permits_retry(true), "as any other that is safe to repeat");
        }
    }
}
