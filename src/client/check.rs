//! What of a client's settings can't be, and what follows from the others.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::{Builder, InvalidClient, builder::Routes, protocol::Protocol, roof::Target};
use crate::{
    balance::BalanceConfig,
    breaker::BreakerConfig,
    collect::CollectConfig,
    endpoint::{Change, Discover, MakeEndpoint},
    entropy::Entropy,
    error::BoxError,
    event::Observer,
    hedge::HedgeConfig,
    idempotency::IdempotencyConfig,
    limit::LimitConfig,
    retry::RetryConfig,
    throttle::ThrottleConfig,
    timeout::DeadlineHeader,
    trace::TraceConfig,
};

/// The settings after they were checked.
pub(super) struct Parts<Cl> {
    pub(super) roof: Target,
    pub(super) deadline: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) deadline_header: Option<DeadlineHeader>,
    pub(super) collect: CollectConfig,
    pub(super) idempotency: Option<IdempotencyConfig>,
    pub(super) retry: RetryConfig,
    pub(super) routes: Option<Box<Routes>>,
    pub(super) hedge: Option<HedgeConfig>,
    pub(super) service: Option<BreakerConfig>,
    pub(super) throttle: Option<ThrottleConfig>,
    pub(super) limit: Option<LimitConfig>,
    pub(super) breaker: BreakerConfig,
    pub(super) balance: BalanceConfig,
    pub(super) trace: TraceConfig,
    pub(super) classifier: Cl,
    pub(super) entropy: Entropy,
}

impl<M: MakeEndpoint, Cl: Protocol> Builder<M, Cl> {
    /// Holds the settings against each other.
    pub(super) fn check(mut self) -> Result<(M, Boxed, Parts<Cl>), InvalidClient> {
        let target = Target::parse(&self.service, self.collect.is_some())?;
        self.check_times()?;
        self.check_limits()?;
        self.check_connections(&target)?;
        if self.collect.is_some_and(|config| config.is_void()) {
            return Err(InvalidClient::COLLECTS_NOTHING);
        }
        if self.no_endpoints {
            return Err(InvalidClient::EMPTY_LIST);
        }
        let discover = self.discover.take().ok_or(InvalidClient::NO_ENDPOINTS)?;
        let discover = match self.health.take() {
            Some(health) => {
                let told = Told { observer: &self.observer, entropy: &self.entropy };
                health(discover, &target, &told, self.speaks_http2())?
            }
            None => discover,
        };
        if self.observer.is_listening() {
            self.make.report_to(&self.observer);
        }

        let Self { observer, entropy, .. } = self;
        let told = Told { observer: &observer, entropy: &entropy };
        let retry = told.seeded(self.retry, RetryConfig::entropy);
        let retry = told.listening(retry, RetryConfig::observer);
        let balance = told.seeded(self.balance, BalanceConfig::entropy);
        let hedge = self.hedge.map(|hedge| {
            // One budget for both: what a hedge takes, a retry has not.
            match retry.payer() {
                Some(budget) => hedge.budget(budget.clone()),
                None => hedge,
            }
        });
        let parts = Parts {
            roof: target,
            deadline: self.deadline,
            attempt_timeout: self.attempt_timeout,
            deadline_header: self.deadline_header.or_else(Cl::deadline_header),
            collect: self.collect.unwrap_or_default(),
            idempotency: self.idempotency,
            hedge: hedge.map(|hedge| told.listening(hedge, HedgeConfig::observer)),
            retry,
            routes: self.routes,
            limit: self.limit.map(|own| told.listening(own, LimitConfig::observer)),
            throttle: self.throttle.map(|own| told.listening(own, ThrottleConfig::observer)),
            service: self.service_breaker.map(|own| told.listening(own, BreakerConfig::observer)),
            breaker: told.listening(self.breaker, BreakerConfig::observer),
            balance: told.listening(balance, BalanceConfig::observer),
            trace: self.trace,
            classifier: self.classifier,
            entropy,
        };
        Ok((self.make, discover, parts))
    }

    fn check_times(&self) -> Result<(), InvalidClient> {
        let (deadline, attempt) = (self.deadline, self.attempt_timeout);
        if deadline.is_zero() {
            return Err(InvalidClient::NO_DEADLINE);
        }
        if attempt.is_zero() {
            return Err(InvalidClient::NO_ATTEMPT_TIMEOUT);
        }
        if attempt > deadline {
            return Err(InvalidClient::new(format!(
                "an attempt may take {attempt:?} but the whole call only {deadline:?}: raise the \
                 deadline, or lower the attempt timeout"
            )));
        }
        for policy in self.retry.all_policies().filter(|policy| policy.max_attempts.get() > 1) {
            let backoff = policy.backoff.ceiling(0);
            if backoff >= deadline {
                return Err(InvalidClient::new(format!(
                    "a first backoff of up to {backoff:?} does not fit into a deadline of \
                     {deadline:?}: lower the backoff's base, or raise the deadline"
                )));
            }
        }
        let hedge = self.hedge.as_ref().map(HedgeConfig::delay);
        if let Some(delay) = hedge.filter(|&delay| delay >= attempt) {
            return Err(InvalidClient::new(format!(
                "a hedge after {delay:?} never comes, as an attempt ends after {attempt:?}: lower \
                 the hedge's delay, or raise the attempt timeout"
            )));
        }
        let breakers = [Some(&self.breaker), self.service_breaker.as_ref()];
        let probes = breakers.into_iter().flatten().map(BreakerConfig::probe_may_take);
        if let Some(probe) = probes.min().filter(|&probe| probe < attempt) {
            return Err(InvalidClient::new(format!(
                "a breaker's probe may take {probe:?} but an attempt {attempt:?}, so a slow \
                 endpoint would never come back: raise the breaker's probe timeout, or lower the \
                 attempt timeout"
            )));
        }
        Ok(())
    }

