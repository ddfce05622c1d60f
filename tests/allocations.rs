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
    balance::{
        AffinityLayer, Aperture, Balance, BalanceConfig, Maglev, PeakEwma, Policy, Priorities,
        Probed, Probing, ProbingConfig, RingHash, Weighted, Zones,
    },
    body::Body,
    breaker::{BreakerConfig, BreakerLayer},
    call::{Call, CarryLayer, TraceParent, UncarryLayer, Words},
    chaos::{Chaos, ChaosLayer, Fault},
    classify::{GrpcClassifier, HttpClassifier},
    collect::CollectLayer,
    endpoint::{Endpoint, Fixed, Open},
    fallback::{
        FallbackConfig, FallbackLayer, Fixed as FixedAnswer, Stale, StaleConfig, StandInConfig,
        StandInLayer, Unavailable, by_uri,
    },
    grpc::{AttemptHeaderLayer, PeekLayer},
    hedge::{Hedge, HedgeConfig, HedgeLayer},
    idempotency::{IdempotencyLayer, server::HonourLayer},
    limit::{AdaptiveConfig, LimitConfig, LimitLayer},
    reconcile::{self, ByKey, ReconcileConfig, ReconcileLayer},
    refresh::{Bearer, RefreshConfig, RefreshLayer},
    retry::{RetryConfig, RetryLayer},
    throttle::{ThrottleConfig, ThrottleLayer},
    timeout::{
        AttemptTimeoutLayer, DEFAULT_DEADLINE_HEADER, DeadlineHeader, DeadlineHeaderLayer,
        DeadlineLayer, IncomingDeadlineConfig, IncomingDeadlineLayer,
    },
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
fn judging_by_trailers_adds_nothing() {
    let breaker = || BreakerLayer::new(BreakerConfig::new(), GrpcClassifier::new());
    assert_eq!(added(breaker), (0, 0));
}

#[test]
fn peeking_at_the_first_frame_adds_nothing() {
    assert_eq!(added(PeekLayer::new), (0, 0));
    let patient = || PeekLayer::new().patience(Duration::from_secs(1));
    assert_eq!(added(patient), (0, 0));
}

#[test]
fn counting_attempts_adds_room_for_a_header_where_there_is_something_to_count() {
    let over = || AttemptHeaderLayer::grpc().layer(Leaf);
    assert_eq!(allocations(over, carried), 0);
    let attempt = |number| {
        move || {
            let mut call = carried();
            call.words.attempt = number;
            call
        }
    };
    assert_eq!(allocations(over, attempt(1)), 0);
    assert_eq!(allocations(over, attempt(2)), FIRST_HEADER, "the digit is not allocated");
    let off = || AttemptHeaderLayer::optional(None);
    assert_eq!(added(off), (0, 0));
}

#[test]
fn a_breaker_that_minds_slow_calls_adds_nothing() {
    let config = || BreakerConfig::new().slow_calls(Duration::from_secs(1), 50).expect("sound");
    let breaker = || BreakerLayer::new(config(), HttpClassifier::new());
    assert_eq!(added(breaker), (0, 0));
}

#[test]
fn a_limit_adds_nothing_to_a_call_that_is_let_in_at_once() {
    let fixed = || LimitConfig::fixed(1).expect("more than none");
    assert_eq!(added(|| LimitLayer::new(fixed(), HttpClassifier::new())), (0, 0));
    let adaptive = || LimitConfig::adaptive(AdaptiveConfig::new());
    assert_eq!(added(|| LimitLayer::new(adaptive(), HttpClassifier::new())), (0, 0));
}

#[test]
fn chaos_adds_nothing_where_no_fault_is_set_or_none_strikes() {
    let chaos = Chaos::seeded(7);
    let over = |chaos: &Chaos| ChaosLayer::new(chaos.clone()).layer(Leaf);
    assert_eq!(allocations(|| over(&chaos), plain), 0);
    chaos.set([Fault::hang().path("/nowhere"), Fault::hang().share(0.0).expect("a share")]);
    assert_eq!(allocations(|| over(&chaos), plain), 0);
}

