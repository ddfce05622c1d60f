//! Which requests are honoured, and how.

use std::{fmt, time::Duration};

use http::{HeaderName, Method, StatusCode, header, request::Parts};

use super::{Fingerprint, InvalidHonour, docs::Docs};
use crate::{
    call::OF_HTTP,
    entropy::Entropy,
    event::Observer,
    idempotency::{DEFAULT_HEADER, DEFAULT_METHODS},
};

/// How long work may take: 60 s, twice what a call of [`Client`](crate::client) may take by
/// default. Whoever asked has gone by then.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// How long a key is remembered: 24 h, as Stripe does ("at least").
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of a request's body is read for its fingerprint: 1 MiB, half of what axum takes by
/// default. What is paid for has a few hundred bytes.
pub const DEFAULT_BODY_CAP: usize = 1 << 20;

/// How long an answer may be to be kept: 1 MiB, as for [`collect`](crate::collect::DEFAULT_CAP).
pub const DEFAULT_ANSWER_CAP: usize = 1 << 20;

/// When a caller may ask again for what is at work, or for a store that does not answer: after 1 s,
/// the least that `Retry-After` can say but "at once".
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which requests are honoured, and how.
pub struct HonourConfig {
    pub(super) header: HeaderName,
    pub(super) bare: bool,
    pub(super) methods: Box<[Method]>,
    pub(super) required: bool,
    pub(super) docs: Docs,
    pub(super) scope: Box<Scope>,
    pub(super) payload: Payload,
    pub(super) fingerprint: Box<FingerprintOf>,
    pub(super) concurrent: Concurrent,
    /// In seconds.
    pub(super) retry_after: u64,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) lapse: Lapse,
    pub(super) is_final: Box<IsFinal>,
    pub(super) keeps: Box<Keeps>,
    pub(super) answer_cap: usize,
    pub(super) entropy: Entropy,
    pub(super) observer: Observer,
}

type Scope = dyn Fn(&Parts) -> String + Send + Sync;
type FingerprintOf = dyn Fn(&Parts, &[u8]) -> Fingerprint + Send + Sync;
type IsFinal = dyn Fn(StatusCode) -> bool + Send + Sync;
type Keeps = dyn Fn(&HeaderName) -> bool + Send + Sync;

/// How a request's body takes part in its fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Payload {
    /// It is read into memory first. One that is longer is answered with 413.
    Read {
        /// How many bytes it may have.
        cap: usize,
    },
    /// It is not touched, and streams into the service: two requests of one key are taken for the
    /// same if their method and path are. For uploads.
    Ignored,
}

/// What is said to a request whose key is at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Concurrent {
    /// 409 at once, with `Retry-After`: what the draft asks for.
    #[default]
    Refuse,
    /// It waits for the first one's answer for up to this long; then 409.
    Wait(Duration),
}

/// What is said to a request whose key was begun, with nobody left who knows how that ended: the
/// process died, the handler panicked or took longer than its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lapse {
    /// 500 with a problem that says that the outcome is unknown, until the key is forgotten.
    /// The default, as no other is safe for every service.
    #[default]
    Fail,
    /// The same with 409.
    Conflict,
    /// It is executed again. Right for a service that commits its work and the key's answer in
    /// one transaction, and fences it with its [`Token`](super::Token): what has no answer then
    /// was not done. For any other, work is done twice.
    Execute,
}

impl HonourConfig {
    /// The defaults, see [there](super#defaults).
    #[must_use]
    pub fn new() -> Self {
        Self {
            header: DEFAULT_HEADER,
            bare: false,
            methods: DEFAULT_METHODS.into(),
            required: false,
            docs: Docs::default(),
            scope: Box::new(|head| format!("{} {}", head.method, head.uri.path())),
            payload: Payload::Read { cap: DEFAULT_BODY_CAP },
            fingerprint: Box::new(Fingerprint::of_request),
            concurrent: Concurrent::default(),
            retry_after: DEFAULT_RETRY_AFTER.as_secs(),
            lease: DEFAULT_LEASE,
            retention: DEFAULT_RETENTION,
            lapse: Lapse::default(),
            is_final: Box::new(is_final),
            keeps: Box::new(is_kept),
            answer_cap: DEFAULT_ANSWER_CAP,
            entropy: Entropy::system(),
            observer: Observer::none(),
        }
    }

