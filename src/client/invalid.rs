//! Settings that can't be.

use std::{borrow::Cow, error::Error as StdError, fmt};

use crate::balance::OutsideRuntime;

/// A client that can't be, and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidClient {
    sentence: Cow<'static, str>,
}

impl InvalidClient {
    pub(super) const NO_ENDPOINTS: Self = Self {
        sentence: Cow::Borrowed(
            "there is nobody to call: name the endpoints with `endpoints` or `discover`",
        ),
    };

    pub(super) fn new(sentence: String) -> Self {
        Self { sentence: sentence.into() }
    }

    pub(super) fn of(error: impl StdError) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Display for InvalidClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl StdError for InvalidClient {}

impl From<OutsideRuntime> for InvalidClient {
    fn from(error: OutsideRuntime) -> Self {
        Self::of(error)
    }
}
