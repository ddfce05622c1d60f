//! Two attempts that race.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    guard::{Ticket, Watch, Winner},
    state::{Unhedged, second_tells_more},
};
use crate::{
    call::{
        Attempt, AttemptKind, Attempts, Carrier, Outcome, Raced, Replayer, Target, Trail,
        mark_sent_before, mark_target,
    },
    classify::{Classify, Sent, Verdict},
    error::BoxError,
    sync::lock,
    time::now,
};

/// What a second attempt is made with.
pub(super) struct Spare<S, P> {
    pub(super) service: S,
    pub(super) replayer: P,
}

/// How one attempt ended.
pub(super) struct Ended<T> {
    result: Result<T, BoxError>,
    pub(super) verdict: Verdict,
    target: Option<Target>,
    at: Instant,
}

impl<T> Ended<T> {
    pub(super) fn of<Cl>(result: Result<T, BoxError>, trail: &Trail, watch: &Watch<Cl>) -> Self
    where
        Cl: Classify<T>,
    {
        let verdict = match &result {
            Ok(response) => watch.shared.classifier.response(watch.asked, response),
            Err(error) => watch.shared.classifier.error(watch.asked, &**error),
        };
        Self { result, verdict, target: trail.target(), at: now() }
    }

    /// The first attempt is counted.
    pub(super) fn counted<Cl>(self, watch: &mut Watch<Cl>) -> Self {
        watch.count(self.verdict, self.target.is_some(), self.at);
        self
    }

    pub(super) fn into_result(self) -> Result<T, BoxError> {
        self.result
    }

    /// The result. The layers above have heard of two targets, and are told which it is from.
    pub(super) fn hand_out(self) -> Result<T, BoxError> {
        if let Some(target) = self.target {
            mark_target(target);
        }
        self.result
    }

    fn outcome<Cl: Classify<T>>(&self, classifier: &Cl) -> Outcome {
        match &self.result {
            Ok(response) => Outcome::Response(classifier.status(response)),
            Err(error) => Outcome::of_error(&**error),
        }
    }
}

pin_project! {
    /// A second attempt, from when it is granted, and how both ended.
    // It stands in a box of its own: few calls are ever hedged, and all would carry room for it.
    pub(super) struct Race<F, T, Cl> {
        #[pin]
        attempt: Option<F>,
        trail: Trail,
        ticket: Ticket<Cl>,
        began: Instant,
        // Why the first attempt was made.
        kind: AttemptKind,
        first: Option<Ended<T>>,
        second: Option<Ended<T>>,
    }
}

impl<F, T, Cl> Race<F, T, Cl> {
    pub(super) fn new(ticket: Ticket<Cl>) -> Self {
        Self {
            attempt: None,
            trail: Trail::new(),
            ticket,
            began: now(),
            kind: AttemptKind::First,
            first: None,
            second: None,
        }
    }

