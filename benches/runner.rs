//! Makes calls, one after the other.

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

/// The runtime in which everything is measured.
#[derive(Debug)]
pub struct Runner {
    runtime: Runtime,
}

impl Runner {
    /// A runtime that has something to do.
    ///
    /// # Panics
    ///
    /// If the system has no room for a runtime.
    #[must_use]
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("the system has room for a runtime");
        runtime.spawn(async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { runtime }
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

    /// Makes `count` calls and says how long they took.
    ///
    /// # Panics
    ///
    /// If a call fails: only what succeeds is measured here.
    pub fn calls<S, R, B>(&self, mut service: S, request: fn() -> R, count: u64) -> (S, Duration)
    where
        S: Service<R, Response = Response<B>, Future: Send, Error: Into<BoxError>>,
        S: Send + 'static,
        R: Send + 'static,
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        // A task of its own: what wakes the runtime's first future makes a system call.
        let task = self.runtime.spawn(async move {
            let begun = Instant::now();
            for _ in 0..count {
                black_box(call(&mut service, request()).await.expect("the leaf answers"));
            }
            (service, begun.elapsed())
        });
        self.runtime.block_on(task).expect("no call panics")
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

/// One call, to the last byte; says how many pieces the body had.
async fn call<S, R, B>(service: &mut S, request: R) -> Result<usize, BoxError>
where
    S: Service<R, Response = Response<B>, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    let answer = pin!(service.call(request));
    let response = answer.await.map_err(Into::into)?;
    let mut body = pin!(response.into_body());
    let mut pieces = 0;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        frame.map_err(Into::into)?;
        pieces += 1;
    }
    Ok(pieces)
}
