//! Servers of bare bytes, which fail where no real one can be made to.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Raw {
    /// Runs `serve` for every connection. What it returns is the client's business.
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let served = serve(stream);
                connections.spawn(async move {
                    let _ = served.await;
                });
            }
        });
        Self { address, _tasks: tasks }
    }

    /// Takes a request with each connection, says `bytes`, and hangs up.
    pub(crate) async fn saying(bytes: &'static [u8]) -> Self {
        Self::start(move |mut stream| async move {
            head(&mut stream).await?;
            stream.write_all(bytes).await?;
            hang_up(stream).await
        })
        .await
    }
}

/// Reads the head of an HTTP/1.1 request, or the preface of HTTP/2, which ends alike.
pub(crate) async fn head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(())
}

/// Closes in an orderly way: what was not read yet would make a reset of it.
pub(crate) async fn hang_up(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) -> io::Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// An address that takes no more connections: its backlog is full, and nobody accepts.
pub(crate) fn unaccepting() -> (SocketAddr, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).expect("loopback has ports");
    listener.listen(1).expect("it is bound");
    let address = listener.local_addr().ok().and_then(|at| at.as_socket()).expect("bound");
    let mut sockets = vec![listener];
    // A backlog of 1 holds two; the loop goes on until one hangs, to count on no number.
    for _ in 0..16 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let full = filler.connect_timeout(&address.into(), Duration::from_millis(300)).is_err();
        sockets.push(filler);
        if full {
            return (address, sockets);
        }
    }
    panic!("the backlog never filled");
}
