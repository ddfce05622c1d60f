//! Bodies that lie whole in memory, under whatever is wrapped around them.

use bytes::Bytes;

/// A body that may be whole in memory, so that it can be handed on without its wrappers.
pub trait TakeWhole {
    /// Takes the whole body, as if it had been read to its end. `None` leaves it as it is.
    fn take_whole(&mut self) -> Option<Bytes>;
}
