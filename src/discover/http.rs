//! How registries are asked over HTTP, whoever carries it.

use std::{
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, Uri, uri::Scheme};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_service::Service;

use super::{
    error::InvalidDiscover,
    registry::{Fault, RegistryErrorKind, within},
};
use crate::error::BoxError;

/// A body of any kind.
pub(super) type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
pub(super) type Answering =
    Pin<Box<dyn Future<Output = Result<Response<AnyBody>, BoxError>> + Send>>;

/// An HTTP client that is a service, and that registries can be asked through: hyper's, or one
/// with layers around it, for requests with bodies of type `B`. Every such service is one.
pub trait HttpClient<B>:
    Service<Request<B>, Response = Response<Self::Body>, Future: Send, Error: Into<BoxError>>
    + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B, A> HttpClient<B> for S
where
    S: Service<Request<B>, Response = Response<A>, Future: Send, Error: Into<BoxError>>,
    S: Clone + Send + 'static,
    A: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = A;
}

/// Asks a registry, through a service whose type is forgotten: nothing here is on the path of a
/// call.
pub(super) struct Http {
    pub(super) service: Box<dyn Ask + Send>,
    /// Until the head has come, and until the whole of an answer has.
    pub(super) limit: Duration,
}

pub(super) trait Ask {
    fn ask(&mut self, request: Request<Bytes>) -> Answering;
}

struct Over<S, B> {
    service: S,
    body: PhantomData<fn(B)>,
}

impl<S, B> Ask for Over<S, B>
where
    S: HttpClient<B>,
    B: From<Bytes> + Send + 'static,
{
    fn ask(&mut self, request: Request<Bytes>) -> Answering {
        let mut service = self.service.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let response = service.call(request.map(B::from)).await.map_err(Into::into)?;
            Ok(response.map(|body| {
                let whole =
                    |mut data: <S::Body as Body>::Data| data.copy_to_bytes(data.remaining());
                let body = body.map_frame(move |frame| frame.map_data(whole));
                body.map_err(Into::into).boxed_unsync()
            }))
        })
    }
}

impl Http {
    pub(super) fn new<S, B>(service: S, limit: Duration) -> Self
    where
        S: HttpClient<B>,
        B: From<Bytes> + Send + 'static,
    {
        Self { service: Box::new(Over { service, body: PhantomData }), limit }
    }

    /// The whole answer, which takes at most the limit, and `hang` more where the registry
    /// answers late on purpose.
    pub(super) async fn whole(
        &mut self,
        request: Request<Bytes>,
        hang: Duration,
    ) -> Result<Response<Bytes>, Rejected> {
        let limit = self.limit.saturating_add(hang);
        let asking = self.service.ask(request);
        let answer = within(limit, async {
            let response = well(asking.await.map_err(unreachable)?).await?;
            let (head, body) = response.into_parts();
            Ok(Response::from_parts(head, all(body, MOST).await?))
        });
        answer.await.unwrap_or_else(|| Err(late(limit)))
    }
}

/// Why there is no answer, and its status if there was one.
#[derive(Debug)]
pub(super) struct Rejected {
    #[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "one protocol asks for it"))]
    pub(super) status: Option<StatusCode>,
    pub(super) fault: Fault,
}

impl From<Rejected> for Fault {
    fn from(rejected: Rejected) -> Self {
        rejected.fault
    }
}

pub(super) async fn well(response: Response<AnyBody>) -> Result<Response<AnyBody>, Rejected> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // What a server says to an error is short, or not for us.
    let said = all(response.into_body(), 4096).await;
    let said = said.map(|body| one_line(&body)).unwrap_or_default();
    let colon = if said.is_empty() { "" } else { ": " };
    let text = format!("it answered {status}{colon}{said}");
    let fault = Fault::new(RegistryErrorKind::Refused, text);
    Err(Rejected { status: Some(status), fault })
}

/// All of a body, unless it is larger than `most`.
async fn all(mut body: AnyBody, most: usize) -> Result<Bytes, Rejected> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(unreachable)?;
        all.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if all.len() > most {
            let text = format!("its answer has more than {most} bytes");
            let fault = Fault::new(RegistryErrorKind::Malformed, text);
            return Err(Rejected { status: None, fault });
        }
    }
    Ok(all.freeze())
}

pub(super) fn unreachable(error: BoxError) -> Rejected {
    let fault = Fault::new(RegistryErrorKind::Unreachable, "it can't be reached");
    Rejected { status: None, fault: fault.because(error) }
}

pub(super) fn late(limit: Duration) -> Rejected {
    let text = format!("it did not answer within {limit:?}");
    Rejected { status: None, fault: Fault::new(RegistryErrorKind::TimedOut, text) }
}

