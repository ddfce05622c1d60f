//! The client: the stack behind one box.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    AttemptBody, Builder, CallFuture, CallGuard, Error, Exchange, Parcel, Roof, snapshot::Look,
};
use crate::{
    balance::EndpointStatus,
    body::{Body, TakeWhole},
    breaker::Breaker,
    call::Call,
    classify::Classify,
    error::BoxError,
    throttle::Throttle,
    transport::{HyperTransport, TransportConfig},
};

/// Calls one service: deadline, retries, breakers, keys, balancing and traces in one.
///
/// Cheap to clone; clones share connections, breakers and budget. What runs in the background
/// (discovery, health checks) ends with the last of them.
#[derive(Clone)]
pub struct Client {
    stack: Arc<dyn Erased>,
}

/// The stack with its type erased: one box for each call, at the roof, nowhere else.
trait Erased: Send + Sync {
    fn send(&self, call: Call<Request<Body>>) -> Sending;

    fn endpoints(&self) -> Vec<EndpointStatus>;

    fn service_breaker(&self) -> Option<&Breaker>;

    fn throttle(&self) -> Option<&Throttle>;

    fn look(&self) -> &dyn Look;
}

/// A call that is under way.
///
/// Dropped, it gives the call up: nothing more is sent, and what it held is free.
#[must_use = "a call is made while its future is polled"]
pub struct Sending {
    future: Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>,
}

impl Client {
    /// Begins a client for a service: `http://payments`. The name stands in `Host` and
    /// `:authority`; the connections go to the endpoints.
    pub fn builder(service: impl Into<String>) -> Builder<HyperTransport<AttemptBody>> {
        Builder::new(service, HyperTransport::new(TransportConfig::http1()))
            .connections(TransportConfig::http1())
    }

    pub(super) fn new<T, Cl, B>(stack: Roof<T, Cl>) -> Self
    where
        T: Exchange<Future: Send> + Send + Sync + 'static,
        Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<B>> + Send + Sync + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + TakeWhole + Send + 'static,
    {
        Self { stack: Arc::new(Whole(stack)) }
    }

    /// Sends a request, or a [`Call`]: a request with [words](crate::call::Words) about it. (They
    /// may also be in the request's extensions.) Its URI may be a path alone.
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no response. A response of any status is `Ok`.
    pub fn send<B: Into<Body>>(&self, call: impl Into<Call<Request<B>>>) -> Sending {
        let Call { request, words } = call.into();
        self.stack.send(Call::with_words(request.map(Into::into), words))
    }

    /// The endpoints that are known now, and how each does.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.stack.endpoints()
    }

    /// The breaker of the service as a whole, to look at and to force it, if there is one.
    #[must_use]
    pub fn service_breaker(&self) -> Option<&Breaker> {
        self.stack.service_breaker()
    }

    /// The throttle of the service, to look at, if there is one.
    #[must_use]
    pub fn throttle(&self) -> Option<&Throttle> {
        self.stack.throttle()
    }

    pub(super) fn look(&self) -> &dyn Look {
        self.stack.look()
    }
}

struct Whole<T, Cl>(Roof<T, Cl>);

impl<T, Cl, B> Erased for Whole<T, Cl>
where
    T: Exchange<Future: Send> + Send + Sync + 'static,
    Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<B>> + Send + Sync + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + TakeWhole + Send + 'static,
{
    fn send(&self, call: Call<Request<Body>>) -> Sending {
        let (stack, begun) = (self.0.clone(), None);
        let parcel = Some(Parcel::new(call));
        Sending { future: Box::pin(Unwrapping { stack, parcel, begun }) }
    }

    fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0.endpoints()
    }

    fn service_breaker(&self) -> Option<&Breaker> {
        self.0.service_breaker()
    }

    fn throttle(&self) -> Option<&Throttle> {
        self.0.throttle()
    }

    fn look(&self) -> &dyn Look {
        &self.0
    }
}

/// A call that begins when it is first polled, and whose response is handed on with a body of
/// our own type.
// By hand: an `async` block would hold the call twice.
struct Unwrapping<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>>,
{
    stack: Roof<T, Cl>,
    parcel: Option<Parcel<T>>,
    begun: Option<CallFuture<T, Cl>>,
}

impl<T, Cl, B> Future for Unwrapping<T, Cl>
where
    T: Exchange,
    Cl: Classify<Response<Body>, Guarded<CallGuard<T>> = Response<B>>,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + TakeWhole + Send + 'static,
{
    type Output = Result<Response<Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(parcel) = this.parcel.take() {
            this.begun = Some(this.stack.begin(parcel));
        }
        let begun = this.begun.as_mut().expect("it was begun when it was first polled");
        let response = ready!(Pin::new(begun).poll(cx))?;
        // A body that was collected is whole: it needs none of its wrappers any more.
        Poll::Ready(Ok(response.map(|mut body| match body.take_whole() {
            Some(whole) => Body::full(whole),
            None => Body::new(body),
        })))
    }
}

macro_rules! serve {
    ($call:ty) => {
        impl<B: Into<Body>> Service<$call> for Client {
            type Response = Response<Body>;
            type Error = Error;
            type Future = Sending;

            /// Always ready: a call waits in its own future, where its deadline counts.
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, call: $call) -> Sending {
                self.send(call)
            }
        }
    };
}

serve!(Request<B>);
serve!(Call<Request<B>>);

impl Future for Sending {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending")
    }
}
