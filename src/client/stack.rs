//! The order of the stack, and why.
//!
//! What stands above retry is done by the [roof](super::Roof), what stands below it by an
//! [attempt](super::Attempts): two futures, which ask the rooms' decisions in the order of this
//! page. As thirteen layers, one around the other, the same calls took twice the instructions,
//! most of them to move a request down and a response up.

use tower_layer::Layer;

use super::{
    attempt::{self, Attempts},
    check::Parts,
    race::{Raced, race},
    roof::{self, Roof},
};
use crate::{
    balance::{Balance, OutsideRuntime},
    body::{Body, ReplayBody},
    breaker::{Breaker, BreakerConfig},
    classify::HttpClassifier,
    endpoint::{Discover, Endpoint, MakeEndpoint},
    entropy::Entropy,
    limit::Limit,
    retry::{Retry, RetryLayer},
    throttle::Throttle,
};

/// The body of a request as your own layers and the transport see it.
pub type AttemptBody = ReplayBody<Body>;

/// The stack above a transport `T`, with no type erased: for a transport of your own, and for
/// those who count instructions. [`Client`](super::Client) is this behind one box.
pub type Stack<T> = Roof<Retry<Raced<Attempts<T>>, HttpClassifier>>;

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
    let classifier = parts.classifier;
    let gates = gates(parts.breaker, &parts.entropy);
    // Balance above the endpoints' own layers: it picks by each one's breaker, load and outcome.
    let balance = Balance::new(parts.balance, discover, make, gates, classifier)?;
    let endpoints = balance.clone();

    // The attempts: what is above what within one stands there.
    let breaker = parts.service.map(|config| Breaker::with_entropy(config, &parts.entropy));
    let throttle = parts.throttle.map(|config| Throttle::with_entropy(config, &parts.entropy));
    let stack = Attempts::new(attempt::Shared {
        trace: parts.trace.clone(),
        entropy: parts.entropy.fork(),
        throttle: throttle.clone(),
        places: parts.limit.map(Limit::new),
        breaker: breaker.clone(),
        balance,
        limit: parts.attempt_timeout,
        header: parts.deadline_header,
        collect: parts.collect,
        classifier,
    });

    // The hedge above the attempt: each of its two attempts has a span of its own.
    let stack = race(parts.hedge, classifier, stack);

    // Retry above the hedge: it is for attempts that failed, and two that both failed are one.
    // Above balance: another attempt goes to another endpoint. Above the attempt timeout: an
    // attempt that timed out is tried again.
    let stack = RetryLayer::new(parts.retry, classifier).layer(stack);

    // The roof: call span, deadline and key above retry.
    Ok(Roof::new(
        stack,
        roof::Shared {
            target: parts.roof,
            routes: parts.routes,
            trace: parts.trace,
            deadline: parts.deadline,
            idempotency: parts.idempotency,
            endpoints: Box::new(move || endpoints.endpoints()),
            service_breaker: breaker,
            throttle,
        },
    ))
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
