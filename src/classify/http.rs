//! The table of HTTP's answers.

use std::task::{Context, Poll};

use ::http::{Response, StatusCode};
use http_body::Body;

use super::{
    Blame, Classify, Pushback, Retry, Sent, Settle, Verdict, orca::load_report, retry_after,
    stop::pushback,
};
use crate::{
    body::Guarded,
    call::{Asked, Attempts, BodyMode},
    endpoint::LoadReport,
};

/// Judges HTTP responses by their status, as RFC 9110 means it and as services use it.
///
/// | answer | blame | sent | retry | why |
/// |---|---|---|---|---|
/// | 1xx, 2xx, 3xx | nobody | processed | never | it worked |
/// | 400, 401, 403, 404, 405, 410, 413, 415, 422, 501, other 4xx | client | processed | never | every endpoint would say the same |
/// | 408 | endpoint | maybe | if safe | it gave up on our connection |
/// | 409 with an idempotency key | nobody | processed | always, after a wait | the first attempt is still running |
/// | 421, 425 | nobody | no | always | refused unprocessed; another connection will do |
/// | 429 | service | no | always, after the pushback or elsewhere | refused unprocessed |
/// | 500 | endpoint | processed | if safe | a bug, perhaps of one instance |
/// | 502, 504 | endpoint | maybe | if safe | a proxy lost its upstream |
/// | 503 | service | maybe | if safe, after the pushback or elsewhere | overload, or an instance that is closing |
/// | other 5xx | endpoint | processed | if safe | as 500 |
///
/// Retrying a 500 can be switched off ([`HttpClassifier::retry_500`]), as some services replay
/// a stored 500 for a key.
///
/// The verdict on a failure is settled at the head, on a success at the end of the body: a
/// body that breaks off is a failure of its endpoint. A body that the caller drops unread,
/// even past its deadline, leaves the head's verdict standing.
///
/// When to come back, a failure says in `Retry-After`, or in
/// [`retry-pushback-ms`](super::PUSHBACK_HEADER), which may also say "not at all", as Envoy does
/// in `x-envoy-overloaded` and `x-envoy-ratelimited`.
///
/// A failure that carries [`Attempts`] has been given up by a retry beneath; it is never tried
/// again, as little as its [`GaveUp`](crate::retry::GaveUp) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpClassifier {
    retry_500: bool,
}

impl HttpClassifier {
    /// The table above.
    #[must_use]
    pub const fn new() -> Self {
        Self { retry_500: true }
    }

    /// Whether a 500 to a call that is safe to repeat may be tried again (default: yes).
    #[must_use]
    pub const fn retry_500(mut self, retry: bool) -> Self {
        self.retry_500 = retry;
        self
    }

    /// The verdict on a status, before `Retry-After` is looked at.
    #[must_use]
    pub fn verdict(&self, status: StatusCode, keyed: bool) -> Verdict {
        let (blame, sent, retry) = match status.as_u16() {
            ..400 => return Verdict::SUCCESS,
            408 => (Blame::Endpoint, Sent::Maybe, Retry::IfSafe),
            409 if keyed => (Blame::Nobody, Sent::Processed, Retry::Always),
            421 | 425 => (Blame::Nobody, Sent::No, Retry::Always),
            429 => (Blame::Service, Sent::No, Retry::Always),
            400..=499 | 501 => (Blame::Client, Sent::Processed, Retry::Never),
            502 | 504 => (Blame::Endpoint, Sent::Maybe, Retry::IfSafe),
            503 => (Blame::Service, Sent::Maybe, Retry::IfSafe),
            _ if self.retry_500 => (Blame::Endpoint, Sent::Processed, Retry::IfSafe),
            _ => (Blame::Endpoint, Sent::Processed, Retry::Never),
        };
        Verdict::new(blame, sent, retry)
    }
}

impl HttpClassifier {
    /// The verdict on an answer that says no.
    #[inline(never)]
    fn refusal<B>(&self, asked: Asked, response: &Response<B>) -> Verdict {
        let mut verdict = self.verdict(response.status(), asked.keyed);
        // A retry beneath gave up on it. Layered retries must not multiply.
        if response.extensions().get().is_some_and(Attempts::is_final) {
            verdict.retry = Retry::Never;
        }
        let headers = response.headers();
        let said = pushback(headers)
            .or_else(|| retry_after(headers, crate::time::wall()).map(Pushback::After));
        said.map_or(verdict, |said| verdict.with_pushback(said))
    }
}

impl Default for HttpClassifier {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Body> Classify<Response<B>> for HttpClassifier {
    type Guarded<G: Settle> = Response<Guarded<B, G>>;

