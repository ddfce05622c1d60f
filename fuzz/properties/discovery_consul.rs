//! What a Consul agent answers. All bytes are the answer's body.

use std::{
    collections::HashSet,
    convert::Infallible,
    future::ready,
    net::{IpAddr, SocketAddr},
};

use buttress::discover::{Change, Consul, ConsulConfig, RegistryErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tower::service_fn;

pub(crate) fn holds(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let agent = service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().header("x-consul-index", 1);
        ready(Ok::<_, Infallible>(response.body(Full::new(body.clone())).expect("it is one")))
    });
    let config = ConsulConfig::new("payments").expect("a name");
    let first = super::in_runtime(Consul::over(config, agent).next()).expect("it never ends");
    let entries: Option<Vec<Value>> = serde_json::from_slice(bytes).ok();
    match first {
        Ok(Change::Reset(endpoints)) => {
            let expected: HashSet<_> = entries.iter().flatten().filter_map(instance).collect();
            let found = |it: &buttress::endpoint::Endpoint| (it.id().to_owned(), it.address());
            let found: HashSet<_> = endpoints.iter().map(found).collect();
            assert_eq!(found.len(), endpoints.len(), "each once");
            assert_eq!(found, expected);
        }
        Ok(other) => panic!("not a whole set: {other:?}"),
        Err(error) => {
            super::one_line(&error);
            match error.kind() {
                RegistryErrorKind::Empty => {
                    assert!(entries.iter().flatten().all(|it| instance(it).is_none()));
                }
                RegistryErrorKind::Malformed => {}
                kind => panic!("{kind:?}: {error}"),
            }
        }
    }
}

/// The same read by hand, of an entry that is well.
fn instance(entry: &Value) -> Option<(String, SocketAddr)> {
    let checks = entry["Checks"].as_array().map_or(&[][..], Vec::as_slice);
    if !checks.iter().all(|check| check["Status"] == "passing") {
        return None;
    }
    let service = &entry["Service"];
    let of_service = service["Address"].as_str().unwrap_or_default();
    let of_node = entry["Node"]["Address"].as_str().unwrap_or_default();
    let host = if of_service.is_empty() { of_node } else { of_service };
    let ip: IpAddr = host.parse().ok()?;
    let port = u16::try_from(service["Port"].as_i64()?).ok().filter(|&port| port != 0)?;
    Some((service["ID"].as_str()?.to_owned(), SocketAddr::new(ip, port)))
}
