//! Waits for the first frame of an answer.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::Response;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{future::PeekFuture, peeked::Peeked};
use crate::{
    call::{BodyMode, Carrier},
    error::BoxError,
};

/// Waits for the first frame of an answer of gRPC, so that a retry above sees a failure that
/// comes in the trailers, as long as nothing came before them. See [the module](super) for
/// which answers are waited for, and for services that must not stand below it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeekLayer {
    settings: Settings,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    lasting: bool,
    pub(super) patience: Option<Duration>,
}

impl PeekLayer {
    /// Waits for the first frame of all answers but of streams that are meant to last, for as
    /// long as the attempt may take.
    #[must_use]
    pub const fn new() -> Self {
        Self { settings: Settings { lasting: false, patience: None } }
    }

    /// Whether streams that are [meant to last](BodyMode::Lasting) are waited for, too (default:
    /// no). Only for services whose streams send their first message, or fail, at once.
    #[must_use]
    pub const fn lasting(mut self, wait: bool) -> Self {
        self.settings.lasting = wait;
        self
    }

    /// Waits so long and no longer: then the head goes on without its first frame. With no
    /// patience at all, only what has come with the head is looked at.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = Some(patience);
        self
    }
}

impl<S> Layer<S> for PeekLayer {
    type Service = Peek<S>;

    fn layer(&self, inner: S) -> Peek<S> {
        Peek { inner, settings: self.settings }
    }
}

/// The service of [`PeekLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Peek<S> {
    inner: S,
    settings: Settings,
}

impl<S, C, B> Service<C> for Peek<S>
where
    C: Carrier,
    S: Service<C, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Response = Response<Peeked<B>>;
    type Error = BoxError;
    type Future = PeekFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        let mode = call.words().map(|words| words.body).unwrap_or_default();
        let waits = self.settings.lasting || !matches!(mode, BodyMode::Lasting { .. });
        PeekFuture::new(self.inner.call(call), waits.then_some(self.settings))
    }
}
