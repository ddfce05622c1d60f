//! What is fetched, and how a request shows it.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, header::AUTHORIZATION};
use pin_project_lite::pin_project;

use crate::{call::HttpHead, error::BoxError};

/// Fetches credentials.
///
/// [`Bearer`] does for tokens in HTTP, [`RefreshFn`] for anything that two closures can say.
pub trait Refresh {
    /// What is fetched. Cloned for each call, so a clone should be cheap.
    type Credential: Clone;
    /// The credential to come.
    type Future: Future<Output = Result<Self::Credential, BoxError>>;

    /// The credential that is there before any was fetched (default: none; the first call goes
    /// out without, and its refusal fetches one).
    fn first(&self) -> Option<Self::Credential> {
        None
    }

    /// Fetches a credential in the place of the `old` one, which was refused.
    ///
    /// Not through the layer that asks for it: that would wait for itself.
    fn refresh(&self, old: Option<Self::Credential>) -> Self::Future;
}

/// Shows a credential with requests of the type `R`.
pub trait Apply<R>: Refresh {
    /// Puts the credential into a request, in the place of any that is there.
    fn apply(&self, request: &mut R, credential: &Self::Credential);
}

/// Says which answers mean that the credential is stale. Closures of the response do, too.
pub trait Stale<Res> {
    /// Whether a newer credential may be answered otherwise. Such an answer has to mean that
    /// the request was refused and not carried out: it is made again, whatever its method.
    fn is_stale(&self, response: &Res) -> bool;
}

impl<F, Res> Stale<Res> for F
where
    F: Fn(&Res) -> bool,
{
    fn is_stale(&self, response: &Res) -> bool {
        self(response)
    }
}

/// A 401, and `UNAUTHENTICATED` in the head of a gRPC answer (trailers only). Of a 401, RFC 9110
/// (section 15.5.2) says that the request has not been applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unauthorized;

/// <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
const UNAUTHENTICATED: &str = "16";

impl<B> Stale<Response<B>> for Unauthorized {
    fn is_stale(&self, response: &Response<B>) -> bool {
        response.status() == http::StatusCode::UNAUTHORIZED
            || response.headers().get("grpc-status").is_some_and(|status| status == UNAUTHENTICATED)
    }
}

/// Bearer tokens (RFC 6750) in the `Authorization` header, which is marked as sensitive.
///
/// ```
/// use buttress::{BoxError, refresh::Bearer};
///
/// let bearer = Bearer::new(async || {
///     // Here the program asks its token service.
///     Ok::<_, BoxError>(String::from("mF_9.B5f-4.1JqM"))
/// });
/// let known = bearer.token("the-one-from-the-last-run")?;
/// # drop(known);
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bearer<F> {
    fetch: F,
    first: Option<HeaderValue>,
}

impl<F> Bearer<F> {
    /// Tokens that `fetch` fetches.
    pub const fn new(fetch: F) -> Self {
        Self { fetch, first: None }
    }

    /// A token that is there already.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] if it can't stand in a header.
    pub fn token(mut self, token: impl AsRef<str>) -> Result<Self, InvalidToken> {
        self.first = Some(bearer(token.as_ref())?);
        Ok(self)
    }
}

impl<F, Fut, T> Refresh for Bearer<F>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, BoxError>>,
    T: AsRef<str>,
{
    type Credential = HeaderValue;
    type Future = BearerFuture<Fut>;

    fn first(&self) -> Option<HeaderValue> {
        self.first.clone()
    }

    fn refresh(&self, _: Option<HeaderValue>) -> BearerFuture<Fut> {
        BearerFuture { token: (self.fetch)() }
    }
}

impl<F, R> Apply<R> for Bearer<F>
where
    Self: Refresh<Credential = HeaderValue>,
    R: HttpHead,
{
    fn apply(&self, request: &mut R, credential: &HeaderValue) {
        request.headers_mut().insert(AUTHORIZATION, credential.clone());
    }
}

pin_project! {
    /// The future of [`Bearer`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct BearerFuture<F> {
        #[pin]
        token: F,
    }
}

