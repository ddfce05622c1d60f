//! `grpc-retry-pushback-ms` (gRFC A6, "Pushback").

use std::time::Duration;

use ::http::{HeaderMap, HeaderName};

use crate::classify::Pushback;

const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// When the server wants this call again: after as many milliseconds as it says, or not at all
/// if that is negative, or not a number that fits 31 bits, or said twice.
pub(super) fn pushback(headers: &HeaderMap) -> Pushback {
    let mut values = headers.get_all(GRPC_RETRY_PUSHBACK).iter();
    let Some(value) = values.next() else { return Pushback::None };
    if values.next().is_some() {
        return Pushback::Never;
    }
    match millis(value.as_bytes()) {
        Some(millis) => Pushback::After(Duration::from_millis(millis.into())),
        None => Pushback::Never,
    }
}

fn millis(value: &[u8]) -> Option<u32> {
    // Digits alone: `parse` would take a plus sign, too.
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let millis: u32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (millis <= i32::MAX as u32).then_some(millis)
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    fn read(values: &[&'static str]) -> Pushback {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(GRPC_RETRY_PUSHBACK, HeaderValue::from_static(value));
        }
        pushback(&headers)
    }

    #[test]
    fn reads_a_number_that_is_not_negative() {
        assert_eq!(read(&[]), Pushback::None);
        assert_eq!(read(&["0"]), Pushback::After(Duration::ZERO));
        assert_eq!(read(&["1000"]), Pushback::After(Duration::from_secs(1)));
        let longest = Duration::from_millis(0x7fff_ffff);
        assert_eq!(read(&["2147483647"]), Pushback::After(longest));
    }

    #[test]
    fn takes_whatever_else_it_says_as_a_stop() {
        for value in ["", "-1", "-0", "+1", "1.5", " 1", "soon", "2147483648", "99999999999"] {
            assert_eq!(read(&[value]), Pushback::Never, "{value:?}");
        }
        assert_eq!(read(&["1", "1"]), Pushback::Never, "which of the two?");
    }
}
