//! The slices as they are, and the endpoints that they come to.

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    net::{IpAddr, SocketAddr},
};

use super::{
    config::Wanted,
    parse::{Entry, Event, Hints, List, Named, Slice, Status},
};
use crate::{
    discover::{
        http::one_line,
        registry::{Answer, Fault, RegistryErrorKind},
    },
    endpoint::Endpoint,
};

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Slices {
    wanted: Wanted,
    /// What the next watch goes on from.
    version: String,
    slices: BTreeMap<String, Slice>,
    /// The version was gone, and nothing was watched since.
    gone: bool,
}

/// What is to be done about an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is different.
    Nothing,
    /// There may be another set.
    Changed,
    /// The watch can't go on from here: list again, at once.
    List,
}

impl Slices {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// A list came.
    pub(super) fn listed(&mut self, list: List) -> Result<(), Fault> {
        if list.metadata.resource_version.is_empty() {
            let text = "its list has no `resourceVersion` to watch from";
            return Err(Fault::new(RegistryErrorKind::Malformed, text));
        }
        self.version = list.metadata.resource_version;
        let named = |slice: Slice| (slice.metadata.name.clone(), slice);
        self.slices = list.items.into_iter().map(named).collect();
        Ok(())
    }

    /// What the next watch goes on from.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// An event of the watch came.
    pub(super) fn watched(&mut self, event: Event) -> Result<Step, Fault> {
        let (version, step) = match event {
            Event::Added(slice) | Event::Modified(slice) => {
                let version = slice.metadata.resource_version.clone();
                self.slices.insert(slice.metadata.name.clone(), slice);
                (version, Step::Changed)
            }
            Event::Deleted(slice) => {
                self.slices.remove(&slice.metadata.name);
                (slice.metadata.resource_version, Step::Changed)
            }
            Event::Bookmark(bookmark) => (bookmark.metadata.resource_version, Step::Nothing),
            Event::Error(status) if status.code == 410 => return self.gone(),
            Event::Error(status) => {
                let Status { code, reason, message } = status;
                let (reason, message) = (one_line(reason.as_bytes()), one_line(message.as_bytes()));
                let text = format!("its watch failed: {code} {reason}: {message}");
                return Err(Fault::new(RegistryErrorKind::Refused, text));
            }
        };
        self.gone = false;
        if !version.is_empty() {
            self.version = version;
        }
        Ok(step)
    }

    /// The version to go on from is too old. Once, that is what a list is for; again at once,
    /// the server forgets faster than it can be asked.
    pub(super) fn gone(&mut self) -> Result<Step, Fault> {
        if std::mem::replace(&mut self.gone, true) {
            let text = "the version that it listed is gone already (410)";
            return Err(Fault::new(RegistryErrorKind::Refused, text));
        }
        Ok(Step::List)
    }

