//! Which trace a request belongs to.

use tracing::Span;

use super::context;
use crate::{
    call::{Carrier, HttpHead, TraceParent},
    entropy::Entropy,
};

/// Makes the trace that came in the parent of a new span, unless the span has one already: a
/// span of the program around it, which an OpenTelemetry layer follows.
pub(super) fn adopt(span: &Span, came_in: Option<&TraceParent>) {
    if let Some(came_in) = came_in {
        bridge::adopt(span, came_in);
    }
}

/// Puts the trace of an attempt into its headers. Without one, the headers stay as they are.
pub(super) fn propagate<C>(span: &Span, call: &mut C, entropy: &Entropy)
where
    C: Carrier,
    C::Request: HttpHead,
{
    let came_in = call.words().and_then(|words| words.trace.as_ref());
    adopt(span, came_in);
    if let Some(own) = bridge::current(span, came_in) {
        return context::inject(&own, call.request_mut().headers_mut());
    }
    // The same trace under a span of our own, since every request has its own.
    let Some(came_in) = came_in else { return };
    let ids = (came_in.trace_id, minted(entropy), came_in.flags);
    // Where it is, and looked at there: of most it is none, which is large to move.
    let state = came_in.state.clone();
    context::put(ids, state.as_ref(), call.request_mut().headers_mut());
}

/// Zero is forbidden, and as good as any other number where a random one is asked for.
fn minted(entropy: &Entropy) -> u64 {
    entropy.draw().max(1)
}

#[cfg(feature = "opentelemetry")]
mod bridge {
    //! To the OpenTelemetry layer of `tracing`, where there is one.

    use std::str::FromStr;

    use http::HeaderValue;
    use opentelemetry::{
        Context, SpanId, TraceFlags, TraceId,
        trace::{SpanContext, TraceContextExt, TraceState},
    };
    use tracing::Span;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    use crate::call::TraceParent;

    /// `trace-flags`, bit 1, which the SDK's samplers lose.
    const RANDOM: u8 = 0b10;

    pub(super) fn adopt(span: &Span, came_in: &TraceParent) {
        if span.is_disabled() || around().is_some() {
            return;
        }
        let remote = SpanContext::new(
            TraceId::from_bytes(came_in.trace_id.to_be_bytes()),
            SpanId::from_bytes(came_in.span_id.to_be_bytes()),
            TraceFlags::new(came_in.flags),
            true,
            state_of(came_in),
        );
        // It fails where no OpenTelemetry layer listens. Then there is no parent to set.
        let _ = span.set_parent(Context::current().with_remote_span_context(remote));
    }

    /// The attempt's own span. Where that is filtered out, the one around it: a filter must not
    /// cut the trace.
    pub(super) fn current(span: &Span, came_in: Option<&TraceParent>) -> Option<TraceParent> {
        let context = valid(span).or_else(around)?;
        let mut own = TraceParent::new(
            u128::from_be_bytes(context.trace_id().to_bytes()),
            u64::from_be_bytes(context.span_id().to_bytes()),
            context.trace_flags().to_u8(),
        )?;
        let came_in = came_in.filter(|came_in| came_in.trace_id == own.trace_id);
        if let Some(came_in) = came_in {
            own.flags |= came_in.flags & RANDOM;
        }
        own.state = match came_in {
            // Passed on as it came: the SDK knows only the older grammar, and drops the rest.
            Some(came_in) if *context.trace_state() == state_of(came_in) => came_in.state.clone(),
            _ => HeaderValue::from_str(&context.trace_state().header()).ok(),
        };
        own.state = own.state.filter(|state| !state.is_empty());
        Some(own)
    }

    /// The span around this one.
    fn around() -> Option<SpanContext> {
        let native = || Context::map_current(|context| context.span().span_context().clone());
        valid(&Span::current()).or_else(|| Some(native()).filter(SpanContext::is_valid))
    }

    fn valid(span: &Span) -> Option<SpanContext> {
        if span.is_disabled() {
            return None;
        }
        Some(span.context().span().span_context().clone()).filter(SpanContext::is_valid)
    }

    /// As far as the SDK can read it.
    fn state_of(came_in: &TraceParent) -> TraceState {
        let text = came_in.state.as_ref().and_then(|state| state.to_str().ok());
        text.and_then(|text| TraceState::from_str(text).ok()).unwrap_or_default()
    }
}

#[cfg(not(feature = "opentelemetry"))]
mod bridge {
    //! Without the feature, nobody follows a span.

    use tracing::Span;

    use crate::call::TraceParent;

    pub(super) const fn adopt(_: &Span, _: &TraceParent) {}

    pub(super) const fn current(_: &Span, _: Option<&TraceParent>) -> Option<TraceParent> {
        None
    }
}
