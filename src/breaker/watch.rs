//! Who wants to know of a breaker's state.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use tokio::sync::watch;

use super::{handle::WeakBreaker, state::State};
use crate::time::Sleep;

/// Those who watch one breaker.
#[derive(Clone, Debug)]
pub(super) struct Watchers {
    sender: watch::Sender<Told>,
}

/// A state, and the number of its phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    generation: u64,
    state: State,
}

impl Watchers {
    pub(super) fn new(generation: u64, state: State) -> Self {
        Self { sender: watch::Sender::new(Told { generation, state }) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Told> {
        self.sender.subscribe()
    }

    /// Told outside of the circuit's lock, so perhaps out of turn: then the later one holds, or a
    /// change would be undone by the one before it.
    pub(super) fn tell(&self, generation: u64, state: State) {
        self.sender.send_if_modified(|told| {
            let is_news = generation > told.generation;
            if is_news {
                *told = Told { generation, state };
            }
            is_news
        });
    }
}

/// The state of a [`Breaker`](super::Breaker), as it changes: see
/// [`Breaker::watch`](super::Breaker::watch).
///
/// No change is missed, but of several since it was asked last it tells the latest alone. It does
/// not keep the breaker.
#[must_use = "it tells nothing unless it is asked"]
pub struct Watch {
    told: watch::Receiver<Told>,
    breaker: WeakBreaker,
}

impl Watch {
    pub(super) const fn new(told: watch::Receiver<Told>, breaker: WeakBreaker) -> Self {
        Self { told, breaker }
    }

    /// The state as it was told last.
    #[must_use]
    pub fn state(&self) -> State {
        self.told.borrow().state
    }

    /// The state that follows on those that were told already, when there is one; `None` when
    /// the breaker is gone. A probe that begins or succeeds is no change of its own.
    ///
    /// An open time that is over it finds out by itself, by a timer that runs while this is
    /// waited for; without calls nobody else would. Dropped, it misses nothing.
    pub async fn changed(&mut self) -> Option<State> {
        loop {
            let due = match self.told.borrow().state {
                State::Open { until } => Some(Sleep::until(until)),
                _ => None,
            };
            let is_there = {
                let mut due = pin!(due);
                let mut changed = pin!(self.told.changed());
                poll_fn(|cx| {
                    if let Poll::Ready(told) = changed.as_mut().poll(cx) {
                        return Poll::Ready(Some(told.is_ok()));
                    }
                    match due.as_mut().as_pin_mut() {
                        Some(due) => due.poll(cx).map(|()| None),
                        None => Poll::Pending,
                    }
                })
                .await
            };
            match is_there {
                Some(true) => return Some(self.told.borrow_and_update().state),
                Some(false) => return None,
                // Does what is due, and tells all who watch.
                None => {
                    let _ = self.breaker.upgrade()?.state();
                }
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_out_of_turn_is_no_news() {
        let watchers = Watchers::new(1, State::Closed);
        let mut told = watchers.subscribe();
        let mut news = || {
            let is_news = told.has_changed().expect("it is told");
            (is_news, told.borrow_and_update().state)
        };
        assert_eq!(news(), (false, State::Closed));
        watchers.tell(3, State::ForcedOpen);
        assert_eq!(news(), (true, State::ForcedOpen));
        // Of the change before, by a thread that was slower; and of the same, once more.
        for generation in [2, 3] {
            watchers.tell(generation, State::ForcedClosed);
            assert_eq!(news(), (false, State::ForcedOpen));
        }
    }
}
