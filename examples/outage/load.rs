//! The callers: they call when they mean to, not when the last answer has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Uri, header};
use http_body_util::Full;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::outage::chance::{self, Use};
use crate::outage::clients::{Client, Failure, Reply, Request, URI};
use crate::outage::ledger::Charge;
use crate::outage::payments::Asked;
use crate::outage::plan::Plan;
use crate::outage::progress::Tally;
use crate::outage::{BoxError, CALL_HEADER};

/// When the drill stops waiting for a client that has forgotten a call. Far above any timeout.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a call.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) call: u64,
    /// When it was due, from the beginning of the drill.
    pub(crate) due: Duration,
    /// From when it was due until the caller knew.
    pub(crate) took: Duration,
    /// The charge that was confirmed, or the word for what went wrong.
    pub(crate) result: Result<u64, String>,
}

/// Sends every call of the plan when it is due, and waits for all of them.
///
/// # Errors
/// A client panicked.
pub(crate) async fn run(
    client: Arc<dyn Client>,
    plan: Arc<Plan>,
    start: Instant,
    tally: Arc<Tally>,
) -> Result<Vec<Settled>, BoxError> {
    let mut calls = JoinSet::new();
    let mut settled = Vec::with_capacity(plan.arrivals.len());
    for (call, due) in (0_u64..).zip(plan.arrivals.iter().copied()) {
        sleep_until((start + due).into()).await;
        let asked = asked(plan.seed, call);
        let calling = client.call(request(call, &asked)?);
        let tally = tally.clone();
        calls.spawn(async move {
            let result = match timeout(PATIENCE, calling).await {
                Ok(result) => judge(call, &asked, result),
                Err(_) => Err("unanswered".to_owned()),
            };
            tally.count(result.is_ok());
            let took = Instant::now().saturating_duration_since(start + due);
            Settled { call, due, took, result }
        });
        // So that the set does not grow with the drill.
        while let Some(done) = calls.try_join_next() {
            settled.push(done?);
        }
    }
    while let Some(done) = calls.join_next().await {
        settled.push(done?);
    }
    settled.sort_by_key(|call| call.call);
    Ok(settled)
}

/// What a call asks for: the same for each client.
fn asked(seed: u64, call: u64) -> Asked {
    let draw = chance::draw(seed, Use::Order, &[call]);
    Asked { account: format!("account-{:04}", draw % 1000), amount: 100 + (draw >> 32) % 9_900 }
}

fn request(call: u64, asked: &Asked) -> Result<Request, BoxError> {
    let mut request = Request::new(Full::new(Bytes::from(serde_json::to_vec(asked)?)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(URI);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CALL_HEADER, HeaderValue::from(call));
    Ok(request)
}

/// A call is well if it was answered with success, whole, and with what was asked for.
fn judge(call: u64, asked: &Asked, result: Result<Reply, Failure>) -> Result<u64, String> {
    let reply = result.map_err(|failure| failure.kind)?;
    if !reply.status.is_success() {
        return Err(format!("status_{}", reply.status.as_u16()));
    }
    let charge: Charge = serde_json::from_slice(&reply.body).map_err(|_| "body".to_owned())?;
    let right =
        charge.call == call && charge.account == asked.account && charge.amount == asked.amount;
    if right { Ok(charge.id) } else { Err("wrong_answer".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn reply(status: u16, body: &'static str) -> Result<Reply, Failure> {
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Reply { status, body: Bytes::from_static(body.as_bytes()) })
    }

    #[test]
    fn only_a_whole_and_right_answer_is_well() {
        let asked = Asked { account: "a".to_owned(), amount: 5 };
        let judge = |result| judge(7, &asked, result);
        let right = "{\"id\":3,\"call\":7,\"account\":\"a\",\"amount\":5}";
        let foreign = "{\"id\":3,\"call\":8,\"account\":\"a\",\"amount\":5}";
        assert_eq!(judge(reply(201, right)), Ok(3));
        assert_eq!(judge(reply(201, foreign)), Err("wrong_answer".to_owned()));
        assert_eq!(judge(reply(201, "{\"id\":3")), Err("body".to_owned()));
        assert_eq!(judge(reply(503, right)), Err("status_503".to_owned()));
        assert_eq!(judge(Err(Failure::new("reset"))), Err("reset".to_owned()));
    }
}
