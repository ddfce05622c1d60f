//! What travels with a request, and how.
//!
//! A layer that needs more than the request (its deadline, which attempt it is, the endpoints
//! already tried, whether it carries an idempotency key) reads it from the request's
//! [`Carrier`]. There are two:
//!
//! - [`Call<R>`] holds the [`Words`] inline, for any request type and at no allocation. The
//!   client's own stack uses it. [`CarryLayer`] makes one from a plain request,
//!   [`UncarryLayer`] unwraps it again.
//! - [`http::Request`] holds them in its extensions, for a layer used alone beside other
//!   people's layers.
//!
//! What the layers below have to tell the layers above while an attempt is under way (was the
//! request handed to a connection, to which endpoint) goes the other way, by the [`Trail`].

mod carrier;
mod carry;
mod head;
mod history;
mod replay;
mod trail;
mod words;

pub(crate) use self::replay::is_repeatable;
pub(crate) use self::{
    carrier::OF_HTTP,
    trail::{
        apart, current_expiry, current_sent, expire_at, is_expired, is_waking, mark_not_waking,
        mark_sent_before, mark_waking,
    },
};
pub use self::{
    carrier::{Call, Carrier, HttpHead},
    carry::{Carry, CarryLayer, Uncarry, UncarryLayer},
    history::{Attempt, Attempts, Outcome, Raced},
    replay::{Cloning, DEFAULT_REPLAY_CAP, HttpReplayer, Replay, Replayer},
    trail::{Stage, Target, Trail, mark_handed_over, mark_target, mark_unknown, mark_unsent},
    words::{Asked, AttemptKind, BodyMode, TraceParent, Tried, Words},
};
