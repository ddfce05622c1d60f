//! One instance of `payments`: a child that takes charges, and falls ill when it is told to.
//!
//! Work that was begun is finished, whether or not the caller still waits: a timeout on the other
//! side says nothing about what happened here. `fail`, `sink` and `overload` answer before any
//! work; `slow` delays it; `lose_answer` and `stall_body` come after it.
//! `GET /health` says 200 whenever the process can answer: an instance that sinks, fails or sheds
//! real calls finds itself healthy, as such instances do.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::outage::args::Http;
use crate::outage::chance::{self, Use};
use crate::outage::ills::Ills;
use crate::outage::ledger::Order;
use crate::outage::lifeline::{self, Word};
use crate::outage::{BoxError, CALL_HEADER, KEY_HEADER};

/// What a charge takes, besides the ledger, as shares of what it takes on average: the least, and
/// what is drawn for each call on top of it. So 2 up to 8 ms where it is 5 ms on average.
const WORK: (f64, f64) = (0.4, 1.2);
/// Waiting for the ledger has an end, though it is never ill.
const LEDGER_PATIENCE: Duration = Duration::from_secs(10);

/// Who an instance is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Counted from 0.
    pub(crate) instance: usize,
    pub(crate) seed: u64,
    /// What a charge takes on average.
    pub(crate) work: Duration,
    pub(crate) http: Http,
    pub(crate) ledger: SocketAddr,
}

struct Payments {
    identity: Identity,
    ledger: Client<HttpConnector, Full<Bytes>>,
    ills: Mutex<Ills>,
}

/// The child process.
pub(crate) async fn serve(identity: Identity) -> Result<(), BoxError> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let payments = Arc::new(Payments {
        identity,
        ledger: Client::builder(TokioExecutor::new()).build(connector),
        ills: Mutex::default(),
    });
    let (refuse, mut refusing) = watch::channel(false);
    let ill = payments.clone();
    lifeline::hold(
        move |line| match serde_json::from_str(line) {
            Ok(command) => {
                let mut ills = ill.ills.lock().unwrap_or_else(PoisonError::into_inner);
                ills.obey(&command);
                refuse.send_if_modified(|was| std::mem::replace(was, ills.is_refusing()) != *was);
            }
            Err(error) => lifeline::say(&format!("payments does not understand {line}: {error}")),
        },
        || (),
    )?;
    lifeline::die_with_parent();

    let mut bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = bound.local_addr()?.as_socket().ok_or("the system gave no port")?;
    let mut announced = false;
    loop {
        bound.listen(1024)?;
        let listener = TcpListener::from_std(bound.into())?;
        if !announced {
            lifeline::tell(&Word::Listening(address.port()))?;
            announced = true;
        }
        accept(&listener, &payments, &refusing).await;
        drop(listener);
        // Bound and not listening: callers are refused, and nobody else can get the port.
        bound = bind(address)?;
        refusing.wait_for(|refusing| !refusing).await?;
    }
}

fn bind(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // The connections that were cut linger on the same port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Takes connections until the instance refuses them.
async fn accept(
    listener: &TcpListener,
    payments: &Arc<Payments>,
    refusing: &watch::Receiver<bool>,
) {
    let mut refused = refusing.clone();
    loop {
        tokio::select! {
            biased;
            _ = refused.wait_for(|refusing| *refusing) => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, payments.clone(), refusing.clone()));
                }
            }
        }
    }
}

/// How a connection gets cut from within.
#[derive(Default)]
struct Cut {
    asked: Notify,
}

