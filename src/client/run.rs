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
        exchange: Exchanged<F>,
        // How much of the response's body belongs to the attempt.
        cap: Option<usize>,
        // In a box: most bodies are there with their heads, and are never kept here.
        collecting: Option<Box<Option<Collecting<B>>>>,
    }
}

pin_project! {
    /// What the service was asked for, and its answer in the place of it: it stays there until
    /// it is wrapped for the caller.
    #[derive(Debug)]
    #[project = ExchangedProj]
    #[project_replace = ExchangedOwned]
    enum Exchanged<F> {
        Nothing,
        Pending { #[pin] exchange: F },
        Answered { response: Response<Body> },
    }
}

impl<T, F, B> Run<T, F, B> {
    pub(super) const fn new(call: Parcel) -> Self {
        Self {
            call: Some(call),
            service: None,
            exchange: Exchanged::Nothing,
            cap: None,
            collecting: None,
        }
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

    /// The answer, when it has come.
    pub(super) fn response(&self) -> &Response<Body> {
        match &self.exchange {
            Exchanged::Answered { response } => response,
            _ => unreachable!("it was polled until it answered"),
        }
    }

    /// The answer, when it has come, for its caller.
    #[inline(always)]
    pub(super) fn take_response(self: Pin<&mut Self>) -> Response<Body> {
        match self.project().exchange.project_replace(Exchanged::Nothing) {
            ExchangedOwned::Answered { response } => response,
            _ => unreachable!("it was polled until it answered"),
        }
    }

    /// Gives it up.
    pub(super) fn stop(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.exchange.set(Exchanged::Nothing);
        *this.collecting = None;
        *this.service = None;
        *this.call = None;
    }
}

impl<T: Exchange> Run<T, T::Future, T::Body> {
    /// Until there is an answer to [take](Self::take_response).
    pub(super) fn poll<S, Cl>(
        self: Pin<&mut Self>,
        shared: &Shared<S, Cl>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
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
            this.exchange.set(Exchanged::Pending { exchange: service.call(call) });
            *this.service = None;
        }
        let collected =
            if let ExchangedProj::Pending { exchange } = this.exchange.as_mut().project() {
                let response = match ready!(exchange.poll(cx)) {
                    Ok(response) => response,
                    Err(error) => return Poll::Ready(Err(error.into())),
                };
                // Collected above the user's own layers: what they turn a body into is what is
                // collected (decompression).
                match Collecting::begin(response, *this.cap) {
                    ControlFlow::Break(response) => {
                        this.exchange.set(Exchanged::Answered { response });
                        return Poll::Ready(Ok(()));
                    }
                    ControlFlow::Continue(begun) => {
                        this.exchange.set(Exchanged::Nothing);
                        let mut begun = Some(begun);
                        match Collecting::poll_whole(&mut begun, cx) {
                            Poll::Ready(whole) => whole,
                            Poll::Pending => {
                                *this.collecting = Some(Box::new(begun));
                                return Poll::Pending;
                            }
                        }
                    }
                }
            } else {
                let collecting = this.collecting.as_mut().expect("it has not ended yet");
                ready!(Collecting::poll_whole(collecting, cx))
            };
        match collected {
            Ok(response) => {
                this.exchange.set(Exchanged::Answered { response });
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