    /// What would be waited for in vain, and what would never be reached.
    fn check_limits(&self) -> Result<(), InvalidClient> {
        let (deadline, attempt) = (self.deadline, self.attempt_timeout);
        let service = self.limit.as_ref();
        let own = service.and_then(LimitConfig::said_wait);
        if let Some(wait) = own.filter(|&wait| wait >= deadline) {
            return Err(InvalidClient::new(format!(
                "a call may wait {wait:?} for a place but take only {deadline:?} in all: lower \
                 the limit's longest wait, or raise the deadline"
            )));
        }
        for endpoint in &self.endpoint_limits {
            let there = endpoint.said_wait();
            if let Some(wait) = there.filter(|&wait| wait >= attempt) {
                return Err(InvalidClient::new(format!(
                    "an attempt may wait {wait:?} for a place at its endpoint but take only \
                     {attempt:?} in all: lower the longest wait of the endpoint's limit, or raise \
                     the attempt timeout"
                )));
            }
            let both = own.zip(there);
            if let Some((own, there)) = both.filter(|&(own, there)| own + there >= deadline) {
                return Err(InvalidClient::new(format!(
                    "a call may wait {own:?} for a place and {there:?} for one at its endpoint, \
                     but take only {deadline:?} in all: lower one of the two waits, or raise the \
                     deadline"
                )));
            }
            let (all, one) = (service.map(LimitConfig::greatest), endpoint.least());
            if let Some(all) = all.filter(|&all| one >= all) {
                return Err(InvalidClient::new(format!(
                    "{one} attempts at one endpoint are never reached, as {all} may be under way \
                     at all of them together: lower the endpoint's limit, or leave it out"
                )));
            }
        }
        if self.hedge.is_some() && service.is_some_and(|limit| limit.greatest() == 1) {
            return Err(InvalidClient::HEDGE_WITHOUT_PLACE);
        }
        Ok(())
    }

    /// What our own transport can't do.
    fn check_connections(&self, target: &Target) -> Result<(), InvalidClient> {
        let Some(connections) = self.connections else { return Ok(()) };
        if !target.is_plain_http() {
            return Err(InvalidClient::new(format!(
                "{:?} needs TLS or another protocol, which this transport does not speak: say \
                 http://, or set a transport of your own",
                self.service
            )));
        }
        if Cl::NEEDS_HTTP2 && !connections.http2 {
            return Err(InvalidClient::GRPC_NEEDS_HTTP2);
        }
        let (connect, attempt) = (connections.connect_timeout, self.attempt_timeout);
        if let Some(connect) = connect.filter(|&connect| connect > attempt) {
            return Err(InvalidClient::new(format!(
                "connecting may take {connect:?} but an attempt only {attempt:?}: lower the \
                 connect timeout, or raise the attempt timeout"
            )));
        }
        Ok(())
    }

    fn speaks_http2(&self) -> bool {
        self.connections.is_some_and(|connections| connections.http2)
    }
}

/// What was said once for all layers.
pub(super) struct Told<'a> {
    observer: &'a Observer,
    entropy: &'a Entropy,
}

impl Told<'_> {
    /// The layer's settings with the client's observer, if it has one; else with their own.
    pub(super) fn listening<C>(&self, config: C, set: impl FnOnce(C, Observer) -> C) -> C {
        if self.observer.is_listening() { set(config, self.observer.clone()) } else { config }
    }

    /// The layer's settings with chance from the client's seed, if it has one; else with their
    /// own.
    pub(super) fn seeded<C>(&self, config: C, set: impl FnOnce(C, Entropy) -> C) -> C {
        if self.entropy.is_seeded() { set(config, self.entropy.fork()) } else { config }
    }
}

/// Puts the checks of health behind the discovery, once all else is known.
pub(super) type CheckHealth = Box<dyn FnOnce(Boxed, &Target, &Told<'_>, bool) -> Discovered + Send>;
type Discovered = Result<Boxed, InvalidClient>;

/// Any discovery, behind one type.
pub(super) struct Boxed(Pin<Box<dyn Discover + Send>>);

impl Boxed {
    pub(super) fn new(discover: impl Discover + Send + 'static) -> Self {
        Self(Box::pin(discover))
    }
}

impl Stream for Boxed {
    type Item = Result<Change, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_change(cx)
    }
}
