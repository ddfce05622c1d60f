//! What an attempt calls.

use http::{Request, Response};
use tower_service::Service;

use super::AttemptBody;
use crate::{call::Call, error::BoxError};

/// A call as it goes to an endpoint.
pub type Outgoing = Call<Request<AttemptBody>>;

/// A service that can stand at the bottom of the stack: your own layers and the transport, or
/// what its protocol puts around them. Every such service is one.
pub trait Exchange:
    Service<Outgoing, Response = Response<Self::Body>, Error: Into<BoxError>> + Clone
{
    /// The body of its responses.
    type Body: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static;
}

impl<T, B> Exchange for T
where
    T: Service<Outgoing, Response = Response<B>, Error: Into<BoxError>> + Clone,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Body = B;
}
