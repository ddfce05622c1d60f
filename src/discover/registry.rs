//! What the registries have in common: a loop that asks, waits and asks anew.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    config::ResilientConfig,
    error::EmptyAnswer,
    state::{Backoff, Doubt, Empty},
};
use crate::{
    endpoint::{Change, Endpoint},
    error::BoxError,
    time::{self, Sleep},
};

/// A registry that can be asked: it lists, and then watches.
pub(super) trait Registry: Send + 'static {
    /// All endpoints there are: at once when it is asked first and after an error, and then as
    /// soon as there may be others. It paces itself.
    fn next(&mut self) -> impl Future<Output = Result<Answer, Fault>> + Send;
}

/// What a registry knows.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) endpoints: Vec<Endpoint>,
    /// What could not be read in it: the rest counts all the same.
    pub(super) odd: Option<String>,
    /// Why there is none, where there is more to be said than that.
    pub(super) empty: Option<&'static str>,
}

/// What went wrong with it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: RegistryErrorKind,
    pub(super) text: String,
    pub(super) source: Option<BoxError>,
}

impl Fault {
    pub(super) fn new(kind: RegistryErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), source: None }
    }

    pub(super) fn because(mut self, source: BoxError) -> Self {
        self.source = Some(source);
        self
    }
}

/// What was wrong with a registry; it is asked anew, and the last good set stays in use.
///
/// Its text is the registry, what was wrong, and what happens next.
#[derive(Debug)]
pub struct RegistryError {
    registry: Arc<str>,
    fault: Fault,
    named_some: bool,
    retry_in: Option<Duration>,
}

/// What kind of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// It could not be reached, or the connection broke.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It answered that it can't or won't.
    Refused,
    /// It answered what can't be understood, wholly or in part; what can be is used.
    Malformed,
    /// It knows no endpoint.
    Empty,
}

impl RegistryError {
    /// What was wrong.
    #[must_use]
    pub const fn kind(&self) -> RegistryErrorKind {
        self.fault.kind
    }

    /// Whether it has named endpoints before, which stay in use.
    #[must_use]
    pub const fn named_some(&self) -> bool {
        self.named_some
    }

    /// How long until it is asked anew. None if that does not change with the error: the
    /// registry goes on saying what becomes of the endpoints.
    #[must_use]
    pub const fn retry_in(&self) -> Option<Duration> {
        self.retry_in
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, fault, named_some, retry_in } = self;
        write!(f, "{registry}: {}; ", fault.text)?;
        f.write_str(match (fault.kind, named_some) {
            (RegistryErrorKind::Malformed, _) if retry_in.is_none() => "the rest is used",
            (_, true) => "the last good set stays",
            (_, false) => "it has named no endpoint so far",
        })?;
        match retry_in {
            Some(wait) => write!(f, ", and it is asked anew in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl StdError for RegistryError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.fault.source.as_deref().map(|source| source as _)
    }
}

/// Asks a registry for ever, and says what changes.
pub(super) struct Watched<R> {
    registry: Arc<str>,
    stage: Stage<R>,
    config: ResilientConfig,
    backoff: Backoff,
    /// It was asked since the last error.
    begun: bool,
    doubt: Doubt,
    /// What was said last, sorted.
    said: Option<Vec<Endpoint>>,
    /// What was odd last.
    odd: Option<String>,
    /// It failed, or was empty, since then: nobody knows whether the set still holds.
    failed: bool,
    /// An error that is to be said next.
    next: Option<RegistryError>,
}

/// What was answered, and who did.
type Asking<R> = Pin<Box<dyn Future<Output = (R, Result<Answer, Fault>)> + Send>>;

enum Stage<R> {
    /// None only while its step is taken.
    Idle(Option<R>),
    // Boxed, so that the stream can be moved and its name is short; one an answer.
    Asking(Asking<R>),
    Waiting(Option<R>, Pin<Box<Sleep>>),
}

impl<R> Watched<R> {
    /// Asks `registry`, which errors call `name`, when it is first polled.
    pub(super) fn new(name: impl Into<Arc<str>>, registry: R, config: ResilientConfig) -> Self {
        Self {
            registry: name.into(),
            stage: Stage::Idle(Some(registry)),
            backoff: Backoff::new(config.first, config.longest),
            begun: false,
            doubt: Doubt::new(config.keep_when_empty),
            said: None,
            odd: None,
            failed: false,
            next: None,
            config,
        }
    }

