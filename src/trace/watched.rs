//! A span that somebody listens to.

use std::{error::Error as StdError, net::SocketAddr};

use http::Response;
use tracing::{Level, Span, level_filters::LevelFilter, span::Entered};

use super::{config::TraceConfig, outcome, parent, spans};
use crate::{
    call::{Asked, Carrier, HttpHead, Trail, Words},
    classify::Verdict,
    entropy::Entropy,
    time::now,
};

/// The span of a call or an attempt that is under way.
///
/// Held in a box, so that it takes no room in every call's future: a span that somebody listens
/// to allocates anyway.
#[derive(Debug)]
pub(crate) struct Watched {
    span: Span,
    asked: Asked,
    /// The instance that was picked.
    peer: Option<SocketAddr>,
}

impl Watched {
    /// Opens the span of a whole call; none if nobody listens.
    pub(crate) fn call<C>(call: &C, config: &TraceConfig) -> Option<Box<Self>>
    where
        C: Carrier,
        C::Request: HttpHead,
    {
        if nobody_listens() {
            return None;
        }
        let watched = Self::of(spans::call(call.request(), config), call)?;
        parent::adopt(&watched.span, call.words().and_then(|words| words.trace.as_ref()));
        Some(watched)
    }

    /// Opens the span of an attempt, if anybody listens, and puts the trace into its headers
    /// in any case.
    pub(crate) fn attempt<C>(
        call: &mut C,
        config: &TraceConfig,
        entropy: &Entropy,
    ) -> Option<Box<Self>>
    where
        C: Carrier,
        C::Request: HttpHead,
    {
        let span = if nobody_listens() {
            Span::none()
        } else {
            spans::attempt(call.request(), call.words(), config)
        };
        parent::propagate(&span, call, entropy);
        Self::of(span, call)
    }

    fn of<C: Carrier>(span: Span, call: &C) -> Option<Box<Self>> {
        if span.is_disabled() {
            return None;
        }
        let asked = call.words().map(Words::asked).unwrap_or_default();
        Some(Box::new(Self { span, asked, peer: None }))
    }

    /// Runs within the span what belongs to it.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.span.enter()
    }

    /// The span, to be entered while this is changed.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The attempt goes to this instance.
    pub(crate) const fn goes_to(&mut self, peer: SocketAddr) {
        self.peer = Some(peer);
    }

    /// The attempt went where this trail leads, if it leads anywhere.
    pub(super) fn follow(&mut self, trail: &Option<Trail>) {
        self.peer = trail.and_then(|trail| trail.target()).map(|target| target.address);
    }

    /// Records how it ended.
    pub(crate) fn record<B>(&self, outcome: Result<&Response<B>, &(dyn StdError + 'static)>) {
        outcome::record(&self.span, outcome);
        self.record_peer();
    }

    /// Records that it was dropped without an outcome: by its caller, or by the deadline above.
    pub(crate) fn record_drop(&self) {
        // The clock is asked only where a deadline may have passed.
        if self.asked.deadline.is_some() && self.asked.dropped(now()) == Verdict::TIMED_OUT {
            outcome::record_timeout(&self.span);
        }
        self.record_peer();
    }

    fn record_peer(&self) {
        if let Some(peer) = self.peer {
            outcome::record_peer(&self.span, peer);
        }
    }
}

/// Whether no subscriber wants our level at all. The macros of `tracing` would find out as well;
/// but where its feature `log` is on, they make the fields for the `log` crate all the same.
fn nobody_listens() -> bool {
    LevelFilter::current() < Level::INFO
}
