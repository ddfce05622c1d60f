//! What tells two payloads, and two keys, apart.

use std::fmt;

use http::request::Parts;

use super::sha256::Sha256;
use crate::algo::hex;

/// What a key stands for: 256 bits, by which a payload is known again.
///
/// By default SHA-256 of the method, the path with its query, and the body (see
/// [`HonourConfig::payload`](super::HonourConfig::payload)). The same request gives the same
/// fingerprint in every process and version: a durable store may keep it for as long as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of some fields, in this order: SHA-256 of each field behind its length
    /// (64 bits, big-endian), so that no two lists of fields run together to the same bytes.
    #[must_use]
    pub fn of<F: AsRef<[u8]>>(fields: impl IntoIterator<Item = F>) -> Self {
        let mut hash = Sha256::new();
        for field in fields {
            let field = field.as_ref();
            hash.update(&(field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        Self(hash.finish())
    }

    /// One that was stored as bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As bytes, to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Method, path with query, and body. Not the authority, which HTTP/1.1 and HTTP/2 write in
    /// different places, and no header: those of a repetition may differ (a date, a trace, a
    /// renewed token).
    pub(super) fn of_request(head: &Parts, body: &[u8]) -> Self {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        Self::of([head.method.as_str().as_bytes(), target.as_bytes(), body])
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexed("Fingerprint", &self.0, f)
    }
}

/// Where a store keeps what became of a key: a digest of the key and its scope.
///
/// 32 bytes whatever the client sent, so there is nothing in it that a database could take for
/// anything else, and a key of one scope is never found under another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The id of `key` within `scope`.
    #[must_use]
    pub fn new(scope: &str, key: &str) -> Self {
        Self(Fingerprint::of([scope, key]).0)
    }

    /// One that was stored as bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As bytes, to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexed("KeyId", &self.0, f)
    }
}

fn hexed(name: &str, bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 64];
    hex::write(bytes, &mut text);
    write!(f, "{name}({})", std::str::from_utf8(&text).expect("hex digits are ASCII"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn of(method: &str, uri: &str, body: &str) -> Fingerprint {
        let request = Request::builder().method(method).uri(uri).body(()).expect("it is sound");
        Fingerprint::of_request(&request.into_parts().0, body.as_bytes())
    }

    /// A store of an earlier version has this one in it: it must never change.
    #[test]
    fn a_fingerprint_is_the_same_for_ever() {
        // Python: h = hashlib.sha256(); for f in (b"POST", b"/charges?a=1", b"amount=20"):
        // h.update(len(f).to_bytes(8, "big") + f)
        let fixed = "Fingerprint(8e49faa65c95a4092fd17c83fdae6f7fd64e0c2fae883e33db0118c3d8ad9a4c)";
        assert_eq!(format!("{:?}", of("POST", "/charges?a=1", "amount=20")), fixed);
        let fixed = "KeyId(b18bd35b3a89acda07f1f3f720536ac9e11e99c76b7fbf3ac81822ad77c52461)";
        assert_eq!(format!("{:?}", KeyId::new("POST /charges", "k-1")), fixed);
    }

    #[test]
    fn each_field_counts_and_the_authority_does_not() {
        let one = of("POST", "/charges?a=1", "amount=20");
        for other in [
            of("PATCH", "/charges?a=1", "amount=20"),
            of("POST", "/charges", "amount=20"),
            of("POST", "/charges?a=2", "amount=20"),
            of("POST", "/charges?a=1", "amount=21"),
            of("POST", "/charges?a=1", ""),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(one, of("POST", "http://payments/charges?a=1", "amount=20"));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(Fingerprint::of(["ab", "c"]), Fingerprint::of(["a", "bc"]));
        assert_ne!(Fingerprint::of(["ab", ""]), Fingerprint::of(["ab"]));
        assert_ne!(KeyId::new("a", "bc"), KeyId::new("ab", "c"));
    }
}
