//! A call that was sent, or not.

use super::{error::Throttled, handle::Permit};
use crate::endpoint::AdmissionFuture;

/// The future of [`ThrottleService`](super::ThrottleService).
///
/// Dropped before it is ready, it gives its request back, unless the call's deadline had passed.
pub type ResponseFuture<F, Cl> = AdmissionFuture<F, Cl, Permit, Throttled>;
