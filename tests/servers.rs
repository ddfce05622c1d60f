//! What becomes of a call when a real server fails it: the transport's errors, the one verdict
//! on each, and whether the retry layer tries again.
//!
//! Each test has a table. Its servers are nginx, Node's http2 and gRPC's C core, which are
//! skipped where they are missing (unless `BUTTRESS_REQUIRE_SERVERS=1`; `bash .ci/run servers`
//! gets them), and bare sockets for what no real server can be made to do. What the servers
//! themselves have seen is asked of them wherever it matters: a verdict that says "not carried
//! out" is a promise.

#![cfg(feature = "hyper")]

#[path = "servers/nginx.rs"]
mod nginx;
#[path = "servers/process.rs"]
mod process;
#[path = "servers/raw.rs"]
mod raw;
mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress::{
    BoxError,
    algo::backoff::Backoff,
    call::{Asked, Attempts},
    classify::{Blame, Classify, HttpClassifier, Pushback, Retry, Sent, Verdict, verdict_on_error},
    collect::CollectLayer,
    endpoint::{Endpoint, MakeEndpoint},
    find,
    retry::{GaveUp, RetryConfig, RetryLayer},
    timeout::{DeadlineHeader, DeadlineLayer},
    transport::{
        ConnectTimeout, HyperTransport, InvalidTarget, NotHandedOver, Transport, TransportBody,
        TransportConfig,
    },
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::TE};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::{io::AsyncWriteExt, net::TcpSocket, time::timeout};
use tower::{Service, ServiceBuilder, ServiceExt};

use self::{
    nginx::Nginx,
    process::Process,
    raw::Raw,
    support::{Nobody, Server},
};

/// Nobody was reached.
const UNREACHED: Verdict = Verdict::new(Blame::Endpoint, Sent::No, Retry::Always);
/// Somebody who works turned it away unlooked at.
const UNPROCESSED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent);
/// It was handed over, and nobody knows.
const AMBIGUOUS: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);
/// No endpoint could be asked that.
const IMPOSSIBLE: Verdict = Verdict::new(Blame::Client, Sent::No, Retry::Never);

/// Whether a POST without a key, and a GET, are tried again.
type Again = (bool, bool);
const BOTH: Again = (true, true);
const SAFE: Again = (false, true);

/// Long enough for everything that happens at all, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

type Plain = Request<Full<Bytes>>;

fn request(method: Method, path: &str) -> Plain {
    let request = Request::builder().method(method).uri(format!("http://orders{path}"));
    request.body(Full::from("two apples")).expect("a request")
}

fn post(path: &str) -> Plain {
    request(Method::POST, path)
}

fn transport<B>(address: SocketAddr, config: &TransportConfig) -> Transport<B>
where
    B: Body + Send,
    B::Data: Send,
{
    HyperTransport::new(config.clone()).make(&Endpoint::from(address))
}

async fn call<S, R>(service: S, request: R) -> Result<S::Response, BoxError>
where
    S: Service<R, Error = BoxError>,
{
    timeout(PATIENCE, service.oneshot(request)).await.expect("within the test's patience")
}

/// The verdict of the transport's error on a request.
async fn verdict(address: SocketAddr, config: &TransportConfig, request: Plain) -> Verdict {
    match call(transport(address, config), request).await {
        Ok(response) => panic!("it was answered: {response:?}"),
        Err(error) => verdict_on_error(&*error),
    }
}

/// How many attempts the retry layer makes of up to two.
async fn attempts(address: SocketAddr, config: &TransportConfig, request: Plain) -> usize {
    let pause = Duration::from_millis(1);
    let retry = RetryConfig::new()
        .max_attempts(2)
        .expect("valid")
        .backoff(Backoff::new(pause, pause).expect("valid"))
        .without_budget();
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(retry, HttpClassifier::new()))
        .layer(CollectLayer::always())
        .service(transport(address, config));
    match call(stack, request).await {
        Ok(response) => {
            response.extensions().get::<Attempts>().map_or(1, |attempts| attempts.len())
        }
        Err(error) => find::<GaveUp>(&*error).expect("the retry's error").attempts().len(),
    }
}

