//! The body of a call's answer, or of the one that was found.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{body::TakeWhole, error::BoxError};

pin_project! {
    /// The body of a call's own answer, or of one that a lookup found.
    #[derive(Debug)]
    pub struct ReconciledBody<B, D> {
        #[pin]
        origin: Origin<B, D>,
    }
}

pin_project! {
    #[project = OriginProj]
    #[derive(Debug)]
    enum Origin<B, D> {
        Answered { #[pin] body: B },
        Found { #[pin] body: D },
    }
}

impl<B, D> ReconciledBody<B, D> {
    pub(super) const fn answered(body: B) -> Self {
        Self { origin: Origin::Answered { body } }
    }

    pub(super) const fn found(body: D) -> Self {
        Self { origin: Origin::Found { body } }
    }
}

impl<B: TakeWhole, D: TakeWhole> TakeWhole for ReconciledBody<B, D> {
    fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.origin {
            Origin::Answered { body } => body.take_whole(),
            Origin::Found { body } => body.take_whole(),
        }
    }
}

impl<B, D> Body for ReconciledBody<B, D>
where
    B: Body,
    B::Error: Into<BoxError>,
    D: Body<Data = B::Data>,
    D::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        match self.project().origin.project() {
            OriginProj::Answered { body } => body.poll_frame(cx).map_err(Into::into),
            OriginProj::Found { body } => body.poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.origin {
            Origin::Answered { body } => body.is_end_stream(),
            Origin::Found { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.origin {
            Origin::Answered { body } => body.size_hint(),
            Origin::Found { body } => body.size_hint(),
        }
    }
}
