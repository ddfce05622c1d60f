//! The transport against real servers, on loopback sockets.

#![cfg(feature = "hyper")]

use std::{
    collections::HashSet,
    convert::Infallible,
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Event, Observer,
    call::{Stage, Trail},
    classify::{Blame, Retry, Sent, Verdict, verdict_on_error},
    collect::CollectLayer,
    endpoint::{Endpoint, MakeEndpoint},
    find,
    timeout::{AttemptTimeoutLayer, DeadlineLayer, Elapsed, Which},
    transport::{
        ConnectTimeout, HyperTransport, InvalidTarget, NotHandedOver, ResponseFuture, Transport,
        TransportBody, TransportConfig,
    },
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, Version, header::HOST};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, watch},
    task::yield_now,
    time::timeout,
};
use tower::{Layer, Service, ServiceExt};

const UNREACHED: Verdict = Verdict::new(Blame::Endpoint, Sent::No, Retry::Always);
const UNPROCESSED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent);
const UNTRIED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);
const AMBIGUOUS: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);
const IMPOSSIBLE: Verdict = Verdict::new(Blame::Client, Sent::No, Retry::Never);

/// Long enough for everything that happens at all, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A timeout that a test means to hit.
const SHORT: Duration = Duration::from_millis(300);

type Answer = Response<BoxBody<Bytes, Infallible>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

const BOTH: [Http; 2] = [Http::One, Http::Two];

impl Http {
    fn config(self) -> TransportConfig {
        match self {
            Self::One => TransportConfig::http1(),
            Self::Two => TransportConfig::http2(),
        }
    }
}

/// Something that listens, and counts the connections that it took.
struct Listening {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Listening {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn transport(&self, config: TransportConfig) -> Transport<Full<Bytes>> {
        HyperTransport::new(config).make(&Endpoint::from(self.address))
    }
}

/// Runs `serve` for every connection.
async fn listen<F, Fut>(serve: F) -> Listening
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    Listening { address, connections }
}

/// A hyper server.
async fn serve<F, Fut>(http: Http, answer: F) -> Listening
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    listen(move |stream| {
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let io = TokioIo::new(stream);
        async move {
            // Its error is the client's business.
            let _ = match http {
                Http::One => {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                }
                Http::Two => {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await
                }
            };
        }
    })
    .await
}

/// A proxy that stops to move bytes on the connections that it has when told, and keeps them.
struct Proxy {
    listening: Listening,
    blackhole: watch::Sender<()>,
}

impl Proxy {
    async fn to(upstream: &Listening) -> Self {
        let (blackhole, silence) = watch::channel(());
        let address = upstream.address;
        let listening = listen(move |mut stream| {
            let mut silence = silence.clone();
            silence.mark_unchanged();
            async move {
                let mut upstream = TcpStream::connect(address).await.expect("upstream");
                tokio::select! {
                    _ = copy_bidirectional(&mut stream, &mut upstream) => {}
                    _ = silence.changed() => pending().await,
                }
            }
        })
        .await;
        Self { listening, blackhole }
    }

    fn blackhole(&self) {
        self.blackhole.send_replace(());
    }
}

fn full(text: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(text.into()).boxed())
}

/// A head with one piece of a body, and then silence.
fn stalling() -> Answer {
    let mut piece = Some(Ok(Frame::data(Bytes::from("half "))));
    let frames = StreamBody::new(stream::poll_fn(move |_| match piece.take() {
        Some(piece) => Poll::Ready(Some(piece)),
        None => Poll::Pending,
    }));
    Response::new(BoxBody::new(frames))
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://payments{path}")).body(Full::default()).expect("a request")
}

async fn call<S>(service: &mut S, request: Request<Full<Bytes>>) -> Result<S::Response, BoxError>
where
    S: Service<Request<Full<Bytes>>, Error = BoxError>,
{
    let response = async { service.ready().await?.call(request).await };
    timeout(PATIENCE, response).await.expect("within the test's patience")
}

