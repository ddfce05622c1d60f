//! What an attempt's time counts for: readiness, the exchange, the body where it is collected.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{Exchange, Parcel, attempt::Shared};
use crate::{
    body::Body,
    call::{mark_unknown, mark_unsent},
    classify::{Marked, verdict_on_error},
    collect::Collecting,
    error::BoxError,
    timeout::tell,
};

pin_project! {
    /// One exchange with an endpoint's service.
    // Not a state for each stage: what a stage leaves to the next stays where it is.
    #[derive(Debug)]
    pub(super) struct Run<T, F, B> {
        // Until it is handed to the service.
        call: Option<Parcel>,
        service: Option<T>,
        #[pin]
        exchange: Option<F>,
        // How much of the response's body belongs to the attempt.
        cap: Option<usize>,
        // In a box: most bodies are there with their heads, and are never kept here.
        collecting: Option<Box<Option<Collecting<B>>>>,
    }
}

impl<T, F, B> Run<T, F, B> {
    pub(super) const fn new(call: Parcel) -> Self {
        Self { call: Some(call), service: None, exchange: None, cap: None, collecting: None }
    }

    /// The call, unless it was handed to the service.
    pub(super) fn call(self: Pin<&mut Self>) -> Option<&mut Parcel> {
        self.project().call.as_mut()
    }

    /// Goes to this service. No instance of it was polled yet: the clone will be, and is called
    /// then.
    pub(super) fn get_ready(self: Pin<&mut Self>, service: &T)
    where
        T: Clone,
    {
        *self.project().service = Some(service.clone());
    }

    /// Gives it up.
    pub(super) fn stop(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.exchange.set(None);
        *this.collecting = None;
        *this.service = None;
        *this.call = None;
    }
}

impl<T: Exchange> Run<T, T::Future, T::Body> {
    pub(super) fn poll<S, Cl>(
        self: Pin<&mut Self>,
        shared: &Shared<S, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Body>, BoxError>> {
        let mut this = self.project();
        // Readiness within the attempt, above all that follows.
        if let Some(service) = this.service {
            mark_unsent();
            if let Err(error) = ready!(service.poll_ready(cx)) {
                return Poll::Ready(Err(uncalled(error.into())));
            }
            mark_unknown();
            let mut call = this.call.take().expect("a call is called once");
            *this.cap = shared.collect.cap_for(call.words().body);
            // The deadline's header below all that waits: what is left is counted when the
            // request goes out, and is no more than the attempt has. Above the user's own
            // layers, which may see what it says.
            if let Some(header) = &shared.header {
                tell(header, &mut call);
            }
            this.exchange.set(Some(service.call(call)));
            *this.service = None;
        }
        if this.collecting.is_none() {
            let exchange = this.exchange.as_mut().as_pin_mut().expect("it has not ended yet");
            let response = match ready!(exchange.poll(cx)) {
                Ok(response) => response,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            this.exchange.set(None);
            // Collected above the user's own layers: what they turn a body into is what is
            // collected (decompression).
            match Collecting::begin(response, *this.cap) {
                ControlFlow::Break(response) => return Poll::Ready(Ok(response)),
                ControlFlow::Continue(begun) => {
                    let mut begun = Some(begun);
                    if let Poll::Ready(whole) = Collecting::poll_whole(&mut begun, cx) {
                        return Poll::Ready(whole.map_err(Into::into));
                    }
                    *this.collecting = Some(Box::new(begun));
                    return Poll::Pending;
                }
            }
        }
        let collecting = this.collecting.as_mut().expect("it was looked at above");
        Collecting::poll_whole(collecting, cx).map_err(Into::into)
    }
}

/// What failed to get ready was not called, whatever its error looks like.
fn uncalled(error: BoxError) -> BoxError {
    Marked::new(verdict_on_error(&*error).uncalled(), error).into()
}