    fn error(&self, fault: Fault, retry_in: Option<Duration>) -> RegistryError {
        let registry = Arc::clone(&self.registry);
        RegistryError { registry, fault, named_some: self.said.is_some(), retry_in }
    }

    /// What is to be said of an answer. A set that is as it was is said again after an error, so that
    /// it is known to hold.
    fn answered(&mut self, answer: Answer) -> Option<Result<Change, RegistryError>> {
        let Answer { mut endpoints, odd, empty } = answer;
        if self.odd != odd {
            self.odd.clone_from(&odd);
            let fault = odd.map(|text| Fault::new(RegistryErrorKind::Malformed, text));
            self.next = fault.map(|fault| self.error(fault, None));
        }
        match self.doubt.answered(endpoints.is_empty()) {
            Empty::Believed => {}
            Empty::Doubted => {
                let text = empty.unwrap_or("it knows no endpoint");
                let fault = Fault::new(RegistryErrorKind::Empty, text).because(EmptyAnswer.into());
                self.failed = true;
                return Some(Err(self.error(fault, None)));
            }
            Empty::DoubtedAgain => return None,
        }
        self.backoff.brought();
        endpoints.sort_unstable_by(|a, b| (a.id(), a.address()).cmp(&(b.id(), b.address())));
        endpoints.dedup();
        let same = |said: &[Endpoint]| {
            let pairs = || said.iter().zip(&endpoints);
            said.len() == endpoints.len() && !pairs().any(|(a, b)| a.differs(b))
        };
        let failed = std::mem::replace(&mut self.failed, false);
        if !failed && self.said.as_deref().is_some_and(same) {
            return None;
        }
        self.said = Some(endpoints.clone());
        Some(Ok(Change::Reset(endpoints)))
    }
}

impl<R: Registry> Watched<R> {
    /// The next item of a stream that never ends.
    pub(super) fn poll_said(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Change, RegistryError>>> {
        loop {
            if let Some(error) = self.next.take() {
                return Poll::Ready(Some(Err(error)));
            }
            let (registry, answer) = match &mut self.stage {
                Stage::Idle(registry) => {
                    let mut registry = registry.take().expect("it was put back");
                    if !std::mem::replace(&mut self.begun, true) {
                        self.backoff.began(time::now());
                    }
                    self.stage = Stage::Asking(Box::pin(async move {
                        let answer = registry.next().await;
                        (registry, answer)
                    }));
                    continue;
                }
                Stage::Waiting(registry, sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.stage = Stage::Idle(registry.take());
                    continue;
                }
                Stage::Asking(asking) => ready!(asking.as_mut().poll(cx)),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(fault) => {
                    let now = time::now();
                    (self.begun, self.failed) = (false, true);
                    let wait = self.backoff.failed(now, self.config.entropy.unit());
                    let sleep = Box::pin(Sleep::until(now + wait));
                    self.stage = Stage::Waiting(Some(registry), sleep);
                    return Poll::Ready(Some(Err(self.error(fault, Some(wait)))));
                }
            };
            self.stage = Stage::Idle(Some(registry));
            if let Some(said) = self.answered(answer) {
                return Poll::Ready(Some(said));
            }
            if self.next.is_none() {
                // One answer at a time, so that a registry that repeats itself without a pause
                // leaves the thread to others.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl<R> fmt::Debug for Watched<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Idle(_) => "idle",
            Stage::Asking(_) => "asking",
            Stage::Waiting(..) => "waiting",
        };
        f.debug_struct("Watched")
            .field("registry", &self.registry)
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

/// The first that comes: what the future ends with, or none at the end of `limit`.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut sleep = std::pin::pin!(Sleep::until(time::after(time::now(), limit)));
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}
