//! SHA-256.
//!
//! A durable store outlives processes, versions of Rust and versions of this crate, and its
//! digests have to mean the same to all of them: so a hash that a standard fixes. One of 256
//! bits that nobody can find a collision of, since whoever chose two payloads with one digest
//! would be handed the answer to the other. Its fifty lines are checked against the standard's
//! own examples; a dependency would bring seven crates for them.

/// FIPS 180-4, section 6.2, byte by byte as it comes.
#[derive(Clone, Debug)]
pub(super) struct Sha256 {
    state: [u32; 8],
    block: [u8; BLOCK],
    /// How many bytes came in so far.
    length: u64,
}

/// Bytes of a block.
const BLOCK: usize = 64;

impl Sha256 {
    pub(super) const fn new() -> Self {
        Self { state: START, block: [0; BLOCK], length: 0 }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        let filled = self.filled();
        self.length += bytes.len() as u64;
        if filled > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - filled));
            self.block[filled..filled + head.len()].copy_from_slice(head);
            if filled + head.len() < BLOCK {
                return;
            }
            compress(&mut self.state, &self.block);
            bytes = rest;
        }
        let mut blocks = bytes.chunks_exact(BLOCK);
        for block in blocks.by_ref() {
            compress(&mut self.state, block.try_into().expect("chunks are as long as a block"));
        }
        let rest = blocks.remainder();
        self.block[..rest.len()].copy_from_slice(rest);
    }

    /// Section 5.1.1: a one bit, zeros, and the length in bits fill the last block.
    pub(super) fn finish(mut self) -> [u8; 32] {
        let bits = self.length.wrapping_mul(8);
        let filled = self.filled();
        let mut padding = [0; BLOCK + 8];
        padding[0] = 0x80;
        let zeros = if filled < BLOCK - 8 { BLOCK - 8 - filled } else { 2 * BLOCK - 8 - filled };
        self.update(&padding[..zeros]);
        self.update(&bits.to_be_bytes());
        let mut digest = [0; 32];
        for (word, bytes) in self.state.iter().zip(digest.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }

    /// How many bytes of the block are filled; never all of them.
    const fn filled(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }
}

/// Section 6.2.2.
fn compress(state: &mut [u32; 8], block: &[u8; BLOCK]) {
    let mut schedule = [0_u32; 64];
    for (word, bytes) in schedule.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes(bytes.try_into().expect("chunks are four bytes long"));
    }
    for t in 16..64 {
        let (a, b) = (schedule[t - 15], schedule[t - 2]);
        let small0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let small1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        schedule[t] = small1
            .wrapping_add(schedule[t - 7])
            .wrapping_add(small0)
            .wrapping_add(schedule[t - 16]);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (word, constant) in schedule.iter().zip(&CONSTANTS) {
        let big1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let first =
            h.wrapping_add(big1).wrapping_add(choice).wrapping_add(*constant).wrapping_add(*word);
        let big0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        let second = big0.wrapping_add(majority);
        (h, g, f, e) = (g, f, e, d.wrapping_add(first));
        (d, c, b, a) = (c, b, a, first.wrapping_add(second));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}

/// Section 5.3.3.
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Section 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64
/// primes. The test computes them.
const CONSTANTS: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::hex;

    fn digest(bytes: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(bytes);
        text(hash.finish())
    }

    fn text(digest: [u8; 32]) -> String {
        let mut text = [0; 64];
        hex::write(&digest, &mut text);
        text.iter().map(|&digit| char::from(digit)).collect()
    }

    #[test]
    fn the_constants_are_roots_of_primes() {
        let mut primes = (2_u128..).filter(|n| (2..*n).all(|d| d * d > *n || n % d != 0));
        // The root times 2^32, floored: r³ ≤ p·2^96 < (r + 1)³.
        let root = |prime: u128, power: u32| {
            let target = prime << (32 * power);
            let (mut low, mut high) = (0_u128, 1 << 36);
            while high - low > 1 {
                let middle = low.midpoint(high);
                if middle.pow(power) <= target { low = middle } else { high = middle }
            }
            low as u32
        };
        let first: Vec<u128> = primes.by_ref().take(64).collect();
        for (&prime, &constant) in first.iter().zip(&CONSTANTS) {
            assert_eq!(root(prime, 3), constant, "{prime}");
        }
        for (&prime, &start) in first.iter().zip(&START) {
            assert_eq!(root(prime, 2), start, "{prime}");
        }
    }

    /// NIST's examples and long message (FIPS 180-2, appendix B).
    #[test]
    fn gives_the_digests_of_the_standard() {
        let examples: [(&[u8], &str); 4] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                &[b'a'; 1_000_000],
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            ),
        ];
        for (message, expected) in examples {
            assert_eq!(digest(message), expected);
        }
    }

    #[test]
    fn pieces_make_the_same_digest_as_the_whole() {
        let message: Vec<u8> = (0..=255_u8).cycle().take(300).collect();
        for length in 0..message.len() {
            let whole = digest(&message[..length]);
            for piece in [1, 7, 55, 56, 63, 64, 65, 128] {
                let mut hash = Sha256::new();
                message[..length].chunks(piece).for_each(|piece| hash.update(piece));
                assert_eq!(text(hash.finish()), whole, "{length} in pieces of {piece}");
            }
        }
    }
}
