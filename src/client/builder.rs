//! The settings of a client.

use std::{fmt, net::SocketAddr, time::Duration};

use http::Method;

use super::{
    check::{Boxed, CheckHealth},
    invalid::InvalidClient,
    layered::Layered,
    protocol::Protocol,
    stack::{Stack, assemble},
};
use crate::{
    balance::BalanceConfig,
    breaker::BreakerConfig,
    classify::HttpClassifier,
    collect::CollectConfig,
    endpoint::{Discover, Fixed, MakeEndpoint},
    entropy::Entropy,
    event::Observer,
    health::{Checked, HealthConfig, Probe},
    hedge::HedgeConfig,
    idempotency::IdempotencyConfig,
    limit::LimitConfig,
    retry::RetryConfig,
    throttle::ThrottleConfig,
    timeout::{DEFAULT_ATTEMPT, DEFAULT_TOTAL, DeadlineHeader},
    trace::TraceConfig,
};

/// Builds a [`Client`](super::Client), a [`GrpcClient`](super::GrpcClient), or the bare [`Stack`].
///
/// Only the service and its endpoints have to be said. A setting that can't be is refused by
/// [`build`](Self::build), with a sentence that says what to change.
#[must_use]
pub struct Builder<M, Cl = HttpClassifier> {
    pub(super) service: String,
    pub(super) make: M,
    /// None if the transport is the user's own.
    pub(super) connections: Option<Connections>,
    pub(super) discover: Option<Boxed>,
    pub(super) no_endpoints: bool,
    pub(super) health: Option<CheckHealth>,
    pub(super) deadline: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) deadline_header: Option<DeadlineHeader>,
    pub(super) collect: Option<CollectConfig>,
    pub(super) idempotency: Option<IdempotencyConfig>,
    pub(super) retry: RetryConfig,
    pub(super) routes: Option<Box<Routes>>,
    pub(super) hedge: Option<HedgeConfig>,
    pub(super) breaker: BreakerConfig,
    pub(super) service_breaker: Option<BreakerConfig>,
    pub(super) throttle: Option<ThrottleConfig>,
    pub(super) limit: Option<LimitConfig>,
    /// Those within the maker, of which only the maker knows the rest.
    pub(super) endpoint_limits: Vec<LimitConfig>,
    pub(super) balance: BalanceConfig,
    pub(super) trace: TraceConfig,
    pub(super) classifier: Cl,
    pub(super) observer: Observer,
    pub(super) entropy: Entropy,
}

/// Names the route of a request.
pub(super) type Routes = dyn Fn(&Method, &str) -> Option<&'static str> + Send + Sync;

/// What is known of the connections of our own transport.
#[derive(Clone, Copy)]
pub(super) struct Connections {
    pub(super) http2: bool,
    /// None for the default, which an attempt timeout may well be below.
    pub(super) connect_timeout: Option<Duration>,
}

impl<M> Builder<M> {
    /// Begins a stack over a transport of your own, for the service of this name.
    pub fn new(service: impl Into<String>, make: M) -> Self {
        Self {
            service: service.into(),
            make,
            connections: None,
            discover: None,
            no_endpoints: false,
            health: None,
            deadline: DEFAULT_TOTAL,
            attempt_timeout: DEFAULT_ATTEMPT,
            deadline_header: None,
            collect: None,
            idempotency: None,
            retry: RetryConfig::new(),
            routes: None,
            hedge: None,
            breaker: BreakerConfig::new(),
            service_breaker: None,
            throttle: None,
            limit: None,
            endpoint_limits: Vec::new(),
            balance: BalanceConfig::new(),
            trace: TraceConfig::new(),
            classifier: HttpClassifier::new(),
            observer: Observer::none(),
            entropy: Entropy::system(),
        }
    }
}

impl<M, Cl> Builder<M, Cl> {
    /// The endpoints, as a list that never changes.
    pub fn endpoints(self, endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        let endpoints: Vec<SocketAddr> = endpoints.into_iter().collect();
        let none = endpoints.is_empty();
        let mut this = self.discover(Fixed::new(endpoints));
        this.no_endpoints = none;
        this
    }

    /// Where the endpoints are found: any stream of changes.
    pub fn discover(mut self, discover: impl Discover + Send + 'static) -> Self {
        self.discover = Some(Boxed::new(discover));
        self.no_endpoints = false;
        self
    }

    /// Asks every endpoint how it is, whether there are calls or not: `probe` as often as
    /// `config` says. One that is not well gets no calls while enough others are.
    pub fn health_check_with<P>(mut self, probe: P, config: HealthConfig) -> Self
    where
        P: Probe + Send + Sync + 'static,
    {
        self.health = Some(Box::new(|discover, _, told, _| {
            let config = told.listening(config, HealthConfig::observer);
            let config = told.seeded(config, HealthConfig::entropy);
            Ok(Boxed::new(Checked::new(discover, probe, config)))
        }));
        self
    }

