//! One question to a health service, and its answers.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{
    error::NoHealthAnswer,
    wire::{self, Frames, ServingStatus},
};
use crate::error::BoxError;

/// Asks once.
pub(super) const CHECK: PathAndQuery = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
/// Asks to be told of each change.
pub(super) const WATCH: PathAndQuery = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");

/// How often a connection that only listens is tried by a ping, and how long the answer may take:
/// a server that is gone without a word says nothing, as one does that is well.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The answers to one question, over a connection that ends with them.
pub(super) struct Answers {
    body: Incoming,
    frames: Frames,
    connection: Connection,
    trailers: HeaderMap,
}

/// Polled together with what waits for it, so that to drop both leaves nothing behind. None when
/// it has ended.
struct Connection(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Connection {
    /// How it ended is told by the answer as well.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if self.0.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
            self.0 = None;
        }
    }
}

/// Opens a connection and asks.
pub(super) async fn ask(
    address: std::net::SocketAddr,
    authority: Authority,
    path: PathAndQuery,
    service: &str,
) -> Result<Answers, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let request = request(authority, path, service)?;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut connection = Connection(Some(Box::pin(async move { drop(connection.await) })));
    let mut answer = pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        connection.drive(cx);
        answer.as_mut().poll(cx)
    });
    let (head, body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(NoHealthAnswer::Http(head.status).into());
    }
    // Trailers-Only: what failed at once stands in the head.
    if head.headers.contains_key(STATUS) {
        ended(&head.headers)?;
    }
    Ok(Answers { body, frames: Frames::default(), connection, trailers: HeaderMap::new() })
}

impl Answers {
    /// The next answer; none when there are no more and the call ended well.
    pub(super) async fn next(&mut self) -> Result<Option<ServingStatus>, BoxError> {
        loop {
            if let Some(status) = self.frames.next().map_err(|_| NoHealthAnswer::Unreadable)? {
                return Ok(Some(status));
            }
            let frame = poll_fn(|cx| {
                self.connection.drive(cx);
                Pin::new(&mut self.body).poll_frame(cx)
            });
            match frame.await {
                None => {
                    ended(&self.trailers)?;
                    return Ok(None);
                }
                Some(frame) => match frame?.into_data() {
                    Ok(data) => self.frames.receive(&data),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.trailers = trailers;
                        }
                    }
                },
            }
        }
    }
}

const STATUS: &str = "grpc-status";

/// How the call ended.
fn ended(trailers: &HeaderMap) -> Result<(), NoHealthAnswer> {
    let text = |name| trailers.get(name).and_then(|value| HeaderValue::to_str(value).ok());
    match text(STATUS).and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default().to_owned();
            Err(NoHealthAnswer::Grpc { code, message })
        }
        None => Err(NoHealthAnswer::Unreadable),
    }
}

fn request(
    authority: Authority,
    path: PathAndQuery,
    service: &str,
) -> Result<Request<Full<Bytes>>, BoxError> {
    let uri =
        Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build()?;
    let mut request = Request::new(Full::new(wire::request(service)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    for (name, value) in [
        (CONTENT_TYPE, "application/grpc"),
        (TE, "trailers"),
        // So that an access log can leave the checks out.
        (USER_AGENT, "buttress-health"),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(request)
}
