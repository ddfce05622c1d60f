//! `tower`: what a careful engineer builds from tower alone.
//!
//! From outside in: the total timeout, retries with a budget, the attempt's timeout, a buffer, and
//! power of two choices by Peak EWMA over the endpoints of the list, each with connections of its
//! own. The body is collected within the attempt, so that one that stalls is retried.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::balance::p2c::Balance;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover};
use tower::retry::Policy;
use tower::retry::backoff::{
    Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _,
};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::util::rng::HasherRng;
use tower::util::{BoxCloneSyncService, ServiceExt as _};
use tower::{BoxError, Service, ServiceBuilder};

use super::bare::at;
use super::list::List;
use super::{
    ATTEMPT, Calling, Client, Failure, Reply, Request, Setup, TOTAL, add_key, call_of, send,
    transport,
};
use crate::outage::args::Http;
use crate::outage::witness::Witness;

/// Attempts of a call, the first included.
const MAX_ATTEMPTS: usize = 3;
/// The first pause; each further one is twice as long, all with full jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));
/// What a new endpoint is taken for, and how long a bad moment is remembered: the values of
/// tower's own example.
const EWMA: (Duration, Duration) = (Duration::from_millis(30), Duration::from_secs(10));
/// Calls that wait for an endpoint to be picked.
const BUFFER: usize = 1024;

pub(super) struct Tower {
    stack: BoxCloneSyncService<Request, Reply, BoxError>,
}

impl Tower {
    pub(super) fn new(setup: &Setup) -> Result<Self, BoxError> {
        let list = List::watch(setup.list.clone())?;
        let (changes, discover) = mpsc::channel(64);
        tokio::spawn(follow(list, setup.http, setup.witness.clone(), changes));
        let discover = PeakEwmaDiscover::new::<Request>(
            ReceiverStream::new(discover),
            EWMA.0,
            EWMA.1,
            CompleteOnResponse::default(),
        );
        let attempts = ServiceBuilder::new()
            .retry(Again::new())
            .timeout(ATTEMPT)
            .buffer(BUFFER)
            .service(Balance::new(discover));
        // tower's timeout does not cover waiting for readiness; within `oneshot` it does.
        let whole = tower::service_fn(move |request| attempts.clone().oneshot(request));
        let stack = ServiceBuilder::new().timeout(TOTAL).service(whole);
        Ok(Self { stack: BoxCloneSyncService::new(stack) })
    }
}

impl Client for Tower {
    fn call(&self, mut request: Request) -> Calling {
        add_key(&mut request);
        let call = self.stack.clone().oneshot(request);
        Box::pin(async move { call.await.map_err(|error| Failure::of(&*error)) })
    }
}

/// Retries errors and the statuses that promise something of a repetition. Each call has a key,
/// so that any of them may be repeated.
#[derive(Clone)]
struct Again {
    budget: Arc<TpsBudget>,
    left: usize,
    /// Made at the first retry: a clone of one generator would give all calls the same jitter.
    backoff: Option<ExponentialBackoff>,
}

impl Again {
    fn new() -> Self {
        Self { budget: Arc::default(), left: MAX_ATTEMPTS - 1, backoff: None }
    }
}

impl Policy<Request, Reply, BoxError> for Again {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        _: &mut Request,
        result: &mut Result<Reply, BoxError>,
    ) -> Option<Self::Future> {
        let failed = match result {
            Ok(reply) => matches!(reply.status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504),
            Err(_) => true,
        };
        if !failed {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        if self.backoff.is_none() {
            let maker = ExponentialBackoffMaker::new(BACKOFF.0, BACKOFF.1, 1.0, HasherRng::new());
            self.backoff = maker.ok().map(|mut maker| maker.make_backoff());
        }
        self.backoff.as_mut().map(|backoff| backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

type Changes = mpsc::Sender<Result<Change<SocketAddr, Endpoint>, Infallible>>;

/// Turns the list into changes. Never an error: one would end the balancer for good.
async fn follow(list: List, http: Http, witness: Witness, changes: Changes) {
    let mut addresses = list.subscribe();
    let mut known: HashSet<SocketAddr> = HashSet::new();
    loop {
        let now: HashSet<SocketAddr> = addresses.borrow_and_update().iter().copied().collect();
        let gone = known.difference(&now).map(|address| Change::Remove(*address));
        let come = now.difference(&known).map(|address| {
            let client = transport(http);
            Change::Insert(
                *address,
                Endpoint { address: *address, client, witness: witness.clone() },
            )
        });
        for change in gone.chain(come).collect::<Vec<_>>() {
            if changes.send(Ok(change)).await.is_err() {
                return;
            }
        }
        known = now;
        tokio::select! {
            changed = addresses.changed() => if changed.is_err() { return },
            () = changes.closed() => return,
        }
    }
}

/// One instance, with a pool of its own.
struct Endpoint {
    address: SocketAddr,
    client: Hyper<HttpConnector, Full<Bytes>>,
    witness: Witness,
}

impl Service<Request> for Endpoint {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Always: an endpoint that fails here would leave the balancer and never come back.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let (client, address) = (self.client.clone(), self.address);
        let watching = self.witness.watch(call_of(&request), address);
        Box::pin(async move {
            let _watching = watching;
            let uri = at(address, request.uri()).ok_or("the address makes no URI")?;
            *request.uri_mut() = uri;
            send(&client, request).await
        })
    }
}
