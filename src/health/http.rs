//! Health checks over HTTP.

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, HOST, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{
    config::InvalidHealth,
    probe::{Probe, Unavailable},
};
use crate::{endpoint::Endpoint, error::BoxError};

/// Asks for a page, over a connection of its own that is closed after the answer.
///
/// - 2xx is a good answer. 503 means that the endpoint [does not serve](Unavailable), and counts
///   at once. Anything else, redirections included, is a failure.
/// - It asks for `/health` over HTTP/1.1, unless it is told otherwise, and calls the endpoint by
///   its address. A server that serves several names wants to be called by the
///   [authority](Self::authority) that calls use.
/// - Only the head of the answer is read.
///
/// A new connection for each check also checks that the endpoint still accepts some; a kept one
/// would go on telling of a process whose listener is gone.
///
/// ```
/// use buttress::health::HttpProbe;
///
/// let probe = HttpProbe::new().path("/healthz?deep=1")?.authority("payments:8080")?;
///
/// let wrong = HttpProbe::new().path("healthz").expect_err("no slash");
/// assert_eq!(wrong.to_string(), "a health check's path must be written as in `/health`");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpProbe {
    path: PathAndQuery,
    authority: Option<Authority>,
    http2: bool,
}

impl HttpProbe {
    /// Asks for `/health` over HTTP/1.1.
    #[must_use]
    pub const fn new() -> Self {
        Self { path: PathAndQuery::from_static("/health"), authority: None, http2: false }
    }

    /// Asks for this path, with its query (default: `/health`).
    ///
    /// # Errors
    ///
    /// If it does not begin with a slash, or can't stand in a request.
    pub fn path(mut self, path: &str) -> Result<Self, InvalidHealth> {
        let wrong = InvalidHealth("a health check's path must be written as in `/health`");
        if !path.starts_with('/') {
            return Err(wrong);
        }
        self.path = path.parse().map_err(|_| wrong)?;
        Ok(self)
    }

    /// Calls the endpoint by this name, in `Host` or `:authority` (default: its address).
    ///
    /// # Errors
    ///
    /// If it is not a host, with or without a port.
    pub fn authority(mut self, authority: &str) -> Result<Self, InvalidHealth> {
        self.authority = Some(self::authority(authority)?);
        Ok(self)
    }

    /// Speaks HTTP/2 with prior knowledge (default: HTTP/1.1).
    #[must_use]
    pub const fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    async fn ask(&self, endpoint: &Endpoint) -> Result<(), BoxError> {
        let stream = TcpStream::connect(endpoint.address()).await?;
        let authority = match &self.authority {
            Some(authority) => authority.clone(),
            None => endpoint.address().to_string().parse()?,
        };
        let response = if self.http2 {
            self.over_http2(TokioIo::new(stream), authority).await?
        } else {
            self.over_http1(TokioIo::new(stream), authority).await?
        };
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => Err(Unavailable::new().into()),
            status => Err(UnexpectedStatus { status, path: self.path.clone() }.into()),
        }
    }

    async fn over_http1(
        &self,
        io: TokioIo<TcpStream>,
        authority: Authority,
    ) -> Result<Response<Incoming>, BoxError> {
        let mut request = self.request(Uri::from(self.path.clone()));
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));

        let (mut sender, connection) = http1::handshake(io).await?;
        let mut connection = pin!(connection);
        let mut answer = pin!(sender.send_request(request));
        let mut open = true;
        // Both in this future, so that to drop it leaves nothing behind.
        let answer = poll_fn(|cx| {
            // How the connection ended is told by the answer as well.
            if open && connection.as_mut().poll(cx).is_ready() {
                open = false;
            }
            answer.as_mut().poll(cx)
        });
        Ok(answer.await?)
    }

    async fn over_http2(
        &self,
        io: TokioIo<TcpStream>,
        authority: Authority,
    ) -> Result<Response<Incoming>, BoxError> {
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(authority)
            .path_and_query(self.path.clone())
            .build()?;
        let mut request = self.request(uri);
        *request.version_mut() = Version::HTTP_2;

        // What hyper spawns beside ends when both of these are dropped.
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let mut connection = pin!(connection);
        let mut answer = pin!(sender.send_request(request));
        let mut open = true;
        let answer = poll_fn(|cx| {
            if open && connection.as_mut().poll(cx).is_ready() {
                open = false;
            }
            answer.as_mut().poll(cx)
        });
        Ok(answer.await?)
    }

    fn request(&self, uri: Uri) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        // So that an access log can leave the checks out.
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("buttress-health"));
        request
    }
}

/// A name by which an endpoint is called.
pub(super) fn authority(name: &str) -> Result<Authority, InvalidHealth> {
    let wrong = InvalidHealth("an authority must be written as in `payments:8080`");
    let authority: Authority = name.parse().map_err(|_| wrong)?;
    // A name and password have no place in `Host`.
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(wrong);
    }
    Ok(authority)
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe for HttpProbe {
    fn probe(&self, endpoint: &Endpoint) -> impl Future<Output = Result<(), BoxError>> + Send {
        let endpoint = endpoint.clone();
        async move { self.ask(&endpoint).await }
    }
}

/// The answer to a health check was neither 2xx nor 503.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnexpectedStatus {
    /// What came.
    pub status: StatusCode,
    path: PathAndQuery,
}

impl fmt::Display for UnexpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, path } = self;
        write!(f, "the health check of `{path}` was answered with {status}, not with 200")?;
        if *status == StatusCode::NOT_FOUND {
            write!(f, "; is that the right path?")?;
        }
        Ok(())
    }
}

impl StdError for UnexpectedStatus {}
