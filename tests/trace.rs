//! Spans and headers, as a program that uses the layers sees them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    future::{Future, pending},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    call::{AttemptKind, Stage, Target, TraceParent, Trail, Words, mark_handed_over, mark_target},
    endpoint::{EndpointKey, Refusal},
    trace::{AttemptSpanLayer, CallSpanLayer, TraceConfig, extract},
};
use futures_util::{future::poll_immediate, pin_mut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, retry::Policy, service_fn};
use tracing::{Dispatch, Subscriber, field::Visit, span};
use tracing_subscriber::{
    layer::{Context as LayerContext, SubscriberExt},
    registry::LookupSpan,
};

/// A span as it was seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    closed: bool,
}

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Keeps every span, and for each event the name of the span that it was in.
#[derive(Clone, Default)]
struct Capture {
    spans: Arc<Mutex<BTreeMap<u64, Seen>>>,
    events: Arc<Mutex<Vec<Option<&'static str>>>>,
}

impl Capture {
    fn dispatch(&self) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(self.clone()))
    }

    /// All spans, in the order in which they began.
    fn spans(&self) -> Vec<(u64, Seen)> {
        self.spans.lock().unwrap().iter().map(|(&id, seen)| (id, seen.clone())).collect()
    }

    fn named(&self, name: &str) -> Vec<Seen> {
        let spans = self.spans();
        spans.into_iter().map(|(_, seen)| seen).filter(|seen| seen.name == name).collect()
    }

    fn only(&self, name: &str) -> Seen {
        let mut spans = self.named(name);
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans.remove(0)
    }
}

impl<S> tracing_subscriber::Layer<S> for Capture
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, ctx: LayerContext<'_, S>) {
        let mut spans = self.spans.lock().unwrap();
        // The registry gives an id again once its span is closed: a number of our own.
        let number = spans.len() as u64;
        let span = ctx.span(id).expect("it was just made");
        let parent = span.parent().and_then(|parent| parent.extensions().get::<u64>().copied());
        span.extensions_mut().insert(number);
        let mut seen = Seen { name: attrs.metadata().name(), parent, ..Seen::default() };
        attrs.record(&mut seen);
        spans.insert(number, seen);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: LayerContext<'_, S>) {
        let number = ctx.span(id).and_then(|span| span.extensions().get::<u64>().copied());
        let mut spans = self.spans.lock().unwrap();
        let seen = spans.get_mut(&number.expect("we numbered it")).expect("we kept it");
        assert!(!seen.closed);
        values.record(seen);
    }

    fn on_event(&self, _: &tracing::Event<'_>, ctx: LayerContext<'_, S>) {
        let name = ctx.lookup_current().map(|span| span.name());
        self.events.lock().unwrap().push(name);
    }

    fn on_close(&self, id: span::Id, ctx: LayerContext<'_, S>) {
        let number = ctx.span(&id).and_then(|span| span.extensions().get::<u64>().copied());
        let mut spans = self.spans.lock().unwrap();
        spans.get_mut(&number.expect("we numbered it")).expect("we kept it").closed = true;
    }
}

/// Tries again whatever failed, and says so in the words.
#[derive(Clone)]
struct Again;

impl<B> Policy<Request<()>, Response<B>, BoxError> for Again {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        request: &mut Request<()>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Self::Future> {
        if matches!(result, Ok(response) if response.status().is_success()) {
            return None;
        }
        let words = request.extensions_mut().get_mut::<Words>()?;
        words.attempt += 1;
        words.kind = AttemptKind::Retry;
        (words.attempt <= 2).then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
        Some(request.clone())
    }
}

fn get(uri: &str) -> Request<()> {
    let mut words = Words::new();
    words.attempt = 1;
    Request::get(uri).extension(words).body(()).expect("a request")
}

