//! What is left of the deadline, in the headers of each attempt.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tower_layer::Layer;
use tower_service::Service;

use super::header::DeadlineHeader;
use crate::{
    call::{BodyMode, Carrier, HttpHead, Words, current_expiry},
    time::now,
};

/// Tells the service how long its answer is waited for: what is left of the call's deadline,
/// in the headers of each attempt.
///
/// Stands below retry, since each attempt has less left than the one before, and beneath all
/// that an attempt waits for before it is sent. What it writes is
///
/// - what is left of the call's deadline: the answer is awaited until then, however many
///   attempts there are;
/// - or of an attempt's timeout above, if that is less and the body is
///   [collected](crate::call::BodyMode::Collected) within the attempt. Else the attempt ends at
///   the response's head, and a service that was told of that limit would break off a body that
///   is still being read;
/// - for a body that is [meant to last](Words::lasting_body): nothing, since the service would
///   end the stream at the deadline, which holds for the head alone.
///
/// A header of the caller's own stays if it says less. It is taken as it is for each attempt;
/// a limit that is to run down belongs in [`Words::deadline`]. A call that nobody limits goes
/// out as it came.
#[derive(Clone, Debug)]
pub struct DeadlineHeaderLayer {
    header: Option<Arc<DeadlineHeader>>,
}

impl DeadlineHeaderLayer {
    /// Writes into this header.
    #[must_use]
    pub fn new(header: DeadlineHeader) -> Self {
        Self::optional(Some(header))
    }

    /// A layer that writes the header, or one that lets every call pass as it is, for stacks
    /// that decide at run time.
    #[must_use]
    pub fn optional(header: Option<DeadlineHeader>) -> Self {
        Self { header: header.map(Arc::new) }
    }
}

impl Default for DeadlineHeaderLayer {
    fn default() -> Self {
        Self::new(DeadlineHeader::default())
    }
}

impl<S> Layer<S> for DeadlineHeaderLayer {
    type Service = DeadlineHeaderService<S>;

    fn layer(&self, inner: S) -> DeadlineHeaderService<S> {
        DeadlineHeaderService { inner, header: self.header.clone() }
    }
}

/// The service of [`DeadlineHeaderLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineHeaderService<S> {
    inner: S,
    header: Option<Arc<DeadlineHeader>>,
}

impl<S, C> Service<C> for DeadlineHeaderService<S>
where
    C: Carrier,
    C::Request: HttpHead,
    S: Service<C>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: C) -> S::Future {
        if let Some(header) = &self.header {
            tell(header, &mut call);
        }
        self.inner.call(call)
    }
}

/// Writes into an attempt's headers how long its answer is waited for, if anybody limits it.
pub(crate) fn tell<C>(header: &DeadlineHeader, call: &mut C)
where
    C: Carrier,
    C::Request: HttpHead,
{
    if let Some(ends) = awaited_until(call.words(), current_expiry()) {
        let left = ends.saturating_duration_since(now());
        header.write(call.request_mut().headers_mut(), left);
    }
}

/// Until when anybody waits for the whole answer of an attempt that will be given up at
/// `expiry`.
fn awaited_until(words: Option<&Words>, expiry: Option<Instant>) -> Option<Instant> {
    let words = words?;
    match words.body {
        BodyMode::Timely => words.deadline,
        BodyMode::Collected => words.deadline.into_iter().chain(expiry).min(),
        BodyMode::Lasting { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_end_of_an_attempt_counts_where_it_is_the_end_of_the_answer() {
        let (soon, late) = (now() + Duration::from_secs(1), now() + Duration::from_secs(5));
        let words = Words::new().deadline(late);
        let mut collected = words.clone();
        collected.body = BodyMode::Collected;
        let lasting = words.clone().lasting_body(Duration::from_secs(9));

        assert_eq!(awaited_until(None, Some(soon)), None);
        assert_eq!(awaited_until(Some(&Words::new()), Some(soon)), None);
        assert_eq!(awaited_until(Some(&words), Some(soon)), Some(late));
        assert_eq!(awaited_until(Some(&collected), Some(soon)), Some(soon));
        assert_eq!(awaited_until(Some(&collected), None), Some(late));
        assert_eq!(awaited_until(Some(&lasting), Some(soon)), None);
    }
}
