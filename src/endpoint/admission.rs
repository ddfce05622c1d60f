//! A call that was admitted, or not.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    call::Asked,
    classify::{Classify, Settle},
    error::BoxError,
};

pin_project! {
    /// A call that was admitted with a permit, which is told how it ends, or that was refused.
    ///
    /// Dropped before it is ready, it drops its permit without a verdict.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct AdmissionFuture<F, Cl, P, R> {
        #[pin]
        stage: Stage<F, Cl, P, R>,
    }
}

pin_project! {
    #[project = StageProjection]
    #[derive(Debug)]
    enum Stage<F, Cl, P, R> {
        Refused { refusal: R },
        Admitted {
            #[pin]
            inner: F,
            classifier: Cl,
            asked: Asked,
            // None once the outcome is known, or where nobody admits calls.
            permit: Option<P>,
        },
    }
}

impl<F, Cl, P, R> AdmissionFuture<F, Cl, P, R> {
    pub(crate) const fn refused(refusal: R) -> Self {
        Self { stage: Stage::Refused { refusal } }
    }

    pub(crate) const fn admitted(
        inner: F,
        classifier: Cl,
        asked: Asked,
        permit: Option<P>,
    ) -> Self {
        Self { stage: Stage::Admitted { inner, classifier, asked, permit } }
    }
}

impl<F, Res, E, Cl, P, R> Future for AdmissionFuture<F, Cl, P, R>
where
    F: Future<Output = Result<Res, E>>,
    E: Into<BoxError>,
    Cl: Classify<Res>,
    P: Settle,
    R: Copy + Into<BoxError>,
{
    type Output = Result<Cl::Guarded<Option<P>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().stage.project() {
            StageProjection::Refused { refusal } => Poll::Ready(Err((*refusal).into())),
            StageProjection::Admitted { inner, classifier, asked, permit } => {
                let outcome = ready!(inner.poll(cx));
                let mut permit = permit.take();
                Poll::Ready(match outcome {
                    Ok(response) => {
                        let head = classifier.response(*asked, &response);
                        permit.answered(head);
                        Ok(classifier.guard(*asked, response, head, permit))
                    }
                    Err(error) => {
                        let error = error.into();
                        let verdict = classifier.error(*asked, &*error);
                        permit.answered(verdict);
                        permit.settle(verdict);
                        Err(error)
                    }
                })
            }
        }
    }
}
