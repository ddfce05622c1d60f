//! The table of gRPC's answers.

use std::{error::Error as StdError, fmt};

use ::http::{HeaderMap, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;

use super::{
    super::{
        Blame, Classify, Pushback, Retry, Sent, Settle, Verdict, orca::load_report, retry_after,
    },
    code::GrpcCode,
    guarded::GrpcGuarded,
    pushback::pushback,
};
use crate::{
    call::{Asked, Attempts, BodyMode},
    endpoint::LoadReport,
};

/// Judges gRPC's answers over HTTP/2 by their `grpc-status`: in the headers where the answer has
/// nothing else, and otherwise in the trailers.
///
/// | code | blame | sent | retry | why |
/// |---|---|---|---|---|
/// | `OK` | nobody | processed | never | it worked |
/// | `UNAVAILABLE` | service | maybe | if safe | the one code that means "again, in a while"; but a proxy says it, too, of a call that it lost on the way |
/// | `RESOURCE_EXHAUSTED` with a pushback | service | no | always, after it or elsewhere | a limit turned the call away, and says when it will not |
/// | `RESOURCE_EXHAUSTED` without | service | maybe | never, unless switched on | a quota that is spent stays spent; and an answer that is too large gets this code after the work was done |
/// | `DEADLINE_EXCEEDED` | endpoint | maybe | never, unless switched on | the server's time was up, which is ours: no attempt has more |
/// | `INTERNAL`, `UNKNOWN`, `DATA_LOSS` | endpoint | maybe | never, unless switched on | a bug ends the same; frameworks give these to every exception |
/// | `ABORTED` | client | processed | never, unless switched on | the caller has to repeat its whole transaction, not this call |
/// | `CANCELLED`, `INVALID_ARGUMENT`, `NOT_FOUND`, `ALREADY_EXISTS`, `PERMISSION_DENIED`, `FAILED_PRECONDITION`, `OUT_OF_RANGE`, `UNIMPLEMENTED`, `UNAUTHENTICATED` | client | processed | never, unless switched on | every endpoint would say the same |
///
/// What is switched on ([`GrpcClassifier::retry`]) is tried again if the call is safe to repeat.
/// Every call of gRPC is a `POST`, so none is by nature: the caller says so of those that are,
/// with [`Words::idempotent`](crate::call::Words::idempotent) or an idempotency key. (In gRPC's
/// own service config the list of codes says both: which failures may pass, and that this
/// method may be repeated.)
///
/// `ABORTED` blames the client, as nobody's failure would count as a success.
///
/// # Answers without a status
///
/// An HTTP status other than 200, or a content type that is not gRPC's, comes from a proxy or
/// from something that is no gRPC server. It is read as a code
/// ([`GrpcCode::of_http`], gRPC's `http-grpc-status-mapping.md`), at the head: 400 is
/// `INTERNAL`, 401 `UNAUTHENTICATED`, 403 `PERMISSION_DENIED`, 404 `UNIMPLEMENTED`, 429, 502, 503
/// and 504 `UNAVAILABLE`, all others `UNKNOWN`. An answer that ends without a status is `UNKNOWN`,
/// one that breaks off is the endpoint's fault and may have happened.
///
/// # Pushback
///
/// `grpc-retry-pushback-ms` is [`Pushback::After`], or [`Pushback::Never`] if it is negative,
/// can't be read, or is there twice (gRFC A6). Where a proxy answered in HTTP, `Retry-After` is
/// read instead.
///
/// # When the verdict is settled
///
/// Exactly once:
///
/// - at the head, if that has the status or can't have any;
/// - else with the trailers, as they pass on to the caller: what fails there counts as a
///   failure although its head said 200;
/// - of a stream that is [meant to last](BodyMode::Lasting) with its first message, since its
///   end says nothing of how the service does now;
/// - at the drop of a body whose end was not read: cut off by a timeout above it, or given up by
///   the caller, who then says nothing of the endpoint. A head of gRPC promises nothing.
///
/// A retry above can only repeat what failed at the head; the rest is in the caller's hands
/// already. [`PeekLayer`](crate::grpc::PeekLayer) waits for the first frame, so that an answer
/// that is all trailers can be tried again.
///
/// A failure that carries [`Attempts`] has been given up by a retry beneath; it is never tried
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrpcClassifier {
    /// The codes that are tried again if that is safe, a bit each.
    retried: Codes,
    /// The codes that are tried again if the server says when.
    invited: Codes,
}

impl GrpcClassifier {
    /// The table above.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            retried: Codes::NONE.with(GrpcCode::Unavailable, true),
            invited: Codes::NONE.with(GrpcCode::ResourceExhausted, true),
        }
    }

    /// Whether a call that is safe to repeat is tried again after this code, whatever the server
    /// says of when (default: `UNAVAILABLE`, and `RESOURCE_EXHAUSTED` with a pushback).
    ///
    /// ```
    /// use buttress::classify::{GrpcClassifier, GrpcCode};
    ///
    /// let classifier = GrpcClassifier::new().retry(GrpcCode::Internal, true)?;
    /// assert!(classifier.verdict(GrpcCode::Internal).permits_retry(true));
    /// assert!(!classifier.verdict(GrpcCode::Unknown).permits_retry(true));
    /// # Ok::<(), buttress::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidGrpcRetry`] if `OK` is to be tried again.
    pub fn retry(mut self, code: GrpcCode, retry: bool) -> Result<Self, InvalidGrpcRetry> {
        if code == GrpcCode::Ok && retry {
            return Err(InvalidGrpcRetry);
        }
        self.retried = self.retried.with(code, retry);
        self.invited = self.invited.with(code, false);
        Ok(self)
    }

    /// The verdict on a code that came without a pushback.
    #[must_use]
    pub const fn verdict(&self, code: GrpcCode) -> Verdict {
        use GrpcCode::{
            Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition,
            Internal, InvalidArgument, NotFound, Ok, OutOfRange, PermissionDenied,
            ResourceExhausted, Unauthenticated, Unavailable, Unimplemented, Unknown,
        };
        let (blame, sent) = match code {
            Ok => return Verdict::SUCCESS,
            Unavailable | ResourceExhausted => (Blame::Service, Sent::Maybe),
            DeadlineExceeded | Internal | Unknown | DataLoss => (Blame::Endpoint, Sent::Maybe),
            Aborted | Cancelled | InvalidArgument | NotFound | AlreadyExists | PermissionDenied
            | FailedPrecondition | OutOfRange | Unimplemented | Unauthenticated => {
                (Blame::Client, Sent::Processed)
            }
        };
        let retry = if self.retried.has(code) { Retry::IfSafe } else { Retry::Never };
        Verdict::new(blame, sent, retry)
    }

    /// The verdict on a code, with the wish that came in the same headers or trailers.
    fn with_wish(&self, code: GrpcCode, wish: Pushback) -> Verdict {
        let mut verdict = self.verdict(code);
        if verdict.is_success() {
            return verdict;
        }
        if code == GrpcCode::ResourceExhausted && matches!(wish, Pushback::After(_)) {
            verdict.sent = Sent::No;
            if self.invited.has(code) {
                verdict.retry = Retry::Always;
            }
        }
        verdict.with_pushback(wish)
    }

    /// The verdict on an answer's trailers.
    pub(super) fn trailers(&self, trailers: &HeaderMap) -> Verdict {
        let code = GrpcCode::of(trailers).unwrap_or(GrpcCode::Unknown);
        self.with_wish(code, pushback(trailers))
    }

    /// The verdict on an answer that ended, in good order, without a status.
    pub(super) const fn without_status(&self) -> Verdict {
        self.verdict(GrpcCode::Unknown)
    }

    /// The verdict that a head gives, or none if the trailers have to.
    fn head<B: Body>(&self, response: &Response<B>) -> Option<Verdict> {
        let headers = response.headers();
        if let Some(code) = GrpcCode::of(headers) {
            return Some(self.with_wish(code, pushback(headers)));
        }
        if response.status() == StatusCode::OK && may_be_grpc(headers) {
            return response.body().is_end_stream().then(|| self.without_status());
        }
        let wish =
            retry_after(headers, crate::time::wall()).map_or(Pushback::None, Pushback::After);
        Some(self.with_wish(GrpcCode::of_http(response.status()), wish))
    }
}

