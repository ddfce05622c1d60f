//! To take a key, to do its work and to settle it: on a task of its own, which no caller can drop.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    Answer, Begin, Claim, HeldBody, Lapse, Outcome, Settled, Store, Token,
    body::{Read, read},
    layer::Shared,
    problem::Problem,
    visit::tell,
};
use crate::{
    error::BoxError,
    event::Event,
    time::{self, Sleep},
};

/// The header of an answer that is told again: what Stripe and others say.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const TRUE: HeaderValue = HeaderValue::from_static("true");

/// All that the work needs.
pub(super) struct Work<S, T, B> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) request: Request<HeldBody<B>>,
    /// An instance that was polled ready, unless it was given up for the time of a wait.
    pub(super) ready: Option<S>,
    pub(super) next: S,
}

/// What came of it.
pub(super) enum Told<S, T, B, C, E> {
    Answer(Result<Response<HeldBody<C>>, E>),
    /// The key is at work: here is all of it back, to come again. (Boxed: an answer is smaller.)
    Running(Box<Work<S, T, B>>, Claim),
}

impl<S, T: Store, B> Work<S, T, B> {
    /// Takes the key and does the work, or tells what became of it.
    pub(super) async fn take<C>(self, claim: Claim) -> Told<S, T, B, C, S::Error>
    where
        S: Service<Request<HeldBody<B>>, Response = Response<C>>,
        C: Body + Send + Unpin,
        C::Error: Into<BoxError>,
    {
        let shared = Arc::clone(&self.shared);
        let problem = match shared.store.begin(&claim).await {
            Ok(Begin::New) => return Told::Answer(self.carry_out(&claim).await),
            Ok(Begin::Running) => return Told::Running(Box::new(self), claim),
            Ok(Begin::Replay(answer)) => {
                shared.config.observer.on(|| Event::KeyReplayed);
                let mut response = answer.into_response::<HeldBody<C>>();
                response.headers_mut().insert(REPLAYED, TRUE);
                return Told::Answer(Ok(response));
            }
            Ok(Begin::Mismatch) => Problem::Reused,
            Ok(Begin::Unknown) => shared.unknown(),
            Err(error) => {
                shared.complain(error.into());
                Problem::NoStore { retry_after: shared.config.retry_after }
            }
        };
        Told::Answer(Ok(tell(&shared, problem)))
    }

    /// The key is this claim's.
    async fn carry_out<C>(self, claim: &Claim) -> Result<Response<HeldBody<C>>, S::Error>
    where
        S: Service<Request<HeldBody<B>>, Response = Response<C>>,
        C: Body + Send + Unpin,
        C::Error: Into<BoxError>,
    {
        let shared = Arc::clone(&self.shared);
        let open = Open { shared: Some(Arc::clone(&shared)), token: claim.token };
        let ends = time::after(claim.now, claim.lease);
        if time::now() >= ends {
            // The store took the whole lease to give it. Nothing was done.
            open.settle(Outcome::Undone).await;
            let retry_after = shared.config.retry_after;
            return Ok(tell(&shared, Problem::NoStore { retry_after }));
        }
        match within(ends, self.execute(claim.token)).await {
            Some((answer, outcome)) => match open.settle(outcome).await {
                // Another took the key, and its answer is the one that counts.
                Some(Settled::Superseded) => Ok(tell(&shared, shared.running())),
                // Not kept, but true: the caller may have it.
                Some(Settled::Recorded) | None => answer,
            },
            None => {
                open.settle(Outcome::Unknown).await;
                Ok(tell(&shared, shared.unknown()))
            }
        }
    }

    /// The answer, and what is kept of it.
    async fn execute<C>(
        mut self,
        token: Token,
    ) -> (Result<Response<HeldBody<C>>, S::Error>, Outcome)
    where
        S: Service<Request<HeldBody<B>>, Response = Response<C>>,
        C: Body + Send + Unpin,
        C::Error: Into<BoxError>,
    {
        let config = &self.shared.config;
        let mut service = match self.ready {
            Some(ready) => ready,
            None => match poll_fn(|cx| self.next.poll_ready(cx)).await {
                Ok(()) => self.next,
                // It was never called.
                Err(error) => return (Err(error), Outcome::Undone),
            },
        };
        self.request.extensions_mut().insert(token);
        let response = match service.call(self.request).await {
            Ok(response) => response,
            // An error without a response counts as a 500.
            Err(error) => {
                let kept = (config.is_final)(http::StatusCode::INTERNAL_SERVER_ERROR);
                let outcome = if kept { Outcome::Unknown } else { Outcome::Undone };
                return (Err(error), outcome);
            }
        };
        if !(config.is_final)(response.status()) {
            return (Ok(response.map(HeldBody::passed)), Outcome::Undone);
        }
        let (head, body) = response.into_parts();
        let (body, outcome) = match read(body, config.answer_cap).await {
            Read::Whole(bytes, body) => {
                let mut headers = head.headers.clone();
                let names: Vec<HeaderName> = headers.keys().cloned().collect();
                for name in names.iter().filter(|&name| !(config.keeps)(name)) {
                    headers.remove(name);
                }
                let answer = Answer::new(head.status, bytes).with_headers(headers);
                (body, Outcome::Answered(answer))
            }
            Read::Over(body) => {
                let unkept = Problem::Unkept { answered: head.status, cap: config.answer_cap };
                (body, Outcome::Answered(unkept.answer(&config.header, &config.docs)))
            }
            Read::Broken(body) => (body, Outcome::Unknown),
        };
        (Ok(Response::from_parts(head, body)), outcome)
    }
}

/// A key that was taken and is not settled. If it is dropped so (the handler panicked, the
/// runtime ends), its outcome is unknown.
struct Open<T: Store> {
    shared: Option<Arc<Shared<T>>>,
    token: Token,
}

impl<T: Store> Open<T> {
    /// Settles the key; none if the store can't, and the lease's end will have to.
    async fn settle(mut self, outcome: Outcome) -> Option<Settled> {
        let shared = self.shared.take()?;
        settle(&shared, self.token, outcome).await
    }
}

impl<T: Store> Drop for Open<T> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        // A runtime that ends drops its tasks outside of it. The lease ends all the same.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let token = self.token;
            runtime.spawn(async move { settle(&shared, token, Outcome::Unknown).await });
        }
    }
}

async fn settle<T: Store>(shared: &Shared<T>, token: Token, outcome: Outcome) -> Option<Settled> {
    let settled = shared.store.settle(token, outcome).await;
    shared.bells.ring(token.id());
    settled.map_err(|error| shared.complain(error.into())).ok()
}

impl<T> Shared<T> {
    fn complain(&self, error: BoxError) {
        self.config.observer.on(|| Event::KeyStoreFailed(&*error));
    }
}

impl Lapse {
    pub(super) const fn status(self) -> http::StatusCode {
        match self {
            Self::Conflict => http::StatusCode::CONFLICT,
            // With `Execute` a caller is told so only when the work outlasted its lease.
            Self::Fail | Self::Execute => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The output of a future that ends in time. It is polled before the clock is asked.
async fn within<F: Future>(ends: Instant, future: F) -> Option<F::Output> {
    let (mut future, mut sleep) = (pin!(future), pin!(Sleep::until(ends)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
