//! How an answer says that it came from a fallback.

use std::time::Duration;

use http::Response;

use super::rule::Reason;
use crate::{call::Outcome, classify::Verdict};

/// An answer came from a fallback, and why.
///
/// An HTTP response carries it in its extensions, an [`Answer`] beside the response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FellBack {
    /// The fallback's name.
    pub by: &'static str,
    /// Why.
    pub reason: Reason,
    /// What the failure meant: whether the call may have been carried out, above all.
    pub verdict: Verdict,
    /// What came of the call: a status, or the error in words.
    pub outcome: Outcome,
    /// How old the answer is, if it was remembered.
    pub age: Option<Duration>,
}

/// An answer that can say that it came from a fallback.
pub trait Discloses {
    /// Notes it. What an inner fallback noted of the answer's age is kept.
    fn disclose(&mut self, fell_back: FellBack);

    /// What was noted, or `None` if it is the answer of who was called.
    fn fell_back(&self) -> Option<&FellBack>;
}

/// In the extensions.
impl<B> Discloses for Response<B> {
    fn disclose(&mut self, fell_back: FellBack) {
        let noted = merge(self.extensions_mut().remove(), fell_back);
        self.extensions_mut().insert(noted);
    }

    fn fell_back(&self) -> Option<&FellBack> {
        self.extensions().get()
    }
}

/// A response that has no room of its own to say that it came from a fallback.
///
/// Services beneath a fallback answer with one: `service.map_response(Answer::new)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The response.
    pub response: T,
    /// The fallback it came from, if it did.
    pub fell_back: Option<FellBack>,
}

impl<T> Answer<T> {
    /// The answer of who was called.
    pub const fn new(response: T) -> Self {
        Self { response, fell_back: None }
    }
}

impl<T> Discloses for Answer<T> {
    fn disclose(&mut self, fell_back: FellBack) {
        self.fell_back = Some(merge(self.fell_back.take(), fell_back));
    }

    fn fell_back(&self) -> Option<&FellBack> {
        self.fell_back.as_ref()
    }
}

/// The outer fallback's word on what failed, the inner one's on how old the answer is.
fn merge(inner: Option<FellBack>, mut outer: FellBack) -> FellBack {
    outer.age = outer.age.or(inner.and_then(|inner| inner.age));
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_fallback_says_why_and_the_inner_one_how_old_the_answer_is() {
        let by = |by, age| FellBack {
            by,
            reason: Reason::Service,
            verdict: Verdict::TIMED_OUT,
            outcome: Outcome::Response(Some(503)),
            age,
        };
        let age = Some(Duration::from_secs(7));
        let mut plain = Answer::new(());
        let mut http = Response::new(());
        for noted in [by("stale", age), by("eu", None)] {
            plain.disclose(noted.clone());
            http.disclose(noted);
        }
        assert_eq!(plain.fell_back(), Some(&by("eu", age)));
        assert_eq!(http.fell_back(), Some(&by("eu", age)));
    }
}
