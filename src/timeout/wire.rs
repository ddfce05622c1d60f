//! How a span of time is written into a header: pure codecs, without clock and headers.
//!
//! Both forms are relative: an instant would need two machines whose clocks agree. Both round
//! down, so that who is called never has more time than who calls, and both are read to the
//! letter: what is not of the form is no deadline, and never one that is guessed.
//!
//! ```
//! use std::time::Duration;
//! use buttress::timeout::wire;
//!
//! let left = Duration::from_micros(1_234_567);
//! assert_eq!(wire::encode_grpc(left).ok_or("below a nanosecond")?, "1234567u");
//! assert_eq!(wire::encode_millis(left).ok_or("below a millisecond")?, "1234");
//! assert_eq!(wire::parse_grpc(b"1234567u"), Some(left));
//! assert_eq!(wire::parse_millis(b"1.2s"), None);
//! # Ok::<(), &str>(())
//! ```

use std::time::Duration;

use http::HeaderValue;

/// gRPC over HTTP/2, `Timeout`: "positive integer as ASCII string of at most 8 digits".
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
const GRPC_DIGITS: usize = 8;
const GRPC_MOST: u128 = 99_999_999;

/// The units of `grpc-timeout` and their nanoseconds, the finest first.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// As the Connect protocol has it for its `Connect-Timeout-Ms`: "positive integer as ASCII
/// string of at most 10 digits", which is 115 days.
const MILLIS_DIGITS: usize = 10;
const MILLIS_MOST: u128 = 9_999_999_999;

/// `left` as a `grpc-timeout`: in the finest unit that fits 8 digits, rounded down. What is
/// longer than the longest (11 415 years) is that. `None` for nothing, which the form can't say.
#[must_use]
pub fn encode_grpc(left: Duration) -> Option<HeaderValue> {
    let nanos = left.as_nanos();
    let coarsest = UNITS[UNITS.len() - 1];
    let (unit, size) =
        UNITS.into_iter().find(|(_, size)| nanos / size <= GRPC_MOST).unwrap_or(coarsest);
    text((nanos / size).min(GRPC_MOST), Some(unit))
}

/// Reads a `grpc-timeout`: 1 to 8 digits that are not all zero, and one of `H M S m u n`.
#[must_use]
pub fn parse_grpc(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    let count = number(digits, GRPC_DIGITS)?;
    Some(match unit {
        b'n' => Duration::from_nanos(count),
        b'u' => Duration::from_micros(count),
        b'm' => Duration::from_millis(count),
        b'S' => Duration::from_secs(count),
        b'M' => Duration::from_secs(count * 60),
        b'H' => Duration::from_secs(count * 3600),
        _ => return None,
    })
}

/// `left` in milliseconds, rounded down, and no more than 10 digits of them. `None` for less
/// than one: a zero means "none left" to some services and "no limit" to others (Envoy).
#[must_use]
pub fn encode_millis(left: Duration) -> Option<HeaderValue> {
    text(left.as_millis().min(MILLIS_MOST), None)
}

/// Reads milliseconds: 1 to 10 digits that are not all zero.
#[must_use]
pub fn parse_millis(value: &[u8]) -> Option<Duration> {
    number(value, MILLIS_DIGITS).map(Duration::from_millis)
}

/// A positive number of at most `most` digits, and nothing else: no sign, no space.
fn number(digits: &[u8], most: usize) -> Option<u64> {
    if digits.len() > most || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    (number > 0).then_some(number)
}

/// The digits of a positive number and its unit. By hand, since `HeaderValue::from(u64)`
/// allocates twice, and a `String` once more than this.
fn text(mut number: u128, unit: Option<u8>) -> Option<HeaderValue> {
    if number == 0 {
        return None;
    }
    let mut text = [0; MILLIS_DIGITS + 1];
    let mut start = text.len();
    if let Some(unit) = unit {
        start -= 1;
        text[start] = unit;
    }
    while number > 0 {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    Some(HeaderValue::from_bytes(&text[start..]).expect("digits and a letter may be sent"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grpc(left: Duration) -> String {
        encode_grpc(left).expect("something").to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn grpc_takes_the_finest_unit_that_fits_eight_digits_and_rounds_down() {
        for (left, text) in [
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(1), "1000000u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_micros(100_000_999), "100000m"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_millis(100_000_999), "100000S"),
            (Duration::from_secs(99_999_999), "99999999S"),
            (Duration::from_secs(100_000_019), "1666666M"),
            (Duration::from_secs(60 * 99_999_999 + 59), "99999999M"),
            (Duration::from_secs(60 * 100_000_000), "1666666H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(grpc(left), text, "{left:?}");
        }
        assert_eq!(encode_grpc(Duration::ZERO), None);
    }

    #[test]
    fn grpc_is_read_to_the_letter() {
        for (text, left) in [
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("300m", Duration::from_millis(300)),
            ("00000300S", Duration::from_secs(300)),
            ("5M", Duration::from_secs(300)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_grpc(text.as_bytes()), Some(left), "{text}");
        }
        let wrong = ["", "S", "1", "0S", "00000000H", "000000300S", "-1S", "+1S", "1.5S", "1 S"];
        for wrong in wrong.into_iter().chain(["1s", "1h", "1U", " 1S", "1S ", "1ms", "S1", "1S1S"])
        {
            assert_eq!(parse_grpc(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn milliseconds_round_down_and_stop_at_ten_digits() {
        let text = |left| encode_millis(left);
        assert_eq!(text(Duration::from_micros(1999)).expect("one"), "1");
        assert_eq!(text(Duration::MAX).expect("most"), "9999999999");
        assert_eq!(text(Duration::from_micros(999)), None);
        assert_eq!(parse_millis(b"9999999999"), Some(Duration::from_millis(9_999_999_999)));
        assert_eq!(parse_millis(b"0250"), Some(Duration::from_millis(250)));
        for wrong in ["", "0", "000", "-1", "+1", " 1", "1 ", "1.5", "1m", "12345678901", "1,2"] {
            assert_eq!(parse_millis(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_a_parser_panic(value: Vec<u8>) {
            let _ = (parse_grpc(&value), parse_millis(&value));
        }

        #[test]
        fn what_is_nearly_right_is_right_or_refused(value in "[0-9]{0,12}[HMSmunx ]?") {
            let bytes = value.as_bytes();
            if let Some(left) = parse_grpc(bytes) {
                prop_assert!(!left.is_zero() && (2..=9).contains(&bytes.len()));
            }
            if let Some(left) = parse_millis(bytes) {
                prop_assert!(!left.is_zero() && (1..=10).contains(&bytes.len()));
            }
        }

        #[test]
        fn no_deadline_grows_on_its_way(secs: u64, nanos in 0..1_000_000_000_u32, shift in 0..64) {
            let left = Duration::new(secs >> shift, nanos);
            if let Some(sent) = encode_grpc(left) {
                let read = parse_grpc(sent.as_bytes()).expect("what we write we read");
                prop_assert!(read <= left);
                if left.as_secs() < 60 * 99_999_999 {
                    // Six digits are left of a number that did not fit eight.
                    prop_assert!((left - read).as_nanos() <= left.as_nanos() / 100_000);
                }
                let again = encode_grpc(read).expect("it is not zero");
                let again = parse_grpc(again.as_bytes());
                prop_assert_eq!(again, Some(read), "a second hop loses nothing more");
            }
            if let Some(sent) = encode_millis(left) {
                prop_assert!(parse_millis(sent.as_bytes()).expect("as above") <= left);
            }
        }
    }
}
