//! Bytes that can't stand for themselves, as `%` and two digits (RFC 3986, section 2.1).

use std::fmt::Write;

/// The text with every byte escaped that is not `plain`.
pub(crate) fn encode(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes whatever is written");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_stays_and_the_rest_is_two_digits_in_upper_case() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric();
        assert_eq!(encode("a9 \u{e9}%\n", plain), "a9%20%C3%A9%25%0A");
    }
}