    // The table's first line here as well, and what follows from the others apart: almost every
    // answer says yes.
    #[inline]
    fn response(&self, asked: Asked, response: &Response<B>) -> Verdict {
        match response.status().as_u16() {
            ..400 => Verdict::SUCCESS,
            _ => self.refusal(asked, response),
        }
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn attempts(&self, response: &Response<B>) -> Option<Attempts> {
        response.extensions().get().cloned()
    }

    fn load_report(&self, response: &Response<B>) -> Option<LoadReport> {
        load_report(response.headers())
    }

    fn annotate(&self, response: &mut Response<B>, attempts: Attempts) {
        response.extensions_mut().insert(attempts);
    }

    #[inline]
    fn guard<G: Settle>(
        &self,
        asked: Asked,
        response: Response<B>,
        head: Verdict,
        mut guard: G,
    ) -> Self::Guarded<G> {
        if self.is_open(asked, &response, head) {
            return self.guard_open(asked, response, head, guard);
        }
        guard.settle(head);
        response.map(|body| Guarded::settled(body, guard))
    }

    #[inline]
    fn is_open(&self, asked: Asked, response: &Response<B>, head: Verdict) -> bool {
        head.is_success() && asked.body == BodyMode::Timely && !response.body().is_end_stream()
    }

    // Always: on the way of every call, and its response is large.
    #[inline(always)]
    fn guard_open<G: Settle>(
        &self,
        _: Asked,
        response: Response<B>,
        head: Verdict,
        guard: G,
    ) -> Self::Guarded<G> {
        response.map(|body| Guarded::open(body, head, guard))
    }

    fn set_aside<G: Settle>(
        &self,
        response: Response<B>,
        head: Verdict,
        mut guard: G,
        limit: usize,
    ) -> Result<Self::Guarded<G>, (Response<B>, G)> {
        guard.settle(head);
        Ok(response.map(|body| Guarded::aside(body, guard, limit)))
    }

    fn poll_aside<G: Settle>(
        &self,
        aside: &mut Self::Guarded<G>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        aside.body_mut().poll_ahead(cx)
    }

    fn annotate_aside<G: Settle>(&self, aside: &mut Self::Guarded<G>, attempts: Attempts) {
        aside.extensions_mut().insert(attempts);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    fn row(status: u16, keyed: bool) -> (Blame, Sent, Retry) {
        let status = StatusCode::from_u16(status).expect("a status of the table");
        let verdict = HttpClassifier::new().verdict(status, keyed);
        (verdict.blame, verdict.sent, verdict.retry)
    }

    #[test]
    fn judges_by_the_table() {
        use Blame::{Client, Endpoint, Nobody, Service};
        use Retry::{Always, IfSafe, Never};
        use Sent::{Maybe, No, Processed};
        let table: &[(u16, (Blame, Sent, Retry))] = &[
            (200, (Nobody, Processed, Never)),
            (204, (Nobody, Processed, Never)),
            (304, (Nobody, Processed, Never)),
            (400, (Client, Processed, Never)),
            (401, (Client, Processed, Never)),
            (403, (Client, Processed, Never)),
            (404, (Client, Processed, Never)),
            (408, (Endpoint, Maybe, IfSafe)),
            (409, (Client, Processed, Never)),
            (421, (Nobody, No, Always)),
            (422, (Client, Processed, Never)),
            (425, (Nobody, No, Always)),
            (429, (Service, No, Always)),
            (500, (Endpoint, Processed, IfSafe)),
            (501, (Client, Processed, Never)),
            (502, (Endpoint, Maybe, IfSafe)),
            (503, (Service, Maybe, IfSafe)),
            (504, (Endpoint, Maybe, IfSafe)),
            (507, (Endpoint, Processed, IfSafe)),
        ];
        for &(status, expected) in table {
            assert_eq!(row(status, false), expected, "{status}");
        }
        assert_eq!(row(409, true), (Nobody, Processed, Always));
        let strict = HttpClassifier::new().retry_500(false);
        assert_eq!(strict.verdict(StatusCode::INTERNAL_SERVER_ERROR, true).retry, Never);
    }

    /// Counts what it is told.
    struct Told<'a>(&'a Cell<u32>);

    impl Settle for Told<'_> {
        fn settle(&mut self, _: Verdict) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn an_open_response_settles_nothing_before_its_body_ends() {
        let lasting = BodyMode::Lasting { idle: Duration::from_secs(1) };
        // (status, body, mode, whether it is open)
        let table = [
            (200, "paid", BodyMode::Timely, true),
            (302, "paid", BodyMode::Timely, true),
            (200, "", BodyMode::Timely, false),
            (200, "paid", BodyMode::Collected, false),
            (200, "paid", lasting, false),
            (500, "no", BodyMode::Timely, false),
        ];
        for (status, text, body, open) in table {
            let classifier = HttpClassifier::new();
            let asked = Asked { body, ..Asked::default() };
            let response = || {
                let mut response = Response::new(Full::<Bytes>::from(text));
                *response.status_mut() = StatusCode::from_u16(status).expect("a status");
                response
            };
            let head = classifier.response(asked, &response());
            assert_eq!(classifier.is_open(asked, &response(), head), open, "{status} {text:?}");
            let told = Cell::new(0);
            let guarded = classifier.guard(asked, response(), head, Told(&told));
            assert_eq!(told.get(), u32::from(!open), "{status} {text:?}");
            drop(guarded);
            assert_eq!(told.get(), 1, "{status} {text:?}");
            if open {
                let guarded = classifier.guard_open(asked, response(), head, Told(&told));
                assert_eq!(told.get(), 1, "{status} {text:?}");
                drop(guarded);
                assert_eq!(told.get(), 2, "{status} {text:?}");
            }
        }
    }

    #[test]
    fn only_a_first_class_answer_is_a_success() {
        for status in (100..600).filter_map(|code| StatusCode::from_u16(code).ok()) {
            let verdict = HttpClassifier::new().verdict(status, true);
            assert_eq!(verdict.is_success(), status.as_u16() < 400, "{status}");
        }
    }
}
