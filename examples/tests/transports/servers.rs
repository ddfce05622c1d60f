//! Servers on loopback that speak HTTP/1.1 and HTTP/2, and addresses where there is none.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};

use crate::contract::Result;

/// An instance. It dies, with all its connections, when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Answers each request with what `answer` says; with `None` it takes it and cuts it off.
    pub(crate) async fn start<A, F>(answer: A) -> Result<Self>
    where
        A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Response<Body>>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (answer, requests) = (Arc::new(answer), Arc::new(AtomicU32::new(0)));
        let counter = Arc::clone(&requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, counter) = (Arc::clone(&answer), Arc::clone(&counter));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        counter.fetch_add(1, Ordering::SeqCst);
                        let answer = answer(request);
                        // An error of the service is how hyper is told to cut it off.
                        async { answer.await.ok_or("cut off") }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, requests, _tasks: tasks })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

pub(crate) fn text(text: impl Into<Bytes>) -> Option<Response<Body>> {
    Some(Response::new(Body::full(text)))
}

/// A port that is taken and not listened on, as long as this is held.
#[derive(Debug)]
pub(crate) struct Nobody {
    socket: TcpSocket,
}

impl Nobody {
    pub(crate) fn new() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        Ok(Self { socket })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}

/// An address that takes no more connections, as long as these are held: its backlog is full, and
/// nobody accepts.
pub(crate) fn unaccepting() -> Result<(SocketAddr, Vec<Socket>)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(1)?;
    let address = listener.local_addr()?.as_socket().ok_or("it is bound to one")?;
    let mut sockets = vec![listener];
    // A backlog of 1 holds two; the loop goes on until one hangs, to count on no number.
    for _ in 0..16 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let full = filler.connect_timeout(&address.into(), Duration::from_millis(100)).is_err();
        sockets.push(filler);
        if full {
            return Ok((address, sockets));
        }
    }
    Err("the backlog never filled".into())
}
