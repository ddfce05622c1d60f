//! Each layer alone over the leaf.

use std::{net::SocketAddr, time::Duration};

use buttress::{
    Entropy,
    balance::{Balance, BalanceConfig},
    body::Body,
    breaker::{BreakerConfig, BreakerLayer},
    call::{Call, Words},
    classify::HttpClassifier,
    collect::CollectLayer,
    endpoint::{Endpoint, Fixed, Open},
    idempotency::IdempotencyLayer,
    retry::{RetryConfig, RetryLayer},
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
    trace::{AttemptSpanLayer, CallSpanLayer, TraceConfig},
};
use http::Request;
use tower::Layer;

use crate::{
    Leaf, Visit,
    whole::{parent, plain},
};

/// A carrier with a lean request: no headers, a short body in memory.
fn lean() -> Call<Request<Body>> {
    Call::new(plain())
}

/// The same, of a trace that came in.
fn traced() -> Call<Request<Body>> {
    Call::with_words(plain(), Words::new().trace(parent()))
}

const fn leaf<R>() -> Leaf<impl Fn(&R) + Clone> {
    Leaf::new(|_: &R| ())
}

/// The addresses of ten endpoints, none of which is ever connected to.
pub(crate) fn ten() -> impl Iterator<Item = SocketAddr> {
    (1..=10).map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
}

pub(crate) fn timeout(visit: &mut impl Visit) {
    visit.visit("timeout", "leaf", leaf, lean);
    let deadline = || DeadlineLayer::new(Duration::from_secs(30)).expect("30 s are no zero");
    visit.visit("timeout", "Deadline", || deadline().layer(leaf()), lean);
    let attempt = || AttemptTimeoutLayer::new(Duration::from_secs(10)).expect("10 s are no zero");
    visit.visit("timeout", "AttemptTimeout", || attempt().layer(leaf()), lean);
}

pub(crate) fn retry(visit: &mut impl Visit) {
    visit.visit("retry", "leaf", leaf, lean);
    let retry = || RetryLayer::new(RetryConfig::new(), HttpClassifier::new());
    visit.visit("retry", "Retry", || retry().layer(leaf()), lean);
}

pub(crate) fn balance(visit: &mut impl Visit) {
    visit.visit("balance", "leaf", leaf, lean);
    let balance = || {
        let gates = |_: &Endpoint| Open::new();
        let make = |_: &Endpoint| leaf();
        let (config, fixed) = (BalanceConfig::new(), Fixed::new(ten()));
        let balance = Balance::new(config, fixed, make, gates, HttpClassifier::new());
        balance.expect("subjects are made in a runtime")
    };
    visit.visit("balance", "Balance", balance, lean);
}

/// Those that have no peer in tower.
pub(crate) fn others(visit: &mut impl Visit) {
    visit.visit("others", "leaf", leaf, lean);
    let breaker = || BreakerLayer::new(BreakerConfig::new(), HttpClassifier::new());
    visit.visit("others", "Breaker", || breaker().layer(leaf()), lean);
    let key = || IdempotencyLayer::default().layer(leaf());
    visit.visit("others", "Idempotency", key, lean);
    let call_span = || CallSpanLayer::default().layer(leaf());
    visit.visit("others", "CallSpan", call_span, lean);
    let attempt_span = || {
        let layer = AttemptSpanLayer::new(TraceConfig::new(), Entropy::system());
        layer.layer(leaf())
    };
    visit.visit("others", "AttemptSpan", attempt_span, lean);
    visit.visit("others", "AttemptSpan, in a trace", attempt_span, traced);
    visit.visit("others", "Collect", || CollectLayer::always().layer(leaf()), lean);
}
