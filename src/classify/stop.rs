//! `retry-pushback-ms`: what a service says of retries itself.

use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::Pushback;

/// The header in which an HTTP service says when it wants to be called again, in milliseconds;
/// below zero is not at all. gRPC has it as `grpc-retry-pushback-ms` (proposal A6); HTTP has no
/// standard for "not at all", which is what a service in the middle of a chain has to say.
pub const PUSHBACK_HEADER: HeaderName = HeaderName::from_static("retry-pushback-ms");

/// Envoy's words for the same: the request was refused since too many are under way, and a retry
/// would be one more.
static OF_ENVOY: [HeaderName; 2] =
    [HeaderName::from_static("x-envoy-overloaded"), HeaderName::from_static("x-envoy-ratelimited")];

/// Asks whoever receives this response not to try again.
///
/// For a service that has called another in vain: its own retries were all that there is to
/// try, and a caller that tries three times more would make nine calls of three, and the caller
/// of that one 27. Finagle marks such answers as not retryable, Kitex stops the chain.
///
/// ```
/// use buttress::classify::{self, Classify, HttpClassifier};
/// use http::Response;
///
/// let mut response = Response::new(buttress::body::Body::empty());
/// *response.status_mut() = http::StatusCode::BAD_GATEWAY;
/// classify::stop_retries(response.headers_mut());
/// let verdict = HttpClassifier::new().response(Default::default(), &response);
/// assert!(!verdict.permits_retry(true));
/// ```
pub fn stop_retries(headers: &mut HeaderMap) {
    headers.insert(PUSHBACK_HEADER, HeaderValue::from_static("-1"));
}

/// What the headers say. What can't be read, and two that differ, stop: a service that says
/// anything at all would rather be left alone (gRPC, A6).
pub(super) fn pushback(headers: &HeaderMap) -> Option<Pushback> {
    if OF_ENVOY.iter().any(|name| headers.contains_key(name)) {
        return Some(Pushback::Never);
    }
    let mut lines = headers.get_all(PUSHBACK_HEADER).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return Some(Pushback::Never);
    }
    // Digits alone: `parse` would take a plus sign, too.
    let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let text = line.to_str().ok().map(str::trim).filter(digits);
    let millis = text.and_then(|text| text.parse().ok());
    Some(millis.map_or(Pushback::Never, |ms| Pushback::After(Duration::from_millis(ms))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&'static str]) -> Option<Pushback> {
        let lines = lines.iter().map(|&line| (PUSHBACK_HEADER, HeaderValue::from_static(line)));
        pushback(&lines.collect())
    }

    #[test]
    fn reads_milliseconds_and_stops_at_anything_else() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["0"]), Some(Pushback::After(Duration::ZERO)));
        assert_eq!(read(&[" 250 "]), Some(Pushback::After(Duration::from_millis(250))));
        for stop in ["-1", "", " ", "+5", "soon", "1.5", "1 2", "99999999999999999999"] {
            assert_eq!(read(&[stop]), Some(Pushback::Never), "{stop:?}");
        }
    }

    #[test]
    fn knows_what_envoy_says() {
        for name in &OF_ENVOY {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("true"));
            assert_eq!(pushback(&headers), Some(Pushback::Never), "{name}");
        }
    }

    #[test]
    fn two_lines_stop() {
        let mut headers = HeaderMap::new();
        headers.append(PUSHBACK_HEADER, HeaderValue::from_static("1"));
        headers.append(PUSHBACK_HEADER, HeaderValue::from_static("2"));
        assert_eq!(pushback(&headers), Some(Pushback::Never));
    }
}
