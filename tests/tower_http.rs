//! tower-http's layers above the client and beneath it, over a real socket.
#![cfg(feature = "hyper")]

mod support;

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use buttress::{
    BoxError,
    body::Body,
    client::{AttemptBody, Client},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use support::{Server, company::lock, spans::Spans};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    compression::CompressionLayer, decompression::DecompressionLayer,
    set_header::SetRequestHeaderLayer, trace::TraceLayer,
};

const TEXT: &str = "a page that is worth its compression, a page that is worth its compression";

/// What a server saw of each request.
type Log = Arc<Mutex<Vec<Request<()>>>>;

/// A server that compresses its page when it is asked to, and fails at first.
async fn server(failures: usize) -> (Server, Log) {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let server = Server::start(move |request: Request<Incoming>| {
        let (head, _) = request.into_parts();
        let request = Request::from_parts(head, ());
        let fails = {
            let mut log = lock(&seen);
            log.push(request.clone());
            log.len() <= failures
        };
        async move {
            let page = service_fn(move |_: Request<()>| async move {
                let mut response = Response::new(Full::new(Bytes::from(TEXT)));
                if fails {
                    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                }
                Ok::<_, std::convert::Infallible>(response)
            });
            let page = ServiceBuilder::new().layer(CompressionLayer::new()).service(page);
            let response = page.oneshot(request).await.expect("it can't fail");
            let (head, body) = response.into_parts();
            let bytes = body.collect().await.expect("it is in memory").to_bytes();
            Response::from_parts(head, Full::new(bytes))
        }
    })
    .await;
    (server, log)
}

fn team(name: &'static str) -> SetRequestHeaderLayer<HeaderValue> {
    SetRequestHeaderLayer::overriding(
        HeaderName::from_static("x-team"),
        HeaderValue::from_static(name),
    )
}

#[tokio::test]
async fn layers_of_tower_http_fit_above_the_client() -> Result<(), BoxError> {
    let spans = Spans::listen();
    let (server, log) = server(1).await;
    let client =
        Client::builder("http://pages").endpoints([server.address(), server.address()]).build()?;
    let client = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(team("above"))
        .layer(DecompressionLayer::new())
        .service(client);
    let request = Request::get("/page").body(Body::empty())?;
    let response = client.oneshot(request).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get(header::CONTENT_ENCODING), None);
    assert_eq!(response.into_body().collect().await?.to_bytes(), TEXT);

    let log = lock(&log);
    assert_eq!(log.len(), 2, "one call of two attempts");
    for seen in &*log {
        assert_eq!(seen.headers()["x-team"], "above");
        assert!(seen.headers()[header::ACCEPT_ENCODING].to_str()?.contains("gzip"));
    }
    assert_eq!(spans.named("request").len(), 1, "tower-http's span is around the call");
    let names: Vec<&str> = spans.seen().iter().map(|span| span.name).collect();
    assert_eq!(names, ["request", "call", "attempt", "attempt"]);
    Ok(())
}

#[tokio::test]
async fn layers_of_tower_http_fit_beneath_the_client() -> Result<(), BoxError> {
    let spans = Spans::listen();
    let (server, log) = server(1).await;
    let client = Client::builder("http://pages")
        .endpoints([server.address(), server.address()])
        .endpoint_layer(DecompressionLayer::new())
        .endpoint_layer(team("beneath"))
        .endpoint_layer(TraceLayer::new_for_http())
        .collect_bodies()
        .build()?;
    let response = client.send(Request::get("/page").body(())?).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get(header::CONTENT_ENCODING), None);
    let whole = response.into_body();
    assert_eq!(whole.as_bytes(), Some(TEXT.as_bytes()), "what is collected is decompressed");

    let log = lock(&log);
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|seen| seen.headers()["x-team"] == "beneath"));
    let names: Vec<&str> = spans.seen().iter().map(|span| span.name).collect();
    assert_eq!(names, ["call", "attempt", "request", "attempt", "request"]);
    Ok(())
}

#[tokio::test]
async fn a_compressed_body_that_is_cut_short_is_tried_again() -> Result<(), BoxError> {
    let log = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&log);
    let server = Server::start(move |_| {
        let mut seen = lock(&seen);
        *seen += 1;
        let first = *seen == 1;
        async move {
            let mut packed = Vec::new();
            let page = service_fn(|_: Request<()>| async {
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(TEXT))))
            });
            let page = ServiceBuilder::new().layer(CompressionLayer::new()).service(page);
            let request = Request::get("/").header(header::ACCEPT_ENCODING, "gzip").body(());
            let response = page.oneshot(request.expect("a request")).await.expect("no failure");
            let (head, body) = response.into_parts();
            let bytes = body.collect().await.expect("in memory").to_bytes();
            let end = if first { bytes.len() / 2 } else { bytes.len() };
            packed.write_all(&bytes[..end]).expect("memory");
            let mut response = Response::from_parts(head, Full::new(Bytes::from(packed)));
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response
        }
    })
    .await;
    let client = Client::builder("http://pages")
        .endpoints([server.address()])
        .endpoint_layer(DecompressionLayer::new())
        .collect_bodies()
        .build()?;
    let response = client.send(Request::get("/page").body(())?).await?;
    assert_eq!(response.into_body().as_bytes(), Some(TEXT.as_bytes()));
    assert_eq!(*lock(&log), 2);
    Ok(())
}

/// For layers of other crates that want to name the request's type.
#[tokio::test]
async fn a_layer_can_name_what_it_sees() -> Result<(), BoxError> {
    let (server, log) = server(0).await;
    let path = tower::util::MapRequestLayer::new(|mut request: Request<AttemptBody>| {
        *request.uri_mut() = http::Uri::from_static("http://pages/rewritten");
        request
    });
    let client = Client::builder("http://pages")
        .endpoints([server.address()])
        .endpoint_layer(path)
        .build()?;
    client.send(Request::new(Body::empty())).await?;
    assert_eq!(lock(&log)[0].uri().path(), "/rewritten");
    Ok(())
}
