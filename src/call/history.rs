//! What became of a call's attempts.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use super::{AttemptKind, Target};
use crate::{
    classify::{Mark, Marked, Verdict},
    error::{BoxError, sources},
};

/// One attempt of a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Which it was; the first is 1.
    pub number: u32,
    /// Why it was made.
    pub kind: AttemptKind,
    /// Where it went, if a balancer below chose.
    pub target: Option<Target>,
    /// What came of it: a status, or the error in words.
    pub outcome: Outcome,
    /// What that meant.
    pub verdict: Verdict,
    /// How long it lasted, to the response's head or to the error.
    pub lasted: Duration,
    /// How long the call waited before it.
    pub backoff: Duration,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A response, by its status where it has one.
    Response(Option<u16>),
    /// An error, in words.
    Error(String),
}

impl Outcome {
    /// An error and its sources in one line, less what they say of the verdict.
    pub(crate) fn of_error(error: &(dyn StdError + 'static)) -> Self {
        let mut words = String::new();
        for error in sources(error).filter(|error| !error.is::<Mark>() && !error.is::<Marked>()) {
            let text = error.to_string();
            // Many wrappers repeat what they wrap.
            if !words.ends_with(&text) {
                if !words.is_empty() {
                    words.push_str(": ");
                }
                words.push_str(&text);
            }
        }
        Self::Error(words)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {}", self.number)?;
        if let Some(target) = self.target {
            write!(f, " to {}", target.address)?;
        }
        match &self.outcome {
            Outcome::Response(Some(status)) => write!(f, ": status {status}")?,
            Outcome::Response(None) => f.write_str(": answered")?,
            Outcome::Error(error) => write!(f, ": {error}")?,
        }
        write!(f, " after {:?}", self.lasted)
    }
}

/// The attempts of a call, in order. A response of a [`Retry`](crate::retry::Retry) carries them
/// in its extensions unless the first attempt succeeded, and so does each of its errors. So does
/// one of a [`Hedge`](crate::hedge::Hedge) that two attempts raced for.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    list: Arc<Vec<Attempt>>,
    raced: bool,
}

impl Attempts {
    /// The attempts in order, of a call that is over.
    #[must_use]
    pub fn new(attempts: Vec<Attempt>) -> Self {
        Self { list: Arc::new(attempts), raced: false }
    }

    /// Attempts that raced each other, after which others may be made.
    pub(crate) fn raced(attempts: Vec<Attempt>) -> Self {
        Self { list: Arc::new(attempts), raced: true }
    }

    /// Whether a retry decided that no other attempt follows these. A failure that carries them is
    /// not to be tried again then, or layered retries multiply. It is not so of two that raced
    /// each other.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !self.raced
    }
}

impl std::ops::Deref for Attempts {
    type Target = [Attempt];

    fn deref(&self) -> &[Attempt] {
        &self.list
    }
}

/// Two attempts of a call raced each other, and both failed. The source is the more telling of
/// their errors, and its verdict holds.
#[derive(Debug)]
pub struct Raced {
    attempts: Attempts,
    source: BoxError,
}

impl Raced {
    pub(crate) const fn new(attempts: Attempts, source: BoxError) -> Self {
        Self { attempts, source }
    }

    /// Both attempts.
    #[must_use]
    pub const fn attempts(&self) -> &Attempts {
        &self.attempts
    }
}

impl fmt::Display for Raced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two attempts raced each other, and both failed")
    }
}

impl StdError for Raced {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}
