//! What is asked, and what is answered.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use crate::{
    endpoint::{Endpoint, LoadReport},
    error::BoxError,
};

/// What an endpoint says when it is asked how busy it is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Probed {
    /// How many requests it works on now, from all its clients. What is negative or no number is as
    /// good as no answer.
    pub in_flight: f32,
    /// What an answer takes it, with as many requests as it has. If it does not say, it counts as the
    /// quickest of those that do, or as slower, if it has been slower than is usual for this client;
    /// and if none does, that alone counts.
    pub latency: Option<Duration>,
}

impl Probed {
    /// It works on so many requests.
    #[must_use]
    pub const fn new(in_flight: f32) -> Self {
        Self { in_flight, latency: None }
    }

    /// And an answer takes it this long.
    #[must_use]
    pub const fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    /// What a report says, if it says how many requests are in flight.
    #[must_use]
    pub fn of(report: &LoadReport) -> Option<Self> {
        let LoadReport { in_flight, latency, .. } = *report;
        in_flight.map(|in_flight| Self { in_flight, latency })
    }
}

/// Asks an endpoint how busy it is.
///
/// Implemented by every `Fn(&Endpoint) -> impl Future<Output = Result<Probed, E>>`; ready-made over
/// HTTP it is [`HttpLoadProbe`](super::HttpLoadProbe).
///
/// ```
/// use std::time::Duration;
/// use buttress::{BoxError, balance::{LoadProbe, Probed}, endpoint::Endpoint};
///
/// let asks = |endpoint: &Endpoint| {
///     let address = endpoint.address();
///     async move {
///         // Over a protocol of your own.
///         let (in_flight, millis) = ask(address).await?;
///         Ok::<_, BoxError>(Probed::new(in_flight).with_latency(Duration::from_millis(millis)))
///     }
/// };
/// # async fn ask(_: std::net::SocketAddr) -> Result<(f32, u64), BoxError> { Ok((0.0, 1)) }
/// # fn is_probe(_: impl LoadProbe) {}
/// # is_probe(asks);
/// ```
pub trait LoadProbe {
    /// Asks `endpoint` once.
    ///
    /// It needs no timeout of its own: the future is dropped when [the limit
    /// ](super::ProbingConfig::limits) is over, or the balancer is gone. A panic is no answer.
    ///
    /// # Errors
    ///
    /// Whatever kept it from an answer. What is known of the endpoint stays as it is, and gets
    /// old; nobody is blamed.
    fn ask(&self, endpoint: &Endpoint) -> impl Future<Output = Result<Probed, BoxError>> + Send;
}

impl<F, Fut, E> LoadProbe for F
where
    F: Fn(&Endpoint) -> Fut,
    Fut: Future<Output = Result<Probed, E>> + Send,
    E: Into<BoxError>,
{
    fn ask(&self, endpoint: &Endpoint) -> impl Future<Output = Result<Probed, BoxError>> + Send {
        let asked = self(endpoint);
        async move { asked.await.map_err(Into::into) }
    }
}

/// A probe of any type. In a box: it is none of a call's.
pub(super) trait Ask: Send + Sync {
    fn ask<'a>(&'a self, endpoint: &'a Endpoint) -> Asking<'a>;
}

pub(super) type Asking<'a> = Pin<Box<dyn Future<Output = Result<Probed, BoxError>> + Send + 'a>>;

impl<P: LoadProbe + Send + Sync> Ask for P {
    fn ask<'a>(&'a self, endpoint: &'a Endpoint) -> Asking<'a> {
        Box::pin(LoadProbe::ask(self, endpoint))
    }
}

impl fmt::Debug for dyn Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a probe")
    }
}

/// No answer came within the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadProbeTimedOut {
    /// The limit.
    pub limit: Duration,
}

impl fmt::Display for LoadProbeTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the probe got no answer within {:?}", self.limit)
    }
}

impl std::error::Error for LoadProbeTimedOut {}

/// What came is no number of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unbelievable(pub(super) f32);

impl fmt::Display for Unbelievable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a server can't have {} requests in flight", self.0)
    }
}

impl std::error::Error for Unbelievable {}
