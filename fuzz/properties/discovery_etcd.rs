//! What etcd's gateway answers. The first line is the list, the others are the watch.

use std::{convert::Infallible, future::ready};

use buttress::{
    Entropy,
    discover::{Change, Etcd, EtcdConfig, RegistryErrorKind, ResilientConfig},
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
    let etcd = service_fn(move |request: Request<Full<Bytes>>| {
        let body = if request.uri().path() == "/v3/watch" { &watch } else { &list };
        ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone()))))
    });
    let resilience = ResilientConfig::new().entropy(Entropy::seeded(1)).keep_when_empty(false);
    let config = EtcdConfig::new("p/").expect("a prefix").resilience(resilience);
    let mut registry = Etcd::over(config, etcd);
    super::in_runtime(async {
        let first = registry.next().await.expect("it never ends");
        if let Ok(Change::Reset(endpoints)) = &first {
            let list: Value = serde_json::from_slice(&listed).expect("it was read");
            let keys = list["kvs"].as_array().map_or(0, Vec::len);
            assert!(endpoints.len() <= keys, "each key is one endpoint at most");
        }
        let mut said = Some(first);
        // The watch ends, which is an error at the latest.
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