    /// The header that keys stand in.
    ///
    /// # Errors
    ///
    /// [`InvalidHonour`] if it is no header's name, or one that HTTP itself needs.
    pub fn header(mut self, name: impl TryInto<HeaderName>) -> Result<Self, InvalidHonour> {
        let name = name.try_into().map_err(|_| InvalidHonour::NAME)?;
        if OF_HTTP.contains(&name) {
            return Err(InvalidHonour::OF_HTTP);
        }
        self.header = name;
        Ok(self)
    }

    /// Whether keys without quotation marks are taken too, as Stripe's clients and those of most
    /// services send them (default: no). Both forms of one text are one key.
    #[must_use]
    pub const fn accept_bare(mut self, accept: bool) -> Self {
        self.bare = accept;
        self
    }

    /// The methods whose keys are honoured. In requests of others the header means nothing.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Whether requests of these methods have to carry a key (default: no); without one they are
    /// answered with 400.
    #[must_use]
    pub const fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// Where it is written what this service does with keys: how long they are remembered, what
    /// they belong to. The draft has every problem point there (default: to the draft itself).
    ///
    /// # Errors
    ///
    /// [`InvalidHonour`] if it is no absolute `http` or `https` URI.
    pub fn docs(mut self, uri: &str) -> Result<Self, InvalidHonour> {
        self.docs = Docs::new(uri)?;
        Ok(self)
    }

    /// What a key belongs to: keys of different scopes have nothing to do with each other.
    ///
    /// The default is method and path. **A service with several customers has to name the
    /// customer**, as two who choose the same key would meet, and one who guesses another's key
    /// and payload would be handed its answer:
    ///
    /// ```
    /// # use buttress::idempotency::server::HonourConfig;
    /// # #[derive(Clone)] struct Account(String);
    /// let config = HonourConfig::new().scope(|head| {
    ///     let account = head.extensions.get::<Account>().map_or("", |account| &account.0);
    ///     format!("{account} {} {}", head.method, head.uri.path())
    /// });
    /// ```
    ///
    /// It has to be the same for a repetition: a customer's number is, a renewed token is not.
    #[must_use]
    pub fn scope(mut self, scope: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.scope = Box::new(scope);
        self
    }

    /// How the body takes part in the fingerprint (default: read, up to [`DEFAULT_BODY_CAP`]).
    #[must_use]
    pub const fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// What tells two payloads of one key apart, if not their bytes: some of their fields, say.
    /// With [`Payload::Ignored`] the body is empty.
    #[must_use]
    pub fn fingerprint(
        mut self,
        fingerprint: impl Fn(&Parts, &[u8]) -> Fingerprint + Send + Sync + 'static,
    ) -> Self {
        self.fingerprint = Box::new(fingerprint);
        self
    }

    /// What is said to a request whose key is at work (default: 409).
    #[must_use]
    pub const fn concurrent(mut self, concurrent: Concurrent) -> Self {
        self.concurrent = concurrent;
        self
    }

    /// When a caller may ask again for what is at work, or for a store that does not answer.
    ///
    /// # Errors
    ///
    /// [`InvalidHonour`] if it is less than a second, or no whole number of them.
    pub fn retry_after(mut self, after: Duration) -> Result<Self, InvalidHonour> {
        if after.as_secs() == 0 || after.subsec_nanos() != 0 {
            return Err(InvalidHonour::RETRY_AFTER);
        }
        self.retry_after = after.as_secs();
        Ok(self)
    }

