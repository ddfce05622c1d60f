//! When to ask again, and what SRV records and the addresses of their targets come to.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    discover::registry::{Answer, Fault},
    endpoint::Endpoint,
};

/// How long an answer is believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refresh {
    pub(super) floor: Duration,
    pub(super) ceiling: Duration,
}

impl Refresh {
    /// After an answer with records of this TTL; `chance` is a draw from `[0, 1)`.
    pub(super) fn found(self, ttl: u32, chance: f64) -> Duration {
        let ttl = Duration::from_secs(ttl.into()).clamp(self.floor, self.ceiling);
        ttl.mul_f64(1.0 + JITTER * chance)
    }

    /// After an answer without records, whose zone says how long that holds if it says so.
    pub(super) fn none(self, ttl: Option<u32>, chance: f64) -> Duration {
        let ceiling = self.ceiling.min(NEGATIVE.max(self.floor));
        Self { ceiling, ..self }.found(ttl.unwrap_or(0), chance)
    }
}

/// A tenth: enough that clients drift apart, too little to matter.
const JITTER: f64 = 0.1;

/// 30 s: whoever asked too early, and was told that there is no such name for an hour, should
/// not have to wait for so long.
const NEGATIVE: Duration = Duration::from_secs(30);

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// In small letters, without the dot at the end; so the root is nothing.
    pub(super) target: String,
}

/// What became of looking for the addresses of a target.
#[derive(Debug)]
pub(super) enum Looked {
    Found(Vec<IpAddr>),
    /// It has none.
    None,
    Failed(Fault),
}

/// The addresses that targets had.
#[derive(Debug, Default)]
pub(super) struct Targets {
    last: HashMap<String, Vec<IpAddr>>,
}

impl Targets {
    /// The endpoints that these records come to.
    pub(super) fn answer(
        &mut self,
        services: &[Service],
        mut looked: HashMap<String, Looked>,
    ) -> Result<Answer, Fault> {
        if matches!(services, [only] if only.target.is_empty()) {
            let empty = Some("its SRV record says that the service is not available");
            return Ok(Answer { empty, ..Answer::default() });
        }
        let (mut now, mut odd, mut first) = (HashMap::new(), Vec::new(), None);
        let (mut failed, mut count) = (0, 0);
        for Service { target, .. } in services {
            let Some(looked) = looked.remove(target) else { continue };
            count += 1;
            match looked {
                Looked::Found(ips) => {
                    now.insert(target.clone(), ips);
                }
                Looked::None => odd.push(format!("`{target}` has no address")),
                Looked::Failed(fault) => {
                    failed += 1;
                    let last = self.last.remove(target);
                    let stays = if last.is_some() { ", its last addresses stay" } else { "" };
                    odd.push(format!("`{target}` can't be looked up ({}){stays}", fault.text));
                    now.extend(last.map(|ips| (target.clone(), ips)));
                    first = first.or(Some(fault));
                }
            }
        }
        if let Some(fault) = first.filter(|_| failed == count) {
            self.last = now;
            let text = format!("none of its targets can be looked up: {}", fault.text);
            return Err(Fault { text, ..fault });
        }
        let mut endpoints = Vec::new();
        for Service { priority, weight, port, target } in services {
            // A port that can't be called is no instance.
            for &ip in now.get(target).into_iter().flatten().filter(|_| *port != 0) {
                let endpoint = Endpoint::new(target.as_str(), SocketAddr::new(ip, *port));
                let endpoint = endpoint.with_priority((*priority).into());
                endpoints.push(endpoint.with_weight((*weight).into()));
            }
        }
        self.last = now;
        odd.sort_unstable();
        odd.truncate(MOST_SAID);
        let odd = (!odd.is_empty()).then(|| odd.join("; "));
        Ok(Answer { endpoints, odd, empty: Some("none of its targets has an address") })
    }
}

/// So many targets are named in an error.
const MOST_SAID: usize = 3;

