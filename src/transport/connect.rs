//! Dials one address, whatever the URI says.

use std::{
    convert::Infallible,
    future::{Future, Ready, poll_fn, ready},
    io::{self, IoSlice},
    net::SocketAddr,
    option,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector, dns::Name};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{config::TransportConfig, error::ConnectTimeout};
use crate::{
    error::BoxError,
    event::{Event, Observer},
    time::{Sleep, now},
};

/// Makes the connections of one endpoint. Cloned for every request, so it is one pointer.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    dialler: Arc<Dialler>,
}

#[derive(Debug)]
struct Dialler {
    tcp: HttpConnector<Fixed>,
    address: SocketAddr,
    limit: Duration,
    observer: Observer,
}

impl Connector {
    pub(super) fn new(address: SocketAddr, config: &TransportConfig) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Fixed(address));
        tcp.set_nodelay(config.nodelay);
        tcp.set_keepalive(config.tcp_keep_alive);
        tcp.set_keepalive_interval(config.tcp_keep_alive);
        let limit = config.connect_timeout;
        let observer = config.observer.clone();
        Self { dialler: Arc::new(Dialler { tcp, address, limit, observer }) }
    }
}

impl Service<Uri> for Connector {
    type Response = Dialled<<HttpConnector<Fixed> as Service<Uri>>::Response>;
    type Error = BoxError;
    // Boxed: hyper-util wants it `Unpin`, and one allocation a connection is nothing beside it.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(dial(Arc::clone(&self.dialler)))
    }
}

async fn dial(dialler: Arc<Dialler>) -> Result<<Connector as Service<Uri>>::Response, BoxError> {
    let Dialler { address, limit, ref observer, .. } = *dialler;
    // A name, never an address: so that our resolver is asked.
    let connecting = dialler.tcp.clone().call(Uri::from_static("http://endpoint"));
    let mut connecting = pin!(connecting);
    let mut sleep = pin!(Sleep::until(now() + limit));
    let io = poll_fn(|cx| {
        if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(BoxError::from));
        }
        ready!(sleep.as_mut().poll(cx));
        observer.on(|| Event::ConnectTimedOut { address, limit });
        Poll::Ready(Err(ConnectTimeout::new(address, limit).into()))
    })
    .await?;
    Ok(Dialled { io })
}

/// Resolves every name to the endpoint's address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed(SocketAddr);

impl Service<Name> for Fixed {
    type Response = option::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(Some(self.0).into_iter()))
    }
}

pin_project! {
    /// A connection that says nothing about itself. The one of hyper-util puts its addresses
    /// into the extensions of every response, at four allocations each; whoever asks for the
    /// address knows the endpoint.
    #[derive(Debug)]
    pub(super) struct Dialled<T> {
        #[pin]
        io: T,
    }
}

impl<T> Connection for Dialled<T> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl<T: Read> Read for Dialled<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().io.poll_read(cx, buf)
    }
}

impl<T: Write> Write for Dialled<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bufs)
    }
}
