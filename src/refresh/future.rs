//! One call, and its second try.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Apply, Held, Refresh, RefreshFailed, Stale,
    desk::{Next, Waiting},
    error::Cause,
    layer::Shared,
    waiters::Place,
};
use crate::{
    call::{Carrier, Replay, Replayer, Trail, mark_unsent},
    error::BoxError,
    event::Event,
    time::{Sleep, now},
};

pin_project! {
    /// The future of [`RefreshService`](super::RefreshService).
    #[must_use = "futures do nothing unless polled"]
    pub struct RefreshFuture<S, C, Re, P>
    where
        C: Carrier,
        C: Replay,
        S: Service<C::Attempt>,
        Re: Refresh,
    {
        service: S,
        call: Ongoing<C::Replayer, S::Response>,
        shared: Arc<Shared<Re, P>>,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Trying { #[pin] attempt: F },
        Waiting { place: Place, #[pin] sleep: Option<Sleep> },
        GettingReady,
        Ended,
    }
}

/// What is known of the call.
struct Ongoing<R, T> {
    replayer: R,
    deadline: Option<Instant>,
    trail: Trail,
    /// The generation of the credential that it was made with.
    generation: u64,
    repeated: bool,
    /// The refusal, for as long as it may be the last word.
    // In a box, so that no call that succeeds at once makes room for it.
    refused: Option<Box<T>>,
}

/// Why a refusal is the caller's answer, as the event has it.
#[derive(Clone, Copy)]
enum Stands {
    NewCredential,
    Again,
    NotReplayable,
    Deadline,
    Unavailable,
}

impl Stands {
    const fn code(self) -> &'static str {
        match self {
            Self::NewCredential => "new_credential",
            Self::Again => "again",
            Self::NotReplayable => "not_replayable",
            Self::Deadline => "deadline",
            Self::Unavailable => "unavailable",
        }
    }
}

impl<S, C, Re, P> RefreshFuture<S, C, Re, P>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt>,
    Re: Apply<<C::Attempt as Carrier>::Request>,
{
    pub(super) fn new(mut service: S, call: C, shared: Arc<Shared<Re, P>>) -> Self {
        let deadline = call.words().and_then(|words| words.deadline);
        let (mut first, replayer) = call.begin(shared.config.replay_cap);
        let held = shared.desk.held();
        show(&shared.refresh, &mut first, &held);
        let attempt = service.call(first);
        Self {
            service,
            call: Ongoing {
                replayer,
                deadline,
                trail: Trail::new(),
                generation: held.generation,
                repeated: false,
                refused: None,
            },
            shared,
            state: State::Trying { attempt },
        }
    }
}

/// Puts the credential into a request, if there is one.
fn show<Re, A>(refresh: &Re, attempt: &mut A, held: &Held<Re::Credential>)
where
    A: Carrier,
    Re: Apply<A::Request>,
{
    if let Some(credential) = &held.credential {
        refresh.apply(attempt.request_mut(), credential);
    }
}

impl<S, C, Re, P> Future for RefreshFuture<S, C, Re, P>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt>,
    S::Error: Into<BoxError>,
    Re: Apply<<C::Attempt as Carrier>::Request>,
    P: Stale<S::Response>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Trying { attempt } => {
                    let result = ready!(this.call.trail.enter(|| attempt.poll(cx)));
                    // Freed before anything else is waited for.
                    this.state.set(State::Ended);
                    let response = result.map_err(Into::into)?;
                    if !this.shared.stale.is_stale(&response) {
                        return Poll::Ready(Ok(response));
                    }
                    match this.call.refused(response, this.shared) {
                        Followed::Ended(result) => return Poll::Ready(result),
                        Followed::Repeat => this.state.set(State::GettingReady),
                        Followed::Wait(place) => {
                            this.state.set(State::Waiting { place, sleep: None });
                        }
                    }
                }
                StateProj::Waiting { place, sleep } => {
                    // Nothing is under way: what was refused has not been carried out.
                    mark_unsent();
                    let desk = &this.shared.desk;
                    match desk.poll(place, this.call.generation, cx) {
                        Ok(()) => this.state.set(State::GettingReady),
                        Err(Waiting::Failed(cause)) => {
                            this.state.set(State::Ended);
                            return Poll::Ready(Err(this.call.failed(cause)));
                        }
                        Err(Waiting::Until(expires)) => {
                            ready!(this.call.poll_expiry(sleep, expires, cx));
                            if this.call.is_late() {
                                this.state.set(State::Ended);
                                let ended = this.call.stands(Stands::Deadline, this.shared);
                                return Poll::Ready(ended);
                            }
                        }
                    }
                }
                StateProj::GettingReady => {
                    mark_unsent();
                    // A service beneath that fails here has not been called: the refusal is the
                    // last real answer.
                    let ready = ready!(this.service.poll_ready(cx));
                    let again = match ready {
                        Ok(()) => this.call.again(this.shared),
                        Err(_) => Err(Stands::Unavailable),
                    };
                    match again {
                        Ok(again) => {
                            let attempt = this.service.call(again);
                            this.state.set(State::Trying { attempt });
                        }
                        Err(stands) => {
                            this.state.set(State::Ended);
                            return Poll::Ready(this.call.stands(stands, this.shared));
                        }
                    }
                }
                StateProj::Ended => panic!("polled after it was ready"),
            }
        }
    }
}

