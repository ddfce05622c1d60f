//! What holds for every parser of bytes from the network, whatever the bytes.
//!
//! Each module is one target and asserts more than that nothing panics: what is accepted is
//! compared with a second reading, written the other way round and by other means, and what is
//! written is read again. The fuzzer calls them with what it makes up; `tests/fuzz_corpus.rs`
//! calls them with the files of `corpus/`, on every run of the tests.
#![allow(dead_code, reason = "each target is a program of its own and uses one of these")]

use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::{Builder, Runtime};

pub(crate) mod deadline;
#[cfg(feature = "consul")]
pub(crate) mod discovery_consul;
#[cfg(feature = "etcd")]
pub(crate) mod discovery_etcd;
#[cfg(feature = "file")]
pub(crate) mod discovery_file;
#[cfg(feature = "kubernetes")]
pub(crate) mod discovery_kubernetes;
pub(crate) mod grpc_status;
pub(crate) mod honoured_key;
pub(crate) mod idempotency_key;
pub(crate) mod idempotency_record;
pub(crate) mod incoming_deadline;
pub(crate) mod load_report;
pub(crate) mod retry_after;
pub(crate) mod retry_pushback;
pub(crate) mod trace_context;

/// A target: its name, and what holds for any bytes.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also its corpus folder's.
pub(crate) const ALL: &[Target] = &[
    ("deadline", deadline::holds),
    #[cfg(feature = "consul")]
    ("discovery_consul", discovery_consul::holds),
    #[cfg(feature = "etcd")]
    ("discovery_etcd", discovery_etcd::holds),
    #[cfg(feature = "file")]
    ("discovery_file", discovery_file::holds),
    #[cfg(feature = "kubernetes")]
    ("discovery_kubernetes", discovery_kubernetes::holds),
    ("grpc_status", grpc_status::holds),
    ("honoured_key", honoured_key::holds),
    ("idempotency_key", idempotency_key::holds),
    ("idempotency_record", idempotency_record::holds),
    ("incoming_deadline", incoming_deadline::holds),
    ("load_report", load_report::holds),
    ("retry_after", retry_after::holds),
    ("retry_pushback", retry_pushback::holds),
    ("trace_context", trace_context::holds),
];

/// The lines as header values. `None` if one of them can't be: it would not come so far.
fn values(lines: &[u8]) -> Option<Vec<HeaderValue>> {
    lines.split(|&byte| byte == b'\n').map(|line| HeaderValue::from_bytes(line).ok()).collect()
}

fn headers(name: &HeaderName, values: &[HeaderValue]) -> HeaderMap {
    values.iter().map(|value| (name.clone(), value.clone())).collect()
}

/// The first `N` lines, each a list of header values with `\r` between them, which no header can
/// hold; a line that is not there is an empty list. `None` if one can't be a header's value.
fn lists<const N: usize>(bytes: &[u8]) -> Option<[Vec<HeaderValue>; N]> {
    let mut lists = [const { Vec::new() }; N];
    for (list, line) in lists.iter_mut().zip(bytes.split(|&byte| byte == b'\n')) {
        let values = line.split(|&byte| byte == b'\r').map(HeaderValue::from_bytes);
        *list = values.collect::<Result<_, _>>().ok()?;
    }
    Some(lists)
}

/// What a future ends with that needs a runtime, which is one for all that run on this thread.
fn in_runtime<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: Runtime =
            Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Endpoints as any registry names them: each once, with a port that can be called.
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
fn are_sound(endpoints: &[buttress::endpoint::Endpoint]) {
    let all: std::collections::HashSet<_> = endpoints.iter().collect();
    assert_eq!(all.len(), endpoints.len());
    assert!(endpoints.iter().all(|endpoint| endpoint.address().port() != 0));
}

/// An error is one line, whatever somebody else wrote into it.
#[cfg(any(feature = "consul", feature = "etcd", feature = "kubernetes"))]
fn one_line(error: &buttress::discover::RegistryError) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
