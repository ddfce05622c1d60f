//! Each layer alone over the leaf.

use std::{net::SocketAddr, time::Duration};

use buttress::{
    BoxError, Entropy,
    balance::{Balance, BalanceConfig},
    body::Body,
    breaker::{BreakerConfig, BreakerLayer},
    call::{Call, UncarryLayer, Words},
    chaos::{Chaos, ChaosLayer},
    classify::{GrpcClassifier, HttpClassifier},
    collect::CollectLayer,
    endpoint::{Endpoint, Fixed, Open},
    fallback::{self, FallbackConfig, FallbackLayer, Stale, StaleConfig, Unavailable},
    fallback::{StandInConfig, StandInLayer},
    grpc::{AttemptHeaderLayer, PeekLayer},
    hedge::{HedgeConfig, HedgeLayer},
    idempotency::IdempotencyLayer,
    limit::{AdaptiveConfig, LimitConfig, LimitLayer},
    reconcile::{self, ByKey, ReconcileConfig, ReconcileLayer},
    refresh::{Bearer, RefreshConfig, RefreshLayer},
    retry::{RetryConfig, RetryLayer},
    throttle::{ThrottleConfig, ThrottleLayer},
    timeout::{AttemptTimeoutLayer, DeadlineLayer},
    trace::{AttemptSpanLayer, CallSpanLayer, TraceConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use tower::{Layer, util::MapResponse};

use crate::{
    Leaf, Visit,
    whole::{parent, plain},
};

/// A carrier with a lean request: no headers, a short body in memory.
pub(crate) fn lean() -> Call<Request<Body>> {
    Call::new(plain())
}

/// The same, of a trace that came in.
fn traced() -> Call<Request<Body>> {
    Call::with_words(plain(), Words::new().trace(parent()))
}

/// The same, which may be repeated by its nature.
fn read() -> Call<Request<Body>> {
    let mut request = plain();
    *request.method_mut() = Method::GET;
    Call::new(request)
}

/// The same, with a key of the caller's own.
fn keyed() -> Call<Request<Body>> {
    let mut request = plain();
    let key = HeaderValue::from_static("\"order-17\"");
    request.headers_mut().insert(HeaderName::from_static("idempotency-key"), key);
    Call::new(request)
}

/// The same, at its second attempt.
fn second() -> Call<Request<Body>> {
    let mut call = lean();
    call.words.attempt = 2;
    call
}

pub(crate) const fn leaf<R>() -> Leaf<impl Fn(&R) + Clone> {
    Leaf::new(|_: &R| ())
}

type Trailing<R> = MapResponse<Leaf<fn(&R)>, fn(Response<Body>) -> Response<Body>>;

/// Answers as a service of gRPC does: how it went stands in the trailers.
fn trailing<R>() -> Trailing<R> {
    MapResponse::new(Leaf::new(|_: &R| ()), |response: Response<Body>| {
        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        response.map(|_| Body::with_trailers("done", HeaderMap::from_iter([status])))
    })
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
    let throttle = || ThrottleLayer::new(ThrottleConfig::new(), HttpClassifier::new());
    visit.visit("others", "Throttle", || throttle().layer(leaf()), lean);
    let fixed = || LimitConfig::fixed(10).expect("more than none");
    let limit = || LimitLayer::new(fixed(), HttpClassifier::new());
    visit.visit("others", "Limit, fixed", || limit().layer(leaf()), lean);
    let adaptive = || LimitConfig::adaptive(AdaptiveConfig::new());
    let limit = || LimitLayer::new(adaptive(), HttpClassifier::new());
    visit.visit("others", "Limit, adaptive", || limit().layer(leaf()), lean);
    let chaos = || {
        let layer = ChaosLayer::new(Chaos::seeded(7));
        UncarryLayer::new().layer(layer.layer(leaf()))
    };
    visit.visit("others", "Chaos, no fault set", chaos, lean);
    let fallback = || {
        let config = FallbackConfig::named("eu");
        let (rule, judge) = (Unavailable::new(), HttpClassifier::new());
        FallbackLayer::new(config, rule, leaf(), judge).layer(leaf())
    };
    visit.visit("others", "Fallback, not needed", fallback, lean);
    let stand_in = || {
        let answer = fallback::Fixed::new(|| Response::new(Body::empty()));
        let config = StandInConfig::named("fixed");
        StandInLayer::new(config, Unavailable::new(), answer, HttpClassifier::new()).layer(leaf())
    };
    visit.visit("others", "StandIn, not needed", stand_in, lean);
    let refresh = || {
        let tokens = Bearer::new(async || Ok::<_, BoxError>("a-newer-token"));
        let tokens = tokens.token("a-token").expect("it may be sent");
        RefreshLayer::new(RefreshConfig::new(), tokens).layer(leaf())
    };
    visit.visit("others", "Refresh, a bearer token", refresh, lean);
}

/// Those that do something only for a call that may be repeated, or only for one that asks.
pub(crate) fn reads(visit: &mut impl Visit) {
    visit.visit("reads", "leaf", leaf, read);
    let hedge = |config| HedgeLayer::new(config, HttpClassifier::new()).layer(leaf());
    // Nothing that the leaf does takes so long.
    let after = || HedgeConfig::after(Duration::from_secs(1)).expect("1 s is no zero");
    visit.visit("reads", "Hedge after a fixed delay, not needed", || hedge(after()), read);
    // For three seconds, longer than it is measured here, it only learns. From then on it also
    // does what one of a fixed delay does.
    let learns = || hedge(HedgeConfig::new());
    visit.visit("reads", "Hedge at a percentile, while it learns", learns, read);
    let stale = || {
        let stale = Stale::new(StaleConfig::new(), fallback::by_uri);
        let config = StandInConfig::named("stale");
        StandInLayer::new(config, Unavailable::new(), stale, HttpClassifier::new()).layer(leaf())
    };
    visit.visit("reads", "StandIn that remembers, not needed", stale, read);
}

/// What is done for a call with a key.
pub(crate) fn keys(visit: &mut impl Visit) {
    visit.visit("keys", "leaf", leaf, keyed);
    let own = || IdempotencyLayer::default().layer(leaf());
    visit.visit("keys", "Idempotency, the caller's own key", own, keyed);
    let reconcile = || {
        let lookup = ByKey::new(async |_: HeaderValue, _| {
            Ok::<_, BoxError>(reconcile::Answer::<Response<Body>>::NotCarriedOut)
        });
        ReconcileLayer::new(ReconcileConfig::new(), lookup, HttpClassifier::new()).layer(leaf())
    };
    visit.visit("keys", "Reconcile, not needed", reconcile, keyed);
}

pub(crate) fn grpc(visit: &mut impl Visit) {
    visit.visit("grpc", "leaf", trailing, lean);
    let by_head = || BreakerLayer::new(BreakerConfig::new(), HttpClassifier::new());
    visit.visit("grpc", "Breaker, HttpClassifier", || by_head().layer(trailing()), lean);
    let by_trailers = || BreakerLayer::new(BreakerConfig::new(), GrpcClassifier::new());
    visit.visit("grpc", "Breaker, GrpcClassifier", || by_trailers().layer(trailing()), lean);
    visit.visit("grpc", "Peek", || PeekLayer::new().layer(trailing()), lean);
    let attempts = || AttemptHeaderLayer::grpc().layer(trailing());
    visit.visit("grpc", "AttemptHeader, first attempt", attempts, lean);
    visit.visit("grpc", "AttemptHeader, second attempt", attempts, second);
}
