//! The header that goes out and the span that is exported are one.
#![cfg(feature = "opentelemetry")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use buttress::{
    call::{AttemptKind, TraceParent, Words},
    trace::{AttemptSpanLayer, CallSpanLayer, extract},
};
use http::{HeaderValue, Request, Response, StatusCode};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceContextExt, TraceState, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tracing::{Dispatch, Metadata};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt};

/// A program with an OpenTelemetry layer.
struct Program {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
}

impl Program {
    fn new(sampler: Sampler) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_sampler(sampler)
            .build();
        Self { exporter, provider }
    }

    /// It sees the spans that `wanted` says.
    fn dispatch(&self, wanted: fn(&Metadata<'_>) -> bool) -> Dispatch {
        let layer = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("test"));
        Dispatch::new(tracing_subscriber::registry().with(layer.with_filter(filter_fn(wanted))))
    }

    fn spans(&self) -> Vec<SpanData> {
        let mut spans = self.exporter.get_finished_spans().expect("the exporter works");
        spans.sort_by_key(|span| span.start_time);
        spans
    }

    fn only(&self, name: &str) -> SpanData {
        let mut spans = self.spans();
        spans.retain(|span| span.name == name);
        assert_eq!(spans.len(), 1, "{name}: {spans:?}");
        spans.remove(0)
    }
}

fn get(words: Words) -> Request<()> {
    Request::get("http://orders:8080/7").extension(words).body(()).expect("a request")
}

/// The trace that the request carries when it goes out.
async fn sent(request: Request<()>) -> Option<TraceParent> {
    let seen = Arc::new(Mutex::new(None));
    let service = ServiceBuilder::new()
        .layer(CallSpanLayer::default())
        .layer(AttemptSpanLayer::default())
        .service(service_fn(|request: Request<()>| {
            *seen.lock().unwrap() = extract(request.headers());
            async { Ok::<_, Infallible>(Response::new(())) }
        }));
    service.oneshot(request).await.unwrap();
    seen.lock().unwrap().clone()
}

fn came_in() -> TraceParent {
    TraceParent::new(0xabc, 0xdef, 0b11)
        .expect("no id is zero")
        // A key that only level 2 allows, and a space that nobody may take out.
        .with_state(HeaderValue::from_static("vendor@@x=1, other=2"))
}

fn trace_id(span: &SpanData) -> u128 {
    u128::from_be_bytes(span.span_context.trace_id().to_bytes())
}

fn span_id(id: SpanId) -> u64 {
    u64::from_be_bytes(id.to_bytes())
}

fn attribute(span: &SpanData, name: &str) -> Option<Value> {
    span.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| pair.value.clone())
}

#[tokio::test]
async fn the_header_carries_the_span_of_its_attempt() {
    let program = Program::new(Sampler::AlwaysOn);
    let _default = tracing::dispatcher::set_default(&program.dispatch(|_| true));
    let sent = sent(get(Words::new())).await.expect("the span has a trace");

    let (call, attempt) = (program.only("call GET"), program.only("GET"));
    assert_eq!(sent.trace_id, trace_id(&attempt));
    assert_eq!(sent.span_id, span_id(attempt.span_context.span_id()));
    assert_eq!(sent.flags, 1);
    assert_eq!(sent.state, None);
    assert_eq!(attempt.parent_span_id, call.span_context.span_id());
    assert_eq!(call.parent_span_id, SpanId::INVALID);

    assert_eq!(call.span_kind, SpanKind::Internal);
    assert_eq!(attempt.span_kind, SpanKind::Client);
    assert_eq!(call.status, Status::Unset);
    assert_eq!(attempt.status, Status::Unset);
    assert_eq!(attribute(&attempt, "server.port"), Some(Value::I64(8080)));
    assert_eq!(attribute(&attempt, "http.response.status_code"), Some(Value::I64(200)));
    assert_eq!(attribute(&attempt, "url.full"), Some("http://orders:8080/7".into()));
    assert_eq!(attribute(&attempt, "otel.kind"), None);
}

#[tokio::test]
async fn each_attempt_carries_its_own_span_and_only_the_failed_one_is_an_error() {
    let program = Program::new(Sampler::AlwaysOn);
    let _default = tracing::dispatcher::set_default(&program.dispatch(|_| true));
    let seen = Mutex::new(Vec::new());
    let attempts = ServiceBuilder::new().layer(AttemptSpanLayer::default()).service(service_fn(
        |request: Request<()>| {
            let mut seen = seen.lock().unwrap();
            seen.push(extract(request.headers()).expect("the span has a trace"));
            let mut response = Response::new(());
            if seen.len() == 1 {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
            }
            async { Ok::<_, Infallible>(response) }
        },
    ));
    let retried = service_fn(async |request: Request<()>| {
        attempts.clone().oneshot(request.clone()).await?;
        let mut words = Words::new();
        (words.attempt, words.kind) = (2, AttemptKind::Retry);
        attempts.clone().oneshot(get(words)).await
    });
    let service = ServiceBuilder::new().layer(CallSpanLayer::default()).service(retried);
    service.oneshot(get(Words::new())).await.unwrap();

    let spans = program.spans();
    let [call, first, second] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(call.status, Status::Unset);
    assert_eq!(first.status, Status::error(""));
    assert_eq!(attribute(first, "error.type"), Some("502".into()));
    assert_eq!(attribute(first, "http.request.resend_count"), None);
    assert_eq!(second.status, Status::Unset);
    assert_eq!(attribute(second, "http.request.resend_count"), Some(Value::I64(1)));
    for (span, sent) in [first, second].into_iter().zip(seen.lock().unwrap().iter()) {
        assert_eq!(span.parent_span_id, call.span_context.span_id());
        assert_eq!(sent.span_id, span_id(span.span_context.span_id()));
    }
}

