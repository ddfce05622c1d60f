//! The server of a row.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress::{
    BoxError,
    body::{Body, ReplayBody},
    call::{Call, mark_handed_over, mark_unsent},
    classify::{Blame, GrpcCode, Mark, Retry, Sent, Verdict},
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::Service;

use super::{
    row::Rule,
    support::{
        company::{lock, now},
        frames::{Frames, Piece, answer, fields, message},
    },
};

/// What it saw of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) port: u16,
    pub(crate) headers: HeaderMap,
}

/// All endpoints of the server together.
#[derive(Clone)]
pub(crate) struct Server {
    rules: Arc<[Rule]>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        Self { rules: rules.into(), seen: Arc::default() }
    }

    pub(crate) fn at(&self, port: u16) -> At {
        At { server: self.clone(), port }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }
}

/// One endpoint.
#[derive(Clone)]
pub(crate) struct At {
    server: Server,
    port: u16,
}

pub(crate) type Attempt = Call<Request<ReplayBody<Body>>>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Frames>, BoxError>> + Send>>;

impl Service<Attempt> for At {
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Attempt) -> Answering {
        let mut seen = lock(&self.server.seen);
        let nth = seen.len();
        let (head, body) = call.request.into_parts();
        seen.push(Seen { at: now(), port: self.port, headers: head.headers });
        drop(seen);
        let holds = |rule: &&Rule| rule.at.is_empty() || rule.at.contains(&nth);
        let rule = self.server.rules.iter().find(holds).cloned();
        Box::pin(async move {
            let rule = rule.ok_or_else(|| format!("the script has no answer to attempt {nth}"))?;
            mark_handed_over();
            if rule.answer != "refused" {
                body.collect().await?;
            }
            if rule.takes_ms > 0 {
                tokio::time::sleep(Duration::from_millis(rule.takes_ms)).await;
            }
            follow(&rule)
        })
    }
}

/// gRPC's code of this name.
pub(crate) fn code(name: &str) -> Option<GrpcCode> {
    GrpcCode::ALL.into_iter().find(|code| code.name() == name)
}

fn follow(rule: &Rule) -> Result<Response<Frames>, BoxError> {
    let others = fields(rule.fields.iter().map(|(name, value)| (&**name, &**value)));
    if let Some(code) = code(&rule.answer) {
        let mut status = fields([("grpc-status", &*code.number().to_string())]);
        append(&mut status, &others);
        let place = match code {
            GrpcCode::Ok => "after message",
            _ => "head",
        };
        return Ok(match rule.place.as_deref().unwrap_or(place) {
            "head" => {
                let mut response = answer([]);
                append(response.headers_mut(), &status);
                response
            }
            "after head" => answer([Piece::Trailers(status)]),
            "after message" => answer([message("m"), Piece::Trailers(status)]),
            place => return Err(format!("no code can be in {place:?}").into()),
        });
    }
    if let Ok(status) = rule.answer.parse::<u16>() {
        let mut response = answer([message("m")]);
        response.headers_mut().clear();
        *response.status_mut() = StatusCode::from_u16(status)?;
        append(response.headers_mut(), &others);
        return Ok(response);
    }
    match &*rule.answer {
        "refused" => {
            mark_unsent();
            Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
        }
        "reset" => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        "unprocessed" => Err(Unprocessed::default().into()),
        other => Err(format!("the script says {other:?}, which nobody understands").into()),
    }
}

fn append(headers: &mut HeaderMap, others: &HeaderMap) {
    for (name, value) in others {
        headers.append(name, value.clone());
    }
}

/// A stream that HTTP/2 guarantees unprocessed.
#[derive(Debug)]
struct Unprocessed(Mark);

impl Default for Unprocessed {
    fn default() -> Self {
        Self(Mark::new(Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent)))
    }
}

impl fmt::Display for Unprocessed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was refused")
    }
}

impl StdError for Unprocessed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}
