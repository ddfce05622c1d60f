//! From an agent's answer to its endpoints.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::{
    discover::{
        http::{malformed, one_line},
        registry::{Answer, Fault},
    },
    endpoint::{DEFAULT_WEIGHT, Endpoint},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Option<Vec<Check>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    address: String,
    locality: Option<Locality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    port: i64,
    #[serde(default)]
    weights: Option<Weights>,
    #[serde(default)]
    locality: Option<Locality>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Weights {
    passing: i64,
    warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: DEFAULT_WEIGHT.into(), warning: DEFAULT_WEIGHT.into() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Locality {
    #[serde(default)]
    zone: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default)]
    status: String,
}

/// How an instance is: the worst of its checks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Passing,
    Warning,
    /// Critical, in maintenance, or what we don't know.
    Other,
}

/// The endpoints in an answer; `warning` lets those in that have a warning.
pub(super) fn parse(bytes: &[u8], warning: bool) -> Result<Answer, Fault> {
    let entries: Vec<Entry> =
        serde_json::from_slice(bytes).map_err(|error| malformed("list of instances", error))?;
    let mut answer = Answer::default();
    let worst = if warning { Status::Warning } else { Status::Passing };
    for entry in &entries {
        let status = entry.status();
        if status > worst {
            continue;
        }
        match entry.endpoint(status) {
            Ok(endpoint) => answer.endpoints.push(endpoint),
            Err(odd) => answer.odd = answer.odd.or(Some(odd)),
        }
    }
    Ok(answer)
}

impl Entry {
    fn status(&self) -> Status {
        let status = |check: &Check| match check.status.as_str() {
            "passing" => Status::Passing,
            "warning" => Status::Warning,
            _ => Status::Other,
        };
        let checks = self.checks.iter().flatten();
        checks.map(status).max().unwrap_or(Status::Passing)
    }

    fn endpoint(&self, status: Status) -> Result<Endpoint, String> {
        let Self { node, service, .. } = self;
        let id = &service.id;
        let host = if service.address.is_empty() { &node.address } else { &service.address };
        let ip: IpAddr = host.parse().map_err(|_| {
            let (id, host) = (one_line(id.as_bytes()), one_line(host.as_bytes()));
            format!("the address `{host}` of the instance `{id}` is not an IP address")
        })?;
        let port = u16::try_from(service.port).ok().filter(|&port| port != 0);
        let port = port.ok_or_else(|| {
            let id = one_line(id.as_bytes());
            format!("the instance `{id}` has no port that could be called ({})", service.port)
        })?;
        let weights = service.weights.unwrap_or_default();
        let weight = if status == Status::Passing { weights.passing } else { weights.warning };
        let weight = u32::try_from(weight.max(0)).unwrap_or(u32::MAX);
        let endpoint = Endpoint::new(id.as_str(), SocketAddr::new(ip, port)).with_weight(weight);
        let zones = [&service.locality, &node.locality];
        let mut zones = zones.into_iter().flatten().map(|it| it.zone.as_str());
        Ok(match zones.find(|zone| !zone.is_empty()) {
            Some(zone) => endpoint.with_zone(zone),
            None => endpoint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, warning: bool) -> (Vec<String>, Option<String>) {
        let answer = parse(text.as_bytes(), warning).expect("it is a list");
        let said = |it: &Endpoint| format!("{it} w{} {}", it.weight(), it.zone().unwrap_or("-"));
        (answer.endpoints.iter().map(said).collect(), answer.odd)
    }

    #[test]
    fn the_service_has_an_address_or_its_node_has() {
        let text = r#"[
            {"Node": {"Address": "10.0.0.1", "Datacenter": "dc1"},
             "Service": {"ID": "a", "Service": "payments", "Address": "10.9.9.9", "Port": 80,
                         "Weights": {"Passing": 7, "Warning": 2}},
             "Checks": [{"Status": "passing"}, {"Status": "passing"}]},
            {"Node": {"Address": "10.0.0.2", "Locality": {"Region": "eu", "Zone": "eu-1a"}},
             "Service": {"ID": "b", "Address": "", "Port": 81}, "Checks": []},
            {"Node": {"Address": "::1", "Locality": {"Zone": "node"}},
             "Service": {"ID": "c", "Port": 82, "Locality": {"Zone": "own"}, "Weights": null},
             "Checks": null}
        ]"#;
        let expected = ["a (10.9.9.9:80) w7 -", "b (10.0.0.2:81) w1 eu-1a", "c ([::1]:82) w1 own"];
        let (found, odd) = said(text, false);
        assert_eq!((found.as_slice(), odd), (expected.map(String::from).as_slice(), None));
    }

    #[test]
    fn the_worst_check_counts() {
        let entry = |id: &str, checks: &[&str]| {
            let checks = checks.iter().map(|status| format!(r#"{{"Status":"{status}"}}"#));
            let checks: Vec<_> = checks.collect();
            format!(
                r#"{{"Node":{{"Address":"10.0.0.1"}},"Service":{{"ID":"{id}","Port":1,
                "Weights":{{"Passing":4,"Warning":0}}}},"Checks":[{}]}}"#,
                checks.join(","),
            )
        };
        let text = format!(
            "[{},{},{},{}]",
            entry("good", &["passing"]),
            entry("warned", &["passing", "warning"]),
            entry("bad", &["warning", "critical"]),
            entry("strange", &["passing", "maintenance"]),
        );
        assert_eq!(said(&text, false).0, ["good (10.0.0.1:1) w4 -"]);
        let both = ["good (10.0.0.1:1) w4 -", "warned (10.0.0.1:1) w0 -"];
        assert_eq!(said(&text, true).0, both);
    }

    #[test]
    fn what_cant_be_read_is_said_and_the_rest_counts() {
        let text = r#"[
            {"Node": {"Address": "node-1.local"}, "Service": {"ID": "a\nb", "Port": 80}},
            {"Node": {"Address": "10.0.0.2"}, "Service": {"ID": "b", "Port": 0}},
            {"Node": {"Address": "10.0.0.3"}, "Service": {"ID": "c", "Port": 80,
             "Weights": {"Passing": 99999999999, "Warning": -3}}}
        ]"#;
        let (found, odd) = said(text, false);
        assert_eq!(found, [format!("c (10.0.0.3:80) w{} -", u32::MAX)]);
        let expected = "the address `node-1.local` of the instance `a b` is not an IP address";
        assert_eq!(odd.as_deref(), Some(expected));
        for text in ["", "{}", "null", "[1]", "[{}]", r#"[{"Service": {"ID": 1, "Port": 1}}]"#] {
            assert!(parse(text.as_bytes(), false).is_err(), "{text}");
        }
    }
}
