//! Hexadecimal digits in lower case, for ids on the wire.

/// Writes each byte as two digits. `text` has room for exactly those.
pub(crate) fn write(bytes: &[u8], text: &mut [u8]) {
    debug_assert_eq!(2 * bytes.len(), text.len());
    for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        digits.copy_from_slice(&pair(*byte));
    }
}

/// The digits of each byte: of as many as an id has, which the processor does eight at once.
// Never: inlined, it is one byte after the other.
#[inline(never)]
pub(crate) fn digits<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    bytes.map(pair)
}

/// Both at once, in arithmetic alone: a table would have to be looked up byte by byte.
#[inline(always)]
fn pair(byte: u8) -> [u8; 2] {
    let halves = u16::from(byte >> 4) | u16::from(byte & 0xf) << 8;
    // 1 where a half is more than 9.
    let letters = (halves + 0x0606) >> 4 & 0x0101;
    (halves + 0x3030 + letters * u16::from(b'a' - b'9' - 1)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_as_two_lower_case_digits() {
        for byte in 0..=u8::MAX {
            let mut text = [0; 2];
            write(&[byte], &mut text);
            assert_eq!(std::str::from_utf8(&text), Ok(&*format!("{byte:02x}")));
        }
    }
}
