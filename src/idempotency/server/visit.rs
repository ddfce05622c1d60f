//! A request with a key, from its body to its answer, as far as its caller waits for it.
//!
//! What must not end half way because a caller went away (to take a key, to do the work, to
//! settle the key) is on a task of its own, see [`work`](super::work). What is here may be
//! dropped anywhere: reading the request's body, waiting.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;
use tracing::Instrument;

use super::{
    Claim, Concurrent, HeldBody, Payload, Store,
    body::{Read, read},
    layer::Shared,
    problem::Problem,
    work::{Told, Work},
};
use crate::{
    error::BoxError,
    event::Event,
    time::{self, Sleep},
};

/// How long a request waits before it asks again for a key that is at work elsewhere: 50 ms,
/// doubling up to 1 s. Work that ends in this process wakes it at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Visit<S, T> {
    shared: Arc<Shared<T>>,
    key: String,
    /// The instance that was polled ready.
    ready: S,
    /// One that was not.
    next: S,
}

impl<S, T> Visit<S, T> {
    pub(super) const fn new(shared: Arc<Shared<T>>, key: String, ready: S, next: S) -> Self {
        Self { shared, key, ready, next }
    }
}

impl<S, T: Store> Visit<S, T> {
    /// Pays the visit.
    pub(super) async fn pay<B, C>(
        self,
        request: Request<B>,
    ) -> Result<Response<HeldBody<C>>, S::Error>
    where
        S: Service<Request<HeldBody<B>>, Response = Response<C>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
        C: Body + Send + Unpin + 'static,
        C::Data: Send,
        C::Error: Into<BoxError>,
    {
        let Self { shared, key, ready, next } = self;
        let (request, mut claim) = match hold(&shared, key, request).await {
            Ok(held) => held,
            Err(problem) => return Ok(tell(&shared, problem)),
        };
        let mut patience = Patience::new(shared.config.concurrent, claim.now);
        let mut work = Work { shared: Arc::clone(&shared), request, ready: Some(ready), next };
        loop {
            let rung = patience.is_left().then(|| shared.bells.listen(claim.token.id()));
            // The handler's spans stay beneath the caller's.
            let task = work.take(claim).in_current_span();
            let told = match tokio::spawn(task).await {
                Ok(told) => told,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is going, and this future with it.
                Err(_) => return Ok(tell(&shared, shared.unknown())),
            };
            (work, claim) = match told {
                Told::Answer(answer) => return answer,
                Told::Running(back, claim) => (*back, claim),
            };
            let (Some(until), Some(rung)) = (patience.until(time::now()), rung) else {
                return Ok(tell(&shared, shared.running()));
            };
            // Whoever only waits leaves room for whoever works.
            work.ready = None;
            either(rung, Sleep::until(until)).await;
            (claim.now, claim.wall) = (time::now(), time::wall());
        }
    }
}

/// Reads as much of the request as tells what it asks for.
async fn hold<T, B>(
    shared: &Shared<T>,
    key: String,
    request: Request<B>,
) -> Result<(Request<HeldBody<B>>, Claim), Problem>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    let config = &shared.config;
    let (head, body) = request.into_parts();
    let (bytes, body) = match config.payload {
        Payload::Ignored => (bytes::Bytes::new(), HeldBody::passed(body)),
        Payload::Read { cap } => match read(body, cap).await {
            Read::Whole(bytes, body) => (bytes, body),
            Read::Over(_) => return Err(Problem::TooLarge { cap }),
            Read::Broken(_) => return Err(Problem::BrokenBody),
        },
    };
    let fingerprint = (config.fingerprint)(&head, &bytes);
    let scope = (config.scope)(&head);
    let run = u128::from(config.entropy.unique()) << 64 | u128::from(config.entropy.unique());
    let mut claim = Claim::new(scope, key, run, fingerprint, time::now(), time::wall());
    (claim.lease, claim.retention) = (config.lease, config.retention);
    claim.again = config.lapse == super::Lapse::Execute;
    Ok((Request::from_parts(head, body), claim))
}

/// Tells a problem, to the caller and to who listens.
pub(super) fn tell<T, C>(shared: &Shared<T>, problem: Problem) -> Response<HeldBody<C>> {
    shared.config.observer.on(|| Event::KeyNotHonoured { code: problem.code() });
    problem.response(&shared.config.header, &shared.config.docs)
}

impl<T> Shared<T> {
    pub(super) const fn running(&self) -> Problem {
        Problem::Running { retry_after: self.config.retry_after }
    }

    pub(super) const fn unknown(&self) -> Problem {
        Problem::Unknown { status: self.config.lapse.status() }
    }
}

/// How long a request waits for the first one of its key.
#[derive(Debug)]
struct Patience {
    ends: Option<Instant>,
    pause: Duration,
}

impl Patience {
    fn new(concurrent: Concurrent, now: Instant) -> Self {
        let ends = match concurrent {
            Concurrent::Refuse => None,
            Concurrent::Wait(limit) => Some(time::after(now, limit)),
        };
        Self { ends, pause: FIRST_PAUSE }
    }

    const fn is_left(&self) -> bool {
        self.ends.is_some()
    }

    /// When to ask again, or not at all.
    fn until(&mut self, now: Instant) -> Option<Instant> {
        let ends = self.ends.filter(|&ends| now < ends)?;
        let until = time::after(now, self.pause).min(ends);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        Some(until)
    }
}

/// Ends with the first of the two.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        if one.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { other.as_mut().poll(cx) }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_and_ends() {
        let start = time::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut patience = Patience::new(Concurrent::Wait(Duration::from_secs(2)), start);
        assert_eq!(patience.until(ms(0)), Some(ms(50)));
        assert_eq!(patience.until(ms(50)), Some(ms(150)));
        for _ in 0..10 {
            patience.until(ms(150));
        }
        assert_eq!(patience.until(ms(500)), Some(ms(1_500)));
        assert_eq!(patience.until(ms(1_500)), Some(ms(2_000)), "never past its end");
        assert_eq!(patience.until(ms(2_000)), None);
        assert_eq!(Patience::new(Concurrent::Refuse, start).until(start), None);
    }
}
