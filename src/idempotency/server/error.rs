//! Settings that can't work.

use std::{error::Error as StdError, fmt};

/// A setting that can't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHonour {
    sentence: &'static str,
}

impl InvalidHonour {
    pub(super) const NAME: Self = Self {
        sentence: "this is no header's name: use letters, digits and dashes, such as \
                   \"Idempotency-Key\"",
    };
    pub(super) const OF_HTTP: Self = Self {
        sentence: "HTTP itself needs this header: choose the one that clients send keys in, such \
                   as \"Idempotency-Key\"",
    };
    pub(super) const DOCS: Self = Self {
        sentence: "problems can't point to this: give an absolute URI, such as \
                   \"https://developer.example.com/idempotency\"",
    };
    pub(super) const RETRY_AFTER: Self =
        Self { sentence: "Retry-After counts whole seconds: give one or more" };
    pub(super) const LEASE: Self = Self {
        sentence: "a key would be forgotten while its work is done: give a lease above zero, and a \
                   retention that is longer",
    };
}

impl fmt::Display for InvalidHonour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidHonour {}
