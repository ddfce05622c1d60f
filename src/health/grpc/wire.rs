//! The two messages of `grpc.health.v1`, and the frames that they travel in. Pure.
//!
//! `HealthCheckRequest` is one string, field 1; `HealthCheckResponse` one enum, field 1
//! (<https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto>). That is no
//! reason for a code generator.

use bytes::{Buf, Bytes, BytesMut};

use crate::algo::protobuf::{Value, Wire};

/// What a server says of one of its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServingStatus {
    /// 0, or a number that we don't know.
    Unknown,
    /// 1.
    Serving,
    /// 2.
    NotServing,
    /// 3: only a watch says so; a check fails with `NOT_FOUND`.
    ServiceUnknown,
}

/// A length-prefixed message that asks for this service; of the whole server if it is empty.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 12);
    if !service.is_empty() {
        // Field 1, of wire type 2: a length and so many bytes.
        message.push(1 << 3 | 2);
        push_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = Vec::with_capacity(message.len() + PREFIX);
    frame.push(0);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

/// A flag and a length.
const PREFIX: usize = 5;

/// Longer answers are not read: this one is two bytes long.
const LONGEST: usize = 4096;

/// Takes the answers out of what has been received.
#[derive(Debug, Default)]
pub(super) struct Frames {
    received: BytesMut,
}

/// What was received is no answer of a health service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Frames {
    pub(super) fn receive(&mut self, data: &[u8]) {
        self.received.extend_from_slice(data);
    }

    /// The next answer, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<ServingStatus>, Malformed> {
        let Some((&[flag, a, b, c, d], rest)) = self.received.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        // We have not offered to take compressed ones.
        if flag != 0 || length > LONGEST {
            return Err(Malformed);
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let status = status(message).ok_or(Malformed)?;
        self.received.advance(PREFIX + length);
        Ok(Some(status))
    }
}

/// The last field 1 counts; fields that we don't know are passed over.
fn status(message: &[u8]) -> Option<ServingStatus> {
    // Proto3 leaves out what is 0.
    let mut status = 0;
    let mut wire = Wire::new(message);
    while let Some((number, value)) = wire.field().ok()? {
        match (number, value) {
            (0, _) => return None,
            (1, Value::Varint(said)) => status = said,
            _ => {}
        }
    }
    Some(match status {
        1 => ServingStatus::Serving,
        2 => ServingStatus::NotServing,
        3 => ServingStatus::ServiceUnknown,
        _ => ServingStatus::Unknown,
    })
}

fn push_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<ServingStatus>, Malformed> {
        let mut frames = Frames::default();
        frames.receive(bytes);
        let mut found = Vec::new();
        while let Some(status) = frames.next()? {
            found.push(status);
        }
        Ok(found)
    }

    #[test]
    fn a_request_is_what_protoc_would_write() {
        assert_eq!(&request("")[..], b"\0\0\0\0\0");
        assert_eq!(&request("shop.Cart")[..], b"\0\0\0\0\x0b\x0a\x09shop.Cart");
        let long = "x".repeat(300);
        assert_eq!(&request(&long)[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
    }

    #[test]
    fn answers_are_read_one_by_one_and_in_pieces() {
        use ServingStatus::{NotServing, ServiceUnknown, Serving, Unknown};
        let all = b"\0\0\0\0\x02\x08\x01\0\0\0\0\0\0\0\0\0\x02\x08\x02\0\0\0\0\x02\x08\x03";
        assert_eq!(read(all), Ok(vec![Serving, Unknown, NotServing, ServiceUnknown]));
        let mut frames = Frames::default();
        let (last, first) = b"\0\0\0\0\x02\x08\x01".split_last().expect("not empty");
        for &byte in first {
            frames.receive(&[byte]);
            assert_eq!(frames.next(), Ok(None));
        }
        frames.receive(&[*last]);
        assert_eq!(frames.next(), Ok(Some(Serving)));
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        // Field 2 a string, 3 a varint, 4 eight bytes, 5 four, and then the status.
        let message = b"\x12\x02hi\x18\x96\x01\x21\0\0\0\0\0\0\0\0\x2d\0\0\0\0\x08\x01";
        let mut frame = vec![0, 0, 0, 0, message.len() as u8];
        frame.extend_from_slice(message);
        assert_eq!(read(&frame), Ok(vec![ServingStatus::Serving]));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for frame in [
            &b"\x01\0\0\0\x02\x08\x01"[..], // compressed
            b"\0\x7f\xff\xff\xff\x08\x01",  // two gigabytes
            b"\0\0\0\0\x02\x08\x80",        // a varint without an end
            b"\0\0\0\0\x02\x0a\x09",        // a string longer than the message
            b"\0\0\0\0\x01\x0b",            // a group
            b"\0\0\0\0\x02\0\0",            // field 0
        ] {
            assert_eq!(read(frame), Err(Malformed), "{frame:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }

        #[test]
        fn varints_come_back(value: u64) {
            let mut bytes = vec![1 << 3];
            push_varint(&mut bytes, value);
            prop_assert_eq!(Wire::new(&bytes).field(), Ok(Some((1, Value::Varint(value)))));
        }
    }
}
