//! Bodies: the client's own type, one that can be sent again, one that settles a verdict.

mod ahead;
mod guarded;
mod replay;
mod shape;
mod whole;

pub(crate) use self::guarded::verdict_on_drop;
pub use self::{
    guarded::Guarded,
    replay::{ReplayBody, ReplayError, ReplaySource},
    shape::Body,
    whole::TakeWhole,
};
