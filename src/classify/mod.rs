//! One verdict on every outcome, which all layers share.
//!
//! A [`Classify`] is a pure function from an outcome to a [`Verdict`]; retry, breaker, balancer
//! and telemetry ask the same one, so they never disagree about a response. The verdict's
//! fields are independent of each other, since every combination occurs.
//!
//! The tables of [`HttpClassifier`] and [`GrpcClassifier`], and their reasons, stand at the types.
//!
//! A verdict is *settled* exactly once, by [`Classify::guard`]: at the response's head where
//! that decides, else at the end of the body, or at the drop of the future.

mod grpc;
mod http;
mod mark;
mod orca;
mod plain;
mod retry_after;
mod source;
mod stop;
mod verdict;

pub use self::{
    grpc::{GrpcClassifier, GrpcCode, GrpcGuarded, InvalidGrpcRetry},
    http::HttpClassifier,
    mark::{Mark, Marked},
    plain::PlainClassifier,
    source::verdict_on_error,
    stop::{PUSHBACK_HEADER, stop_retries},
    verdict::{Blame, Pushback, Retry, Sent, Verdict},
};
pub(crate) use self::{
    orca::{load_report, load_report_in},
    retry_after::retry_after,
};

use std::{
    error::Error as StdError,
    task::{Context, Poll},
};

use crate::{
    call::{Asked, Attempts},
    endpoint::LoadReport,
};

/// Says what an outcome means. Pure: the same outcome gives the same verdict wherever it is
/// asked for, and asking allocates nothing.
pub trait Classify<Res> {
    /// The response as the caller gets it, with a guard in it that settles the verdict.
    ///
    /// A plain response settles at once; an HTTP response settles at the end of its body, and
    /// one of gRPC with its trailers.
    type Guarded<G: Settle>;

    /// The verdict on a response's head.
    fn response(&self, asked: Asked, response: &Res) -> Verdict;

    /// The verdict on an error. The default walks the sources, see [`verdict_on_error`].
    fn error(&self, asked: Asked, error: &(dyn StdError + 'static)) -> Verdict {
        let _ = asked;
        verdict_on_error(error)
    }

    /// The status of a response, where it has one: for the history of a call's attempts.
    fn status(&self, response: &Res) -> Option<u16> {
        let _ = response;
        None
    }

    /// The history that was left with a response by [`Classify::annotate`], if there is one: a
    /// retry takes that of two attempts which raced each other into its own.
    fn attempts(&self, response: &Res) -> Option<Attempts> {
        let _ = response;
        None
    }

    /// What the server says of its own load in a response's head, where it says anything: for the
    /// balancer.
    fn load_report(&self, response: &Res) -> Option<LoadReport> {
        let _ = response;
        None
    }

    /// Leaves the history of a call's attempts with its response, where that can carry it.
    fn annotate(&self, response: &mut Res, attempts: Attempts) {
        let _ = (response, attempts);
    }

    /// Puts `guard` where the outcome will be known. `head` is the verdict of
    /// [`Classify::response`]; [`Settle::settle`] is called exactly once, and the guard is
    /// dropped when the response has been read to its end or was given up.
    fn guard<G: Settle>(
        &self,
        asked: Asked,
        response: Res,
        head: Verdict,
        guard: G,
    ) -> Self::Guarded<G>;

    /// Whether what becomes of a response's body may still change the verdict on its `head`, so that
    /// nothing is settled before. By default nobody knows.
    fn is_open(&self, asked: Asked, response: &Res, head: Verdict) -> bool {
        let _ = (asked, response, head);
        false
    }

    /// [`Classify::guard`], of a response that [is open](Classify::is_open): it is put together
    /// without a call of what may unwind, so that a large one is moved once.
    fn guard_open<G: Settle>(
        &self,
        asked: Asked,
        response: Res,
        head: Verdict,
        guard: G,
    ) -> Self::Guarded<G> {
        self.guard(asked, response, head, guard)
    }

    /// Puts a failed response aside while another attempt is made, as the caller gets it if that
    /// one is not made after all, and so that [`Classify::poll_aside`] can read up to `limit`
    /// bytes of its body meanwhile: what has been read to its end frees its connection. `head` is
    /// a failure, and settles `guard`.
    ///
    /// # Errors
    ///
    /// The response and the guard as they are, if there is nothing to be read. So it is by
    /// default.
    fn set_aside<G: Settle>(
        &self,
        response: Res,
        head: Verdict,
        guard: G,
        limit: usize,
    ) -> Result<Self::Guarded<G>, (Res, G)> {
        let _ = (head, limit);
        Err((response, guard))
    }

    /// Reads on in a response that was put aside; ready when there is no more to be read.
    fn poll_aside<G: Settle>(
        &self,
        aside: &mut Self::Guarded<G>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let _ = (aside, cx);
        Poll::Ready(())
    }

    /// [`Classify::annotate`], for a response that was put aside.
    fn annotate_aside<G: Settle>(&self, aside: &mut Self::Guarded<G>, attempts: Attempts) {
        let _ = (aside, attempts);
    }
}

/// Something that waits for a verdict: a breaker's permit, a load handle, a budget's deposit.
///
/// What it holds until the response has been read (an in-flight count) it gives back on drop.
pub trait Settle {
    /// The head, or an error in its place, has come: the round trip is known. Called once, before
    /// [`Settle::settle`], by layers that see the head; what needs no times takes no notice.
    fn answered(&mut self, head: Verdict) {
        let _ = head;
    }

    /// The outcome is known. Called exactly once, unless the guard is dropped before.
    fn settle(&mut self, verdict: Verdict);

    /// The server has said how busy it is, in the trailers. For who balances; the others don't
    /// listen.
    fn report(&mut self, report: LoadReport) {
        let _ = report;
    }
}

impl<A: Settle, B: Settle> Settle for (A, B) {
    fn answered(&mut self, head: Verdict) {
        self.0.answered(head);
        self.1.answered(head);
    }

    fn settle(&mut self, verdict: Verdict) {
        self.0.settle(verdict);
        self.1.settle(verdict);
    }

    fn report(&mut self, report: LoadReport) {
        self.0.report(report);
        self.1.report(report);
    }
}

impl<G: Settle> Settle for Option<G> {
    fn answered(&mut self, head: Verdict) {
        if let Some(guard) = self {
            guard.answered(head);
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        if let Some(guard) = self {
            guard.settle(verdict);
        }
    }

    fn report(&mut self, report: LoadReport) {
        if let Some(guard) = self {
            guard.report(report);
        }
    }
}
