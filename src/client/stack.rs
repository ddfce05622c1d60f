//! The order of the stack, and why.

use tower_layer::Layer;

use super::{
    check::Parts,
    race::{Raced, race},
    ready::Readied,
    roof::Roof,
};
use crate::{
    balance::{Balance, OutsideRuntime},
    body::{Body, ReplayBody},
    breaker::{Breaker, BreakerConfig, BreakerLayer, BreakerService},
    call::{Uncarry, UncarryLayer},
    classify::HttpClassifier,
    collect::{Collect, CollectLayer},
    endpoint::{Discover, Endpoint, MakeEndpoint},
    entropy::Entropy,
    idempotency::{Idempotency, IdempotencyLayer},
    retry::{Retry, RetryLayer},
    timeout::{
        AttemptTimeout, AttemptTimeoutLayer, Deadline, DeadlineHeaderLayer, DeadlineHeaderService,
        Http,
    },
    trace::{AttemptSpan, AttemptSpanLayer, CallSpan, CallSpanLayer},
};

/// The body of a request as your own layers and the transport see it.
pub type AttemptBody = ReplayBody<Body>;

/// The stack above a transport `T`, with no type erased: for a transport of your own, and for
/// those who count instructions. [`Client`](super::Client) is this behind one box.
pub type Stack<T> = Roof<CallSpan<Deadline<Idempotency<Retried<T>>, Http>>>;

type Retried<T> = Retry<Raced<AttemptSpan<Guarded<Balanced<T>>>>, HttpClassifier>;
type Guarded<S> = BreakerService<S, HttpClassifier>;
type Balanced<T> = Balance<AtEndpoint<T>, Breaker, HttpClassifier>;
type AtEndpoint<T> = AttemptTimeout<Readied<Collect<DeadlineHeaderService<Uncarry<T>>>>>;

/// Builds the stack from the bottom up: read it from its end for the order in which a call
/// passes. `tests/stack.rs` has a test for each "above" that fails when it is swapped.
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
        deadline_header: parts.deadline_header,
        collect: CollectLayer::new(parts.collect),
    };
    let gates = gates(parts.breaker, &parts.entropy);

    // Balance above the endpoints' own layers: it picks by each one's breaker, load and outcome.
    let stack = Balance::new(parts.balance, discover, at_endpoint, gates, classifier)?;
    let balance = stack.clone();

    // The service breaker above balance: it judges what the whole service answers.
    let breaker = service.map(|config| Breaker::with_entropy(config, &parts.entropy));
    let stack = BreakerLayer::optional(breaker.clone(), classifier).layer(stack);

    // The attempt span above the service breaker: a refusal is an attempt that one can see.
    let stack = AttemptSpanLayer::new(parts.trace.clone(), parts.entropy.fork()).layer(stack);

    // The hedge above the attempt span: each of its two attempts has a span of its own.
    let stack = race(parts.hedge, classifier, stack);

    // Retry above the hedge: it is for attempts that failed, and two that both failed are one.
    // Above balance: another attempt goes to another endpoint. Above the attempt timeout: an
    // attempt that timed out is tried again.
    let stack = RetryLayer::new(parts.retry, classifier).layer(stack);

    // The key above retry and hedge: every attempt of a call carries the same, or the service
    // could not tell a repetition from a second call.
    let stack = IdempotencyLayer::optional(parts.idempotency).layer(stack);

    // The deadline above retry: it bounds the sum of all attempts, backoffs and the body, and
    // each attempt gets no more than what is left of it.
    let stack = parts.deadline.layer(stack);

    // The call span above the deadline: it covers what the caller waits for, and sees it end.
    let stack = CallSpanLayer::new(parts.trace).layer(stack);

    Ok(Roof::new(stack, roof, move || balance.endpoints(), breaker))
}

/// Builds the layers of one endpoint above its transport.
struct AtEndpointMaker<M> {
    make: M,
    attempt_timeout: AttemptTimeoutLayer,
    deadline_header: DeadlineHeaderLayer,
    collect: CollectLayer,
}

impl<M: MakeEndpoint> MakeEndpoint for AtEndpointMaker<M> {
    type Service = AtEndpoint<M::Service>;

    fn make(&self, endpoint: &Endpoint) -> Self::Service {
        // The user's own layers above the transport: `make` has put them there.
        let stack = self.make.make(endpoint);

        // Unwrapping above the user's own layers: other people's don't know our carrier.
        let stack = UncarryLayer::new().layer(stack);

        // The deadline's header above unwrapping: the words are gone below it, and your own
        // layers may see what it says. Below readiness and the attempt timeout: what is left is
        // counted when the request goes out, and is no more than the attempt has.
        let stack = self.deadline_header.layer(stack);

        // Collecting above the user's own layers: what they turn a body into is what is
        // collected (decompression).
        let stack = self.collect.layer(stack);

        // Readiness above collecting and all beneath, within the call.
        let stack = Readied::new(stack);

        // The attempt timeout above collecting: a body that stalls is a failed attempt. Above
        // readiness: an attempt that waits for a limit of the user's is one that takes time.
        // Below the endpoint's breaker and load, both of which the balancer holds: an attempt
        // that timed out is a failure of its endpoint.
        self.attempt_timeout.layer(stack)
    }
}

/// A breaker for each endpoint, with jitter of its own.
fn gates(
    config: BreakerConfig,
    entropy: &Entropy,
) -> impl Fn(&Endpoint) -> Breaker + Send + Sync + 'static {
    let entropy = entropy.fork();
    move |endpoint| {
        let config = config.clone().endpoint(endpoint.clone());
        Breaker::with_entropy(config, &entropy)
    }
}
