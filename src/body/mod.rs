//! Bodies: the client's own type, one that can be sent again, one that settles a verdict.

mod ahead;
mod error;
mod guarded;
mod replay;
mod shape;
mod whole;

pub(crate) use self::guarded::verdict_on_drop;
pub use self::{
    error::ReplayError,
    guarded::Guarded,
    replay::{ReplayBody, ReplaySource},
    shape::Body,
    whole::TakeWhole,
};