fn answer(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

fn came_in() -> TraceParent {
    TraceParent::new(0xabc, 0xdef, 0b11)
        .expect("no id is zero")
        .with_state(HeaderValue::from_static("vendor@@x=1, other=2"))
}

fn instance() -> (Target, SocketAddr) {
    let address = SocketAddr::from(([10, 0, 0, 7], 8080));
    (Target::new(EndpointKey::unique(), address), address)
}

#[tokio::test]
async fn a_call_has_one_span_and_each_attempt_a_child_of_it() {
    let capture = Capture::default();
    let _default = tracing::dispatcher::set_default(&capture.dispatch());
    let (target, _) = instance();
    let mut service = ServiceBuilder::new()
        .layer(CallSpanLayer::default())
        .retry(Again)
        .layer(AttemptSpanLayer::default())
        .service(service_fn(move |request: Request<()>| async move {
            mark_target(target);
            tokio::task::yield_now().await;
            let first = request.extensions().get::<Words>().is_some_and(|words| words.attempt == 1);
            let status = if first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            Ok::<_, Infallible>(answer(status))
        }));
    let outer = tracing::info_span!("handler");
    let entered = outer.enter();
    let response = service.ready().await.unwrap().call(get("http://orders/7")).await.unwrap();
    drop(entered);
    assert_eq!(response.status(), StatusCode::OK);

    let spans = capture.spans();
    let names: Vec<_> = spans.iter().map(|(_, seen)| (seen.name, seen.parent)).collect();
    assert_eq!(
        names,
        [("handler", None), ("call", Some(0)), ("attempt", Some(1)), ("attempt", Some(1))]
    );
    assert!(spans[1..].iter().all(|(_, seen)| seen.closed));

    let call = &spans[1].1;
    assert_eq!(call.field("otel.kind"), Some("internal"));
    assert_eq!(call.field("otel.name"), Some("call GET"));
    assert_eq!(call.field("http.response.status_code"), Some("200"));
    // The attempt that failed was made good: the call is no error.
    assert_eq!(call.field("otel.status_code"), None);
    assert_eq!(call.field("error.type"), None);

    let (first, second) = (&spans[2].1, &spans[3].1);
    for attempt in [first, second] {
        assert_eq!(attempt.field("otel.kind"), Some("client"));
        assert_eq!(attempt.field("otel.name"), Some("GET"));
        assert_eq!(attempt.field("http.request.method"), Some("GET"));
        assert_eq!(attempt.field("http.request.method_original"), None);
        assert_eq!(attempt.field("server.address"), Some("orders"));
        assert_eq!(attempt.field("server.port"), Some("80"));
        assert_eq!(attempt.field("url.full"), Some("http://orders/7"));
        assert_eq!(attempt.field("network.peer.address"), Some("10.0.0.7"));
        assert_eq!(attempt.field("network.peer.port"), Some("8080"));
        assert_eq!(attempt.field("network.protocol.version"), Some("1.1"));
    }
    assert_eq!(first.field("http.request.resend_count"), None);
    assert_eq!(first.field("buttress.attempt.kind"), Some("first"));
    assert_eq!(first.field("http.response.status_code"), Some("503"));
    assert_eq!(first.field("otel.status_code"), Some("ERROR"));
    assert_eq!(first.field("error.type"), Some("503"));
    assert_eq!(second.field("http.request.resend_count"), Some("1"));
    assert_eq!(second.field("buttress.attempt.kind"), Some("retry"));
    assert_eq!(second.field("otel.status_code"), None);
    assert_eq!(second.field("error.type"), None);
}

#[tokio::test]
async fn an_error_that_reaches_the_caller_is_one_on_both_spans() {
    type Outcome = fn() -> Result<Response<()>, BoxError>;
    let table: Vec<(Outcome, &str, Option<&str>)> = vec![
        (|| Ok(answer(StatusCode::NO_CONTENT)), "none", None),
        (|| Ok(answer(StatusCode::FOUND)), "none", None),
        (|| Ok(answer(StatusCode::NOT_FOUND)), "404", None),
        (|| Ok(answer(StatusCode::INTERNAL_SERVER_ERROR)), "500", None),
        (
            || Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
            "connect_refused",
            Some("connection refused"),
        ),
        (
            || Err(Refusal::indefinite().into()),
            "circuit_open",
            Some("the circuit breaker is open: the request was not carried out"),
        ),
        (|| Err("who knows".into()), "_OTHER", Some("who knows")),
    ];
    for (outcome, error_type, description) in table {
        let capture = Capture::default();
        let _default = tracing::dispatcher::set_default(&capture.dispatch());
        let service = ServiceBuilder::new()
            .layer(CallSpanLayer::default())
            .layer(AttemptSpanLayer::default())
            .service(service_fn(move |_: Request<()>| async move { outcome() }));
        let expected = outcome().map(|response| response.status()).ok();
        let result = service.oneshot(get("http://orders/7")).await;
        assert_eq!(result.as_ref().map(Response::status).ok(), expected);
        for name in ["call", "attempt"] {
            let span = capture.only(name);
            let error = (error_type != "none").then_some(error_type);
            assert_eq!(span.field("error.type"), error, "{name}");
            assert_eq!(span.field("otel.status_code"), error.and(Some("ERROR")), "{name}");
            assert_eq!(span.field("otel.status_description"), description, "{name}");
        }
    }
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_is_no_error() {
    let capture = Capture::default();
    let _default = tracing::dispatcher::set_default(&capture.dispatch());
    let (target, _) = instance();
    let mut service = ServiceBuilder::new()
        .layer(CallSpanLayer::default())
        .layer(AttemptSpanLayer::default())
        .service(service_fn(move |_: Request<()>| async move {
            mark_target(target);
            pending::<Result<Response<()>, Infallible>>().await
        }));
    let mut request = get("http://orders/7");
    let later = std::time::Instant::now() + Duration::from_secs(3600);
    request.extensions_mut().insert(Words::new().deadline(later));
    let mut future = Box::pin(service.ready().await.unwrap().call(request));
    assert!(poll_immediate(&mut future).await.is_none());
    assert!(!capture.only("attempt").closed);
    drop(future);
    for name in ["call", "attempt"] {
        let span = capture.only(name);
        assert!(span.closed);
        assert_eq!(span.field("otel.status_code"), None);
        assert_eq!(span.field("error.type"), None);
        assert_eq!(span.field("http.response.status_code"), None);
    }
    // Which instance was so slow is still of interest.
    assert_eq!(capture.only("attempt").field("network.peer.address"), Some("10.0.0.7"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_deadline_cuts_off_timed_out() {
    let capture = Capture::default();
    let _default = tracing::dispatcher::set_default(&capture.dispatch());
    let service = AttemptSpanLayer::default().layer(service_fn(async |_: Request<()>| {
        pending::<Result<Response<()>, Infallible>>().await
    }));
    let limit = Duration::from_secs(1);
    let deadline = tokio::time::Instant::now() + limit;
    let mut request = get("http://orders/7");
    request.extensions_mut().insert(Words::new().deadline(deadline.into_std()));
    tokio::time::timeout(limit, service.oneshot(request)).await.unwrap_err();
    let span = capture.only("attempt");
    assert!(span.closed);
    assert_eq!(span.field("otel.status_code"), Some("ERROR"));
    assert_eq!(span.field("error.type"), Some("timeout"));
}

#[tokio::test]
async fn a_span_ends_with_the_head_even_if_the_future_is_kept() {
    let capture = Capture::default();
    let _default = tracing::dispatcher::set_default(&capture.dispatch());
    let mut service = ServiceBuilder::new()
        .layer(CallSpanLayer::default())
        .layer(AttemptSpanLayer::default())
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))));
    let future = service.ready().await.unwrap().call(get("http://orders/7"));
    pin_mut!(future);
    assert!(poll_immediate(&mut future).await.is_some());
    assert!(capture.only("call").closed);
    assert!(capture.only("attempt").closed);
}

#[tokio::test]
async fn what_happens_below_is_within_the_span_until_the_end_of_its_drop() {
    struct Noisy;

    impl Drop for Noisy {
        fn drop(&mut self) {
            tracing::info!("dropped");
        }
    }

    let capture = Capture::default();
    let _default = tracing::dispatcher::set_default(&capture.dispatch());
    let mut service = ServiceBuilder::new().layer(AttemptSpanLayer::default()).service(service_fn(
        |_: Request<()>| {
            tracing::info!("called");
            async {
                let _noisy = Noisy;
                tracing::info!("polled");
                pending::<Result<Response<()>, Infallible>>().await
            }
        },
    ));
    let mut future = Box::pin(service.ready().await.unwrap().call(get("http://orders/7")));
    assert!(poll_immediate(&mut future).await.is_none());
    tracing::info!("outside");
    drop(future);
    tracing::info!("outside");
    let within = Some("attempt");
    assert_eq!(*capture.events.lock().unwrap(), [within, within, None, within, None]);
}

#[tokio::test]
async fn secrets_and_odd_methods_stay_out_of_the_spans() {
    let capture = Capture::default();
    let _default = tracing::dispatcher::set_default(&capture.dispatch());
    let config = TraceConfig::new();
    let service = ServiceBuilder::new()
        .layer(CallSpanLayer::new(config.clone()))
        .layer(AttemptSpanLayer::new(config, Entropy::seeded(1)))
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))));
    let mut request = get("https://me:secret@s3:8443/a?X-Amz-Signature=secret&part=1");
    *request.method_mut() = Method::from_bytes(b"PURGE-7").unwrap();
    service.oneshot(request).await.unwrap();
    let attempt = capture.only("attempt");
    assert_eq!(
        attempt.field("url.full"),
        Some("https://REDACTED:REDACTED@s3:8443/a?X-Amz-Signature=REDACTED&part=1")
    );
    assert_eq!(attempt.field("otel.name"), Some("HTTP"));
    assert_eq!(attempt.field("http.request.method"), Some("_OTHER"));
    assert_eq!(attempt.field("http.request.method_original"), Some("PURGE-7"));
    assert_eq!(attempt.field("server.address"), Some("s3"));
    assert_eq!(attempt.field("server.port"), Some("8443"));
    assert_eq!(capture.only("call").field("otel.name"), Some("call HTTP"));
    for (_, span) in capture.spans() {
        assert!(span.fields.values().all(|value| !value.contains("secret")), "{span:?}");
    }
}

