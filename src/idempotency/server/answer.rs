//! What a call was answered, to be told again.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

/// An answer whole in memory: what is stored under a key, and told to who comes with it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// An answer of this status and body, without headers.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: HeaderMap::new(), body: body.into() }
    }

    /// The same with these headers in place of its own.
    ///
    /// A store gives them back as they are. What frames a message ([`Content-Length`] and its
    /// like) has no place among them: the body's length is known.
    ///
    /// [`Content-Length`]: http::header::CONTENT_LENGTH
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers that were kept.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The whole body.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The answer as a response: for a handler that commits it together with its work, and then
    /// answers with what it committed.
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// About how many bytes of memory it takes: for stores with a bound.
    #[must_use]
    pub fn weight(&self) -> usize {
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + HEADER_OVERHEAD
        };
        self.body.len() + self.headers.iter().map(header).sum::<usize>()
    }
}

/// A slot of the map, a name, a value and their indices.
const HEADER_OVERHEAD: usize = 104;