/// Whether trailers with a status may follow. A head without any content type may have lost it
/// on the way; one with another is an error page.
fn may_be_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_none_or(|content| content.as_bytes().starts_with(b"application/grpc"))
}

impl Default for GrpcClassifier {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Body> Classify<Response<B>> for GrpcClassifier {
    type Guarded<G: Settle> = Response<GrpcGuarded<B, G>>;

    fn response(&self, _: Asked, response: &Response<B>) -> Verdict {
        let mut verdict = self.head(response).unwrap_or(Verdict::SUCCESS);
        // A retry beneath gave up on it. Layered retries must not multiply.
        if !verdict.is_success() && response.extensions().get::<Attempts>().is_some() {
            verdict.retry = Retry::Never;
        }
        verdict
    }

    fn load_report(&self, response: &Response<B>) -> Option<LoadReport> {
        load_report(response.headers())
    }

    /// The code of gRPC where the head has one: they end below 100, where those of HTTP begin.
    fn status(&self, response: &Response<B>) -> Option<u16> {
        let code = GrpcCode::of(response.headers()).map(|code| code.number().into());
        code.or_else(|| Some(response.status().as_u16()))
    }

    fn annotate(&self, response: &mut Response<B>, attempts: Attempts) {
        response.extensions_mut().insert(attempts);
    }

