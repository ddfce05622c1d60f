//! A request's head, as it is kept for further attempts.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// What is kept of a request's head. Headers in a list, without hashing: hardly any is ever made
/// into a map again. Most requests of programs have the key and one or two of their own.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Headers,
    extensions: Extensions,
}

#[derive(Debug)]
enum Headers {
    None,
    /// In place, so that the key alone costs no allocation.
    One(HeaderName, HeaderValue),
    Many(Vec<(HeaderName, HeaderValue)>),
}

impl Headers {
    #[inline(always)]
    fn of(map: &HeaderMap) -> Self {
        let mut each = map.iter().map(|(name, value)| (name.clone(), value.clone()));
        match map.len() {
            0 => Self::None,
            1 => each.next().map_or(Self::None, |(name, value)| Self::One(name, value)),
            count => {
                let mut many = Vec::with_capacity(count);
                many.extend(each);
                Self::Many(many)
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let (one, many) = match self {
            Self::None => (None, &[][..]),
            Self::One(name, value) => (Some((name, value)), &[][..]),
            Self::Many(many) => (None, &many[..]),
        };
        one.into_iter().chain(many.iter().map(|(name, value)| (name, value)))
    }
}

impl Head {
    #[inline(always)]
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let headers = Headers::of(request.headers());
        let mut extensions = Extensions::new();
        if !request.extensions().is_empty() {
            extensions = request.extensions().clone();
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { method, uri, version: request.version(), headers, extensions }
    }

    pub(super) fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.extensions_mut() = self.extensions.clone();
        let headers = request.headers_mut();
        headers.reserve(self.headers.iter().count());
        for (name, value) in self.headers.iter() {
            headers.append(name, value.clone());
        }
        request
    }
}
