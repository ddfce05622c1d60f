//! The three clients, and what they have in common: the timeouts, the transport, the words for
//! what went wrong.

mod bare;
mod buttress;
mod list;
mod tower;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::outage::args::{ClientName, Http};
use crate::outage::witness::Witness;
use crate::outage::{BoxError, CALL_HEADER, KEY_HEADER};

/// The service's path, and the name it is called by.
pub(crate) const URI: &str = "http://payments/charges";
/// The whole call. The service takes some 10 ms; two seconds are what a person waits.
pub(crate) const TOTAL: Duration = Duration::from_secs(2);
/// One attempt: 25 times what the service takes, and short enough for another within 600 ms.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(250);
/// A connection: on this network it stands in a millisecond or never.
pub(crate) const CONNECT: Duration = Duration::from_millis(100);

/// What a client is asked to send; the call's number stands in [`CALL_HEADER`].
pub(crate) type Request = http::Request<Full<Bytes>>;

/// An answer whose body has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer: a word of few, for counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: String,
}

/// A call under way.
pub(crate) type Calling = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send>>;

/// A client of `payments`.
pub(crate) trait Client: Send + Sync {
    fn call(&self, request: Request) -> Calling;
}

/// What a client is given.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The TOML file of who serves, which changes while the drill runs.
    pub(crate) list: PathBuf,
    pub(crate) http: Http,
    /// Whether buttress hedges; the others can't.
    pub(crate) hedge: bool,
    /// At which port buttress shows what it knows, if anybody looks.
    pub(crate) page: Option<u16>,
    /// Where it reports its attempts.
    pub(crate) witness: Witness,
}

/// Whether a client can be had.
pub(crate) fn is_built(name: ClientName) -> bool {
    name != ClientName::Buttress || buttress::BUILT
}

/// Builds a client.
///
/// # Errors
/// It can't be built, or not yet.
pub(crate) async fn open(name: ClientName, setup: Setup) -> Result<Arc<dyn Client>, BoxError> {
    Ok(match name {
        ClientName::Bare => Arc::new(bare::Bare::new(setup)?),
        ClientName::Tower => Arc::new(tower::Tower::new(&setup)?),
        ClientName::Buttress => buttress::open(setup).await?,
    })
}

/// hyper-util's client, as `bare` and `tower` use it.
fn transport(http: Http) -> Hyper<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    Hyper::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .http2_only(http == Http::Two)
        .build(connector)
}

/// Sends a request and waits for the whole answer.
async fn send(
    client: &Hyper<HttpConnector, Full<Bytes>>,
    request: Request,
) -> Result<Reply, BoxError> {
    let (head, body) = client.request(request).await?.into_parts();
    Ok(Reply { status: head.status, body: body.collect().await?.to_bytes() })
}

/// The number of the call that a request belongs to.
fn call_of<B>(request: &http::Request<B>) -> u64 {
    let header = request.headers().get(CALL_HEADER).and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// The caller's own key, made once for each call.
///
/// Each client begins with a ledger of its own, so that the call's number is enough; it is
/// written like the structured field that the header is.
fn add_key(request: &mut Request) {
    let key = format!("\"drill-{:08}\"", call_of(request));
    // Digits and quotes are always a header's value.
    if let Ok(value) = HeaderValue::from_str(&key) {
        request.headers_mut().insert(KEY_HEADER, value);
    }
}

impl Failure {
    pub(crate) fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into() }
    }

    /// Finds the word for an error by looking through its causes.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        let mut connecting = false;
        while let Some(error) = cause {
            if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
                connecting |= client.is_connect();
            }
            if error.is::<::tower::timeout::error::Elapsed>()
                || error.is::<tokio::time::error::Elapsed>()
            {
                return Self::new("timeout");
            }
            if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
                if hyper.is_incomplete_message() || hyper.is_canceled() {
                    return Self::new("closed");
                }
                if hyper.is_parse() {
                    return Self::new("garbage");
                }
            }
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                // An error of hyper may be wrapped in one of the system; only the rest has a kind.
                if let Some(word) = word_for(io.kind()) {
                    return Self::new(if connecting && word == "timeout" {
                        "connect_timeout"
                    } else {
                        word
                    });
                }
            }
            cause = error.source();
        }
        Self::new(if connecting { "connect" } else { "other" })
    }
}

fn word_for(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind as Io;
    Some(match kind {
        Io::ConnectionRefused => "refused",
        Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe => "reset",
        Io::UnexpectedEof => "closed",
        Io::TimedOut => "timeout",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_among_the_causes() {
        let reset: BoxError = Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(Failure::of(&*reset).kind, "reset");
        let elapsed: BoxError = Box::new(::tower::timeout::error::Elapsed::new());
        assert_eq!(Failure::of(&*elapsed).kind, "timeout");
        let plain: BoxError = "something".into();
        assert_eq!(Failure::of(&*plain).kind, "other");
    }

    #[test]
    fn a_key_belongs_to_a_call() {
        let mut request = Request::default();
        request.headers_mut().insert(CALL_HEADER, HeaderValue::from(17));
        add_key(&mut request);
        assert_eq!(request.headers()[KEY_HEADER], "\"drill-00000017\"");
    }
}
