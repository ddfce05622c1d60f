//! Holds a tower up.

// Floor 4: the whole stack in the one right order.
pub mod client;

// Floor 3: a room for each layer. Rooms never import each other.
pub mod balance;
pub mod breaker;
pub mod collect;
pub mod discover;
pub mod health;
pub mod hedge;
pub mod idempotency;
pub mod observe;
pub mod retry;
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