async fn connection(
    stream: TcpStream,
    payments: Arc<Payments>,
    mut refusing: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    // A second handle, since the connection swallows the first: to cut is to reset.
    let Ok(handle) = SockRef::from(&stream).try_clone() else {
        return;
    };
    let cut = Arc::new(Cut::default());
    let http = payments.identity.http;
    let inner = cut.clone();
    let service = service_fn(move |request| answer(payments.clone(), inner.clone(), request));
    let io = TokioIo::new(stream);
    let serving = async move {
        // A broken connection is the caller's to notice.
        let _ = match http {
            Http::One => {
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(io, service)
                    .await
            }
            Http::Two => {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .serve_connection(io, service)
                    .await
            }
        };
    };
    tokio::select! {
        () = serving => {}
        () = cut.asked.notified() => {
            let _ = handle.set_linger(Some(Duration::ZERO));
        }
        _ = refusing.wait_for(|refusing| *refusing) => {}
    }
}

async fn answer(
    payments: Arc<Payments>,
    cut: Arc<Cut>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, BoxError> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/health") => Ok(plain(StatusCode::OK, "{\"status\":\"pass\"}")),
        (&Method::POST, "/charges") => charge(payments, cut, request).await,
        _ => Ok(plain(StatusCode::NOT_FOUND, "there are POST /charges and GET /health")),
    }
}

/// What a caller asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) account: String,
    pub(crate) amount: u64,
}

async fn charge(
    payments: Arc<Payments>,
    cut: Arc<Cut>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, BoxError> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let Some(call) = text(CALL_HEADER).and_then(|call| call.parse::<u64>().ok()) else {
        return Ok(plain(StatusCode::BAD_REQUEST, "the header x-drill-call is missing"));
    };
    let Some(key) = text(KEY_HEADER).map(str::to_owned) else {
        return Ok(plain(StatusCode::BAD_REQUEST, "the header idempotency-key is missing"));
    };
    let fate = {
        let mut ills = payments.ills.lock().unwrap_or_else(PoisonError::into_inner);
        ills.fate(payments.identity.seed, payments.identity.instance, call)
    };
    for fault in &fate.met {
        lifeline::tell(&Word::Met { fault: *fault, call })?;
    }
    let body = request.into_body().collect().await?.to_bytes();
    if let Some((status, retry_after)) = fate.refusal {
        let mut response = plain(StatusCode::from_u16(status)?, "the instance is ill");
        if let Some(after) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        return Ok(response);
    }
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        return Ok(plain(StatusCode::BAD_REQUEST, "the body is not {account, amount}"));
    };
    let order = Order { key, call, account: asked.account, amount: asked.amount };
    // On a task of its own: a caller that hangs up does not undo what it asked for.
    let (status, bytes) = tokio::spawn(async move {
        sleep(fate.delay + payments.identity.work(call)).await;
        payments.enter(&order).await
    })
    .await??;
    if fate.lost {
        cut.asked.notify_one();
        // The connection falls before this answer is written.
        return std::future::pending().await;
    }
    let mut response = Response::new(Answer { bytes: Some(bytes), stalled: fate.stalled });
    *response.status_mut() = status;
    Ok(response)
}

impl Identity {
    /// How long it works for a call.
    fn work(&self, call: u64) -> Duration {
        self.work.mul_f64(WORK.0 + WORK.1 * chance::share(self.seed, Use::Work, &[call]))
    }
}

impl Payments {
    async fn enter(&self, order: &Order) -> Result<(StatusCode, Bytes), BoxError> {
        let request = Request::post(format!("http://{}/charges", self.identity.ledger))
            .body(Full::new(Bytes::from(serde_json::to_vec(order)?)))?;
        let whole = async {
            let response = self.ledger.request(request).await?;
            let status = response.status();
            Ok::<_, BoxError>((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(LEDGER_PATIENCE, whole).await?
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Answer> {
    let bytes = Some(Bytes::from_static(text.as_bytes()));
    let mut response = Response::new(Answer { bytes, stalled: false });
    *response.status_mut() = status;
    response
}

/// A body that says how long it is, and then may never come.
struct Answer {
    bytes: Option<Bytes>,
    stalled: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.stalled {
            // Nobody wakes this: only the end of the connection drops it.
            return Poll::Pending;
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
