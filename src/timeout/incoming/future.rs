//! A request that is worked on.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use super::{
    IncomingBody, IncomingDeadlineConfig,
    answer::{Asker, Trouble},
    body::Cut,
    overdue::Watch,
    service::Term,
};
use crate::{
    call::{Trail, apart, mark_handed_over},
    classify::Sent,
    event::Event,
    time::Sleep,
    timeout::{Elapsed, Which},
};

pin_project! {
    /// The future of [`IncomingDeadline`](super::IncomingDeadline).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct IncomingDeadlineFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Unlimited { #[pin] inner: F },
        LetRun { #[pin] inner: F, watch: Option<Watch> },
        Until { #[pin] inner: F, #[pin] bound: Bound },
        Answered { trouble: Trouble, asker: Asker },
        Ended,
    }
}

pin_project! {
    #[derive(Debug)]
    struct Bound {
        // Armed when the handler is first waited for.
        #[pin]
        sleep: Option<Sleep>,
        trail: Trail,
        term: Term,
        asker: Asker,
        config: Arc<IncomingDeadlineConfig>,
    }
}

impl<F> IncomingDeadlineFuture<F> {
    pub(super) const fn unlimited(inner: F) -> Self {
        Self { state: State::Unlimited { inner } }
    }

    pub(super) const fn let_run(inner: F, watch: Watch) -> Self {
        Self { state: State::LetRun { inner, watch: Some(watch) } }
    }

    pub(super) const fn until(
        inner: F,
        term: Term,
        asker: Asker,
        config: Arc<IncomingDeadlineConfig>,
    ) -> Self {
        let trail = Trail::expiring(Some(term.deadline));
        let bound = Bound { sleep: None, trail, term, asker, config };
        Self { state: State::Until { inner, bound } }
    }

    pub(super) const fn answered(trouble: Trouble, asker: Asker) -> Self {
        Self { state: State::Answered { trouble, asker } }
    }
}

impl<F, B, E> Future for IncomingDeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<IncomingBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // In one process with its caller, too: a request that came here was handed over, and what
        // the handler's own calls mark is said of them.
        mark_handed_over();
        let mut state = self.project().state;
        let done = match state.as_mut().project() {
            StateProj::Unlimited { inner } => {
                ready!(apart(|| inner.poll(cx))).map(|response| response.map(IncomingBody::free))
            }
            StateProj::LetRun { inner, watch } => {
                let result = ready!(apart(|| inner.poll(cx)));
                *watch = None;
                result.map(|response| response.map(IncomingBody::free))
            }
            StateProj::Until { inner, mut bound } => {
                match apart(|| bound.as_mut().poll_within(inner, cx)) {
                    Poll::Ready(result) => result.map(|response| bound.limit(response)),
                    Poll::Pending => {
                        ready!(bound.as_mut().poll_expiry(cx));
                        return Poll::Ready(Ok(give_up(state)));
                    }
                }
            }
            StateProj::Answered { trouble, asker } => Ok(asker.answer(*trouble)),
            StateProj::Ended => panic!("polled after it was ready"),
        };
        // Freed before the answer is on its way.
        state.set(State::Ended);
        Poll::Ready(done)
    }
}

impl Bound {
    fn poll_within<F: Future>(
        self: Pin<&mut Self>,
        inner: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.project().trail.enter(|| inner.poll(cx))
    }

    fn poll_expiry(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.sleep.is_none() {
            this.sleep.set(Some(Sleep::until(this.term.deadline)));
        }
        this.sleep.as_mut().as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(cx))
    }

    fn limit<B>(self: Pin<&mut Self>, response: Response<B>) -> Response<IncomingBody<B>> {
        let this = self.project();
        if this.config.until_head {
            return response.map(IncomingBody::free);
        }
        let cut = Cut {
            deadline: this.term.deadline,
            began: this.term.began,
            grpc: this.asker.is_grpc(),
            observer: this.config.observer.clone(),
        };
        IncomingBody::bound(response, cut)
    }
}

/// The time is up: drops the handler, so that what it held is free before the answer is on its
/// way, and within the trail, so that the calls that it waits for know whose time it was.
fn give_up<F, B>(mut state: Pin<&mut State<F>>) -> Response<IncomingBody<B>> {
    let StateProj::Until { bound, .. } = state.as_mut().project() else {
        unreachable!("only what has a deadline is given up");
    };
    let bound = bound.project();
    let mut trail = *bound.trail;
    let limit = bound.term.deadline.saturating_duration_since(bound.term.began);
    bound.config.observer.on(|| Event::Overdue { stage: "dropped", limit });
    let trouble = Trouble::Overdue(Elapsed::new(Which::Incoming, limit, Sent::Maybe));
    let answer = bound.asker.answer(trouble);
    apart(|| trail.enter(|| state.set(State::Ended)));
    answer
}
