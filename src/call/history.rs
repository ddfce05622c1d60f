//! What became of a call's attempts.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use super::{AttemptKind, Target};
use crate::{
    classify::{Mark, Marked, Verdict},
    error::sources,
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
/// in its extensions unless the first attempt succeeded, and so does each of its errors.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Arc<Vec<Attempt>>);

impl Attempts {
    /// The attempts in order.
    #[must_use]
    pub fn new(attempts: Vec<Attempt>) -> Self {
        Self(Arc::new(attempts))
    }
}

impl std::ops::Deref for Attempts {
    type Target = [Attempt];

    fn deref(&self) -> &[Attempt] {
        &self.0
    }
}
