//! What asks an endpoint how it is.

use std::{error::Error as StdError, fmt, future::Future};

use tokio::sync::mpsc;

use crate::{endpoint::Endpoint, error::BoxError};

/// Asks an endpoint how it is.
///
/// Implemented by every `Fn(&Endpoint) -> impl Future<Output = Result<(), E>>`:
///
/// ```
/// use buttress::{BoxError, endpoint::Endpoint, health::Probe};
///
/// let connects = |endpoint: &Endpoint| {
///     let address = endpoint.address();
///     async move {
///         tokio::net::TcpStream::connect(address).await?;
///         Ok::<(), BoxError>(())
///     }
/// };
/// # fn is_probe(_: impl Probe) {}
/// # is_probe(connects);
/// ```
pub trait Probe {
    /// Asks `endpoint` once.
    ///
    /// It needs no timeout of its own: the future is dropped when
    /// [`HealthConfig::timeout`](super::HealthConfig::timeout) is over or the endpoint is gone.
    /// A panic counts as a failure.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it; with [`Unavailable`] among the sources if the endpoint says
    /// itself that it does not serve.
    fn probe(&self, endpoint: &Endpoint) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Listens to `endpoint`, if that says by itself when something has changed.
    ///
    /// Each word that is told counts at once, whatever the thresholds are. Until the first one the
    /// [timeout](super::HealthConfig::timeout) holds. When the future ends with an error, that is a
    /// failed check, and it is asked to listen anew after the interval of one. When it ends with
    /// `None`, there is nothing to listen to, and the endpoint is [asked](Self::probe) instead from
    /// now on: the default.
    fn watch(
        &self,
        endpoint: &Endpoint,
        teller: Teller,
    ) -> impl Future<Output = Option<BoxError>> + Send {
        let _ = (endpoint, teller);
        std::future::ready(None)
    }
}

/// Who is told what a [watch](Probe::watch) hears.
#[derive(Clone, Debug)]
pub struct Teller(pub(super) mpsc::Sender<Result<(), BoxError>>);

impl Teller {
    /// The endpoint says that it is well, or what is wrong with it. Waits until the word before has
    /// been taken.
    pub async fn tell(&self, word: Result<(), BoxError>) {
        // Who does not listen any more drops the watch as well.
        let _ = self.0.send(word).await;
    }
}

impl<F, Fut, E> Probe for F
where
    F: Fn(&Endpoint) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    fn probe(&self, endpoint: &Endpoint) -> impl Future<Output = Result<(), BoxError>> + Send {
        let asked = self(endpoint);
        async move { asked.await.map_err(Into::into) }
    }
}

/// The endpoint says itself that it does not serve: that needs no second opinion, and makes it
/// unhealthy at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unavailable;

impl Unavailable {
    /// It said so.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the endpoint says that it does not serve")
    }
}

impl StdError for Unavailable {}

/// A probe got no answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeTimedOut {
    /// The limit.
    pub limit: std::time::Duration,
}

impl fmt::Display for ProbeTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the health check got no answer within {:?}", self.limit)
    }
}

impl StdError for ProbeTimedOut {}
