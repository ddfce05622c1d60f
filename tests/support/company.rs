//! Endpoints in memory, which do as they are told: for tests under paused time.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress::{
    BoxError,
    body::Body,
    call::mark_handed_over,
    client::{AttemptBody, Builder, Client},
    endpoint::{Endpoint, MakeEndpoint},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tower::Service;

pub const MS: Duration = Duration::from_millis(1);

pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics with it")
}

pub fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

/// What an endpoint does with a request.
pub enum Act {
    /// Answers.
    Answer(Response<Body>),
    /// Answers after a while.
    After(Duration, Response<Body>),
    /// Takes the request, and nothing more is heard of it.
    Hang,
    /// Fails after it took the request.
    Fail(io::ErrorKind),
    /// Fails with any error.
    Error(BoxError),
}

pub fn status(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::from("done"));
    *response.status_mut() = status.try_into().expect("a status");
    response
}

pub fn answer(code: u16) -> Act {
    Act::Answer(status(code))
}

/// A head of 200 and then this body.
pub fn streaming(pieces: impl IntoIterator<Item = Piece>) -> Act {
    Act::Answer(Response::new(Body::new(Pieces::new(pieces))))
}

/// A request as its endpoint saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which endpoint it was, by its port.
    pub port: u16,
    /// How many requests there were before, at all endpoints.
    pub nth: usize,
    pub at: Instant,
    pub headers: HeaderMap,
    pub uri: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

type Script = dyn Fn(&Seen) -> Act + Send + Sync;

/// Endpoints by their ports.
#[derive(Clone)]
pub struct Company {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Requests that were dropped before their outcome.
    pub dropped: Arc<AtomicUsize>,
}

impl Company {
    pub fn new(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), seen: Arc::default(), dropped: Arc::default() }
    }

    /// A client of endpoints at these ports, with a seed.
    pub fn builder(&self, ports: impl IntoIterator<Item = u16>) -> Builder<Self> {
        Client::builder("http://payments")
            .endpoints(ports.into_iter().map(address))
            .transport(self.clone())
            .seed(7)
    }

    /// What was seen so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    pub fn calls(&self) -> usize {
        lock(&self.seen).len()
    }

    pub fn calls_at(&self, port: u16) -> usize {
        lock(&self.seen).iter().filter(|seen| seen.port == port).count()
    }
}

impl MakeEndpoint for Company {
    type Service = Leaf;

    fn make(&self, endpoint: &Endpoint) -> Leaf {
        Leaf { port: endpoint.address().port(), company: self.clone() }
    }
}

/// One endpoint.
#[derive(Clone)]
pub struct Leaf {
    port: u16,
    company: Company,
}

impl Leaf {
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Service<Request<AttemptBody>> for Leaf {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Acting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<AttemptBody>) -> Acting {
        let mut all = lock(&self.company.seen);
        let seen = Seen {
            port: self.port,
            nth: all.len(),
            at: now(),
            headers: request.headers().clone(),
            uri: request.uri().to_string(),
        };
        all.push(seen.clone());
        drop(all);
        let act = (self.company.script)(&seen);
        let doing = Box::pin(async move {
            mark_handed_over();
            // Nobody answers in the poll in which it is asked.
            tokio::task::yield_now().await;
            let _request = request;
            match act {
                Act::Answer(response) => Ok(response),
                Act::After(wait, response) => {
                    sleep(wait).await;
                    Ok(response)
                }
                Act::Hang => pending().await,
                Act::Fail(kind) => Err(io::Error::from(kind).into()),
                Act::Error(error) => Err(error),
            }
        });
        Acting { doing, dropped: Some(Arc::clone(&self.company.dropped)) }
    }
}

type Doing = dyn Future<Output = Result<Response<Body>, BoxError>> + Send;

pub struct Acting {
    doing: Pin<Box<Doing>>,
    /// None once it is done.
    dropped: Option<Arc<AtomicUsize>>,
}

impl Future for Acting {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = self.doing.as_mut().poll(cx);
        if done.is_ready() {
            self.dropped = None;
        }
        done
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.fetch_add(1, SeqCst);
        }
    }
}

/// What comes of a body.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    Data(&'static str),
    Wait(Duration),
    /// Silence for ever.
    Stall,
    /// It breaks off.
    Break,
}

/// A body in pieces.
pub struct Pieces {
    left: VecDeque<Piece>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        Self { left: pieces.into_iter().collect(), sleep: None }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.left.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Data(data)) => {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(data)))));
                }
                Some(Piece::Wait(wait)) => self.sleep = Some(Box::pin(sleep(wait))),
                Some(Piece::Stall) => {
                    self.left.push_front(Piece::Stall);
                    return Poll::Pending;
                }
                Some(Piece::Break) => {
                    let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }
}
