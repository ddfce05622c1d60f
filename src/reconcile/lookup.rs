//! How a call is looked up.

use std::{fmt, future::Future, marker::PhantomData, time::Instant};

use http::{HeaderName, HeaderValue};

use crate::{call::HttpHead, error::BoxError};

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer<T> {
    /// The call was carried out, and this is its answer.
    Found(T),
    /// The call was not carried out, **and will not be**: no attempt of it is on its way or being
    /// worked on any more.
    ///
    /// To find nothing is not enough to say so. A service that records a call when it begins,
    /// before anything else, can; of one that records it at the end say [`Running`](Self::Running).
    NotCarriedOut,
    /// It is being carried out, or may be yet: look again after a while.
    Running,
}

/// One of the lookups of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Round {
    /// Which it is; the first is 1.
    pub number: u32,
    /// When it will be given up: the deadline of the lookup's own calls.
    pub until: Instant,
}

impl Round {
    /// The lookup of this number, the first being 1.
    #[must_use]
    pub const fn new(number: u32, until: Instant) -> Self {
        Self { number, until }
    }
}

/// Looks up calls made by requests of the type `R`.
///
/// [`ByKey`] does by the idempotency key of an HTTP request, [`ById`] by anything that the
/// request says of itself.
pub trait Lookup<R> {
    /// What a call is found by. All that is kept of the request.
    type Id;
    /// The answer of a call, as the lookup finds it.
    type Found;
    /// What a lookup finds.
    type Future: Future<Output = Result<Answer<Self::Found>, BoxError>>;

    /// What the call can be found by; none for one that is not looked up.
    fn id(&self, request: &R) -> Option<Self::Id>;

    /// Looks the call up. It is no part of the call: whatever it needs (a deadline, retries, a
    /// credential) it has to bring.
    fn look_up(&self, id: &Self::Id, round: Round) -> Self::Future;
}

/// The header of the idempotency key, as the IETF's draft names it.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Looks calls up by their idempotency key, as it stands in the header. A call without one is
/// not looked up.
pub struct ByKey<F> {
    header: HeaderName,
    look_up: F,
}

impl<F> ByKey<F> {
    /// Looks up by the key in `Idempotency-Key`.
    pub const fn new(look_up: F) -> Self {
        Self { header: KEY, look_up }
    }

    /// By that in another header.
    #[must_use]
    pub fn header(mut self, header: HeaderName) -> Self {
        self.header = header;
        self
    }
}

impl<F> fmt::Debug for ByKey<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByKey").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<R, F, Fut, T> Lookup<R> for ByKey<F>
where
    R: HttpHead,
    F: Fn(HeaderValue, Round) -> Fut,
    Fut: Future<Output = Result<Answer<T>, BoxError>>,
{
    type Id = HeaderValue;
    type Found = T;
    type Future = Fut;

    fn id(&self, request: &R) -> Option<HeaderValue> {
        let mut keys = request.headers().get_all(&self.header).iter();
        let key = keys.next().filter(|key| !key.is_empty())?;
        // Two of them are no key: which one the service took is anybody's guess.
        keys.next().is_none().then(|| key.clone())
    }

    fn look_up(&self, id: &HeaderValue, round: Round) -> Fut {
        (self.look_up)(id.clone(), round)
    }
}

/// Looks calls up by what a closure derives from their requests.
pub struct ById<G, F, I> {
    id: G,
    look_up: F,
    kind: PhantomData<fn() -> I>,
}

impl<G, F, I> ById<G, F, I> {
    /// `id` says what a call can be found by, `look_up` finds it.
    pub const fn new(id: G, look_up: F) -> Self {
        Self { id, look_up, kind: PhantomData }
    }
}

impl<G, F, I> fmt::Debug for ById<G, F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ById").finish_non_exhaustive()
    }
}

impl<R, G, F, I, Fut, T> Lookup<R> for ById<G, F, I>
where
    G: Fn(&R) -> Option<I>,
    I: Clone,
    F: Fn(I, Round) -> Fut,
    Fut: Future<Output = Result<Answer<T>, BoxError>>,
{
    type Id = I;
    type Found = T;
    type Future = Fut;

    fn id(&self, request: &R) -> Option<I> {
        (self.id)(request)
    }

    fn look_up(&self, id: &I, round: Round) -> Fut {
        (self.look_up)(id.clone(), round)
    }
}
