//! Into the carrier and out of it again.

use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::{Call, Carrier};

/// Wraps plain requests in a [`Call`], for the layers of this crate over services that are
/// not HTTP.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use buttress::{call::{CarryLayer, UncarryLayer}, timeout::DeadlineLayer};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
/// let mut service = ServiceBuilder::new()
///     .layer(CarryLayer::new())
///     .layer(DeadlineLayer::plain(Duration::from_secs(1))?)
///     .layer(UncarryLayer::new())
///     .service(service_fn(async |name: &str| Ok::<_, Infallible>(format!("hello {name}"))));
/// assert_eq!(service.ready().await?.call("tower").await?, "hello tower");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CarryLayer;

impl CarryLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for CarryLayer {
    type Service = Carry<S>;

    fn layer(&self, inner: S) -> Carry<S> {
        Carry { inner }
    }
}

/// The service of [`CarryLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Carry<S> {
    inner: S,
}

impl<S, R> Service<R> for Carry<S>
where
    S: Service<Call<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(Call::new(request))
    }
}

/// Unwraps the plain request from its carrier, for the services below.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct UncarryLayer;

impl UncarryLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for UncarryLayer {
    type Service = Uncarry<S>;

    fn layer(&self, inner: S) -> Uncarry<S> {
        Uncarry { inner }
    }
}

/// The service of [`UncarryLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Uncarry<S> {
    inner: S,
}

impl<S, C> Service<C> for Uncarry<S>
where
    C: Carrier,
    S: Service<C::Request>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: C) -> S::Future {
        self.inner.call(call.into_request())
    }
}
