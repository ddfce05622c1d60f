//! `traceparent` and `tracestate` (W3C Trace Context, level 2), read and written to the letter.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};

use crate::{algo::hex, call::TraceParent};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flags that level 2 knows: sampled, and random trace id. All others are zero on output.
const KNOWN_FLAGS: u8 = 0b11;

/// The length of a version 00 `traceparent`, and the least length of a later version.
const LENGTH: usize = 55;
/// More list members make a `tracestate` invalid.
const MAX_MEMBERS: usize = 32;
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 256;

/// Reads the trace that a request to this program belongs to.
///
/// `None` if there is none, or if `traceparent` is invalid or occurs twice: then a new trace
/// begins, and `tracestate` is dropped with it. An invalid `tracestate` is dropped as a whole,
/// and the trace is continued without.
///
/// ```
/// use buttress::trace;
///
/// let request = http::Request::get("/")
///     .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
///     .body(())?;
/// let parent = trace::extract(request.headers()).expect("it is valid");
/// assert_eq!(parent.trace_id, 0x4bf92f3577b34da6a3ce929d0e0e4736);
/// # Ok::<(), http::Error>(())
/// ```
#[must_use]
pub fn extract(headers: &HeaderMap) -> Option<TraceParent> {
    let mut lines = headers.get_all(&TRACEPARENT).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    let mut parent = read_parent(line.as_bytes())?;
    parent.state = read_state(headers);
    Some(parent)
}

/// Writes the trace into the headers of a request, in the place of any that is there.
///
/// The span id of `parent` is the one that the receiver will see as its parent. A context with
/// an id of zero, which the standard forbids, is not written.
pub fn inject(parent: &TraceParent, headers: &mut HeaderMap) {
    let TraceParent { trace_id, span_id, flags, state } = parent;
    put((*trace_id, *span_id, *flags), state.as_ref(), headers);
}

/// [`inject`], in parts.
// Always: on the way of every call that belongs to a trace.
#[inline(always)]
pub(super) fn put(
    (trace_id, span_id, flags): (u128, u64, u8),
    state: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) {
    if trace_id == 0 || span_id == 0 {
        return;
    }
    let text = Bytes::from(written(trace_id, span_id, flags));
    // Hashed in between: what has just been written by pieces can't be read as a whole yet.
    let entry = headers.entry(TRACEPARENT);
    let value =
        HeaderValue::from_maybe_shared(text).expect("hexadecimal digits and dashes are visible");
    match entry {
        Entry::Vacant(entry) => {
            entry.insert(value);
        }
        Entry::Occupied(mut entry) => {
            entry.insert(value);
        }
    }
    // The state of another trace must not travel with this one.
    match state {
        Some(state) => drop(headers.insert(&TRACESTATE, state.clone())),
        None if holds(headers, &TRACESTATE) => drop(headers.remove(&TRACESTATE)),
        None => {}
    }
}

/// Whether a header is there. Few are compared, which is quicker than to hash the name.
fn holds(headers: &HeaderMap, name: &HeaderName) -> bool {
    const FEW: usize = 8;
    if headers.keys().len() > FEW {
        return headers.contains_key(name);
    }
    headers.keys().any(|own| own == name)
}

/// Written where it stays: what is made first and moved there costs half as much again.
fn written(trace_id: u128, span_id: u64, flags: u8) -> Box<[u8]> {
    let mut text: Box<[u8; LENGTH]> =
        Box::new(*b"00-................................-................-00");
    text[3..35].copy_from_slice(hex::digits(trace_id.to_be_bytes()).as_flattened());
    text[36..52].copy_from_slice(hex::digits(span_id.to_be_bytes()).as_flattened());
    hex::write(&[flags & KNOWN_FLAGS], &mut text[53..]);
    text
}

/// Section 3.2. A later version is read as far as this one goes, and continued as this one.
fn read_parent(line: &[u8]) -> Option<TraceParent> {
    let (text, rest) = trimmed(line).split_at_checked(LENGTH)?;
    if [2, 35, 52].iter().any(|&at| text[at] != b'-') {
        return None;
    }
    match read_hex(&text[..2])? {
        0xff => return None,
        0 if !rest.is_empty() => return None,
        _ if rest.first().is_some_and(|&byte| byte != b'-') => return None,
        _ => {}
    }
    let trace_id = read_hex(&text[3..35])?;
    let span_id = u64::try_from(read_hex(&text[36..52])?).ok()?;
    let flags = u8::try_from(read_hex(&text[53..])?).ok()?;
    TraceParent::new(trace_id, span_id, flags & KNOWN_FLAGS)
}

