//! What becomes of the endpoints.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::Endpoint;
use crate::error::BoxError;

/// What a registry or a health check says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// These are all the endpoints there are. Those already known keep their state, and take
    /// over what is said of them now (weight, priority, zone).
    Reset(Vec<Endpoint>),
    /// One more; or one that is known, of which something else is said now.
    Add(Endpoint),
    /// One less. It finishes the calls that it has.
    Remove(Endpoint),
    /// What an active check found.
    Health(Endpoint, Health),
}

/// What an active check found about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// Nobody checks, so it may be called.
    #[default]
    Unchecked,
    /// Its first check is under way; it is not called while others can be.
    Pending,
    /// It answered.
    Healthy,
    /// It did not.
    Unhealthy,
}

impl Health {
    /// Whether it may be called.
    #[must_use]
    pub const fn is_eligible(self) -> bool {
        matches!(self, Self::Unchecked | Self::Healthy)
    }

    /// A stable code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Pending => "pending",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A source of changes: any stream of them.
///
/// An error does not end it, and its end is not an error: the last good set stays in use. Who
/// drives it polls it no more after its end.
pub trait Discover {
    /// The next change, as [`Stream::poll_next`].
    fn poll_change(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Change, BoxError>>>;
}

impl<D, E> Discover for D
where
    D: Stream<Item = Result<Change, E>>,
    E: Into<BoxError>,
{
    fn poll_change(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Change, BoxError>>> {
        self.poll_next(cx).map_err(Into::into)
    }
}

/// A list that never changes.
#[derive(Clone, Debug)]
pub struct Fixed {
    changes: VecDeque<Change>,
}

impl Fixed {
    /// These endpoints, for ever.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<Endpoint>>) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self { changes: VecDeque::from([Change::Reset(endpoints)]) }
    }
}

impl Stream for Fixed {
    type Item = Result<Change, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.changes.pop_front().map(Ok))
    }
}