    /// The endpoints of all slices.
    pub(super) fn answer(&self) -> Answer {
        let mut odd = None;
        let found = self.found(&mut odd);
        let ready = |found: &Found<'_>| self.wanted.not_ready || found.entry.conditions.ready();
        let last = |found: &Found<'_>| found.entry.conditions.serving_its_last();
        let (mut chosen, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(ready);
        if chosen.is_empty() {
            // Better those who leave than nobody (kube-proxy, KEP 1669).
            chosen = rest.into_iter().filter(last).collect();
        }
        let chosen = self.wanted.family.pick(chosen, |found| found.address.ip());
        let hinted = self.hinted(&chosen);
        let endpoints = chosen.iter().map(|found| {
            let far = hinted.is_some_and(|(by, us)| !found.is_for(by, us));
            found.endpoint().with_priority(far.into())
        });
        let endpoints: Vec<_> = endpoints.collect();
        let empty = (!self.slices.is_empty()).then_some("no endpoint of the service is ready");
        let empty = empty.or(Some("the service has no EndpointSlice: is that its name?"));
        Answer { endpoints, odd, empty }
    }

    /// Each address once, a ready one before others, with the port that is called.
    fn found<'a>(&'a self, odd: &mut Option<String>) -> Vec<Found<'a>> {
        let mut found: HashMap<SocketAddr, Found<'a>> = HashMap::new();
        for slice in self.slices.values() {
            if slice.endpoints.is_empty() {
                // Nobody is ready, and perhaps there are no ports either.
                continue;
            }
            let port = match self.port(slice) {
                Ok(port) => port,
                Err(text) => {
                    odd.get_or_insert(text);
                    continue;
                }
            };
            for entry in &slice.endpoints {
                let Some(address) = entry.addresses.first() else { continue };
                let Ok(ip) = address.parse::<IpAddr>() else {
                    let (name, address) = (&slice.metadata.name, one_line(address.as_bytes()));
                    let name = one_line(name.as_bytes());
                    odd.get_or_insert_with(|| {
                        let kind = one_line(slice.address_type.as_bytes());
                        format!("`{address}` in the slice `{name}` ({kind}) is no IP address")
                    });
                    continue;
                };
                let address = SocketAddr::new(ip, port);
                let this = Found { entry, address };
                match found.entry(address) {
                    hash_map::Entry::Vacant(place) => {
                        place.insert(this);
                    }
                    hash_map::Entry::Occupied(mut place) => {
                        let known = &place.get().entry.conditions;
                        if !known.ready() && entry.conditions.ready() {
                            place.insert(this);
                        }
                    }
                }
            }
        }
        found.into_values().collect()
    }

    fn port(&self, slice: &Slice) -> Result<u16, String> {
        if let Some(port) = self.wanted.port {
            return Ok(port);
        }
        let name = one_line(slice.metadata.name.as_bytes());
        let port = match (&self.wanted.port_name, &slice.ports[..]) {
            (Some(wanted), ports) => ports.iter().find(|port| port.name == *wanted),
            (None, [port]) => Some(port),
            (None, _) => None,
        };
        let Some(port) = port else {
            let names =
                slice.ports.iter().map(|port| format!("`{}`", one_line(port.name.as_bytes())));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(match &self.wanted.port_name {
                Some(wanted) => {
                    format!("the slice `{name}` has no port that is called `{wanted}`, but {names}")
                }
                None => format!(
                    "the slice `{name}` has not one port but these: [{names}]; say which with \
                     `port_name` or `port`"
                ),
            });
        };
        // None is all of them.
        let number = port.port.and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
        number.ok_or_else(|| {
            format!("the slice `{name}` does not say which port is called; say so with `port`")
        })
    }

    /// Which hints are to be followed, and whom they name if they name us: by node before by
    /// zone. All must have such hints, and one must be for us, or else the hints are in the
    /// middle of being changed (as in kube-proxy's `topology.go`).
    fn hinted(&self, found: &[Found<'_>]) -> Option<(HintsBy, &str)> {
        let by_node: HintsBy = |hints| &hints.for_nodes;
        let by_zone: HintsBy = |hints| &hints.for_zones;
        let ours = [(by_node, &self.wanted.node), (by_zone, &self.wanted.zone)];
        ours.into_iter().find_map(|(by, us)| {
            let us = us.as_deref()?;
            let all = found.iter().all(|found| !found.hints(by).is_empty());
            let any = found.iter().any(|found| found.is_for(by, us));
            (all && any).then_some((by, us))
        })
    }
}

/// The hints of one kind.
type HintsBy = fn(&Hints) -> &Vec<Named>;

/// An endpoint that could be called.
struct Found<'a> {
    entry: &'a Entry,
    address: SocketAddr,
}

