//! What a call that succeeds allocates, layer by layer, exactly.
//!
//! Method: the first call after a few that warm up (thread-locals, the timer wheel) is counted,
//! from the call of the service to the last byte of its response's body. The leaf is pending
//! once, since a timer over a leaf that is ready is never registered.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Entropy,
    balance::{Balance, BalanceConfig},
    body::Body,
    breaker::{BreakerConfig, BreakerLayer},
    call::{Call, CarryLayer, TraceParent, UncarryLayer, Words},
    classify::HttpClassifier,
    collect::CollectLayer,
    endpoint::{Endpoint, Fixed, Open},
    idempotency::{IdempotencyLayer, server::HonourLayer},
    retry::{RetryConfig, RetryLayer},
    timeout::{AttemptTimeoutLayer, DeadlineHeader, DeadlineHeaderLayer, DeadlineLayer},
    trace::{AttemptSpanLayer, CallSpanLayer, TraceConfig},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};

/// Answers with a short body that lies in memory, at the second poll.
#[derive(Clone, Copy)]
struct Leaf;

struct Answer {
    waited: bool,
    response: Ready<Response<Body>>,
}

impl<R> Service<R> for Leaf {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Answer {
        Answer { waited: false, response: ready(Response::new(Body::full("done"))) }
    }
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !std::mem::replace(&mut self.waited, true) {
            return Poll::Pending;
        }
        Pin::new(&mut self.response).poll(cx).map(Ok)
    }
}

/// How many allocations one call makes. It is polled until it is done, by nobody's waker.
fn allocations<S, R, B>(make: impl FnOnce() -> S, request: impl Fn() -> R) -> u64
where
    S: Service<R, Response = Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("the system has room for a runtime");
    let mut service = runtime.block_on(async {
        let service = make();
        // Lets a balancer's driver run.
        tokio::time::sleep(Duration::from_millis(1)).await;
        service
    });
    let _in_runtime = runtime.enter();
    for _ in 0..3 {
        call(&mut service, request());
    }
    let request = request();
    allocation_counter::measure(|| call(&mut service, request)).count_total
}

fn call<S, R, B>(service: &mut S, request: R)
where
    S: Service<R, Response = Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    let mut future = pin!(service.call(request));
    let response = loop {
        if let Poll::Ready(response) = future.as_mut().poll(&mut cx) {
            break response.map_err(Into::into).expect("the leaf answers");
        }
    };
    let mut body = pin!(response.into_body());
    let mut length = 0;
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        let data = frame.map_err(Into::into).expect("it lies in memory").into_data();
        length += data.expect("it has no trailers").len();
    }
    assert_eq!(length, "done".len());
}

/// A request as it is, and the same in a `Call`.
fn plain() -> Request<Body> {
    Request::post("http://payments/charges").body("amount=12".into()).expect("it is sound")
}

fn carried() -> Call<Request<Body>> {
    Call::new(plain())
}

fn parent() -> TraceParent {
    TraceParent::new(1 << 100, 7, 1).expect("neither id is zero")
}

/// What `layer` adds to a call in a `Call`, and to one in a plain request.
fn added<L, Make>(layer: Make) -> (u64, u64)
where
    Make: Fn() -> L,
    L: Layer<Leaf>,
    L::Service: Asked<Call<Request<Body>>> + Asked<Request<Body>>,
{
    let over = || layer().layer(Leaf);
    (<L::Service as Asked<_>>::count(over, carried), <L::Service as Asked<_>>::count(over, plain))
}

/// A service of HTTP responses, whatever their bodies. (A bound on an associated type of two
/// different instances of `Service` at once can't be written otherwise.)
trait Asked<R>: Sized {
    fn count(make: impl FnOnce() -> Self, request: impl Fn() -> R) -> u64;
}

impl<S, R, B> Asked<R> for S
where
    S: Service<R, Response = Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    fn count(make: impl FnOnce() -> S, request: impl Fn() -> R) -> u64 {
        allocations(make, request)
    }
}

