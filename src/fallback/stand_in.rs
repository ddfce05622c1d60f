//! Answers from what this program has itself, at once.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    config::StandInConfig,
    rule::{Ended, Rule},
    told::{Discloses, FellBack},
};
use crate::{
    call::{Asked, Carrier, Outcome},
    classify::{Classify, Verdict},
    error::BoxError,
    event::Event,
    time::now,
};

/// Answers a call that has failed, without calling anybody: from memory
/// ([`Stale`](super::Stale)), or always the same ([`Fixed`]).
pub trait StandIn<C, Res> {
    /// What it has to know of a call.
    type Memo;

    /// Notes it, before the call is made.
    fn note(&self, call: &C) -> Self::Memo;

    /// Sees an answer that stands. `response` may be taken apart, and has to be put together
    /// again.
    fn learn(&self, memo: Self::Memo, verdict: Verdict, response: &mut Res, now: Instant) {
        let _ = (memo, verdict, response, now);
    }

    /// The answer, and how old it is if it was remembered. None if it has none.
    fn answer(&self, memo: Self::Memo, now: Instant) -> Option<(Res, Option<Duration>)>;
}

/// Answers every call the same.
///
/// ```
/// use buttress::fallback::{Answer, Fixed};
///
/// let no_advice = Fixed::new(|| Answer::new(Vec::<String>::new()));
/// # drop(no_advice);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fixed<F> {
    make: F,
}

impl<F> Fixed<F> {
    /// Every answer is what `make` makes.
    pub const fn new(make: F) -> Self {
        Self { make }
    }
}

impl<C, Res, F> StandIn<C, Res> for Fixed<F>
where
    F: Fn() -> Res,
{
    type Memo = ();

    fn note(&self, _: &C) {}

    fn answer(&self, (): (), _: Instant) -> Option<(Res, Option<Duration>)> {
        Some(((self.make)(), None))
    }
}

/// Answers a call that has failed for good by a [`StandIn`]; see [the module](super).
pub struct StandInLayer<A, R, Cl> {
    shared: Arc<Shared<A, R, Cl>>,
}

struct Shared<A, R, Cl> {
    config: StandInConfig,
    rule: R,
    stand_in: A,
    classifier: Cl,
}

impl<A, R, Cl> StandInLayer<A, R, Cl> {
    /// `stand_in` answers where `rule` says so. `classifier` says what the outcomes mean.
    pub fn new(config: StandInConfig, rule: R, stand_in: A, classifier: Cl) -> Self {
        Self { shared: Arc::new(Shared { config, rule, stand_in, classifier }) }
    }
}

impl<A, R, Cl> Clone for StandInLayer<A, R, Cl> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<A, R, Cl> fmt::Debug for StandInLayer<A, R, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandInLayer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl<S, A, R, Cl> Layer<S> for StandInLayer<A, R, Cl> {
    type Service = StandInService<S, A, R, Cl>;

    fn layer(&self, inner: S) -> Self::Service {
        StandInService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The service of [`StandInLayer`].
pub struct StandInService<S, A, R, Cl> {
    inner: S,
    shared: Arc<Shared<A, R, Cl>>,
}

impl<S: Clone, A, R, Cl> Clone for StandInService<S, A, R, Cl> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug, A, R, Cl> fmt::Debug for StandInService<S, A, R, Cl> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandInService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, A, R, Cl, C> Service<C> for StandInService<S, A, R, Cl>
where
    C: Carrier,
    S: Service<C, Response: Discloses>,
    S::Error: Into<BoxError>,
    A: StandIn<C, S::Response>,
    R: Rule<S::Response>,
    Cl: Classify<S::Response>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = StandInFuture<S, A, R, Cl, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: C) -> Self::Future {
        let asked = call.words().map(|words| words.asked()).unwrap_or_default();
        let memo = Some(self.shared.stand_in.note(&call));
        StandInFuture {
            inner: self.inner.call(call),
            memo,
            asked,
            shared: Arc::clone(&self.shared),
        }
    }
}

pin_project! {
    /// The future of [`StandInService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct StandInFuture<S, A, R, Cl, C>
    where
        S: Service<C>,
        A: StandIn<C, S::Response>,
    {
        #[pin]
        inner: S::Future,
        // None once it has ended.
        memo: Option<A::Memo>,
        asked: Asked,
        shared: Arc<Shared<A, R, Cl>>,
    }
}

impl<S, A, R, Cl, C> Future for StandInFuture<S, A, R, Cl, C>
where
    S: Service<C, Response: Discloses>,
    S::Error: Into<BoxError>,
    A: StandIn<C, S::Response>,
    R: Rule<S::Response>,
    Cl: Classify<S::Response>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx)).map_err(Into::into);
        let shared = &**this.shared;
        let memo = this.memo.take().expect("a future is not polled after its end");
        let outcome = result.as_ref().map_err(|error: &BoxError| &**error as _);
        let verdict = match outcome {
            Ok(response) => shared.classifier.response(*this.asked, response),
            Err(error) => shared.classifier.error(*this.asked, error),
        };
        let Some(reason) = shared.rule.reason(&Ended::new(verdict, outcome)) else {
            // What a fallback beneath says is not what the service says.
            if let Some(response) = result.as_mut().ok().filter(|it| it.fell_back().is_none()) {
                shared.stand_in.learn(memo, verdict, response, now());
            }
            return Poll::Ready(result);
        };
        let StandInConfig { name: by, observer } = &shared.config;
        let by = *by;
        let Some((mut response, age)) = shared.stand_in.answer(memo, now()) else {
            observer.on(|| Event::NoFallback { by, reason: "unknown", verdict });
            return Poll::Ready(result);
        };
        let outcome = match outcome {
            Ok(response) => Outcome::Response(shared.classifier.status(response)),
            Err(error) => Outcome::of_error(error),
        };
        response.disclose(FellBack { by, reason, verdict, outcome, age });
        let reason = reason.code();
        observer.on(|| Event::FellBack { by, reason, verdict, age });
        Poll::Ready(Ok(response))
    }
}
