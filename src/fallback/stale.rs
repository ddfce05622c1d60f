//! The last good answer to the same question.

use std::{
    error::Error as StdError,
    fmt,
    hash::Hash,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};

use super::{shelf::Shelf, stand_in::StandIn, told::Answer};
use crate::{
    body::{Body, TakeWhole},
    call::Carrier,
    classify::{Blame, Sent, Verdict},
    sync::{Mutex, lock},
};

/// How old a remembered answer may be, by default: an outage of five minutes is bridged, which
/// is as long as a breaker stays open at the longest.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(300);
/// How many answers are remembered, by default. With [`DEFAULT_LARGEST`] they are 64 MiB at the
/// most.
pub const DEFAULT_ENTRIES: NonZeroUsize = NonZeroUsize::new(1000).expect("it is not zero");
/// The largest body that is remembered, by default, in bytes.
pub const DEFAULT_LARGEST: usize = 64 * 1024;

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct StaleConfig {
    max_age: Duration,
    entries: NonZeroUsize,
    largest: usize,
    key_covers_vary: bool,
}

impl StaleConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_age: DEFAULT_MAX_AGE,
            entries: DEFAULT_ENTRIES,
            largest: DEFAULT_LARGEST,
            key_covers_vary: false,
        }
    }

    /// How old an answer may be (default: five minutes).
    ///
    /// # Errors
    ///
    /// [`InvalidStale`] if it is zero.
    pub const fn max_age(mut self, age: Duration) -> Result<Self, InvalidStale> {
        if age.is_zero() {
            return Err(InvalidStale);
        }
        self.max_age = age;
        Ok(self)
    }

    /// How many answers are remembered (default: 1000). The one that was heard longest ago goes
    /// when another comes.
    ///
    /// # Errors
    ///
    /// [`InvalidStale`] if it is zero.
    pub fn entries(mut self, entries: usize) -> Result<Self, InvalidStale> {
        self.entries = NonZeroUsize::new(entries).ok_or(InvalidStale)?;
        Ok(self)
    }

    /// The largest body that is remembered, in bytes (default: 64 KiB).
    #[must_use]
    pub const fn largest(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// Says that the key tells apart all that a `Vary` of the service may name. Without it, an
    /// answer with that header is not remembered, since it may be another's.
    #[must_use]
    pub const fn key_covers_vary(mut self) -> Self {
        self.key_covers_vary = true;
        self
    }
}

impl Default for StaleConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A memory that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidStale;

impl fmt::Display for InvalidStale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an age or a number of zero remembers nothing: set both above zero, or leave the \
             layer out",
        )
    }
}

impl StdError for InvalidStale {}

/// What a request has to do with what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Key<K> {
    /// Its answer is remembered under this key, and is the fallback's later.
    Remember(K),
    /// When it succeeds, what is known under this key is out of date: it has changed something.
    Forget(K),
    /// Nothing.
    Pass,
}

/// The key of an HTTP request: its URI, if it is a `GET` that everybody may make. (RFC 9111,
/// sections 3 and 4.4.)
///
/// | request | |
/// |---|---|
/// | GET | remembered, unless it says `Authorization`, `Cookie`, `Range` or `Cache-Control: no-store` |
/// | another safe method | nothing |
/// | any other | what is known of its URI is forgotten |
#[must_use]
pub fn by_uri<B>(request: &Request<B>) -> Key<Uri> {
    const PERSONAL: [header::HeaderName; 3] =
        [header::AUTHORIZATION, header::COOKIE, header::RANGE];
    let uri = || request.uri().clone();
    match *request.method() {
        Method::GET => {
            let headers = request.headers();
            let personal = !headers.is_empty()
                && (PERSONAL.iter().any(|name| headers.contains_key(name))
                    || says(headers, &["no-store"]));
            if personal { Key::Pass } else { Key::Remember(uri()) }
        }
        Method::HEAD | Method::OPTIONS | Method::TRACE => Key::Pass,
        _ => Key::Forget(uri()),
    }
}

/// Whether `Cache-Control` has one of these words.
fn says(headers: &HeaderMap, words: &[&str]) -> bool {
    let mut lines = headers.get_all(header::CACHE_CONTROL).iter();
    lines.any(|line| {
        // What can't be read may say it.
        let Ok(line) = line.to_str() else { return true };
        line.split(',').any(|directive| {
            let word = directive.split('=').next().unwrap_or_default().trim();
            words.iter().any(|known| word.eq_ignore_ascii_case(known))
        })
    })
}

