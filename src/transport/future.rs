//! One request on its way, and the watch over its connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::Response;
use hyper_util::client::legacy::{self, connect::CaptureConnection};

use super::{
    body::TransportBody,
    error::{InvalidTarget, NotHandedOver},
};
use crate::{
    call::{current_expiry, mark_handed_over, mark_unsent},
    error::{BoxError, find},
    time::now,
};

/// The response to come of a [`Transport`](super::Transport).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    state: State,
}

enum State {
    Refused(Option<InvalidTarget>),
    Sent(Attempt),
}

/// `watch` stands before `response`, so that at a drop the connection is condemned before the
/// response's future can give it back to the pool.
struct Attempt {
    watch: Watch,
    response: legacy::ResponseFuture,
    stage: Stage,
    /// A connection serves one request at a time.
    exclusive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Unsent,
    HandedOver,
}

impl ResponseFuture {
    pub(super) const fn refused(error: InvalidTarget) -> Self {
        Self { state: State::Refused(Some(error)) }
    }

    pub(super) const fn sent(
        response: legacy::ResponseFuture,
        capture: CaptureConnection,
        exclusive: bool,
    ) -> Self {
        let watch = Watch { capture: Some(capture), expires: None };
        Self { state: State::Sent(Attempt { watch, response, stage: Stage::New, exclusive }) }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<TransportBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Refused(error) => {
                mark_unsent();
                let error = error.take().expect("a future is not polled after its end");
                Poll::Ready(Err(error.into()))
            }
            State::Sent(attempt) => attempt.poll(cx),
        }
    }
}

impl Attempt {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<TransportBody>, BoxError>> {
        if self.stage == Stage::New {
            self.stage = Stage::Unsent;
            self.watch.expires = current_expiry();
            mark_unsent();
        }
        let result = Pin::new(&mut self.response).poll(cx);
        // hyper-util (0.1.21, `Client::try_send_request`) tells which connection it took and
        // hands it the request with no await between the two, hence within one poll: who looks
        // after each poll is never late.
        if self.stage == Stage::Unsent && self.watch.is_handed_over() {
            self.stage = Stage::HandedOver;
            mark_handed_over();
        }
        let result = ready!(result);
        let watch = self.watch.take();
        Poll::Ready(match result {
            Ok(response) => Ok(response.map(|body| TransportBody::new(body, watch))),
            Err(error) => {
                watch.stand_down();
                Err(if self.stage == Stage::HandedOver && !self.broke_when_new(&error) {
                    error.into()
                } else {
                    NotHandedOver::or_connect(error)
                })
            }
        })
    }

    /// Whether a connection that was made for this request alone broke before it took it.
    ///
    /// One from the pool breaks so when its server has closed it meanwhile, which is nobody's
    /// fault; but for that hyper-util (0.1.21, `Client::send_request`) takes another connection
    /// by itself, so that only a new one's end comes up here. Over HTTP/2 a new connection has
    /// others' requests on it, and its server may have closed it because of their number.
    fn broke_when_new(&self, error: &legacy::Error) -> bool {
        self.exclusive && find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// Condemns a connection when it is dropped after the expiry.
#[derive(Debug)]
pub(super) struct Watch {
    /// None when there is nothing to watch any more.
    capture: Option<CaptureConnection>,
    pub(super) expires: Option<Instant>,
}

impl Watch {
    /// There was an outcome, so the connection is as good as it says it is.
    pub(super) fn stand_down(mut self) {
        self.capture = None;
    }

    fn is_handed_over(&self) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.connection_metadata().is_some())
    }

    /// The watch, to be held on over the response's body, of which nobody said yet when it
    /// expires.
    const fn take(&mut self) -> Self {
        self.expires = None;
        Self { capture: self.capture.take(), expires: None }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (Some(capture), Some(expires)) = (&self.capture, self.expires) else { return };
        if now() < expires {
            return;
        }
        if let Some(connection) = &*capture.connection_metadata() {
            connection.poison();
        }
    }
}