impl<F, T> Future for BearerFuture<F>
where
    F: Future<Output = Result<T, BoxError>>,
    T: AsRef<str>,
{
    type Output = Result<HeaderValue, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let token = ready!(self.project().token.poll(cx))?;
        Poll::Ready(bearer(token.as_ref()).map_err(Into::into))
    }
}

/// In one allocation that all requests share.
fn bearer(token: &str) -> Result<HeaderValue, InvalidToken> {
    let value = Bytes::from_owner(format!("Bearer {token}"));
    let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| InvalidToken)?;
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(InvalidToken);
    }
    value.set_sensitive(true);
    Ok(value)
}

/// A token that can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidToken;

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token itself: errors are logged.
        f.write_str(
            "this token can't stand in a header: use one of visible ASCII characters, without \
             \"Bearer\" and without the newline of the file that it was read from",
        )
    }
}

impl StdError for InvalidToken {}

/// Credentials of any kind, by two closures: one that shows them, one that fetches them.
///
/// ```
/// use buttress::{BoxError, refresh::RefreshFn};
///
/// struct Request { session: u64 }
///
/// let sessions = RefreshFn::new(
///     |request: &mut Request, session: &u64| request.session = *session,
///     async |old: Option<u64>| Ok::<_, BoxError>(old.unwrap_or(0) + 1),
/// );
/// # drop(sessions.starting_with(7));
/// ```
pub struct RefreshFn<A, F, C> {
    apply: A,
    fetch: F,
    first: Option<C>,
    credential: PhantomData<fn() -> C>,
}

impl<A, F, C> RefreshFn<A, F, C> {
    /// `apply` puts a credential into a request; `fetch` fetches one in the place of the old.
    pub const fn new(apply: A, fetch: F) -> Self {
        Self { apply, fetch, first: None, credential: PhantomData }
    }

    /// A credential that is there already.
    #[must_use]
    pub fn starting_with(mut self, credential: C) -> Self {
        self.first = Some(credential);
        self
    }
}

impl<A, F, C> fmt::Debug for RefreshFn<A, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials are not for logs.
        f.debug_struct("RefreshFn").finish_non_exhaustive()
    }
}

impl<A, F, Fut, C> Refresh for RefreshFn<A, F, C>
where
    F: Fn(Option<C>) -> Fut,
    Fut: Future<Output = Result<C, BoxError>>,
    C: Clone,
{
    type Credential = C;
    type Future = Fut;

    fn first(&self) -> Option<C> {
        self.first.clone()
    }

    fn refresh(&self, old: Option<C>) -> Fut {
        (self.fetch)(old)
    }
}

impl<A, F, C, R> Apply<R> for RefreshFn<A, F, C>
where
    Self: Refresh<Credential = C>,
    A: Fn(&mut R, &C),
{
    fn apply(&self, request: &mut R, credential: &C) {
        (self.apply)(request, credential);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_written_after_bearer_and_hidden_from_logs() {
        let value = bearer("mF_9.B5f-4.1JqM").expect("it is sound");
        assert_eq!(value, "Bearer mF_9.B5f-4.1JqM");
        assert!(value.is_sensitive());
        for wrong in ["", "a b", "a\n", "a\r\nx-evil: 1", " a", "a\0"] {
            assert_eq!(bearer(wrong), Err(InvalidToken), "{wrong:?}");
        }
    }

    #[test]
    fn knows_a_refusal_of_http_and_of_grpc() {
        let answer = |status: u16, grpc: Option<&'static str>| {
            let mut response = Response::new(());
            *response.status_mut() = status.try_into().expect("a status");
            if let Some(grpc) = grpc {
                response.headers_mut().insert("grpc-status", HeaderValue::from_static(grpc));
            }
            Unauthorized.is_stale(&response)
        };
        assert!(answer(401, None));
        assert!(answer(200, Some("16")));
        for (status, grpc) in [(200, None), (403, None), (200, Some("7")), (407, None)] {
            assert!(!answer(status, grpc), "{status} {grpc:?}");
        }
    }
}
