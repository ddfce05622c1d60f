//! The probe.

use std::future::Future;

use http::uri::Authority;

use super::{
    ask::{self, Answers, CHECK, WATCH},
    error::{HealthStatus, NoHealthAnswer},
    wire::ServingStatus,
};
use crate::{
    endpoint::Endpoint,
    error::{BoxError, find},
    health::{
        config::InvalidHealth,
        probe::{Probe, Teller},
    },
};

/// Asks by `grpc.health.v1`, over a connection of its own.
///
/// - `SERVING` is a good answer. `NOT_SERVING` means that the endpoint [does not
///   serve](crate::health::Unavailable), and counts at once. Everything else is a failure.
/// - A server that has no health service (`UNIMPLEMENTED`) is healthy, as gRPC's own clients take it:
///   it answered.
/// - It asks for the whole server, unless it is told a [service](Self::service), and calls the
///   endpoint by its address.
///
/// With [`watch`](Self::watch) it does not ask again and again, but listens: a change is known
/// as soon as the server says it. Such a connection is tried by a ping every ten seconds. When the
/// watch ends, that is a failed check, and it listens anew after the interval of a failed check. A
/// server that has no watch is asked instead.
///
/// ```
/// use buttress::health::GrpcProbe;
///
/// let probe = GrpcProbe::new().service("shop.Cart").authority("cart:50051")?.watch();
///
/// let wrong = GrpcProbe::new().authority("http://cart").expect_err("that is a URI");
/// assert_eq!(wrong.to_string(), "an authority must be written as in `payments:8080`");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GrpcProbe {
    service: String,
    authority: Option<Authority>,
    watch: bool,
}

/// gRPC's code for a method that a server does not have.
const UNIMPLEMENTED: u16 = 12;

impl GrpcProbe {
    /// Asks how the whole server is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for this service, by its full name (default: the whole server).
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = name.into();
        self
    }

    /// Calls the endpoint by this name, in `:authority` (default: its address).
    ///
    /// # Errors
    ///
    /// If it is not a host, with or without a port.
    pub fn authority(mut self, authority: &str) -> Result<Self, InvalidHealth> {
        self.authority = Some(super::super::http::authority(authority)?);
        Ok(self)
    }

    /// Listens instead of asking (default: asks).
    #[must_use]
    pub const fn watch(mut self) -> Self {
        self.watch = true;
        self
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        path: http::uri::PathAndQuery,
    ) -> Result<Answers, BoxError> {
        let address = endpoint.address();
        let authority = match &self.authority {
            Some(authority) => authority.clone(),
            None => address.to_string().parse()?,
        };
        ask::ask(address, authority, path, &self.service).await
    }

    async fn check(&self, endpoint: &Endpoint) -> Result<(), BoxError> {
        let answered = async {
            let mut answers = self.ask(endpoint, CHECK).await?;
            let status = answers.next().await?;
            // How the call ended decides: some servers send an empty answer with `NOT_FOUND`.
            match answers.next().await? {
                None => Ok(status),
                Some(_) => Err(NoHealthAnswer::Unreadable.into()),
            }
        };
        match answered.await {
            Ok(Some(status)) => self.verdict(status),
            Ok(None) => Err(NoHealthAnswer::Unreadable.into()),
            Err(error) if is_unimplemented(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells what the server says until it says no more.
    async fn listen(&self, endpoint: &Endpoint, teller: &Teller) -> Result<(), BoxError> {
        let mut answers = self.ask(endpoint, WATCH).await?;
        while let Some(status) = answers.next().await? {
            teller.tell(self.verdict(status)).await;
        }
        Ok(())
    }

    fn verdict(&self, status: ServingStatus) -> Result<(), BoxError> {
        match status {
            ServingStatus::Serving => Ok(()),
            status => Err(HealthStatus::new(status, &self.service).into()),
        }
    }
}

fn is_unimplemented(error: &BoxError) -> bool {
    let answer = find::<NoHealthAnswer>(&**error);
    matches!(answer, Some(NoHealthAnswer::Grpc { code: UNIMPLEMENTED, .. }))
}

impl Probe for GrpcProbe {
    fn probe(&self, endpoint: &Endpoint) -> impl Future<Output = Result<(), BoxError>> + Send {
        let (probe, endpoint) = (self.clone(), endpoint.clone());
        async move { probe.check(&endpoint).await }
    }

    fn watch(
        &self,
        endpoint: &Endpoint,
        teller: Teller,
    ) -> impl Future<Output = Option<BoxError>> + Send {
        let (probe, endpoint) = (self.clone(), endpoint.clone());
        async move {
            if !probe.watch {
                return None;
            }
            match probe.listen(&endpoint, &teller).await {
                Ok(()) => Some(NoHealthAnswer::Ended.into()),
                Err(error) if is_unimplemented(&error) => None,
                Err(error) => Some(error),
            }
        }
    }
}
