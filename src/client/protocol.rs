//! What a client speaks over HTTP: HTTP's own language, or gRPC.

use tower_layer::Layer;

use crate::{
    call::{Uncarry, UncarryLayer},
    classify::{GrpcClassifier, HttpClassifier},
    grpc::{AttemptHeaderLayer, AttemptHeaderService, Peek, PeekLayer},
    timeout::DeadlineHeader,
};

/// What a client speaks over HTTP, told by who judges its answers: [`HttpClassifier`] those of
/// HTTP, [`GrpcClassifier`] those of gRPC. Sealed, as each belongs with the rest of its protocol.
pub trait Protocol: Copy + Send + Sync + sealed::Sealed + 'static {
    /// What stands between an attempt and your own layers around a transport `T`. It takes an
    /// [`Outgoing`](super::Outgoing) call, and gives them a plain request.
    type Between<T>;

    /// Whether HTTP/1.1 does not carry it.
    const NEEDS_HTTP2: bool;

    /// Puts it around a transport, or your own layers.
    fn between<T>(transport: T) -> Self::Between<T>;

    /// Where the deadline travels unless another header is named.
    fn deadline_header() -> Option<DeadlineHeader>;
}

mod sealed {
    #[expect(unnameable_types, reason = "that nobody can name it is what it is for")]
    pub trait Sealed {}
}

impl sealed::Sealed for HttpClassifier {}

impl Protocol for HttpClassifier {
    type Between<T> = Uncarry<T>;

    const NEEDS_HTTP2: bool = false;

    fn between<T>(transport: T) -> Uncarry<T> {
        UncarryLayer::new().layer(transport)
    }

    fn deadline_header() -> Option<DeadlineHeader> {
        None
    }
}

impl sealed::Sealed for GrpcClassifier {}

impl Protocol for GrpcClassifier {
    type Between<T> = Peek<AttemptHeaderService<Uncarry<T>>>;

    const NEEDS_HTTP2: bool = true;

    /// Peeking within the attempt: its timeout bounds the wait for the first frame, too, and its
    /// verdict sees a failure that comes before any message.
    fn between<T>(transport: T) -> Self::Between<T> {
        let transport = UncarryLayer::new().layer(transport);
        PeekLayer::new().layer(AttemptHeaderLayer::grpc().layer(transport))
    }

    fn deadline_header() -> Option<DeadlineHeader> {
        Some(DeadlineHeader::grpc())
    }
}
