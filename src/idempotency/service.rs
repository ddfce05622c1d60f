//! The service.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{BelowRetry, IdempotencyConfig, KeyedFuture, key::holds_key};
use crate::{
    call::{Carrier, HttpHead},
    error::BoxError,
};

/// The service of [`IdempotencyLayer`](super::IdempotencyLayer).
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    inner: S,
    config: Option<Arc<IdempotencyConfig>>,
}

impl<S> Idempotency<S> {
    pub(super) const fn new(inner: S, config: Option<Arc<IdempotencyConfig>>) -> Self {
        Self { inner, config }
    }
}

impl<S, C> Service<C> for Idempotency<S>
where
    S: Service<C>,
    S::Error: Into<BoxError>,
    C: Carrier,
    C::Request: HttpHead,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = KeyedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut call: C) -> Self::Future {
        if let Some(config) = &self.config {
            match key(config, &mut call) {
                Ok(true) => call.words_mut().keyed = true,
                Ok(false) => {}
                Err(error) => return KeyedFuture::failed(error),
            }
        }
        KeyedFuture::called(self.inner.call(call))
    }
}

/// Sees to the key of a call, and says whether it has one.
fn key<C>(config: &IdempotencyConfig, call: &mut C) -> Result<bool, BoxError>
where
    C: Carrier,
    C::Request: HttpHead,
{
    let request = call.request();
    // A map without headers is not searched: that would hash the name.
    if !request.headers().is_empty() {
        let mut own = request.headers().get_all(config.name()).iter();
        if let Some(first) = own.next() {
            // The caller's header goes out as it is. Two of them are no key: which one a service
            // would take is anybody's guess.
            return Ok(own.next().is_none() && holds_key(first));
        }
    }
    if !config.covers(request.method()) {
        return Ok(false);
    }
    if call.words().is_some_and(|words| words.attempt > 0) {
        return Err(BelowRetry::new().into());
    }
    let key = config.mint()?;
    call.request_mut().headers_mut().insert(config.name(), key);
    Ok(true)
}
