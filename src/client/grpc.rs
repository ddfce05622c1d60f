//! The client of a service of gRPC.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use tower_service::Service;

use super::{Client, Error, Sending};
use crate::{
    body::Body,
    call::Call,
    classify::{Mark, Marked, verdict_on_error},
    error::{BoxError, sources},
    grpc::trailers,
    time::now,
    timeout::{DeadlineHeader, incoming},
};

/// Calls one service of gRPC: as [`Client`] in all, but that it is judged by `grpc-status` and
/// answers with one.
///
/// It is the service that a generated client asks for, in the place of tonic's channel:
/// `PaymentsClient::new(client)`.
///
/// ```no_run
/// use buttress::{BoxError, call::Words, client::{Client, GrpcClient}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let client: GrpcClient = Client::builder("http://payments")
///     .grpc()
///     .endpoints(["127.0.0.1:8081".parse()?, "127.0.0.1:8082".parse()?])
///     .build()?;
/// # struct PaymentsClient<T>(T);
/// # impl<T> PaymentsClient<T> { fn new(inner: T) -> Self { Self(inner) } }
/// let payments = PaymentsClient::new(client);
/// // On a `tonic::Request`, too: this method may be repeated.
/// # let mut request = http::Request::new(());
/// request.extensions_mut().insert(Words::new().idempotent(true));
/// # drop(payments);
/// # Ok(()) }
/// ```
///
/// # What it does beside
///
/// - A failure in the trailers counts for breakers, balance and budget, and is tried again where
///   nothing came before it: it [waits for the first frame](crate::grpc::PeekLayer), unless the
///   call says that its body is [meant to last](crate::call::Words::lasting_body). Streams have
///   to say so, to outlive the deadline as well.
/// - `grpc-timeout` says how much time is left. One that comes with a request
///   (`tonic::Request::set_timeout`) shortens its call's deadline.
/// - `grpc-previous-rpc-attempts` says how many attempts came before.
/// - gRPC's own throttling is [terms](crate::algo::bucket::Tariff::grpc) of the retries' budget, if
///   you set it.
/// - Each call of gRPC is a `POST`, so it is tried again only if its words say that it is
///   [safe](crate::call::Words::idempotent), or if it was certainly not carried out.
///
/// # Errors of its own
///
/// There are none: what goes wrong on this side is a status as well, as other clients of gRPC
/// have it: an answer of a head alone, or, where a head has gone before, trailers. An error would
/// reach who asks with tonic as `UNKNOWN`, and he decides by the code. [`Error::grpc_code`] has
/// the table, and the message says what the [`Error`] would, with its causes.
///
/// The answer's extensions hold the [`Attempts`](crate::call::Attempts), and a [`Mark`] whose kind
/// is that of the error: a layer above that asks the
/// [`GrpcClassifier`](crate::classify::GrpcClassifier) knows from it whether the request may have
/// been carried out. (tonic does not pass extensions on with a failure.)
///
/// Who wants the errors themselves calls the [client beneath](Self::client).
#[derive(Clone, Debug)]
pub struct GrpcClient {
    client: Client,
}

impl GrpcClient {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends a request, or a [`Call`]. Whatever goes wrong on this side is an answer with a status;
    /// what a server or a proxy answers is handed on as it came, with a status or without.
    pub fn send<B>(&self, call: impl Into<Call<Request<B>>>) -> GrpcSending
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Call { mut request, words } = call.into();
        // Into the request's own words, which come before the others.
        if let Some(deadline) = deadline(request.headers()) {
            request.extensions_mut().get_or_insert(words.clone()).shorten(deadline);
        }
        let call = Call::with_words(request.map(Body::new), words);
        GrpcSending { sending: self.client.send(call) }
    }

    /// The client beneath: for a look at its [endpoints](Client::endpoints) and breakers, and for
    /// calls whose errors are to be errors.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }
}

macro_rules! serve {
    ($call:ty) => {
        impl<B> Service<$call> for GrpcClient
        where
            B: http_body::Body + Send + 'static,
            B::Data: Send,
            B::Error: Into<BoxError>,
        {
            type Response = Response<GrpcBody>;
            type Error = Infallible;
            type Future = GrpcSending;

            /// Always ready: a call waits in its own future, where its deadline counts.
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, call: $call) -> GrpcSending {
                self.send(call)
            }
        }
    };
}

serve!(Request<B>);
serve!(Call<Request<B>>);

/// A call of gRPC that is under way.
///
/// Dropped, it gives the call up.
#[derive(Debug)]
#[must_use = "a call is made while its future is polled"]
pub struct GrpcSending {
    sending: Sending,
}

impl Future for GrpcSending {
    type Output = Result<Response<GrpcBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match ready!(Pin::new(&mut self.sending).poll(cx)) {
            Ok(response) => response.map(|body| GrpcBody { body: Some(body) }),
            Err(error) => answer(&error),
        };
        Poll::Ready(Ok(response))
    }
}

/// The body of an answer of gRPC. What breaks it off is said in its trailers: it has no errors.
#[derive(Debug)]
pub struct GrpcBody {
    /// None once it broke off.
    body: Option<Body>,
}

impl http_body::Body for GrpcBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx)).map(|frame| {
            frame.unwrap_or_else(|error| {
                self.body = None;
                Frame::trailers(status(&Error::new(error, now())))
            })
        });
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

/// When the answer is no longer waited for, if the request says so itself.
fn deadline(headers: &HeaderMap) -> Option<Instant> {
    now().checked_add(incoming(headers, &DeadlineHeader::grpc())?)
}

/// "Trailers-Only": the status is in the head, and no body follows.
#[cold]
fn answer(error: &Error) -> Response<GrpcBody> {
    let mut response = Response::new(GrpcBody { body: None });
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = status(error);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mark = Mark::new(verdict_on_error(error.cause())).named(error.kind().code());
    response.extensions_mut().insert(mark);
    if !error.attempts().is_empty() {
        response.extensions_mut().insert(error.history().clone());
    }
    response
}

/// What happened, as trailers. Its causes as well, since a status has no sources.
fn status(error: &Error) -> HeaderMap {
    let causes =
        sources(error.cause()).filter(|cause| !cause.is::<Mark>() && !cause.is::<Marked>());
    let message = causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"));
    trailers(error.grpc_code(), &message)
}