/// Lower case only, as the standard has it. At most 32 digits.
fn read_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Section 3.3: all lines as one list, in their order. `None` if nothing valid is in them; one
/// bad member makes the whole list invalid.
fn read_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = || headers.get_all(&TRACESTATE).iter().map(HeaderValue::as_bytes);
    let members = || lines().flat_map(members);
    let count = members().count();
    if count == 0 || count > MAX_MEMBERS || !members().all(is_member) {
        return None;
    }
    let first = headers.get(&TRACESTATE)?;
    if lines().count() == 1 && is_tidy(first.as_bytes()) {
        return Some(first.clone());
    }
    let mut joined = Vec::with_capacity(lines().map(|line| line.len() + 1).sum());
    for member in members() {
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(member);
    }
    HeaderValue::from_maybe_shared(Bytes::from(joined)).ok()
}

/// The members of one line. Empty ones are allowed, mean nothing, and are not sent on.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(trimmed).filter(|member| !member.is_empty())
}

/// Nothing is in the line that must not be sent on.
fn is_tidy(line: &[u8]) -> bool {
    trimmed(line).len() == line.len()
        && line.split(|&byte| byte == b',').all(|member| !trimmed(member).is_empty())
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|&byte| byte == b'=') else { return false };
    is_key(&member[..at]) && is_value(&member[at + 1..])
}

/// The grammar of 2026: the older `tenant@system` form is one of many.
fn is_key(key: &[u8]) -> bool {
    let head = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= MAX_KEY
        && key.first().is_some_and(head)
        && key.iter().all(|byte| head(byte) || b"_-*/@".contains(byte))
}

/// Printable, without comma and equals sign; no space at the end, which trimming saw to.
fn is_value(value: &[u8]) -> bool {
    (1..=MAX_VALUE).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && !b",=".contains(byte))
}

