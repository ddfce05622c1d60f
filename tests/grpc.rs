//! gRPC through the public interface, under paused time; over real connections at the end.
#![cfg(feature = "hyper")]

mod support;

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    algo::{backoff::Backoff, bucket::Tariff},
    balance::{Balance, BalanceConfig, EndpointStatus},
    body::Body,
    breaker::{Breaker, BreakerConfig, BreakerLayer, State},
    budget::Budget,
    call::{Attempts, Call, Outcome, Words},
    classify::{Blame, Classify, GrpcClassifier, GrpcCode, HttpClassifier, Sent, verdict_on_error},
    endpoint::{Endpoint, Fixed, Open},
    find,
    grpc::{AttemptHeader, AttemptHeaderLayer, BrokenAnswer, Peek, PeekLayer},
    hedge::{HedgeConfig, HedgeLayer},
    retry::{RetryConfig, RetryLayer},
    timeout::{AttemptTimeoutLayer, DeadlineLayer, Elapsed},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use support::{
    company::{MS, now},
    frames::{Frames, Piece, Scripted, answer, fields, message, status, trailers_only},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const UNAVAILABLE: u8 = 14;

type Asked = Call<Request<Body>>;

fn call() -> Asked {
    let request = Request::post("http://rates/rates.Rates/Get").body(Body::full("which?"));
    Call::with_words(request.expect("it is sound"), Words::new().idempotent(true))
}

fn config() -> RetryConfig {
    let backoff = Backoff::new(MS, MS).expect("sound");
    RetryConfig::new().backoff(backoff).entropy(Entropy::seeded(5))
}

fn retry() -> RetryLayer<GrpcClassifier> {
    RetryLayer::new(config(), GrpcClassifier::new())
}

/// What a caller gets: the message, and the status from wherever it came.
async fn ask<S, B>(service: S, call: Asked) -> Result<(Bytes, Option<GrpcCode>), BoxError>
where
    S: Service<Asked, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error = BoxError>,
{
    let (head, body) = service.oneshot(call).await?.into_parts();
    let body = body.collect().await?;
    let code = body.trailers().and_then(GrpcCode::of).or_else(|| GrpcCode::of(&head.headers));
    Ok((body.to_bytes(), code))
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

// --- The verdict of the trailers reaches everybody ---------------------------------------------

/// Five calls to a server that says 200 and fails each in its trailers, through a breaker.
async fn trips<Cl>(classifier: Cl, pieces: &[Piece]) -> bool
where
    Cl: Classify<Response<Frames>> + Clone,
    Cl::Guarded<Option<buttress::breaker::Permit>>: Drained,
{
    let breaker = Breaker::new(BreakerConfig::new());
    let pieces = pieces.to_vec();
    let server = Scripted::new(move |_| answer(pieces.clone()));
    let mut service = BreakerLayer::new(breaker.clone(), classifier).layer(server);
    for _ in 0..5 {
        let service = ServiceExt::<Asked>::ready(&mut service).await.expect("ready");
        service.call(call()).await.expect("a head").drain().await;
    }
    matches!(breaker.state(), State::Open { .. })
}

/// A response that is read to its end.
trait Drained {
    fn drain(self) -> impl Future<Output = ()>;
}

impl<B: http_body::Body> Drained for Response<B> {
    async fn drain(self) {
        let mut body = pin!(self.into_body());
        while let Some(Ok(_)) = body.frame().await {}
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_the_trailers_open_the_breaker() {
    let failing = [message("m"), status(UNAVAILABLE)];
    assert!(trips(GrpcClassifier::new(), &failing).await);
    // Who reads heads alone sees five successes.
    assert!(!trips(HttpClassifier::new(), &failing).await);
    assert!(trips(GrpcClassifier::new(), &[status(UNAVAILABLE)]).await, "without any message");
    assert!(trips(GrpcClassifier::new(), &[message("m")]).await, "without any status");
    assert!(trips(GrpcClassifier::new(), &[message("m"), Piece::Break]).await);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_did_wrong_opens_no_breaker() {
    for code in [0, 3, 5, 6, 7, 9, 10, 11, 12, 16] {
        assert!(!trips(GrpcClassifier::new(), &[message("m"), status(code)]).await, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_its_caller_gives_up_opens_no_breaker() {
    let breaker = Breaker::new(BreakerConfig::new());
    let server = Scripted::new(|_| answer([message("m"), Piece::Stall]));
    let mut service = BreakerLayer::new(breaker.clone(), GrpcClassifier::new()).layer(server);
    for _ in 0..10 {
        let response = service.call(call()).await.expect("a head");
        let mut body = response.into_body();
        assert!(body.frame().await.is_some());
        drop(body);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_past_the_deadline_counts_as_timed_out() {
    let breaker = Breaker::new(BreakerConfig::new());
    let server = Scripted::new(|_| answer([message("m"), Piece::Stall]));
    let mut service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(1)).expect("sound"))
        .layer(BreakerLayer::new(breaker.clone(), GrpcClassifier::new()))
        .service(server);
    for _ in 0..5 {
        let response = service.call(call()).await.expect("a head");
        let error = response.into_body().collect().await.expect_err("it stalls");
        assert!(find::<Elapsed>(&*error).is_some(), "{error}");
    }
    assert!(matches!(breaker.state(), State::Open { .. }));
}

fn status_of(statuses: &[EndpointStatus], port: u16) -> &EndpointStatus {
    statuses.iter().find(|status| status.endpoint.address().port() == port).expect("it is there")
}

#[tokio::test(start_paused = true)]
async fn a_balancer_turns_away_from_who_fails_in_the_trailers() {
    let bad = 1;
    let servers: Vec<Scripted> = (0..2_u16)
        .map(|port| {
            let code = if port == bad { UNAVAILABLE } else { 0 };
            Scripted::new(move |_| answer([message("m"), status(code)]))
        })
        .collect();
    let made = servers.clone();
    let balance = Balance::new(
        BalanceConfig::new().entropy(Entropy::seeded(3)),
        Fixed::new((0..2_u16).map(|port| std::net::SocketAddr::from(([10, 0, 0, 1], port)))),
        move |endpoint: &Endpoint| made[usize::from(endpoint.address().port())].clone(),
        |_: &Endpoint| Open::new(),
        GrpcClassifier::new(),
    )
    .expect("it is built in a runtime");
    for _ in 0..100 {
        let response = balance.clone().oneshot(call()).await.expect("a head");
        let statuses = balance.endpoints();
        let in_flight: u32 = statuses.iter().map(|status| status.in_flight).sum();
        assert_eq!(in_flight, 1, "until the body has been read");
        response.drain().await;
        tokio::time::sleep(MS).await;
    }
    let statuses = balance.endpoints();
    assert!(status_of(&statuses, bad).doubted, "{statuses:?}");
    assert!(!status_of(&statuses, 0).doubted, "{statuses:?}");
    assert!(statuses.iter().all(|status| status.in_flight == 0));
    assert!(servers[usize::from(bad)].attempts() < 10, "{}", servers[1].attempts());
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_funded_by_trailers_that_say_ok() {
    let funded = |code: u8| async move {
        let budget = Budget::new(Tariff::grpc(10, 100).expect("sound terms"));
        assert!(budget.withdraw(buttress::algo::bucket::Class::Transient, now()).is_some());
        let layer = RetryLayer::new(config().budget(budget.clone()), GrpcClassifier::new());
        let server = Scripted::new(move |_| answer([message("m"), status(code)]));
        let response = layer.layer(server).oneshot(call()).await.expect("a head");
        assert_eq!(budget.balance(), 9_000, "the head says nothing");
        response.drain().await;
        budget.balance()
    };
    assert_eq!(funded(0).await, 9_100);
    assert_eq!(funded(UNAVAILABLE).await, 8_000, "committed, and counted all the same");
    assert_eq!(funded(3).await, 9_000);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_fails_in_its_trailers_is_not_refunded() {
    let budget = Budget::default();
    let layer = RetryLayer::new(config().budget(budget.clone()), GrpcClassifier::new());
    let server = Scripted::new(|nth| match nth {
        0 => trailers_only(UNAVAILABLE),
        _ => answer([message("m"), status(UNAVAILABLE)]),
    });
    layer.layer(server).oneshot(call()).await.expect("a head").drain().await;
    assert_eq!(budget.balance(), 486);
}

// --- What a retry sees -------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_answer_of_headers_alone_is_tried_again_if_the_call_is_safe() {
    let server = Scripted::new(|nth| match nth {
        0 => trailers_only(UNAVAILABLE),
        _ => answer([message("m"), status(0)]),
    });
    let response = retry().layer(server.clone()).oneshot(call()).await.expect("an answer");
    let attempts = response.extensions().get::<Attempts>().expect("there were two");
    assert_eq!(attempts[0].outcome, Outcome::Response(Some(14)));
    assert_eq!(attempts[1].outcome, Outcome::Response(Some(200)));
    assert_eq!(attempts[0].verdict.blame, Blame::Service);

    let server = Scripted::new(|_| trailers_only(UNAVAILABLE));
    let mut unsafe_call = call();
    unsafe_call.words = Words::new();
    let (_, code) = ask(retry().layer(server.clone()), unsafe_call).await.expect("an answer");
    assert_eq!((code, server.attempts()), (Some(GrpcCode::Unavailable), 1));
}

#[tokio::test(start_paused = true)]
async fn peeking_lets_a_retry_see_a_failure_behind_a_head() {
    let script = |nth| match nth {
        0 => answer([status(UNAVAILABLE)]),
        _ => answer([message("m"), status(0)]),
    };
    let server = Scripted::new(script);
    let peeking = ServiceBuilder::new().layer(retry()).layer(PeekLayer::new());
    let (body, code) = ask(peeking.service(server.clone()), call()).await.expect("an answer");
    assert_eq!((&*body, code, server.attempts()), (&b"m"[..], Some(GrpcCode::Ok), 2));

    let server = Scripted::new(script);
    let (body, code) = ask(retry().layer(server.clone()), call()).await.expect("an answer");
    assert_eq!((body.len(), code, server.attempts()), (0, Some(GrpcCode::Unavailable), 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_is_never_tried_again() {
    let server = Scripted::new(|_| answer([message("m"), status(UNAVAILABLE)]));
    let service = ServiceBuilder::new().layer(retry()).layer(PeekLayer::new());
    let (body, code) = ask(service.service(server.clone()), call()).await.expect("an answer");
    assert_eq!((&*body, code), (&b"m"[..], Some(GrpcCode::Unavailable)));
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_wishes_in_the_trailers_are_two_in_the_head() {
    let wishes = [
        ("grpc-status", "14"),
        ("grpc-message", "busy"),
        ("grpc-retry-pushback-ms", "10"),
        ("grpc-retry-pushback-ms", "10"),
    ];
    let server = Scripted::new(move |_| answer([Piece::Trailers(fields(wishes))]));
    let service = ServiceBuilder::new().layer(retry()).layer(PeekLayer::new());
    let response = service.service(server.clone()).oneshot(call()).await.expect("a head");
    assert_eq!(server.attempts(), 1, "which of the two?");
    assert!(response.body().is_end_stream());
    let headers = response.headers();
    assert_eq!(headers["grpc-message"], "busy");
    assert_eq!(headers.get_all("grpc-retry-pushback-ms").iter().count(), 2);
    assert_eq!(headers["content-type"], "application/grpc", "the head's own are kept");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_before_its_first_frame_is_tried_again() {
    let server = Scripted::new(|nth| match nth {
        0 => answer([Piece::Break]),
        _ => answer([message("m"), status(0)]),
    });
    let service = ServiceBuilder::new().layer(retry()).layer(PeekLayer::new());
    let (_, code) = ask(service.service(server.clone()), call()).await.expect("an answer");
    assert_eq!((code, server.attempts()), (Some(GrpcCode::Ok), 2));

    let broken = PeekLayer::new().layer(Scripted::new(|_| answer([Piece::Break])));
    let error = ask(broken, call()).await.expect_err("nothing came");
    assert!(find::<BrokenAnswer>(&*error).is_some());
    assert_eq!(verdict_on_error(&*error).sent, Sent::Maybe);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_after_its_head_is_no_success() {
    let server = Scripted::new(|_| answer([Piece::Wait(MS)]));
    let service = ServiceBuilder::new().layer(retry()).layer(PeekLayer::new());
    let response = service.service(server.clone()).oneshot(call()).await.expect("a head");
    assert!(response.body().is_end_stream());
    let asked = Words::new().asked();
    let verdict = GrpcClassifier::new().response(asked, &response);
    assert_eq!((verdict.blame, server.attempts()), (Blame::Endpoint, 1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_did_not_know_its_end_is_known_to_have_ended() {
    type Nothing = Result<http_body::Frame<Bytes>, BoxError>;
    let server = service_fn(async |_: Asked| {
        let body = StreamBody::new(futures_util::stream::empty::<Nothing>());
        Ok::<_, BoxError>(Response::new(Body::new(body)))
    });
    let response = PeekLayer::new().layer(server).oneshot(call()).await.expect("a head");
    assert!(response.body().is_end_stream(), "so that its head says that there is no status");
}

// --- What peeking leaves alone -----------------------------------------------------------------

fn peek(layer: PeekLayer, pieces: &[Piece]) -> Peek<Scripted> {
    let pieces = pieces.to_vec();
    layer.layer(Scripted::new(move |_| answer(pieces.clone())))
}

#[tokio::test(start_paused = true)]
async fn frames_pass_as_they_came() {
    let first = Bytes::from(vec![7; 1000]);
    let pieces = [Piece::Message(first.clone()), message("second"), status(0)];
    let mut service = peek(PeekLayer::new(), &pieces);
    let mut body = service.call(call()).await.expect("a head").into_body();
    let mut next = async || body.frame().await.expect("a frame").expect("it lies in memory");
    let data = next().await.into_data().expect("a message");
    assert_eq!(data.as_ptr(), first.as_ptr(), "put back, not copied");
    assert_eq!(next().await.into_data().expect("a message"), "second");
    assert_eq!(next().await.into_trailers().expect("trailers")["grpc-status"], "0");
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_empty_stream_that_succeeded_keeps_its_trailers() {
    let mut service = peek(PeekLayer::new(), &[status(0)]);
    let response = service.call(call()).await.expect("a head");
    assert_eq!(GrpcCode::of(response.headers()), None);
    assert!(!response.body().is_end_stream());
    let trailers = response.into_body().collect().await.expect("in memory").trailers().cloned();
    assert_eq!(trailers.as_ref().and_then(GrpcCode::of), Some(GrpcCode::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_held_up_for_its_first_frame_alone() {
    let wait = Duration::from_secs(1);
    let pieces = [Piece::Wait(wait), message("first"), Piece::Stall];
    let began = now();
    let mut service = peek(PeekLayer::new(), &pieces);
    let mut body = service.call(call()).await.expect("a head").into_body();
    assert_eq!(now() - began, wait);
    let first = pin!(body.frame());
    assert!(poll(first).is_ready(), "it is there already");
    assert!(poll(pin!(body.frame())).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_bytes_begins_no_message() {
    let mut service = peek(PeekLayer::new(), &[message(""), status(UNAVAILABLE)]);
    let response = service.call(call()).await.expect("a head");
    assert_eq!(GrpcCode::of(response.headers()), Some(GrpcCode::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_meant_to_last_are_waited_for_only_if_asked() {
    let lasting = || {
        let mut lasting = call();
        lasting.words = Words::new().lasting_body(Duration::from_secs(60));
        lasting
    };
    let mut service = peek(PeekLayer::new(), &[Piece::Stall]);
    assert!(poll(pin!(service.call(lasting()))).is_ready());
    assert!(poll(pin!(service.call(call()))).is_pending());
    let mut service = peek(PeekLayer::new().lasting(true), &[Piece::Stall]);
    assert!(poll(pin!(service.call(lasting()))).is_pending());
}

#[tokio::test(start_paused = true)]
async fn patience_is_how_long_a_head_is_held_up() {
    let second = Duration::from_secs(1);
    let late = [Piece::Wait(second * 2), message("late"), status(0)];
    let began = now();
    let mut service = peek(PeekLayer::new().patience(second), &late);
    let response = service.call(call()).await.expect("a head");
    assert_eq!(now() - began, second);
    let body = response.into_body().collect().await.expect("nothing was lost");
    assert_eq!(body.to_bytes(), "late");
    assert_eq!(now() - began, second * 2);

    // None at all: what has come with the head is looked at.
    let mut service = peek(PeekLayer::new().patience(Duration::ZERO), &[status(UNAVAILABLE)]);
    let response = service.call(call()).await.expect("a head");
    assert_eq!(GrpcCode::of(response.headers()), Some(GrpcCode::Unavailable));
    let mut service = peek(PeekLayer::new().patience(Duration::ZERO), &[Piece::Stall]);
    let began = now();
    service.call(call()).await.expect("a head");
    assert!(now() - began <= MS, "a timer's tick");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_timeout_above_bounds_the_wait_and_the_next_attempt_follows() {
    let server = Scripted::new(|nth| match nth {
        0 => answer([Piece::Stall]),
        _ => answer([message("m"), status(0)]),
    });
    let limit = Duration::from_secs(1);
    let service = ServiceBuilder::new()
        .layer(retry())
        .layer(AttemptTimeoutLayer::new(limit).expect("sound"))
        .layer(PeekLayer::new())
        .service(server.clone());
    let began = now();
    let (_, code) = ask(service, call()).await.expect("an answer");
    assert_eq!((code, server.attempts()), (Some(GrpcCode::Ok), 2));
    assert!(now() - began >= limit);
}

// --- The attempts before -----------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn each_attempt_says_how_many_came_before() {
    let counted = async |layer: AttemptHeaderLayer, name: &str| {
        let server = Scripted::new(|_| trailers_only(UNAVAILABLE));
        let config = config().max_attempts(4).expect("some");
        let service = ServiceBuilder::new()
            .layer(RetryLayer::new(config, GrpcClassifier::new()))
            .layer(layer)
            .service(server.clone());
        ask(service, call()).await.expect("an answer");
        let of =
            |headers: &HeaderMap| headers.get(name).map(|n| n.to_str().expect("digits").into());
        server.seen().iter().map(|seen| of(&seen.headers)).collect::<Vec<Option<String>>>()
    };
    let some = |n: &str| Some(n.to_owned());
    let grpc = counted(AttemptHeaderLayer::grpc(), "grpc-previous-rpc-attempts").await;
    assert_eq!(grpc, [None, some("1"), some("2"), some("3")]);
    let http = counted(AttemptHeaderLayer::default(), "request-previous-attempts").await;
    assert_eq!(http, grpc);
    let envoy = AttemptHeader::number("x-envoy-attempt-count").expect("a name");
    let envoy = counted(AttemptHeaderLayer::new(envoy), "x-envoy-attempt-count").await;
    assert_eq!(envoy, [some("1"), some("2"), some("3"), some("4")]);
    let off = counted(AttemptHeaderLayer::optional(None), "grpc-previous-rpc-attempts").await;
    assert_eq!(off, [None, None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_says_that_another_was_made_before() {
    let server = Scripted::with(|nth| match nth {
        0 => None,
        _ => Some(Ok(answer([message("m"), status(0)]))),
    });
    let config = HedgeConfig::after(MS * 20).expect("sound");
    let service = ServiceBuilder::new()
        .layer(HedgeLayer::new(config, GrpcClassifier::new()))
        .layer(AttemptHeaderLayer::grpc())
        .service(server.clone());
    ask(service, call()).await.expect("the hedge wins");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].headers["grpc-previous-rpc-attempts"], "1");
}

// --- Over real connections ---------------------------------------------------------------------

mod wire {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use buttress::{
        endpoint::MakeEndpoint,
        transport::{HyperTransport, TransportConfig},
    };
    use http_body_util::{BodyExt, Full};
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    /// A server of gRPC over HTTP/2, which answers its nth request as `answer` says.
    async fn serve(
        answer: fn(usize) -> Response<Frames>,
    ) -> (std::net::SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let nth = counter.fetch_add(1, Ordering::SeqCst);
                        async move {
                            // As a server does that reads its request before it answers.
                            request.into_body().collect().await.map(|_| answer(nth))
                        }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // A client that goes away is no failure of the server.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (address, asked, tasks)
    }

    async fn ask_over(answer: fn(usize) -> Response<Frames>) -> (Bytes, Option<GrpcCode>, usize) {
        let (address, asked, _server) = serve(answer).await;
        let transport = HyperTransport::new(TransportConfig::http2());
        let transport = transport.make(&Endpoint::from(address));
        let service = ServiceBuilder::new()
            .layer(retry())
            .layer(PeekLayer::new())
            .layer(AttemptHeaderLayer::grpc())
            .layer(buttress::call::UncarryLayer::new())
            .service(transport);
        let request = Request::post(format!("http://{address}/rates.Rates/Get"));
        let request = request.body(Full::<Bytes>::from("which?")).expect("it is sound");
        let call = Call::with_words(request, Words::new().idempotent(true));
        let (head, body) = service.oneshot(call).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("it does not break off");
        let code = body.trailers().and_then(GrpcCode::of).or_else(|| GrpcCode::of(&head.headers));
        (body.to_bytes(), code, asked.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn failures_are_tried_again_whether_they_come_in_one_head_or_behind_it() {
        let (body, code, asked) = ask_over(|nth| match nth {
            0 => trailers_only(UNAVAILABLE),
            1 => answer([Piece::Wait(MS * 20), status(UNAVAILABLE)]),
            _ => answer([message("m"), status(0)]),
        })
        .await;
        assert_eq!((&*body, code, asked), (&b"m"[..], Some(GrpcCode::Ok), 3));
    }

    #[tokio::test]
    async fn an_answer_that_has_begun_is_the_callers() {
        let (body, code, asked) = ask_over(|_| answer([message("m"), status(UNAVAILABLE)])).await;
        assert_eq!((&*body, code, asked), (&b"m"[..], Some(GrpcCode::Unavailable), 1));
    }
}
