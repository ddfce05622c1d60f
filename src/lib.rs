//! [`algo`]: crate::algo
//! [`balance`]: crate::balance
//! [`breaker`]: crate::breaker
//! [`call`]: crate::call
//! [`chaos`]: crate::chaos
//! [`classify`]: crate::classify
//! [`client`]: crate::client
//! [`collect`]: crate::collect
//! [`discover`]: crate::discover
//! [`fallback`]: crate::fallback
//! [`grpc`]: crate::grpc
//! [`health`]: crate::health
//! [`hedge`]: crate::hedge
//! [`idempotency`]: crate::idempotency
//! [`limit`]: crate::limit
//! [`observe`]: crate::observe
//! [`reconcile`]: crate::reconcile
//! [`refresh`]: crate::refresh
//! [`retry`]: crate::retry
//! [`throttle`]: crate::throttle
//! [`timeout`]: crate::timeout
//! [`trace`]: crate::trace
#![cfg_attr(feature = "hyper", doc = "[`transport`]: crate::transport")]
//! [docs-design]: crate::docs::design
//! [docs-limitations]: crate::docs::limitations
//! [docs-stack]: crate::docs::stack
//!
#![doc = include_str!("../README.md")]

// The README's links lead to files, for who reads it as a file. Of two definitions of a link the
// first holds, so those above lead the readers of this page to pages.

// The guides, which stand beside the house.
pub mod docs;

// Floor 4: the whole stack in the one right order.
pub mod client;

// Beside it: a fleet in virtual time, to hold policies against.
#[cfg(feature = "testing")]
pub mod testing;

// Floor 3: a room for each layer. Rooms never import each other.
pub mod balance;
pub mod breaker;
pub mod chaos;
pub mod collect;
pub mod discover;
pub mod fallback;
pub mod grpc;
pub mod health;
pub mod hedge;
pub mod idempotency;
pub mod limit;
pub mod observe;
pub mod reconcile;
pub mod refresh;
pub mod retry;
pub mod throttle;
pub mod timeout;
pub mod trace;
#[cfg(feature = "hyper")]
pub mod transport;

// Floor 2: the words that the rooms share.
pub mod body;
pub mod budget;
pub mod call;
pub mod classify;
pub mod endpoint;
pub mod event;

// Floor 1: pure arithmetic.
pub mod algo;

// Floor 0: the only doors to the clock, to chance and to loom.
mod entropy;
mod error;
mod sync;
mod time;

pub use self::{
    entropy::Entropy,
    error::{BoxError, find},
    event::{Event, Observer},
};
