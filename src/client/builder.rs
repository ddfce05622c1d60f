//! The settings of a client, and what of them can't be.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tower_layer::Layer;

use super::{
    invalid::InvalidClient,
    roof::Target,
    stack::{Stack, assemble},
};
use crate::{
    balance::BalanceConfig,
    breaker::BreakerConfig,
    classify::HttpClassifier,
    collect::CollectConfig,
    endpoint::{Change, Discover, Endpoint, Fixed, MakeEndpoint},
    entropy::Entropy,
    error::BoxError,
    event::Observer,
    idempotency::IdempotencyConfig,
    retry::RetryConfig,
    timeout::{AttemptTimeoutLayer, DEFAULT_ATTEMPT, DEFAULT_TOTAL, DeadlineLayer},
    trace::TraceConfig,
};

/// Builds a [`Client`](super::Client), or the bare [`Stack`].
///
/// Only the service and its endpoints have to be said. A setting that can't be is refused by
/// [`build`](Self::build), with a sentence that says what to change.
#[must_use]
pub struct Builder<M> {
    service: String,
    make: M,
    discover: Option<Boxed>,
    deadline: Duration,
    attempt_timeout: Duration,
    collect: Option<CollectConfig>,
    idempotency: Option<IdempotencyConfig>,
    retry: RetryConfig,
    breaker: BreakerConfig,
    service_breaker: Option<BreakerConfig>,
    balance: BalanceConfig,
    trace: TraceConfig,
    classifier: HttpClassifier,
    observer: Observer,
    entropy: Entropy,
}

impl<M> Builder<M> {
    pub(super) fn new(service: String, make: M) -> Self {
        Self {
            service,
            make,
            discover: None,
            deadline: DEFAULT_TOTAL,
            attempt_timeout: DEFAULT_ATTEMPT,
            collect: None,
            idempotency: None,
            retry: RetryConfig::new(),
            breaker: BreakerConfig::new(),
            service_breaker: None,
            balance: BalanceConfig::new(),
            trace: TraceConfig::new(),
            classifier: HttpClassifier::new(),
            observer: Observer::none(),
            entropy: Entropy::system(),
        }
    }

    /// The endpoints, as a list that never changes.
    pub fn endpoints(self, endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.discover(Fixed::new(endpoints))
    }

    /// Where the endpoints are found: any stream of changes.
    pub fn discover(mut self, discover: impl Discover + Send + 'static) -> Self {
        self.discover = Some(Boxed(Box::pin(discover)));
        self
    }

    /// How long a whole call may take, its response's body included (default: 30 s).
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// How long one attempt may take (default: 10 s).
    pub const fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// Collects each response's body within its attempt, up to 1 MiB, so that a body that stalls
    /// or is cut short is retried like any failure. A call whose words say that its body is
    /// [meant to last](crate::call::Words::lasting_body) is left as it is.
    pub const fn collect_bodies(self) -> Self {
        self.collect_bodies_with(CollectConfig::new())
    }

    /// As [`collect_bodies`](Self::collect_bodies), with settings.
    pub const fn collect_bodies_with(mut self, config: CollectConfig) -> Self {
        self.collect = Some(config);
        self
    }

    /// Gives each POST and PATCH an idempotency key, so that it may be tried again. To ask for
    /// it is to say that the service honours such keys.
    pub fn idempotency_keys(self) -> Self {
        self.idempotency_keys_with(IdempotencyConfig::new())
    }

    /// As [`idempotency_keys`](Self::idempotency_keys), with settings.
    pub fn idempotency_keys_with(mut self, config: IdempotencyConfig) -> Self {
        self.idempotency = Some(config);
        self
    }

    /// How calls that failed are tried again.
    pub fn retry(mut self, config: RetryConfig) -> Self {
        self.retry = config;
        self
    }

    /// The breaker of each endpoint.
    pub fn breaker(mut self, config: BreakerConfig) -> Self {
        self.breaker = config;
        self
    }

    /// A breaker for the service as a whole (default: none, since those of the endpoints leave
    /// the others in use).
    pub fn service_breaker(mut self, config: BreakerConfig) -> Self {
        self.service_breaker = Some(config);
        self
    }

    /// How an endpoint is picked.
    pub fn balance(mut self, config: BalanceConfig) -> Self {
        self.balance = config;
        self
    }

    /// What spans tell.
    pub fn trace(mut self, config: TraceConfig) -> Self {
        self.trace = config;
        self
    }

    /// What responses mean.
    pub const fn classifier(mut self, classifier: HttpClassifier) -> Self {
        self.classifier = classifier;
        self
    }

    /// Who is told what the layers do.
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Makes jitter, picks and span ids repeatable, for tests. Idempotency keys stay unique: two
    /// runs of one seed must not make the same ones, unless
    /// [`IdempotencyConfig::entropy`] is told so as well.
    pub fn seed(mut self, seed: u64) -> Self {
        self.entropy = Entropy::seeded(seed);
        self
    }

    /// Another way to reach an endpoint: any function from an [`Endpoint`] to a service.
    pub fn transport<N: MakeEndpoint>(self, make: N) -> Builder<N> {
        self.map_make(|_| make)
    }

    /// A layer of your own around each endpoint's transport. It sees the plain request of one
    /// attempt.
    pub fn endpoint_layer<L>(self, layer: L) -> Builder<Layered<M, L>> {
        self.map_make(|make| Layered { make, layer })
    }

