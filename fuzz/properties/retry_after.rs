//! `Retry-After`, by the front door: an answer that is not a success, and its verdict.
//!
//! The first line is the header's value, the second one the answer's `Date`, if there is one.

use std::time::{Duration, SystemTime};

use buttress::{
    call::Asked,
    classify::{Classify, HttpClassifier, Pushback, Verdict},
};
use http::{
    HeaderValue, Response, StatusCode,
    header::{DATE, RETRY_AFTER},
};

/// Dates of HTTP lie between 1970 and 9999.
const ALL_DATES: Duration = Duration::from_secs(8_030 * 366 * 24 * 60 * 60);

pub(crate) fn holds(bytes: &[u8]) {
    let Some(lines) = super::values(bytes) else { return };
    let (after, date) = (&lines[0], lines.get(1));
    let refused = verdict(StatusCode::TOO_MANY_REQUESTS, after, date);

    // It changes nothing but the pushback, and that of no success.
    let without = HttpClassifier::new().verdict(StatusCode::TOO_MANY_REQUESTS, false);
    assert_eq!(refused.with_pushback(Pushback::None), without);
    assert_eq!(verdict(StatusCode::OK, after, date), Verdict::SUCCESS);

    let text = after.to_str().map(str::trim).unwrap_or_default();
    let seconds = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let until = httpdate::parse_http_date(text).ok();
    match refused.pushback {
        Pushback::After(wait) if seconds => assert_eq!(wait, read_seconds(text)),
        Pushback::After(wait) => {
            let until = until.expect("neither seconds nor a date");
            assert!(wait <= ALL_DATES, "{wait:?}");
            if let Some(now) = date.and_then(read_date) {
                assert_eq!(
                    now.max(until),
                    now + wait,
                    "the service's clock is the one that counts"
                );
            }
            // The other forms of a date say the same as the one that is written today.
            let again = HeaderValue::from_str(&httpdate::fmt_http_date(until)).expect("a date");
            if date.and_then(read_date).is_some() {
                let again = verdict(StatusCode::TOO_MANY_REQUESTS, &again, date);
                assert_eq!(again.pushback, refused.pushback);
            }
        }
        Pushback::None => assert!(!seconds && until.is_none(), "{after:?} was not read"),
        _ => panic!("no header says never"),
    }
}

fn verdict(status: StatusCode, after: &HeaderValue, date: Option<&HeaderValue>) -> Verdict {
    let mut response = Response::new(buttress::body::Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(RETRY_AFTER, after.clone());
    if let Some(date) = date {
        response.headers_mut().insert(DATE, date.clone());
    }
    HttpClassifier::new().response(Asked::default(), &response)
}

fn read_date(date: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(date.to_str().ok()?.trim()).ok()
}

/// Digit by digit, and without end.
fn read_seconds(digits: &str) -> Duration {
    let number = digits
        .bytes()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    number.map_or(Duration::MAX, Duration::from_secs)
}
