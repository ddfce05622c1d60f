//! Makes calls: each caller one after the other.

use std::{
    future::poll_fn,
    hint::black_box,
    pin::pin,
    time::{Duration, Instant},
};

use http::Response;
use http_body::Body;
use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Service};

/// The runtime in which everything is measured, and how many make calls at once.
#[derive(Debug)]
pub struct Runner {
    runtime: Runtime,
    callers: u64,
}

impl Runner {
    /// One caller on a current-thread runtime: what is counted is the calls.
    ///
    /// # Panics
    ///
    /// If the system has no room for a runtime.
    #[must_use]
    pub fn new() -> Self {
        Self::on(&mut Builder::new_current_thread(), 1)
    }

    /// So many callers, each a task, on a runtime of two workers, as services run: a task that
    /// one worker wakes may run on the other.
    ///
    /// # Panics
    ///
    /// If the system has no room for a runtime.
    #[must_use]
    pub fn two_workers(callers: u64) -> Self {
        Self::on(Builder::new_multi_thread().worker_threads(2), callers)
    }

    /// On a runtime that has something to do.
    fn on(builder: &mut Builder, callers: u64) -> Self {
        let runtime = builder.enable_time().build().expect("the system has room for a runtime");
        runtime.spawn(async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { runtime, callers }
    }

    /// Runs what is to be set up, in the runtime, and lets its tasks begin.
    pub fn set_up<T>(&self, make: impl FnOnce() -> T) -> T {
        self.runtime.block_on(async {
            let made = make();
            // Discovery has told the balancers of their endpoints by then.
            tokio::time::sleep(Duration::from_millis(5)).await;
            made
        })
    }

    /// Makes `count` calls and says how long they took, from the first caller's begin to the
    /// last one's end. Each caller has a clone of the service.
    ///
    /// # Panics
    ///
    /// If a call fails: only what succeeds is measured here.
    pub fn calls<S, R, B>(&self, service: &S, request: fn() -> R, count: u64) -> Duration
    where
        S: Service<R, Response = Response<B>, Future: Send, Error: Into<BoxError>>,
        S: Clone + Send + 'static,
        R: Send + 'static,
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        // Tasks of their own: what wakes the runtime's first future makes a system call.
        let callers = (0..self.callers).map(|caller| {
            let service = service.clone();
            let count = count / self.callers + u64::from(caller < count % self.callers);
            self.runtime.spawn(async move {
                let begun = Instant::now();
                calls(service, request, count).await.expect("the leaf answers");
                (begun, Instant::now())
            })
        });
        let callers: Vec<_> = callers.collect();
        let times = callers.into_iter().map(|caller| self.runtime.block_on(caller));
        let times = times.map(|times| times.expect("no call panics"));
        let whole = times.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        whole.map_or(Duration::ZERO, |(begun, ended)| ended - begun)
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

/// So many calls, one after the other, each to the last byte of its response.
// One future for all of them: a future for each call would be moved to where it is awaited, which
// costs the more the larger it is.
pub(crate) async fn calls<S, R, B>(
    mut service: S,
    request: fn() -> R,
    count: u64,
) -> Result<(), BoxError>
where
    S: Service<R, Response = Response<B>, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>>,
{
    for _ in 0..count {
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
        let answer = pin!(service.call(request()));
        let response = answer.await.map_err(Into::into)?;
        let mut body = pin!(response.into_body());
        let mut pieces = 0;
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            frame.map_err(Into::into)?;
            pieces += 1;
        }
        black_box(pieces);
    }
    Ok(())
}