/// The answer can't be read as what it should be.
pub(super) fn malformed(what: &str, error: impl Into<BoxError>) -> Fault {
    let error = error.into();
    let text = format!("its answer is no {what}: {}", one_line(error.to_string().as_bytes()));
    Fault::new(RegistryErrorKind::Malformed, text).because(error)
}

/// The beginning of a text that somebody else wrote, fit for a log.
pub(super) fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(200).collect()
}

/// A client without TLS, over connections of its own.
pub(super) fn plain() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    // A watch may be silent for hours: only this tells that nobody is there any more.
    connector.set_keepalive(Some(KEEP_ALIVE));
    connector.set_keepalive_interval(Some(KEEP_ALIVE));
    connector.set_keepalive_retries(Some(3));
    Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector)
}

/// Where a registry is: its scheme and authority.
pub(super) fn server(written: &str) -> Result<Uri, InvalidDiscover> {
    let wrong = InvalidDiscover::new(
        "a registry's server is written as in `http://127.0.0.1:8500`, without a path",
    );
    let uri: Uri = written.parse().map_err(|_| wrong)?;
    let http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    let bare = uri.path() == "/" && uri.query().is_none();
    let named =
        uri.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'));
    if http && bare && named { Ok(uri) } else { Err(wrong) }
}

/// The same, for a client that speaks no TLS.
pub(super) fn check_plain(server: &Uri) -> Result<(), InvalidDiscover> {
    if server.scheme() == Some(&Scheme::HTTP) {
        return Ok(());
    }
    Err(InvalidDiscover::new(
        "this client speaks no TLS: give a service that does to `over`, or an `http://` server",
    ))
}

/// A request to a server. What came from elsewhere into `path` has been escaped.
pub(super) fn request(
    method: Method,
    server: &Uri,
    path: &str,
    body: Bytes,
) -> Result<Request<Bytes>, Fault> {
    // It may still be too long.
    let uri = format!("{}{path}", server.to_string().trim_end_matches('/'));
    let uri: Uri =
        uri.parse().map_err(|error| malformed("name that it can be asked for", error))?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    Ok(request)
}

/// Percent-encodes all that is not unreserved (RFC 3986, 2.3), for a path's segment or a query.
#[cfg(any(feature = "consul", feature = "kubernetes"))]
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    crate::algo::percent::encode(text, plain)
}

/// A header's value that is not to be seen in logs.
pub(super) fn secret(text: &str) -> Result<http::HeaderValue, InvalidDiscover> {
    let mut value = http::HeaderValue::from_str(text).map_err(|_| {
        InvalidDiscover::new("a token must be of characters that a header can hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// 16 MiB, of an answer or of one of its lines: some ten thousand endpoints as the wordiest
/// registry describes them. More than that is no list of a service's instances.
pub(super) const MOST: usize = 16 * 1024 * 1024;

/// 10 s: a registry under load, or one that elects a leader, has answered by then; who waits
/// longer has the last good set, and asks somebody else sooner.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// 1 s, as for every other connection: a lost SYN is sent again after that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// 15 s, below the idle limits of NAT and load balancers; with three tries a dead peer is known
/// after a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// 30 s: a connection that has not been needed for so long is opened anew when it is.
const IDLE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_scheme_and_an_authority() {
        for good in ["http://127.0.0.1:8500", "https://[::1]:2379/", "http://etcd-0.etcd"] {
            assert!(server(good).is_ok(), "{good}");
        }
        for bad in
            ["", "127.0.0.1:8500", "etcd", "ftp://a", "http://a/v3", "http://a?b", "http://u:p@a"]
        {
            assert!(server(bad).is_err(), "{bad}");
        }
        let uri = server("http://[::1]:2379").expect("it is one");
        let asked = |path: &str| request(Method::GET, &uri, path, Bytes::new());
        let target = asked("/v3/kv/range?a=b").expect("it is short").uri().to_string();
        assert_eq!(target, "http://[::1]:2379/v3/kv/range?a=b");
        assert!(asked(&"/a".repeat(40_000)).is_err(), "longer than any target");
        assert!(check_plain(&uri).is_ok());
        assert!(check_plain(&server("https://a").expect("it is one")).is_err());
    }

    #[test]
    #[cfg(any(feature = "consul", feature = "kubernetes"))]
    fn what_is_escaped_can_stand_anywhere() {
        assert_eq!(escaped("a-b_c.d~E9"), "a-b_c.d~E9");
        assert_eq!(escaped("a b/é?&"), "a%20b%2F%C3%A9%3F%26");
    }
}