/// What follows a refusal.
enum Followed<T> {
    Ended(Result<T, BoxError>),
    Repeat,
    Wait(Place),
}

impl<R: Replayer, T> Ongoing<R, T> {
    fn refused<Re: Refresh, P>(&mut self, response: T, shared: &Shared<Re, P>) -> Followed<T> {
        self.refused = Some(Box::new(response));
        // Given up now, the call was not carried out, unless an attempt before may have been.
        self.trail.enter(mark_unsent);
        let stands = if self.repeated {
            Stands::Again
        } else if !self.replayer.can_attempt() {
            Stands::NotReplayable
        } else if self.is_late() {
            Stands::Deadline
        } else {
            match shared.desk.refused(self.generation, &shared.refresh, now()) {
                Next::Repeat => return Followed::Repeat,
                Next::Wait(place) => return Followed::Wait(place),
                Next::Failed(cause) => return Followed::Ended(Err(self.failed(cause))),
                Next::Stands => Stands::NewCredential,
            }
        };
        Followed::Ended(self.stands(stands, shared))
    }

    /// The second try, with the newest credential.
    fn again<Re, P>(&mut self, shared: &Shared<Re, P>) -> Result<R::Attempt, Stands>
    where
        R::Attempt: Carrier,
        Re: Apply<<R::Attempt as Carrier>::Request>,
    {
        // The timer may have fired late, and the service may have taken its time.
        if self.is_late() {
            return Err(Stands::Deadline);
        }
        let mut again = self.replayer.attempt().ok_or(Stands::NotReplayable)?;
        let held = shared.desk.held();
        show(&shared.refresh, &mut again, &held);
        self.generation = held.generation;
        self.repeated = true;
        self.refused = None;
        Ok(again)
    }

    /// The refusal is the answer.
    fn stands<Re: Refresh, P>(
        &mut self,
        stands: Stands,
        shared: &Shared<Re, P>,
    ) -> Result<T, BoxError> {
        shared.config.observer.on(|| Event::CredentialRefused { reason: stands.code() });
        Ok(*self.refused.take().expect("it is kept until the second try"))
    }

    fn failed(&mut self, cause: Cause) -> BoxError {
        self.refused = None;
        RefreshFailed::new(cause, self.trail.sent()).into()
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| now() >= deadline)
    }

    /// Until the fetching has expired, or the call's deadline has passed.
    fn poll_expiry(
        &self,
        mut sleep: Pin<&mut Option<Sleep>>,
        expires: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if sleep.is_none() {
            let until = self.deadline.map_or(expires, |deadline| deadline.min(expires));
            sleep.set(Some(Sleep::until(until)));
        }
        if let Some(timer) = sleep.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
        // Another fetching may have taken the place of the one that expired.
        sleep.set(None);
        Poll::Ready(())
    }
}