async fn is_tried_again(address: SocketAddr, config: &TransportConfig, path: &str) -> Again {
    let post = attempts(address, config, post(path)).await > 1;
    (post, attempts(address, config, request(Method::GET, path)).await > 1)
}

/// One row of a table: an error, its verdict, and what the retry layer makes of it.
async fn row(
    what: &str,
    address: SocketAddr,
    config: &TransportConfig,
    path: &str,
    expected: (Verdict, Again),
) {
    for method in [Method::POST, Method::GET] {
        let verdict = verdict(address, config, request(method, path)).await;
        assert_eq!(verdict, expected.0, "{what}");
    }
    assert_eq!(is_tried_again(address, config, path).await, expected.1, "{what}");
}

/// An upstream that counts how often each path was asked for, and answers.
async fn counting() -> (Server, impl Fn() -> HashMap<String, u32>) {
    let counts = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let count = Arc::clone(&counts);
    let server = Server::start(move |request| {
        let mut counts = count.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(request.uri().path().to_owned()).or_default() += 1;
        async { Response::new(Full::from("done")) }
    })
    .await;
    (server, move || counts.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name)
}

fn http1() -> TransportConfig {
    TransportConfig::http1()
}

fn http2() -> TransportConfig {
    TransportConfig::http2()
}

// --- Bare sockets ------------------------------------------------------------------------------

#[tokio::test]
async fn who_is_not_reached_was_not_sent_anything() {
    let nobody = Nobody::new();
    let (full, _sockets) = raw::unaccepting();
    let impatient = |config: TransportConfig| {
        config.connect_timeout(Duration::from_millis(200)).expect("valid")
    };
    for config in [http1(), http2()] {
        row("refused", nobody.address(), &config, "/", (UNREACHED, BOTH)).await;
        let config = impatient(config);
        row("its backlog is full", full, &config, "/", (UNREACHED, BOTH)).await;
        let error = call(transport(full, &config), post("/")).await.expect_err("nobody accepts");
        assert!(find::<ConnectTimeout>(&*error).is_some());
    }
}

/// It answers, so no `connect` fails; but nothing works there, and that has to be somebody's
/// fault, or no breaker would ever open on it.
#[tokio::test]
async fn who_hangs_up_on_a_new_connection_is_blamed() {
    let resets = Raw::start(|stream| async { raw::reset(stream) }).await;
    let closes = Raw::start(|stream| async { raw::hang_up(stream).await }).await;
    for (what, server) in [("reset", &resets), ("closed", &closes)] {
        for _ in 0..20 {
            let error = call(transport(server.address, &http1()), post("/")).await;
            let error = error.expect_err("it hangs up");
            let verdict = verdict_on_error(&*error);
            // It depends on who is faster, the client's request or the server's farewell.
            if find::<NotHandedOver>(&*error).is_some() {
                assert_eq!(verdict, UNREACHED, "{what}: {error:?}");
            } else {
                assert_eq!(verdict, AMBIGUOUS, "{what}: {error:?}");
            }
        }
        // HTTP/2 sends its request with its preface, not knowing whether it is welcome; without a
        // GOAWAY nobody can tell (RFC 9113, section 6.8).
        row(what, server.address, &http2(), "/", (AMBIGUOUS, SAFE)).await;
    }
}

