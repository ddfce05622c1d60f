//! The other side: a layer for servers.

mod answer;
mod bells;
mod body;

mod config;
mod encode;
mod fingerprint;
mod future;
mod layer;
mod memory;
mod problem;
mod service;
mod sha256;
mod state;
mod store;
mod visit;
mod wire;
mod work;

use self::config::Docs;
pub use self::{
    answer::Answer,
    body::HeldBody,
    config::{
        Concurrent, DEFAULT_ANSWER_CAP, DEFAULT_BODY_CAP, DEFAULT_LEASE, DEFAULT_RETENTION,
        DEFAULT_RETRY_AFTER, HonourConfig, InvalidHonour, Lapse, Payload, is_final, is_kept,
    },
    encode::Malformed,
    fingerprint::{Fingerprint, KeyId},
    future::HonourFuture,
    layer::HonourLayer,
    memory::{DEFAULT_CAPACITY, Full, MemoryStore},
    service::Honour,
    state::{Change, Record},
    store::{Begin, Claim, Outcome, Settled, Store, Token},
    work::REPLAYED,
};
