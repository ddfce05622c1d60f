//! A response's body, and the watch over its connection.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::future::Watch;
use crate::call::current_expiry;

/// A response's body. When it is dropped by a timeout before its end, its connection is not
/// used again.
#[derive(Debug)]
pub struct TransportBody {
    // Before the body, so that it acts before the connection can go back to the pool.
    watch: Option<Watch>,
    body: Incoming,
}

impl TransportBody {
    pub(super) fn new(body: Incoming, watch: Watch) -> Self {
        let mut body = Self { watch: Some(watch), body };
        if body.body.is_end_stream() {
            body.stand_down();
        }
        body
    }

    fn stand_down(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.stand_down();
        }
    }
}

impl Body for TransportBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // The attempt's expiry ended with the head. Who polls the body says anew whether and
        // when they will give it up: the attempt's timeout again, if it is collected within.
        if let Some(watch) = &mut self.watch {
            watch.expires = current_expiry();
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ended = match &frame {
            Some(Ok(_)) => self.body.is_end_stream(),
            Some(Err(_)) | None => true,
        };
        if ended {
            self.stand_down();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