/// Without optional white space around it.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "12345678901234567890123456789012";
    const SPAN: &str = "1234567890123456";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|&(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    fn parent(lines: &[&str]) -> Option<TraceParent> {
        let lines: Vec<_> = lines.iter().map(|&line| ("traceparent", line)).collect();
        extract(&headers(&lines))
    }

    /// The state that is passed on, given these `tracestate` lines.
    fn state(lines: &[&str]) -> Option<String> {
        let valid = format!("00-{TRACE}-{SPAN}-01");
        let mut all = vec![("traceparent", valid.as_str())];
        all.extend(lines.iter().map(|&line| ("tracestate", line)));
        let parent = extract(&headers(&all)).expect("tracestate never spoils traceparent");
        parent.state.map(|state| state.to_str().expect("it is ASCII").to_owned())
    }

    #[test]
    fn reads_a_valid_traceparent() {
        // (line, flags)
        let table = [
            (format!("00-{TRACE}-{SPAN}-00"), 0),
            (format!("00-{TRACE}-{SPAN}-01"), 1),
            (format!("00-{TRACE}-{SPAN}-02"), 2),
            (format!("00-{TRACE}-{SPAN}-03"), 3),
            // Flags that nobody knows yet are zero on output.
            (format!("00-{TRACE}-{SPAN}-ff"), 3),
            (format!("00-{TRACE}-{SPAN}-f8"), 0),
            // White space around it.
            (format!(" 00-{TRACE}-{SPAN}-01"), 1),
            (format!("\t00-{TRACE}-{SPAN}-01"), 1),
            (format!("00-{TRACE}-{SPAN}-01 \t "), 1),
            // Later versions.
            (format!("01-{TRACE}-{SPAN}-01"), 1),
            (format!("cc-{TRACE}-{SPAN}-01"), 1),
            (format!("cc-{TRACE}-{SPAN}-01-"), 1),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), 1),
            (format!("fe-{TRACE}-{SPAN}-ff"), 3),
        ];
        for (line, flags) in table {
            let parent = parent(&[&line]).unwrap_or_else(|| panic!("{line:?} is valid"));
            assert_eq!(parent.trace_id, 0x1234_5678_9012_3456_7890_1234_5678_9012, "{line:?}");
            assert_eq!(parent.span_id, 0x1234_5678_9012_3456, "{line:?}");
            assert_eq!(parent.flags, flags, "{line:?}");
        }
    }

    #[test]
    fn refuses_an_invalid_traceparent() {
        let zero_trace = format!("00-{}-{SPAN}-01", "0".repeat(32));
        let zero_span = format!("00-{TRACE}-{}-01", "0".repeat(16));
        let table = [
            String::new(),
            "00".into(),
            "not a traceparent".into(),
            zero_trace,
            zero_span,
            // Version.
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("FF-{TRACE}-{SPAN}-01"),
            format!(".0-{TRACE}-{SPAN}-01"),
            format!("0.-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("000-{TRACE}-{SPAN}-01"),
            format!("CC-{TRACE}-{SPAN}-01"),
            // Too long for version 00; what follows a later version starts with a dash.
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-extra"),
            format!("00-{TRACE}-{SPAN}-01."),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like"),
            format!("cc-{TRACE}-{SPAN}-010"),
            // Too short.
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{}-01", &SPAN[1..]),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}0-01"),
            // Digits.
            format!("00-{}A-{SPAN}-01", &TRACE[1..]),
            format!("00-{}.-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{}F-01", &SPAN[1..]),
            format!("00-{TRACE}-{}+-01", &SPAN[1..]),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-.1"),
            format!("00-{TRACE}-{SPAN}-1 "),
            // Dashes.
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}_01"),
            // Two in one line.
            format!("00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01"),
        ];
        for line in table {
            assert_eq!(parent(&[&line]), None, "{line:?}");
        }
    }

    #[test]
    fn refuses_several_traceparents_even_if_they_agree() {
        let line = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(parent(&[&line, &line]), None);
        assert_eq!(parent(&[&line, "rubbish"]), None);
    }

    #[test]
    fn drops_the_state_of_an_invalid_traceparent() {
        assert_eq!(extract(&headers(&[("tracestate", "a=1")])), None);
        assert_eq!(extract(&headers(&[("traceparent", "00-"), ("tracestate", "a=1")])), None);
    }

    #[test]
    fn passes_on_a_valid_tracestate() {
        let key = "k".repeat(256);
        let value = "v".repeat(256);
        let long = format!("{key}={value}");
        let full = (0..32).map(|n| format!("m{n}=1")).collect::<Vec<_>>().join(",");
        let table: &[(&[&str], &str)] = &[
            (&["foo=1"], "foo=1"),
            (&["foo=1,bar=2"], "foo=1,bar=2"),
            (&["foo=1, bar=2"], "foo=1, bar=2"),
            // Lines are combined in order; nothing empty is sent on.
            (&["foo=1", "bar=2"], "foo=1,bar=2"),
            (&["bar=2", "", "foo=1,"], "bar=2,foo=1"),
            (&["a=1,,b=2"], "a=1,b=2"),
            (&[" \ta=1 \t, b=2\t"], "a=1,b=2"),
            (&[",a=1"], "a=1"),
            // Level 2 keys.
            (&["0=1"], "0=1"),
            (&["foo@bar=1"], "foo@bar=1"),
            (&["foo@@bar=1"], "foo@@bar=1"),
            (&["foo@=1"], "foo@=1"),
            (&["a-_*/@z=1"], "a-_*/@z=1"),
            // Values.
            (&["foo= 1"], "foo= 1"),
            (&["foo=a b;c:d\"~!"], "foo=a b;c:d\"~!"),
            // Limits.
            (&[&long], &long),
            (&[&full], &full),
            // Twice the same key is not ours to judge.
            (&["foo=1,foo=2"], "foo=1,foo=2"),
        ];
        for (lines, expected) in table {
            assert_eq!(state(lines).as_deref(), Some(*expected), "{lines:?}");
        }
    }

    #[test]
    fn drops_an_invalid_tracestate_as_a_whole() {
        let key = "k".repeat(257);
        let value = "v".repeat(257);
        let (long_key, long_value) = (format!("{key}=1"), format!("foo={value}"));
        let many = (0..33).map(|n| format!("m{n}=1")).collect::<Vec<_>>().join(",");
        let half = (0..17).map(|n| format!("m{n}=1")).collect::<Vec<_>>().join(",");
        let table: &[&[&str]] = &[
            &[""],
            &[",, ,"],
            &["foo"],
            &["foo="],
            &["foo= "],
            &["=1"],
            &["foo=,bar=3"],
            &["foo=1", "bar="],
            &["foo =1"],
            &["FOO=1"],
            &["fooA=1"],
            &["@foo=1"],
            &["-foo=1"],
            &["foo.bar=1"],
            &["foo=1=2"],
            &["foo=b\tr"],
            &["foo=bär"],
            &["foo=1;bar=2,baz"],
            &[&long_key],
            &[&long_value],
            &[&many],
            &[&half, &half],
        ];
        for lines in table {
            assert_eq!(state(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn writes_what_it_knows_and_replaces_what_was_there() {
        let mut all = headers(&[
            ("traceparent", "rubbish"),
            ("traceparent", "more of it"),
            ("tracestate", "other=1"),
        ]);
        let parent = TraceParent::new(0xabc, 0xdef, 0xff).expect("no id is zero");
        inject(&parent, &mut all);
        let line = "00-00000000000000000000000000000abc-0000000000000def-03";
        assert_eq!(all, headers(&[("traceparent", line)]));
        inject(&parent.with_state(HeaderValue::from_static("a=1")), &mut all);
        assert_eq!(all, headers(&[("traceparent", line), ("tracestate", "a=1")]));
    }

    #[test]
    fn the_state_of_another_trace_goes_however_many_headers_there_are() {
        let parent = TraceParent::new(1, 1, 0).expect("no id is zero");
        for count in 0..20 {
            let mut all = HeaderMap::new();
            for index in 0..count {
                let name: HeaderName = format!("x-{index}").parse().expect("a name");
                all.insert(name, HeaderValue::from_static("1"));
            }
            all.insert(&TRACESTATE, HeaderValue::from_static("other=1"));
            inject(&parent, &mut all);
            assert_eq!((all.contains_key(&TRACESTATE), all.len()), (false, count + 1));
        }
    }

    #[test]
    fn never_writes_an_id_of_zero() {
        let mut parent = TraceParent::new(1, 1, 0).expect("no id is zero");
        parent.span_id = 0;
        let mut all = HeaderMap::new();
        inject(&parent, &mut all);
        assert!(all.is_empty());
    }

    /// Almost a header: what is worth parsing.
    fn almost() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![
            Just(b'-'),
            Just(b','),
            Just(b'='),
            Just(b' '),
            Just(b'0'),
            Just(b'a'),
            any::<u8>()
        ];
        prop_oneof![
            prop::collection::vec(bytes, 0..80),
            "[0-9a-f]{2}-[0-9a-fA]{32}-[0-9a-f]{16}-[0-9a-f]{2}.?".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_what_is_read_is_written_the_same(
            parents in prop::collection::vec(almost(), 0..3),
            states in prop::collection::vec(almost(), 0..3),
        ) {
            let mut all = HeaderMap::new();
            for (name, lines) in [(&TRACEPARENT, parents), (&TRACESTATE, states)] {
                for line in lines {
                    if let Ok(value) = HeaderValue::from_bytes(&line) {
                        all.append(name.clone(), value);
                    }
                }
            }
            if let Some(parent) = extract(&all) {
                inject(&parent, &mut all);
                prop_assert_eq!(extract(&all), Some(parent));
            }
        }

        #[test]
        fn what_is_written_is_read(
            trace_id in 1_u128..,
            span_id in 1_u64..,
            flags in 0_u8..4,
            state in prop::option::of("[a-z0-9][a-z0-9_*/@-]{0,20}=[ -+.-<>-~]{0,20}[!-+.-<>-~]"),
        ) {
            let mut parent = TraceParent::new(trace_id, span_id, flags).expect("no id is zero");
            parent.state = state.map(|state| state.parse().expect("a header value"));
            let mut all = HeaderMap::new();
            inject(&parent, &mut all);
            prop_assert_eq!(extract(&all), Some(parent));
        }
    }
}
