//! `buttress`: one builder. Not built yet.

use std::sync::Arc;

use super::{Client, Setup};
use crate::outage::BoxError;

/// Whether the drill can play this client.
pub(super) const BUILT: bool = false;

/// Builds the client.
///
/// # Errors
/// It is not built yet.
pub(super) async fn open(_: Setup) -> Result<Arc<dyn Client>, BoxError> {
    Err("the client `buttress` is not built yet; there are `bare` and `tower`".into())
}