/// The headers of each attempt of one call.
async fn sent(request: Request<()>, entropy: Entropy) -> Vec<HeaderMap> {
    let headers = Arc::new(Mutex::new(Vec::new()));
    let service = ServiceBuilder::new()
        .layer(CallSpanLayer::default())
        .retry(Again)
        .layer(AttemptSpanLayer::new(TraceConfig::new(), entropy))
        .service(service_fn(|request: Request<()>| {
            headers.lock().unwrap().push(request.headers().clone());
            async { Ok::<_, Infallible>(answer(StatusCode::SERVICE_UNAVAILABLE)) }
        }));
    service.oneshot(request).await.unwrap();
    let headers = headers.lock().unwrap();
    assert_eq!(headers.len(), 2);
    headers.clone()
}

#[tokio::test]
async fn no_header_is_written_or_touched_without_a_trace() {
    for listening in [false, true] {
        let capture = Capture::default();
        let _default = listening.then(|| tracing::dispatcher::set_default(&capture.dispatch()));
        for headers in sent(get("http://orders/7"), Entropy::system()).await {
            assert!(headers.is_empty(), "{headers:?}");
        }
        let mut request = get("http://orders/7");
        request.headers_mut().insert("traceparent", HeaderValue::from_static("my own"));
        let own = request.headers().clone();
        for headers in sent(request, Entropy::system()).await {
            assert_eq!(headers, own);
        }
    }
}

