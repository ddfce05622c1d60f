//! What may be wrong with a body that is to be sent again.

use std::{error::Error as StdError, fmt};

/// Why a body could not be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// It grew past the cap while another attempt sent it.
    PastCap {
        /// The cap, in bytes.
        cap: usize,
    },
    /// It failed while another attempt sent it.
    Failed,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PastCap { cap } => {
                write!(f, "the request's body passed the {cap} bytes that are kept for retries")
            }
            Self::Failed => f.write_str("the request's body failed in an earlier attempt"),
        }
    }
}

impl StdError for ReplayError {}
