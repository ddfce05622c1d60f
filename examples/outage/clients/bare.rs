//! `bare`: hyper-util with one timeout, round robin over the list.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::uri::{Authority, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;

use super::list::List;
use super::{Calling, Client, Failure, Request, Setup, TOTAL, add_key, call_of, send, transport};
use crate::outage::BoxError;
use crate::outage::witness::Witness;

pub(super) struct Bare {
    list: List,
    turn: Arc<AtomicUsize>,
    client: Hyper<HttpConnector, Full<Bytes>>,
    witness: Witness,
}

impl Bare {
    pub(super) fn new(setup: Setup) -> Result<Self, BoxError> {
        Ok(Self {
            list: List::watch(setup.list)?,
            turn: Arc::default(),
            client: transport(setup.http),
            witness: setup.witness,
        })
    }
}

impl Client for Bare {
    fn call(&self, mut request: Request) -> Calling {
        add_key(&mut request);
        // Turns are only spread; nothing else hangs on their order.
        let address = self.list.nth(self.turn.fetch_add(1, Ordering::Relaxed));
        let (client, witness) = (self.client.clone(), self.witness.clone());
        Box::pin(async move {
            let address = address.ok_or_else(|| Failure::new("no_endpoint"))?;
            *request.uri_mut() = at(address, request.uri()).ok_or_else(|| Failure::new("other"))?;
            let _watching = witness.watch(call_of(&request), address);
            match timeout(TOTAL, send(&client, request)).await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(error)) => Err(Failure::of(&*error)),
                Err(elapsed) => Err(Failure::of(&elapsed)),
            }
        })
    }
}

/// The same path at an address of the list.
pub(super) fn at(address: std::net::SocketAddr, uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(address.to_string().parse::<Authority>().ok()?);
    Uri::from_parts(parts).ok()
}
