//! The service.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tower_service::Service;

use super::{BelowRetry, IdempotencyConfig, KeyedFuture, key::holds_key};
use crate::{
    call::{Carrier, HttpHead},
    error::BoxError,
    time::now,
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
        match self.config.as_ref().map_or(Ok(()), |config| see_to_key(config, &mut call, now)) {
            Ok(()) => KeyedFuture::called(self.inner.call(call)),
            Err(error) => KeyedFuture::failed(error),
        }
    }
}

/// Gives a call its key, unless it brought one or needs none, and remembers that it has one.
pub(crate) fn see_to_key<C>(
    config: &IdempotencyConfig,
    call: &mut C,
    now: impl FnOnce() -> Instant,
) -> Result<(), BoxError>
where
    C: Carrier,
    C::Request: HttpHead,
{
    if key(config, call, now)? {
        call.words_mut().keyed = true;
    }
    Ok(())
}

/// Whether a call has a key, which it is given where it is to have one.
fn key<C>(
    config: &IdempotencyConfig,
    call: &mut C,
    now: impl FnOnce() -> Instant,
) -> Result<bool, BoxError>
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
    let key = config.mint(now)?;
    call.request_mut().headers_mut().insert(config.name(), key);
    Ok(true)
}
