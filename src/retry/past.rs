//! The attempts of a call that are over, and which one follows them.

use std::time::{Duration, Instant};

use super::outcome::raced;
use crate::{
    call::{Attempt, AttemptKind, Attempts, Outcome, Target, Tried, Words},
    classify::{Classify, Verdict},
    error::BoxError,
};

/// What a call remembers of its attempts when one has failed, and what it says of the one under
/// way.
pub(super) struct Past {
    /// The attempt under way; the first is 1.
    pub(super) number: u32,
    /// Why the attempt under way was made.
    pub(super) kind: AttemptKind,
    /// How long it was waited for.
    pub(super) backoff: Duration,
    /// Where they went.
    pub(super) tried: Tried,
    attempts: Vec<Attempt>,
}

impl Default for Past {
    /// At the first attempt.
    fn default() -> Self {
        Self {
            number: 1,
            kind: AttemptKind::First,
            backoff: Duration::ZERO,
            tried: Tried::NONE,
            attempts: Vec::new(),
        }
    }
}

impl Past {
    /// How many attempts of such kinds are over.
    pub(super) fn made(&self, of: fn(AttemptKind) -> bool) -> u32 {
        let made = self.attempts.iter().filter(|attempt| of(attempt.kind)).count();
        u32::try_from(made).unwrap_or(u32::MAX)
    }

    /// The attempt under way has ended so, at `now`.
    pub(super) fn remember<T, Cl: Classify<T>>(
        &mut self,
        result: &Result<T, BoxError>,
        verdict: Verdict,
        (began, now): (Instant, Instant),
        target: Option<Target>,
        classifier: &Cl,
    ) {
        let raced = match result {
            Ok(response) => classifier.attempts(response),
            Err(error) => raced(&**error),
        };
        if let Some(raced) = raced.filter(|raced| !raced.is_final()) {
            return self.remember_both(&raced);
        }
        let outcome = match result {
            Ok(response) => Outcome::Response(classifier.status(response)),
            Err(error) => Outcome::of_error(&**error),
        };
        self.attempts.push(Attempt {
            number: self.number,
            kind: self.kind,
            target,
            outcome,
            verdict,
            lasted: now.saturating_duration_since(began),
            backoff: self.backoff,
        });
    }

    /// Two attempts raced each other beneath. To the limits they are the one that was made here.
    fn remember_both(&mut self, raced: &[Attempt]) {
        let first = self.number;
        for (number, attempt) in (first..).zip(raced) {
            let mut attempt = attempt.clone();
            attempt.number = number;
            if number == first {
                (attempt.kind, attempt.backoff) = (self.kind, self.backoff);
            }
            if let Some(target) = attempt.target {
                self.tried.insert(target.key);
            }
            self.number = number;
            self.attempts.push(attempt);
        }
    }

    /// The next attempt is about to begin: says in its words which it is.
    pub(super) fn next(&mut self, words: &mut Words) {
        self.number += 1;
        words.attempt = self.number;
        words.kind = self.kind;
        words.tried.extend(self.tried);
    }

    /// All of it, for the caller.
    pub(super) fn into_attempts(self) -> Attempts {
        Attempts::new(self.attempts)
    }
}
