//! From a file's bytes to its endpoints.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    ops::Range,
};

use serde::Deserialize;
use toml::Spanned;

use super::error::{Fault, FileErrorKind};
use crate::endpoint::{DEFAULT_WEIGHT, Endpoint};

/// What the file would have to look like.
const FORM: &str = "the file is a list of `[[endpoint]]`, each with `address = \"127.0.0.1:8080\"` \
                    and, if wanted, `id = \"name\"`, `weight = 2`, `priority = 1` and \
                    `zone = \"name\"`";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    endpoint: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    id: Option<Spanned<String>>,
    address: Spanned<String>,
    weight: Option<u32>,
    priority: Option<u32>,
    zone: Option<String>,
}

/// The endpoints in the order of the file: at least one, all different.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Endpoint>, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault {
        kind: FileErrorKind::Malformed,
        line: Some(line_at(bytes, error.valid_up_to())),
        text: format!("this is not UTF-8; {FORM}"),
    })?;
    let document: Document = toml::from_str(text).map_err(|error| Fault {
        kind: FileErrorKind::Malformed,
        line: error.span().map(|Range { start, .. }| line_at(bytes, start)),
        text: format!("{}; {FORM}", error.message().trim().replace('\n', ", ")),
    })?;
    if document.endpoint.is_empty() {
        return Err(Fault {
            kind: FileErrorKind::Empty,
            line: None,
            text: format!("it lists no endpoint; {FORM}"),
        });
    }
    let mut seen = Seen::default();
    document.endpoint.into_iter().map(|listed| seen.admit(bytes, listed)).collect()
}

/// Where each address and each id stood first.
#[derive(Default)]
struct Seen {
    addresses: HashMap<SocketAddr, usize>,
    ids: HashMap<String, usize>,
}

impl Seen {
    fn admit(&mut self, bytes: &[u8], listed: Listed) -> Result<Endpoint, Fault> {
        let line = line_at(bytes, listed.address.span().start);
        let address = address(listed.address.get_ref()).map_err(|text| Fault {
            kind: FileErrorKind::Malformed,
            line: Some(line),
            text,
        })?;
        once(&mut self.addresses, address, line, "address")?;

        let (id, line) = match listed.id {
            Some(id) => (id.get_ref().clone(), line_at(bytes, id.span().start)),
            None => (address.to_string(), line),
        };
        if id.trim().is_empty() {
            return Err(Fault {
                kind: FileErrorKind::Malformed,
                line: Some(line),
                text: "the id is blank; leave it out, and the address takes its place".to_owned(),
            });
        }
        once(&mut self.ids, id.clone(), line, "id")?;
        let endpoint = Endpoint::new(id, address)
            .with_weight(listed.weight.unwrap_or(DEFAULT_WEIGHT))
            .with_priority(listed.priority.unwrap_or(0));
        Ok(match listed.zone {
            Some(zone) => endpoint.with_zone(zone),
            None => endpoint,
        })
    }
}

fn once<K>(
    seen: &mut HashMap<K, usize>,
    key: K,
    line: usize,
    what: &'static str,
) -> Result<(), Fault>
where
    K: std::hash::Hash + Eq + std::fmt::Display,
{
    match seen.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(line);
            Ok(())
        }
        Entry::Occupied(entry) => Err(Fault {
            kind: FileErrorKind::Duplicate,
            line: Some(line),
            text: format!(
                "the {what} `{}` stands in line {} already; each may stand once",
                entry.key(),
                entry.get(),
            ),
        }),
    }
}

fn address(written: &str) -> Result<SocketAddr, String> {
    match written.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(format!("`{written}` has port 0; write the port that the endpoint listens on"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!(
            "`{written}` is not an address; write an IP address and a port, as in \
             `127.0.0.1:8080` or `[::1]:8080`"
        )),
    }
}