    /// How long a whole call may take, its response's body included (default: 30 s).
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// How long one attempt may take (default: 10 s): from when an endpoint was picked, the wait
    /// for layers of your own and for a connection included, to the response's head (with gRPC,
    /// its first frame), or to its end where [bodies are collected](Self::collect_bodies).
    pub const fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// Tells the service, in each attempt's headers, how long its answer is waited for: what is
    /// left of the deadline, or of the attempt where [bodies are collected
    /// ](Self::collect_bodies) (default: in `grpc-timeout` for gRPC, else not at all, since not
    /// every service wants headers that it does not know). To take it up from a request that came
    /// in, see [`timeout`](crate::timeout#on-the-wire).
    pub fn deadline_header(mut self, header: DeadlineHeader) -> Self {
        self.deadline_header = Some(header);
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

    /// Names the [route](crate::call::Words::route) of each call that does not name its own, by
    /// its method and path, for [retry policies of routes](RetryConfig::route).
    pub fn routes<F>(mut self, name: F) -> Self
    where
        F: Fn(&Method, &str) -> Option<&'static str> + Send + Sync + 'static,
    {
        self.routes = Some(Box::new(name));
        self
    }

    /// Races an attempt that is slow with a second one, at another endpoint: the first success
    /// wins. The second one is paid from the budget of the retries, and made only if the call
    /// may be repeated.
    pub fn hedge(mut self, config: HedgeConfig) -> Self {
        self.hedge = Some(config);
        self
    }

    /// Hedges the slowest calls: as [`hedge`](Self::hedge), with the settings' defaults, which
    /// follow the latencies and add at most 5 % of calls.
    pub fn hedge_slowest(self) -> Self {
        self.hedge(HedgeConfig::new())
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

    /// What responses mean, and so what is spoken: HTTP, or gRPC with a
    /// [`GrpcClassifier`](crate::classify::GrpcClassifier), over a transport of your own or with
    /// codes of your own that are tried again. What it brings stands at
    /// [`GrpcClient`](super::GrpcClient).
    pub fn classifier<P: Protocol>(self, classifier: P) -> Builder<M, P> {
        self.map(|make| make, |_| classifier)
    }

    /// Who is told what the layers do: all of them, in the place of observers in their own
    /// settings.
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

    /// Another way to reach an endpoint: any function from an
    /// [`Endpoint`](crate::endpoint::Endpoint) to a service that is `Clone`: over TLS, [reqwest's
    /// client or tonic's channel](crate::docs::stack#a-transport-of-your-own), or in memory.
    pub fn transport<N: MakeEndpoint>(mut self, make: N) -> Builder<N, Cl> {
        self.connections = None;
        self.endpoint_limits.clear();
        self.map(|_| make, |classifier| classifier)
    }

    /// A layer of your own around each endpoint's transport. It sees the plain request of one
    /// attempt. Of several, the last one is the outermost.
    pub fn endpoint_layer<L>(self, layer: L) -> Builder<Layered<M, L>, Cl> {
        self.map(|make| Layered { make, layer }, |classifier| classifier)
    }

    /// The stack with no type erased; [`build`](Self::build) puts it behind one box.
    ///
    /// # Errors
    ///
    /// [`InvalidClient`] if a setting can't be, or there is no tokio runtime.
    pub fn build_stack(self) -> Result<Stack<M::Service, Cl>, InvalidClient>
    where
        M: MakeEndpoint + Send + Sync + 'static,
        Cl: Protocol,
        Cl::Between<M::Service>: Send + Sync + 'static,
    {
        let (make, discover, parts) = self.check()?;
        Ok(assemble(parts, make, discover)?)
    }

    /// The same settings over another transport, or for another protocol.
    pub(super) fn map<N, P>(
        self,
        make: impl FnOnce(M) -> N,
        classifier: impl FnOnce(Cl) -> P,
    ) -> Builder<N, P> {
        Builder {
            service: self.service,
            make: make(self.make),
            connections: self.connections,
            discover: self.discover,
            no_endpoints: self.no_endpoints,
            health: self.health,
            deadline: self.deadline,
            attempt_timeout: self.attempt_timeout,
            deadline_header: self.deadline_header,
            collect: self.collect,
            idempotency: self.idempotency,
            retry: self.retry,
            routes: self.routes,
            hedge: self.hedge,
            breaker: self.breaker,
            service_breaker: self.service_breaker,
            throttle: self.throttle,
            limit: self.limit,
            endpoint_limits: self.endpoint_limits,
            balance: self.balance,
            trace: self.trace,
            classifier: classifier(self.classifier),
            observer: self.observer,
            entropy: self.entropy,
        }
    }
}

impl<M, Cl> fmt::Debug for Builder<M, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("service", &self.service).finish_non_exhaustive()
    }
}
