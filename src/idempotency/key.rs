//! How a key is written on the wire.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;

use super::{config::Quoting, error::InvalidKey, uuid};
use crate::entropy::Entropy;

/// The longest key. Stripe stores 255 characters, and others follow it; what a service cuts
/// off would make two calls one.
pub const MAX_KEY: usize = 255;

/// A new UUID as a header's value.
///
/// Its one allocation holds text and reference count together (`Bytes::from_owner`), so the
/// copies of the headers that attempts carry share it. A value made from a slice would
/// allocate once more when it is first copied.
pub(super) fn minted(entropy: &Entropy, now: Instant, quoting: Quoting) -> HeaderValue {
    let text = Bytes::from_owner(quoted(entropy, now));
    let value = match quoting {
        Quoting::Quoted => HeaderValue::from_maybe_shared(text),
        Quoting::Bare => HeaderValue::from_maybe_shared(text.slice(1..=uuid::TEXT)),
    };
    value.expect("hex digits, dashes and quotes are visible ASCII")
}

// Never: written as a whole, and then moved to where it stays as one.
#[inline(never)]
fn quoted(entropy: &Entropy, now: Instant) -> [u8; uuid::TEXT + 2] {
    let mut text = [b'"'; uuid::TEXT + 2];
    text[1..=uuid::TEXT].copy_from_slice(&uuid::new(entropy, now));
    text
}

/// A key as a header's value.
///
/// One alphabet for both forms, so that changing the form can't make a good key a bad one:
/// structured-field strings (RFC 9651, section 3.3.3) would also hold spaces, but at the ends
/// of a bare value HTTP takes them away.
pub(super) fn wire(key: &str, quoting: Quoting) -> Result<HeaderValue, InvalidKey> {
    if key.is_empty() {
        return Err(InvalidKey::new("it is empty"));
    }
    if key.len() > MAX_KEY {
        return Err(InvalidKey::new("it is longer than 255 characters"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidKey::new("it has a character that is not visible ASCII"));
    }
    let unprintable = "visible ASCII was just asked for, and HTTP allows it";
    match quoting {
        Quoting::Bare => Ok(HeaderValue::from_str(key).expect(unprintable)),
        Quoting::Quoted => {
            // Every character may need its backslash.
            let mut text = [0; 2 * MAX_KEY + 2];
            let length = quote(key, &mut text);
            Ok(HeaderValue::from_bytes(&text[..length]).expect(unprintable))
        }
    }
}

/// RFC 9651, section 4.1.6.
fn quote(key: &str, text: &mut [u8; 2 * MAX_KEY + 2]) -> usize {
    let mut length = 0;
    let mut push = |byte| {
        text[length] = byte;
        length += 1;
    };
    push(b'"');
    for byte in key.bytes() {
        if matches!(byte, b'"' | b'\\') {
            push(b'\\');
        }
        push(byte);
    }
    push(b'"');
    length
}

/// Whether a caller's own value holds a key. An empty one deduplicates nothing: to repeat a
/// call under it would be to make it twice.
pub(super) fn holds_key(value: &HeaderValue) -> bool {
    !matches!(value.as_bytes().trim_ascii(), b"" | b"\"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(key: &str, quoting: Quoting) -> Result<String, InvalidKey> {
        let value = wire(key, quoting)?;
        Ok(value.to_str().expect("it is ASCII").to_owned())
    }

    #[test]
    fn quotes_and_escapes_as_structured_fields_do() {
        assert_eq!(written("k-1", Quoting::Quoted).as_deref(), Ok(r#""k-1""#));
        assert_eq!(written(r#"a"b\c"#, Quoting::Quoted).as_deref(), Ok(r#""a\"b\\c""#));
        assert_eq!(written(r#"a"b\c"#, Quoting::Bare).as_deref(), Ok(r#"a"b\c"#));
    }

    #[test]
    fn the_longest_key_fits_with_every_character_escaped() {
        let key = "\\".repeat(MAX_KEY);
        let text = written(&key, Quoting::Quoted).expect("it fits");
        assert_eq!(text.len(), 2 * MAX_KEY + 2);
        assert_eq!(text, format!("\"{}\"", "\\\\".repeat(MAX_KEY)));
    }

    #[test]
    fn refuses_what_cannot_stand_in_a_header() {
        let long = "k".repeat(MAX_KEY + 1);
        for key in ["", " ", "a b", "a\n", "a\r\nX-Evil: 1", "a\0", "a\x7f", "schlüssel", &long] {
            for quoting in [Quoting::Quoted, Quoting::Bare] {
                assert!(wire(key, quoting).is_err(), "{key:?}");
            }
        }
    }

    #[test]
    fn a_minted_key_is_a_uuid_in_either_form() {
        let (a, b, now) = (Entropy::seeded(1), Entropy::seeded(1), crate::time::now());
        let quoted = minted(&a, now, Quoting::Quoted);
        let bare = minted(&b, now, Quoting::Bare);
        let bare = bare.to_str().expect("it is ASCII");
        assert_eq!(bare.len(), uuid::TEXT);
        assert_eq!(quoted, format!("\"{bare}\""));
    }

    #[test]
    fn an_empty_value_is_no_key() {
        for empty in ["", "\"\"", "  ", " \"\" "] {
            assert!(!holds_key(&HeaderValue::from_static(empty)), "{empty:?}");
        }
        assert!(holds_key(&HeaderValue::from_static("\"k\"")));
        assert!(holds_key(&HeaderValue::from_static("k")));
    }
}
