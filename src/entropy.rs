//! The one door to chance.
//!
//! Jitter, picks and span ids draw from an [`Entropy`]: from a generator of the thread, which the
//! operating system seeded, or from an explicit seed in tests and simulations. Generators are
//! forked, never cloned: a cloned one would give every call the same jitter
//! (tower's `ExponentialBackoff` does, and its retries stay in step).
//!
//! None of it is secret: who sees a span id of this process can foretell what its thread draws next,
//! which is which endpoint it picks, how long it waits, and its next span ids.
//!
//! What must never repeat (idempotency keys) comes from the operating system itself:
//! a generator that repeats its seed would make two calls one charge.

use std::cell::Cell;

use crate::sync::{AtomicU64, Ordering};

/// A source of chance. Not `Clone`: see [`Entropy::fork`].
///
/// Made from a seed, the same order of draws gives the same values. Draws are one atomic
/// addition and no lock; without a seed they touch nothing that threads share.
#[derive(Debug)]
pub struct Entropy {
    source: Source,
}

#[derive(Debug)]
enum Source {
    System,
    Seeded(AtomicU64),
}

impl Entropy {
    /// Chance from the operating system, by way of a generator per thread.
    #[must_use]
    pub const fn system() -> Self {
        Self { source: Source::System }
    }

    /// A repeatable source, for tests and simulations. Print the seed.
    ///
    /// Under it, idempotency keys and trace ids repeat as well: never use it in production.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { source: Source::Seeded(AtomicU64::new(seed)) }
    }

    /// An independent source. It is repeatable when this one is.
    #[must_use]
    pub fn fork(&self) -> Self {
        match &self.source {
            Source::System => Self::system(),
            // Mixed once more, so that the fork's sequence is not this one's, one draw later.
            Source::Seeded(_) => Self::seeded(mix(self.draw() ^ FORK)),
        }
    }

    /// Whether it is repeatable, so that what is made from it has to be as well.
    pub(crate) const fn is_seeded(&self) -> bool {
        matches!(self.source, Source::Seeded(_))
    }

    /// 64 random bits.
    pub(crate) fn draw(&self) -> u64 {
        match &self.source {
            Source::System => THREAD.with(|state| {
                let next = state.get().wrapping_add(GAMMA);
                state.set(next);
                mix(next)
            }),
            // Relaxed: the counter orders nothing but itself.
            Source::Seeded(state) => {
                mix(state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA))
            }
        }
    }

    /// Uniform in `[0, 1)`, 53 bits fine.
    pub(crate) fn unit(&self) -> f64 {
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.draw() >> 11) as f64 * SCALE
    }

    /// 64 bits for what must never repeat: the operating system's own, unless a seed was given.
    #[inline]
    pub(crate) fn unique(&self) -> u64 {
        match &self.source {
            Source::System => POOL.with(Pool::take),
            Source::Seeded(_) => self.draw(),
        }
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::system()
    }
}

/// The odd constant of SplitMix64, 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
/// Tells a fork's seed from a draw.
const FORK: u64 = 0x6275_7474_7265_7373;

/// The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014, figure 17). Good enough for jitter and picks; secrets and keys
/// don't come from here.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

thread_local! {
    static THREAD: Cell<u64> = Cell::new(u64::from_ne_bytes(os_bytes()));
    static POOL: Pool = const { Pool::empty() };
}

/// In words: 1 KiB, so that one system call serves 128 keys. To ask for each key alone costs about
/// 400 ns.
const POOL_SIZE: usize = 128;

/// Words of the operating system, fetched ahead. A process that forks without `exec` shares
/// what its thread had fetched: don't fork a running client.
struct Pool {
    words: [Cell<u64>; POOL_SIZE],
    /// How many have not been handed out: the first ones.
    left: Cell<usize>,
}

impl Pool {
    const fn empty() -> Self {
        Self { words: [const { Cell::new(0) }; POOL_SIZE], left: Cell::new(0) }
    }

    #[inline]
    fn take(&self) -> u64 {
        if self.left.get() == 0 {
            self.refill();
        }
        let at = self.left.get() - 1;
        self.left.set(at);
        // Handed out once: nothing that dumps this memory later shows a key.
        self.words[at].take()
    }

    #[cold]
    fn refill(&self) {
        let bytes: [u8; 8 * POOL_SIZE] = os_bytes();
        for (word, bytes) in self.words.iter().zip(bytes.chunks_exact(8)) {
            word.set(u64::from_ne_bytes(bytes.try_into().expect("eight bytes")));
        }
        self.left.set(POOL_SIZE);
    }
}

fn os_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes once it is up");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_a_fork_differs() {
        let (a, b) = (Entropy::seeded(7), Entropy::seeded(7));
        let drawn: Vec<u64> = (0..8).map(|_| a.draw()).collect();
        assert_eq!(drawn, (0..8).map(|_| b.draw()).collect::<Vec<_>>());
        let fork = a.fork();
        let forked: Vec<u64> = (0..8).map(|_| fork.draw()).collect();
        let onward: Vec<u64> = (0..8).map(|_| a.draw()).collect();
        assert_ne!(forked, onward);
        assert_ne!(forked, drawn);
    }

    #[test]
    fn unit_draws_fill_the_interval_evenly() {
        let entropy = Entropy::seeded(1);
        let mut tenths = [0_u32; 10];
        for _ in 0..10_000 {
            let unit = entropy.unit();
            assert!((0.0..1.0).contains(&unit));
            tenths[(unit * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|&count| (850..1150).contains(&count)), "{tenths:?}");
    }

    #[test]
    fn what_is_unique_differs_across_pool_refills_and_threads() {
        let draw = || (0..3 * POOL_SIZE).map(|_| Entropy::system().unique()).collect::<Vec<_>>();
        let other = std::thread::spawn(draw).join().expect("the thread only draws");
        let mut all = draw();
        all.extend(other);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn two_threads_never_draw_the_same() {
        loom::model(|| {
            let (entropy, alone) = (Arc::new(Entropy::seeded(7)), Entropy::seeded(7));
            let other = {
                let entropy = Arc::clone(&entropy);
                thread::spawn(move || entropy.draw())
            };
            let mut drawn = [entropy.draw(), other.join().expect("it only draws")];
            let mut expected = [alone.draw(), alone.draw()];
            drawn.sort_unstable();
            expected.sort_unstable();
            assert_eq!(drawn, expected, "in either order");
        });
    }
}
