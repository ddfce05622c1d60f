//! Where a plain request enters the stack, and one opaque error leaves it.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    Request, Response, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use tower_service::Service;
use tracing::Span;

use super::{
    AnswerClassifier, Attempts, CallFuture, CallGuard, Error, Exchange, InvalidClient, Parcel,
    builder::Routes,
};
use crate::{
    balance::EndpointStatus,
    body::Body,
    breaker::Breaker,
    call::{BodyMode, Call, Carrier},
    classify::Classify,
    hedge::Hedge,
    idempotency::{IdempotencyConfig, see_to_key},
    retry,
    sync::Spread,
    throttle::Throttle,
    time::now,
    timeout::{BoundedBody, Bounds, Elapsed, Which},
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

/// The whole stack: what stands above retry is here. Requests may name the service or only a path
/// of it.
///
/// [`Words`](crate::call::Words) come with a [`Call`], or in a request's extensions, where they hold in the place of
/// the call's.
pub struct Roof<T, Cl> {
    shared: Spread<Shared<T, Cl>>,
}

/// What all clones share.
pub(super) struct Shared<T, Cl> {
    pub(super) target: Target,
    pub(super) routes: Option<Box<Routes>>,
    pub(super) trace: TraceConfig,
    pub(super) deadline: Duration,
    pub(super) idempotency: Option<IdempotencyConfig>,
    pub(super) retry: retry::Rules<AnswerClassifier<Cl>>,
    pub(super) hedge: Option<Hedge<Attempts<T, Cl>, AnswerClassifier<Cl>>>,
    pub(super) attempts: Attempts<T, Cl>,
}

impl<T, Cl> Roof<T, Cl> {
    pub(super) fn new(shared: Shared<T, Cl>) -> Self {
        Self { shared: Spread::new(Arc::new(shared)) }
    }

    pub(super) fn shared(&self) -> &Shared<T, Cl> {
        &self.shared
    }

    /// The endpoints that are known now, and how each does.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.attempts.shared().balance.endpoints()
    }

    /// The breaker of the service as a whole, if there is one.
    #[must_use]
    pub fn service_breaker(&self) -> Option<&Breaker> {
        self.shared.attempts.shared().doors.breaker.as_ref()
    }

    /// The throttle of the service, if there is one.
    #[must_use]
    pub fn throttle(&self) -> Option<&Throttle> {
        self.shared.attempts.shared().doors.throttle.as_ref()
    }
}

impl<T, Cl> Clone for Roof<T, Cl> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T, Cl> fmt::Debug for Roof<T, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roof").field("target", &self.shared.target).finish_non_exhaustive()
    }
}

macro_rules! serve {
    ($call:ty, $parcel:expr) => {
        impl<T, Cl, B, R> Service<$call> for Roof<T, Cl>
        where
            B: Into<Body>,
            T: Exchange,
            Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<R>>,
        {
            type Response = Response<BoundedBody<R>>;
            type Error = Error;
            type Future = CallFuture<T, Cl>;

            /// Always ready: a call waits in its own future, where its deadline counts.
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, call: $call) -> Self::Future {
                self.begin($parcel(call))
            }
        }
    };
}

serve!(Request<B>, |request| Parcel::new(Call::new(request)));
serve!(Call<Request<B>>, Parcel::new);

impl<T: Exchange, Cl: Classify<Response<Body>>> Roof<T, Cl> {
    #[inline]
    pub(super) fn begin(&self, mut call: Parcel<T>) -> CallFuture<T, Cl> {
        let shared = self.shared.share();
        let words = call.words_mut();
        if shared.target.collects && words.body == BodyMode::Timely {
            words.body = BodyMode::Collected;
        }
        shared.target.complete(call.request_mut().uri_mut());
        if let (Some(routes), None) = (&shared.routes, call.words_mut().route) {
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
        let bounds = Bounds::of(call.words_mut(), shared.deadline, now());
        // With nothing left, nothing is begun.
        let begun = if bounds.is_open() {
            // The key above retry and hedge: every attempt of a call carries the same, or the
            // service could not tell a repetition from a second call.
            let now = || bounds.began();
            shared.idempotency.as_ref().map_or(Ok(()), |config| see_to_key(config, &mut call, now))
        } else {
            Err(Elapsed::not_begun(Which::Total).into())
        };
        match begun {
            Ok(()) => CallFuture::begun(shared, call, bounds, watched),
            Err(error) => CallFuture::failed(shared, call, error, bounds, watched),
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

    /// As it was said.
    pub(super) fn name(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
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