#[tokio::test]
async fn a_trace_that_came_in_is_the_ancestor_and_keeps_its_state_and_random_flag() {
    let program = Program::new(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    let _default = tracing::dispatcher::set_default(&program.dispatch(|_| true));
    let sent = sent(get(Words::new().trace(came_in()))).await.expect("a trace came in");

    let (call, attempt) = (program.only("call GET"), program.only("GET"));
    assert_eq!(trace_id(&call), came_in().trace_id);
    assert_eq!(span_id(call.parent_span_id), came_in().span_id);
    assert_eq!(attempt.parent_span_id, call.span_context.span_id());
    assert_eq!(sent.trace_id, came_in().trace_id);
    assert_eq!(sent.span_id, span_id(attempt.span_context.span_id()));
    assert_eq!(sent.flags, came_in().flags);
    assert_eq!(sent.state, came_in().state);
}

#[tokio::test]
async fn an_attempt_layer_alone_takes_up_a_trace_that_came_in() {
    let program = Program::new(Sampler::AlwaysOn);
    let _default = tracing::dispatcher::set_default(&program.dispatch(|_| true));
    let service = AttemptSpanLayer::default();
    let service = tower::Layer::layer(
        &service,
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))),
    );
    service.oneshot(get(Words::new().trace(came_in()))).await.unwrap();
    assert_eq!(span_id(program.only("GET").parent_span_id), came_in().span_id);
}

#[tokio::test]
async fn a_sampler_that_drops_the_span_does_not_cut_the_trace() {
    let program = Program::new(Sampler::AlwaysOff);
    let _default = tracing::dispatcher::set_default(&program.dispatch(|_| true));
    let sent = sent(get(Words::new().trace(came_in()))).await.expect("a trace came in");
    assert!(program.spans().is_empty());
    assert_eq!(sent.trace_id, came_in().trace_id);
    assert_ne!(sent.span_id, came_in().span_id);
    assert_eq!(sent.flags, 0b10, "not sampled, and still random");
    assert_eq!(sent.state, came_in().state);
}

#[tokio::test]
async fn a_span_around_the_call_has_the_first_word_on_its_trace() {
    let program = Program::new(Sampler::AlwaysOn);
    let _default = tracing::dispatcher::set_default(&program.dispatch(|_| true));
    let handler = tracing::info_span!("handler");
    let entered = handler.enter();
    let sent = sent(get(Words::new().trace(came_in()))).await.expect("the span has a trace");
    drop(entered);
    drop(handler);
    let (handler, call) = (program.only("handler"), program.only("call GET"));
    assert_eq!(call.parent_span_id, handler.span_context.span_id());
    assert_ne!(trace_id(&handler), came_in().trace_id);
    assert_eq!(sent.trace_id, trace_id(&handler));
    assert_eq!(sent.state, None, "it belongs to another trace");
}

#[tokio::test]
async fn a_filter_on_our_spans_does_not_cut_the_trace() {
    let program = Program::new(Sampler::AlwaysOn);
    let dispatch = program.dispatch(|metadata| metadata.target() != "buttress");
    let _default = tracing::dispatcher::set_default(&dispatch);
    let handler = tracing::info_span!("handler");
    let entered = handler.enter();
    let sent = sent(get(Words::new())).await.expect("the span around has a trace");
    drop(entered);
    drop(handler);
    let handler = program.only("handler");
    assert_eq!(program.spans().len(), 1);
    assert_eq!(sent.trace_id, trace_id(&handler));
    assert_eq!(sent.span_id, span_id(handler.span_context.span_id()));
}

#[tokio::test]
async fn a_context_without_any_tracing_span_goes_on_too() {
    let state = TraceState::from_key_value([("vendor", "1")]).unwrap();
    let native = SpanContext::new(
        TraceId::from(0x123_u128),
        SpanId::from(0x456_u64),
        TraceFlags::SAMPLED,
        false,
        state,
    );
    let attached = Context::new().with_remote_span_context(native).attach();
    let sent = sent(get(Words::new())).await.expect("there is a context");
    drop(attached);
    assert_eq!((sent.trace_id, sent.span_id, sent.flags), (0x123, 0x456, 1));
    assert_eq!(sent.state, Some(HeaderValue::from_static("vendor=1")));
}

#[tokio::test]
async fn without_an_opentelemetry_layer_a_trace_that_came_in_goes_on_all_the_same() {
    for listening in [false, true] {
        let dispatch = Dispatch::new(tracing_subscriber::registry());
        let _default = listening.then(|| tracing::dispatcher::set_default(&dispatch));
        assert_eq!(sent(get(Words::new())).await, None);
        let sent = sent(get(Words::new().trace(came_in()))).await.expect("a trace came in");
        assert_eq!(sent.trace_id, came_in().trace_id);
        assert_ne!(sent.span_id, came_in().span_id);
        assert_eq!((sent.flags, sent.state), (came_in().flags, came_in().state));
    }
}

#[test]
fn a_span_without_a_layer_has_no_context() {
    // What the bridge rests on: no layer, no context, and no panic.
    assert!(!tracing::Span::none().context().span().span_context().is_valid());
}
