//! Hexadecimal digits in lower case, for ids on the wire.

/// Writes each byte as two digits. `text` has room for exactly those.
pub(crate) fn write(bytes: &[u8], text: &mut [u8]) {
    debug_assert_eq!(2 * bytes.len(), text.len());
    for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        digits.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
}

/// The digits of every byte, both at once: two ids are written for each call.
static PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xf]];
        byte += 1;
    }
    pairs
};

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
