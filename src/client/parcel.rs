//! What a call is while it goes through the stack.

use http::{Extensions, Request};

use super::AttemptBody;
use crate::{
    body::{Body, ReplayBody},
    call::{Call, Carrier, HttpReplayer, Replay, Replayer, Words},
};

/// A request and its words in a box of their own. They are some 430 bytes, which a dozen moves on
/// the way down would copy each time; the box costs a quarter of that, and one allocation.
///
/// Its type is the same above and below retry and hedge: the body is kept in place for further
/// attempts, and one that the retry keeps is not kept again by the hedge.
#[derive(Debug)]
pub struct Parcel {
    call: Box<Call<Request<AttemptBody>>>,
}

impl Parcel {
    #[inline]
    pub(super) fn new<B: Into<Body>>(mut call: Call<Request<B>>) -> Self {
        if !call.request.extensions().is_empty() {
            take_words(call.request.extensions_mut(), &mut call.words);
        }
        let Call { request, words } = call;
        let (head, body) = request.into_parts();
        let body = ReplayBody::once(body.into());
        Self { call: Box::new(Call { words, request: Request::from_parts(head, body) }) }
    }

    /// Keeps what further attempts need, of the body up to `cap` bytes.
    #[inline(always)]
    pub(super) fn keep(&mut self, cap: usize) -> ParcelReplayer {
        let replayer = HttpReplayer::keep(&mut self.call.request, cap);
        ParcelReplayer { kept: Call::with_words(replayer, self.call.words.clone()) }
    }

    pub(super) const fn words(&self) -> &Words {
        &self.call.words
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

impl Carrier for Parcel {
    type Request = Request<AttemptBody>;

    fn words(&self) -> Option<&Words> {
        Some(&self.call.words)
    }

    fn words_mut(&mut self) -> &mut Words {
        &mut self.call.words
    }

    fn request(&self) -> &Self::Request {
        &self.call.request
    }

    fn request_mut(&mut self) -> &mut Self::Request {
        &mut self.call.request
    }

    fn into_request(self) -> Self::Request {
        self.call.request
    }
}

impl Replay for Parcel {
    type Attempt = Self;
    type Replayer = ParcelReplayer;

    fn is_idempotent(&self) -> bool {
        self.call.request.is_idempotent()
    }

    fn once(self) -> Self {
        self
    }

    fn begin(mut self, cap: usize) -> (Self, ParcelReplayer) {
        let replayer = self.keep(cap);
        (self, replayer)
    }
}

/// Makes the further attempts of a [`Parcel`].
#[derive(Debug)]
pub struct ParcelReplayer {
    kept: Call<HttpReplayer<Body>>,
}

impl Replayer for ParcelReplayer {
    type Attempt = Parcel;

    fn attempt(&mut self) -> Option<Parcel> {
        self.kept.attempt().map(|call| Parcel { call: Box::new(call) })
    }

    fn can_attempt(&self) -> bool {
        self.kept.can_attempt()
    }
}