/// The words of a plain request lie in its extensions: the map, its table, the box around them.
const WORDS: u64 = 3;

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Leaf, plain), 0);
    let boxed = tower::util::BoxCloneService::new(Leaf);
    assert_eq!(allocations(|| boxed, plain), 1);
}

#[test]
fn carrying_adds_nothing() {
    let there_and_back = || CarryLayer::new().layer(UncarryLayer::new().layer(Leaf));
    assert_eq!(allocations(there_and_back, plain), 0);
}

#[test]
fn a_deadline_adds_nothing() {
    let deadline = || DeadlineLayer::new(Duration::from_secs(30)).expect("no zero");
    assert_eq!(added(deadline), (0, WORDS));
}

#[test]
fn an_attempt_timeout_adds_nothing() {
    let attempt = || AttemptTimeoutLayer::new(Duration::from_secs(10)).expect("no zero");
    assert_eq!(added(attempt), (0, 0));
}

#[test]
fn a_breaker_adds_nothing() {
    let breaker = || BreakerLayer::new(BreakerConfig::new(), HttpClassifier::new());
    assert_eq!(added(breaker), (0, 0));
}

#[test]
fn collecting_adds_nothing_to_a_body_of_one_piece() {
    assert_eq!(added(CollectLayer::always), (0, 0));
}

#[test]
fn spans_add_nothing_when_nobody_listens() {
    assert_eq!(added(CallSpanLayer::default), (0, 0));
    assert_eq!(added(attempt_span), (0, 0));
}

fn attempt_span() -> AttemptSpanLayer {
    AttemptSpanLayer::new(TraceConfig::new(), Entropy::system())
}

/// A header map without any has to make room: its table and its entries.
const FIRST_HEADER: u64 = 2;
/// The value of a header.
const VALUE: u64 = 1;

#[test]
fn a_trace_that_came_in_adds_its_header() {
    let over = || attempt_span().layer(Leaf);
    let traced = || Call::with_words(plain(), Words::new().trace(parent()));
    assert_eq!(allocations(over, traced), VALUE + FIRST_HEADER);
    let with_header = || {
        let mut call = traced();
        call.request.headers_mut().insert("accept", HeaderValue::from_static("*/*"));
        call
    };
    assert_eq!(allocations(over, with_header), VALUE, "where there is room");
}

#[test]
fn a_key_adds_its_header() {
    let over = || IdempotencyLayer::default().layer(Leaf);
    assert_eq!(allocations(over, carried), VALUE + FIRST_HEADER);
    assert_eq!(allocations(over, plain), VALUE + FIRST_HEADER + WORDS);
}

#[test]
fn a_server_that_honours_keys_adds_nothing_to_a_request_without_one() {
    let over = || HonourLayer::in_memory().layer(Leaf);
    assert_eq!(allocations(over, plain), 0);
    let keyed_get = || {
        let request = Request::get("http://payments/charges").header("idempotency-key", "\"a\"");
        request.body(Body::empty()).expect("it is sound")
    };
    assert_eq!(allocations(over, keyed_get), 0, "and to one whose method needs none");
}

#[test]
fn a_deadline_on_the_wire_adds_its_header_and_nothing_where_there_is_no_deadline() {
    for header in [DeadlineHeader::grpc(), DeadlineHeader::default()] {
        let over = || DeadlineHeaderLayer::new(header.clone()).layer(Leaf);
        let soon = || Words::new().deadline(Instant::now() + Duration::from_secs(1));
        assert_eq!(allocations(over, || Call::with_words(plain(), soon())), VALUE + FIRST_HEADER);
        assert_eq!(allocations(over, carried), 0);
        assert_eq!(allocations(over, plain), 0);
    }
    let off = || DeadlineHeaderLayer::optional(None);
    assert_eq!(added(off), (0, 0));
}

