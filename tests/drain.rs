//! What becomes of the connection of an answer that is tried again, on loopback sockets.

#![cfg(feature = "hyper")]

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use buttress::{
    BoxError,
    algo::backoff::Backoff,
    classify::HttpClassifier,
    client::Client,
    endpoint::{Endpoint, MakeEndpoint},
    retry::{DEFAULT_DRAIN_LIMIT, RetryConfig, RetryLayer},
    transport::{HyperTransport, TransportConfig},
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt};

/// Long enough for everything that happens at all, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long a call backs off: long enough for what comes over loopback.
const PAUSE: Duration = Duration::from_millis(400);

/// How the first request is answered; all others get "done".
#[derive(Clone, Copy, Debug)]
enum First {
    /// So many pieces of a KiB, some time after each other, behind the head.
    Pieces(usize),
    /// A head that promises so much, and a first piece of it that is all that ever comes.
    Stalled(usize),
}

/// Counts its connections. It stops when it is dropped.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// How many requests have come.
    begun: Arc<AtomicUsize>,
    /// What each good answer waits for.
    leave: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(first: First) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (connections, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let leave = Arc::new(Semaphore::new(0));
        let (accepted, requests) = (Arc::clone(&connections), Arc::clone(&begun));
        let asked = Arc::clone(&leave);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (requests, leave) = (Arc::clone(&requests), Arc::clone(&asked));
                serving.spawn(async move {
                    // A client that hangs up is no failure of the server.
                    let _ = serve(stream, first, &requests, &leave).await;
                });
            }
        });
        Ok(Self { address, connections, begun, leave, _tasks: tasks })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: TcpStream,
    first: First,
    requests: &AtomicUsize,
    leave: &Semaphore,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if requests.fetch_add(1, Ordering::SeqCst) > 0 {
            leave.acquire().await.map_err(io::Error::other)?.forget();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await?;
            continue;
        }
        let piece = [b'x'; 1024];
        match first {
            First::Pieces(count) => {
                let head = "HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                for _ in 0..count {
                    sleep(Duration::from_millis(2)).await;
                    stream.write_all(b"400\r\n").await?;
                    stream.write_all(&piece).await?;
                    stream.write_all(b"\r\n").await?;
                }
                stream.write_all(b"0\r\n\r\n").await?;
            }
            First::Stalled(length) => {
                let head = format!("HTTP/1.1 503 Busy\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&piece).await?;
                // Until the client hangs up.
                while stream.read(&mut [0; 64]).await? > 0 {}
                return Ok(());
            }
        }
    }
}

fn config() -> RetryConfig {
    let backoff = Backoff::fixed(PAUSE).expect("no zero").spread(1.0, 1.0).expect("sound");
    RetryConfig::new().backoff(backoff).max_attempts(2).expect("two is a number")
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("within the test's patience")
}

/// How long a call takes whose first answer was `first`, and over how many connections it went.
async fn call(first: First, config: RetryConfig) -> Result<(Duration, usize), BoxError> {
    let server = Server::start(first).await?;
    server.leave.add_permits(1);
    let transport = HyperTransport::new(TransportConfig::http1());
    let transport = transport.make(&Endpoint::from(server.address));
    let service = RetryLayer::new(config, HttpClassifier::new()).layer(transport);
    let request = Request::get("http://orders/").body(Full::<Bytes>::default())?;
    let began = Instant::now();
    let response = within(service.oneshot(request)).await?;
    let took = began.elapsed();
    assert_eq!(response.status(), 200, "{first:?}");
    assert_eq!(within(response.into_body().collect()).await?.to_bytes(), "done");
    Ok((took, server.connections()))
}

#[tokio::test]
async fn an_answer_that_is_tried_again_is_read_and_its_connection_used_for_the_next_attempt()
-> Result<(), BoxError> {
    let (_, connections) = call(First::Pieces(6), config()).await?;
    assert_eq!(connections, 1);
    let (_, connections) = call(First::Pieces(6), config().drain_limit(0)).await?;
    assert_eq!(connections, 2, "unread, its connection is of no use any more");
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_longer_than_the_limit_is_not_read_on() -> Result<(), BoxError> {
    let many = First::Pieces(2 * DEFAULT_DRAIN_LIMIT / 1024);
    let (_, connections) = call(many, config()).await?;
    assert_eq!(connections, 2);
    let (_, connections) = call(many, config().drain_limit(4 * DEFAULT_DRAIN_LIMIT)).await?;
    assert_eq!(connections, 1, "it was the limit that kept it");
    Ok(())
}

#[tokio::test]
async fn a_body_that_stalls_puts_off_no_attempt() -> Result<(), BoxError> {
    for length in [2 * 1024, 2 * DEFAULT_DRAIN_LIMIT] {
        let (took, connections) = call(First::Stalled(length), config()).await?;
        assert_eq!(connections, 2);
        assert!(took >= PAUSE && took < PATIENCE / 2, "{took:?} for a backoff of {PAUSE:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_was_read_holds_no_place_at_its_endpoint_while_another_attempt_is_made()
-> Result<(), BoxError> {
    for (limit, held) in [(DEFAULT_DRAIN_LIMIT, 1), (0, 2)] {
        let server = Server::start(First::Pieces(6)).await?;
        let retry = config().drain_limit(limit);
        let client =
            Client::builder("http://orders").endpoints([server.address]).retry(retry).build()?;
        let get = Request::get("/").body(())?;
        let sending = tokio::spawn(client.send(get));
        within(async {
            while server.begun.load(Ordering::SeqCst) < 2 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let in_flight: u32 = client.endpoints().iter().map(|endpoint| endpoint.in_flight).sum();
        assert_eq!(in_flight, held, "with a limit of {limit}");
        server.leave.add_permits(1);
        assert_eq!(within(sending).await??.status(), 200);
    }
    Ok(())
}
