//! What can go wrong, for whom, and when.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header::RETRY_AFTER};

use super::error::{Failure, InvalidFault};
use crate::endpoint::Endpoint;

/// One thing that goes wrong: what, for which share of which requests, and from when until when.
///
/// Unless it is told otherwise, it strikes every request, at once and until the chaos is changed.
///
/// ```
/// use std::time::Duration;
/// use buttress::chaos::{Delay, Failure, Fault};
/// use http::{Method, StatusCode};
///
/// let slow = Fault::delay(Delay::between(Duration::from_millis(50), Duration::from_millis(80))?)
///     .share(0.1)?
///     .path("/charges");
/// let refused = Fault::failure(Failure::Refused)
///     .at(([10, 0, 0, 7], 8080).into())
///     .from(Duration::from_secs(3))
///     .lasting(Duration::from_secs(6));
/// let overloaded = Fault::answer(StatusCode::SERVICE_UNAVAILABLE)
///     .retry_after(2)
///     .method(Method::POST)
///     .times(5);
/// # drop((slow, refused, overloaded));
/// # Ok::<(), buttress::chaos::InvalidFault>(())
/// ```
#[derive(Clone)]
pub struct Fault {
    pub(super) kind: Kind,
    pub(super) share: f64,
    pub(super) method: Option<Method>,
    pub(super) path: Option<Arc<str>>,
    pub(super) endpoints: Vec<SocketAddr>,
    pub(super) matching: Option<Arc<Matching>>,
    pub(super) from: Duration,
    pub(super) lasting: Option<Duration>,
    pub(super) times: Option<u32>,
}

type Matching = dyn Fn(&Head<'_>) -> bool + Send + Sync;

/// What a fault may be chosen by.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The endpoint, where the chaos [stands before known ones](super::Chaos::around).
    pub endpoint: Option<&'a Endpoint>,
}

impl<'a> Head<'a> {
    pub(super) fn of<B>(request: &'a http::Request<B>, endpoint: Option<&'a Endpoint>) -> Self {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        Self { method, uri, headers, endpoint }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Delay(Delay),
    Failure(Failure),
    Answer(Box<Made>),
    Hang,
    HangConnecting,
    Cut(u64),
    Stall(u64),
}

impl Kind {
    /// A stable code, as in [`Event::FaultInjected`](crate::Event::FaultInjected).
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Failure(failure) => failure.code(),
            Self::Answer(_) => "answer",
            Self::Hang => "hang",
            Self::HangConnecting => "hang_connecting",
            Self::Cut(_) => "cut_body",
            Self::Stall(_) => "stalled_body",
        }
    }
}

/// A made-up response: its head. Its body is empty.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