#[tokio::test]
async fn whatever_ends_an_answer_early_leaves_it_open_whether_it_happened() {
    type Saying = (&'static str, &'static [u8]);
    let table: [Saying; 4] = [
        ("closed after the request", b""),
        ("closed within the head", b"HTTP/1.1 200 OK\r\ncontent-le"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
        // A server that wants TLS answers a plain request with an alert (RFC 8446, section 6).
        ("a fatal alert of TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
    ];
    for (what, bytes) in table {
        let server = Raw::saying(bytes).await;
        row(what, server.address, &http1(), "/", (AMBIGUOUS, SAFE)).await;
    }
    // Each of them is nonsense over HTTP/2, as is an answer of HTTP/1.1.
    for (what, bytes) in table.into_iter().chain([("HTTP/1.1", &b"HTTP/1.1 400 Bad\r\n\r\n"[..])]) {
        let server = Raw::saying(bytes).await;
        row(what, server.address, &http2(), "/", (AMBIGUOUS, SAFE)).await;
    }
    let resets = Raw::start(|mut stream| async {
        raw::head(&mut stream).await?;
        raw::reset(stream)
    })
    .await;
    for config in [http1(), http2()] {
        row("reset after the request", resets.address, &config, "/", (AMBIGUOUS, SAFE)).await;
    }
}

/// The race of HTTP/1.1 (RFC 9112, section 9.5): the server hangs up on an idle connection while
/// a request is on its way there.
#[tokio::test]
async fn a_connection_that_is_closed_with_a_request_on_its_way_leaves_it_open() {
    let server = Raw::start(|mut stream| async move {
        raw::head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await?;
        raw::head(&mut stream).await?;
        raw::hang_up(stream).await
    })
    .await;
    let transport = transport::<Full<Bytes>>(server.address, &http1());
    // Its body must not be taken for a second head.
    let get = || Request::get("http://orders/").body(Full::default()).expect("a request");
    let first = call(transport.clone(), get()).await.expect("an answer");
    first.into_body().collect().await.expect("a body");
    // Back into the pool.
    tokio::task::yield_now().await;
    let error = call(transport, get()).await.expect_err("it hangs up");
    assert_eq!(verdict_on_error(&*error), AMBIGUOUS, "{error:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_of_the_body_until_it_is_collected() {
    for (what, bytes) in [
        ("short", &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"[..]),
        ("no last chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("half a chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello"),
    ] {
        let server = Raw::saying(bytes).await;
        let response = call(transport(server.address, &http1()), post("/")).await.expect("a head");
        let error = response.into_body().collect().await.expect_err(what);
        assert_eq!(verdict_on_error(&error), AMBIGUOUS, "{what}");
        // Collected within the attempt it can be tried again, if that is safe.
        assert_eq!(is_tried_again(server.address, &http1(), "/").await, SAFE, "{what}");
    }
}

#[tokio::test]
async fn what_needs_tls_is_not_sent_in_the_clear() {
    let (server, counts) = counting().await;
    let secret: Plain =
        Request::post("https://orders/").body(Full::from("secret")).expect("a request");
    let error = call(transport(server.address(), &http1()), secret).await.expect_err("no TLS");
    assert!(find::<InvalidTarget>(&*error).is_some());
    assert_eq!(verdict_on_error(&*error), IMPOSSIBLE);
    assert!(counts().is_empty());
}

// --- nginx -------------------------------------------------------------------------------------

#[tokio::test]
async fn nginx_hangs_up_without_an_answer() {
    let (upstream, _) = counting().await;
    for (http2_only, config) in [(false, http1()), (true, http2())] {
        let Some(nginx) = Nginx::start(http2_only, 1000, upstream.address()) else { return };
        // `return 444`. Over HTTP/2 it is a stream's PROTOCOL_ERROR.
        row("444", nginx.address(), &config, "/closes", (AMBIGUOUS, SAFE)).await;
    }
}

#[tokio::test]
async fn nginx_answers_for_others() {
    let (upstream, counts) = counting().await;
    let limited = Verdict::new(Blame::Service, Sent::No, Retry::Always)
        .with_pushback(Pushback::After(Duration::from_secs(7)));
    let lost = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);
    for (http2_only, config) in [(false, http1()), (true, http2())] {
        let Some(nginx) = Nginx::start(http2_only, 1000, upstream.address()) else { return };
        let head = async |path| {
            let response = call(transport(nginx.address(), &config), post(path)).await;
            let response = response.unwrap_or_else(|error| panic!("{error:?}: {}", nginx.log()));
            (response.status(), HttpClassifier::new().response(Asked::default(), &response))
        };
        assert_eq!(head("/").await, (StatusCode::OK, Verdict::SUCCESS));
        assert_eq!(head("/limited").await.0, StatusCode::OK);
        let before = counts();
        assert_eq!(head("/limited").await, (StatusCode::TOO_MANY_REQUESTS, limited));
        assert_eq!(counts(), before, "it was refused unprocessed, as the verdict says");
        assert_eq!(head("/nobody").await, (StatusCode::BAD_GATEWAY, lost));
        assert_eq!(is_tried_again(nginx.address(), &config, "/nobody").await, SAFE);
    }
}

/// Sends `count` POSTs without keys, by `callers` at a time, each to a path of its own.
async fn flood<S, B>(service: S, callers: u32, count: u32) -> HashMap<String, Option<BoxError>>
where
    S: Service<Plain, Response = Response<B>, Error = BoxError> + Clone,
    B: Body<Data: Send, Error: Into<BoxError>>,
{
    let caller = async |caller: u32| {
        let mut ends = Vec::new();
        for number in (caller..count).step_by(callers as usize) {
            let path = format!("/{number}");
            let error = async {
                let response = call(service.clone(), post(&path)).await?;
                assert_eq!(response.status(), StatusCode::OK);
                response.into_body().collect().await.map_err(Into::into)
            };
            ends.push((path.clone(), error.await.err()));
        }
        ends
    };
    join_all((0..callers).map(caller)).await.into_iter().flatten().collect()
}

#[tokio::test]
async fn connections_that_nginx_recycles_cost_no_call_over_http1() {
    let (upstream, counts) = counting().await;
    let Some(nginx) = Nginx::start(false, 3, upstream.address()) else { return };
    let ends = flood(transport(nginx.address(), &http1()), 16, 600).await;
    assert!(ends.values().all(Option::is_none), "{ends:?}");
    assert!(ends.keys().all(|path| counts()[path] == 1));
}

/// After each third request nginx says GOAWAY, while others are on their way. Most calls fail by
/// that, if nobody tries them again; and each verdict can be checked, since the upstream knows.
#[tokio::test]
async fn what_nginx_turns_away_as_it_recycles_http2_connections_was_never_carried_out() {
    let (upstream, counts) = counting().await;
    let Some(nginx) = Nginx::start(true, 3, upstream.address()) else { return };
    let ends = flood(transport(nginx.address(), &http2()), 16, 1000).await;
    let counts = counts();
    let failed = ends.values().filter(|error| error.is_some()).count();
    assert!(failed > 100, "of 1000 calls {failed} failed: this tests nothing");
    for (path, error) in &ends {
        let count = counts.get(path).copied().unwrap_or_default();
        match error {
            None => assert_eq!(count, 1, "{path}"),
            Some(error) => {
                assert_eq!(verdict_on_error(&**error), UNPROCESSED, "{path}: {error:?}");
                assert_eq!(count, 0, "{path} was carried out after all: {error:?}");
            }
        }
    }
}

// --- Node --------------------------------------------------------------------------------------

fn node() -> Option<(Process, SocketAddr)> {
    let program = process::find("node", "node/bin/node")?;
    let (process, port) = Process::saying_its_port(&program, &[script("node.js")]);
    Some((process, ([127, 0, 0, 1], port).into()))
}

#[tokio::test]
async fn node_resets_streams_and_only_a_refused_one_was_not_processed() {
    let Some((_node, address)) = node() else { return };
    for (path, verdict, again) in [
        ("/refuse", UNPROCESSED, BOTH),
        ("/cancel", AMBIGUOUS, SAFE),
        ("/break", AMBIGUOUS, SAFE),
        // Its server has had enough, which says nothing of this stream.
        ("/calm", AMBIGUOUS, SAFE),
    ] {
        row(path, address, &http2(), path, (verdict, again)).await;
    }
    assert_eq!(attempts(address, &http2(), post("/")).await, 1);
}

#[tokio::test]
async fn a_stream_that_node_refuses_once_succeeds_at_the_next_try_without_a_key() {
    let Some((_node, address)) = node() else { return };
    assert_eq!(attempts(address, &http2(), post("/refuse-once")).await, 2);
}

/// Three streams on one connection: the GOAWAY names the second one as the last.
#[tokio::test]
async fn nodes_goaway_ends_the_streams_above_its_last_id_and_no_others() {
    let Some((_node, address)) = node() else { return };
    let transport = transport::<Full<Bytes>>(address, &http2());
    // So that all three are on one connection, and sent together.
    call(transport.clone(), post("/")).await.expect("an answer");
    let streams = ["/hold", "/goaway", "/"].map(|path| call(transport.clone(), post(path)));
    let [below, last, above] = join_all(streams).await.try_into().expect("three");
    assert_eq!(text(below).await, "kept");
    assert_eq!(text(last).await, "last");
    let error = above.expect_err("it is above the last id");
    assert_eq!(verdict_on_error(&*error), UNPROCESSED, "{error:?}");
    assert_eq!(text(call(transport, post("/")).await).await, "hello", "by a new connection");
}

/// What is at or below the last id may have been processed, and the connection ends unanswered.
#[tokio::test]
async fn nodes_goaway_says_nothing_of_the_streams_that_it_names() {
    let Some((_node, address)) = node() else { return };
    let transport = transport::<Full<Bytes>>(address, &http2());
    call(transport.clone(), post("/")).await.expect("an answer");
    let streams = ["/hold", "/goaway-and-die", "/"].map(|path| call(transport.clone(), post(path)));
    let [below, last, above] = join_all(streams).await.try_into().expect("three");
    for (what, result, expected) in
        [("below", below, AMBIGUOUS), ("last", last, AMBIGUOUS), ("above", above, UNPROCESSED)]
    {
        let error = result.expect_err(what);
        assert_eq!(verdict_on_error(&*error), expected, "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_it_open_whether_it_happened() {
    let Some((node, address)) = node() else { return };
    let transport = transport::<Full<Bytes>>(address, &http2());
    call(transport.clone(), post("/")).await.expect("an answer");
    let held = tokio::spawn(call(transport.clone(), post("/hold")));
    // It is on its way before this one, on the same connection.
    call(transport.clone(), post("/")).await.expect("an answer");
    drop(node);
    let _held = hold(address);
    let error = held.await.expect("no panic").expect_err("its server is gone");
    assert_eq!(verdict_on_error(&*error), AMBIGUOUS, "{error:?}");
    let error = call(transport, post("/")).await.expect_err("nobody listens any more");
    assert_eq!(verdict_on_error(&*error), UNREACHED, "{error:?}");
}

async fn text(result: Result<Response<TransportBody>, BoxError>) -> String {
    let body = result.expect("an answer").into_body().collect().await.expect("a body");
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

// --- gRPC's C core -----------------------------------------------------------------------------

fn grpc() -> Option<(Process, SocketAddr)> {
    let program = process::find("python3", "python/bin/python3")?;
    let known = std::process::Command::new(&program).args(["-c", "import grpc"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        process::missing("Python's grpcio");
        return None;
    }
    let (process, port) = Process::saying_its_port(&program, &[script("grpc_server.py")]);
    Some((process, ([127, 0, 0, 1], port).into()))
}

/// The method's answer: its headers and its trailers.
async fn rpc(address: SocketAddr, method: &str, within: Duration) -> [HeaderMap; 2] {
    // One message, not compressed, of two bytes.
    let message = Full::<Bytes>::from(&b"\0\0\0\0\x02hi"[..]);
    let mut request =
        Request::post(format!("http://peer/buttress.Peer/{method}")).body(message).expect("valid");
    let timeout = buttress::timeout::wire::encode_grpc(within).expect("some time");
    for (name, value) in [
        (TE, "trailers".parse().expect("a value")),
        (http::header::CONTENT_TYPE, "application/grpc".parse().expect("a value")),
        (DeadlineHeader::grpc().name().clone(), timeout),
    ] {
        request.headers_mut().insert(name, value);
    }
    let response =
        call(transport(address, &http2()), request).await.expect("gRPC answers with 200");
    assert_eq!(response.status(), StatusCode::OK);
    let (head, body) = response.into_parts();
    let trailers = body.collect().await.expect("a body").trailers().cloned().unwrap_or_default();
    [head.headers, trailers]
}

/// gRPC over HTTP/2: where a status stands says whether the call may be tried again (proposal
/// A6: not once headers without one are out).
#[tokio::test]
async fn a_status_of_grpc_stands_in_the_head_before_the_call_was_taken_up_and_behind_it_after() {
    let Some((_server, address)) = grpc() else { return };
    let said = |headers: &HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().expect("ASCII").to_owned())
    };
    // (method, status in the head, status in the trailers, pushback in the head)
    for (method, head, trailers, pushback) in [
        ("Echo", None, Some("0"), None),
        ("Early", Some("14"), None, None),
        ("Late", None, Some("14"), None),
        ("Pushback", Some("14"), None, Some("250")),
        ("NoMore", Some("14"), None, Some("-1")),
        ("Unheard", Some("12"), None, None),
    ] {
        let answer = rpc(address, method, PATIENCE).await;
        let statuses = answer.each_ref().map(|headers| said(headers, "grpc-status"));
        assert_eq!(statuses.each_ref().map(Option::as_deref), [head, trailers], "{method}");
        let wish = said(&answer[0], "grpc-retry-pushback-ms");
        assert_eq!(wish.as_deref(), pushback, "{method}");
    }
}

#[tokio::test]
async fn a_deadline_that_was_sent_ends_the_call_at_the_server() {
    let Some((_server, address)) = grpc() else { return };
    let [head, trailers] = rpc(address, "Slow", Duration::from_millis(100)).await;
    let status = head.get("grpc-status").or(trailers.get("grpc-status"));
    assert_eq!(status.expect("a status"), "4", "DEADLINE_EXCEEDED, long before it is done");
}

// --- The servers themselves --------------------------------------------------------------------

/// A test that panics or is killed must not leave servers behind.
#[tokio::test]
async fn a_server_ends_with_whoever_holds_it() {
    let Some((node, address)) = node() else { return };
    call(transport(address, &http2()), post("/")).await.expect("an answer");
    drop(node);
    let _held = hold(address);
    assert_eq!(verdict(address, &http2(), post("/")).await, UNREACHED);
}

/// Takes a port that a server has left, which proves that it has, so that no other test gets it.
fn hold(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("the system has sockets");
    // Past what is left of the server's connections (TIME_WAIT), but not past a listener.
    socket.set_reuseaddr(true).expect("a socket's option");
    socket.bind(address).expect("nobody listens there any more");
    socket
}

/// As the test above, with the retry layer over it: no caller learns of any of it, and nothing
/// is done twice, although no POST has a key.
#[tokio::test]
async fn connections_that_nginx_recycles_cost_no_call_over_http2_and_do_none_twice() {
    let (upstream, counts) = counting().await;
    let Some(nginx) = Nginx::start(true, 3, upstream.address()) else { return };
    // Three attempts, and the budget, as by default: being turned away costs neither. It happens
    // to some calls ten times here, and the wait before the next try need not double for ever.
    let ms = Duration::from_millis;
    let retry = RetryConfig::new().backoff(Backoff::new(ms(10), ms(250)).expect("valid"));
    let stack = ServiceBuilder::new()
        // Above retry: it is what ends those that are turned away again and again.
        .layer(DeadlineLayer::new(PATIENCE).expect("valid"))
        .layer(RetryLayer::new(retry, HttpClassifier::new()))
        .service(transport(nginx.address(), &http2()));
    let ends = flood(stack, 16, 3000).await;
    let failed: Vec<_> = ends.iter().filter(|(_, error)| error.is_some()).collect();
    assert!(failed.is_empty(), "{} of 3000 failed, such as {:?}", failed.len(), failed[0]);
    let counts = counts();
    assert!(ends.keys().all(|path| counts[path] == 1), "each once, and only once");
    assert_eq!(counts.len(), 3000);
}
