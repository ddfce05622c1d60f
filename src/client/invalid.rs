//! Settings that can't be.

use std::{borrow::Cow, error::Error as StdError, fmt};

use crate::balance::OutsideRuntime;

/// A client that can't be, and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidClient {
    sentence: Cow<'static, str>,
}

impl InvalidClient {
    pub(super) const NO_ENDPOINTS: Self =
        Self::says("there is nobody to call: name the endpoints with `endpoints` or `discover`");
    pub(super) const EMPTY_LIST: Self = Self::says(
        "the list of endpoints is empty and never changes: name some, or watch for them with \
         `discover`",
    );
    pub(super) const NO_DEADLINE: Self =
        Self::says("a deadline of zero lets no call succeed: set it above zero");
    pub(super) const NO_ATTEMPT_TIMEOUT: Self =
        Self::says("an attempt timeout of zero lets no call succeed: set it above zero");
    pub(super) const COLLECTS_NOTHING: Self = Self::says(
        "bodies of up to 0 bytes are none: raise the cap, or leave `collect_bodies` out",
    );
    pub(super) const GRPC_NEEDS_HTTP2: Self = Self::says(
        "gRPC is spoken over HTTP/2, the connections speak HTTP/1.1: say `http2`, or give \
         `connections` settings of HTTP/2",
    );
    pub(super) const HEDGE_WITHOUT_PLACE: Self = Self::says(
        "a hedge needs a place beside the attempt that it races, and the limit is 1: raise the \
         limit, or leave the hedge out",
    );
    #[cfg(feature = "hyper")]
    pub(super) const HEALTH_NEEDS_TLS: Self = Self::says(
        "the health check speaks plain HTTP, the service does not: give `health_check_with` a \
         probe that speaks as the service does",
    );

    const fn says(sentence: &'static str) -> Self {
        Self { sentence: Cow::Borrowed(sentence) }
    }

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
