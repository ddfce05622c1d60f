//! What an answer of gRPC says of itself, in its head and in its trailers.
//!
//! The first line is the `grpc-status`, the second one the `grpc-retry-pushback-ms`, or several
//! of them with `\r` between, which no header can hold; the third one is the `grpc-message`.

use std::{cell::Cell, rc::Rc, time::Duration};

use buttress::{
    body::Body,
    call::Asked,
    classify::{Classify, GrpcClassifier, GrpcCode, Pushback, Retry, Sent, Settle, Verdict},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;

static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

pub(crate) fn holds(bytes: &[u8]) {
    let Some([statuses, pushbacks, messages]) = super::lists(bytes) else { return };
    let said = || -> HeaderMap {
        let mut headers = super::headers(&STATUS, &statuses);
        headers.extend(super::headers(&PUSHBACK, &pushbacks));
        headers.extend(super::headers(&MESSAGE, &messages));
        headers
    };
    let (code, wish) = (code(&statuses), wish(&pushbacks));
    assert_eq!(GrpcCode::of(&said()), code);

    // In the trailers; where they have no status it is none, whatever else they say.
    let expected = verdict(code.unwrap_or(GrpcCode::Unknown), wish);
    assert_eq!(settled(HeaderMap::new(), said()), expected, "{:?}", said());

    // In the head, whatever its status is: there it decides, and what comes later is not asked.
    let Some(code) = code else { return };
    let expected = verdict(code, wish);
    for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
        let mut response = Response::new(Body::empty());
        (*response.status_mut(), *response.headers_mut()) = (status, said());
        let read = GrpcClassifier::new().response(Asked::default(), &response);
        assert_eq!(read, expected, "{:?}", said());
    }
    let other = HeaderMap::from_iter([(STATUS.clone(), HeaderValue::from_static("13"))]);
    assert_eq!(settled(said(), other), expected);
}

/// The table, and what the server wishes besides.
fn verdict(code: GrpcCode, wish: Pushback) -> Verdict {
    let mut verdict = GrpcClassifier::new().verdict(code);
    if code == GrpcCode::Ok {
        return Verdict::SUCCESS;
    }
    if code == GrpcCode::ResourceExhausted && matches!(wish, Pushback::After(_)) {
        (verdict.sent, verdict.retry) = (Sent::No, Retry::Always);
    }
    verdict.with_pushback(wish)
}

/// By the numbers' names: a number is written in one way only.
fn code(statuses: &[HeaderValue]) -> Option<GrpcCode> {
    let first = statuses.first()?;
    let named = GrpcCode::ALL.into_iter().find(|code| *first == code.number().to_string());
    let one = statuses.iter().all(|status| status == first);
    Some(named.filter(|_| one).unwrap_or(GrpcCode::Unknown))
}

/// gRFC A6: "If the value ... is negative or unparseable, then it will be seen as the server
/// asking the client not to retry at all." By the standard library's parser, whose liberties,
/// the signs, are taken back.
fn wish(pushbacks: &[HeaderValue]) -> Pushback {
    let text = match pushbacks {
        [] => return Pushback::None,
        [one] => one.to_str().unwrap_or_default(),
        _ => return Pushback::Never,
    };
    match text.parse::<i32>() {
        Ok(millis) if !text.starts_with(['+', '-']) => {
            Pushback::After(Duration::from_millis(millis.unsigned_abs().into()))
        }
        _ => Pushback::Never,
    }
}

/// What a call is told whose answer has these headers and trailers, once its body was read.
fn settled(headers: HeaderMap, trailers: HeaderMap) -> Verdict {
    let mut response = Response::new(Body::with_trailers("m", trailers.clone()));
    *response.headers_mut() = headers;
    let told = Told::default();
    let classifier = GrpcClassifier::new();
    let head = classifier.response(Asked::default(), &response);
    let body = classifier.guard(Asked::default(), response, head, told.clone()).into_body();
    let read = body.collect().now_or_never().expect("it lies in memory").expect("it is whole");
    assert_eq!(read.trailers(), Some(&trailers), "they pass on as they came");
    told.0.take().expect("the end settles what the head has not")
}

/// Asserts that it is told once.
#[derive(Clone, Default)]
struct Told(Rc<Cell<Option<Verdict>>>);

impl Settle for Told {
    fn settle(&mut self, verdict: Verdict) {
        assert_eq!(self.0.replace(Some(verdict)), None);
    }
}
