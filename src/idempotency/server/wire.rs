//! Reads the key from a request's headers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::idempotency::{MAX_KEY, item};

/// The key that a request carries, or none.
///
/// # Errors
///
/// Why what it carries is no key, as the end of a sentence.
pub(super) fn key(
    headers: &HeaderMap,
    name: &HeaderName,
    bare: bool,
) -> Result<Option<String>, &'static str> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    // The draft, section 2.1: "Clients MUST NOT include more than one".
    if lines.next().is_some() {
        return Err("it stands there twice");
    }
    let key = if bare { either(line)? } else { Cow::Owned(item::string(line.as_bytes())?) };
    if key.is_empty() {
        return Err("it is empty");
    }
    if key.len() > MAX_KEY {
        return Err("it is longer than 255 characters");
    }
    Ok(Some(key.into_owned()))
}

/// The quoted form, or the bare one of services that came before the draft: both forms of one
/// text are one key. A comma is none of a bare key's characters: two lines that a proxy joined
/// have one.
fn either(line: &HeaderValue) -> Result<Cow<'_, str>, &'static str> {
    let text = line.as_bytes().trim_ascii();
    if text.first() == Some(&b'"') {
        return item::string(text).map(Cow::Owned);
    }
    if !text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',') {
        return Err("it has a character that no bare key has");
    }
    Ok(Cow::Borrowed(std::str::from_utf8(text).expect("visible ASCII was just asked for")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: HeaderName = HeaderName::from_static("idempotency-key");

    fn read(lines: &[&str], bare: bool) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(NAME, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        key(&headers, &NAME, bare)
    }

    fn found(line: &str, bare: bool) -> Option<String> {
        read(&[line], bare).expect("it is a key")
    }

    #[test]
    fn a_string_of_structured_fields_is_a_key_in_both_ways() {
        for bare in [false, true] {
            assert_eq!(read(&[], bare), Ok(None));
            assert_eq!(found("\"k-1\"", bare).as_deref(), Some("k-1"));
            assert_eq!(found("\"k 1\";a=1", bare).as_deref(), Some("k 1"));
            for wrong in ["", "\"\"", "\"k", "\"k\" x", "\"k\", \"l\"", "ä", "two words", "a,b"] {
                assert!(read(&[wrong], bare).is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn a_bare_key_is_one_only_where_it_is_asked_for() {
        for key in ["k-1", "8e03978e-40d5-43e8-bc93-6894a57f9324", "a\"b", "a;b=c"] {
            assert_eq!(found(key, true).as_deref(), Some(key));
            assert!(read(&[key], false).is_err());
        }
    }

    #[test]
    fn two_lines_are_no_key() {
        for bare in [false, true] {
            assert!(read(&["\"k\"", "\"k\""], bare).is_err());
        }
    }

    #[test]
    fn a_key_has_up_to_255_characters() {
        let long = |length| format!("\"{}\"", "k".repeat(length));
        assert!(found(&long(255), false).is_some());
        assert!(read(&[&long(256)], false).is_err());
        assert!(read(&["k".repeat(256).as_str()], true).is_err());
    }
}
