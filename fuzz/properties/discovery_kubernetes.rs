//! What an API server answers. The first line is the list of slices, the others are the watch.

use std::{collections::HashSet, convert::Infallible, future::ready, net::IpAddr};

use buttress::{
    Entropy,
    discover::{Change, Kubernetes, KubernetesConfig, RegistryErrorKind, ResilientConfig},
};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tower::service_fn;

pub(crate) fn holds(bytes: &[u8]) {
    let at = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    let (list, watch) =
        (Bytes::copy_from_slice(&bytes[..at]), Bytes::copy_from_slice(&bytes[at..]));
    let listed = list.clone();
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=1"));
        let body = if watches { &watch } else { &list };
        ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone()))))
    });
    let resilience = ResilientConfig::new().entropy(Entropy::seeded(1)).keep_when_empty(false);
    let config = KubernetesConfig::new("shop", "payments").expect("names").resilience(resilience);
    let mut registry = Kubernetes::over(config, api);
    super::in_runtime(async {
        let first = registry.next().await.expect("it never ends");
        if let Ok(Change::Reset(endpoints)) = &first {
            let list: Value = serde_json::from_slice(&listed).expect("it was read");
            let known = addresses(&list);
            for endpoint in endpoints {
                assert!(known.contains(&endpoint.address().ip()), "{endpoint} is listed nowhere");
            }
            let v6: HashSet<_> = endpoints.iter().map(|it| it.address().is_ipv6()).collect();
            assert!(v6.len() <= 1, "one family");
            let all: HashSet<_> = endpoints.iter().map(|it| it.address()).collect();
            assert_eq!(all.len(), endpoints.len(), "each address once");
        }
        let mut said = Some(first);
        // The watch ends as soon as it has begun, which is an error at the latest.
        while let Some(now) = said {
            match now {
                Ok(Change::Reset(endpoints)) => super::are_sound(&endpoints),
                Ok(other) => panic!("not a whole set: {other:?}"),
                Err(error) => {
                    super::one_line(&error);
                    if error.retry_in().is_some() {
                        let kind = error.kind();
                        assert_ne!(kind, RegistryErrorKind::TimedOut, "{error}");
                        return;
                    }
                }
            }
            said = registry.next().await;
        }
    });
}

/// The first address of each entry, whatever else is said of it.
fn addresses(list: &Value) -> HashSet<IpAddr> {
    let items = list["items"].as_array().into_iter().flatten();
    let entries = items.flat_map(|item| item["endpoints"].as_array().into_iter().flatten());
    entries.filter_map(|entry| entry["addresses"][0].as_str()?.parse().ok()).collect()
}
