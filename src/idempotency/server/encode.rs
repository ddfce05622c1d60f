//! A record as bytes, for stores that keep it on disk or send it elsewhere.
//!
//! All numbers are big-endian. What is read is checked to its last byte, since a record that is
//! misread is a charge that is made twice.
//!
//! ```text
//! version 1 | run 16 | fingerprint 32 | lease ends 8 + 4 | expires 8 + 4 | state 1
//! answered:  status 2 | headers 4 | (name 4 + …, value 4 + …)… | body: the rest
//! ```

use std::{error::Error as StdError, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Answer, Fingerprint, Record, state::State};

const VERSION: u8 = 1;
const RUNNING: u8 = 0;
const ANSWERED: u8 = 1;
const UNKNOWN: u8 = 2;

impl Record {
    /// The record as bytes, which [`Record::from_bytes`] reads in this version of the crate and
    /// in every later one.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.run.to_be_bytes());
        out.extend_from_slice(self.fingerprint.as_bytes());
        for time in [self.lease_ends, self.expires] {
            out.extend_from_slice(&time.as_secs().to_be_bytes());
            out.extend_from_slice(&time.subsec_nanos().to_be_bytes());
        }
        match &self.state {
            State::Running => out.push(RUNNING),
            State::Unknown => out.push(UNKNOWN),
            State::Answered(answer) => {
                out.push(ANSWERED);
                write_answer(answer, &mut out);
            }
        }
        out
    }

    /// Reads what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is anything else. A store that meets that says so
    /// (`Store::Error`), and the call is not executed: to take it for nothing would be to
    /// execute it again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes).ok_or(Malformed)
    }
}

/// Bytes that are not a record: cut short, damaged, or written by a later version of the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "these bytes are no record of a key: damaged, or written by a later version of buttress",
        )
    }
}

impl StdError for Malformed {}

fn write_answer(answer: &Answer, out: &mut Vec<u8>) {
    let length = |out: &mut Vec<u8>, length: usize| {
        let length = u32::try_from(length).expect("no header map is as large as 4 GiB");
        out.extend_from_slice(&length.to_be_bytes());
    };
    out.extend_from_slice(&answer.status.as_u16().to_be_bytes());
    length(out, answer.headers.len());
    for (name, value) in &answer.headers {
        for text in [name.as_str().as_bytes(), value.as_bytes()] {
            length(out, text.len());
            out.extend_from_slice(text);
        }
    }
    out.extend_from_slice(&answer.body);
}

fn read(bytes: &[u8]) -> Option<Record> {
    let mut reader = Reader { rest: bytes };
    if reader.array()? != [VERSION] {
        return None;
    }
    let run = u128::from_be_bytes(reader.array()?);
    let fingerprint = Fingerprint::from_bytes(reader.array()?);
    let (lease_ends, expires) = (reader.time()?, reader.time()?);
    let state = match reader.array()? {
        [RUNNING] => State::Running,
        [UNKNOWN] => State::Unknown,
        [ANSWERED] => State::Answered(reader.answer()?),
        _ => return None,
    };
    let record = Record { run, fingerprint, lease_ends, expires, state };
    reader.rest.is_empty().then_some(record)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.array()?)).ok()
    }

    fn time(&mut self) -> Option<Duration> {
        let seconds = u64::from_be_bytes(self.array()?);
        let nanos = u32::from_be_bytes(self.array()?);
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    }

    fn answer(&mut self) -> Option<Answer> {
        let status = StatusCode::from_u16(u16::from_be_bytes(self.array()?)).ok()?;
        let count = self.length()?;
        let mut headers = HeaderMap::new();
        // No room is made for as many as are announced: that may be damaged too.
        for _ in 0..count {
            let length = self.length()?;
            let name = HeaderName::from_bytes(self.take(length)?).ok()?;
            let length = self.length()?;
            let value = HeaderValue::from_bytes(self.take(length)?).ok()?;
            headers.try_append(name, value).ok()?;
        }
        let body = Bytes::copy_from_slice(self.rest);
        self.rest = &[];
        Some(Answer { status, headers, body })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(state: State) -> Record {
        Record {
            run: 7,
            fingerprint: Fingerprint::of(["20"]),
            lease_ends: Duration::new(1_700_000_060, 5),
            expires: Duration::new(1_700_086_400, 999_999_999),
            state,
        }
    }

    fn answered() -> Record {
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("text/plain"));
        headers.append("x-twice", HeaderValue::from_static("a"));
        headers.append("x-twice", HeaderValue::from_bytes(b"\xff").expect("opaque"));
        let answer = Answer::new(StatusCode::CREATED, "charge 1").with_headers(headers);
        record(State::Answered(answer))
    }

    /// A disk has these in it: the form must never change.
    #[test]
    fn the_form_is_the_same_for_ever() {
        let bytes = record(State::Running).to_bytes();
        let mut expected = vec![1];
        expected.extend_from_slice(&[0; 15]);
        expected.push(7);
        expected.extend_from_slice(Fingerprint::of(["20"]).as_bytes());
        expected.extend_from_slice(b"\0\0\0\0\x65\x53\xf1\x3c\0\0\0\x05");
        expected.extend_from_slice(b"\0\0\0\0\x65\x55\x42\x80\x3b\x9a\xc9\xff");
        expected.push(0);
        assert_eq!(bytes, expected);

        let answer = Answer::new(StatusCode::CREATED, "hi");
        let bytes = record(State::Answered(answer)).to_bytes();
        assert_eq!(bytes[..expected.len() - 1], expected[..expected.len() - 1]);
        assert_eq!(&bytes[expected.len() - 1..], b"\x01\0\xc9\0\0\0\0hi");
    }

    #[test]
    fn what_is_written_is_read() {
        for record in [record(State::Running), record(State::Unknown), answered()] {
            assert_eq!(Record::from_bytes(&record.to_bytes()).as_ref(), Ok(&record));
        }
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_no_record() {
        let bytes = record(State::Unknown).to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(Record::from_bytes(&bytes[..length]), Err(Malformed), "{length}");
        }
        assert_eq!(Record::from_bytes(&[&bytes[..], b"x"].concat()), Err(Malformed));
        let mut later = bytes;
        later[0] = 2;
        assert_eq!(Record::from_bytes(&later), Err(Malformed));

        // An answer's body is what is left, so it can be cut; all before it can't.
        let bytes = answered().to_bytes();
        for length in 0..bytes.len() - "charge 1".len() {
            assert_eq!(Record::from_bytes(&bytes[..length]), Err(Malformed), "{length}");
        }
    }

    proptest! {
        #[test]
        fn damage_makes_no_panic(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
            let mut bytes = answered().to_bytes();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            let _ = Record::from_bytes(&bytes);
        }
    }
}
