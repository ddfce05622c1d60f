//! Probes over HTTP.

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::USER_AGENT};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Limited};
use tower_service::Service;

use super::answer::{LoadProbe, Probed};
use crate::{
    balance::config::InvalidBalance,
    classify::{load_report, load_report_in},
    endpoint::{Endpoint, MakeEndpoint},
    error::BoxError,
    sync::{Mutex, lock},
    time::now,
};

/// Asks for a page of each endpoint, over a transport that `make` makes for it: connections beside
/// those of the calls, which are kept between probes.
///
/// The answer has to be 2xx, and to say how many requests are in flight, as an ORCA report
/// ([`LoadReport`](crate::endpoint::LoadReport)): in a header as with any response, or else as the
/// page itself, of up to 4 KiB, as an object or in lines:
///
/// ```text
/// {"named_metrics": {"requests_in_flight": 7, "latency_seconds": 0.012}}
///
/// named_metrics.requests_in_flight=7
/// named_metrics.latency_seconds=0.012
/// ```
///
/// What an answer takes need not be said; then what this client has seen counts. A server should
/// answer probes before all else, and must not count them among its requests.
///
/// A transport whose endpoint has not been asked for a minute is dropped.
///
/// ```
/// # #[cfg(feature = "hyper")] {
/// use buttress::{
///     balance::{BalanceConfig, HttpLoadProbe, Probing, ProbingConfig},
///     client::Client,
///     transport::{HyperTransport, TransportConfig},
/// };
///
/// let transport = HyperTransport::new(TransportConfig::http1());
/// let probe = HttpLoadProbe::new(transport, "http://payments/load")?;
/// let policy = Probing::new(probe, ProbingConfig::new());
/// let client = Client::builder("http://payments").balance(BalanceConfig::new().policy(policy));
/// # let _ = client; }
/// # Ok::<(), buttress::BoxError>(())
/// ```
// The field of services can't be named without the bound.
pub struct HttpLoadProbe<M: MakeEndpoint> {
    make: M,
    page: Uri,
    services: Mutex<HashMap<Endpoint, Kept<M::Service>>>,
}

#[derive(Debug)]
struct Kept<S> {
    service: S,
    used: Instant,
}

/// How long a transport is kept that nobody uses: as long as a balancer keeps the state of an endpoint
/// that has left.
const UNUSED: Duration = Duration::from_secs(60);

/// A page about a server's load is some lines.
const LONGEST_PAGE: usize = 4096;

impl<M: MakeEndpoint> HttpLoadProbe<M> {
    /// Asks for this page, such as `http://payments/load`: the service's name, as calls have it, and
    /// the path. The address is the endpoint's, whatever the name is.
    ///
    /// # Errors
    ///
    /// [`InvalidBalance::ProbePage`] if it is no absolute URI.
    pub fn new(make: M, page: &str) -> Result<Self, InvalidBalance> {
        let page: Uri = page.parse().map_err(|_| InvalidBalance::ProbePage)?;
        if page.scheme().is_none() || page.authority().is_none() {
            return Err(InvalidBalance::ProbePage);
        }
        Ok(Self { make, page, services: Mutex::default() })
    }

    fn service(&self, endpoint: &Endpoint, now: Instant) -> M::Service
    where
        M::Service: Clone,
    {
        if let Some(kept) = lock(&self.services).get_mut(endpoint) {
            kept.used = now;
            return kept.service.clone();
        }
        // Made, and dropped, outside of the lock: that is somebody else's code.
        let service = self.make.make(endpoint);
        let mut services = lock(&self.services);
        // Looked for when one comes: while the same ones are asked, all of them are used.
        let is_used = |(_, kept): &(Endpoint, Kept<M::Service>)| {
            now.saturating_duration_since(kept.used) < UNUSED
        };
        let (used, unused): (HashMap<_, _>, HashMap<_, _>) =
            std::mem::take(&mut *services).into_iter().partition(is_used);
        *services = used;
        services.insert(endpoint.clone(), Kept { service: service.clone(), used: now });
        drop(services);
        drop(unused);
        service
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.page.clone();
        // So that an access log can leave the probes out.
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("buttress-probe"));
        request
    }
}

impl<M, B> LoadProbe for HttpLoadProbe<M>
where
    M: MakeEndpoint + Send + Sync,
    M::Service: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send,
    <M::Service as Service<Request<Empty<Bytes>>>>::Error: Into<BoxError>,
    <M::Service as Service<Request<Empty<Bytes>>>>::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn ask(&self, endpoint: &Endpoint) -> impl Future<Output = Result<Probed, BoxError>> + Send {
        let mut service = self.service(endpoint, now());
        let request = self.request();
        async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let (head, body) = service.call(request).await.map_err(Into::into)?.into_parts();
            // To its end, whatever the head says, so that the connection can be used again.
            let page = Box::pin(Limited::new(body, LONGEST_PAGE)).collect().await?.to_bytes();
            if !head.status.is_success() {
                return Err(Unanswered::Status(head.status).into());
            }
            let in_head = load_report(&head.headers).as_ref().and_then(Probed::of);
            let said = in_head.or_else(|| {
                let page = std::str::from_utf8(&page).ok()?;
                load_report_in(page).as_ref().and_then(Probed::of)
            });
            said.ok_or_else(|| Unanswered::Silent.into())
        }
    }
}

impl<M: MakeEndpoint> fmt::Debug for HttpLoadProbe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLoadProbe").field("page", &self.page).finish_non_exhaustive()
    }
}

/// The page says nothing of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    Status(StatusCode),
    Silent,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the probe was answered with {status}, not with 200"),
            Self::Silent => f.write_str(
                "the answer to the probe does not say how many requests are in flight: in \
                 `endpoint-load-metrics`, or as the page, the named metric `requests_in_flight`",
            ),
        }
    }
}

impl StdError for Unanswered {}
