//! A call that was admitted, or not.

use super::permit::Permit;
use crate::endpoint::{AdmissionFuture, Refusal};

/// The future of [`BreakerService`](super::BreakerService).
///
/// Dropped before it is ready, it gives its place back and counts for nothing, unless the call's
/// deadline had passed.
pub type ResponseFuture<F, Cl> = AdmissionFuture<F, Cl, Permit, Refusal>;