async fn text<S>(service: &mut S, request: Request<Full<Bytes>>) -> Result<String, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<TransportBody>, Error = BoxError>,
{
    let bytes = call(service, request).await?.into_body().collect().await?.to_bytes();
    // Let the connection's task see the end, so that the connection is in the pool again.
    settle().await;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lets all other tasks run as far as they come by themselves.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

fn begin(transport: &mut Transport<Full<Bytes>>, request: Request<Full<Bytes>>) -> ResponseFuture {
    transport.call(request)
}

/// Reads one HTTP/1.1 request's head.
async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
}

/// A server that takes a request and then does what it likes with the connection.
async fn after_head<F>(end: F) -> Listening
where
    F: Fn(TcpStream) + Clone + Send + 'static,
{
    listen(move |mut stream| {
        let end = end.clone();
        async move {
            read_head(&mut stream).await;
            end(stream);
        }
    })
    .await
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(&(payload.len() as u32).to_be_bytes()[1..]);
    frame.extend([kind, 0]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A server that answers the first request by these bytes, and then waits.
async fn h2_answering(answer: Vec<u8>) -> Listening {
    listen(move |mut stream| {
        let answer = answer.clone();
        async move {
            stream.write_all(&frame(SETTINGS, 0, &[])).await.expect("the client is there");
            stream.read_exact(&mut [0; 24]).await.expect("a preface");
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.expect("a frame");
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                stream.read_exact(&mut vec![0; length as usize]).await.expect("its payload");
                if head[3] == HEADERS {
                    break;
                }
            }
            stream.write_all(&answer).await.expect("the client is there");
            pending().await
        }
    })
    .await
}

/// An address that takes no more connections: its backlog is full, and nobody accepts.
fn unaccepting() -> (SocketAddr, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).expect("loopback");
    listener.listen(1).expect("it is bound");
    let address = listener.local_addr().ok().and_then(|at| at.as_socket()).expect("bound");
    let mut sockets = vec![listener];
    // A backlog of 1 holds two; the loop goes on until one hangs, to count on no number.
    for _ in 0..16 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let full = filler.connect_timeout(&address.into(), SHORT).is_err();
        sockets.push(filler);
        if full {
            return (address, sockets);
        }
    }
    panic!("the backlog never filled");
}

#[tokio::test]
async fn uses_a_connection_again() {
    for http in BOTH {
        let server = serve(http, async |_| full("hello")).await;
        let mut transport = server.transport(http.config());
        for _ in 0..3 {
            assert_eq!(text(&mut transport, get("/")).await.expect("an answer"), "hello");
        }
        assert_eq!(server.connections(), 1, "{http:?}");
    }
}