    fn guard<G: Settle>(
        &self,
        asked: Asked,
        response: Response<B>,
        head: Verdict,
        mut guard: G,
    ) -> Self::Guarded<G> {
        // Not by `head` alone, which says "success" as well where the trailers have to say it.
        if !head.is_success() || self.head(&response).is_some() {
            guard.settle(head);
            return response.map(|body| GrpcGuarded::settled(body, guard));
        }
        let lasting = matches!(asked.body, BodyMode::Lasting { .. });
        response.map(|body| GrpcGuarded::open(body, *self, lasting, guard))
    }
}

/// A set of codes, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Codes(u32);

impl Codes {
    const NONE: Self = Self(0);

    const fn with(self, code: GrpcCode, there: bool) -> Self {
        let bit = 1 << code.number();
        Self(if there { self.0 | bit } else { self.0 & !bit })
    }

    const fn has(self, code: GrpcCode) -> bool {
        self.0 & (1 << code.number()) != 0
    }
}

/// A success that was to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidGrpcRetry;

impl fmt::Display for InvalidGrpcRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OK is a success: leave it out of the codes that are tried again")
    }
}

impl StdError for InvalidGrpcRetry {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::http::HeaderValue;

    use super::*;
    use crate::body::Body as OurBody;

    type Row = (Blame, Sent, Retry);

    fn row(verdict: Verdict) -> Row {
        (verdict.blame, verdict.sent, verdict.retry)
    }

