//! What holds for every parser of bytes from the network, whatever the bytes.
//!
//! Each module is one target and asserts more than that nothing panics: what is accepted is
//! compared with a second reading, written the other way round and by other means, and what is
//! written is read again. The fuzzer calls them with what it makes up; `tests/fuzz_corpus.rs`
//! calls them with the files of `corpus/`, on every run of the tests.
#![allow(dead_code, reason = "each target is a program of its own and uses one of these")]

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) mod deadline;
#[cfg(feature = "file")]
pub(crate) mod discovery_file;
pub(crate) mod idempotency_key;
pub(crate) mod retry_after;
pub(crate) mod trace_context;

/// A target: its name, and what holds for any bytes.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also its corpus folder's.
pub(crate) const ALL: &[Target] = &[
    ("deadline", deadline::holds),
    #[cfg(feature = "file")]
    ("discovery_file", discovery_file::holds),
    ("idempotency_key", idempotency_key::holds),
    ("retry_after", retry_after::holds),
    ("trace_context", trace_context::holds),
];

/// The lines as header values. `None` if one of them can't be: it would not come so far.
fn values(lines: &[u8]) -> Option<Vec<HeaderValue>> {
    lines.split(|&byte| byte == b'\n').map(|line| HeaderValue::from_bytes(line).ok()).collect()
}

fn headers(name: &HeaderName, values: &[HeaderValue]) -> HeaderMap {
    values.iter().map(|value| (name.clone(), value.clone())).collect()
}