fn line_at(bytes: &[u8], offset: usize) -> usize {
    let before = bytes.get(..offset).unwrap_or(bytes);
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> (FileErrorKind, Option<usize>, String) {
        let Fault { kind, line, text } = parse(text.as_bytes()).expect_err("it is not right");
        (kind, line, text)
    }

    #[test]
    fn an_id_is_the_address_when_it_is_left_out() {
        let text = "# ours\n[[endpoint]]\nid = \"payments-1\"\naddress = \"127.0.0.1:40001\"\n\n\
                    [[endpoint]]\naddress = \"[::1]:40002\"\n";
        let endpoints = parse(text.as_bytes()).expect("it is right");
        let said: Vec<_> = endpoints.iter().map(|e| (e.id(), e.address().port())).collect();
        assert_eq!(said, [("payments-1", 40001), ("[::1]:40002", 40002)]);
    }

    #[test]
    fn more_is_said_of_an_endpoint_if_wanted() {
        let text = "[[endpoint]]\naddress = \"127.0.0.1:1\"\nweight = 3\npriority = 1\n\
                    zone = \"eu-1a\"\n[[endpoint]]\naddress = \"127.0.0.1:2\"\n";
        let endpoints = parse(text.as_bytes()).expect("it is right");
        let said = |it: &Endpoint| (it.weight(), it.priority(), it.zone().map(str::to_owned));
        let said: Vec<_> = endpoints.iter().map(said).collect();
        assert_eq!(said, [(3, 1, Some("eu-1a".to_owned())), (1, 0, None)]);
    }

    #[test]
    fn says_the_line_and_what_would_be_right() {
        use FileErrorKind::{Duplicate, Empty, Malformed};
        let good = "[[endpoint]]\nid = \"a\"\naddress = \"127.0.0.1:1\"\n";
        for (text, kind, line, says) in [
            ("", Empty, None, "lists no endpoint"),
            ("# nothing\n", Empty, None, "[[endpoint]]"),
            ("endpoint = []", Empty, None, "[[endpoint]]"),
            ("\n[[endpoint]\n", Malformed, Some(2), "[[endpoint]]"),
            ("\n\nendpoints = 1\n", Malformed, Some(3), "unknown field `endpoints`"),
            ("[endpoint]\naddress = \"127.0.0.1:1\"", Malformed, Some(1), "a list of"),
            ("[[endpoint]]\nid = \"a\"\n", Malformed, Some(1), "missing field `address`"),
            (
                "[[endpoint]]\naddress = \"127.0.0.1:1\"\nwieght = 3\n",
                Malformed,
                Some(3),
                "unknown field `wieght`",
            ),
            (
                "[[endpoint]]\naddress = \"127.0.0.1:1\"\nweight = -3\n",
                Malformed,
                Some(3),
                "`weight = 2`",
            ),
            ("[[endpoint]]\naddress = 8080\n", Malformed, Some(2), "expected a string"),
            (
                "[[endpoint]]\naddress = \"host:80\"\n",
                Malformed,
                Some(2),
                "an IP address and a port",
            ),
            ("[[endpoint]]\naddress = \"127.0.0.1\"\n", Malformed, Some(2), "127.0.0.1:8080"),
            ("[[endpoint]]\naddress = \"127.0.0.1:0\"\n", Malformed, Some(2), "port 0"),
            (
                "[[endpoint]]\naddress = \"127.0.0.1:1\"\nid = \" \"\n",
                Malformed,
                Some(3),
                "leave it out",
            ),
            (
                &format!("{good}[[endpoint]]\naddress = \"127.0.0.1:1\"\n"),
                Duplicate,
                Some(5),
                "the address `127.0.0.1:1` stands in line 3 already",
            ),
            (
                &format!("{good}[[endpoint]]\naddress = \"127.0.0.1:2\"\nid = \"a\"\n"),
                Duplicate,
                Some(6),
                "the id `a` stands in line 2 already",
            ),
        ] {
            let (was, at, said) = fault(text);
            assert_eq!((was, at), (kind, line), "{text:?}: {said}");
            assert!(said.contains(says), "{text:?}: {said}");
            assert!(!said.contains('\n'), "{text:?}: {said}");
        }
        let Fault { line, text, .. } = parse(b"\n\n\xff").expect_err("not UTF-8");
        assert_eq!(line, Some(3));
        assert!(text.contains("UTF-8"), "{text}");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn never_panics_on_what_looks_like_it(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("[[endpoint]]"), Just("[endpoint]"), Just("address"), Just("id"),
                    Just("="), Just("\""), Just("'''"), Just("\n"), Just("\r\n"), Just("\u{feff}"),
                    Just("127.0.0.1:1"), Just("[["), Just("]]"), Just("{"), Just("}"), Just("."),
                    Just("é"), Just(","), Just("#"), Just("1979-05-27"), Just("nan"), Just("\\u"),
                ],
                0..40,
            ),
        ) {
            if let Err(fault) = parse(pieces.concat().as_bytes()) {
                let lines = pieces.concat().matches('\n').count() + 1;
                prop_assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)));
                prop_assert!(!fault.text.contains('\n'));
            }
        }
    }
}