    /// How long the work of one request may take. Past it the handler is dropped, if its process
    /// still lives, and its outcome counts as unknown (see [`HonourConfig::lapse`]).
    ///
    /// # Errors
    ///
    /// [`InvalidHonour`] if it is zero, or not shorter than the retention.
    pub fn lease(mut self, lease: Duration) -> Result<Self, InvalidHonour> {
        if lease.is_zero() || lease >= self.retention {
            return Err(InvalidHonour::LEASE);
        }
        self.lease = lease;
        Ok(self)
    }

    /// How long a key is remembered, from its first request on. A repetition after that is a new
    /// request.
    ///
    /// # Errors
    ///
    /// [`InvalidHonour`] if it is not longer than the lease.
    pub fn retention(mut self, retention: Duration) -> Result<Self, InvalidHonour> {
        if retention <= self.lease {
            return Err(InvalidHonour::LEASE);
        }
        self.retention = retention;
        Ok(self)
    }

    /// What is said to a request whose key was begun and never settled (default:
    /// [`Lapse::Fail`]).
    #[must_use]
    pub const fn lapse(mut self, lapse: Lapse) -> Self {
        self.lapse = lapse;
        self
    }

    /// Which answers are final: kept, and told again for the same key. After any other the key is
    /// free, and its next request is executed.
    ///
    /// The default is [`is_final`]. Stripe's first API keeps every answer once execution began,
    /// errors of the server included: `|_| true`. That never does work twice that failed half
    /// way, and makes a failure that would have passed last for a day.
    #[must_use]
    pub fn finals(mut self, is_final: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        self.is_final = Box::new(is_final);
        self
    }

    /// Which headers of an answer are kept with it (default: [`is_kept`]).
    #[must_use]
    pub fn kept_headers(
        mut self,
        keeps: impl Fn(&HeaderName) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.keeps = Box::new(keeps);
        self
    }

    /// How long an answer's body may be to be kept (default: [`DEFAULT_ANSWER_CAP`]). A longer
    /// one reaches its caller as it comes; whoever comes with the same key again is told that it
    /// was carried out and not kept, with 410.
    #[must_use]
    pub const fn answer_cap(mut self, bytes: usize) -> Self {
        self.answer_cap = bytes;
        self
    }

    /// Where the numbers of executions come from, by which they are told apart (default: the
    /// operating system). With a seed they repeat: for tests alone.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Who hears of keys that came again, and of a store that fails.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }
}

impl Default for HonourConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The answers that are final by default: those of which the same request would get the same
/// again.
///
/// Not those that are about something else than the request: who asked for it (401, 403, 407),
/// the moment (408, 409, 423, 425, 429), the connection (421), and a failure of the service (5xx).
/// They say that it was not carried out, so the next request of the key is.
#[must_use]
pub fn is_final(status: StatusCode) -> bool {
    match status.as_u16() {
        401 | 403 | 407 | 408 | 409 | 421 | 423 | 425 | 429 => false,
        other => other < 500,
    }
}

/// The headers that are kept by default: all but those of one message or connection (RFC 9110,
/// sections 6.6.1 and 7.6.1), of its framing, and `Set-Cookie`, which is one caller's session.
#[must_use]
pub fn is_kept(name: &HeaderName) -> bool {
    const NOT: [HeaderName; 10] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::DATE,
        header::PROXY_AUTHENTICATE,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    !NOT.contains(name)
}

impl fmt::Debug for HonourConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HonourConfig")
            .field("header", &self.header)
            .field("bare", &self.bare)
            .field("methods", &self.methods)
            .field("required", &self.required)
            .field("docs", &self.docs.as_str())
            .field("payload", &self.payload)
            .field("concurrent", &self.concurrent)
            .field("retry_after", &self.retry_after)
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("lapse", &self.lapse)
            .field("answer_cap", &self.answer_cap)
            .finish_non_exhaustive()
    }
}
