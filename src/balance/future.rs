//! One attempt: pick, admit, call.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{error::AtEndpoint, node::Held, pick::Pick, service::Shared};
use crate::{
    call::{Asked, Carrier, Words, mark_unknown},
    classify::{Classify, Marked, Settle, Verdict},
    endpoint::Gate,
    error::BoxError,
    sync::Share,
};

pin_project! {
    /// The future of [`Balance`](super::Balance).
    pub struct BalanceFuture<S, G, Cl, C>
    where
        S: Service<C>,
        G: Gate,
    {
        shared: Share<Shared<S, G>>,
        classifier: Cl,
        asked: Asked,
        #[pin]
        state: State<C, S, S::Future, G>,
    }
}

pin_project! {
    #[project = StateProj]
    // The call stands where its attempt will: both together would make every future larger.
    enum State<C, S, F, G>
    where
        G: Gate,
    {
        Picking { call: Option<C>, pick: Pick<S, G> },
        GettingReady { call: Option<C>, service: S, held: Option<Held<S, G>> },
        Calling { #[pin] attempt: F, held: Option<Held<S, G>> },
        Ended,
    }
}

impl<S, G, Cl, C> BalanceFuture<S, G, Cl, C>
where
    S: Service<C>,
    G: Gate,
    C: Carrier,
{
    pub(super) fn new(shared: Share<Shared<S, G>>, classifier: Cl, call: C) -> Self {
        let asked = call.words().map(Words::asked).unwrap_or_default();
        let state = State::Picking { call: Some(call), pick: Pick::new() };
        Self { shared, classifier, asked, state }
    }
}

impl<S, G, Cl, C> Future for BalanceFuture<S, G, Cl, C>
where
    S: Service<C> + Clone,
    S::Error: Into<BoxError>,
    G: Gate,
    C: Carrier,
    Cl: Classify<S::Response>,
{
    type Output = Result<Cl::Guarded<Held<S, G>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Picking { call, pick } => {
                    let words = call.as_ref().and_then(Carrier::words);
                    let held = match ready!(pick.poll(this.shared, words, cx)) {
                        Ok(held) => held,
                        Err(error) => {
                            this.state.set(State::Ended);
                            return Poll::Ready(Err(error.into()));
                        }
                    };
                    let mut service = held.node().service.clone();
                    // Most are ready at once: their call moves once less.
                    match service.poll_ready(cx) {
                        Poll::Ready(Ok(())) => {
                            let call = call.take().expect("a call is called once");
                            this.state.set(begin(&mut service, call, held));
                        }
                        Poll::Ready(Err(error)) => {
                            this.state.set(State::Ended);
                            let error = unready(error, *this.asked, held, this.classifier);
                            return Poll::Ready(Err(error));
                        }
                        Poll::Pending => {
                            let (call, held) = (call.take(), Some(held));
                            this.state.set(State::GettingReady { call, service, held });
                            return Poll::Pending;
                        }
                    }
                }
                StateProj::GettingReady { call, service, held } => {
                    let ready = ready!(service.poll_ready(cx));
                    let held = held.take().expect("it is held while it is called");
                    if let Err(error) = ready {
                        this.state.set(State::Ended);
                        let error = unready(error, *this.asked, held, this.classifier);
                        return Poll::Ready(Err(error));
                    }
                    let call = call.take().expect("a call is called once");
                    let begun = begin(service, call, held);
                    this.state.set(begun);
                }
                StateProj::Calling { attempt, held } => {
                    let result = ready!(attempt.poll(cx));
                    let mut held = held.take().expect("it is held while it is called");
                    this.state.set(State::Ended);
                    let asked = *this.asked;
                    return Poll::Ready(match result {
                        Ok(response) => {
                            let verdict = this.classifier.response(asked, &response);
                            held.answered(verdict, || this.classifier.load_report(&response));
                            Ok(this.classifier.guard(asked, response, verdict, held))
                        }
                        Err(error) => {
                            let error = error.into();
                            let verdict = this.classifier.error(asked, &*error);
                            Err(failed(error, verdict, held))
                        }
                    });
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        }
    }
}

/// Calls the instance that was ready.
fn begin<C, S: Service<C>, G: Gate>(
    service: &mut S,
    call: C,
    held: Held<S, G>,
) -> State<C, S, S::Future, G> {
    mark_unknown();
    State::Calling { attempt: service.call(call), held: Some(held) }
}

/// Settles an attempt whose endpoint failed to get ready.
fn unready<S, G: Gate, Res>(
    error: impl Into<BoxError>,
    asked: Asked,
    held: Held<S, G>,
    classifier: &impl Classify<Res>,
) -> BoxError {
    let error = error.into();
    let verdict = classifier.error(asked, &*error).uncalled();
    failed(Marked::new(verdict, error).into(), verdict, held)
}

/// Settles an attempt that failed without a response.
pub(crate) fn failed<S, G: Gate>(
    error: BoxError,
    verdict: Verdict,
    mut held: Held<S, G>,
) -> BoxError {
    held.failed(verdict);
    held.settle(verdict);
    AtEndpoint::new(held.node().endpoint.clone(), error).into()
}
