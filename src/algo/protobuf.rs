//! The fields of a message in protobuf's wire format (<https://protobuf.dev/programming-guides/encoding>),
//! for the few messages that are read here: no reason for a code generator.

/// The rest of a message, field by field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire<'a>(&'a [u8]);

/// What a field holds, as far as its wire type tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    #[cfg_attr(not(feature = "hyper"), allow(dead_code, reason = "what gRPC's health answers"))]
    Varint(u64),
    /// Eight bytes, read as the double that they are where one is expected.
    Double(f64),
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32,
}

/// What comes is no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Wire<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field and its number; none at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.read().map(Some).ok_or(Malformed)
    }

    fn read(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Double(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_each_wire_type_and_says_where_it_ends_early() {
        let mut message = vec![1 << 3, 0x96, 0x01, 2 << 3 | 1];
        message.extend(1.5_f64.to_le_bytes());
        message.extend([3 << 3 | 2, 2, b'o', b'k', 4 << 3 | 5, 0, 0, 0, 0]);
        let mut wire = Wire::new(&message);
        for expected in [(1, Value::Varint(150)), (2, Value::Double(1.5)), (3, Value::Bytes(b"ok"))]
        {
            assert_eq!(wire.field(), Ok(Some(expected)));
        }
        assert_eq!(wire.field(), Ok(Some((4, Value::Fixed32))));
        assert_eq!(wire.field(), Ok(None));
        for cut in [&[0x96][..], &[1 << 3], &[2 << 3 | 1, 0], &[3 << 3 | 2, 1], &[1 << 3 | 3]] {
            assert_eq!(Wire::new(cut).field(), Err(Malformed), "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn any_message_has_an_end(message: Vec<u8>) {
            let mut wire = Wire::new(&message);
            let fields = std::iter::from_fn(|| wire.field().ok().flatten()).count();
            prop_assert!(fields <= message.len() / 2);
        }
    }
}
