//! What was read of a body so far, and whether the next piece fits.

use bytes::{Bytes, BytesMut};

/// Collects pieces up to a cap. One piece is kept as it came; only the second one makes a
/// buffer.
#[derive(Debug)]
pub(super) struct Pieces {
    cap: usize,
    held: Held,
}

#[derive(Debug)]
enum Held {
    One(Bytes),
    Many(BytesMut),
}

impl Pieces {
    pub(super) const fn new(cap: usize) -> Self {
        Self { cap, held: Held::One(Bytes::new()) }
    }

    /// Adds a piece, or gives it back if it goes past the cap. At least `rest` bytes are
    /// announced to follow it.
    pub(super) fn push(&mut self, piece: Bytes, rest: u64) -> Result<(), Bytes> {
        let (cap, held) = (self.cap, self.len());
        let room = cap - held;
        if piece.len() > room {
            return Err(piece);
        }
        match &mut self.held {
            Held::One(first) if first.is_empty() => self.held = Held::One(piece),
            Held::One(first) => {
                let sum = held + piece.len();
                // Never more than the cap, whatever was announced.
                let rest = usize::try_from(rest).unwrap_or(usize::MAX).min(cap - sum);
                let mut buffer = BytesMut::with_capacity(sum + rest);
                buffer.extend_from_slice(first);
                buffer.extend_from_slice(&piece);
                self.held = Held::Many(buffer);
            }
            Held::Many(buffer) => buffer.extend_from_slice(&piece),
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        match &self.held {
            Held::One(first) => first.len(),
            Held::Many(buffer) => buffer.len(),
        }
    }

    /// All that was read.
    pub(super) fn take(&mut self) -> Bytes {
        match std::mem::replace(&mut self.held, Held::One(Bytes::new())) {
            Held::One(bytes) => bytes,
            Held::Many(buffer) => buffer.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_is_kept_as_it_came() {
        let piece = Bytes::from(vec![7; 100]);
        let mut pieces = Pieces::new(100);
        pieces.push(Bytes::new(), 0).expect("nothing fits");
        pieces.push(piece.clone(), 0).expect("it fits exactly");
        assert_eq!(pieces.take().as_ptr(), piece.as_ptr(), "no copy");
    }

    #[test]
    fn several_pieces_become_one() {
        let mut pieces = Pieces::new(100);
        for piece in ["a", "bc", "", "def"] {
            pieces.push(Bytes::from(piece), 0).expect("it fits");
        }
        assert_eq!(pieces.len(), 6);
        assert_eq!(pieces.take(), "abcdef");
        assert_eq!(pieces.take(), "", "taken");
    }

    #[test]
    fn a_piece_past_the_cap_comes_back_and_the_rest_stays() {
        let mut pieces = Pieces::new(3);
        pieces.push(Bytes::from("ab"), 0).expect("it fits");
        assert_eq!(pieces.push(Bytes::from("cd"), 0), Err(Bytes::from("cd")));
        assert_eq!(pieces.take(), "ab");
        let mut none = Pieces::new(0);
        assert_eq!(none.push(Bytes::new(), 0), Ok(()));
        assert_eq!(none.push(Bytes::from("a"), 0), Err(Bytes::from("a")));
    }

    #[test]
    fn an_announced_length_is_reserved_but_never_beyond_the_cap() {
        let mut pieces = Pieces::new(1000);
        pieces.push(Bytes::from("a"), 0).expect("it fits");
        pieces.push(Bytes::from("b"), u64::MAX).expect("it fits");
        let Held::Many(buffer) = &pieces.held else { panic!("two pieces make a buffer") };
        assert!((1000..2000).contains(&buffer.capacity()), "{}", buffer.capacity());
    }
}
