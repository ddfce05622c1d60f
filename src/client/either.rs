//! A layer that may be there or not.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::error::BoxError;

/// A service with a layer around it, or without.
#[derive(Clone, Debug)]
pub struct Either<A, B> {
    kind: Kind<A, B>,
}

#[derive(Clone, Debug)]
enum Kind<A, B> {
    With(A),
    Without(B),
}

impl<A, B> Either<A, B> {
    pub(super) const fn with(service: A) -> Self {
        Self { kind: Kind::With(service) }
    }

    pub(super) const fn without(service: B) -> Self {
        Self { kind: Kind::Without(service) }
    }
}

impl<A, B, C> Service<C> for Either<A, B>
where
    A: Service<C, Error = BoxError>,
    B: Service<C, Response = A::Response, Error = BoxError>,
{
    type Response = A::Response;
    type Error = BoxError;
    type Future = EitherFuture<A::Future, B::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.kind {
            Kind::With(inner) => inner.poll_ready(cx),
            Kind::Without(inner) => inner.poll_ready(cx),
        }
    }

    fn call(&mut self, call: C) -> Self::Future {
        let state = match &mut self.kind {
            Kind::With(inner) => State::With { inner: inner.call(call) },
            Kind::Without(inner) => State::Without { inner: inner.call(call) },
        };
        EitherFuture { state }
    }
}

pin_project! {
    /// The future of [`Either`].
    #[derive(Debug)]
    pub struct EitherFuture<A, B> {
        #[pin]
        state: State<A, B>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<A, B> {
        With { #[pin] inner: A },
        Without { #[pin] inner: B },
    }
}

impl<A, B> Future for EitherFuture<A, B>
where
    A: Future,
    B: Future<Output = A::Output>,
{
    type Output = A::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        match self.project().state.project() {
            StateProj::With { inner } => inner.poll(cx),
            StateProj::Without { inner } => inner.poll(cx),
        }
    }
}