#[test]
fn a_throttle_adds_nothing() {
    let throttle = || ThrottleLayer::new(ThrottleConfig::new(), HttpClassifier::new());
    assert_eq!(added(throttle), (0, 0));
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
fn a_servers_deadline_adds_the_words_and_nothing_where_there_is_none() {
    let over = || IncomingDeadlineLayer::default().layer(Leaf);
    assert_eq!(allocations(over, plain), 0);
    let limited = || {
        let mut request = plain();
        request.headers_mut().insert(DEFAULT_DEADLINE_HEADER, HeaderValue::from_static("250"));
        request
    };
    assert_eq!(allocations(over, limited), WORDS);
    // The handle, and its place in the extensions.
    let let_run = || {
        let config = IncomingDeadlineConfig::new().let_run(true);
        IncomingDeadlineLayer::new(config).layer(Leaf)
    };
    assert_eq!(allocations(let_run, limited), WORDS + 2);
}

#[test]
fn a_credential_adds_its_header_and_the_copy_of_the_request() {
    let over = || {
        let tokens = Bearer::new(async || Ok::<_, BoxError>("t1"));
        let tokens = tokens.token("t0").expect("it is sound");
        RefreshLayer::new(RefreshConfig::new(), tokens).layer(Leaf)
    };
    assert_eq!(allocations(over, carried), FIRST_HEADER);
    let with_headers = || {
        let mut call = carried();
        call.request.headers_mut().insert("accept", HeaderValue::from_static("*/*"));
        call.request.headers_mut().insert("user-agent", HeaderValue::from_static("a"));
        call
    };
    // The list of the headers that is kept; the credential's value is shared by all calls.
    assert_eq!(allocations(over, with_headers), 1);
}

#[test]
fn what_could_be_looked_up_adds_nothing() {
    let reconcile = || {
        let lookup = ByKey::new(async |_: HeaderValue, _| {
            Ok::<_, BoxError>(reconcile::Answer::<Response<Body>>::NotCarriedOut)
        });
        ReconcileLayer::new(ReconcileConfig::new(), lookup, HttpClassifier::new())
    };
    assert_eq!(added(reconcile), (0, 0));
    let keyed = || {
        let mut request = plain();
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("\"k-1\""));
        request
    };
    assert_eq!(allocations(|| reconcile().layer(Leaf), keyed), 0);
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
    // The copy of the headers, however many they are: a list, but for one alone.
    assert_eq!(allocations(over, headers(1)), 0);
    assert_eq!(allocations(over, headers(2)), 1);
    assert_eq!(allocations(over, headers(6)), 1);
    let once = || {
        let config = RetryConfig::new().max_attempts(1).expect("one is enough").transparent(false);
        RetryLayer::new(config, HttpClassifier::new()).layer(Leaf)
    };
    assert_eq!(allocations(once, headers(6)), 0, "what is made once is not copied");
}

/// Of `config`, around a leaf that answers at its second poll.
fn hedging(config: HedgeConfig) -> impl Fn() -> Hedge<Leaf, HttpClassifier> {
    move || HedgeLayer::new(config.clone(), HttpClassifier::new()).layer(Leaf)
}

