//! The keys as they are, list by list and event by event.

use std::collections::BTreeMap;

use super::parse::{Kind, Listed, Streamed, instance};
use crate::{
    discover::{
        http::one_line,
        registry::{Answer, Fault, RegistryErrorKind},
    },
    endpoint::Endpoint,
};

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Keys {
    prefix: Vec<u8>,
    /// Of the last list: the watch begins after it.
    revision: i64,
    instances: BTreeMap<Vec<u8>, Result<Endpoint, String>>,
    /// The last watch was over before it began.
    compacted: bool,
}

/// What is to be done about a line of the watch.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing is different.
    Nothing,
    /// There is another set.
    Changed,
    /// The watch missed something: list again, at once.
    List,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// A list came.
    pub(super) fn listed(&mut self, listed: Listed) {
        self.revision = listed.header.revision;
        self.instances.clear();
        for pair in listed.kvs {
            self.put(pair.key, &pair.value);
        }
    }

    /// The first revision to be watched.
    pub(super) const fn watch_from(&self) -> i64 {
        self.revision.saturating_add(1)
    }

    /// A line of the watch came.
    pub(super) fn watched(&mut self, streamed: Streamed) -> Result<Step, Fault> {
        let refused = |text: String| Fault::new(RegistryErrorKind::Refused, text);
        let watched = match streamed {
            Streamed::Result(watched) => watched,
            Streamed::Error(failed) => {
                let text = one_line(failed.message.as_bytes());
                return Err(refused(format!("its watch failed: {text}")));
            }
        };
        if watched.compact_revision > 0 {
            // Once is bad luck: somebody compacted between the list and the watch.
            if std::mem::replace(&mut self.compacted, true) {
                let text = "its revisions are compacted faster than they can be watched";
                return Err(refused(text.to_owned()));
            }
            return Ok(Step::List);
        }
        if watched.canceled {
            let why = one_line(watched.cancel_reason.as_bytes());
            return Err(refused(format!("it canceled the watch: {why}")));
        }
        self.compacted = false;
        let changed = !watched.events.is_empty();
        for event in watched.events {
            match event.kind {
                Kind::Put => self.put(event.kv.key, &event.kv.value),
                Kind::Delete => {
                    self.instances.remove(&event.kv.key);
                }
            }
        }
        Ok(if changed { Step::Changed } else { Step::Nothing })
    }

    pub(super) fn answer(&self) -> Answer {
        let endpoints = self.instances.values().filter_map(|it| it.as_ref().ok()).cloned();
        let odd = self.instances.values().find_map(|it| it.as_ref().err()).cloned();
        Answer { endpoints: endpoints.collect(), odd, empty: None }
    }

    fn put(&mut self, key: Vec<u8>, value: &[u8]) {
        // What is not below the prefix was not asked for.
        if let Some(id) = key.strip_prefix(&self.prefix[..]) {
            let instance = instance(id, value);
            self.instances.insert(key, instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        algo::base64::encode,
        discover::etcd::parse::{Event, Failed, Header, KeyValue, Watched},
    };

    fn pair(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.into(), value: value.into() }
    }

    fn listed(revision: i64, pairs: &[(&str, &str)]) -> Listed {
        let kvs = pairs.iter().map(|(key, value)| pair(key, value)).collect();
        Listed { header: Header { revision }, kvs }
    }

    fn events(events: &[(Kind, &str, &str)]) -> Streamed {
        let event = |&(kind, key, value): &(Kind, &str, &str)| Event { kind, kv: pair(key, value) };
        let events = events.iter().map(event).collect();
        Streamed::Result(Watched { events, ..Watched::default() })
    }

    fn ids(keys: &Keys) -> Vec<String> {
        keys.answer().endpoints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn events_change_what_was_listed() {
        let mut keys = Keys::new("p/");
        keys.listed(listed(
            7,
            &[("p/a", "10.0.0.1:1"), ("p/b", "10.0.0.2:1"), ("q/c", "10.0.0.3:1")],
        ));
        assert_eq!(keys.watch_from(), 8);
        assert_eq!(ids(&keys), ["a (10.0.0.1:1)", "b (10.0.0.2:1)"]);
        let step = keys.watched(events(&[]));
        assert!(matches!(step, Ok(Step::Nothing)), "{step:?}");
        let step = keys.watched(events(&[
            (Kind::Delete, "p/a", ""),
            (Kind::Put, "p/b", "10.0.0.2:2"),
            (Kind::Put, "p/d", "10.0.0.4:1"),
            (Kind::Delete, "p/e", ""),
        ]));
        assert!(matches!(step, Ok(Step::Changed)), "{step:?}");
        assert_eq!(ids(&keys), ["b (10.0.0.2:2)", "d (10.0.0.4:1)"]);
        keys.listed(listed(3, &[("p/z", "10.0.0.9:1")]));
        assert_eq!((keys.watch_from(), ids(&keys).len()), (4, 1), "a list is all there is");
    }

    #[test]
    fn what_is_odd_is_said_until_it_goes() {
        let mut keys = Keys::new("p/");
        keys.listed(listed(7, &[("p/a", "10.0.0.1:1"), ("p/b", "nonsense")]));
        assert_eq!(ids(&keys), ["a (10.0.0.1:1)"]);
        assert!(keys.answer().odd.is_some_and(|odd| odd.contains("`b` holds `nonsense`")));
        keys.watched(events(&[(Kind::Delete, "p/b", "")])).expect("it goes");
        assert_eq!(keys.answer().odd, None);
    }

    #[test]
    fn compaction_leads_to_a_list_and_twice_in_a_row_is_an_error() {
        let mut keys = Keys::new("p/");
        let compacted = || {
            Streamed::Result(Watched { canceled: true, compact_revision: 9, ..Watched::default() })
        };
        keys.listed(listed(7, &[]));
        assert!(matches!(keys.watched(compacted()), Ok(Step::List)));
        keys.listed(listed(10, &[]));
        keys.watched(events(&[])).expect("it began");
        assert!(matches!(keys.watched(compacted()), Ok(Step::List)));
        assert!(keys.watched(compacted()).is_err());
    }

    #[test]
    fn a_watch_that_is_canceled_or_fails_says_why() {
        let mut keys = Keys::new("p/");
        let cancel_reason = "etcdserver: no leader".to_owned();
        let canceled = Watched { canceled: true, cancel_reason, ..Watched::default() };
        let fault = keys.watched(Streamed::Result(canceled)).expect_err("canceled");
        assert_eq!(fault.text, "it canceled the watch: etcdserver: no leader");
        let failed = Failed { message: "transport is\nclosing".into() };
        let fault = keys.watched(Streamed::Error(failed)).expect_err("failed");
        assert_eq!(fault.text, "its watch failed: transport is closing");
        assert_eq!(encode(b"p/"), "cC8=");
    }
}
