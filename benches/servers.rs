//! The layers of a server alone, over the leaf.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use buttress::{
    body::Body,
    idempotency::server::{HonourConfig, HonourLayer, MemoryStore},
    timeout::IncomingDeadlineLayer,
};
use http::{HeaderName, HeaderValue, Request};
use tower::Layer;

use crate::{Visit, layers::leaf, whole::plain};

/// With how much time its caller has.
fn limited() -> Request<Body> {
    with("request-timeout-ms", HeaderValue::from_static("30000"))
}

/// With the key of the request before.
fn again() -> Request<Body> {
    with("idempotency-key", key(17))
}

/// With a key that no other request has. To make it costs as much as in [`again`].
fn new() -> Request<Body> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    with("idempotency-key", key(NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn key(number: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"order-{number:020}\"")).expect("digits may be sent")
}

fn with(name: &'static str, value: HeaderValue) -> Request<Body> {
    let mut request = plain();
    request.headers_mut().insert(HeaderName::from_static(name), value);
    request
}

pub(crate) fn servers(visit: &mut impl Visit) {
    visit.visit("server", "leaf", leaf, plain);
    let deadline = || IncomingDeadlineLayer::default().layer(leaf());
    visit.visit("server", "IncomingDeadline, none comes", deadline, plain);
    let honour = || HonourLayer::in_memory().layer(leaf());
    visit.visit("server", "Honour, no key comes", honour, plain);

    visit.visit("server, a deadline", "leaf", leaf, limited);
    visit.visit("server, a deadline", "IncomingDeadline", deadline, limited);

    visit.visit("server, a key", "leaf", leaf, again);
    visit.visit("server, a key", "Honour, which tells the answer again", honour, again);
    // It forgets soon, or the store would be full before the end.
    let forgets = || {
        let config = HonourConfig::new().lease(Duration::from_millis(100));
        let config = config.and_then(|config| config.retention(Duration::from_millis(200)));
        let config = config.expect("the retention is above the lease");
        HonourLayer::new(config, MemoryStore::new()).layer(leaf())
    };
    visit.visit("server, a key", "Honour, which carries out a new one", forgets, new);
}