/// A response that can be remembered.
pub trait Remember: Sized {
    /// What is kept of it.
    type Kept;

    /// Keeps what is needed to answer the same again; none if that can't or may not be.
    fn keep(&mut self, config: &StaleConfig) -> Option<Self::Kept>;

    /// The answer again, at this age.
    fn recall(kept: &Self::Kept, age: Duration) -> Self;
}

impl<T: Clone> Remember for Answer<T> {
    type Kept = T;

    fn keep(&mut self, _: &StaleConfig) -> Option<T> {
        Some(self.response.clone())
    }

    fn recall(kept: &T, _: Duration) -> Self {
        Self::new(kept.clone())
    }
}

/// What is kept of an HTTP response.
#[derive(Clone, Debug)]
pub struct KeptResponse {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
}

/// A response with status 200, 203 or 204 whose body lies whole in memory (see
/// [`collect`](crate::collect)), if its `Cache-Control` allows to answer with it when it is stale
/// (RFC 9111, section 4.2.4) and its `Vary` does not say that it is for this request alone.
impl Remember for Response<Body> {
    type Kept = KeptResponse;

    fn keep(&mut self, config: &StaleConfig) -> Option<KeptResponse> {
        let headers = self.headers();
        let may = matches!(self.status().as_u16(), 200 | 203 | 204)
            && !says(headers, &FORBIDS)
            && (config.key_covers_vary || !headers.contains_key(header::VARY))
            && !headers.contains_key(header::SET_COOKIE);
        let fits = self.body().as_bytes().is_some_and(|body| body.len() <= config.largest);
        if !may || !fits {
            return None;
        }
        let body = self.body_mut().take_whole()?;
        *self.body_mut() = Body::full(body.clone());
        let (status, version, headers) = (self.status(), self.version(), self.headers().clone());
        Some(KeptResponse { status, version, headers, body })
    }

    /// With an `Age` that counts on (RFC 9111, section 5.1).
    fn recall(kept: &KeptResponse, age: Duration) -> Self {
        let mut response = Self::new(Body::full(kept.body.clone()));
        *response.status_mut() = kept.status;
        *response.version_mut() = kept.version;
        response.headers_mut().clone_from(&kept.headers);
        let before = kept.headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse().ok());
        let age = before.unwrap_or(0_u64).saturating_add(age.as_secs());
        response.headers_mut().insert(header::AGE, HeaderValue::from(age));
        response
    }
}

/// What forbids to answer with a stale response. (`private` allows it to a cache of one user,
/// and a program that calls others seldom is one.)
const FORBIDS: [&str; 5] =
    ["no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate"];

/// Answers a call that has failed as the last one with the same key was answered, for a while.
///
/// It is a handle; its clones are the same memory.
///
/// What is remembered goes when the service says otherwise: a failure that blames the client (a
/// 404, a 403) after it was processed, or a success of a request with [`Key::Forget`].
#[derive(Debug)]
pub struct Stale<K, V, N> {
    shelf: Arc<Mutex<Shelf<K, V>>>,
    config: StaleConfig,
    key: N,
}

impl<K, V, N> Stale<K, V, N>
where
    K: Clone + Eq + Hash,
{
    /// Nothing is remembered yet. `key` says what of a request makes the question: all that the
    /// answer depends on, who asks included. For HTTP there is [`by_uri`].
    pub fn new(config: StaleConfig, key: N) -> Self {
        let shelf = Shelf::new(config.entries.get(), config.max_age);
        Self { shelf: Arc::new(Mutex::new(shelf)), config, key }
    }

    /// How many answers are remembered, those included that are too old and not yet gone.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shelf).len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V, N: Clone> Clone for Stale<K, V, N> {
    fn clone(&self) -> Self {
        Self { shelf: Arc::clone(&self.shelf), config: self.config, key: self.key.clone() }
    }
}

