//! Bytes as text: base64 (RFC 4648, section 4), as protocol buffers have it in JSON and gRPC in
//! its metadata.

#[cfg(any(feature = "etcd", test))]
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes as text, with padding.
#[cfg(any(feature = "etcd", test))]
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            let padding = digit > three.len() as u32;
            text.push(if padding { '=' } else { ALPHABET[index as usize].into() });
        }
    }
    text
}

/// The bytes of a text with its padding, if it is one.
#[cfg(any(feature = "etcd", test))]
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() % 4 != 0 {
        return None;
    }
    let padding = digits.iter().rev().take_while(|&&digit| digit == b'=').count();
    if padding > 2 {
        return None;
    }
    let (bytes, rest) = read(&digits[..digits.len() - padding])?;
    // Bits that are left over mean nothing, and are zero.
    (rest == 0).then_some(bytes)
}

/// The bytes of a text, padded or not, as gRPC sends binary metadata.
pub(crate) fn decode_unpadded(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let end = text.iter().position(|&digit| digit == b'=').unwrap_or(text.len());
    read(&text[..end]).map(|(bytes, _)| bytes)
}

/// The bytes of digits without padding, and the bits that are left over.
fn read(digits: &[u8]) -> Option<(Vec<u8>, u32)> {
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xFF) as u8);
        }
    }
    Some((bytes, bits & ((1 << count) - 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_as_in_the_rfc() {
        // RFC 4648, 10.
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
        }
        for bad in ["Z", "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9", "Zm9-"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn padding_may_be_left_out_where_metadata_comes_from() {
        for text in ["Zm9vYg==", "Zm9vYg=", "Zm9vYg", " Zm9vYg "] {
            assert_eq!(decode_unpadded(text.as_bytes()).as_deref(), Some(&b"foob"[..]), "{text}");
        }
        assert_eq!(decode_unpadded(b"Zm 9"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = encode(&bytes);
            prop_assert_eq!(decode_unpadded(text.as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(decode(&text), Some(bytes));
        }

        #[test]
        fn what_is_read_is_written_again(text in "[A-Za-z0-9+/=]{0,12}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