    /// The stack with no type erased; [`build`](Self::build) puts it behind one box.
    ///
    /// # Errors
    ///
    /// [`InvalidClient`] if a setting can't be, or there is no tokio runtime.
    pub fn build_stack(self) -> Result<Stack<M::Service>, InvalidClient>
    where
        M: MakeEndpoint + Send + Sync + 'static,
        M::Service: Send + Sync + 'static,
    {
        let (make, discover, parts) = self.check()?;
        Ok(assemble(parts, make, discover)?)
    }

    fn map_make<N>(self, map: impl FnOnce(M) -> N) -> Builder<N> {
        Builder {
            service: self.service,
            make: map(self.make),
            discover: self.discover,
            deadline: self.deadline,
            attempt_timeout: self.attempt_timeout,
            collect: self.collect,
            idempotency: self.idempotency,
            retry: self.retry,
            breaker: self.breaker,
            service_breaker: self.service_breaker,
            balance: self.balance,
            trace: self.trace,
            classifier: self.classifier,
            observer: self.observer,
            entropy: self.entropy,
        }
    }

    /// Holds the settings against each other.
    fn check(self) -> Result<(M, Boxed, Parts), InvalidClient> {
        let target = Target::parse(&self.service, self.collect.is_some())?;
        let discover = self.discover.ok_or(InvalidClient::NO_ENDPOINTS)?;
        if self.attempt_timeout > self.deadline {
            return Err(InvalidClient::new(format!(
                "an attempt may take {:?} but the whole call only {:?}: raise the deadline, or \
                 lower the attempt timeout",
                self.attempt_timeout, self.deadline
            )));
        }
        let policy = self.retry.policy();
        let first = policy.backoff.ceiling(0);
        if policy.max_attempts.get() > 1 && first >= self.deadline {
            return Err(InvalidClient::new(format!(
                "a first backoff of up to {first:?} does not fit into a deadline of {:?}: lower \
                 the backoff's base, or raise the deadline",
                self.deadline
            )));
        }
        let parts = Parts {
            roof: target,
            deadline: DeadlineLayer::new(self.deadline).map_err(InvalidClient::of)?,
            attempt_timeout: AttemptTimeoutLayer::new(self.attempt_timeout)
                .map_err(InvalidClient::of)?,
            collect: self.collect.unwrap_or_default(),
            idempotency: self.idempotency,
            retry: self.retry.entropy(self.entropy.fork()).observer(self.observer.clone()),
            service: self.service_breaker.map(|config| config.observer(self.observer.clone())),
            breaker: self.breaker,
            balance: self.balance.entropy(self.entropy.fork()).observer(self.observer.clone()),
            trace: self.trace,
            classifier: self.classifier,
            observer: self.observer,
            entropy: self.entropy,
        };
        Ok((self.make, discover, parts))
    }
}

#[cfg(feature = "hyper")]
mod hyper {
    use tower_service::Service;

    use super::{Builder, InvalidClient, MakeEndpoint};
    use crate::{
        client::{AttemptBody, Client},
        error::BoxError,
        transport::{HyperTransport, TransportConfig},
    };

    impl Builder<HyperTransport<AttemptBody>> {
        /// How connections are made and kept; HTTP/1.1 by default.
        pub fn connections(self, config: TransportConfig) -> Self {
            self.map_make(|_| HyperTransport::new(config))
        }

        /// HTTP/2 without TLS, as the service is known to speak it.
        pub fn http2(self) -> Self {
            self.connections(TransportConfig::http2())
        }
    }

    impl<M> Builder<M> {
        /// The client.
        ///
        /// # Errors
        ///
        /// [`InvalidClient`] if a setting can't be, or there is no tokio runtime.
        pub fn build<B>(self) -> Result<Client, InvalidClient>
        where
            M: MakeEndpoint + Send + Sync + 'static,
            M::Service: Service<http::Request<AttemptBody>, Response = http::Response<B>>,
            M::Service: Clone + Send + Sync + 'static,
            <M::Service as Service<http::Request<AttemptBody>>>::Error: Into<BoxError>,
            <M::Service as Service<http::Request<AttemptBody>>>::Future: Send + 'static,
            B: http_body::Body + Send + Unpin + 'static,
            B::Data: Send,
            B::Error: Into<BoxError>,
        {
            Ok(Client::new(self.build_stack()?))
        }
    }
}

/// The settings after they were checked.
pub(super) struct Parts {
    pub(super) roof: Target,
    pub(super) deadline: DeadlineLayer,
    pub(super) attempt_timeout: AttemptTimeoutLayer,
    pub(super) collect: CollectConfig,
    pub(super) idempotency: Option<IdempotencyConfig>,
    pub(super) retry: RetryConfig,
    pub(super) service: Option<BreakerConfig>,
    pub(super) breaker: BreakerConfig,
    pub(super) balance: BalanceConfig,
    pub(super) trace: TraceConfig,
    pub(super) classifier: HttpClassifier,
    pub(super) observer: Observer,
    pub(super) entropy: Entropy,
}

/// Puts a layer of the user's around what another maker makes.
#[derive(Clone, Debug)]
pub struct Layered<M, L> {
    make: M,
    layer: L,
}

impl<M, L> MakeEndpoint for Layered<M, L>
where
    M: MakeEndpoint,
    L: Layer<M::Service>,
{
    type Service = L::Service;

    fn make(&self, endpoint: &Endpoint) -> L::Service {
        self.layer.layer(self.make.make(endpoint))
    }
}

/// Any discovery, behind one type.
struct Boxed(Pin<Box<dyn Discover + Send>>);

impl Stream for Boxed {
    type Item = Result<Change, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_change(cx)
    }
}

impl<M> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("service", &self.service).finish_non_exhaustive()
    }
}
