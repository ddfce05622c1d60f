//! `grpc-timeout` and the deadline header. Each line is one header's value.

use std::time::Duration;

use buttress::timeout::{DeadlineHeader, incoming, wire};
use http::HeaderValue;

const HOUR: Duration = Duration::from_secs(60 * 60);

pub(crate) fn holds(bytes: &[u8]) {
    read_to_the_letter(bytes);
    never_longer_on_the_way(bytes);
    let Some(values) = super::values(bytes) else { return };
    for (header, parse) in
        [(DeadlineHeader::grpc(), parse_grpc as Parse), (DeadlineHeader::default(), parse_millis)]
    {
        let headers = super::headers(header.name(), &values);
        let expected = match &values[..] {
            [one] => parse(one.as_bytes()),
            _ => None,
        };
        assert_eq!(incoming(&headers, &header), expected, "{headers:?}");
    }
}

type Parse = fn(&[u8]) -> Option<Duration>;
type Encode = fn(Duration) -> Option<HeaderValue>;

fn read_to_the_letter(bytes: &[u8]) {
    assert_eq!(wire::parse_grpc(bytes), parse_grpc(bytes));
    assert_eq!(wire::parse_millis(bytes), parse_millis(bytes));
}

/// By the standard library's parser, whose one liberty, a plus sign, is taken back.
pub(super) fn parse_grpc(bytes: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(bytes).ok()?;
    let unit = text.chars().last()?;
    let count = number(&text[..text.len() - unit.len_utf8()], 8)?;
    Some(match unit {
        'H' => HOUR * u32::try_from(count).ok()?,
        'M' => HOUR / 60 * u32::try_from(count).ok()?,
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

pub(super) fn parse_millis(bytes: &[u8]) -> Option<Duration> {
    number(std::str::from_utf8(bytes).ok()?, 10).map(Duration::from_millis)
}

fn number(text: &str, most: usize) -> Option<u64> {
    let number = text.parse().ok()?;
    (text.len() <= most && !text.starts_with('+') && number > 0).then_some(number)
}

/// What a hop writes is at most what it had, and what the next one writes loses nothing more.
fn never_longer_on_the_way(bytes: &[u8]) {
    let Some((head, _)) = bytes.split_first_chunk::<12>() else { return };
    let (seconds, nanos) = head.split_at(8);
    let seconds = u64::from_le_bytes(seconds.try_into().expect("8 of 12"));
    let nanos = u32::from_le_bytes(nanos.try_into().expect("4 of 12"));
    let left = Duration::new(seconds, nanos % 1_000_000_000);
    for (encode, parse, grain) in [
        (wire::encode_grpc as Encode, wire::parse_grpc as Parse, Duration::from_nanos(1)),
        (wire::encode_millis, wire::parse_millis, Duration::from_millis(1)),
    ] {
        let Some(written) = encode(left) else {
            assert!(left < grain, "{left:?} can be said");
            continue;
        };
        let read = parse(written.as_bytes()).expect("what we write we read");
        assert!(read <= left, "{read:?} of {left:?}");
        assert_eq!(encode(read).and_then(|again| parse(again.as_bytes())), Some(read));
    }
}
