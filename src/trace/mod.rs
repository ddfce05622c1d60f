//! Spans for the call and for each of its attempts, and the trace in the headers of each.
//!
//! - [`CallSpanLayer`] stands above retry: one INTERNAL span for the call as its caller sees it.
//! - [`AttemptSpanLayer`] stands below retry: one CLIENT span for each request that goes out,
//!   and its `traceparent` and `tracestate` (W3C Trace Context, level 2).
//!
//! ```text
//! call GET  ├──────────────────────────────────────────────┤
//!   GET     ├─── 503 ───┤                                       kind=first
//!   GET                     backoff  ├─── 200 ──────────────┤   kind=retry resend_count=1
//! ```
//!
//! Spans are those of `tracing`, with the fields that `tracing-opentelemetry` understands. With
//! no subscriber that wants them, and no trace that came in, nothing is built and no header is
//! written.
//!
//! ```
//! use std::convert::Infallible;
//! use buttress::{call::Words, trace::{self, AttemptSpanLayer, CallSpanLayer}};
//! use http::{Request, Response};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! // A server's handler, as axum would have it: it calls another service while it answers.
//! async fn handler(incoming: Request<()>) -> Result<Response<()>, buttress::BoxError> {
//!     let mut orders = ServiceBuilder::new()
//!         .layer(CallSpanLayer::default())
//!         // retry stands here
//!         .layer(AttemptSpanLayer::default())
//!         .service(service_fn(async |request: Request<()>| {
//!             let sent = trace::extract(request.headers()).expect("the trace goes on");
//!             assert_eq!(sent.trace_id, 0x4bf92f3577b34da6a3ce929d0e0e4736);
//!             assert_ne!(sent.span_id, 0x00f067aa0ba902b7); // each request has its own
//!             Ok::<_, Infallible>(Response::new(()))
//!         }));
//!
//!     let mut request = Request::get("http://orders/7").body(())?;
//!     if let Some(parent) = trace::extract(incoming.headers()) {
//!         request.extensions_mut().insert(Words::new().trace(parent));
//!     }
//!     orders.ready().await?.call(request).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), buttress::BoxError> {
//! let incoming = Request::get("/")
//!     .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
//!     .body(())?;
//! assert!(handler(incoming).await?.status().is_success());
//! # Ok(()) }
//! ```
//!
//! # Which trace a request carries
//!
//! The first of these that there is, for each attempt anew:
//!
//! 1. with the feature `opentelemetry`: the attempt's own span, as a `tracing-opentelemetry`
//!    layer exports it. If that span is filtered out, the span around it, or the current
//!    OpenTelemetry context, so that a filter does not cut the trace. A trace that came in with
//!    [`Words::trace`](crate::call::Words::trace) becomes the parent of the outermost of our
//!    spans, unless a span around it has a trace already. The random flag of a trace that came
//!    in and its `tracestate` are passed on as they came, also where the SDK would lose them;
//! 2. the trace that came in with [`Words::trace`](crate::call::Words::trace), continued under
//!    a new random span id;
//! 3. none: the headers stay as they are, with a `traceparent` that the caller has set himself.
//!
//! Where there is one, it takes the place of any that is in the headers.
//!
//! # Spans
//!
//! Both have the target `buttress` and the level INFO. Names and fields follow OpenTelemetry's
//! semantic conventions 1.44.
//!
//! | field | call | attempt |
//! |---|---|---|
//! | name (`otel.name`) | `call {method}` | `{method}`; `HTTP` for an unknown one |
//! | `otel.kind` | `internal` | `client` |
//! | `http.request.method`, `.method_original` | yes | yes |
//! | `http.request.resend_count` | | from the second attempt on |
//! | `server.address`, `server.port` | yes | yes: the service, not the instance |
//! | `url.full` | | yes, without credentials and [signatures](DEFAULT_REDACTED) |
//! | `network.peer.address`, `.port` | | the instance that a balancer below picked |
//! | `network.protocol.version` | | yes |
//! | `buttress.attempt.kind` | | `first`, `retry`, `hedge`, `transparent` |
//! | `http.response.status_code` | of the last answer | yes |
//! | `otel.status_code`, `error.type` | on an error that reached the caller | on an error |
//!
//! A span ends when the response's head has been read, or when there is an error. Reading the
//! body is not part of it. A status of 400 and above is an error; the status of a success is
//! left unset.
//!
//! `error.type` is the status code, or one of these:
//!
//! | `error.type` | what |
//! |---|---|
//! | as named by a [`Mark`](crate::classify::Mark::named) | an error that knows its name |
//! | `timeout` | a timeout or deadline, ours or of the operating system |
//! | `circuit_open` | a circuit breaker's [`Refusal`](crate::endpoint::Refusal) |
//! | `connect_refused` | nobody listens there |
//! | `connect` | no connection came to be, for another reason |
//! | `connection_reset`, `connection_closed` | the connection broke |
//! | `unprocessed` | refused unprocessed, through no fault of anybody |
//! | `overload` | the service as a whole is overloaded |
//! | `invalid_request` | it could not be sent as it was |
//! | `_OTHER` | anything else |
//!
//! # Defaults
//!
//! | setting | default | range | why |
//! |---|---|---|---|
//! | [`TraceConfig::known_methods`] | [`DEFAULT_KNOWN_METHODS`] | any | semantic conventions |
//! | [`TraceConfig::redacted`] | [`DEFAULT_REDACTED`] | any | semantic conventions |
//!
//! # Errors
//!
//! Those of the service below, as they came.
//!
//! # When the future is dropped
//!
//! The span ends. A caller that gave up (a cancelled call, the loser of a hedge) is no error:
//! only the instance is recorded. What was dropped because the call's own deadline had passed
//! is an error, of type `timeout`.
//!
//! # Events
//!
//! None. What the other layers report is within these spans, see [`observe`](crate::observe).
//! A layer that moves an attempt to another task (`tower::Buffer`) between the two cuts the
//! attempt's span from the call's.

mod attempt;
mod call;
mod config;
mod context;
mod describe;
mod future;
mod outcome;
mod parent;
mod spans;
mod watched;

pub(crate) use self::watched::Watched;
pub use self::{
    attempt::{AttemptSpan, AttemptSpanLayer},
    call::{CallSpan, CallSpanLayer},
    config::{DEFAULT_KNOWN_METHODS, DEFAULT_REDACTED, TraceConfig},
    context::{extract, inject},
    future::ResponseFuture,
};
