//! gRPC's health protocol against the health service of gRPC's own C core, over real sockets.
//!
//! Skipped where Python's grpcio-health-checking is missing (unless `BUTTRESS_REQUIRE_SERVERS=1`;
//! `bash .ci/run servers` gets it).
#![cfg(feature = "hyper")]

#[path = "servers/process.rs"]
#[allow(dead_code, reason = "it also starts servers that are not used here")]
mod process;

use std::{net::SocketAddr, path::Path, pin::Pin, time::Duration};

use buttress::{
    BoxError,
    endpoint::{Change, Endpoint, Fixed, Health, MakeEndpoint},
    find,
    health::{
        Checked, GrpcProbe, HealthConfig, HealthStatus, NoHealthAnswer, Probe, ServingStatus,
        TcpProbe, Unavailable,
    },
    transport::{HyperTransport, TransportConfig},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;
use tower::ServiceExt;

use self::process::Process;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server with a health service, or a `bare` one.
fn server(arguments: &[&str]) -> Option<(Process, Endpoint)> {
    let program = process::find("python3", "python/bin/python3")?;
    let known = std::process::Command::new(&program)
        .args(["-c", "import grpc, grpc_health.v1.health"])
        .output();
    if !known.is_ok_and(|output| output.status.success()) {
        process::missing("Python's grpcio-health-checking");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/health_server.py");
    let mut all = vec![script.into_os_string()];
    all.extend(arguments.iter().map(Into::into));
    let (process, port) = Process::saying_its_port(&program, &all);
    Some((process, SocketAddr::from(([127, 0, 0, 1], port)).into()))
}

/// Has the server say this of one of its services.
async fn set(endpoint: &Endpoint, service: &str, status: &str) {
    let word = format!("{service}={status}");
    let mut message = vec![0, 0, 0, 0, word.len() as u8];
    message.extend_from_slice(word.as_bytes());
    let request = http::Request::post("http://peer/buttress.Peer/Set")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(message)))
        .expect("valid");
    let transport = HyperTransport::<Full<Bytes>>::new(TransportConfig::http2()).make(endpoint);
    let response = transport.oneshot(request).await.expect("an answer");
    let body = response.into_body().collect().await.expect("a body");
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
    assert_eq!(status.map(|status| status.as_bytes()), Some(&b"0"[..]));
}

#[tokio::test]
async fn a_server_is_asked_how_it_is() -> Result<(), BoxError> {
    let Some((server, endpoint)) = server(&[]) else { return Ok(()) };
    let cart = GrpcProbe::new().service("shop.Cart");
    GrpcProbe::new().probe(&endpoint).await?;
    cart.probe(&endpoint).await?;
    TcpProbe::new().probe(&endpoint).await?;

    let error = GrpcProbe::new().service("shop.Till").probe(&endpoint).await;
    let error = error.expect_err("nobody knows it");
    let answer = find::<NoHealthAnswer>(&*error);
    assert!(matches!(answer, Some(NoHealthAnswer::Grpc { code: 5, .. })), "{error}");
    assert!(find::<Unavailable>(&*error).is_none());

    set(&endpoint, "shop.Cart", "NOT_SERVING").await;
    let error = cart.probe(&endpoint).await.expect_err("it says so");
    let status = find::<HealthStatus>(&*error).map(|said| said.status);
    assert_eq!(status, Some(ServingStatus::NotServing));
    assert!(find::<Unavailable>(&*error).is_some(), "it counts at once");
    GrpcProbe::new().probe(&endpoint).await?;

    drop(server);
    assert!(cart.probe(&endpoint).await.is_err());
    Ok(())
}

type Changes = Pin<Box<dyn Stream<Item = Result<Change, BoxError>>>>;

/// What a stage says of the endpoint, from its first answer on.
fn watched(endpoint: &Endpoint, probe: GrpcProbe) -> Changes {
    // Long waits: what is heard is heard by listening.
    let minute = Duration::from_secs(60);
    let config = HealthConfig::new()
        .interval(minute)
        .and_then(|config| config.timeout(Duration::from_secs(5)))
        .and_then(|config| config.edge_interval(Duration::from_millis(100)))
        .expect("within a day");
    Box::pin(Checked::new(Fixed::new([endpoint.clone()]), probe, config))
}

async fn next(changes: &mut Changes) -> Health {
    loop {
        let change = timeout(PATIENCE, changes.next()).await.expect("in time").expect("it goes on");
        match change.expect("no error") {
            Change::Health(_, Health::Pending) => {}
            Change::Health(_, health) => return health,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_watch_hears_of_each_change_and_of_the_end() {
    let Some((server, endpoint)) = server(&[]) else { return };
    let mut changes = watched(&endpoint, GrpcProbe::new().service("shop.Cart").watch());
    assert_eq!(next(&mut changes).await, Health::Healthy);
    for (status, health) in [
        ("NOT_SERVING", Health::Unhealthy),
        ("SERVING", Health::Healthy),
        ("UNKNOWN", Health::Unhealthy),
        ("SERVING", Health::Healthy),
    ] {
        set(&endpoint, "shop.Cart", status).await;
        assert_eq!(next(&mut changes).await, health, "{status}");
    }
    drop(server);
    assert_eq!(next(&mut changes).await, Health::Unhealthy);
}

/// A service that is registered later is heard of as well: a watch says that it is unknown, where
/// a check would fail.
#[tokio::test]
async fn a_watch_waits_for_a_service_that_is_not_there_yet() {
    let Some((_server, endpoint)) = server(&[]) else { return };
    let mut changes = watched(&endpoint, GrpcProbe::new().service("shop.Till").watch());
    assert_eq!(next(&mut changes).await, Health::Unhealthy);
    set(&endpoint, "shop.Till", "SERVING").await;
    assert_eq!(next(&mut changes).await, Health::Healthy);
}

#[tokio::test]
async fn a_server_without_a_health_service_is_healthy() -> Result<(), BoxError> {
    let Some((_server, endpoint)) = server(&["bare"]) else { return Ok(()) };
    GrpcProbe::new().probe(&endpoint).await?;
    let mut changes = watched(&endpoint, GrpcProbe::new().watch());
    assert_eq!(next(&mut changes).await, Health::Healthy);
    Ok(())
}
