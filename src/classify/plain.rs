//! The classifier for services that are not HTTP.

use super::{Classify, Settle, Verdict};
use crate::call::Asked;

/// Every response is a success; errors are judged by their sources. For services whose
/// failures are all errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlainClassifier;

impl PlainClassifier {
    /// The classifier for services whose failures are all errors.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<Res> Classify<Res> for PlainClassifier {
    type Guarded<G: Settle> = Res;

    fn response(&self, _: Asked, _: &Res) -> Verdict {
        Verdict::SUCCESS
    }

    fn guard<G: Settle>(&self, _: Asked, response: Res, head: Verdict, mut guard: G) -> Res {
        guard.settle(head);
        response
    }
}
