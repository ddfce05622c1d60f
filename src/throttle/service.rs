//! Asks the throttle and obeys.

use std::task::{Context, Poll};

use tower_service::Service;

use super::{
    future::ResponseFuture,
    handle::{Permit, Throttle},
};
use crate::{call::Carrier, classify::Classify, error::BoxError, time};

/// The service of [`ThrottleLayer`](super::ThrottleLayer).
#[derive(Clone, Debug)]
pub struct ThrottleService<S, Cl> {
    inner: S,
    throttle: Option<Throttle>,
    classifier: Cl,
}

impl<S, Cl> ThrottleService<S, Cl> {
    pub(super) const fn new(inner: S, throttle: Option<Throttle>, classifier: Cl) -> Self {
        Self { inner, throttle, classifier }
    }

    /// The throttle, if there is one.
    pub const fn throttle(&self) -> Option<&Throttle> {
        self.throttle.as_ref()
    }
}

impl<S, C, Cl> Service<C> for ThrottleService<S, Cl>
where
    C: Carrier,
    S: Service<C>,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response> + Clone,
{
    type Response = Cl::Guarded<Option<Permit>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, Cl>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        let asked = call.words().map(|words| words.asked()).unwrap_or_default();
        let permit = match &self.throttle {
            None => None,
            Some(throttle) => match throttle.admit(asked, time::now()) {
                Ok(permit) => Some(permit),
                Err(throttled) => return ResponseFuture::refused(throttled),
            },
        };
        let inner = self.inner.call(call);
        ResponseFuture::admitted(inner, self.classifier.clone(), asked, permit)
    }
}
