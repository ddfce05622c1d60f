//! What the spans say, where that is to be chosen.

use std::sync::Arc;

use http::Method;

/// The query parameters whose values are kept out of `url.full`: the credentials and signatures
/// in URLs that AWS, Azure and Google sign. OpenTelemetry's semantic conventions 1.44 name
/// them, with upper and lower case told apart.
pub const DEFAULT_REDACTED: [&str; 7] = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
];

/// The methods that spans are named by: those of RFC 9110, PATCH (RFC 5789) and QUERY
/// (RFC 10008), as the semantic conventions have it. Any other is `_OTHER`, so that a method
/// from outside can't make names without end.
pub const DEFAULT_KNOWN_METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// What the spans say.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TraceConfig {
    // `None` for the defaults, so that a service that is cloned for a call counts no reference.
    known_methods: Option<Arc<[Method]>>,
    redacted: Option<Arc<[Box<str>]>>,
}

impl TraceConfig {
    /// The defaults.
    pub const fn new() -> Self {
        Self { known_methods: None, redacted: None }
    }

    /// Names spans by these methods, in the place of [`DEFAULT_KNOWN_METHODS`].
    pub fn known_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.known_methods = Some(methods.into_iter().collect());
        self
    }

    /// Keeps the values of these query parameters out of `url.full`, in the place of
    /// [`DEFAULT_REDACTED`].
    pub fn redacted(mut self, parameters: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.redacted = Some(parameters.into_iter().map(Into::into).collect());
        self
    }

    pub(super) fn knows(&self, method: &Method) -> bool {
        match &self.known_methods {
            Some(known) => known.contains(method),
            None => DEFAULT_KNOWN_METHODS.contains(&method.as_str()),
        }
    }

    pub(super) fn redacts(&self, parameter: &str) -> bool {
        match &self.redacted {
            Some(redacted) => redacted.iter().any(|name| **name == *parameter),
            None => DEFAULT_REDACTED.contains(&parameter),
        }
    }
}
