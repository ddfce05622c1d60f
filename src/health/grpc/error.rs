//! What a health service said that is not "serving".

use std::{error::Error as StdError, fmt};

use super::wire::ServingStatus;
use crate::health::Unavailable;

/// The server said how it is, and it is not serving.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthStatus {
    /// What it said.
    pub status: ServingStatus,
    service: String,
}

impl HealthStatus {
    pub(super) fn new(status: ServingStatus, service: &str) -> Self {
        Self { status, service: service.to_owned() }
    }
}

/// It said so itself.
const UNAVAILABLE: Unavailable = Unavailable::new();

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self.status {
            ServingStatus::Unknown => "not to know how it is",
            ServingStatus::Serving => "to be serving",
            ServingStatus::NotServing => "not to be serving",
            ServingStatus::ServiceUnknown => "not to know the service; is that the right name?",
        };
        write!(f, "the health service of `{}` says {said}", self.service)
    }
}

impl StdError for HealthStatus {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        matches!(self.status, ServingStatus::NotServing).then_some(&UNAVAILABLE)
    }
}

/// A health check was not answered as gRPC's health protocol has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoHealthAnswer {
    /// The answer was an HTTP status other than 200: that is no gRPC server.
    Http(http::StatusCode),
    /// It failed, with gRPC's code and message.
    Grpc {
        /// The code; 5 is `NOT_FOUND`: the server does not know the service.
        code: u16,
        /// The message, as it came.
        message: String,
    },
    /// The answer could not be read, or none came before the end.
    Unreadable,
    /// A watch came to its end.
    Ended,
}

impl fmt::Display for NoHealthAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => {
                write!(f, "the health check was answered with {status}: is that a gRPC server?")
            }
            Self::Grpc { code: 5, message } => {
                write!(f, "the health service does not know the service ({message})")
            }
            Self::Grpc { code, message } => {
                write!(f, "the health check failed with gRPC's code {code} ({message})")
            }
            Self::Unreadable => f.write_str("the answer to the health check can't be read"),
            Self::Ended => f.write_str("the watch on the health service has ended"),
        }
    }
}

impl StdError for NoHealthAnswer {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::find;

    #[test]
    fn only_who_says_that_it_does_not_serve_is_unavailable() {
        let is_unavailable =
            |status| find::<Unavailable>(&HealthStatus::new(status, "shop.Cart")).is_some();
        assert!(is_unavailable(ServingStatus::NotServing));
        assert!(!is_unavailable(ServingStatus::Unknown));
        assert!(!is_unavailable(ServingStatus::ServiceUnknown));
    }
}
