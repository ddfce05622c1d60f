//! Health checks of endpoints that only have to listen.

use std::future::Future;

use tokio::net::TcpStream;

use super::probe::Probe;
use crate::{endpoint::Endpoint, error::BoxError};

/// Connects, and closes the connection again: whoever accepts it is well.
///
/// It says little: a kernel accepts connections for a program that hangs. For services that have
/// neither a page nor gRPC's protocol to ask.
///
/// ```
/// use buttress::{BoxError, endpoint::Endpoint, health::{Probe, TcpProbe}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let endpoint = Endpoint::from(listener.local_addr()?);
/// TcpProbe::new().probe(&endpoint).await?;
/// drop(listener);
/// assert!(TcpProbe::new().probe(&endpoint).await.is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TcpProbe;

impl TcpProbe {
    /// Connects and no more.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Probe for TcpProbe {
    fn probe(&self, endpoint: &Endpoint) -> impl Future<Output = Result<(), BoxError>> + Send {
        let address = endpoint.address();
        async move {
            let stream = TcpStream::connect(address).await?;
            // At once: a program that greets whoever connects must not be left with a half.
            drop(stream);
            Ok(())
        }
    }
}
