//! Where a plain request enters the stack, and one opaque error leaves it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{
    Request, Response, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Span;

use super::{Error, InvalidClient, Parcel, builder::Routes};
use crate::{
    balance::EndpointStatus,
    body::Body,
    breaker::Breaker,
    call::{BodyMode, Call, Carrier, Words},
    error::BoxError,
    idempotency::{IdempotencyConfig, see_to_key},
    throttle::Throttle,
    time::now,
    timeout::{Bounded, BoundedBody, Bounds, Elapsed, Http, Limit, Limited, Which},
    trace::{TraceConfig, Watched},
};

/// What the roof has to know of the service.
#[derive(Clone, Debug)]
pub(super) struct Target {
    scheme: Scheme,
    authority: Authority,
    /// The body belongs to the attempt, unless a call says that it is meant to last.
    collects: bool,
}

/// The roof of the stack: all that stands above retry. Requests may name the service or only a
/// path of it.
///
/// [`Words`] come with a [`Call`], or in a request's extensions, where they hold in the place of
/// the call's.
#[derive(Clone)]
pub struct Roof<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all clones share.
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) routes: Option<Box<Routes>>,
    pub(super) trace: TraceConfig,
    pub(super) deadline: Duration,
    pub(super) idempotency: Option<IdempotencyConfig>,
    pub(super) endpoints: Box<Endpoints>,
    pub(super) service_breaker: Option<Breaker>,
    pub(super) throttle: Option<Throttle>,
}

/// Looks into a balancer, whatever its type.
type Endpoints = dyn Fn() -> Vec<EndpointStatus> + Send + Sync;

impl<S> Roof<S> {
    pub(super) fn new(inner: S, shared: Shared) -> Self {
        Self { inner, shared: Arc::new(shared) }
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

    /// The throttle of the service, if there is one.
    #[must_use]
    pub fn throttle(&self) -> Option<&Throttle> {
        self.shared.throttle.as_ref()
    }
}

impl<S> fmt::Debug for Roof<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roof").field("target", &self.shared.target).finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for Roof<S>
where
    B: Into<Body>,
    S: Service<Parcel, Response = Response<R>, Error = BoxError>,
{
    type Response = Response<BoundedBody<R>>;
    type Error = Error;
    type Future = RoofFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_open(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.begin(Parcel::new(request, Words::new()))
    }
}

impl<S, B, R> Service<Call<Request<B>>> for Roof<S>
where
    B: Into<Body>,
    S: Service<Parcel, Response = Response<R>, Error = BoxError>,
{
    type Response = Response<BoundedBody<R>>;
    type Error = Error;
    type Future = RoofFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_open(cx)
    }

    fn call(&mut self, call: Call<Request<B>>) -> Self::Future {
        self.begin(Parcel::new(call.request, call.words))
    }
}

impl<S, R> Roof<S>
where
    S: Service<Parcel, Response = Response<R>, Error = BoxError>,
{
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::new(error, now()))
    }

    pub(super) fn begin(&mut self, mut call: Parcel) -> RoofFuture<S::Future> {
        let shared = &*self.shared;
        let words = call.words_mut();
        if shared.target.collects && words.body == BodyMode::Timely {
            words.body = BodyMode::Collected;
        }
        shared.target.complete(call.request_mut().uri_mut());
        if let (Some(routes), None) = (&shared.routes, call.words().route) {
            let request = call.request();
            let route = routes(request.method(), request.uri().path());
            call.words_mut().route = route;
        }

        // The call span above the deadline: it covers what the caller waits for, and sees it
        // end.
        let watched = Watched::call(&call, &shared.trace);
        let span = watched.as_deref().map(Watched::span);
        let _entered = span.as_ref().map(Span::enter);

        // The deadline above retry: it bounds the sum of all attempts, backoffs and the body,
        // and each attempt gets no more than what is left of it.
        let Bounds { limited, lasting } = Bounds::of(call.words_mut(), shared.deadline, now());
        // With nothing left, nothing is begun.
        if !limited.is_open() {
            let error = Elapsed::not_begun(Which::Total);
            return RoofFuture { begun: Begun::failed(error), limited, lasting, watched };
        }

        // The key above retry and hedge: every attempt of a call carries the same, or the
        // service could not tell a repetition from a second call.
        if let Some(config) = &shared.idempotency {
            if let Err(error) = see_to_key(config, &mut call) {
                return RoofFuture { begun: Begun::failed(error), limited, lasting, watched };
            }
        }
        RoofFuture {
            begun: Begun::Called { inner: self.inner.call(call) },
            limited,
            lasting,
            watched,
        }
    }
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
    #[must_use = "futures do nothing unless polled"]
    pub struct RoofFuture<F> {
        #[pin]
        begun: Begun<F>,
        #[pin]
        limited: Limited,
        lasting: Option<Duration>,
        // None if nobody listens.
        watched: Option<Box<Watched>>,
    }

    impl<F> PinnedDrop for RoofFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(watched) = this.watched.take() {
                watched.record_drop();
                // What the layers below report while they are dropped belongs to the span.
                let _entered = watched.enter();
                this.begun.set(Begun::Ended);
            }
        }
    }
}

pin_project! {
    #[project = BegunProj]
    #[derive(Debug)]
    enum Begun<F> {
        Called { #[pin] inner: F },
        /// It was not called, for this reason.
        Failed { error: Option<BoxError> },
        Ended,
    }
}

impl<F> Begun<F> {
    fn failed(error: impl Into<BoxError>) -> Self {
        Self::Failed { error: Some(error.into()) }
    }
}

impl<F, B> Future for RoofFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
{
    type Output = Result<Response<BoundedBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.watched.is_some() { self.poll_watched(cx) } else { self.within_span(cx) }
    }
}

impl<F, B> RoofFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
{
    #[cold]
    fn poll_watched(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let span = self.watched.as_deref().map(Watched::span);
        let _entered = span.as_ref().map(Span::enter);
        let polled = self.as_mut().within_span(cx);
        if let Poll::Ready(outcome) = &polled {
            // Ended here and not by whoever drops this future, who may keep it.
            if let Some(watched) = self.project().watched.take() {
                watched.record(outcome.as_ref().map_err(Error::cause));
            }
        }
        polled
    }

    #[inline]
    fn within_span(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let mut this = self.project();
        let inner = match this.begun.as_mut().project() {
            BegunProj::Called { inner } => inner,
            BegunProj::Failed { error } => {
                let error = error.take().expect("a future is not polled after its end");
                return Poll::Ready(Err(Error::new(error, now())));
            }
            BegunProj::Ended => panic!("polled after it was ready"),
        };
        match this.limited.as_mut().enter(|| inner.poll(cx)) {
            Poll::Ready(Ok(response)) => {
                let limit = Limit::of(&this.limited, *this.lasting);
                return Poll::Ready(Ok(Http::limit(response, limit)));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::new(error, now()))),
            Poll::Pending => {}
        }
        ready!(this.limited.as_mut().poll_over(cx));
        let elapsed = this.limited.elapsed(Which::Total);
        // Dropped now, so that permits, budget and connection are free when the error is seen.
        this.limited.enter(|| this.begun.set(Begun::Ended));
        Poll::Ready(Err(Error::new(elapsed.into(), now())))
    }
}
