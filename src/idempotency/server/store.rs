//! Where it is kept what became of each key.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Answer, Fingerprint, KeyId};
use crate::error::BoxError;

/// Where it is kept what became of each key.
///
/// Two steps, each of which has to be *one* step to everybody else: a look at what is there and
/// the write that follows from it are one transaction, or of two callers that come at once both
/// will be told to execute. What follows from what is decided by [`Record`](super::Record), which
/// a store only has to load and save:
///
/// ```text
/// begin:   transaction { held = load(id); met = Record::meet(held, claim, now);
///                        if met is New { save(id, Record::new(claim, now)) } }
/// settle:  transaction { held = load(id); match Record::settle(held, token, outcome) {
///                        Save(record) => save(id, record), Remove => remove(id), … } }
/// ```
///
/// Futures have to end: the layer sets no limit to them, as only the store knows what it would
/// leave behind. They run on tasks that no caller can drop.
///
/// [`MemoryStore`](super::MemoryStore) is one for a single process; the example
/// `idempotent_server` has one on disk.
pub trait Store: Send + Sync + 'static {
    /// Why it can't say.
    type Error: Into<BoxError> + Send;

    /// Somebody comes with a key: says what became of it, and takes it if nobody had it.
    ///
    /// After [`Begin::New`] the key is this claim's until it is settled or its lease ends, and
    /// that has to survive whatever the store means to survive *before* this returns: the work
    /// begins next.
    fn begin(&self, claim: &Claim) -> impl Future<Output = Result<Begin, Self::Error>> + Send;

    /// The work under `token` has ended.
    ///
    /// A key is settled once. To settle it again under the same token changes nothing and is no
    /// error, whatever the outcome: the handler may have committed the answer with its work.
    fn settle(
        &self,
        token: Token,
        outcome: Outcome,
    ) -> impl Future<Output = Result<Settled, Self::Error>> + Send;
}

/// One store for several layers, or for a layer and its handler.
impl<T: Store> Store for Arc<T> {
    type Error = T::Error;

    fn begin(&self, claim: &Claim) -> impl Future<Output = Result<Begin, Self::Error>> + Send {
        T::begin(self, claim)
    }

    fn settle(
        &self,
        token: Token,
        outcome: Outcome,
    ) -> impl Future<Output = Result<Settled, Self::Error>> + Send {
        T::settle(self, token, outcome)
    }
}

/// Somebody who comes with a key, and what a store may have to know of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The key, and this coming of it.
    pub token: Token,
    /// What the key belongs to: where the same key stands for something else.
    pub scope: String,
    /// The key as the client chose it.
    pub key: String,
    /// What the key stands for.
    pub fingerprint: Fingerprint,
    /// When it came, for a store that lives as long as its process.
    pub now: Instant,
    /// When it came, for a store that outlives its process or is shared by several. It may jump.
    pub wall: SystemTime,
    /// How long the work may take. Past it nobody is at work any more.
    pub lease: Duration,
    /// How long the key is remembered.
    pub retention: Duration,
    /// Whether work whose outcome is unknown is done anew
    /// ([`Lapse::Execute`](super::Lapse::Execute)).
    pub again: bool,
}

impl Claim {
    /// A claim of `key` within `scope`, for a request of this fingerprint. `run` is unique to it.
    ///
    /// Lease and retention are the defaults, and what is unknown is not done again.
    #[must_use]
    pub fn new(
        scope: String,
        key: String,
        run: u128,
        fingerprint: Fingerprint,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        Self {
            token: Token::new(KeyId::new(&scope, &key), run),
            scope,
            key,
            fingerprint,
            now,
            wall,
            lease: super::DEFAULT_LEASE,
            retention: super::DEFAULT_RETENTION,
            again: false,
        }
    }

    /// `wall` as time since 1970: the `now` of a durable store's [`Record`](super::Record)s.
    #[must_use]
    pub fn since_epoch(&self) -> Duration {
        self.wall.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// The right to settle a key: the key's id, and a number that no other coming of it has.
///
/// The handler finds it in its request's extensions. A token whose lease ended may have lost its
/// key to another; to settle with it then does nothing, and says so. That fences off a handler
/// that was only slow: its transaction finds out, and rolls back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    id: KeyId,
    run: u128,
}

impl Token {
    /// The token of this execution.
    #[must_use]
    pub const fn new(id: KeyId, run: u128) -> Self {
        Self { id, run }
    }

    /// Where the store keeps the key.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// What no other execution has, under this key or another.
    #[must_use]
    pub const fn run(&self) -> u128 {
        self.run
    }
}

/// What became of a key so far.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Begin {
    /// Nothing: it is the claim's now, and the work is to be done.
    New,
    /// The work was done, and this was the answer.
    Replay(Answer),
    /// The work is being done.
    Running,
    /// It stands for another payload.
    Mismatch,
    /// The work was begun, and nobody knows how it ended.
    Unknown,
}

/// How the work under a token ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// With this answer, which is the key's from now on.
    Answered(Answer),
    /// As if it had never begun: the key is free.
    Undone,
    /// Nobody knows.
    Unknown,
}

/// Whether an outcome counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settled {
    /// The key is settled by this token, now or before.
    Recorded,
    /// The key is not this token's any more: its lease ended and another took it, or it was
    /// forgotten.
    Superseded,
}
