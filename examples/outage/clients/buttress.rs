//! `buttress`: one builder. Set are the service, the key, body collection, discovery, the health
//! path, and the timeouts that fit the service; everything else is a default. Hedging is off
//! unless it is asked for, and then as it is by default.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress::client::{AttemptBody, Client as Stack};
use buttress::discover::File;
use buttress::endpoint::{Endpoint, MakeEndpoint};
use buttress::hedge::HedgeConfig;
use buttress::transport::{HyperTransport, TransportConfig};
use buttress::{Event, Observer};
use tokio::task::JoinSet;
use tower::Service;

use super::{ATTEMPT, CONNECT, Calling, Client, Failure, Reply, Request, Setup, TOTAL};
use crate::outage::BoxError;
use crate::outage::args::Http;
use crate::outage::lifeline;
use crate::outage::witness::{Watching, Witness};
use crate::support::page::Page;

/// Whether the drill can play this client.
pub(super) const BUILT: bool = true;

/// Builds the client.
///
/// # Errors
/// A setting can't be.
pub(super) async fn open(setup: Setup) -> Result<Arc<dyn Client>, BoxError> {
    let connections = match setup.http {
        Http::One => TransportConfig::http1(),
        Http::Two => TransportConfig::http2(),
    }
    .connect_timeout(CONNECT)?;
    let (transport, witness) = (HyperTransport::new(connections.clone()), setup.witness);
    let told = witness.clone();
    let builder = Stack::builder("http://payments")
        .discover(File::new(setup.list))
        .health_check("/health")
        .connections(connections)
        .idempotency_keys()
        .collect_bodies()
        .deadline(TOTAL)
        .attempt_timeout(ATTEMPT)
        .observer(Observer::new(move |event| {
            if matches!(event, Event::Hedged { .. }) {
                told.hedged();
            }
        }))
        // As above, but for the witness, who counts the attempts.
        .transport(move |endpoint: &Endpoint| Watched {
            inner: transport.make(endpoint),
            address: endpoint.address(),
            witness: witness.clone(),
        });
    let builder = if setup.hedge { builder.hedge(HedgeConfig::new()) } else { builder };
    let stack = builder.build()?;
    let mut tasks = JoinSet::new();
    if let Some(port) = setup.page {
        let page = Page::open(port).await?;
        lifeline::say(&format!("look at {}", page.url()));
        tasks.spawn(page.serve(stack.clone()));
    }
    Ok(Arc::new(Buttress { stack, _page: tasks }))
}

struct Buttress {
    stack: Stack,
    /// It is closed with the client.
    _page: JoinSet<std::io::Result<()>>,
}

impl Client for Buttress {
    fn call(&self, request: Request) -> Calling {
        let call = self.stack.send(request.map(buttress::body::Body::new));
        Box::pin(async move {
            let response = call.await.map_err(|error| Failure::new(error.kind().code()))?;
            let status = response.status();
            let body = response.into_body().collect().await;
            Ok(Reply { status, body: body.map_err(|error| Failure::of(&*error))? })
        })
    }
}

/// Tells the witness of each attempt; it changes nothing.
#[derive(Clone)]
struct Watched<S> {
    inner: S,
    address: SocketAddr,
    witness: Witness,
}

impl<S> Service<http::Request<AttemptBody>> for Watched<S>
where
    S: Service<http::Request<AttemptBody>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = WatchedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<AttemptBody>) -> Self::Future {
        let watching = self.witness.watch(super::call_of(&request), self.address);
        WatchedFuture { inner: Box::pin(self.inner.call(request)), _watching: watching }
    }
}

struct WatchedFuture<F> {
    inner: Pin<Box<F>>,
    _watching: Watching,
}

impl<F: Future> Future for WatchedFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.inner.as_mut().poll(cx)
    }
}