impl Found<'_> {
    fn hints(&self, by: HintsBy) -> &[Named] {
        self.entry.hints.as_ref().map_or(&[], |hints| by(hints))
    }

    fn is_for(&self, by: HintsBy, us: &str) -> bool {
        self.hints(by).iter().any(|hint| hint.name == us)
    }

    fn endpoint(&self) -> Endpoint {
        let pod = self.entry.target_ref.as_ref().map(|target| target.name.as_str());
        let endpoint = match pod.filter(|name| !name.is_empty()) {
            Some(name) => Endpoint::new(name, self.address),
            None => Endpoint::from(self.address),
        };
        match self.entry.zone.as_deref().filter(|zone| !zone.is_empty()) {
            Some(zone) => endpoint.with_zone(zone),
            None => endpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::discover::{family::Family, kubernetes::parse::parse};

    fn slice(name: &str, family: &str, endpoints: &Value) -> Value {
        json!({
            "metadata": { "name": name, "resourceVersion": "10" }, "addressType": family,
            "ports": [{ "name": "http", "port": 80 }, { "name": "admin", "port": 81 }],
            "endpoints": endpoints,
        })
    }

    fn entry(ip: &str, ready: Option<bool>, serving: Option<bool>, leaves: Option<bool>) -> Value {
        let conditions = json!({ "ready": ready, "serving": serving, "terminating": leaves });
        json!({ "addresses": [ip, "192.0.2.1"], "conditions": conditions })
    }

    fn http() -> Wanted {
        Wanted { port_name: Some("http".into()), ..Wanted::default() }
    }

    fn listed(wanted: Wanted, slices: &[Value]) -> Slices {
        let list = json!({ "metadata": { "resourceVersion": "7" }, "items": slices });
        let mut listed = Slices::new(wanted);
        let list = parse(list.to_string().as_bytes(), "list").expect("it is one");
        listed.listed(list).expect("it has a version");
        listed
    }

    fn event(kind: &str, object: &Value) -> Event {
        let event = json!({ "type": kind, "object": object });
        parse(event.to_string().as_bytes(), "event").expect("it is one")
    }

    fn said(slices: &Slices) -> Vec<String> {
        let mut said: Vec<_> = slices
            .answer()
            .endpoints
            .iter()
            .map(|it| format!("{} p{} {}", it.address(), it.priority(), it.zone().unwrap_or("-")))
            .collect();
        said.sort();
        said
    }

    #[test]
    fn who_is_ready_counts_and_if_nobody_is_who_still_serves() {
        let (yes, no) = (Some(true), Some(false));
        let unknown = entry("10.0.0.1", None, None, None);
        let ready = entry("10.0.0.2", yes, yes, no);
        let unready = entry("10.0.0.3", no, no, no);
        let leaving = entry("10.0.0.4", no, yes, yes);
        let gone = entry("10.0.0.5", no, no, yes);
        // The service has `publishNotReadyAddresses`.
        let published = entry("10.0.0.6", yes, no, yes);
        let of = |wanted, entries: &[&Value]| {
            said(&listed(wanted, &[slice("s", "IPv4", &json!(entries))]))
        };
        let all = [&unknown, &ready, &unready, &leaving, &gone, &published];
        assert_eq!(of(http(), &all), ["10.0.0.1:80 p0 -", "10.0.0.2:80 p0 -", "10.0.0.6:80 p0 -"]);
        assert_eq!(of(http(), &[&unready, &leaving, &gone]), ["10.0.0.4:80 p0 -"]);
        assert_eq!(of(http(), &[&unready, &gone]), [""; 0]);
        let wanted = Wanted { not_ready: true, ..http() };
        assert_eq!(of(wanted, &[&ready, &unready, &gone]).len(), 3);
        assert_eq!(of(http(), &[&json!({ "addresses": ["10.0.0.7"] })]), ["10.0.0.7:80 p0 -"]);
        assert_eq!(of(http(), &[&json!({ "addresses": null, "conditions": null })]), [""; 0]);
    }

    #[test]
    fn slices_are_one_set_in_which_an_address_is_once() {
        let (yes, no) = (Some(true), Some(false));
        let mut slices = listed(
            http(),
            &[
                slice(
                    "a",
                    "IPv4",
                    &json!([entry("10.0.0.1", no, no, no), entry("10.0.0.2", yes, yes, no)]),
                ),
                slice(
                    "b",
                    "IPv4",
                    &json!([entry("10.0.0.1", yes, yes, no), entry("10.0.0.3", yes, yes, no)]),
                ),
                slice("c", "IPv4", &Value::Null),
            ],
        );
        let three = ["10.0.0.1:80 p0 -", "10.0.0.2:80 p0 -", "10.0.0.3:80 p0 -"];
        assert_eq!(said(&slices), three);

        let moved = slice("a", "IPv4", &json!([entry("10.0.0.4", yes, yes, no)]));
        assert_eq!(slices.watched(event("MODIFIED", &moved)).expect("well"), Step::Changed);
        let b = slice("b", "IPv4", &json!([]));
        assert_eq!(slices.watched(event("DELETED", &b)).expect("well"), Step::Changed);
        let d = slice("d", "IPv4", &json!([entry("10.0.0.5", yes, yes, no)]));
        assert_eq!(slices.watched(event("ADDED", &d)).expect("well"), Step::Changed);
        assert_eq!(said(&slices), ["10.0.0.4:80 p0 -", "10.0.0.5:80 p0 -"]);
        assert_eq!(slices.version(), "10");
        let bookmark = json!({ "kind": "EndpointSlice", "metadata": { "resourceVersion": "99" } });
        assert_eq!(slices.watched(event("BOOKMARK", &bookmark)).expect("well"), Step::Nothing);
        assert_eq!(slices.version(), "99");
    }

    #[test]
    fn a_version_that_is_gone_leads_to_a_list_and_twice_is_an_error() {
        let mut slices = listed(http(), &[]);
        let gone = || event("ERROR", &json!({ "code": 410, "reason": "Expired" }));
        assert_eq!(slices.watched(gone()).expect("once"), Step::List);
        let bookmark = json!({ "metadata": { "resourceVersion": "8" } });
        slices.watched(event("BOOKMARK", &bookmark)).expect("well");
        assert_eq!(slices.watched(gone()).expect("once more"), Step::List);
        assert!(slices.watched(gone()).is_err());
        let failed = json!({ "code": 500, "reason": "InternalError", "message": "etcd\nis gone" });
        let fault = slices.watched(event("ERROR", &failed)).expect_err("it failed");
        assert_eq!(fault.text, "its watch failed: 500 InternalError: etcd is gone");
    }

    #[test]
    fn a_port_is_called_by_its_name_or_because_it_is_the_only_one() {
        let endpoints = json!([entry("10.0.0.1", None, None, None)]);
        let with = |ports: Value| {
            let mut slice = slice("s", "IPv4", &endpoints);
            slice["ports"] = ports;
            slice
        };
        let two = slice("s", "IPv4", &endpoints);
        let one = with(json!([{ "port": 82 }]));
        let unnamed = with(json!([{ "name": "", "port": null }]));
        let none = with(Value::Null);
        let of = |wanted: Wanted, slice: &Value| {
            let slices = listed(wanted, std::slice::from_ref(slice));
            (said(&slices), slices.answer().odd)
        };
        let admin = || Wanted { port_name: Some("admin".into()), ..Wanted::default() };
        let fixed = || Wanted { port: Some(9), ..Wanted::default() };
        assert_eq!(of(admin(), &two), (vec!["10.0.0.1:81 p0 -".to_owned()], None));
        assert_eq!(of(Wanted::default(), &one), (vec!["10.0.0.1:82 p0 -".to_owned()], None));
        for slice in [&two, &one, &unnamed, &none] {
            assert_eq!(of(fixed(), slice), (vec!["10.0.0.1:9 p0 -".to_owned()], None));
        }
        for (wanted, slice, says) in [
            (Wanted::default(), &two, "[`http`, `admin`]"),
            (Wanted::default(), &none, "`port_name` or `port`"),
            (Wanted::default(), &unnamed, "does not say which port"),
            (admin(), &one, "no port that is called `admin`"),
        ] {
            let (said, odd) = of(wanted, slice);
            assert_eq!(said, [""; 0]);
            assert!(odd.as_deref().is_some_and(|odd| odd.contains(says)), "{odd:?}");
        }
    }

    #[test]
    fn of_two_families_one_is_used() {
        let v4 = slice("a", "IPv4", &json!([entry("10.0.0.1", None, None, None)]));
        let v6 = slice("b", "IPv6", &json!([entry("2001:db8::1", None, None, None)]));
        let name = slice("c", "FQDN", &json!([{ "addresses": ["payments.example"] }]));
        let slices = listed(http(), &[v4.clone(), v6.clone(), name]);
        assert_eq!(said(&slices), ["10.0.0.1:80 p0 -"]);
        let odd = slices.answer().odd.expect("a name is no address");
        assert!(odd.contains("`payments.example` in the slice `c` (FQDN)"), "{odd}");
        assert_eq!(said(&listed(http(), std::slice::from_ref(&v6))), ["[2001:db8::1]:80 p0 -"]);
        let wanted = Wanted { family: Family::PreferV6, ..http() };
        assert_eq!(said(&listed(wanted, &[v4, v6])), ["[2001:db8::1]:80 p0 -"]);
    }

    #[test]
    fn hints_count_if_all_have_some_and_one_is_for_us() {
        let entry =
            |ip: &str, hints: Value| json!({ "addresses": [ip], "zone": "z", "hints": hints });
        let zone = |name: &str| json!({ "forZones": [{ "name": name }] });
        let node = |name: &str, node: &str| json!({ "forZones": [{ "name": name }], "forNodes": [{ "name": node }] });
        let at = |zone: &str, node: &str| Wanted {
            zone: Some(zone.into()),
            node: Some(node.into()),
            ..http()
        };
        let of = |wanted, a: Value, b: Value| {
            let endpoints = json!([entry("10.0.0.1", a), entry("10.0.0.2", b)]);
            let slices = listed(wanted, &[slice("s", "IPv4", &endpoints)]);
            let mut endpoints = slices.answer().endpoints;
            endpoints.sort_by_key(Endpoint::address);
            endpoints.iter().map(Endpoint::priority).collect::<Vec<_>>()
        };
        assert_eq!(of(at("a", "n"), zone("a"), zone("b")), [0, 1]);
        assert_eq!(of(at("c", "n"), zone("a"), zone("b")), [0, 0], "none is for us");
        assert_eq!(of(at("a", "n"), zone("a"), Value::Null), [0, 0], "not all have some");
        assert_eq!(of(http(), zone("a"), zone("b")), [0, 0], "we don't know where we are");
        assert_eq!(of(at("a", "n"), node("a", "m"), node("b", "n")), [1, 0], "a node is nearer");
        assert_eq!(of(at("a", "o"), node("a", "m"), node("b", "n")), [0, 1]);
    }

    #[test]
    fn an_empty_answer_says_why() {
        let none = listed(http(), &[]).answer();
        assert!(none.empty.is_some_and(|text| text.contains("no EndpointSlice")));
        let unready = listed(http(), &[slice("s", "IPv4", &Value::Null)]).answer();
        assert!(unready.empty.is_some_and(|text| text.contains("is ready")));
    }
}