impl<C, Res, K, V, N> StandIn<C, Res> for Stale<K, V, N>
where
    C: Carrier,
    Res: Remember<Kept = V>,
    K: Clone + Eq + Hash,
    V: Clone,
    N: Fn(&C::Request) -> Key<K>,
{
    type Memo = Key<K>;

    fn note(&self, call: &C) -> Key<K> {
        (self.key)(call.request())
    }

    fn learn(&self, memo: Key<K>, verdict: Verdict, response: &mut Res, now: Instant) {
        match memo {
            Key::Remember(key) if verdict.is_success() => {
                if let Some(kept) = response.keep(&self.config) {
                    lock(&self.shelf).put(key, kept, now);
                }
            }
            Key::Remember(key)
                if (verdict.blame, verdict.sent) == (Blame::Client, Sent::Processed) =>
            {
                lock(&self.shelf).forget(&key);
            }
            Key::Forget(key) if verdict.is_success() => lock(&self.shelf).forget(&key),
            Key::Remember(_) | Key::Forget(_) | Key::Pass => {}
        }
    }

    fn answer(&self, memo: Key<K>, now: Instant) -> Option<(Res, Option<Duration>)> {
        let Key::Remember(key) = memo else { return None };
        // Copied under the lock, made whole outside of it.
        let (kept, age) = {
            let shelf = lock(&self.shelf);
            let (kept, age) = shelf.get(&key, now)?;
            (kept.clone(), age)
        };
        Some((Res::recall(&kept, age), Some(age)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&'static str, &'static str)]) -> Response<Body> {
        let mut response = Response::new(Body::from("rates"));
        for &(name, value) in headers {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    }

    fn keeps(mut response: Response<Body>, config: StaleConfig) -> bool {
        let kept = response.keep(&config).is_some();
        assert_eq!(response.body().as_bytes(), Some(&b"rates"[..]), "it is whole again");
        kept
    }

    #[test]
    fn keeps_what_may_be_kept() {
        let config = StaleConfig::new();
        for headers in [&[][..], &[("cache-control", "max-age=60, stale-if-error=600")]] {
            assert!(keeps(response(headers), config));
        }
        for (name, value) in [
            ("cache-control", "no-store"),
            ("cache-control", "max-age=60, Private=\"x\""),
            ("cache-control", "max-age=60,must-revalidate"),
            ("vary", "accept"),
            ("set-cookie", "id=1"),
        ] {
            assert!(!keeps(response(&[(name, value)]), config), "{name}: {value}");
        }
        let twice = response(&[("cache-control", "max-age=1"), ("cache-control", "no-cache")]);
        assert!(!keeps(twice, config));
        assert!(keeps(response(&[("vary", "accept")]), config.key_covers_vary()));
        assert!(keeps(response(&[]), config.largest(5)));
        assert!(!keeps(response(&[]), config.largest(4)));
        for status in [201, 206, 302, 304, 404] {
            let mut other = response(&[]);
            *other.status_mut() = StatusCode::from_u16(status).expect("a status");
            assert!(!keeps(other, config), "{status}");
        }
    }

    #[test]
    fn an_answer_comes_back_whole_and_says_its_age() {
        let mut first = response(&[("age", "10"), ("etag", "\"7\"")]);
        let kept = first.keep(&StaleConfig::new()).expect("it may be");
        let again = Response::recall(&kept, Duration::from_millis(3900));
        assert_eq!(again.headers()["age"], "13");
        assert_eq!(again.headers()["etag"], "\"7\"");
        assert_eq!(again.body().as_bytes(), Some(&b"rates"[..]));
    }

    #[test]
    fn the_uri_is_the_key_of_what_everybody_may_get() {
        let key = |method: &str, header: Option<(&str, &str)>| {
            let mut request = Request::builder().method(method).uri("/rates?of=eur");
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            by_uri(&request.body(()).expect("it is whole"))
        };
        let uri = Uri::from_static("/rates?of=eur");
        assert_eq!(key("GET", None), Key::Remember(uri.clone()));
        assert_eq!(key("GET", Some(("accept", "*/*"))), Key::Remember(uri.clone()));
        for header in [
            ("authorization", "Bearer x"),
            ("cookie", "id=1"),
            ("range", "bytes=0-1"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(key("GET", Some(header)), Key::Pass, "{header:?}");
        }
        for method in ["HEAD", "OPTIONS", "TRACE"] {
            assert_eq!(key(method, None), Key::Pass);
        }
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(key(method, None), Key::Forget(uri.clone()), "{method}");
        }
    }

    #[test]
    fn a_memory_of_nothing_is_refused() {
        for wrong in [StaleConfig::new().max_age(Duration::ZERO), StaleConfig::new().entries(0)] {
            assert!(wrong.expect_err("nothing").to_string().contains("above zero"));
        }
    }
}
