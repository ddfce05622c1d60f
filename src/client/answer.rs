//! What an attempt hands up.

use std::{
    error::Error as StdError,
    task::{Context, Poll},
};

use http::Response;

use super::{Exchange, Parcel, permits::ServicePermits};
use crate::{
    balance::Held,
    body::{Body, verdict_on_drop},
    breaker::Breaker,
    call::{Asked, Attempts},
    classify::{Classify, Settle, Verdict},
    endpoint::LoadReport,
};

/// The response of an attempt, and what is held until it has been read: apart from each other, so
/// that the response is wrapped once, where it leaves the stack, and not by each part on its way.
#[derive(Debug)]
pub struct Answer<T: Exchange> {
    response: Response<Body>,
    parcel: Parcel<T>,
}

impl<T: Exchange> Answer<T> {
    /// Of an attempt whose head has come.
    pub(super) fn of(mut parcel: Parcel<T>) -> Self {
        Self { response: parcel.attempt.as_mut().take_response(), parcel }
    }
}

/// What an attempt holds until its response has been read: a place and a permit at its endpoint,
/// and the permits of what judges the service as a whole.
#[derive(Debug)]
pub struct AttemptGuard<T> {
    /// None until an endpoint was picked.
    pub(super) held: Option<Held<T, Breaker>>,
    pub(super) permits: ServicePermits,
    // The head's verdict, until it is settled.
    open: Option<Verdict>,
}

impl<T> AttemptGuard<T> {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self { held: None, permits: ServicePermits::NONE, open: None }
    }

    /// The head has come. One that says no has decided: all that is held is told at once.
    #[inline]
    pub(super) fn answered(&mut self, head: Verdict, report: impl FnOnce() -> Option<LoadReport>) {
        if let Some(held) = &mut self.held {
            held.answered(head, report);
        }
        self.permits.answered(head);
        if head.is_success() {
            self.open = Some(head);
        } else {
            self.tell(head);
        }
    }

    /// Nobody waits for an answer any more.
    pub(super) fn let_go(&mut self) {
        drop(std::mem::replace(self, Self::new()));
    }

    /// The verdict on a head that said yes, until it is settled.
    pub(super) const fn open(&self) -> Option<Verdict> {
        self.open
    }

    fn tell(&mut self, verdict: Verdict) {
        if let Some(held) = &mut self.held {
            held.settle(verdict);
        }
        self.permits.settle(verdict);
    }
}

impl<T> Settle for AttemptGuard<T> {
    /// Once: who wraps a response whose head decided tells again what was told.
    fn settle(&mut self, verdict: Verdict) {
        if self.open.take().is_some() {
            self.tell(verdict);
        }
    }

    fn report(&mut self, report: LoadReport) {
        if let Some(held) = &mut self.held {
            held.report(report);
        }
    }
}

impl<T> Drop for AttemptGuard<T> {
    fn drop(&mut self) {
        if let Some(head) = self.open {
            self.settle(verdict_on_drop(head));
        }
    }
}

/// Judges an [`Answer`] as another classifier judges its response.
#[derive(Clone, Copy, Debug)]
pub struct AnswerClassifier<Cl> {
    classifier: Cl,
}

impl<Cl> AnswerClassifier<Cl> {
    pub(super) const fn new(classifier: Cl) -> Self {
        Self { classifier }
    }
}

impl<T: Exchange, Cl: Classify<Response<Body>>> Classify<Answer<T>> for AnswerClassifier<Cl> {
    type Guarded<G: Settle> = Cl::Guarded<(Parcel<T>, G)>;

    #[inline]
    fn response(&self, asked: Asked, answer: &Answer<T>) -> Verdict {
        match answer.parcel.attempt.open() {
            Some(head) => head,
            // Again, since a hedge may have left its history with a failure in the meantime.
            None => self.classifier.response(asked, &answer.response),
        }
    }

    fn error(&self, asked: Asked, error: &(dyn StdError + 'static)) -> Verdict {
        self.classifier.error(asked, error)
    }

    fn status(&self, answer: &Answer<T>) -> Option<u16> {
        self.classifier.status(&answer.response)
    }

    fn load_report(&self, answer: &Answer<T>) -> Option<LoadReport> {
        self.classifier.load_report(&answer.response)
    }

    fn attempts(&self, answer: &Answer<T>) -> Option<Attempts> {
        self.classifier.attempts(&answer.response)
    }

    fn annotate(&self, answer: &mut Answer<T>, attempts: Attempts) {
        self.classifier.annotate(&mut answer.response, attempts);
    }

    #[inline]
    fn guard<G: Settle>(
        &self,
        asked: Asked,
        answer: Answer<T>,
        head: Verdict,
        guard: G,
    ) -> Self::Guarded<G> {
        self.classifier.guard(asked, answer.response, head, (answer.parcel, guard))
    }

    fn set_aside<G: Settle>(
        &self,
        answer: Answer<T>,
        head: Verdict,
        guard: G,
        limit: usize,
    ) -> Result<Self::Guarded<G>, (Answer<T>, G)> {
        let guard = (answer.parcel, guard);
        let aside = self.classifier.set_aside(answer.response, head, guard, limit);
        aside.map_err(|(response, (parcel, guard))| (Answer { response, parcel }, guard))
    }

    fn poll_aside<G: Settle>(
        &self,
        aside: &mut Self::Guarded<G>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.classifier.poll_aside::<(Parcel<T>, G)>(aside, cx)
    }

    fn annotate_aside<G: Settle>(&self, aside: &mut Self::Guarded<G>, attempts: Attempts) {
        self.classifier.annotate_aside::<(Parcel<T>, G)>(aside, attempts);
    }
}
