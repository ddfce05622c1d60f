//! How a request is made again for a further attempt.

use bytes::Bytes;
use http::{Method, Request};
use http_body::Body;

use super::{Call, Carrier, head::Head};
use crate::{
    body::{ReplayBody, ReplaySource},
    error::BoxError,
};

/// How much of a request's body is kept for further attempts, in bytes, unless a layer is told
/// otherwise.
pub const DEFAULT_REPLAY_CAP: usize = 64 * 1024;

/// Whether a call may be made again although it may have been carried out: the caller said so,
/// or it carries an idempotency key, or it is idempotent by nature. Retry and hedge both ask
/// here.
pub(crate) fn is_repeatable<C: Carrier + Replay>(call: &C) -> bool {
    let words = call.words();
    words
        .and_then(|words| words.idempotent)
        .unwrap_or_else(|| words.is_some_and(|words| words.keyed) || call.is_idempotent())
}

/// A request that can be attempted several times.
///
/// HTTP requests are, with any body (see [`ReplayBody`]). For a type of your own that is
/// `Clone`, [`Cloning`] does the work:
///
/// ```
/// use buttress::call::{Cloning, Replay};
///
/// #[derive(Clone)]
/// struct Lookup(String);
///
/// impl Replay for Lookup {
///     type Attempt = Self;
///     type Replayer = Cloning<Self>;
///
///     fn is_idempotent(&self) -> bool {
///         true // it only reads
///     }
///
///     fn once(self) -> Self {
///         self
///     }
///
///     fn begin(self, _: usize) -> (Self, Cloning<Self>) {
///         (self.clone(), Cloning::new(self))
///     }
/// }
/// ```
pub trait Replay: Sized {
    /// What an attempt sends.
    type Attempt;
    /// Makes the attempts.
    type Replayer: Replayer<Attempt = Self::Attempt>;

    /// Whether the request is safe to repeat by its own nature (an HTTP method may be).
    fn is_idempotent(&self) -> bool;

    /// The only attempt of a request that may not be repeated; copies nothing.
    fn once(self) -> Self::Attempt;

    /// Makes the first attempt, and keeps for further ones what they need, of the body up to
    /// `cap` bytes.
    fn begin(self, cap: usize) -> (Self::Attempt, Self::Replayer);
}

/// Makes the attempts of one request.
pub trait Replayer {
    /// What an attempt sends.
    type Attempt;

    /// A further attempt, or none if the request can't be made again: its body went past the
    /// cap, or failed.
    fn attempt(&mut self) -> Option<Self::Attempt>;

    /// Whether [`Replayer::attempt`] would make one.
    fn can_attempt(&self) -> bool;
}

/// Methods that RFC 9110 (section 9.2.2) and RFC 10008 (QUERY) define as idempotent.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    ) || method.as_str() == "QUERY"
}

impl<B> Replay for Request<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Attempt = Request<ReplayBody<B>>;
    type Replayer = HttpReplayer<B>;

    fn is_idempotent(&self) -> bool {
        is_idempotent(self.method())
    }

    fn once(self) -> Self::Attempt {
        self.map(ReplayBody::once)
    }

    fn begin(self, cap: usize) -> (Self::Attempt, HttpReplayer<B>) {
        let (mut first, mut replayer) = (self.once(), HttpReplayer::empty());
        replayer.keep(&mut first, |body| body.keep(cap, |_| None));
        (first, replayer)
    }
}

/// Makes the attempts of an [`http::Request`].
#[derive(Debug)]
pub struct HttpReplayer<B> {
    head: Head,
    /// None until a request is kept.
    body: Option<ReplaySource<B>>,
}

impl<B> HttpReplayer<B> {
    /// With nothing to make.
    #[inline(always)]
    pub(crate) fn empty() -> Self {
        Self { head: Head::empty(), body: None }
    }

    /// Lets go what was kept.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.body.take().is_some() {
            self.head.clear();
        }
    }

    /// Whether there is nothing to make.
    pub(crate) const fn is_empty(&self) -> bool {
        self.body.is_none()
    }
}

impl<B> HttpReplayer<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Keeps a request of which nothing was sent yet, and its body as `keep` does.
    ///
    /// The first attempt is the request as it is, with the room that its headers have for those
    /// which the layers below add; a copy has none, and would have to grow.
    #[inline]
    pub(crate) fn keep(
        &mut self,
        request: &mut Request<ReplayBody<B>>,
        keep: impl FnOnce(&mut ReplayBody<B>) -> ReplaySource<B>,
    ) {
        debug_assert!(self.is_empty(), "a request is kept once");
        self.body = Some(keep(request.body_mut()));
        self.head.fill(request);
    }
}

impl<B> Replayer for HttpReplayer<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Attempt = Request<ReplayBody<B>>;

    fn attempt(&mut self) -> Option<Self::Attempt> {
        Some(self.head.request(self.body.as_ref()?.reader()?))
    }

    fn can_attempt(&self) -> bool {
        self.body.as_ref().is_some_and(ReplaySource::can_replay)
    }
}

impl<R: Replay> Replay for Call<R> {
    type Attempt = Call<R::Attempt>;
    type Replayer = Call<R::Replayer>;

    fn is_idempotent(&self) -> bool {
        self.request.is_idempotent()
    }

    fn once(self) -> Self::Attempt {
        Call { words: self.words, request: self.request.once() }
    }

    fn begin(self, cap: usize) -> (Self::Attempt, Self::Replayer) {
        let (attempt, replayer) = self.request.begin(cap);
        let first = Call { words: self.words.clone(), request: attempt };
        (first, Call { words: self.words, request: replayer })
    }
}

impl<P: Replayer> Replayer for Call<P> {
    type Attempt = Call<P::Attempt>;

    fn attempt(&mut self) -> Option<Self::Attempt> {
        Some(Call { words: self.words.clone(), request: self.request.attempt()? })
    }

    fn can_attempt(&self) -> bool {
        self.request.can_attempt()
    }
}

/// Makes the attempts of a request that is `Clone`.
#[derive(Clone, Copy, Debug)]
pub struct Cloning<R>(R);

impl<R> Cloning<R> {
    /// Every attempt is a clone of `request`.
    pub const fn new(request: R) -> Self {
        Self(request)
    }
}

impl<R: Clone> Replayer for Cloning<R> {
    type Attempt = R;

    fn attempt(&mut self) -> Option<R> {
        Some(self.0.clone())
    }

    fn can_attempt(&self) -> bool {
        true
    }
}

macro_rules! replay_by_cloning {
    ($($request:ty),*) => {$(
        /// Not idempotent by nature: say so in the call's [`Words`](super::Words) where it is.
        impl Replay for $request {
            type Attempt = Self;
            type Replayer = Cloning<Self>;

            fn is_idempotent(&self) -> bool {
                false
            }

            fn once(self) -> Self {
                self
            }

            fn begin(self, _: usize) -> (Self, Cloning<Self>) {
                (self.clone(), Cloning::new(self))
            }
        }
    )*};
}

replay_by_cloning!((), u32, u64, &'static str, String, Vec<u8>, Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_idempotent_methods() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"] {
            assert!(is_idempotent(&method.parse().expect("a method")), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "LOCK", "get"] {
            assert!(!is_idempotent(&method.parse().expect("a method")), "{method}");
        }
    }
}
