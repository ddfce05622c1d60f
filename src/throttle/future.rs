//! A call that was sent, or not.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{error::Throttled, handle::Permit};
use crate::{
    call::Asked,
    classify::{Classify, Settle},
    error::BoxError,
};

pin_project! {
    /// The future of [`ThrottleService`](super::ThrottleService).
    ///
    /// Dropped before it is ready, it gives its request back, unless the call's deadline had
    /// passed.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, Cl> {
        #[pin]
        stage: Stage<F, Cl>,
    }
}

pin_project! {
    #[project = StageProjection]
    #[derive(Debug)]
    enum Stage<F, Cl> {
        Refused { throttled: Throttled },
        Admitted {
            #[pin]
            inner: F,
            classifier: Cl,
            asked: Asked,
            // None once the outcome is known, or where there is no throttle.
            permit: Option<Permit>,
        },
    }
}

impl<F, Cl> ResponseFuture<F, Cl> {
    pub(super) const fn refused(throttled: Throttled) -> Self {
        Self { stage: Stage::Refused { throttled } }
    }

    pub(super) const fn admitted(
        inner: F,
        classifier: Cl,
        asked: Asked,
        permit: Option<Permit>,
    ) -> Self {
        Self { stage: Stage::Admitted { inner, classifier, asked, permit } }
    }
}

impl<F, Res, E, Cl> Future for ResponseFuture<F, Cl>
where
    F: Future<Output = Result<Res, E>>,
    E: Into<BoxError>,
    Cl: Classify<Res>,
{
    type Output = Result<Cl::Guarded<Option<Permit>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().stage.project() {
            StageProjection::Refused { throttled } => Poll::Ready(Err((*throttled).into())),
            StageProjection::Admitted { inner, classifier, asked, permit } => {
                let outcome = ready!(inner.poll(cx));
                let mut permit = permit.take();
                Poll::Ready(match outcome {
                    Ok(response) => {
                        let head = classifier.response(*asked, &response);
                        Ok(classifier.guard(*asked, response, head, permit))
                    }
                    Err(error) => {
                        let error = error.into();
                        permit.settle(classifier.error(*asked, &*error));
                        Err(error)
                    }
                })
            }
        }
    }
}