impl Fault {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            share: 1.0,
            method: None,
            path: None,
            endpoints: Vec::new(),
            matching: None,
            from: Duration::ZERO,
            lasting: None,
            times: None,
        }
    }

    /// The answer comes later: the request is sent as ever, and its answer held back, as from a
    /// service that is slow. Before a failure or a made-up answer, that comes later. Of several
    /// delays that strike one request, it takes the sum.
    #[must_use]
    pub const fn delay(delay: Delay) -> Self {
        Self::new(Kind::Delay(delay))
    }

    /// The request fails, with the error that the transport would give.
    #[must_use]
    pub const fn failure(failure: Failure) -> Self {
        Self::new(Kind::Failure(failure))
    }

    /// An answer is made up, with this status and an empty body. The request is not sent.
    #[must_use]
    pub fn answer(status: StatusCode) -> Self {
        Self::new(Kind::Answer(Box::new(Made { status, headers: HeaderMap::new() })))
    }

    /// Adds a header to a made-up answer. To any other fault it adds nothing.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Kind::Answer(made) = &mut self.kind {
            made.headers.append(name, value);
        }
        self
    }

    /// The made-up answer asks to be left alone for so many seconds (`Retry-After`).
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// No answer comes. The request is taken for sent, and nothing ends it but a timeout.
    #[must_use]
    pub const fn hang() -> Self {
        Self::new(Kind::Hang)
    }

    /// No connection comes, as if packets were dropped. Nothing was sent, and nothing ends it
    /// but a timeout.
    #[must_use]
    pub const fn hang_connecting() -> Self {
        Self::new(Kind::HangConnecting)
    }

    /// The answer's body breaks off after so many bytes, also where it is no longer than that.
    #[must_use]
    pub const fn cut_body(after: u64) -> Self {
        Self::new(Kind::Cut(after))
    }

    /// The answer's body stalls after so many bytes, also where it is no longer than that.
    #[must_use]
    pub const fn stall_body(after: u64) -> Self {
        Self::new(Kind::Stall(after))
    }

    /// Strikes this share of the requests (default: 1, every one).
    ///
    /// # Errors
    ///
    /// If it is not between 0 and 1.
    pub fn share(mut self, share: f64) -> Result<Self, InvalidFault> {
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidFault::new("the share must be between 0 and 1"));
        }
        self.share = share;
        Ok(self)
    }

    /// Strikes requests with this method alone.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Strikes requests alone whose path is this, or goes on below it: `/charges` is also
    /// `/charges/17`, and not `/chargesheet`.
    #[must_use]
    pub fn path(mut self, path: impl Into<Arc<str>>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Strikes requests to this endpoint alone, or to one more. It takes a chaos that stands
    /// [before known endpoints](super::Chaos::around); any other strikes none then.
    #[must_use]
    pub fn at(mut self, endpoint: SocketAddr) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Strikes requests alone of which this is true.
    #[must_use]
    pub fn matching(mut self, is: impl Fn(&Head<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.matching = Some(Arc::new(is));
        self
    }

    /// Begins so long after the chaos was set (default: at once).
    #[must_use]
    pub const fn from(mut self, from: Duration) -> Self {
        self.from = from;
        self
    }

    /// Ends so long after it began (default: when the chaos is changed).
    #[must_use]
    pub const fn lasting(mut self, lasting: Duration) -> Self {
        self.lasting = Some(lasting);
        self
    }

    /// Strikes so many times at most (default: without end).
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Whether it is on, so long after the chaos was set.
    pub(super) fn is_on(&self, since: Duration) -> bool {
        let ends = self.lasting.map(|lasting| self.from.saturating_add(lasting));
        since >= self.from && ends.is_none_or(|ends| since < ends)
    }

    pub(super) fn is_for(&self, head: &Head<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.path.as_ref().is_none_or(|path| is_below(head.uri.path(), path))
            && (self.endpoints.is_empty()
                || head
                    .endpoint
                    .is_some_and(|endpoint| self.endpoints.contains(&endpoint.address())))
            && self.matching.as_ref().is_none_or(|matching| matching(head))
    }
}

fn is_below(path: &str, base: &str) -> bool {
    let base = base.strip_suffix('/').unwrap_or(base);
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("kind", &self.kind)
            .field("share", &self.share)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("endpoints", &self.endpoints)
            .field("from", &self.from)
            .field("lasting", &self.lasting)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// How much later something comes.
#[derive(Clone)]
pub struct Delay(Spread);

#[derive(Clone)]
enum Spread {
    Fixed(Duration),
    Between(Duration, Duration),
    Exponential(Duration),
    By(Arc<dyn Fn(f64) -> Duration + Send + Sync>),
}

impl Delay {
    /// Always so much.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self(Spread::Fixed(delay))
    }

    /// Something between the two, each as likely as another.
    ///
    /// # Errors
    ///
    /// If the least is above the greatest.
    pub fn between(least: Duration, greatest: Duration) -> Result<Self, InvalidFault> {
        if least > greatest {
            return Err(InvalidFault::new("the least delay must not be above the greatest one"));
        }
        Ok(Self(Spread::Between(least, greatest)))
    }

    /// Mostly less than this mean, now and then a multiple of it, as the waits in a queue are
    /// (the exponential distribution: one in a hundred is above 4.6 means).
    #[must_use]
    pub const fn exponential(mean: Duration) -> Self {
        Self(Spread::Exponential(mean))
    }

    /// Any distribution, by its quantiles: told 0.99, the function says what 99 % are below. It
    /// is called with numbers from `[0, 1)`.
    pub fn by(quantile: impl Fn(f64) -> Duration + Send + Sync + 'static) -> Self {
        Self(Spread::By(Arc::new(quantile)))
    }

    pub(super) fn draw(&self, draw: impl FnOnce() -> f64) -> Duration {
        match &self.0 {
            Spread::Fixed(delay) => *delay,
            Spread::Between(least, greatest) => *least + (*greatest - *least).mul_f64(draw()),
            // The quantile function; 1 - u is above zero.
            Spread::Exponential(mean) => scaled(*mean, -(1.0 - draw()).ln()),
            Spread::By(quantile) => quantile(draw()),
        }
    }
}

fn scaled(span: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(span.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Spread::Fixed(delay) => write!(f, "Delay({delay:?})"),
            Spread::Between(least, greatest) => write!(f, "Delay({least:?} to {greatest:?})"),
            Spread::Exponential(mean) => write!(f, "Delay(exponential, mean {mean:?})"),
            Spread::By(_) => f.write_str("Delay(by a function)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_script_says_from_when_until_when() {
        let fault = Fault::hang().from(s(3)).lasting(s(6));
        let on: Vec<u64> = (0..12).filter(|&second| fault.is_on(s(second))).collect();
        assert_eq!(on, [3, 4, 5, 6, 7, 8]);
        assert!(Fault::hang().is_on(Duration::ZERO) && Fault::hang().is_on(Duration::MAX));
        assert!(Fault::hang().from(s(1)).lasting(Duration::MAX).is_on(s(2)));
    }

    #[test]
    fn a_path_is_itself_and_what_is_below_it() {
        for path in ["/charges", "/charges/", "/charges/17"] {
            assert!(is_below(path, "/charges") && is_below(path, "/"), "{path}");
        }
        for path in ["/", "/chargesheet", "/a/charges"] {
            assert!(!is_below(path, "/charges"), "{path}");
        }
    }

    #[test]
    fn who_is_struck_is_chosen_by_all_that_was_said() {
        let endpoint = Endpoint::from(SocketAddr::from(([10, 0, 0, 1], 80)));
        let request = http::Request::post("http://a/charges/1").header("x-who", "me");
        let request = request.body(()).expect("sound");
        let head = Head::of(&request, Some(&endpoint));
        let fault = || Fault::hang().method(Method::POST).path("/charges").at(endpoint.address());
        assert!(fault().is_for(&head));
        assert!(!fault().is_for(&Head::of(&request, None)), "an endpoint that is not known");
        assert!(fault().matching(|head| head.headers.contains_key("x-who")).is_for(&head));
        assert!(!fault().matching(|head| head.headers.contains_key("x-you")).is_for(&head));
        assert!(!fault().method(Method::GET).is_for(&head));
        assert!(!fault().path("/refunds").is_for(&head));
        assert!(!Fault::hang().at(([10, 0, 0, 2], 80).into()).is_for(&head));
    }

    #[test]
    fn delays_are_what_their_distribution_says() {
        assert_eq!(Delay::fixed(s(2)).draw(|| panic!("there is no chance in it")), s(2));
        let between = Delay::between(s(2), s(4)).expect("in order");
        assert_eq!((between.draw(|| 0.0), between.draw(|| 0.5)), (s(2), s(3)));
        let exponential = Delay::exponential(s(1));
        assert_eq!(exponential.draw(|| 0.0), Duration::ZERO);
        let p99 = exponential.draw(|| 0.99);
        assert!(p99 > Duration::from_millis(4600) && p99 < Duration::from_millis(4610));
        assert_eq!(Delay::by(|u| s((u * 10.0) as u64)).draw(|| 0.5), s(5));
        assert!(Delay::between(s(2), s(1)).is_err());
        assert!(Fault::hang().share(1.1).is_err() && Fault::hang().share(f64::NAN).is_err());
    }
}
