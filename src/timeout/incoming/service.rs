//! The layer and its service.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Extensions, HeaderMap, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Admission, IncomingBody, IncomingDeadlineConfig, IncomingDeadlineFuture,
    answer::{Asker, Trouble},
    overdue::Watch,
};
use crate::{
    call::{Carrier, Words},
    event::Event,
    time::now,
    timeout::{Elapsed, Which, header::Said},
};

/// Takes up the deadlines of the requests to a server.
///
/// Above everything that a request waits for in the server: what it waited is then gone from
/// what is left. The time on the way to this layer is not known to it.
#[derive(Clone, Debug)]
pub struct IncomingDeadlineLayer {
    config: Arc<IncomingDeadlineConfig>,
}

impl IncomingDeadlineLayer {
    /// A layer of these settings.
    #[must_use]
    pub fn new(config: IncomingDeadlineConfig) -> Self {
        Self { config: Arc::new(config) }
    }
}

impl Default for IncomingDeadlineLayer {
    fn default() -> Self {
        Self::new(IncomingDeadlineConfig::new())
    }
}

impl<S> Layer<S> for IncomingDeadlineLayer {
    type Service = IncomingDeadline<S>;

    fn layer(&self, inner: S) -> IncomingDeadline<S> {
        IncomingDeadline { inner, config: Arc::clone(&self.config) }
    }
}

/// The service of [`IncomingDeadlineLayer`].
#[derive(Clone, Debug)]
pub struct IncomingDeadline<S> {
    inner: S,
    config: Arc<IncomingDeadlineConfig>,
}

// For `http::Request` alone, as that is what servers are called with: the handler finds the
// words in its extensions, without a type of ours.
impl<S, B, D> Service<Request<B>> for IncomingDeadline<S>
where
    S: Service<Request<B>, Response = Response<D>>,
{
    type Response = Response<IncomingBody<D>>;
    type Error = S::Error;
    type Future = IncomingDeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let config = &self.config;
        let now = now();
        let Ok(left) = config.left(request.headers()) else {
            let asker = Asker::of(request.headers());
            return IncomingDeadlineFuture::answered(Trouble::Unreadable, asker);
        };
        let known = request.words().and_then(|words| words.deadline);
        match config.intake.admit(left, known, now) {
            Admission::Unlimited => IncomingDeadlineFuture::unlimited(self.inner.call(request)),
            Admission::Overdue => {
                let overdue = Event::Overdue { stage: "not_begun", limit: Duration::ZERO };
                config.observer.on(|| overdue);
                let trouble = Trouble::Overdue(Elapsed::not_begun(Which::Incoming));
                IncomingDeadlineFuture::answered(trouble, Asker::of(request.headers()))
            }
            Admission::Until(deadline) => {
                request.words_mut().shorten(deadline);
                let term = Term { deadline, began: now };
                if config.let_run {
                    let watch = Watch::new(deadline, now, config.observer.clone());
                    request.extensions_mut().insert(watch.overdue());
                    let future = self.inner.call(request);
                    IncomingDeadlineFuture::let_run(future, watch)
                } else {
                    let asker = Asker::of(request.headers());
                    let future = self.inner.call(request);
                    IncomingDeadlineFuture::until(future, term, asker, Arc::clone(config))
                }
            }
        }
    }
}

/// From when to when a request is worked on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) deadline: Instant,
    pub(super) began: Instant,
}

/// A deadline that can't be read, where such requests are refused.
struct Refused;

impl IncomingDeadlineConfig {
    /// How much time the caller has left, by the header that says the least.
    fn left(&self, headers: &HeaderMap) -> Result<Option<Duration>, Refused> {
        let mut least: Option<Duration> = None;
        // A map without headers is not searched: that would hash the names.
        if headers.is_empty() {
            return Ok(None);
        }
        for header in &self.headers {
            match header.said(headers) {
                Said::Nothing => {}
                Said::Left(left) => least = Some(least.map_or(left, |least| least.min(left))),
                Said::Unreadable => {
                    let refused = self.refuse_unreadable;
                    let header = header.name().as_str();
                    self.observer.on(|| Event::DeadlineUnreadable { header, refused });
                    if refused {
                        return Err(Refused);
                    }
                }
            }
        }
        Ok(least)
    }
}

/// The words of a call that is made to answer a request, from the request's extensions: its
/// deadline, so that the call never outlives it, and its trace, if somebody put that there.
///
/// Nothing else is passed on. Whether the call may be repeated, whether it carries a key and
/// which attempt it is are its own affair, whatever holds for the request.
///
/// ```
/// use buttress::timeout;
/// use http::Request;
///
/// fn call_to_answer(request: &Request<()>) -> http::Result<Request<()>> {
///     let mut call = Request::get("http://orders/7").body(())?;
///     call.extensions_mut().insert(timeout::pass_on(request.extensions()));
///     Ok(call)
/// }
/// # assert!(call_to_answer(&Request::new(())).is_ok());
/// ```
#[must_use]
pub fn pass_on(extensions: &Extensions) -> Words {
    let mut words = Words::new();
    if let Some(came) = extensions.get::<Words>() {
        words.deadline = came.deadline;
        words.trace.clone_from(&came.trace);
    }
    words
}
