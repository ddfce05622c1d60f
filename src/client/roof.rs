//! Where a plain request enters the stack, and one opaque error leaves it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    Extensions, Request, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Error, InvalidClient};
use crate::{
    balance::EndpointStatus,
    body::Body,
    breaker::Breaker,
    call::{BodyMode, Call, Words},
    error::BoxError,
    time::now,
};

/// What the roof has to know of the service.
#[derive(Clone, Debug)]
pub(super) struct Target {
    scheme: Scheme,
    authority: Authority,
    /// The body belongs to the attempt, unless a call says that it is meant to last.
    collects: bool,
}

/// The roof of the stack. Requests may name the service or only a path of it.
///
/// [`Words`] in a request's extensions become the call's own.
#[derive(Clone)]
pub struct Roof<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all clones share.
struct Shared {
    target: Target,
    endpoints: Box<Endpoints>,
    service_breaker: Option<Breaker>,
}

/// Looks into a balancer, whatever its type.
type Endpoints = dyn Fn() -> Vec<EndpointStatus> + Send + Sync;

impl<S> Roof<S> {
    pub(super) fn new(
        inner: S,
        target: Target,
        endpoints: impl Fn() -> Vec<EndpointStatus> + Send + Sync + 'static,
        service_breaker: Option<Breaker>,
    ) -> Self {
        let endpoints = Box::new(endpoints);
        Self { inner, shared: Arc::new(Shared { target, endpoints, service_breaker }) }
    }

    /// The endpoints that are known now, and how each does.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        (self.shared.endpoints)()
    }

    /// The breaker of the service as a whole, if there is one.
    #[must_use]
    pub fn service_breaker(&self) -> Option<&Breaker> {
        self.shared.service_breaker.as_ref()
    }
}

impl<S> fmt::Debug for Roof<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roof").field("target", &self.shared.target).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for Roof<S>
where
    B: Into<Body>,
    S: Service<Call<Request<Body>>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = RoofFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::new(error, now()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Into::into);
        let mut words: Words = if request.extensions().is_empty() {
            Words::new()
        } else {
            take_words(request.extensions_mut())
        };
        let target = &self.shared.target;
        if target.collects && words.body == BodyMode::Timely {
            words.body = BodyMode::Collected;
        }
        target.complete(request.uri_mut());
        RoofFuture { inner: self.inner.call(Call::with_words(request, words)) }
    }
}

/// The words that the caller left with a request. Where nothing else is there, nothing stays,
/// so that the copies for the attempts copy nothing.
fn take_words(extensions: &mut Extensions) -> Words {
    let words = extensions.remove().unwrap_or_default();
    if extensions.is_empty() {
        *extensions = Extensions::new();
    }
    words
}

impl Target {
    /// Reads the scheme and the name of a service.
    pub(super) fn parse(service: &str, collects: bool) -> Result<Self, InvalidClient> {
        let wrong = || {
            InvalidClient::new(format!(
                "{service:?} names no service: say its scheme and name, such as \"http://payments\""
            ))
        };
        let parts = service.parse::<Uri>().map_err(|_| wrong())?.into_parts();
        let path = parts.path_and_query.as_ref().map_or("", |path| path.as_str());
        match (parts.scheme, parts.authority) {
            // A user and password have no place in `Host`.
            (Some(scheme), Some(authority))
                if matches!(path, "" | "/")
                    && !authority.host().is_empty()
                    && !authority.as_str().contains('@') =>
            {
                Ok(Self { scheme, authority, collects })
            }
            _ => Err(wrong()),
        }
    }

    pub(super) fn is_plain_http(&self) -> bool {
        self.scheme == Scheme::HTTP
    }

    #[cfg(feature = "hyper")]
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Gives a request for a path alone the name of the service.
    fn complete(&self, uri: &mut Uri) {
        if uri.authority().is_some() {
            return;
        }
        let mut parts = std::mem::take(uri).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        *uri = Uri::from_parts(parts).expect("scheme, authority and path make a URI");
    }
}

pin_project! {
    /// The future of [`Roof`].
    #[derive(Debug)]
    pub struct RoofFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, T> Future for RoofFuture<F>
where
    F: Future<Output = Result<T, BoxError>>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Not by `map_err`, which moves the response there and back.
        match self.project().inner.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Error::new(error, now()))),
        }
    }
}
