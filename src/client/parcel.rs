//! What a call is while it goes through the stack.

use std::{fmt, marker::PhantomData, mem, pin::Pin};

use http::{Extensions, Request};

use super::{AttemptBody, Exchange, attempt::Attempt, contents::Contents};
use crate::{
    body::{Body, ReplayBody},
    call::{Call, Carrier, HttpReplayer, Replay, Replayer, Words},
    classify::{Settle, Verdict},
    endpoint::LoadReport,
};

/// A call and the attempt that is made of it, in the one box in which they live: from when the
/// request comes in, until its response has been read.
///
/// A request and its words are some 400 bytes, and what an attempt holds is as much again: a
/// dozen moves on the way down and up would copy them each time. What goes through the stack is
/// the box.
pub struct Parcel<T: Exchange> {
    pub(super) attempt: Pin<Box<Attempt<T>>>,
}

impl<T: Exchange> Parcel<T> {
    #[inline]
    pub(super) fn new<B: Into<Body>>(mut call: Call<Request<B>>) -> Self {
        if !call.request.extensions().is_empty() {
            take_words(call.request.extensions_mut(), &mut call.words);
        }
        let Call { request, words } = call;
        let request = request.map(|body| ReplayBody::once(body.into()));
        Self::packed(Call { words, request })
    }

    // Always: one move less.
    #[inline(always)]
    fn packed(call: Call<Request<AttemptBody>>) -> Self {
        let Call { words, request } = call;
        // Put together where it stays: `Box::new` would do that elsewhere, and move the whole.
        let mut attempt = Box::<Attempt<T>>::default();
        let empty = mem::replace(&mut *attempt, Attempt::new(Contents::new(words, request)));
        // As there is nothing in it, nothing has to be looked for.
        mem::forget(empty);
        Self { attempt: Box::into_pin(attempt) }
    }

    fn contents(&mut self) -> Pin<&mut Contents<T::Future>> {
        self.attempt.as_mut().contents()
    }

    /// Keeps what further attempts need, of the body up to `cap` bytes.
    #[inline]
    pub(super) fn keep(&mut self, cap: usize) {
        self.contents().keep(cap);
    }

    /// What makes the further attempts, if it was [kept](Self::keep).
    pub(super) fn take_kept(&mut self) -> Option<ParcelReplayer<T>> {
        let kept = self.contents().take_kept()?;
        let words = self.attempt.contents.words().clone();
        Some(ParcelReplayer { kept: Box::new(Call::with_words(kept, words)), of: PhantomData })
    }
}

/// The words that the caller left with a request. Where nothing else is there, nothing stays,
/// so that the copies for the attempts copy nothing.
fn take_words(extensions: &mut Extensions, words: &mut Words) {
    if let Some(left) = extensions.remove() {
        *words = left;
    }
    if extensions.is_empty() {
        *extensions = Extensions::new();
    }
}

impl<T: Exchange> Carrier for Parcel<T> {
    type Request = Request<AttemptBody>;

    fn words(&self) -> Option<&Words> {
        Some(self.attempt.contents.words())
    }

    fn words_mut(&mut self) -> &mut Words {
        self.contents().words_mut()
    }

    fn request(&self) -> &Self::Request {
        self.attempt.contents.request()
    }

    fn request_mut(&mut self) -> &mut Self::Request {
        self.contents().request_mut()
    }

    fn into_request(mut self) -> Self::Request {
        self.contents().take_request()
    }
}

impl<T: Exchange> Replay for Parcel<T> {
    type Attempt = Self;
    type Replayer = ParcelReplayer<T>;

    fn is_idempotent(&self) -> bool {
        self.request().is_idempotent()
    }

    fn once(self) -> Self {
        self
    }

    fn begin(mut self, cap: usize) -> (Self, ParcelReplayer<T>) {
        self.keep(cap);
        let replayer = self.take_kept().expect("it has just been kept");
        (self, replayer)
    }
}

/// Makes the further attempts of a [`Parcel`].
// In a box: hardly any call makes one.
pub struct ParcelReplayer<T> {
    kept: Box<Call<HttpReplayer<Body>>>,
    of: PhantomData<fn() -> T>,
}

impl<T: Exchange> Replayer for ParcelReplayer<T> {
    type Attempt = Parcel<T>;

    fn attempt(&mut self) -> Option<Parcel<T>> {
        self.kept.attempt().map(Parcel::packed)
    }

    fn can_attempt(&self) -> bool {
        self.kept.can_attempt()
    }
}

/// What the attempt holds is settled with its response.
impl<T: Exchange> Settle for Parcel<T> {
    fn settle(&mut self, verdict: Verdict) {
        self.attempt.as_mut().guard().settle(verdict);
    }

    fn report(&mut self, report: LoadReport) {
        self.attempt.as_mut().guard().report(report);
    }
}

// Not derived: a response that holds one is `Debug` whatever the service is.
impl<T: Exchange> fmt::Debug for Parcel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel")
            .field("words", self.attempt.contents.words())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ParcelReplayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParcelReplayer").field("kept", &self.kept).finish_non_exhaustive()
    }
}
