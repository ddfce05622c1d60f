//! What etcd's JSON gateway answers, and what an instance writes.
//!
//! The messages are those of etcd's `rpc.proto` in the JSON form of protocol buffers: numbers of
//! 64 bits are strings, bytes are base64, and what has its default is left out.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de::Error};

use crate::{
    discover::{
        http::{malformed, one_line},
        registry::Fault,
    },
    endpoint::{DEFAULT_WEIGHT, Endpoint},
};

/// `RangeResponse`.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
}

/// `ResponseHeader`.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    #[serde(default, deserialize_with = "number")]
    pub(super) revision: i64,
}

/// `KeyValue`.
#[derive(Debug, Deserialize)]
pub(super) struct KeyValue {
    #[serde(deserialize_with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(default, deserialize_with = "bytes")]
    pub(super) value: Vec<u8>,
}

/// What a stream of the gateway says at a time.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Streamed {
    Result(Watched),
    Error(Failed),
}

/// `WatchResponse`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Watched {
    pub(super) canceled: bool,
    #[serde(deserialize_with = "number")]
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: String,
    pub(super) events: Vec<Event>,
}

/// `Event`.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(default, rename = "type")]
    pub(super) kind: Kind,
    pub(super) kv: KeyValue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    #[default]
    Put,
    Delete,
}

#[derive(Debug, Deserialize)]
pub(super) struct Failed {
    #[serde(default)]
    pub(super) message: String,
}

/// `AuthenticateResponse`.
#[derive(Deserialize)]
pub(super) struct Authenticated {
    pub(super) token: String,
}

pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| malformed(what, error))
}

/// What an instance writes into its key.
#[derive(Deserialize)]
struct Written {
    #[serde(alias = "Addr")]
    address: String,
    #[serde(default = "default_weight")]
    weight: u32,
    #[serde(default)]
    priority: u32,
    #[serde(default)]
    zone: Option<String>,
}

const fn default_weight() -> u32 {
    DEFAULT_WEIGHT
}

/// The instance that wrote `value` into a key that ends with `id`, or what is odd about it.
pub(super) fn instance(id: &[u8], value: &[u8]) -> Result<Endpoint, String> {
    let odd = |what: &str| {
        let (id, value) = (one_line(id), one_line(value));
        format!("the key `{id}` holds `{value}`, {what}")
    };
    let text = std::str::from_utf8(value).map_err(|_| odd("which is not UTF-8"))?.trim();
    let written = if text.starts_with('{') {
        serde_json::from_str(text)
            .map_err(|error| odd(&format!("which is no instance: {error}")))?
    } else {
        let address = text.to_owned();
        Written { address, weight: DEFAULT_WEIGHT, priority: 0, zone: None }
    };
    let address: SocketAddr = written
        .address
        .parse()
        .map_err(|_| odd("and not an IP address and a port, as in `10.0.0.7:8080`"))?;
    if address.port() == 0 {
        return Err(odd("whose port can't be called"));
    }
    let endpoint = if id.is_empty() {
        Endpoint::from(address)
    } else {
        Endpoint::new(String::from_utf8_lossy(id), address)
    };
    let endpoint = endpoint.with_weight(written.weight).with_priority(written.priority);
    Ok(match written.zone.filter(|zone| !zone.is_empty()) {
        Some(zone) => endpoint.with_zone(zone),
        None => endpoint,
    })
}

