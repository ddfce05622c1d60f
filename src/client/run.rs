//! What an attempt's time counts for: readiness, the exchange, the body where it is collected.

use std::{
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{Exchange, attempt::Shared, contents::Contents};
use crate::{
    body::Body,
    call::{mark_unknown, mark_unsent},
    classify::{Marked, verdict_on_error},
    collect::Collecting,
    error::BoxError,
    timeout::tell,
};

/// One exchange with an endpoint's service, as far as it is not in the [`Contents`].
#[derive(Debug)]
pub(super) struct Run<T, B> {
    // Until it is called.
    service: Option<T>,
    // In a box: most bodies are there with their heads, and are never kept here.
    collecting: Option<Box<Option<Collecting<B>>>>,
}

impl<T, B> Run<T, B> {
    pub(super) const fn new() -> Self {
        Self { service: None, collecting: None }
    }

    /// Goes to this service. No instance of it was polled yet: the clone will be, and is called
    /// then.
    pub(super) fn get_ready(&mut self, service: &T)
    where
        T: Clone,
    {
        self.service = Some(service.clone());
    }

    /// Gives it up.
    pub(super) fn stop(&mut self) {
        self.collecting = None;
        self.service = None;
    }
}

impl<T: Exchange> Run<T, T::Body> {
    /// Until the contents are a response.
    pub(super) fn poll<S, Cl>(
        &mut self,
        mut contents: Pin<&mut Contents<T::Future>>,
        shared: &Shared<S, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        // Readiness within the attempt, above all that follows.
        if let Some(service) = &mut self.service {
            mark_unsent();
            if let Err(error) = ready!(service.poll_ready(cx)) {
                return Poll::Ready(Err(uncalled(error.into())));
            }
            mark_unknown();
            // The deadline's header below all that waits: what is left is counted when the
            // request goes out, and is no more than the attempt has. Above the user's own
            // layers, which may see what it says.
            if let Some(header) = &shared.header {
                tell(header, &mut contents);
            }
            contents.as_mut().send(service);
            self.service = None;
        }
        let collected = if let Some(sent) = contents.as_mut().poll_sent(cx) {
            let response = match ready!(sent) {
                Ok(response) => response,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            // How much of the response's body belongs to the attempt. Collected above the user's
            // own layers: what they turn a body into is what is collected (decompression).
            let Some(cap) = shared.collect.cap_for(contents.words().body) else {
                contents.answer(response.map(Body::new));
                return Poll::Ready(Ok(()));
            };
            match Collecting::begin(response, cap) {
                ControlFlow::Break(response) => {
                    contents.answer(response);
                    return Poll::Ready(Ok(()));
                }
                ControlFlow::Continue(begun) => {
                    contents.as_mut().stop();
                    let mut begun = Some(begun);
                    match Collecting::poll_whole(&mut begun, cx) {
                        Poll::Ready(whole) => whole,
                        Poll::Pending => {
                            self.collecting = Some(Box::new(begun));
                            return Poll::Pending;
                        }
                    }
                }
            }
        } else {
            let collecting = self.collecting.as_mut().expect("it has not ended yet");
            ready!(Collecting::poll_whole(collecting, cx))
        };
        match collected {
            Ok(response) => {
                contents.answer(response);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

/// What failed to get ready was not called, whatever its error looks like.
fn uncalled(error: BoxError) -> BoxError {
    Marked::new(verdict_on_error(&*error).uncalled(), error).into()
}