#[tokio::test]
async fn a_trace_that_came_in_goes_on_under_a_new_span_for_each_attempt() {
    for listening in [false, true] {
        let capture = Capture::default();
        let _default = listening.then(|| tracing::dispatcher::set_default(&capture.dispatch()));
        let mut request = get("http://orders/7");
        request.extensions_mut().get_mut::<Words>().unwrap().trace = Some(came_in());
        // What the caller has set gives way to the context.
        request.headers_mut().append("traceparent", HeaderValue::from_static("my own"));
        request.headers_mut().append("traceparent", HeaderValue::from_static("and another"));
        request.headers_mut().insert("tracestate", HeaderValue::from_static("mine=1"));
        let sent = sent(request, Entropy::system()).await;
        let parents: Vec<_> =
            sent.iter().map(|headers| extract(headers).expect("valid, and only one")).collect();
        for parent in &parents {
            assert_eq!(parent.trace_id, came_in().trace_id);
            assert_ne!(parent.span_id, came_in().span_id);
            assert_eq!(parent.flags, came_in().flags);
            assert_eq!(parent.state, came_in().state);
        }
        assert_ne!(parents[0].span_id, parents[1].span_id);
    }
}

#[tokio::test]
async fn span_ids_repeat_with_their_seed() {
    let request = || {
        let mut request = get("http://orders/7");
        request.extensions_mut().get_mut::<Words>().unwrap().trace = Some(came_in());
        request
    };
    let sent_by = async |seed| sent(request(), Entropy::seeded(seed)).await;
    assert_eq!(sent_by(7).await, sent_by(7).await);
    assert_ne!(sent_by(7).await, sent_by(8).await);
}