#[test]
fn a_hedge_that_is_not_needed_adds_the_copy_of_the_request() {
    let after = || HedgeConfig::after(Duration::from_secs(1)).expect("no zero");
    let over = hedging(after());
    assert_eq!(allocations(&over, carried), 0, "a POST, which may not be repeated");
    assert_eq!(allocations(&over, plain), 0);
    let read = |count: usize| {
        move || {
            let mut call = Call::new(Request::get("/").body(Body::from("q")).expect("sound"));
            for name in ["accept", "user-agent"].into_iter().take(count) {
                let name = HeaderName::from_static(name);
                call.request.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            call
        }
    };
    assert_eq!(allocations(&over, read(0)), 0, "no header, and a body in memory");
    assert_eq!(allocations(&over, read(2)), 1, "a list of its headers");
    // As long as the latencies are not known nothing is copied, only recorded.
    let over = hedging(HedgeConfig::new());
    assert_eq!(allocations(&over, read(2)), 0);
    assert_eq!(allocations(&over, || read(2)().request), 0);
}

#[test]
fn a_fallback_adds_the_copy_of_the_request() {
    let over = || {
        let config = FallbackConfig::named("eu");
        FallbackLayer::new(config, Unavailable::new(), Leaf, HttpClassifier::new()).layer(Leaf)
    };
    assert_eq!(allocations(over, carried), 0, "no header, and a body in memory");
    assert_eq!(allocations(over, plain), 0);
    let with_headers = || {
        let mut call = carried();
        call.request.headers_mut().insert("accept", HeaderValue::from_static("*/*"));
        call.request.headers_mut().insert("user-agent", HeaderValue::from_static("a"));
        call
    };
    assert_eq!(allocations(over, with_headers), 1, "a list of headers");
}

#[test]
fn a_fixed_answer_adds_nothing() {
    let fixed = || {
        let answer = FixedAnswer::new(|| Response::new(Body::empty()));
        let config = StandInConfig::named("fixed");
        StandInLayer::new(config, Unavailable::new(), answer, HttpClassifier::new())
    };
    assert_eq!(added(fixed), (0, 0));
}

#[test]
fn to_remember_an_answer_adds_nothing_once_its_question_is_known() {
    let over = || {
        let stale = Stale::new(StaleConfig::new(), by_uri);
        let config = StandInConfig::named("stale");
        StandInLayer::new(config, Unavailable::new(), stale, HttpClassifier::new()).layer(Leaf)
    };
    let get = || {
        let mut call = carried();
        *call.request.method_mut() = http::Method::GET;
        call
    };
    assert_eq!(allocations(over, carried), 0, "the URI of a POST is shared");
    assert_eq!(allocations(over, get), 0, "an answer without headers, and a body in memory");
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

/// Whatever the policy, and however it is made of others.
#[test]
fn no_policy_adds_anything_to_a_pick() {
    fn over(policy: impl Policy + 'static, request: impl Fn() -> Call<Request<Body>>) -> u64 {
        let make = || {
            let zone = |address: SocketAddr| {
                let near = ["near", "far"][usize::from(address.port() % 2)];
                Endpoint::from(address).with_zone(near).with_weight(address.port().into())
            };
            let gates = |_: &Endpoint| Open::new();
            let (config, fixed) =
                (BalanceConfig::new().policy(policy), Fixed::new(ten().map(zone)));
            let balance =
                Balance::new(config, fixed, |_: &Endpoint| Leaf, gates, HttpClassifier::new());
            balance.expect("it is built in a runtime")
        };
        allocations(make, request)
    }
    let keyed = || {
        let mut call = carried();
        call.words = Words::new().affinity("user-17");
        call
    };
    let peers = std::num::NonZeroU32::new(3).expect("3 is not 0");
    let aperture = Aperture::new(1, peers, PeakEwma::new()).and_then(|it| it.least(3));
    assert_eq!(over(aperture.expect("they can be"), carried), 0);
    let near = || Zones::new("near", Weighted::new());
    assert_eq!(over(Priorities::new(near()), carried), 0);
    assert_eq!(over(Weighted::new(), carried), 0);
    assert_eq!(over(RingHash::new(), keyed), 0);
    assert_eq!(over(Maglev::new(), keyed), 0);
    assert_eq!(over(Maglev::new(), carried), 0);
    // A call wakes the task that sends the probes, and no more; here that never runs again. The age
    // is for a machine that takes its time.
    let lasting = ProbingConfig::new().age(Duration::from_secs(60)).expect("it is above zero");
    let said = |_: &Endpoint| std::future::ready(Ok::<_, BoxError>(Probed::new(1.0)));
    let probing = Probing::new(said, lasting);
    assert_eq!(over(probing.clone(), carried), 0);
    let told = probing.snapshot();
    assert!(told.picks > 1 && told.without_answers == 0, "{told:?}");
}

#[test]
fn an_affinity_adds_nothing_to_a_call_that_holds_its_words() {
    let header = || AffinityLayer::header(HeaderName::from_static("x-user-id"));
    let of_user = || {
        let mut call = carried();
        let user = http::HeaderValue::from_static("17");
        call.request.headers_mut().insert("x-user-id", user);
        call
    };
    let over = || header().layer(Leaf);
    assert_eq!(allocations(over, of_user), 0);
    assert_eq!(added(header), (0, 0));
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

    /// The box in which a call goes down the stack.
    const PARCEL: u64 = 1;

    #[test]
    fn the_stack_adds_its_box_to_a_call_without_headers() {
        let stack = || builder().build_stack().expect("its settings are sound");
        assert_eq!(allocations(stack, lookup), PARCEL);
    }

    #[test]
    fn the_whole_job_adds_its_two_headers() {
        let stack = || builder().idempotency_keys().build_stack().expect("its settings are sound");
        // Two values and room for them; the key is kept in place for another attempt.
        assert_eq!(allocations(stack, traced), PARCEL + 2 * VALUE + FIRST_HEADER);
    }

    #[test]
    fn a_client_adds_a_box_around_the_call() {
        let client = || builder().build().expect("its settings are sound");
        assert_eq!(allocations(client, lookup), PARCEL + 1, "a body in memory needs none");
        let collects = || builder().collect_bodies().build().expect("its settings are sound");
        assert_eq!(allocations(collects, lookup), PARCEL + 1);
        let whole = || builder().idempotency_keys().build().expect("its settings are sound");
        assert_eq!(allocations(whole, traced), PARCEL + 2 * VALUE + FIRST_HEADER + 1);
    }

    #[test]
    fn a_client_of_grpc_adds_its_header_and_the_boxes_of_a_body_that_is_not_whole() {
        let client = || {
            let builder = builder().classifier(GrpcClassifier::new());
            builder.build().expect("its settings are sound")
        };
        // What was looked at is put in front of the rest, and the deadline around both.
        assert_eq!(allocations(client, lookup), PARCEL + 1 + FIRST_HEADER + VALUE + 2);
    }
}
