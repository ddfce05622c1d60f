//! Whether anybody still waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    event::{Event, Observer},
    sync::{AtomicBool, Ordering},
    time::now,
};

/// Tells the handler of a request whether anybody still waits for its answer.
///
/// In the extensions of each request with a deadline, under
/// [`let_run`](super::IncomingDeadlineConfig::let_run). To ask is to read the clock, and a clone
/// may be asked from another task.
#[derive(Clone, Debug)]
pub struct Overdue {
    deadline: Instant,
    gone: Arc<AtomicBool>,
}

impl Overdue {
    /// Whether the answer comes too late: the deadline has passed, or the request's future is
    /// gone, with its caller or because it has been answered.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        // Relaxed, as the store in `Watch::drop`: nothing else is read on the strength of it.
        self.gone.load(Ordering::Relaxed) || now() >= self.deadline
    }

    /// When the answer comes too late.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// The future's side of it, which says on its drop that nobody waits.
#[derive(Debug)]
pub(super) struct Watch {
    overdue: Overdue,
    began: Instant,
    observer: Observer,
}

impl Watch {
    pub(super) fn new(deadline: Instant, began: Instant, observer: Observer) -> Self {
        let overdue = Overdue { deadline, gone: Arc::new(AtomicBool::new(false)) };
        Self { overdue, began, observer }
    }

    pub(super) fn overdue(&self) -> Overdue {
        self.overdue.clone()
    }

    fn limit(&self) -> Duration {
        self.overdue.deadline.saturating_duration_since(self.began)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Relaxed: see `Overdue::is_overdue`.
        self.overdue.gone.store(true, Ordering::Relaxed);
        if self.observer.is_listening() && now() >= self.overdue.deadline {
            self.observer.on(|| Event::Overdue { stage: "let_run", limit: self.limit() });
        }
    }
}
