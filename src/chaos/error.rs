//! Errors that somebody asked for.

use std::{error::Error as StdError, fmt, io};

use crate::classify::{Blame, Mark, Retry, Sent, Verdict};

/// How a request fails, as a transport would report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody listens. It was not sent, and the endpoint is to blame.
    Refused,
    /// No connection was made in time. It was not sent, and the endpoint is to blame.
    ConnectTimedOut,
    /// The connection broke under the request. It is not sent, but nobody can know that; the
    /// endpoint is to blame.
    Reset,
    /// The request is sent and carried out, and its answer lost. To whoever asked it looks as
    /// [`Failure::Reset`] does, and only a key keeps it from being done twice.
    AnswerLost,
    /// A server that works turned the request away unlooked at (`REFUSED_STREAM`, `GOAWAY`, a
    /// connection that was closed while it was idle): nobody is to blame.
    TurnedAway,
}

impl Failure {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::Reset => "reset",
            Self::AnswerLost => "answer_lost",
            Self::TurnedAway => "turned_away",
        }
    }

    /// What the transport's own errors are judged to mean, see
    /// [`verdict_on_error`](crate::classify::verdict_on_error).
    const fn verdict(self) -> Verdict {
        match self {
            Self::Refused | Self::ConnectTimedOut => {
                Verdict::new(Blame::Endpoint, Sent::No, Retry::Always)
            }
            Self::Reset | Self::AnswerLost => {
                Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe)
            }
            Self::TurnedAway => Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent),
        }
    }

    const fn io_kind(self) -> io::ErrorKind {
        match self {
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::ConnectTimedOut => io::ErrorKind::TimedOut,
            Self::Reset | Self::AnswerLost => io::ErrorKind::ConnectionReset,
            Self::TurnedAway => io::ErrorKind::ConnectionAborted,
        }
    }

    pub(super) fn error(self) -> Injected {
        Injected::new(self.text(), self.io_kind(), self.verdict())
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::ConnectTimedOut => "no connection was made in time",
            Self::Reset | Self::AnswerLost => "connection reset",
            Self::TurnedAway => "turned away unprocessed",
        }
    }
}

/// A body that breaks off.
pub(super) fn broken_off() -> Injected {
    let verdict = Failure::Reset.verdict();
    Injected::new("the body broke off", io::ErrorKind::UnexpectedEof, verdict)
}

/// An error that was asked for, around the `io::Error` that it stands for; to tell it from a real
/// one, which has no such thing among its sources.
#[derive(Debug)]
pub struct Injected {
    text: &'static str,
    error: io::Error,
}

impl Injected {
    fn new(text: &'static str, kind: io::ErrorKind, verdict: Verdict) -> Self {
        Self { text, error: io::Error::new(kind, Mark::new(verdict)) }
    }

    /// The kind of the `io::Error`.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (injected)", self.text)
    }
}

impl StdError for Injected {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// A fault that can't be; its text says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidFault {
    sentence: &'static str,
}

impl InvalidFault {
    pub(super) const fn new(sentence: &'static str) -> Self {
        Self { sentence }
    }
}

impl fmt::Display for InvalidFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidFault {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::verdict_on_error;

    #[test]
    fn an_injected_error_is_judged_as_the_real_one() {
        for failure in [Failure::Refused, Failure::Reset, Failure::AnswerLost] {
            let real = io::Error::from(failure.io_kind());
            assert_eq!(verdict_on_error(&failure.error()), verdict_on_error(&real), "{failure:?}");
        }
        // Those of connecting and of HTTP/2 are known by their own types; see the transport.
        assert_eq!(verdict_on_error(&Failure::ConnectTimedOut.error()).sent, Sent::No);
        assert!(verdict_on_error(&Failure::TurnedAway.error()).is_transparent());
    }
}