#[tokio::test]
async fn the_trail_goes_through_to_the_layers_above() {
    for listening in [false, true] {
        let capture = Capture::default();
        let _default = listening.then(|| tracing::dispatcher::set_default(&capture.dispatch()));
        let (target, _) = instance();
        let mut service = AttemptSpanLayer::default().layer(service_fn(move |_: Request<()>| {
            mark_target(target);
            async {
                mark_handed_over();
                pending::<Result<Response<()>, Infallible>>().await
            }
        }));
        let mut trail = Trail::new();
        let mut future =
            trail.enter(|| Box::pin(Service::call(&mut service, get("http://orders/7"))));
        let waker = futures_util::task::noop_waker();
        let polled = trail.enter(|| future.as_mut().poll(&mut Context::from_waker(&waker)));
        assert!(polled.is_pending());
        assert_eq!(trail.stage(), Stage::HandedOver);
        assert_eq!(trail.target(), Some(target));
        drop(future);
        if listening {
            // Marked while it was called, and known all the same.
            let span = capture.only("attempt");
            assert_eq!(span.field("network.peer.address"), Some("10.0.0.7"));
        }
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_service_below() {
    /// Ready at the second time of asking, and never again.
    #[derive(Clone)]
    struct Slow(u32);

    impl Service<Request<()>> for Slow {
        type Response = Response<()>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<()>, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.0 += 1;
            match self.0 {
                1 => Poll::Pending,
                2 => Poll::Ready(Ok(())),
                _ => Poll::Ready(Err("closed".into())),
            }
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            assert_eq!(self.0, 2, "the instance that was polled is the one that is called");
            std::future::ready(Ok(Response::new(())))
        }
    }

    let mut service = ServiceBuilder::new()
        .layer(CallSpanLayer::default())
        .layer(AttemptSpanLayer::default())
        .service(Slow(0));
    let waker = futures_util::task::noop_waker();
    let mut cx = Context::from_waker(&waker);
    assert!(service.poll_ready(&mut cx).is_pending());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    service.call(get("http://orders/7")).await.unwrap();
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Err(_))));
}
