//! The order of the stack, and why.
//!
//! What stands above the attempts is done by one future, [`CallFuture`](super::CallFuture), what
//! an attempt consists of by another, within it. They ask the rooms' decisions in the order of
//! this page. As thirteen layers, one around the other, the same calls took twice the
//! instructions, most of them to move a request down and a response up.

use tower_layer::Layer;

use super::{
    AnswerClassifier,
    attempt::{self, Attempts},
    check::Parts,
    permits::Doors,
    protocol::Protocol,
    roof::{self, Roof},
};
use crate::{
    balance::{Balance, OutsideRuntime},
    body::{Body, ReplayBody},
    breaker::{Breaker, BreakerConfig},
    classify::HttpClassifier,
    endpoint::{Discover, Endpoint, MakeEndpoint},
    entropy::Entropy,
    hedge::HedgeLayer,
    limit::Limit,
    retry,
    throttle::Throttle,
};

/// The body of a request as your own layers and the transport see it.
pub type AttemptBody = ReplayBody<Body>;

/// The stack above a transport `T`, with no type erased: for a transport of your own, and for
/// those who count instructions. [`Client`](super::Client) is this behind one box; so is
/// [`GrpcClient`](super::GrpcClient), of the stack of gRPC.
pub type Stack<T, Cl = HttpClassifier> = Roof<<Cl as Protocol>::Between<T>, Cl>;

/// Builds the stack from the bottom up: read it from its end for the order in which a call
/// passes. `tests/stack.rs` has a test for each "above" that fails when it is swapped.
pub(super) fn assemble<M, D, Cl>(
    parts: Parts<Cl>,
    make: M,
    discover: D,
) -> Result<Stack<M::Service, Cl>, OutsideRuntime>
where
    M: MakeEndpoint + Send + Sync + 'static,
    D: Discover + Send + 'static,
    Cl: Protocol,
    Cl::Between<M::Service>: Send + Sync + 'static,
{
    let classifier = parts.classifier;
    // What the protocol needs to know of an attempt stands within its time, above the user's own
    // layers: other people's don't know our carrier.
    let make = move |endpoint: &Endpoint| Cl::between(make.make(endpoint));
    let gates = gates(parts.breaker, &parts.entropy);
    // Balance above the endpoints' own layers: it picks by each one's breaker, load and outcome.
    let balance = Balance::new(parts.balance, discover, make, gates, classifier)?;

    // The attempts: what is above what within one stands there.
    let attempts = Attempts::new(attempt::Shared {
        trace: parts.trace.clone(),
        entropy: parts.entropy.fork(),
        doors: Doors {
            throttle: parts.throttle.map(|config| Throttle::with_entropy(config, &parts.entropy)),
            limit: parts.limit.map(Limit::new),
            breaker: parts.service.map(|config| Breaker::with_entropy(config, &parts.entropy)),
        },
        balance,
        limit: parts.attempt_timeout,
        header: parts.deadline_header,
        collect: parts.collect,
        classifier,
    });

    // The hedge above the attempt: each of its two attempts has a span of its own.
    let judge = AnswerClassifier::new(classifier);
    let hedge = parts.hedge.map(|config| HedgeLayer::new(config, judge).layer(attempts.clone()));

    // Retry above the hedge: it is for attempts that failed, and two that both failed are one.
    // Above balance: another attempt goes to another endpoint. Above the attempt timeout: an
    // attempt that timed out is tried again.
    let retry = retry::Rules::new(parts.retry, judge);

    // The roof: call span, deadline and key above retry.
    Ok(Roof::new(roof::Shared {
        target: parts.roof,
        routes: parts.routes,
        trace: parts.trace,
        deadline: parts.deadline,
        idempotency: parts.idempotency,
        retry,
        hedge,
        attempts,
    }))
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
