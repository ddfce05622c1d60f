//! What a call ends with that the server has not ended.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{algo::percent, classify::GrpcCode};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Trailers with a code and what happened; or, in a head, all of an answer.
pub(crate) fn trailers(code: GrpcCode, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, HeaderValue::from(u16::from(code.number())));
    // Nothing is left in it that a header can't hold.
    if let Ok(message) = HeaderValue::try_from(percent_encoded(message)) {
        trailers.insert(MESSAGE, message);
    }
    trailers
}

/// `PROTOCOL-HTTP2.md`, "Status-Message": printable ASCII but for `%` stands for itself.
fn percent_encoded(message: &str) -> String {
    percent::encode(message, |byte| matches!(byte, b' '..=b'~') && byte != b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_what_can_be_read() {
        let trailers = trailers(GrpcCode::Unavailable, "100 % \"weg\": né\n");
        assert_eq!(GrpcCode::of(&trailers), Some(GrpcCode::Unavailable));
        assert_eq!(trailers["grpc-message"], "100 %25 \"weg\": n%C3%A9%0A");
    }
}
