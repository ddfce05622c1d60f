//! A stream that is made anew when it ends or fails.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{
    config::ResilientConfig,
    error::{EmptyAnswer, Ended},
    state::{Backoff, Doubt, Empty},
};
use crate::{
    endpoint::{Change, Discover},
    error::BoxError,
    time::{self, Sleep},
};

pin_project! {
    /// A stage around a factory of streams: it never ends.
    ///
    /// - A stream that ends, or that gives an error, is dropped and made anew after a wait with
    ///   jitter, which doubles while that does not help. It is never polled after its end.
    /// - The error goes through, so that it can be reported; an end goes through as the error
    ///   [`Ended`]. Who keeps the endpoints keeps the last good set.
    /// - An answer without any endpoint goes through as the error [`EmptyAnswer`], once until
    ///   there is another answer, unless [`ResilientConfig::keep_when_empty`] says otherwise.
    ///   A [`Change::Remove`] of the last endpoint is explicit, and obeyed.
    ///
    /// Each stream should begin with a [`Change::Reset`]: what went while there was no stream
    /// is known from nothing else. What survives its own errors ([`File`](super::File)) needs
    /// no such stage.
    #[must_use = "streams do nothing unless polled"]
    pub struct Resilient<F, D> {
        make: F,
        #[pin]
        stage: Stage<D>,
        backoff: Backoff,
        doubt: Doubt,
        config: ResilientConfig,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<D> {
        Unmade,
        Running { #[pin] stream: D },
        // Boxed, so that the stage is as movable as its streams are; one a wait.
        Waiting { sleep: Pin<Box<Sleep>> },
    }
}

impl<F, D> Resilient<F, D> {
    /// Makes streams with `make`; the first one when it is first polled.
    pub fn new(make: F, config: ResilientConfig) -> Self
    where
        F: FnMut() -> D,
    {
        let backoff = Backoff::new(config.first, config.longest);
        let doubt = Doubt::new(config.keep_when_empty);
        Self { make, stage: Stage::Unmade, backoff, doubt, config }
    }
}

impl<F, D> Stream for Resilient<F, D>
where
    F: FnMut() -> D,
    D: Discover,
{
    type Item = Result<Change, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let config = this.config;
        loop {
            match this.stage.as_mut().project() {
                StageProj::Unmade => {
                    this.backoff.began(time::now());
                    let stream = (this.make)();
                    this.stage.set(Stage::Running { stream });
                }
                StageProj::Waiting { sleep } => {
                    ready!(sleep.as_mut().poll(cx));
                    this.stage.set(Stage::Unmade);
                }
                StageProj::Running { stream } => {
                    let answer = ready!(stream.poll_change(cx));
                    if let Some(Ok(change)) = answer {
                        let empty = matches!(&change, Change::Reset(all) if all.is_empty());
                        match this.doubt.answered(empty) {
                            Empty::Believed => {
                                this.backoff.brought();
                                return Poll::Ready(Some(Ok(change)));
                            }
                            Empty::Doubted => return Poll::Ready(Some(Err(EmptyAnswer.into()))),
                            Empty::DoubtedAgain => {}
                        }
                        // One at a time, so that a registry that repeats itself without a
                        // pause leaves the thread to others.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let now = time::now();
                    let wait = this.backoff.failed(now, config.entropy.unit());
                    this.stage.set(Stage::Waiting { sleep: Box::pin(Sleep::until(now + wait)) });
                    let error = match answer {
                        Some(Err(error)) => error,
                        _ => Ended { retry_in: wait }.into(),
                    };
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl<F, D> std::fmt::Debug for Resilient<F, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match &self.stage {
            Stage::Unmade => "unmade",
            Stage::Running { .. } => "running",
            Stage::Waiting { .. } => "waiting",
        };
        f.debug_struct("Resilient").field("stage", &stage).finish_non_exhaustive()
    }
}
