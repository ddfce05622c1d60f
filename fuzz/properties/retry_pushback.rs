//! `retry-pushback-ms`, by the front door: an answer that is not a success, and its verdict.
//! Each line is one header's value.

use std::time::Duration;

use buttress::{
    body::Body,
    call::Asked,
    classify::{Classify, HttpClassifier, PUSHBACK_HEADER, Pushback, Verdict},
};
use http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER};

pub(crate) fn holds(bytes: &[u8]) {
    let Some(values) = super::values(bytes) else { return };
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND] {
        // It changes nothing but the pushback, of which it has the last word.
        let without = HttpClassifier::new().verdict(status, false);
        assert_eq!(verdict(status, &values), without.with_pushback(pushback(&values)));
    }
    assert_eq!(verdict(StatusCode::OK, &values), Verdict::SUCCESS);
}

fn verdict(status: StatusCode, values: &[HeaderValue]) -> Verdict {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    *response.headers_mut() = super::headers(&PUSHBACK_HEADER, values);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("7"));
    HttpClassifier::new().response(Asked::default(), &response)
}

/// Digit by digit, and whatever is no number that fits is a stop.
fn pushback(values: &[HeaderValue]) -> Pushback {
    let [one] = values else { return Pushback::Never };
    let digits = one.as_bytes().trim_ascii();
    let number = digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(digit.into())
    });
    let number = number.filter(|_| !digits.is_empty());
    number.map_or(Pushback::Never, |ms| Pushback::After(Duration::from_millis(ms)))
}
