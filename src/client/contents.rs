//! What an attempt has to send, and what has come of it.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{AttemptBody, Outgoing};
use crate::{
    body::Body,
    call::{Call, Carrier, HttpReplayer, Words},
};

pin_project! {
    /// A request and its words, and in the place of the request what has come of it.
    #[derive(Debug)]
    pub(super) struct Contents<F> {
        words: Words,
        #[pin]
        progress: Progress<F>,
        // What makes the request again, of a first attempt that may be followed by others.
        kept: HttpReplayer<Body>,
    }
}

pin_project! {
    /// One place for all, as none is there at the time of another. Each may have been taken.
    #[derive(Debug)]
    #[project = ProgressProj]
    enum Progress<F> {
        Unsent { request: Option<Request<AttemptBody>> },
        Sent { #[pin] exchange: F },
        Answered { response: Option<Response<Body>> },
    }
}

impl<F> Contents<F> {
    #[inline(always)]
    pub(super) fn new(words: Words, request: Request<AttemptBody>) -> Self {
        Self::of(words, Some(request))
    }

    #[inline(always)]
    pub(super) fn empty() -> Self {
        Self::of(Words::new(), None)
    }

    #[inline(always)]
    fn of(words: Words, request: Option<Request<AttemptBody>>) -> Self {
        Self { words, progress: Progress::Unsent { request }, kept: HttpReplayer::empty() }
    }

    pub(super) const fn words(&self) -> &Words {
        &self.words
    }

    pub(super) fn words_mut(self: Pin<&mut Self>) -> &mut Words {
        self.project().words
    }

    /// The request, while it has not been sent.
    pub(super) fn request(&self) -> &Request<AttemptBody> {
        match &self.progress {
            Progress::Unsent { request: Some(request) } => request,
            _ => unreachable!("{}", SENT),
        }
    }

    /// The same, to be changed.
    pub(super) fn request_mut(self: Pin<&mut Self>) -> &mut Request<AttemptBody> {
        self.project().progress.unsent().as_mut().expect(SENT)
    }

    #[inline(always)]
    pub(super) fn take_request(self: Pin<&mut Self>) -> Request<AttemptBody> {
        self.project().progress.unsent().take().expect(SENT)
    }

    /// Keeps what further attempts need, of the body up to `cap` bytes.
    #[inline]
    pub(super) fn keep(self: Pin<&mut Self>, cap: usize) {
        let this = self.project();
        let request = this.progress.unsent().as_mut().expect(SENT);
        this.kept.keep(request, |body| body.keep(cap, |body| body.whole_up_to(cap)));
    }

    pub(super) fn take_kept(self: Pin<&mut Self>) -> Option<HttpReplayer<Body>> {
        let kept = self.project().kept;
        (!kept.is_empty()).then(|| mem::replace(kept, HttpReplayer::empty()))
    }

    /// Sends it. The words go with it as far as they are plain values: the trace is in the
    /// request's headers by then.
    #[inline(always)]
    pub(super) fn send(mut self: Pin<&mut Self>, to: &mut impl Service<Outgoing, Future = F>) {
        let request = self.as_mut().take_request();
        let exchange = to.call(Call::with_words(request, self.words.untraced()));
        self.project().progress.set(Progress::Sent { exchange });
    }

    /// What it was sent to, until it has answered.
    #[inline(always)]
    pub(super) fn poll_sent(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<F::Output>>
    where
        F: Future,
    {
        match self.project().progress.project() {
            ProgressProj::Sent { exchange } => Some(exchange.poll(cx)),
            _ => None,
        }
    }

    /// This is what came of it.
    pub(super) fn answer(self: Pin<&mut Self>, response: Response<Body>) {
        self.project().progress.set(Progress::Answered { response: Some(response) });
    }

    /// The answer, when it has come.
    pub(super) fn response(&self) -> &Response<Body> {
        match &self.progress {
            Progress::Answered { response: Some(response) } => response,
            _ => unreachable!("{}", UNANSWERED),
        }
    }

    /// The answer for its caller. What makes the request again is not needed any more.
    #[inline(always)]
    pub(super) fn take_response(self: Pin<&mut Self>) -> Response<Body> {
        let this = self.project();
        this.kept.clear();
        match this.progress.project() {
            ProgressProj::Answered { response } => response.take().expect(UNANSWERED),
            _ => unreachable!("{}", UNANSWERED),
        }
    }

    /// Gives up the request and what has come of it.
    pub(super) fn stop(self: Pin<&mut Self>) {
        self.project().progress.set(Progress::Answered { response: None });
    }

    /// The same, and what makes it again.
    pub(super) fn let_go(mut self: Pin<&mut Self>) {
        self.as_mut().stop();
        self.project().kept.clear();
    }
}

impl<F> Progress<F> {
    /// The place of the request.
    fn unsent(self: Pin<&mut Self>) -> &mut Option<Request<AttemptBody>> {
        match self.project() {
            ProgressProj::Unsent { request } => request,
            _ => unreachable!("{}", SENT),
        }
    }
}

const SENT: &str = "a request is looked at until it is sent";
const UNANSWERED: &str = "a response is looked at when it has come";

/// Until it is sent.
impl<F> Carrier for Pin<&mut Contents<F>> {
    type Request = Request<AttemptBody>;

    fn words(&self) -> Option<&Words> {
        Some(&self.words)
    }

    fn words_mut(&mut self) -> &mut Words {
        self.as_mut().words_mut()
    }

    fn request(&self) -> &Self::Request {
        Contents::request(self)
    }

    fn request_mut(&mut self) -> &mut Self::Request {
        self.as_mut().request_mut()
    }

    fn into_request(self) -> Self::Request {
        self.take_request()
    }
}
