//! Wakes those who wait for a key's first request, where it ends in this process.

use std::sync::Arc;

use tokio::sync::{Notify, futures::OwnedNotified};

use super::KeyId;

/// Few enough to be made at once, and enough that a key's bell is rung for another's sake seldom.
/// Whoever was woken for another key only asks the store once more.
const BELLS: usize = 64;

#[derive(Debug)]
pub(super) struct Bells {
    bells: Box<[Arc<Notify>]>,
}

impl Bells {
    pub(super) fn new() -> Self {
        Self { bells: (0..BELLS).map(|_| Arc::default()).collect() }
    }

    /// Ends when the bell is rung next, counted from this call and not from the first poll: what
    /// is asked of the store after it misses nothing.
    pub(super) fn listen(&self, id: KeyId) -> OwnedNotified {
        Arc::clone(self.of(id)).notified_owned()
    }

    pub(super) fn ring(&self, id: KeyId) {
        self.of(id).notify_waiters();
    }

    fn of(&self, id: KeyId) -> &Arc<Notify> {
        // A digest: each of its bytes is as good as any.
        &self.bells[usize::from(id.as_bytes()[0]) % BELLS]
    }
}
