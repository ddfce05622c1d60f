//! Says which calls are to go to the same endpoint.

use std::task::{Context, Poll};

use http::HeaderName;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    algo::xxh64::xxh64,
    call::{Carrier, HttpHead},
};

/// Gives each call its [affinity](crate::call::Words::affinity), by which
/// [`RingHash`](super::RingHash) and [`Maglev`](super::Maglev) pick: from a header, or by a
/// function of the request. A call that has one keeps it.
///
/// It stands anywhere above the balancer, at best above the retry, so that it works once for each
/// call. It adds no future of its own and allocates nothing for a carrier that holds its words
/// inline.
///
/// ```
/// use buttress::balance::{AffinityLayer, BalanceConfig, Maglev};
///
/// // All calls of a user to the endpoint that has them in its cache.
/// let config = BalanceConfig::new().policy(Maglev::new());
/// let layer = AffinityLayer::header(http::HeaderName::from_static("x-user-id"));
/// // Or by what is asked for.
/// let layer = AffinityLayer::by(|request: &http::Request<()>| Some(request.uri().path().into()));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AffinityLayer<F> {
    key: F,
}

impl AffinityLayer<ByHeader> {
    /// By the value of a header; of several of this name, by their values joined with `,` (gRFC
    /// A42). A call without it has no affinity.
    #[must_use]
    pub const fn header(name: HeaderName) -> Self {
        Self { key: ByHeader { name } }
    }
}

impl<F> AffinityLayer<F> {
    /// By what this function makes of the request; none for no affinity.
    #[must_use]
    pub const fn by<R>(key: F) -> Self
    where
        F: Fn(&R) -> Option<Affinity>,
    {
        Self { key }
    }
}

/// What calls have in common that are to go to the same endpoint: a hash of what it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Affinity(u64);

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Affinity {
    fn from(key: &T) -> Self {
        Self(xxh64(key.as_ref(), 0))
    }
}

/// The value of a header.
#[derive(Clone, Debug)]
pub struct ByHeader {
    name: HeaderName,
}

/// Finds what a request has in common with others. A closure, or [`ByHeader`].
pub trait FindAffinity<R> {
    /// What it is, if there is something.
    fn find(&self, request: &R) -> Option<Affinity>;
}

impl<F, R> FindAffinity<R> for F
where
    F: Fn(&R) -> Option<Affinity>,
{
    fn find(&self, request: &R) -> Option<Affinity> {
        self(request)
    }
}

impl<R: HttpHead> FindAffinity<R> for ByHeader {
    fn find(&self, request: &R) -> Option<Affinity> {
        let mut values = request.headers().get_all(&self.name).iter();
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(first.as_bytes().into()) };
        let mut joined = first.as_bytes().to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.push(b',');
            joined.extend_from_slice(value.as_bytes());
        }
        Some((&joined).into())
    }
}

impl<S, F: Clone> Layer<S> for AffinityLayer<F> {
    type Service = WithAffinity<S, F>;

    fn layer(&self, inner: S) -> WithAffinity<S, F> {
        WithAffinity { inner, key: self.key.clone() }
    }
}

/// The service of [`AffinityLayer`].
#[derive(Clone, Copy, Debug)]
pub struct WithAffinity<S, F> {
    inner: S,
    key: F,
}

impl<S, F, C> Service<C> for WithAffinity<S, F>
where
    S: Service<C>,
    C: Carrier,
    F: FindAffinity<C::Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: C) -> S::Future {
        if call.words().is_none_or(|words| words.affinity.is_none()) {
            if let Some(Affinity(hash)) = self.key.find(call.request()) {
                call.words_mut().affinity = Some(hash);
            }
        }
        self.inner.call(call)
    }
}
