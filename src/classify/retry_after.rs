//! `Retry-After` (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use ::http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};

/// How long the service asks us to wait: delay-seconds or an HTTP-date, which is compared with
/// the response's own `Date` where there is one, since the two clocks may differ. What can't be
/// read is ignored; a date that has passed is no wait.
pub(crate) fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean "practically never"; the caller caps it.
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let now = headers
        .get(DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| httpdate::parse_http_date(date.trim()).ok())
        .unwrap_or(wall);
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    fn read(value: &'static str, date: Option<&'static str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        let wall = httpdate::parse_http_date("Mon, 23 Nov 2026 10:00:00 GMT").ok()?;
        retry_after(&headers, wall)
    }

    #[test]
    fn reads_seconds_and_dates() {
        assert_eq!(read("0", None), Some(Duration::ZERO));
        assert_eq!(read("120", None), Some(Duration::from_secs(120)));
        assert_eq!(read("99999999999999999999999", None), Some(Duration::MAX));
        assert_eq!(read("Mon, 23 Nov 2026 10:00:07 GMT", None), Some(Duration::from_secs(7)));
        assert_eq!(read("Mon, 23 Nov 2026 09:00:00 GMT", None), Some(Duration::ZERO));
    }

    #[test]
    fn measures_a_date_by_the_clock_of_the_service() {
        let hour_ahead = Some("Mon, 23 Nov 2026 11:00:00 GMT");
        assert_eq!(read("Mon, 23 Nov 2026 11:00:05 GMT", hour_ahead), Some(Duration::from_secs(5)));
    }

    #[test]
    fn ignores_what_it_cannot_read() {
        for text in ["", "-1", "1.5", "soon", "+3", "0x10"] {
            assert_eq!(read(text, None), None, "{text:?}");
        }
    }
}
