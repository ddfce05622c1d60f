//! The answers of the layer's own: problem details (RFC 9457, which replaced RFC 7807 and kept
//! its form), with the titles of the draft's examples.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{Answer, docs::Docs};
use crate::idempotency::DEFAULT_HEADER;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const ENGLISH: HeaderValue = HeaderValue::from_static("en");

/// What a caller is told instead of an answer of the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// A key is required here.
    Missing,
    /// What came is no key.
    Invalid(&'static str),
    /// The request's body broke off.
    BrokenBody,
    /// The request's body is longer than the cap.
    TooLarge { cap: usize },
    /// The key stands for another payload.
    Reused,
    /// The first request of the key is at work.
    Running { retry_after: u64 },
    /// Work was begun, and nobody knows how it ended.
    Unknown { status: StatusCode },
    /// The work was done, and its answer was too long to be kept.
    Unkept { answered: StatusCode, cap: usize },
    /// The store does not answer.
    NoStore { retry_after: u64 },
}

impl Problem {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid(_) | Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Reused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Running { .. } => StatusCode::CONFLICT,
            Self::Unknown { status } => status,
            // Not a failure that another attempt could mend, nor one of an endpoint's: what was
            // asked for is not there any more.
            Self::Unkept { .. } => StatusCode::GONE,
            Self::NoStore { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A stable name, for programs: titles and `type` may be anything's.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Missing => "idempotency_key_missing",
            Self::Invalid(_) => "idempotency_key_invalid",
            Self::BrokenBody => "request_body_broken",
            Self::TooLarge { .. } => "request_body_too_large",
            Self::Reused => "idempotency_key_reused",
            Self::Running { .. } => "request_outstanding",
            Self::Unknown { .. } => "outcome_unknown",
            Self::Unkept { .. } => "answer_not_kept",
            Self::NoStore { .. } => "idempotency_unavailable",
        }
    }

    fn title(self, key: &str) -> String {
        match self {
            Self::Missing => format!("{key} is missing"),
            Self::Invalid(_) => format!("{key} is invalid"),
            Self::BrokenBody => "The request's body broke off".to_owned(),
            Self::TooLarge { .. } => "The request's body is too large".to_owned(),
            Self::Reused => format!("{key} is already used"),
            Self::Running { .. } => format!("A request is outstanding for this {key}"),
            Self::Unknown { .. } => "The outcome is unknown".to_owned(),
            Self::Unkept { .. } => "The answer was not kept".to_owned(),
            Self::NoStore { .. } => format!("{key} can't be honoured at the moment"),
        }
    }

    fn detail(self, key: &str) -> String {
        match self {
            Self::Missing => format!("This operation requires the header {key}."),
            Self::Invalid(reason) => format!("The header {key} can't be read: {reason}."),
            Self::BrokenBody => "The request was not carried out.".to_owned(),
            Self::TooLarge { cap } => {
                format!("With the header {key} a request's body has up to {cap} bytes here.")
            }
            Self::Reused => format!(
                "The {key} came before, with another payload. It must not be reused across \
                 different payloads of this operation."
            ),
            Self::Running { .. } => format!(
                "A request with the same {key} for the same operation is being processed. The \
                 same request may be sent again later."
            ),
            Self::Unknown { .. } => format!(
                "A request with the same {key} was begun, and nobody knows how it ended. It may \
                 have been carried out, in part or in whole. It is not carried out again under \
                 this {key}."
            ),
            Self::Unkept { answered, cap } => format!(
                "A request with the same {key} was carried out and answered with {}. The answer \
                 had more than {cap} bytes and was not kept.",
                answered.as_u16()
            ),
            Self::NoStore { .. } => {
                "The request was not carried out. It may be sent again later.".to_owned()
            }
        }
    }

    /// The problem as an answer. No text in it needs escaping in JSON: titles and reasons are
    /// ours, names of headers hold no quotation marks, and [`Docs`] were asked.
    pub(super) fn answer(self, header: &HeaderName, docs: &Docs) -> Answer {
        let key = if *header == DEFAULT_HEADER { "Idempotency-Key" } else { header.as_str() };
        let body = format!(
            r#"{{"type":"{}","title":"{}","status":{},"detail":"{}","code":"{}"}}"#,
            docs.as_str(),
            self.title(key),
            self.status().as_u16(),
            self.detail(key),
            self.code(),
        );
        let mut answer = Answer::new(self.status(), Bytes::from(body));
        let headers = &mut answer.headers;
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CONTENT_LANGUAGE, ENGLISH);
        headers.insert(header::LINK, docs.link().clone());
        if let Self::Running { retry_after } | Self::NoStore { retry_after } = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        answer
    }

    pub(super) fn response<B: From<Bytes>>(self, header: &HeaderName, docs: &Docs) -> Response<B> {
        self.answer(header, docs).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Problem; 9] = [
        Problem::Missing,
        Problem::Invalid("it is empty"),
        Problem::BrokenBody,
        Problem::TooLarge { cap: 7 },
        Problem::Reused,
        Problem::Running { retry_after: 1 },
        Problem::Unknown { status: StatusCode::INTERNAL_SERVER_ERROR },
        Problem::Unkept { answered: StatusCode::CREATED, cap: 7 },
        Problem::NoStore { retry_after: 1 },
    ];

    #[test]
    fn says_what_the_draft_says() {
        let docs = Docs::new("https://developer.example.com/idempotency").expect("a link");
        let response: Response<Bytes> = Problem::Missing.response(&DEFAULT_HEADER, &docs);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["content-language"], "en");
        assert_eq!(
            response.headers()["link"],
            r#"<https://developer.example.com/idempotency>; rel="describedby"; type="text/html""#
        );
        let expected = concat!(
            r#"{"type":"https://developer.example.com/idempotency","#,
            r#""title":"Idempotency-Key is missing","status":400,"#,
            r#""detail":"This operation requires the header Idempotency-Key.","#,
            r#""code":"idempotency_key_missing"}"#,
        );
        assert_eq!(response.body(), expected);
    }

    #[test]
    fn only_what_may_be_sent_again_says_when() {
        for problem in ALL {
            let response: Response<Bytes> = problem.response(&DEFAULT_HEADER, &Docs::default());
            let waits = matches!(problem, Problem::Running { .. } | Problem::NoStore { .. });
            assert_eq!(response.headers().contains_key("retry-after"), waits, "{problem:?}");
        }
    }

    #[test]
    fn nothing_in_it_breaks_the_json() {
        for problem in ALL {
            let name = HeaderName::from_static("paypal-request-id");
            let response: Response<Bytes> = problem.response(&name, &Docs::default());
            let text = std::str::from_utf8(response.body()).expect("it is text");
            // Five members: five names, and four values in quotation marks.
            assert_eq!(text.matches('"').count(), 2 * (5 + 4), "{text}");
            assert!(!text.contains('\\') && !text.contains('\n'), "{text}");
            assert!(!text.contains("Idempotency-Key"), "{text}");
        }
    }
}
