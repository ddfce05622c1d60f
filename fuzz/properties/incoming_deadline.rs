//! The headers that a server's deadline comes in, by the front door.
//!
//! The first line is the `grpc-timeout`, the second one the default header, the third one the
//! content type; or several of each with `\r` between them, which no header can hold.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use buttress::{
    body::Body,
    call::Words,
    timeout::{
        DEFAULT_DEADLINE_HEADER, DeadlineHeader, IncomingDeadlineConfig, IncomingDeadlineLayer,
    },
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use tower::{Layer, ServiceExt, service_fn};

use super::deadline::{parse_grpc, parse_millis};

pub(crate) fn holds(bytes: &[u8]) {
    let Some([grpc, millis, kinds]) = super::lists(bytes) else { return };
    let mut headers = super::headers(DeadlineHeader::grpc().name(), &grpc);
    headers.extend(super::headers(&DEFAULT_DEADLINE_HEADER, &millis));
    headers.extend(super::headers(&CONTENT_TYPE, &kinds));

    let read = |values: &[HeaderValue], parse: fn(&[u8]) -> Option<Duration>| match values {
        [] => Ok(None),
        [one] => parse(one.as_bytes()).map(Some).ok_or(Unreadable),
        _ => Err(Unreadable),
    };
    let (grpc, millis) = (read(&grpc, parse_grpc), read(&millis, parse_millis));
    let readable = grpc.is_ok() && millis.is_ok();
    let least = [grpc, millis].into_iter().filter_map(|left| left.ok().flatten()).min();

    for refuse in [false, true] {
        let began = Instant::now();
        let response = ask(headers.clone(), refuse);
        let ended = Instant::now();
        let Some(Served(deadline)) = response.extensions().get() else {
            assert!(refuse && !readable, "{headers:?}");
            is_refused_in_the_callers_own_way(&response, kinds.first());
            continue;
        };
        assert!(readable || !refuse, "{headers:?}");
        assert_eq!(deadline.is_some(), least.is_some(), "{headers:?}");
        if let (Some(deadline), Some(left)) = (deadline, least) {
            assert!((began + left..=ended + left).contains(deadline), "{headers:?}");
        }
    }
}

#[derive(Clone, Copy)]
struct Unreadable;

/// By when the handler had to be through.
#[derive(Clone, Copy)]
struct Served(Option<Instant>);

fn ask(headers: HeaderMap, refuse: bool) -> Response<()> {
    let mut request = Request::new(Body::empty());
    *request.headers_mut() = headers;
    let handler = service_fn(async |request: Request<Body>| {
        let deadline = request.extensions().get::<Words>().and_then(|words| words.deadline);
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Served(deadline));
        Ok::<_, Infallible>(response)
    });
    let config = IncomingDeadlineConfig::new().refuse_unreadable(refuse);
    let service = IncomingDeadlineLayer::new(config).layer(handler);
    let response = super::in_runtime(service.oneshot(request));
    response.expect("it answers").map(drop)
}

fn is_refused_in_the_callers_own_way(response: &Response<()>, kind: Option<&HeaderValue>) {
    let lower = kind.map(|kind| kind.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    let speaks_grpc = match lower.strip_prefix(b"application/grpc") {
        Some([]) => true,
        Some([next, ..]) => b"+-; ".contains(next),
        None => false,
    };
    let headers = response.headers();
    if speaks_grpc {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(headers["grpc-status"], "13");
        assert_eq!(headers.get(CONTENT_TYPE), kind);
    } else {
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        assert!(!headers.contains_key("grpc-status"));
    }
}
