//! Where a deadline is read from, and what becomes of overdue work.

use std::time::Duration;

use super::Intake;
use crate::{
    event::Observer,
    timeout::{
        DeadlineHeader,
        config::{InvalidTimeout, checked},
    },
};

/// The settings of an [`IncomingDeadlineLayer`](super::IncomingDeadlineLayer).
#[derive(Clone, Debug)]
pub struct IncomingDeadlineConfig {
    pub(super) headers: Box<[DeadlineHeader]>,
    pub(super) intake: Intake,
    pub(super) refuse_unreadable: bool,
    pub(super) let_run: bool,
    pub(super) until_head: bool,
    pub(super) observer: Observer,
}

impl IncomingDeadlineConfig {
    /// The defaults: the deadline of `grpc-timeout` or of the
    /// [default header](crate::timeout::DEFAULT_DEADLINE_HEADER), no limit of the server's own,
    /// and overdue work is dropped.
    #[must_use]
    pub fn new() -> Self {
        Self {
            // Whoever waits for a gRPC call says so in gRPC's header, whatever else is agreed on.
            headers: [DeadlineHeader::grpc(), DeadlineHeader::default()].into(),
            intake: Intake::default(),
            refuse_unreadable: false,
            let_run: false,
            until_head: false,
            observer: Observer::none(),
        }
    }

    /// The headers that a deadline is read from. Where a request has several, the earliest
    /// deadline holds; with none, only the server's own limit does.
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = DeadlineHeader>) -> Self {
        self.headers = headers.into_iter().collect();
        self
    }

    /// How long any request may take, whether its caller says so or not (default: no limit).
    /// A caller who has less keeps it; one who asks for more does not get it.
    ///
    /// # Errors
    ///
    /// [`InvalidTimeout`] if `limit` is zero.
    pub fn limit(mut self, limit: Duration) -> Result<Self, InvalidTimeout> {
        self.intake.limit = Some(checked(limit)?);
        Ok(self)
    }

    /// How much of the caller's time is kept back for the way of the answer (default: nothing,
    /// since nobody here knows that way). With it, a caller still hears why it got no answer. A
    /// caller who has no more than this is overdue when it comes.
    #[must_use]
    pub const fn reserve(mut self, reserve: Duration) -> Self {
        self.intake.reserve = reserve;
        self
    }

    /// Whether a request whose deadline can't be read is refused (default: no, it is served as
    /// if it had none, and an event says so). The answer is a 400, or `INTERNAL` for gRPC.
    #[must_use]
    pub const fn refuse_unreadable(mut self, refuse: bool) -> Self {
        self.refuse_unreadable = refuse;
        self
    }

    /// Whether work whose deadline passes while it is done is let run to its end (default: no,
    /// it is dropped). Its handler finds an [`Overdue`](super::Overdue) in the extensions of the
    /// request, and asks that when it could stop.
    ///
    /// For work that must not be left half done. What is overdue when it comes is not begun all
    /// the same.
    #[must_use]
    pub const fn let_run(mut self, let_run: bool) -> Self {
        self.let_run = let_run;
        self
    }

    /// Whether the deadline ends with the response's head (default: no, it holds to the last
    /// byte of the body). For servers of downloads and event streams.
    #[must_use]
    pub const fn until_head(mut self, until_head: bool) -> Self {
        self.until_head = until_head;
        self
    }

    /// Who is told of overdue work and of deadlines that can't be read.
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// How the deadline of a request is decided on.
    #[must_use]
    pub const fn intake(&self) -> &Intake {
        &self.intake
    }
}

impl Default for IncomingDeadlineConfig {
    fn default() -> Self {
        Self::new()
    }
}