#[test]
fn a_retry_adds_the_copy_of_the_request() {
    let over = || RetryLayer::new(RetryConfig::new(), HttpClassifier::new()).layer(Leaf);
    assert_eq!(allocations(over, carried), 0, "no header, and a body in memory");
    let headers = |count| {
        move || {
            let mut call = carried();
            for name in ["accept", "user-agent", "x-a", "x-b", "x-c", "x-d"].into_iter().take(count)
            {
                let name = HeaderName::from_static(name);
                call.request.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            call
        }
    };
    // A copy of a header map: its table and its entries, however many they are.
    assert_eq!(allocations(over, headers(1)), 2);
    assert_eq!(allocations(over, headers(6)), 2);
    let once = || {
        let config = RetryConfig::new().max_attempts(1).expect("one is enough");
        RetryLayer::new(config, HttpClassifier::new()).layer(Leaf)
    };
    assert_eq!(allocations(once, headers(6)), 0, "what is made once is not copied");
}

#[test]
fn a_balancer_adds_nothing() {
    let over = || {
        let gates = |_: &Endpoint| Open::new();
        let balance = Balance::new(
            BalanceConfig::new(),
            Fixed::new(ten()),
            |_: &Endpoint| Leaf,
            gates,
            HttpClassifier::new(),
        );
        balance.expect("it is built in a runtime")
    };
    assert_eq!(allocations(over, carried), 0);
    assert_eq!(allocations(over, plain), 0);
}

fn ten() -> impl Iterator<Item = SocketAddr> {
    (1..=10).map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
}

#[cfg(feature = "hyper")]
mod whole {
    use buttress::client::{AttemptBody, Builder, Client};
    use buttress::endpoint::MakeEndpoint;

    use super::*;

    /// Ten endpoints that are never connected to.
    fn builder() -> Builder<impl MakeEndpoint<Service = Looks> + Send + Sync + 'static> {
        Client::builder("http://payments").endpoints(ten()).transport(|_: &Endpoint| Looks)
    }

    /// A leaf that sees to it that the job was done.
    #[derive(Clone, Copy)]
    struct Looks;

    impl Service<Request<AttemptBody>> for Looks {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Answer;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<AttemptBody>) -> Answer {
            if request.uri().path() == "/charges" {
                assert_eq!(request.headers()["idempotency-key"].len(), 38);
                assert_eq!(request.headers()["traceparent"].len(), 55);
            }
            Leaf.call(request)
        }
    }

    fn lookup() -> Request<Body> {
        Request::get("http://payments/rates").body(Body::empty()).expect("it is sound")
    }

    /// The words are in the extensions before the call begins, and leave them at the roof.
    fn traced() -> Request<Body> {
        let mut request = plain();
        request.extensions_mut().insert(Words::new().trace(parent()));
        request
    }

    #[test]
    fn the_stack_adds_nothing_to_a_call_without_headers() {
        let stack = || builder().build_stack().expect("its settings are sound");
        assert_eq!(allocations(stack, lookup), 0);
    }

    #[test]
    fn the_whole_job_adds_its_two_headers_and_one_copy_of_them() {
        let stack = || builder().idempotency_keys().build_stack().expect("its settings are sound");
        // Two values, room for them, and the copy that is kept for another attempt.
        assert_eq!(allocations(stack, traced), 2 * VALUE + FIRST_HEADER + 2);
    }

    #[test]
    fn a_client_adds_a_box_around_the_call() {
        let client = || builder().build().expect("its settings are sound");
        assert_eq!(allocations(client, lookup), 1, "a body in memory needs none");
        let collects = || builder().collect_bodies().build().expect("its settings are sound");
        assert_eq!(allocations(collects, lookup), 1);
        let whole = || builder().idempotency_keys().build().expect("its settings are sound");
        assert_eq!(allocations(whole, traced), 2 * VALUE + FIRST_HEADER + 2 + 1);
    }
}
