//! UUID version 7, in its text form.

use std::time::Instant;

use crate::{algo::hex, entropy::Entropy, time::unix_nanos_at};

/// How long a UUID's text is.
pub(super) const TEXT: usize = 36;

/// A new one. Under an explicit seed it repeats, so its time does not follow the clock: it is
/// that of 1970, and nobody takes such a key for a real one.
pub(super) fn new(entropy: &Entropy, now: Instant) -> [u8; TEXT] {
    let nanos = if entropy.is_seeded() { 0 } else { unix_nanos_at(now) };
    text(v7(nanos, entropy.unique()))
}

/// RFC 9562, section 5.7: 48 bits of unix time in milliseconds, the version, 12 bits, the variant,
/// 62 random bits. The 12 bits are the rest of the time (section 6.2, method 3), to a quarter of a
/// microsecond: two keys are the same only if they are of the same one and their 62 bits are, too.
fn v7(nanos: u64, random: u64) -> [u8; 16] {
    const MILLISECOND: u64 = 1_000_000;
    let (millis, rest) = (nanos / MILLISECOND, nanos % MILLISECOND);
    let quarters = (rest << 12) / MILLISECOND;
    let high = millis << 16 | 0x7000 | quarters;
    let low = 1 << 63 | random & (u64::MAX >> 2);
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// RFC 9562, section 4: lower-case hex digits in groups of 8, 4, 4, 4 and 12.
fn text(id: [u8; 16]) -> [u8; TEXT] {
    let digits = hex::digits(id);
    let digits = digits.as_flattened();
    let mut text = [b'-'; TEXT];
    text[..8].copy_from_slice(&digits[..8]);
    text[9..13].copy_from_slice(&digits[8..12]);
    text[14..18].copy_from_slice(&digits[12..16]);
    text[19..23].copy_from_slice(&digits[16..20]);
    text[24..].copy_from_slice(&digits[20..]);
    text
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::time::{look_again, now, wall};

    /// RFC 9562, appendix A.6, whose 12 bits after the version are random.
    #[test]
    fn lays_out_the_example_of_the_rfc() {
        let millisecond = 1_000_000_u64;
        let nanos = 0x017f_22e2_79b0 * millisecond + (0xcc3 * millisecond).div_ceil(1 << 12);
        let id = text(v7(nanos, 0x18c4_dc0c_0c07_398f));
        assert_eq!(&id, b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    #[test]
    fn the_version_and_the_variant_stand_whatever_chance_says() {
        assert_eq!(&text(v7(999_999, u64::MAX)), b"00000000-0000-7fff-bfff-ffffffffffff");
        assert_eq!(&text(v7(1_000_000, 0)), b"00000000-0001-7000-8000-000000000000");
        // In five hundred years.
        assert_eq!(&text(v7(u64::MAX, 0)), b"10c6f7a0-b5ed-78d3-8000-000000000000");
    }

    #[test]
    fn a_key_is_of_a_later_quarter_of_a_microsecond_than_one_before() {
        let ids: Vec<_> = (0..4096).map(|nth| text(v7(nth * 245, u64::MAX - nth))).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn only_a_seed_makes_ids_repeat() {
        let seeded = || {
            let entropy = Entropy::seeded(7);
            [new(&entropy, now()), new(&entropy, now())]
        };
        assert_eq!(seeded(), seeded());
        assert_ne!(seeded()[0], seeded()[1]);
        assert!(seeded()[0].starts_with(b"00000000-0000-7"));

        let unix =
            || wall().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_millis();
        // Else it would be of what a test before this one said that the time is.
        look_again();
        let before = unix();
        let id = new(&Entropy::system(), now());
        let after = unix();
        let digits: Vec<u8> = id.into_iter().filter(|&byte| byte != b'-').take(12).collect();
        let digits = std::str::from_utf8(&digits).expect("hex digits are ASCII");
        let stamped = u128::from_str_radix(digits, 16).expect("they are hex digits");
        assert!((before..=after).contains(&stamped), "{before} <= {stamped} <= {after}");
        assert_ne!(id, new(&Entropy::system(), now()));
    }
}
