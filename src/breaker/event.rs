//! The changes of a circuit, on their way to who listens.

use std::time::Duration;

use super::state::State;

/// A change of a circuit's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The new state.
    pub state: State,
    /// Why, as a stable code; the module's documentation lists them.
    pub reason: &'static str,
    /// How long it stays open, where it does.
    pub open_for: Option<Duration>,
}

/// The latest changes of a circuit, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transitions {
    latest: [Option<Transition>; ROOM],
    length: usize,
}

/// One step makes three at most: a probe timed out, the open time after it is over as well, and
/// what was asked for.
const ROOM: usize = 4;

impl Transitions {
    /// The changes, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Transition> {
        self.latest.iter().flatten()
    }

    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The latest.
    pub(super) fn last(&self) -> Option<&Transition> {
        self.iter().last()
    }

    /// The oldest is forgotten when there is no room.
    pub(super) fn push(&mut self, transition: Transition) {
        if self.length == ROOM {
            self.latest.rotate_left(1);
            self.length -= 1;
        }
        self.latest[self.length] = Some(transition);
        self.length += 1;
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
