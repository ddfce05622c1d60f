//! The two ways in which a request carries its words.

use http::{HeaderMap, HeaderName, Method, Request, Uri, header};

use super::Words;

/// A request together with the [`Words`] that travel with it. Layers are written against this
/// trait, so that they serve any request type.
pub trait Carrier: Sized {
    /// The plain request inside.
    type Request;

    /// The words, or none if nobody said any.
    fn words(&self) -> Option<&Words>;

    /// The words, to be changed.
    fn words_mut(&mut self) -> &mut Words;

    /// The plain request.
    fn request(&self) -> &Self::Request;

    /// The plain request, to be changed.
    fn request_mut(&mut self) -> &mut Self::Request;

    /// Unwraps the plain request. An [`http::Request`] keeps its words in its extensions.
    fn into_request(self) -> Self::Request;
}

/// A request with its words inline.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Call<R> {
    /// What travels with the request.
    pub words: Words,
    /// The request.
    pub request: R,
}

impl<R> Call<R> {
    /// A request about which nothing was said.
    pub fn new(request: R) -> Self {
        Self { words: Words::new(), request }
    }

    /// A request with its words.
    pub const fn with_words(request: R, words: Words) -> Self {
        Self { words, request }
    }
}

impl<R> From<R> for Call<R> {
    fn from(request: R) -> Self {
        Self::new(request)
    }
}

impl<R> Carrier for Call<R> {
    type Request = R;

    fn words(&self) -> Option<&Words> {
        Some(&self.words)
    }

    fn words_mut(&mut self) -> &mut Words {
        &mut self.words
    }

    fn request(&self) -> &R {
        &self.request
    }

    fn request_mut(&mut self) -> &mut R {
        &mut self.request
    }

    fn into_request(self) -> R {
        self.request
    }
}

impl<B> Carrier for Request<B> {
    type Request = Self;

    fn words(&self) -> Option<&Words> {
        self.extensions().get()
    }

    fn words_mut(&mut self) -> &mut Words {
        self.extensions_mut().get_or_insert_default()
    }

    fn request(&self) -> &Self {
        self
    }

    fn request_mut(&mut self) -> &mut Self {
        self
    }

    fn into_request(self) -> Self {
        self
    }
}

/// The head of an HTTP request, for layers that read or write headers.
pub trait HttpHead {
    /// The method.
    fn method(&self) -> &Method;
    /// The target.
    fn uri(&self) -> &Uri;
    /// The headers.
    fn headers(&self) -> &HeaderMap;
    /// The headers, to be changed.
    fn headers_mut(&mut self) -> &mut HeaderMap;
}

impl<B> HttpHead for Request<B> {
    fn method(&self) -> &Method {
        Self::method(self)
    }

    fn uri(&self) -> &Uri {
        Self::uri(self)
    }

    fn headers(&self) -> &HeaderMap {
        Self::headers(self)
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        Self::headers_mut(self)
    }
}

/// Headers that frame, route or authorize a message: what a layer wrote in their place would
/// break it.
pub(crate) const OF_HTTP: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
