//! One call, hedged if it is slow.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    guard::Watch,
    layer::Shared,
    race::{Ended, Race, Spare},
    state::Unhedged,
};
use crate::{
    call::{Carrier, Replay, Replayer, Trail, Words, is_repeatable},
    classify::{Classify, Verdict},
    error::BoxError,
    time::{Sleep, after, now},
};

pin_project! {
    /// The future of [`Hedge`](super::Hedge).
    pub struct HedgeFuture<S, C, Cl>
    where
        C: Carrier,
        C: Replay,
        S: Service<C::Attempt>,
    {
        #[pin]
        first: Option<S::Future>,
        trail: Trail,
        // None if the call may not be repeated: then nothing is counted either.
        watch: Option<Watch<Cl>>,
        // None if there will be no second attempt.
        spare: Option<Spare<S, C::Replayer>>,
        #[pin]
        second: Second<S::Future, S::Response, Cl>,
    }
}

pin_project! {
    #[project = SecondProj]
    enum Second<F, T, Cl> {
        NotDue { #[pin] sleep: Sleep },
        Granted { race: Pin<Box<Race<F, T, Cl>>> },
        Off,
    }
}

impl<S, C, Cl> HedgeFuture<S, C, Cl>
where
    C: Carrier + Replay,
    S: Service<C::Attempt>,
{
    pub(super) fn new(mut service: S, call: C, shared: Arc<Shared<Cl>>) -> Self {
        let (trail, second) = (Trail::new(), Second::Off);
        if !is_repeatable(&call) {
            let first = Some(service.call(call.once()));
            return Self { first, trail, watch: None, spare: None, second };
        }
        let asked = call.words().map(Words::asked).unwrap_or_default();
        let began = now();
        let due = shared.delay(began).map(|delay| after(began, delay));
        // One that comes when the call is over is not prepared.
        let due = due.filter(|&due| asked.deadline.is_none_or(|deadline| due < deadline));
        let watch = Some(Watch::new(Arc::clone(&shared), asked, began));
        let Some(due) = due else {
            let first = Some(service.call(call.once()));
            return Self { first, trail, watch, spare: None, second };
        };
        let (first, replayer) = call.begin(shared.config.replay_cap);
        let first = Some(service.call(first));
        let second = Second::NotDue { sleep: Sleep::until(due) };
        Self { first, trail, watch, spare: Some(Spare { service, replayer }), second }
    }
}

impl<S, C, Cl> Future for HedgeFuture<S, C, Cl>
where
    C: Carrier + Replay<Attempt: Carrier>,
    S: Service<C::Attempt>,
    S::Error: Into<BoxError>,
    Cl: Classify<S::Response>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let first = match this.first.as_mut().as_pin_mut() {
            Some(first) => this.trail.enter(|| first.poll(cx)).map_err(Into::into),
            None => Poll::Pending,
        };
        let Some(watch) = this.watch else { return first };
        if let Poll::Ready(result) = first {
            this.first.set(None);
            let ended = Ended::of(result, this.trail, watch).counted(watch);
            let SecondProj::Granted { race } = this.second.as_mut().project() else {
                return Poll::Ready(ended.into_result());
            };
            if let Some(decided) = race.as_mut().first_ended(ended, watch, this.trail) {
                this.second.set(Second::Off);
                return Poll::Ready(decided.hand_out());
            }
        }
        loop {
            match (this.second.as_mut().project(), &mut *this.spare) {
                (SecondProj::NotDue { sleep }, Some(spare)) => {
                    ready!(sleep.poll(cx));
                    let granted = match spare.replayer.can_attempt() {
                        true => watch.ask(),
                        false => Err(Unhedged::NotReplayable),
                    };
                    this.second.set(match granted {
                        Ok(ticket) => Second::Granted { race: Box::pin(Race::new(ticket)) },
                        Err(reason) => {
                            watch.refused(reason);
                            Second::Off
                        }
                    });
                }
                (SecondProj::Granted { race }, Some(spare)) => {
                    let ended = race.as_mut().poll_second(cx, spare, watch, this.trail);
                    let ended = match ready!(ended) {
                        Ok(ended) => ended,
                        Err(reason) => {
                            watch.refused(reason);
                            this.second.set(Second::Off);
                            continue;
                        }
                    };
                    if ended.verdict.is_success() {
                        // It frees what it holds before anybody sees the winner's response, and
                        // would have taken at least so long.
                        this.first.set(None);
                        watch.count(Verdict::CANCELLED, this.trail.target().is_some(), now());
                    }
                    if let Some(decided) = race.as_mut().second_ended(ended, watch, this.trail) {
                        this.second.set(Second::Off);
                        return Poll::Ready(decided.hand_out());
                    }
                }
                // The first attempt is pending.
                _ => return Poll::Pending,
            }
        }
    }
}
