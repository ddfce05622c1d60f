//! UUID version 7, in its text form.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{algo::hex, entropy::Entropy};

/// How long a UUID's text is.
pub(super) const TEXT: usize = 36;

/// A new one. Under an explicit seed it repeats, so its time does not follow the clock: it is
/// that of 1970, and nobody takes such a key for a real one.
pub(super) fn new(entropy: &Entropy) -> [u8; TEXT] {
    let millis = if entropy.is_seeded() { 0 } else { unix_millis(crate::time::wall()) };
    text(v7(millis, entropy.unique()))
}

/// A clock that stands before 1970 gives 0: the random bits alone keep keys apart.
fn unix_millis(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 9562, section 5.7: 48 bits of unix time in milliseconds, the version, 12 random bits,
/// the variant, 62 random bits. `rand_a` is random too (section 6.2 also allows a counter
/// there): keys are compared for being equal, never sorted.
fn v7(millis: u64, random: [u8; 10]) -> [u8; 16] {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    id[6..].copy_from_slice(&random);
    id[6] = 0x70 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    id
}

/// RFC 9562, section 4: lower-case hex digits in groups of 8, 4, 4, 4 and 12.
fn text(id: [u8; 16]) -> [u8; TEXT] {
    let mut text = [b'-'; TEXT];
    hex::write(&id[..4], &mut text[..8]);
    hex::write(&id[4..6], &mut text[9..13]);
    hex::write(&id[6..8], &mut text[14..18]);
    hex::write(&id[8..10], &mut text[19..23]);
    hex::write(&id[10..], &mut text[24..]);
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// RFC 9562, appendix A.6.
    #[test]
    fn lays_out_the_example_of_the_rfc() {
        let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
        let id = text(v7(0x017f_22e2_79b0, random));
        assert_eq!(&id, b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    #[test]
    fn the_version_and_the_variant_stand_whatever_chance_says() {
        assert_eq!(&text(v7(0, [0xff; 10])), b"00000000-0000-7fff-bfff-ffffffffffff");
        assert_eq!(&text(v7(u64::MAX, [0; 10])), b"ffffffff-ffff-7000-8000-000000000000");
    }

    #[test]
    fn a_clock_before_1970_is_survived() {
        assert_eq!(unix_millis(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(unix_millis(UNIX_EPOCH + Duration::from_micros(1_999)), 1);
    }

    #[test]
    fn only_a_seed_makes_ids_repeat() {
        let seeded = || {
            let entropy = Entropy::seeded(7);
            [new(&entropy), new(&entropy)]
        };
        assert_eq!(seeded(), seeded());
        assert_ne!(seeded()[0], seeded()[1]);
        assert!(seeded()[0].starts_with(b"00000000-0000-7"));

        let before = unix_millis(crate::time::wall());
        let id = new(&Entropy::system());
        let after = unix_millis(crate::time::wall());
        let digits: Vec<u8> = id.into_iter().filter(|&byte| byte != b'-').take(12).collect();
        let digits = std::str::from_utf8(&digits).expect("hex digits are ASCII");
        let stamped = u64::from_str_radix(digits, 16).expect("they are hex digits");
        assert!((before..=after).contains(&stamped), "{before} <= {stamped} <= {after}");
        assert_ne!(id, new(&Entropy::system()));
    }
}