    /// Makes the second attempt and waits for its end, which is told once.
    pub(super) fn poll_second<S, P>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        spare: &mut Spare<S, P>,
        watch: &Watch<Cl>,
        first_trail: &Trail,
    ) -> Poll<Result<Ended<T>, Unhedged>>
    where
        P: Replayer<Attempt: Carrier>,
        S: Service<P::Attempt, Response = T, Future = F>,
        S::Error: Into<BoxError>,
        F: Future<Output = Result<T, S::Error>>,
        Cl: Classify<T>,
    {
        let mut this = self.project();
        if !this.ticket.is_made() {
            if ready!(spare.service.poll_ready(cx)).is_err() {
                return Poll::Ready(Err(Unhedged::Unavailable));
            }
            let Some(mut attempt) = spare.replayer.attempt() else {
                return Poll::Ready(Err(Unhedged::NotReplayable));
            };
            let words = attempt.words_mut();
            (*this.began, *this.kind) = (now(), words.kind);
            words.attempt = words.attempt.max(1).saturating_add(1);
            words.kind = AttemptKind::Hedge;
            if let Some(target) = first_trail.target() {
                words.tried.insert(target.key);
            }
            this.ticket.made(words.attempt, *this.began, watch);
            this.attempt.set(Some(spare.service.call(attempt)));
        }
        let Some(attempt) = this.attempt.as_mut().as_pin_mut() else { return Poll::Pending };
        let result = this.trail.enter(|| attempt.poll(cx));
        // Whichever was polled last stands in the trail above: neither may hide that the other
        // was sent.
        if first_trail.sent().max(this.trail.sent()) != Sent::No {
            mark_sent_before();
        }
        let result = ready!(result).map_err(Into::into);
        this.attempt.set(None);
        let ended = Ended::of(result, this.trail, watch);
        let balanced = ended.target.is_some();
        lock(&watch.shared.pacer).hedge_ended(ended.verdict, balanced, ended.at);
        Poll::Ready(Ok(ended))
    }

    /// The first attempt has ended. What the race has come to, unless the second goes on.
    pub(super) fn first_ended(
        mut self: Pin<&mut Self>,
        first: Ended<T>,
        watch: &Watch<Cl>,
        first_trail: &Trail,
    ) -> Option<Ended<T>>
    where
        Cl: Classify<T>,
    {
        *self.as_mut().project().first = Some(first);
        self.decide(watch, first_trail)
    }

    /// The second attempt has ended. What the race has come to, unless the first goes on.
    pub(super) fn second_ended(
        mut self: Pin<&mut Self>,
        second: Ended<T>,
        watch: &Watch<Cl>,
        first_trail: &Trail,
    ) -> Option<Ended<T>>
    where
        Cl: Classify<T>,
    {
        *self.as_mut().project().second = Some(second);
        self.decide(watch, first_trail)
    }

    fn decide(self: Pin<&mut Self>, watch: &Watch<Cl>, first_trail: &Trail) -> Option<Ended<T>>
    where
        Cl: Classify<T>,
    {
        let succeeded = |ended: &Option<Ended<T>>| {
            ended.as_ref().is_some_and(|ended| ended.verdict.is_success())
        };
        let winner = if succeeded(&self.first) {
            Winner::First
        } else if succeeded(&self.second) {
            Winner::Second
        } else if self.first.is_some() && self.attempt.is_none() {
            Winner::Neither
        } else {
            return None;
        };
        let history = self.history(watch, first_trail);
        let mut this = self.project();
        // The loser frees what it holds before anybody sees the winner's response.
        this.attempt.set(None);
        this.ticket.settle(winner);
        let mut decided = match (winner, this.first.take(), this.second.take()) {
            (Winner::Second, _, second) => second?,
            (Winner::Neither, Some(first), Some(second)) => more_telling(first, second),
            (_, first, _) => first?,
        };
        if let Some(history) = history {
            decided.result = tell(decided.result, history, &watch.shared.classifier);
        }
        Some(decided)
    }

    /// Both attempts in order, if there were two.
    fn history(&self, watch: &Watch<Cl>, first_trail: &Trail) -> Option<Attempts>
    where
        Cl: Classify<T>,
    {
        let number = self.ticket.is_made().then(|| self.ticket.number())?;
        let over = now();
        let attempt = |ended: &Option<Ended<T>>, trail: &Trail, began: Instant| {
            let (outcome, verdict, at) = match ended {
                Some(ended) => (ended.outcome(&watch.shared.classifier), ended.verdict, ended.at),
                None => {
                    let mut verdict = Verdict::CANCELLED;
                    verdict.sent = trail.sent();
                    (Outcome::Error(OUTRUN.to_owned()), verdict, over)
                }
            };
            Attempt {
                number,
                kind: AttemptKind::Hedge,
                target: trail.target(),
                outcome,
                verdict,
                lasted: at.saturating_duration_since(began),
                backoff: Duration::ZERO,
            }
        };
        let mut first = attempt(&self.first, first_trail, watch.began);
        (first.number, first.kind) = (number - 1, self.kind);
        let mut second = attempt(&self.second, &self.trail, self.began);
        second.backoff = self.began.saturating_duration_since(watch.began);
        Some(Attempts::raced(vec![first, second]))
    }
}

/// Leaves the history of a race with its result, for the retry above and for the caller.
fn tell<T>(
    result: Result<T, BoxError>,
    history: Attempts,
    classifier: &impl Classify<T>,
) -> Result<T, BoxError> {
    match result {
        // A retry beneath has told of its own, and given up.
        Ok(response) if classifier.attempts(&response).is_some() => Ok(response),
        Ok(mut response) => {
            classifier.annotate(&mut response, history);
            Ok(response)
        }
        Err(error) => Err(Raced::new(history, error).into()),
    }
}

/// What became of the loser of a race.
const OUTRUN: &str = "given up, as the attempt that raced it has answered";

fn more_telling<T>(first: Ended<T>, second: Ended<T>) -> Ended<T> {
    let known = |ended: &Ended<T>| (ended.verdict, ended.result.is_ok());
    if second_tells_more(known(&first), known(&second)) { second } else { first }
}