    fn head(status: u16, headers: &[(&'static str, &'static str)]) -> Verdict {
        let mut response = Response::new(OurBody::full("message"));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        for &(name, value) in headers {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        GrpcClassifier::new().response(Asked::default(), &response)
    }

    #[test]
    fn judges_by_the_table() {
        use Blame::{Client, Endpoint, Nobody, Service};
        use Retry::{IfSafe, Never};
        use Sent::{Maybe, Processed};
        let table: [Row; 17] = [
            (Nobody, Processed, Never), // OK
            (Client, Processed, Never), // CANCELLED
            (Endpoint, Maybe, Never),   // UNKNOWN
            (Client, Processed, Never), // INVALID_ARGUMENT
            (Endpoint, Maybe, Never),   // DEADLINE_EXCEEDED
            (Client, Processed, Never), // NOT_FOUND
            (Client, Processed, Never), // ALREADY_EXISTS
            (Client, Processed, Never), // PERMISSION_DENIED
            (Service, Maybe, Never),    // RESOURCE_EXHAUSTED
            (Client, Processed, Never), // FAILED_PRECONDITION
            (Client, Processed, Never), // ABORTED
            (Client, Processed, Never), // OUT_OF_RANGE
            (Client, Processed, Never), // UNIMPLEMENTED
            (Endpoint, Maybe, Never),   // INTERNAL
            (Service, Maybe, IfSafe),   // UNAVAILABLE
            (Endpoint, Maybe, Never),   // DATA_LOSS
            (Client, Processed, Never), // UNAUTHENTICATED
        ];
        for (code, expected) in GrpcCode::ALL.into_iter().zip(table) {
            let classifier = GrpcClassifier::new();
            assert_eq!(row(classifier.verdict(code)), expected, "{code}");
            if code == GrpcCode::Ok {
                continue;
            }
            assert!(!classifier.verdict(code).is_success(), "{code}");
            let on = classifier.retry(code, true).expect("it is no success");
            assert_eq!(on.verdict(code).retry, IfSafe, "{code}");
            let off = classifier.retry(code, false).expect("it is no success");
            assert_eq!(off.verdict(code).retry, Never, "{code}");
        }
    }

    #[test]
    fn a_success_can_not_be_tried_again() {
        let classifier = GrpcClassifier::new();
        assert_eq!(classifier.retry(GrpcCode::Ok, true), Err(InvalidGrpcRetry));
        assert!(classifier.retry(GrpcCode::Ok, false).is_ok());
    }

    #[test]
    fn a_limit_that_says_when_is_believed() {
        let asked = [("grpc-status", "8"), ("grpc-retry-pushback-ms", "250")];
        let verdict = head(200, &asked);
        assert_eq!(row(verdict), (Blame::Service, Sent::No, Retry::Always));
        assert_eq!(verdict.pushback, Pushback::After(Duration::from_millis(250)));
        let stop = head(200, &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "-1")]);
        assert_eq!(row(stop), (Blame::Service, Sent::Maybe, Retry::Never));
        assert_eq!(stop.pushback, Pushback::Never);
        let off = GrpcClassifier::new().retry(GrpcCode::ResourceExhausted, false);
        let after = Pushback::After(Duration::ZERO);
        let off = off.expect("it is no success").with_wish(GrpcCode::ResourceExhausted, after);
        assert_eq!(off.retry, Retry::Never);
    }

    #[test]
    fn a_head_decides_if_it_has_the_status_or_can_have_none() {
        let unavailable = (Blame::Service, Sent::Maybe, Retry::IfSafe);
        let unknown = (Blame::Endpoint, Sent::Maybe, Retry::Never);
        assert_eq!(head(200, &[]), Verdict::SUCCESS, "until the trailers say otherwise");
        assert_eq!(head(200, &[("content-type", "application/grpc+proto")]), Verdict::SUCCESS);
        assert_eq!(row(head(200, &[("content-type", "text/html")])), unknown);
        assert_eq!(row(head(204, &[])), unknown);
        assert_eq!(row(head(503, &[])), unavailable);
        // What the server says of itself holds, whatever the status of HTTP.
        assert_eq!(head(503, &[("grpc-status", "0")]), Verdict::SUCCESS);
        let wish = head(503, &[("retry-after", "2")]).pushback;
        assert_eq!(wish, Pushback::After(Duration::from_secs(2)));
        let grpc_has_its_own = head(200, &[("grpc-status", "14"), ("retry-after", "2")]);
        assert_eq!(grpc_has_its_own.pushback, Pushback::None);
    }

    #[test]
    fn a_status_in_the_head_is_settled_with_the_head() {
        #[derive(Default)]
        struct Log(std::rc::Rc<std::cell::Cell<Option<Verdict>>>);

        impl Settle for Log {
            fn settle(&mut self, verdict: Verdict) {
                self.0.set(Some(verdict));
            }
        }

        for (status, expected) in [("0", true), ("14", false)] {
            let mut response = Response::new(OurBody::full("ignored"));
            response.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
            let (classifier, asked) = (GrpcClassifier::new(), Asked::default());
            let head = classifier.response(asked, &response);
            let log = Log::default();
            let seen = std::rc::Rc::clone(&log.0);
            let _response = classifier.guard(asked, response, head, log);
            assert_eq!(seen.get().map(|verdict| verdict.is_success()), Some(expected));
        }
    }

    #[test]
    fn an_answer_that_has_ended_without_a_status_is_no_success() {
        let response = Response::new(OurBody::empty());
        let verdict = GrpcClassifier::new().response(Asked::default(), &response);
        assert_eq!(row(verdict), (Blame::Endpoint, Sent::Maybe, Retry::Never));
    }

    #[test]
    fn what_a_retry_beneath_gave_up_is_not_tried_again() {
        let mut response = Response::new(OurBody::empty());
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("14"));
        response.extensions_mut().insert(Attempts::default());
        let verdict = GrpcClassifier::new().response(Asked::default(), &response);
        assert_eq!(verdict.retry, Retry::Never);
    }
}
