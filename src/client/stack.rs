//! The order of the stack, and why.

use tower_layer::Layer;

use super::{builder::Parts, either::Either, roof::Roof};
use crate::{
    balance::{Balance, OutsideRuntime},
    body::{Body, ReplayBody},
    breaker::{Breaker, BreakerConfig, BreakerLayer, BreakerService},
    call::{Uncarry, UncarryLayer},
    classify::HttpClassifier,
    collect::{Collect, CollectLayer},
    endpoint::{Discover, Endpoint, MakeEndpoint},
    entropy::Entropy,
    event::Observer,
    idempotency::{Idempotency, IdempotencyLayer},
    retry::{Retry, RetryLayer},
    timeout::{AttemptTimeout, AttemptTimeoutLayer, Deadline, Http},
    trace::{AttemptSpan, AttemptSpanLayer, CallSpan, CallSpanLayer},
};

/// The body of a request as your own layers and the transport see it.
pub type AttemptBody = ReplayBody<Body>;

/// The stack above a transport `T`, with no type erased: for a transport of your own, and for
/// those who count instructions. [`Client`](super::Client) is this behind one box.
pub type Stack<T> = Roof<CallSpan<Deadline<Keyed<Retried<T>>, Http>>>;

type Keyed<S> = Either<Idempotency<S>, S>;
type Retried<T> = Retry<AttemptSpan<Guarded<Balanced<T>>>, HttpClassifier>;
type Guarded<S> = BreakerService<S, HttpClassifier>;
type Balanced<T> = Balance<AtEndpoint<T>, Breaker, HttpClassifier>;
type AtEndpoint<T> = AttemptTimeout<Collect<Uncarry<T>>>;

/// Builds the stack from the bottom up.
pub(super) fn assemble<M, D>(
    parts: Parts,
    make: M,
    discover: D,
) -> Result<Stack<M::Service>, OutsideRuntime>
where
    M: MakeEndpoint + Send + Sync + 'static,
    M::Service: Send + Sync + 'static,
    D: Discover + Send + 'static,
{
    let Parts { classifier, service, roof, .. } = parts;
    let at_endpoint = AtEndpointMaker {
        make,
        attempt_timeout: parts.attempt_timeout,
        collect: CollectLayer::new(parts.collect),
    };
    let gates = gates(parts.breaker, &parts.entropy, parts.observer);

    // Balance below everything that is per attempt: another attempt goes to another endpoint.
    // Above the endpoints' own layers: it has to see each one's breaker, load and outcome.
    let stack = Balance::new(parts.balance, discover, at_endpoint, gates, classifier)?;

    // The service breaker above balance: it judges what the whole service answers. Below the
    // attempt span: a refusal is an attempt that one can see.
    let breaker = service.map(|config| Breaker::with_entropy(config, &parts.entropy));
    let stack = BreakerLayer::optional(breaker, classifier).layer(stack);

    // The attempt span above all that an attempt consists of, and below retry: one for each.
    let stack = AttemptSpanLayer::new(parts.trace.clone(), parts.entropy.fork()).layer(stack);

    // Retry above the attempt's own timeout: an attempt that timed out is tried again.
    let stack = RetryLayer::new(parts.retry, classifier).layer(stack);

    // The key above retry: every attempt of a call carries the same, or the service could not
    // tell a repetition from a second call.
    let stack = match parts.idempotency {
        Some(config) => Either::with(IdempotencyLayer::new(config).layer(stack)),
        None => Either::without(stack),
    };

    // The deadline above retry: it bounds the sum of all attempts, backoffs and the body.
    let stack = parts.deadline.layer(stack);

    // The call span above all: it covers what the caller waits for.
    let stack = CallSpanLayer::new(parts.trace).layer(stack);

    Ok(Roof::new(stack, roof))
}

/// Builds the layers of one endpoint above its transport.
struct AtEndpointMaker<M> {
    make: M,
    attempt_timeout: AttemptTimeoutLayer,
    collect: CollectLayer,
}

impl<M: MakeEndpoint> MakeEndpoint for AtEndpointMaker<M> {
    type Service = AtEndpoint<M::Service>;

    fn make(&self, endpoint: &Endpoint) -> Self::Service {
        let transport = self.make.make(endpoint);
        // The user's own layers, which `make` has put around the transport, see the plain
        // request: other people's layers don't know our carrier.
        let stack = UncarryLayer::new().layer(transport);
        // The body is collected beneath the attempt's timeout, so that one that stalls or is
        // cut short is a failed attempt.
        let stack = self.collect.layer(stack);
        // The attempt's timeout below the endpoint's breaker and load (the balancer holds
        // both): an attempt that timed out is a failure of its endpoint.
        self.attempt_timeout.layer(stack)
    }
}

/// A breaker for each endpoint, with jitter of its own.
fn gates(
    config: BreakerConfig,
    entropy: &Entropy,
    observer: Observer,
) -> impl Fn(&Endpoint) -> Breaker + Send + Sync + 'static {
    let entropy = entropy.fork();
    move |endpoint| {
        let config = config.clone().endpoint(endpoint.clone()).observer(observer.clone());
        Breaker::with_entropy(config, &entropy)
    }
}
