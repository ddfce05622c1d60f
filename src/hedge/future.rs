//! Two attempts that race.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Shared;
use crate::{
    algo::bucket::{Class, Withdrawal},
    call::{
        Asked, AttemptKind, Carrier, Replay, Replayer, Trail, Tried, Words, is_repeatable,
        mark_sent_before,
    },
    classify::{Classify, Sent},
    error::BoxError,
    event::Event,
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
        service: S,
        shared: Arc<Shared<Cl>>,
        replayer: Option<C::Replayer>,
        asked: Asked,
        number: u32,
        tried: Tried,
        trails: [Trail; 2],
        withdrawal: Option<Withdrawal>,
        #[pin]
        first: Option<S::Future>,
        #[pin]
        second: Second<S::Future>,
        // How the attempt that failed first, failed.
        failed: Option<Result<S::Response, BoxError>>,
    }
}

pin_project! {
    #[project = SecondProj]
    enum Second<F> {
        Waiting { #[pin] sleep: Sleep },
        GettingReady,
        Running { #[pin] attempt: F },
        None,
    }
}

impl<S, C, Cl> HedgeFuture<S, C, Cl>
where
    C: Carrier + Replay,
    S: Service<C::Attempt>,
{
    pub(super) fn new(mut service: S, call: C, shared: Arc<Shared<Cl>>) -> Self {
        let words = call.words();
        let asked = words.map(Words::asked).unwrap_or_default();
        let number = words.map_or(1, |words| words.attempt.max(1));
        let tried = words.map(|words| words.tried).unwrap_or_default();
        let repeatable = is_repeatable(&call);
        let (replayer, first, second) = if repeatable {
            let (first, replayer) = call.begin(shared.config.replay_cap);
            let sleep = Sleep::until(after(now(), shared.config.delay));
            (Some(replayer), first, Second::Waiting { sleep })
        } else {
            (None, call.once(), Second::None)
        };
        let first = Some(service.call(first));
        Self {
            service,
            shared,
            replayer,
            asked,
            number,
            tried,
            trails: [Trail::new(), Trail::new()],
            withdrawal: None,
            first,
            second,
            failed: None,
        }
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
        let [first_trail, second_trail] = this.trails;
        let succeeded = |result: &Result<S::Response, BoxError>| match result {
            Ok(response) => this.shared.classifier.response(*this.asked, response).is_success(),
            Err(_) => false,
        };
        let finished = match this.first.as_mut().as_pin_mut() {
            Some(first) => first_trail.enter(|| first.poll(cx)),
            None => Poll::Pending,
        };
        if let Poll::Ready(result) = finished {
            this.first.set(None);
            let result = result.map_err(Into::into);
            let racing = matches!(*this.second, Second::Running { .. });
            if !racing || succeeded(&result) {
                // The other one is dropped now, and frees what it holds.
                this.second.set(Second::None);
                if let Some(withdrawal) = this.withdrawal.take() {
                    let budget = &this.shared.config.budget;
                    // One that still waited for readiness was not made.
                    if racing {
                        budget.settle(withdrawal, false)
                    } else {
                        budget.refund(withdrawal)
                    }
                }
                return Poll::Ready(result);
            }
            *this.failed = Some(result);
        }
        loop {
            match this.second.as_mut().project() {
                SecondProj::Waiting { sleep } => {
                    std::task::ready!(sleep.poll(cx));
                    let config = &this.shared.config;
                    *this.withdrawal = config.budget.withdraw(Class::Transient, now());
                    let granted = this.withdrawal.is_some();
                    this.second.set(if granted { Second::GettingReady } else { Second::None });
                }
                SecondProj::GettingReady => {
                    let ready = std::task::ready!(this.service.poll_ready(cx)).is_ok();
                    let replayed = this.replayer.as_mut().and_then(Replayer::attempt);
                    let Some(mut attempt) = replayed.filter(|_| ready) else {
                        // Nothing was sent for it.
                        if let Some(withdrawal) = this.withdrawal.take() {
                            this.shared.config.budget.refund(withdrawal);
                        }
                        this.second.set(Second::None);
                        continue;
                    };
                    let words = attempt.words_mut();
                    words.attempt = *this.number + 1;
                    words.kind = AttemptKind::Hedge;
                    words.tried = *this.tried;
                    if let Some(target) = first_trail.target() {
                        words.tried.insert(target.key);
                    }
                    let number = words.attempt;
                    this.shared.config.observer.on(|| Event::Hedged { attempt: number });
                    let attempt = this.service.call(attempt);
                    this.second.set(Second::Running { attempt });
                }
                SecondProj::Running { attempt } => {
                    let result = second_trail.enter(|| attempt.poll(cx));
                    // Whichever was polled last stands in the trail above: neither may hide
                    // that the other was sent.
                    if first_trail.sent().max(second_trail.sent()) != Sent::No {
                        mark_sent_before();
                    }
                    let result = std::task::ready!(result).map_err(Into::into);
                    this.second.set(Second::None);
                    let won = succeeded(&result);
                    if let Some(withdrawal) = this.withdrawal.take() {
                        this.shared.config.budget.settle(withdrawal, won);
                    }
                    if won {
                        this.first.set(None);
                        return Poll::Ready(result);
                    }
                    if this.first.is_none() {
                        return Poll::Ready(this.failed.take().unwrap_or(result));
                    }
                }
                // The first one is pending.
                SecondProj::None => return Poll::Pending,
            }
        }
    }
}
