//! A tally that threads share.

use std::{fmt, sync::Arc, time::Instant};

use super::{
    config::ThrottleConfig,
    error::Throttled,
    state::{State, Tally, Ticket},
};
use crate::{
    call::Asked,
    classify::{Settle, Verdict},
    entropy::Entropy,
    event::{Event, Observer},
    sync::{Mutex, Padded, lock},
    time,
};

/// A throttle: one [`Tally`] behind a lock.
///
/// It is a handle; its clones are the same throttle. Give one to a
/// [`ThrottleLayer`](super::ThrottleLayer), and keep one to look at.
///
/// ```
/// use buttress::throttle::{Throttle, ThrottleConfig};
///
/// let throttle = Throttle::new(ThrottleConfig::new());
/// assert_eq!(throttle.state().probability, 0.0);
/// ```
#[derive(Clone)]
pub struct Throttle {
    shared: Arc<Shared>,
}

struct Shared {
    tally: Padded<Mutex<Tally>>,
    entropy: Entropy,
    observer: Observer,
}

impl Throttle {
    /// A throttle that knows nothing yet.
    #[must_use]
    pub fn new(config: ThrottleConfig) -> Self {
        Self::with_entropy(config, &Entropy::system())
    }

    /// The same, with the draws of a fork of `entropy`.
    #[must_use]
    pub fn with_entropy(config: ThrottleConfig, entropy: &Entropy) -> Self {
        let tally = Tally::new(&config, time::now());
        Self {
            shared: Arc::new(Shared {
                tally: Padded(Mutex::new(tally)),
                entropy: entropy.fork(),
                observer: config.observer,
            }),
        }
    }

    /// What is known at present.
    #[must_use]
    pub fn state(&self) -> State {
        let now = time::now();
        lock(&self.shared.tally).state(now)
    }

    /// Counts a request and admits it, or refuses.
    pub(crate) fn admit(&self, asked: Asked, now: Instant) -> Result<Permit, Throttled> {
        let shared = &*self.shared;
        let admitted = lock(&shared.tally).ask(now, || shared.entropy.unit());
        match admitted {
            Ok(ticket) => Ok(Permit {
                throttle: self.clone(),
                ticket: Some(ticket),
                deadline: asked.deadline,
            }),
            Err(throttled) => {
                shared.report(&throttled);
                Err(throttled)
            }
        }
    }
}

impl Shared {
    #[cold]
    fn report(&self, throttled: &Throttled) {
        self.observer.on(|| Event::Throttled {
            reason: throttled.reason.code(),
            probability: throttled.state.probability,
        });
    }
}

impl From<ThrottleConfig> for Throttle {
    fn from(config: ThrottleConfig) -> Self {
        Self::new(config)
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(ThrottleConfig::new())
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// The right to make one call, which takes the call's verdict back to the throttle.
///
/// Dropped without a verdict, it gives its request back; after the call's deadline it stands
/// for a call that was not accepted, since it was we who cut it off.
#[derive(Debug)]
#[must_use = "the call is over when its permit is dropped"]
pub struct Permit {
    throttle: Throttle,
    /// None once it is settled.
    ticket: Option<Ticket>,
    deadline: Option<Instant>,
}

impl Permit {
    fn give_back(&mut self, verdict: Verdict, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            lock(&self.throttle.shared.tally).settle(ticket, verdict, now);
        }
    }
}

impl Settle for Permit {
    fn settle(&mut self, verdict: Verdict) {
        // The clock is read before the lock is taken.
        self.give_back(verdict, time::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let now = time::now();
            self.give_back(Asked::dropped_at(self.deadline, now), now);
        }
    }
}
