//! `traceparent` and `tracestate`.
//!
//! The first line is the `traceparent`, or several with `\r` between them, which no header can
//! hold; each further line is a `tracestate`.

use buttress::{
    call::TraceParent,
    trace::{extract, inject},
};
use http::{HeaderMap, HeaderName, HeaderValue};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

pub(crate) fn holds(bytes: &[u8]) {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let parents = first.split(|&byte| byte == b'\r').map(HeaderValue::from_bytes);
    let Ok(parents) = parents.collect::<Result<Vec<_>, _>>() else { return };
    let Ok(states) = lines.map(HeaderValue::from_bytes).collect::<Result<Vec<_>, _>>() else {
        return;
    };

    let mut headers = super::headers(&TRACEPARENT, &parents);
    headers.extend(super::headers(&TRACESTATE, &states));
    let read = extract(&headers);

    // Field by field, by splitting instead of by position.
    let expected = match &parents[..] {
        [one] => parent(one.as_bytes()),
        _ => None,
    };
    let ids = |parent: &TraceParent| (parent.trace_id, parent.span_id, parent.flags);
    assert_eq!(read.as_ref().map(ids), expected, "{headers:?}");

    let Some(read) = read else { return };
    let sent_on: Option<Vec<_>> = read.state.as_ref().map(|state| members(state).collect());
    assert_eq!(sent_on, state(&states), "{headers:?}");
    if let Some(state) = &read.state {
        let text = state.to_str().expect("printable ASCII");
        assert!(text.split(',').all(|member| !trim(member.as_bytes()).is_empty()), "{text:?}");
    }

    // Beside what was there: it takes the place of all of it.
    let mut written = headers;
    inject(&read, &mut written);
    let line = written.get(&TRACEPARENT).expect("it was just written");
    assert_eq!(parent(line.as_bytes()), Some(ids(&read)));
    assert!(line.as_bytes().starts_with(b"00-") && line.len() == 55);
    assert_eq!(count(&written, &TRACESTATE), usize::from(read.state.is_some()));
    assert_eq!(extract(&written), Some(read));
}

fn count(headers: &HeaderMap, name: &HeaderName) -> usize {
    headers.get_all(name).iter().count()
}

/// W3C Trace Context, level 2, section 3.2.
fn parent(line: &[u8]) -> Option<(u128, u64, u8)> {
    // What a later version adds may be of any bytes.
    let text = String::from_utf8_lossy(trim(line));
    let mut fields = text.splitn(5, '-');
    let version = hex(fields.next()?, 2)?;
    let (trace, span, flags) =
        (hex(fields.next()?, 32)?, hex(fields.next()?, 16)?, hex(fields.next()?, 2)?);
    let more = fields.next().is_some();
    let valid = version != 0xff && !(version == 0 && more) && trace != 0 && span != 0;
    valid.then_some((trace, span as u64, flags as u8 & 0b11))
}

fn hex(digits: &str, length: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let valid = digits.len() == length && digits.bytes().all(lower);
    valid.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

/// Section 3.3: the members that go on, or none.
fn state(lines: &[HeaderValue]) -> Option<Vec<&[u8]>> {
    let all: Vec<_> = lines.iter().flat_map(members).collect();
    let valid = (1..=32).contains(&all.len()) && all.iter().all(|member| is_member(member));
    valid.then_some(all)
}

fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let members = line.as_bytes().split(|&byte| byte == b',');
    members.map(trim).filter(|member| !member.is_empty())
}

fn is_member(member: &[u8]) -> bool {
    let Some((key, value)) = std::str::from_utf8(member).ok().and_then(|text| text.split_once('='))
    else {
        return false;
    };
    let begins = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    let key = key.strip_prefix(begins).is_some_and(|rest| {
        rest.len() < 256 && rest.chars().all(|it| begins(it) || "_-*/@".contains(it))
    });
    let printable = |it: char| (' '..='~').contains(&it) && it != '=';
    let value =
        (1..=256).contains(&value.len()) && value.chars().all(printable) && !value.ends_with(' ');
    key && value
}

fn trim(text: &[u8]) -> &[u8] {
    let white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = text.iter().position(|byte| !white(byte)) else { return b"" };
    let end = text.iter().rposition(|byte| !white(byte)).unwrap_or(start);
    &text[start..=end]
}
