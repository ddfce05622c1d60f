//! What one would take from tower instead.

use std::{future, time::Duration};

use buttress::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{
    BoxError, Layer, Service, ServiceBuilder,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwmaDiscover},
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
};

use crate::{Leaf, Visit, layers::ten, whole};

/// A lean request that can be cloned, as tower's retry needs it.
pub(crate) fn lean() -> Request<Full<Bytes>> {
    whole::plain().map(|_| Full::new(Bytes::from_static(b"amount=12")))
}

fn leaf() -> Leaf<impl Fn(&Request<Full<Bytes>>) + Clone + Send + 'static> {
    Leaf::new(|_: &Request<Full<Bytes>>| ())
}

/// Tries an error or a 5xx again, twice. It has no budget, which would only cost it more.
#[derive(Clone, Debug)]
struct Thrice {
    left: u8,
}

impl<E> Policy<Request<Full<Bytes>>, Response<Body>, E> for Thrice {
    type Future = future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        result: &mut Result<Response<Body>, E>,
    ) -> Option<Self::Future> {
        let failed = result.as_ref().map_or(true, |response| response.status().is_server_error());
        if !failed || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

pub(crate) fn timeout(visit: &mut impl Visit) {
    let timeout = || TimeoutLayer::new(Duration::from_secs(10)).layer(leaf());
    visit.visit("timeout", "tower's Timeout", timeout, lean);
}

pub(crate) fn retry(visit: &mut impl Visit) {
    let retry = || RetryLayer::new(Thrice { left: 2 }).layer(leaf());
    visit.visit("retry", "tower's Retry", retry, lean);
}

pub(crate) fn balance(visit: &mut impl Visit) {
    visit.visit("balance", "tower's Balance behind Buffer", balanced, lean);
}

/// Power of two choices by Peak EWMA over ten, behind a buffer: it can't be cloned.
pub(crate) fn balanced()
-> impl Service<Request<Full<Bytes>>, Response = Response<Body>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ 'static {
    let services = ServiceList::new::<Request<Full<Bytes>>>(ten().map(|_| leaf()));
    let loads = PeakEwmaDiscover::new::<Request<Full<Bytes>>>(
        services,
        Duration::from_millis(30),
        Duration::from_secs(10),
        CompleteOnResponse::default(),
    );
    Buffer::new(Balance::new(loads), 1024)
}

pub(crate) fn stack(visit: &mut impl Visit) {
    let stack = || {
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
            .layer(RetryLayer::new(Thrice { left: 2 }))
            .layer(TimeoutLayer::new(Duration::from_secs(10)))
            .service(balanced())
    };
    let name = "tower's Timeout > Retry > Timeout > Buffer > Balance";
    visit.visit("stack", name, stack, lean);
}
