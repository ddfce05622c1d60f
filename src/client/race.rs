//! Hedging, where it was asked for.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::either::Either;
use crate::hedge::{Hedge, HedgeConfig, HedgeLayer};

/// A service, with hedging around it or without.
pub type Raced<S, Cl> = Either<Apart<Hedge<S, Cl>>, S>;

/// Puts hedging around `stack` if there are settings for it.
pub(super) fn race<S, Cl>(config: Option<HedgeConfig>, cl: Cl, stack: S) -> Raced<S, Cl> {
    match config {
        Some(config) => {
            let hedge = HedgeLayer::new(config, cl).layer(stack);
            Either::with(Apart { inner: hedge })
        }
        None => Either::without(stack),
    }
}

/// Puts each call of a service into a box of its own: the future of two attempts is more than
/// twice that of one, and every call would carry its size about, in stacks that never hedge
/// too. So those that do pay one allocation a call.
#[derive(Clone, Debug)]
pub struct Apart<S> {
    inner: S,
}

impl<S, C> Service<C> for Apart<S>
where
    S: Service<C>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: C) -> Self::Future {
        Box::pin(self.inner.call(call))
    }
}