#[tokio::test]
async fn with_no_idle_connections_none_is_used_again() {
    let server = serve(Http::One, async |_| full("hello")).await;
    let mut transport = server.transport(TransportConfig::http1().max_idle(0));
    for _ in 0..3 {
        text(&mut transport, get("/")).await.expect("an answer");
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn says_the_services_name_to_the_endpoints_address() {
    async fn describe(request: Request<Incoming>) -> Answer {
        let host = request.headers().get(HOST).map(|host| host.to_str().expect("text").to_owned());
        full(format!("{:?} {} {host:?}", request.version(), request.uri()))
    }
    for (http, expected) in [
        (Http::One, r#"HTTP/1.1 /charges?n=7 Some("payments:8080")"#),
        (Http::Two, "HTTP/2.0 http://payments:8080/charges?n=7 None"),
    ] {
        let server = serve(http, describe).await;
        let mut transport = server.transport(http.config());
        for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_10] {
            let mut request = get(":8080/charges?n=7");
            *request.version_mut() = version;
            assert_eq!(text(&mut transport, request).await.expect("an answer"), expected);
        }
    }
    // An address in the URI is a name like any other.
    let server = serve(Http::One, describe).await;
    let mut transport = server.transport(TransportConfig::http1());
    let request = Request::get("http://127.0.0.1:1/").body(Full::default()).expect("a request");
    let answer = text(&mut transport, request).await.expect("it is not dialled");
    assert_eq!(answer, r#"HTTP/1.1 / Some("127.0.0.1:1")"#);
}

#[tokio::test]
async fn refuses_a_target_without_a_name() {
    let server = serve(Http::One, async |_| full("hello")).await;
    let mut transport = server.transport(TransportConfig::http1());
    for target in ["/charges", "https://payments/charges"] {
        let request = Request::get(target).body(Full::default()).expect("a request");
        let error = call(&mut transport, request).await.expect_err(target);
        assert!(find::<InvalidTarget>(&*error).is_some());
        assert_eq!(verdict_on_error(&*error), IMPOSSIBLE);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    // Taken and not listened on, so that no other test gets the port.
    let held = TcpSocket::new_v4().expect("a socket");
    held.bind(([127, 0, 0, 1], 0).into()).expect("loopback");
    let endpoint = Endpoint::from(held.local_addr().expect("bound"));
    for http in BOTH {
        let mut transport = Transport::new(&endpoint, &http.config());
        let error = call(&mut transport, get("/")).await.expect_err("nobody listens");
        assert_eq!(verdict_on_error(&*error), UNREACHED, "{http:?}");
        let io = find::<std::io::Error>(&*error).expect("the cause");
        assert_eq!(io.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn connecting_has_a_timeout_of_its_own() {
    let (address, _full) = unaccepting();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        if let Event::ConnectTimedOut { address, limit, .. } = event {
            ear.lock().expect("no panic").push((*address, *limit));
        }
    });
    let config = TransportConfig::http1().connect_timeout(SHORT).expect("valid").observer(observer);
    let mut transport = Transport::new(&Endpoint::from(address), &config);
    let begun = Instant::now();
    let error = call(&mut transport, get("/")).await.expect_err("nobody accepts");
    assert!(begun.elapsed() >= SHORT);
    let timeout = find::<ConnectTimeout>(&*error).expect("the cause");
    assert_eq!((timeout.address(), timeout.limit()), (address, SHORT));
    assert!(find::<hyper_util::client::legacy::Error>(&*error).is_some());
    assert_eq!(verdict_on_error(&*error), UNREACHED);
    assert_eq!(*heard.lock().expect("no panic"), [(address, SHORT)]);
}

#[tokio::test]
async fn a_reset_connection_leaves_it_open_whether_it_happened() {
    let server = after_head(|stream| {
        let linger = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        linger.expect("the drop of this stream resets it");
    })
    .await;
    let mut transport = server.transport(TransportConfig::http1());
    let error = call(&mut transport, get("/")).await.expect_err("reset");
    assert_eq!(verdict_on_error(&*error), AMBIGUOUS, "{error:?}");
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_leaves_it_open_whether_it_happened() {
    let server = after_head(drop).await;
    let mut transport = server.transport(TransportConfig::http1());
    let error = call(&mut transport, get("/")).await.expect_err("closed");
    assert_eq!(verdict_on_error(&*error), AMBIGUOUS, "{error:?}");
}

#[tokio::test]
async fn a_stream_that_http2_refused_was_not_processed() {
    const REFUSED_STREAM: u32 = 7;
    let server = h2_answering(frame(RST_STREAM, 1, &REFUSED_STREAM.to_be_bytes())).await;
    let mut transport = server.transport(TransportConfig::http2());
    let error = call(&mut transport, get("/")).await.expect_err("refused");
    assert_eq!(verdict_on_error(&*error), UNPROCESSED, "{error:?}");
}

#[tokio::test]
async fn a_stream_above_the_last_id_of_a_goaway_was_not_processed() {
    // The last id and the reason are both zero: no stream, no error.
    let server = h2_answering(frame(GOAWAY, 0, &[0; 8])).await;
    let mut transport = server.transport(TransportConfig::http2());
    let error = call(&mut transport, get("/")).await.expect_err("gone away");
    assert_eq!(verdict_on_error(&*error), UNPROCESSED, "{error:?}");
}

#[tokio::test]
async fn a_request_whose_own_body_fails_may_have_happened() {
    let server = after_head(|mut stream| {
        tokio::spawn(async move { while stream.read_u8().await.is_ok() {} });
    })
    .await;
    let make = HyperTransport::new(TransportConfig::http1());
    let mut transport = make.make(&Endpoint::from(server.address));
    let pieces = [Ok(Frame::data(Bytes::from("half "))), Err("the source dried up")];
    let body = StreamBody::new(stream::iter(pieces));
    let request = Request::post("http://payments/").body(body).expect("a request");
    let response = transport.call(request);
    let error = timeout(PATIENCE, response).await.expect("in time").expect_err("no whole body");
    let verdict = verdict_on_error(&*error);
    assert_eq!((verdict.blame, verdict.retry), (Blame::Client, Retry::Never), "{error:?}");
    assert_eq!(verdict.sent, Sent::Maybe, "the service had its head");
}

/// Drives `future` on a trail until `until` is told, and says how the trail looks then.
async fn trail_until<F: Future>(future: F, until: &Notify) -> Trail
where
    F::Output: std::fmt::Debug,
{
    let mut trail = Trail::new();
    let mut future = pin!(future);
    let mut until = pin!(until.notified());
    let driven = poll_fn(|cx| {
        // The reader of the trail looks before the attempt gets another poll.
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Poll::Ready(result) = trail.enter(|| future.as_mut().poll(cx)) {
            panic!("no answer was to come: {result:?}");
        }
        Poll::Pending
    });
    timeout(PATIENCE, driven).await.expect("in time");
    trail
}

#[tokio::test]
async fn given_up_before_the_connection_nothing_was_sent() {
    let (address, _full) = unaccepting();
    for http in BOTH {
        let config = http.config().connect_timeout(PATIENCE).expect("valid");
        let transport = Transport::new(&Endpoint::from(address), &config);
        let mut attempt = AttemptTimeoutLayer::new(SHORT).expect("valid").layer(transport);
        let error = call(&mut attempt, get("/")).await.expect_err("nobody accepts");
        let elapsed = find::<Elapsed>(&*error).expect("the attempt's timeout");
        assert_eq!((elapsed.which(), elapsed.sent()), (Which::Attempt, Sent::No), "{http:?}");
    }
}

#[tokio::test]
async fn the_hand_over_is_marked_before_the_service_can_know_of_the_request() {
    for http in BOTH {
        let arrived = Arc::new(Notify::new());
        let bell = Arc::clone(&arrived);
        let server = serve(http, move |request| {
            let bell = Arc::clone(&bell);
            async move {
                if request.uri().path() == "/quick" {
                    return full("hello");
                }
                bell.notify_one();
                pending().await
            }
        })
        .await;
        let mut transport = server.transport(http.config());
        // By a connection of its own, and by one from the pool.
        for quick in [false, true] {
            if quick {
                text(&mut transport, get("/quick")).await.expect("an answer");
            }
            let trail = trail_until(begin(&mut transport, get("/")), &arrived).await;
            assert_eq!(trail.stage(), Stage::HandedOver, "{http:?}");
            assert_eq!(trail.sent(), Sent::Maybe);
            settle().await;
        }
    }
}

/// Gives up calls at every stage, on threads that race with those of the connections and the
/// servers, and compares what the trails said with what the servers saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_given_up_as_unsent_never_arrives() {
    const CALLS: usize = 600;
    for http in BOTH {
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let log = Arc::clone(&seen);
        let server = serve(http, move |request| {
            log.lock().expect("no panic").insert(request.uri().path().to_owned());
            async { full("hello") }
        })
        .await;
        let transport = server.transport(http.config().max_idle(1));
        // The first cannot be sent by its first poll: there is no connection yet. On a runtime of
        // its own, since another thread of this one might make the connection while it is polled.
        let mut first = server.transport(http.config());
        let given_up = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let mut first = Box::pin(begin(&mut first, get("/first")));
                let mut trail = Trail::new();
                let polled = poll_fn(|cx| Poll::Ready(trail.enter(|| first.as_mut().poll(cx))));
                let polled = polled.await.is_pending();
                drop(first);
                // What goes on without it has its time.
                tokio::time::sleep(SHORT).await;
                (polled, trail.sent())
            })
        });
        assert_eq!(given_up.await.expect("no panic"), (true, Sent::No), "{http:?}");
        let calls = (0..CALLS).map(|n| {
            let response = begin(&mut transport.clone(), get(&format!("/{n}")));
            tokio::spawn(async move {
                let (mut response, mut polls, mut trail) = (Box::pin(response), 0, Trail::new());
                let answered = poll_fn(|cx| {
                    polls += 1;
                    match trail.enter(|| response.as_mut().poll(cx)) {
                        Poll::Ready(_) => Poll::Ready(true),
                        Poll::Pending if polls > n % 4 => Poll::Ready(false),
                        Poll::Pending => Poll::Pending,
                    }
                });
                let answered = answered.await;
                // Not dropped at once, as a slow thread would: what only a poll can send must
                // not be sent now.
                tokio::time::sleep(SHORT / 4).await;
                drop(response);
                (n, answered, trail.sent())
            })
        });
        let ends = timeout(PATIENCE, futures_util::future::join_all(calls)).await.expect("in time");
        // Whatever is still on its way arrives within this.
        tokio::time::sleep(SHORT).await;
        let seen = seen.lock().expect("no panic");
        assert!(!seen.contains("/first"), "{http:?}");
        for (n, answered, sent) in ends.into_iter().map(|end| end.expect("no panic")) {
            let arrived = seen.contains(&format!("/{n}"));
            assert!(answered || sent != Sent::No || !arrived, "{http:?}: call {n} arrived");
        }
    }
}

#[tokio::test]
async fn waiting_for_a_connection_is_marked_as_unsent() {
    let server = serve(Http::One, async |_| full("hello")).await;
    let mut transport = server.transport(TransportConfig::http1());
    let mut response = pin!(begin(&mut transport, get("/")));
    let mut trail = Trail::new();
    poll_fn(|cx| {
        assert!(trail.enter(|| response.as_mut().poll(cx)).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_eq!(trail.stage(), Stage::Unsent);
    let result = poll_fn(|cx| trail.enter(|| response.as_mut().poll(cx))).await;
    assert!(result.is_ok());
    assert_eq!(trail.stage(), Stage::HandedOver);
}

#[tokio::test]
async fn a_connection_on_which_an_attempt_timed_out_is_not_used_again() {
    for http in BOTH {
        let server = serve(http, async |_| full("hello")).await;
        let proxy = Proxy::to(&server).await;
        let transport = proxy.listening.transport(http.config());
        let mut attempt = AttemptTimeoutLayer::new(SHORT * 5).expect("valid").layer(transport);
        text(&mut attempt, get("/")).await.expect("an answer");
        assert_eq!(proxy.listening.connections(), 1);

        proxy.blackhole();
        let error = call(&mut attempt, get("/")).await.expect_err("silence");
        assert_eq!(find::<Elapsed>(&*error).map(Elapsed::sent), Some(Sent::Maybe), "{http:?}");

        let answer = text(&mut attempt, get("/")).await.expect("by a new connection");
        assert_eq!((answer.as_str(), proxy.listening.connections()), ("hello", 2), "{http:?}");
    }
}

/// A server whose `/slow` answers when it is let, and `/stall` never ends its body.
async fn slow(http: Http) -> (Listening, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let server = serve(http, {
        let gate = Arc::clone(&gate);
        move |request| {
            let gate = Arc::clone(&gate);
            async move {
                match request.uri().path() {
                    "/slow" => gate.notified().await,
                    "/never" => pending().await,
                    "/stall" => return stalling(),
                    _ => {}
                }
                full("hello")
            }
        }
    })
    .await;
    (server, gate)
}

#[tokio::test]
async fn requests_on_a_connection_that_is_not_used_again_go_on() {
    let (server, gate) = slow(Http::Two).await;
    let mut transport = server.transport(TransportConfig::http2());
    let first = tokio::spawn(begin(&mut transport, get("/slow")));
    settle().await;
    let mut attempt = AttemptTimeoutLayer::new(SHORT).expect("valid").layer(transport.clone());
    call(&mut attempt, get("/never")).await.expect_err("it times out");
    text(&mut transport, get("/")).await.expect("an answer");
    assert_eq!(server.connections(), 2);
    gate.notify_one();
    let response = timeout(PATIENCE, first).await.expect("in time").expect("no panic");
    assert!(response.is_ok(), "{response:?}");
}

#[tokio::test]
async fn a_caller_who_loses_interest_condemns_nothing() {
    let (server, _gate) = slow(Http::Two).await;
    let mut transport = server.transport(TransportConfig::http2());
    text(&mut transport, get("/")).await.expect("an answer");
    let attempt = AttemptTimeoutLayer::new(PATIENCE).expect("valid").layer(transport.clone());
    // Given up before its expiry: with the head to come, and within the body.
    let given_up = timeout(SHORT, attempt.clone().oneshot(get("/never"))).await;
    assert!(given_up.is_err());
    let response = attempt.oneshot(get("/stall")).await.expect("a head");
    drop(response);
    text(&mut transport, get("/")).await.expect("an answer");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_on_which_a_collected_body_timed_out_is_not_used_again() {
    let (server, _gate) = slow(Http::Two).await;
    let mut transport = server.transport(TransportConfig::http2());
    let collect = CollectLayer::always().layer(transport.clone());
    let mut attempt = AttemptTimeoutLayer::new(SHORT).expect("valid").layer(collect);
    let response = call(&mut attempt, get("/")).await.expect("an answer");
    assert_eq!(response.body().as_bytes(), Some(&b"hello"[..]));
    let error = call(&mut attempt, get("/stall")).await.expect_err("half a body");
    assert_eq!(find::<Elapsed>(&*error).map(Elapsed::which), Some(Which::Attempt));
    assert_eq!(server.connections(), 1);
    text(&mut transport, get("/")).await.expect("an answer");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_connection_on_which_a_body_met_the_deadline_is_not_used_again() {
    let (server, _gate) = slow(Http::Two).await;
    let mut transport = server.transport(TransportConfig::http2());
    let mut bounded = DeadlineLayer::new(SHORT).expect("valid").layer(transport.clone());
    let body = call(&mut bounded, get("/stall")).await.expect("a head").into_body();
    let error = timeout(PATIENCE, body.collect()).await.expect("in time").expect_err("half");
    assert_eq!(find::<Elapsed>(&*error).map(Elapsed::which), Some(Which::Body));
    assert_eq!(server.connections(), 1);
    text(&mut transport, get("/")).await.expect("an answer");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_body_that_outlasts_the_attempt_of_its_head_condemns_nothing() {
    let (server, _gate) = slow(Http::Two).await;
    let transport = server.transport(TransportConfig::http2());
    let mut attempt = AttemptTimeoutLayer::new(SHORT).expect("valid").layer(transport);
    let unread = call(&mut attempt, get("/stall")).await.expect("a head").into_body();
    let mut body = call(&mut attempt, get("/stall")).await.expect("a head").into_body();
    assert!(body.frame().await.is_some());
    assert!(timeout(SHORT * 2, body.frame()).await.is_err(), "past the attempt's expiry");
    drop((unread, body));
    text(&mut attempt, get("/")).await.expect("an answer");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn pings_find_an_http2_connection_that_died_silently() {
    let (server, _gate) = slow(Http::Two).await;
    let proxy = Proxy::to(&server).await;
    let config = TransportConfig::http2().ping(SHORT, SHORT).expect("valid");
    let mut transport = proxy.listening.transport(config);
    // A service that only takes its time answers the pings.
    let patient = timeout(SHORT * 5, begin(&mut transport, get("/never"))).await;
    assert!(patient.is_err(), "{patient:?}");
    assert_eq!(proxy.listening.connections(), 1);

    let waiting = tokio::spawn(begin(&mut transport, get("/never")));
    settle().await;
    proxy.blackhole();
    let result = timeout(PATIENCE, waiting).await.expect("the pings found out").expect("no panic");
    let error = result.expect_err("the connection is dead");
    assert_eq!(verdict_on_error(&*error), AMBIGUOUS, "{error:?}");
    text(&mut transport, get("/")).await.expect("by a new connection");
    assert_eq!(proxy.listening.connections(), 2);
}

#[tokio::test]
async fn without_pings_nobody_finds_it() {
    let (server, _gate) = slow(Http::Two).await;
    let proxy = Proxy::to(&server).await;
    let mut transport = proxy.listening.transport(TransportConfig::http2().no_ping());
    text(&mut transport, get("/")).await.expect("an answer");
    proxy.blackhole();
    let silence = timeout(SHORT * 5, begin(&mut transport, get("/"))).await;
    assert!(silence.is_err());
}

#[tokio::test]
async fn a_connection_that_lay_unused_too_long_is_not_used_again() {
    let server = serve(Http::One, async |_| full("hello")).await;
    let config = TransportConfig::http1().idle_timeout(SHORT).expect("valid");
    let mut transport = server.transport(config);
    text(&mut transport, get("/")).await.expect("an answer");
    text(&mut transport, get("/")).await.expect("an answer");
    assert_eq!(server.connections(), 1);
    tokio::time::sleep(SHORT * 2).await;
    text(&mut transport, get("/")).await.expect("an answer");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_pooled_connection_that_its_server_closed_costs_no_request() {
    let closed = Arc::new(Notify::new());
    let bell = Arc::clone(&closed);
    let server = listen(move |mut stream| {
        let bell = Arc::clone(&bell);
        async move {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
            stream.write_all(answer).await.expect("the client is there");
            bell.notified().await;
        }
    })
    .await;
    let mut transport = server.transport(TransportConfig::http1());
    assert_eq!(text(&mut transport, get("/")).await.expect("an answer"), "hello");
    closed.notify_one();
    settle().await;
    assert_eq!(text(&mut transport, get("/")).await.expect("an answer"), "hello");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn who_waits_for_a_connection_that_another_gave_up_may_try_again_and_blames_nobody() {
    let server = serve(Http::Two, async |_| full("hello")).await;
    let mut transport = server.transport(TransportConfig::http2());
    let mut first = Box::pin(begin(&mut transport, get("/")));
    let mut second = pin!(begin(&mut transport, get("/")));
    poll_fn(|cx| {
        assert!(first.as_mut().poll(cx).is_pending(), "it dials");
        assert!(second.as_mut().poll(cx).is_pending(), "it waits for the first's connection");
        Poll::Ready(())
    })
    .await;
    drop(first);
    let result = timeout(PATIENCE, second).await.expect("in time");
    let error = result.expect_err("hyper-util gives up on it too");
    let not_handed_over = find::<NotHandedOver>(&*error).expect("the cause");
    assert!(not_handed_over.waited_for_another());
    assert_eq!(verdict_on_error(&*error), UNTRIED, "{error:?}");
    assert_eq!(text(&mut transport, get("/")).await.expect("an answer"), "hello");
}

#[tokio::test]
async fn many_http2_requests_share_one_connection() {
    let server = serve(Http::Two, async |_| full("hello")).await;
    let transport = server.transport(TransportConfig::http2());
    let calls = (0..50).map(|_| transport.clone().oneshot(get("/")));
    for result in futures_util::future::join_all(calls).await {
        assert!(result.is_ok(), "{result:?}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn trailers_come_through() {
    let server = serve(Http::Two, async |_| {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from(1))]);
        let frames = [Frame::data(Bytes::from("hello")), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok)));
        Response::new(BoxBody::new(body))
    })
    .await;
    let transport = server.transport(TransportConfig::http2());
    let mut collect = CollectLayer::always().layer(transport);
    let response = call(&mut collect, get("/")).await.expect("an answer");
    assert_eq!(response.body().as_bytes(), Some(&b"hello"[..]));
    let collected = BodyExt::collect(response.into_body()).await.expect("it is in memory");
    let trailer = collected.trailers().and_then(|trailers| trailers.get(http::header::ETAG));
    assert_eq!(trailer, Some(&http::HeaderValue::from(1)));
}

#[tokio::test]
async fn an_empty_body_needs_no_type_of_its_own() {
    let server = serve(Http::One, async |_| full("")).await;
    let mut transport = Transport::<Empty<Bytes>>::new(
        &Endpoint::from(server.address),
        &TransportConfig::default(),
    );
    let request = Request::head("http://payments/").body(Empty::new()).expect("a request");
    let response = transport.call(request).await.expect("an answer");
    assert!(response.body().is_end_stream());
}