/// The addresses of a name, with its port.
pub(super) fn addresses(ips: &[IpAddr], port: u16) -> Answer {
    let endpoint = |&ip| Endpoint::from(SocketAddr::new(ip, port));
    Answer { endpoints: ips.iter().map(endpoint).collect(), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::discover::registry::RegistryErrorKind;

    const REFRESH: Refresh =
        Refresh { floor: Duration::from_secs(5), ceiling: Duration::from_secs(300) };

    #[test]
    fn a_ttl_has_a_floor_a_ceiling_and_a_jitter() {
        let seconds = |ttl, chance| REFRESH.found(ttl, chance).as_secs_f64();
        let found = [0, 5, 60, 300, 86_400].map(|ttl| seconds(ttl, 0.0));
        assert_eq!(found, [5.0, 5.0, 60.0, 300.0, 300.0]);
        assert_eq!((seconds(60, 0.5), seconds(0, 0.5)), (63.0, 5.25));
        let none = |ttl| REFRESH.none(ttl, 0.0).as_secs();
        assert_eq!([None, Some(1), Some(10), Some(3_600)].map(none), [5, 5, 10, 30]);
        let slow = Refresh { floor: Duration::from_secs(60), ceiling: Duration::from_secs(60) };
        assert_eq!(slow.none(Some(1), 0.0).as_secs(), 60, "the floor is asked for");
    }

    fn service(target: &str, priority: u16, weight: u16, port: u16) -> Service {
        Service { priority, weight, port, target: target.into() }
    }

    fn ips(text: &[&str]) -> Vec<IpAddr> {
        text.iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    fn failed() -> Looked {
        Looked::Failed(Fault::new(RegistryErrorKind::Refused, "SERVFAIL"))
    }

    fn looked<const N: usize>(all: [(&str, Looked); N]) -> HashMap<String, Looked> {
        all.into_iter().map(|(target, looked)| (target.to_owned(), looked)).collect()
    }

    fn said(answer: &Answer) -> Vec<String> {
        let said = |it: &Endpoint| format!("{it} w{} p{}", it.weight(), it.priority());
        answer.endpoints.iter().map(said).collect()
    }

    #[test]
    fn records_and_addresses_make_endpoints() {
        let services = [
            service("a", 0, 70, 80),
            service("a", 1, 5, 81),
            service("b", 0, 0, 80),
            service("c", 0, 9, 0),
        ];
        let looked = looked([
            ("a", Looked::Found(ips(&["10.0.0.1", "10.0.0.2"]))),
            ("b", Looked::Found(ips(&["::1"]))),
            ("c", Looked::Found(ips(&["10.0.0.3"]))),
        ]);
        let answer = Targets::default().answer(&services, looked).expect("all is well");
        let expected = [
            "a (10.0.0.1:80) w70 p0",
            "a (10.0.0.2:80) w70 p0",
            "a (10.0.0.1:81) w5 p1",
            "a (10.0.0.2:81) w5 p1",
            "b ([::1]:80) w0 p0",
        ];
        assert_eq!((said(&answer), answer.odd), (expected.map(String::from).to_vec(), None));
    }

    #[test]
    fn a_target_that_fails_keeps_its_addresses_and_one_without_any_goes() {
        let services = [service("a", 0, 1, 80), service("b", 0, 1, 80), service("c", 0, 1, 80)];
        let mut targets = Targets::default();
        let first = looked([
            ("a", Looked::Found(ips(&["10.0.0.1"]))),
            ("b", Looked::Found(ips(&["10.0.0.2"]))),
            ("c", failed()),
        ]);
        let answer = targets.answer(&services, first).expect("some are well");
        assert_eq!(said(&answer).len(), 2);
        assert_eq!(answer.odd.as_deref(), Some("`c` can't be looked up (SERVFAIL)"));

        let then = looked([
            ("a", failed()),
            ("b", Looked::None),
            ("c", Looked::Found(ips(&["10.0.0.3"]))),
        ]);
        let answer = targets.answer(&services, then).expect("some are well");
        assert_eq!(said(&answer), ["a (10.0.0.1:80) w1 p0", "c (10.0.0.3:80) w1 p0"]);
        let odd = "`a` can't be looked up (SERVFAIL), its last addresses stay; `b` has no address";
        assert_eq!(answer.odd.as_deref(), Some(odd));

        let all = || looked([("a", failed()), ("b", failed()), ("c", failed())]);
        let fault = targets.answer(&services, all()).expect_err("all failed");
        assert_eq!(fault.text, "none of its targets can be looked up: SERVFAIL");
        assert_eq!(fault.kind, RegistryErrorKind::Refused);
        // What was known is not forgotten by that.
        let some = looked([("a", failed()), ("b", Looked::None), ("c", failed())]);
        assert_eq!(said(&targets.answer(&services, some).expect("one is well")).len(), 2);
    }

    #[test]
    fn the_root_as_the_only_target_says_no() {
        let answer = Targets::default().answer(&[service("", 0, 0, 0)], HashMap::new());
        let answer = answer.expect("that is an answer");
        assert!(answer.endpoints.is_empty());
        assert!(answer.empty.is_some_and(|text| text.contains("not available")));
        let all = looked([("a", Looked::None)]);
        let answer = Targets::default().answer(&[service("a", 0, 1, 80)], all);
        let empty = answer.expect("that is an answer").empty;
        assert_eq!(empty, Some("none of its targets has an address"));
    }

    proptest! {
        #[test]
        fn a_refresh_is_never_sooner_than_the_floor(ttl: u32, chance in 0.0..1.0) {
            for wait in [REFRESH.found(ttl, chance), REFRESH.none(Some(ttl), chance)] {
                prop_assert!(wait >= REFRESH.floor && wait <= REFRESH.ceiling.mul_f64(1.1));
            }
        }
    }
}