/// A number of 64 bits, which is a string; a plain one is understood as well.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number<'a> {
        Text(std::borrow::Cow<'a, str>),
        Plain(i64),
    }
    match Number::deserialize(deserializer)? {
        Number::Text(text) => text.parse().map_err(D::Error::custom),
        Number::Plain(number) => Ok(number),
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    crate::algo::base64::decode(&text).ok_or_else(|| D::Error::custom("bytes that are not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: &str, value: &str) -> Result<String, String> {
        instance(id.as_bytes(), value.as_bytes()).map(|it| {
            let zone = it.zone().unwrap_or("-").to_owned();
            format!("{it} w{} p{} {zone}", it.weight(), it.priority())
        })
    }

    #[test]
    fn an_instance_writes_its_address_or_more() {
        for (value, expected) in [
            ("10.0.0.7:8080", "a (10.0.0.7:8080) w1 p0 -"),
            (" [::1]:8080\n", "a ([::1]:8080) w1 p0 -"),
            (r#"{"address": "10.0.0.7:80"}"#, "a (10.0.0.7:80) w1 p0 -"),
            (
                r#"{"address": "10.0.0.7:80", "weight": 0, "priority": 2, "zone": "eu", "x": []}"#,
                "a (10.0.0.7:80) w0 p2 eu",
            ),
            (r#"{"Op":0,"Addr":"10.0.0.7:80","Metadata":null}"#, "a (10.0.0.7:80) w1 p0 -"),
        ] {
            assert_eq!(said("a", value).as_deref(), Ok(expected), "{value}");
        }
        assert_eq!(said("", "10.0.0.7:80").as_deref(), Ok("10.0.0.7:80 w1 p0 -"));
    }

    #[test]
    fn what_is_odd_is_one_line_that_says_what_would_be_right() {
        for (value, says) in [
            ("", "as in `10.0.0.7:8080`"),
            ("host:80", "as in `10.0.0.7:8080`"),
            ("10.0.0.7", "as in `10.0.0.7:8080`"),
            ("10.0.0.7:0", "port"),
            ("{", "no instance"),
            ("{}", "`address`"),
            (r#"{"address": "10.0.0.7:80", "weight": -1}"#, "-1"),
            ("a\nb", "`a b`"),
        ] {
            let odd = said("a", value).expect_err(value);
            assert!(odd.contains(says) && odd.contains("the key `a`"), "{value:?}: {odd}");
            assert!(!odd.contains('\n'), "{odd:?}");
        }
        assert!(instance(b"\xff", b"\xff").is_err());
    }

    #[test]
    fn the_gateways_messages_are_read() {
        let text = r#"{"header":{"cluster_id":"1","revision":"7"},"kvs":[{"key":"YQ==",
            "create_revision":"2","mod_revision":"2","version":"1","value":"Yg=="}],"count":"1"}"#;
        let listed: Listed = parse(text.as_bytes(), "list").expect("it is one");
        assert_eq!(listed.header.revision, 7);
        assert_eq!((&listed.kvs[0].key[..], &listed.kvs[0].value[..]), (&b"a"[..], &b"b"[..]));
        let empty: Listed = parse(br#"{"header":{"revision":"1"}}"#, "list").expect("it is one");
        assert!(empty.kvs.is_empty());

        let watched = |text: &str| parse::<Streamed>(text.as_bytes(), "watch");
        let text = r#"{"result":{"header":{"revision":"4"},"events":[{"type":"DELETE",
            "kv":{"key":"YQ==","mod_revision":"4"}},{"kv":{"key":"Yg==","value":"Yw=="}}]}}"#;
        let Ok(Streamed::Result(result)) = watched(text) else { panic!("it is one") };
        let kinds: Vec<_> = result.events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Delete, Kind::Put]);
        let text = r#"{"result":{"header":{},"canceled":true,"compact_revision":"3"}}"#;
        let Ok(Streamed::Result(result)) = watched(text) else { panic!("it is one") };
        assert_eq!((result.canceled, result.compact_revision), (true, 3));
        let text = r#"{"error":{"grpc_code":14,"http_code":503,"message":"closing"}}"#;
        let Ok(Streamed::Error(failed)) = watched(text) else { panic!("it is one") };
        assert_eq!(failed.message, "closing");

        for bad in ["", "{}", "[]", r#"{"result":{"events":[{"kv":{"key":"!"}}]}}"#] {
            assert!(watched(bad).is_err(), "{bad}");
        }
    }
}
