//! etcd: the real one, and for what it can't be made to do a gateway of our own.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    discover::{Etcd, EtcdConfig, RegistryErrorKind, ResilientConfig},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use crate::{
    etcd_server::{Servers, base64},
    said::{error, next, resilience, set, silent},
};

fn config(urls: &[String]) -> EtcdConfig {
    let config = EtcdConfig::new("services/payments/").expect("a prefix");
    let config = config.servers(urls.iter().map(String::as_str)).expect("servers");
    config.resilience(resilience())
}

/// As they are said.
const A: &str = "a 10.0.0.1:80 w1 p0 -";
const B: &str = "b 10.0.0.2:80 w3 p1 eu-1a";
const B_WRITES: &str = r#"{"address":"10.0.0.2:80","weight":3,"priority":1,"zone":"eu-1a"}"#;

fn key(id: &str) -> String {
    format!("services/payments/{id}")
}

#[tokio::test]
async fn real_keys_are_followed_and_go_with_their_lease() {
    let Some(etcd) = Servers::start(1).await else { return };
    etcd.put("services/payments-test/x", "10.9.9.9:80").await;
    let mut registry = Etcd::new(config(&etcd.urls())).expect("no TLS");
    assert_eq!(error(&mut registry).await.kind(), RegistryErrorKind::Empty, "not ours");

    etcd.put(&key("a"), "10.0.0.1:80").await;
    assert_eq!(set(&mut registry).await, [A]);
    let lease = etcd.lease(1).await;
    etcd.put_with(&key("b"), B_WRITES, &lease).await;
    assert_eq!(set(&mut registry).await, [A, B]);
    // Nobody keeps the lease alive.
    assert_eq!(set(&mut registry).await, [A]);

    // Another value is another weight of the same endpoint.
    etcd.put(&key("a"), r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":null,"weight":5}"#).await;
    assert_eq!(set(&mut registry).await, ["a 10.0.0.1:80 w5 p0 -"]);
    etcd.put(&key("c"), "payments-3.example:80").await;
    let said = error(&mut registry).await;
    assert_eq!(said.kind(), RegistryErrorKind::Malformed);
    assert!(said.to_string().contains("the key `c` holds `payments-3.example:80`"), "{said}");
    // The last instance is deleted: an empty answer, which is doubted.
    etcd.delete(&key("a")).await;
    assert_eq!(error(&mut registry).await.kind(), RegistryErrorKind::Empty);
}

#[tokio::test]
async fn a_real_server_that_restarts_is_watched_again() {
    let Some(mut etcd) = Servers::start(1).await else { return };
    etcd.put(&key("a"), "10.0.0.1:80").await;
    let mut registry = Etcd::new(config(&etcd.urls())).expect("no TLS");
    assert_eq!(set(&mut registry).await, [A]);
    etcd.stop(0);
    let said = error(&mut registry).await;
    assert!(said.named_some(), "{said}");
    assert!(said.to_string().contains("the last good set stays"), "{said}");
    assert_eq!(error(&mut registry).await.kind(), RegistryErrorKind::Unreachable);
    etcd.run(0);
    etcd.serve().await;
    etcd.put(&key("b"), B_WRITES).await;
    assert_eq!(set(&mut registry).await, [A, B]);
}

#[tokio::test]
async fn a_real_compaction_between_list_and_watch_misses_nothing() {
    let Some(etcd) = Servers::start(1).await else { return };
    etcd.put(&key("a"), "10.0.0.1:80").await;
    let urls = etcd.urls();
    let etcd = Arc::new(etcd);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let compacted = Arc::new(Mutex::new(0));
    // Before the first watch comes to it, it has forgotten the revision that is to be watched.
    let service = {
        let (etcd, compacted) = (Arc::clone(&etcd), Arc::clone(&compacted));
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let (etcd, client) = (Arc::clone(&etcd), client.clone());
            let compacted = Arc::clone(&compacted);
            async move {
                if request.uri().path() == "/v3/watch" {
                    let before = {
                        let mut compacted = compacted.lock().expect("no test panics with it");
                        *compacted += 1;
                        *compacted
                    };
                    if before == 1 {
                        etcd.delete(&key("a")).await;
                        etcd.put(&key("b"), B_WRITES).await;
                        let range = json!({ "key": base64("x") });
                        let answer = etcd.ask("/v3/kv/range", &range).await.expect("it answers");
                        let revision = &answer["header"]["revision"];
                        let body = json!({ "revision": revision });
                        etcd.ask("/v3/kv/compaction", &body).await.expect("it is compacted");
                    }
                }
                client.request(request).await
            }
        })
    };
    let mut registry = Etcd::over(config(&urls), service);
    assert_eq!(set(&mut registry).await, [A]);
    // No error between.
    let said = next(&mut registry).await.map_err(|error| error.to_string());
    assert!(said.is_ok(), "{said:?}");
    etcd.put(&key("a"), "10.0.0.1:80").await;
    assert_eq!(set(&mut registry).await, [A, B]);
    assert_eq!(*compacted.lock().expect("no test panics with it"), 2);
}

#[tokio::test]
async fn of_a_real_cluster_a_member_may_be_lost_and_a_quorum_is_missed() {
    let Some(mut etcd) = Servers::start(3).await else { return };
    etcd.put(&key("a"), "10.0.0.1:80").await;
    let mut registry = Etcd::new(config(&etcd.urls())).expect("no TLS");
    assert_eq!(set(&mut registry).await, [A]);
    // The member that is watched goes: the others know, and are asked. Which one it is, the
    // error says.
    let mut watched = None;
    for at in 0..3 {
        etcd.stop(at);
        etcd.serve().await;
        etcd.put(&key("b"), &format!("10.0.0.2:{}", 80 + at)).await;
        // Errors of others tell that there was no leader for a while.
        while let Err(said) = next(&mut registry).await {
            assert!(said.named_some(), "{said}");
            if said.to_string().contains(&format!("{}:", etcd.urls()[at])) {
                watched = Some(at);
                break;
            }
        }
        if watched.is_some() {
            break;
        }
        etcd.run(at);
        etcd.serve().await;
    }
    let watched = watched.expect("one of them was watched");
    assert_eq!(set(&mut registry).await, [A, &format!("b 10.0.0.2:{} w1 p0 -", 80 + watched)]);

    // Without a second one there is no leader: the last one says so to who watches it, though
    // their connection is well.
    let others: Vec<_> = (0..3).filter(|&at| at != watched).collect();
    let urls = etcd.urls();
    let mut alone = Etcd::new(config(&urls[others[1]..=others[1]])).expect("no TLS");
    assert_eq!(set(&mut alone).await.len(), 2);
    etcd.stop(others[0]);
    let said = timeout(Duration::from_secs(30), error(&mut alone)).await;
    let said = said.expect("three elections later, at the latest");
    assert!(said.named_some() && said.to_string().contains("no leader"), "{said}");
    etcd.run(others[0]);
    etcd.serve().await;
    etcd.delete(&key("b")).await;
    assert_eq!(set(&mut alone).await, [A]);
    assert_eq!(set(&mut registry).await, [A]);
}

#[tokio::test]
async fn real_passwords_are_shown() {
    let Some(etcd) = Servers::start(1).await else { return };
    etcd.put(&key("a"), "10.0.0.1:80").await;
    for (path, body) in [
        ("/v3/auth/user/add", json!({ "name": "root", "password": "s3cret" })),
        ("/v3/auth/user/grant", json!({ "user": "root", "role": "root" })),
        ("/v3/auth/enable", json!({})),
    ] {
        etcd.ask(path, &body).await.expect(path);
    }
    let config = || config(&etcd.urls());
    let mut stranger = Etcd::new(config()).expect("no TLS");
    assert_eq!(error(&mut stranger).await.kind(), RegistryErrorKind::Refused);
    let mut wrong = Etcd::new(config().credentials("root", "wrong")).expect("no TLS");
    let said = error(&mut wrong).await.to_string();
    assert!(said.contains("authentication failed") && !said.contains("wrong"), "{said}");

    let right = config().credentials("root", "s3cret");
    assert!(!format!("{right:?}").contains("s3cret"), "{right:?}");
    let mut registry = Etcd::new(right).expect("no TLS");
    assert_eq!(set(&mut registry).await, [A]);
    let body = json!({ "name": "root", "password": "s3cret" });
    let answer = etcd.ask("/v3/auth/authenticate", &body).await.expect("it is right");
    let token = answer["token"].as_str();
    let body = json!({ "key": base64(&key("b")), "value": base64(B_WRITES) });
    etcd.ask_as(token, "/v3/kv/put", &body).await.expect("it is put");
    assert_eq!(set(&mut registry).await, [A, B], "the watch is allowed, too");
}

/// A gateway of our own: what it answers, by host and path, and what it was asked.
#[derive(Clone, Default)]
struct Gateway {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// The revision and the keys.
    listed: (i64, Vec<(String, String)>),
    watches: Vec<mpsc::UnboundedSender<String>>,
    asked: Vec<(String, String, Value)>,
    /// What hosts do instead.
    instead: HashMap<String, Instead>,
}

#[derive(Clone, Copy)]
enum Instead {
    Refuse,
    Hang,
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

impl Gateway {
    fn new(pairs: &[(&str, &str)]) -> Self {
        let gateway = Self::default();
        gateway.lists(7, pairs);
        gateway
    }

    fn lists(&self, revision: i64, pairs: &[(&str, &str)]) {
        let pairs = pairs.iter().map(|(id, value)| (key(id), (*value).to_owned()));
        self.with(|inner| inner.listed = (revision, pairs.collect()));
    }

    fn with<T>(&self, what: impl FnOnce(&mut Inner) -> T) -> T {
        what(&mut self.inner.lock().expect("no test panics with it"))
    }

    /// Says a line to the watch that began last.
    fn says(&self, line: &Value) {
        self.with(|inner| {
            let watch = inner.watches.last().expect("somebody watches");
            watch.send(format!("{line}\n")).expect("somebody watches");
        });
    }

    /// Ends the watch that began last.
    fn ends(&self) {
        self.with(|inner| inner.watches.pop());
    }

    fn asked(&self, path: &str) -> Vec<(String, Value)> {
        let of = |(host, asked, body): &(String, String, Value)| {
            (asked == path).then(|| (host.clone(), body.clone()))
        };
        self.with(|inner| inner.asked.iter().filter_map(of).collect())
    }

    async fn answer(self, request: Request<Full<Bytes>>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("it is whole").to_bytes();
        let body: Value = serde_json::from_slice(&body).expect("it is JSON");
        let host = head.uri.host().expect("targets are absolute").to_owned();
        let path = head.uri.path().to_owned();
        let leader = head.headers.get("grpc-metadata-hasleader").is_some();
        assert_eq!(leader, path == "/v3/watch", "a watch wants a leader");
        let instead = self.with(|inner| {
            inner.asked.push((host.clone(), path.clone(), body));
            inner.instead.get(&host).copied()
        });
        match instead {
            Some(Instead::Hang) => std::future::pending().await,
            Some(Instead::Refuse) => {
                let body = whole(r#"{"error":"etcdserver: request timed out","code":14}"#);
                let unavailable = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
                return unavailable.body(body).expect("it is one");
            }
            None => {}
        }
        if path == "/v3/kv/range" {
            let (revision, pairs) = self.with(|inner| inner.listed.clone());
            let pair = |(key, value): &(String, String)| json!({ "key": base64(key), "value": base64(value) });
            let kvs: Vec<_> = pairs.iter().map(pair).collect();
            let header = json!({ "revision": revision.to_string() });
            return Response::new(whole(&json!({ "header": header, "kvs": kvs }).to_string()));
        }
        let (sender, lines) = mpsc::unbounded_channel::<String>();
        self.with(|inner| inner.watches.push(sender));
        let lines = UnboundedReceiverStream::new(lines);
        let frames = lines.map(|line| Ok::<_, BoxError>(Frame::data(Bytes::from(line))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn whole(text: &str) -> Body {
    Full::from(text.to_owned()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn over(gateway: &Gateway, hosts: &[&str]) -> Etcd {
    over_with(gateway, hosts, resilience())
}

fn over_with(gateway: &Gateway, hosts: &[&str], resilience: ResilientConfig) -> Etcd {
    let urls: Vec<_> = hosts.iter().map(|host| format!("http://{host}:2379")).collect();
    let gateway = gateway.clone();
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.answer(request).await) }
    });
    Etcd::over(config(&urls).resilience(resilience), service)
}

fn put(id: &str, value: &str) -> Value {
    let kv = json!({ "key": base64(&key(id)), "value": base64(value) });
    json!({ "result": { "header": { "revision": "9" }, "events": [{ "kv": kv }] } })
}

#[tokio::test(start_paused = true)]
async fn lists_once_and_watches_from_there() {
    let gateway = Gateway::new(&[("a", "10.0.0.1:80")]);
    let mut registry = over(&gateway, &["etcd-0"]);
    assert_eq!(set(&mut registry).await, [A]);
    silent(&mut registry, Duration::from_secs(1)).await;
    gateway.says(&json!({ "result": { "header": { "revision": "7" }, "created": true } }));
    gateway.says(&put("b", B_WRITES));
    assert_eq!(set(&mut registry).await, [A, B]);
    gateway.says(&put("b", B_WRITES));
    silent(&mut registry, Duration::from_secs(1)).await;

    let range =
        json!({ "key": base64("services/payments/"), "range_end": base64("services/payments0") });
    assert_eq!(gateway.asked("/v3/kv/range"), [("etcd-0".to_owned(), range.clone())]);
    let watch = &gateway.asked("/v3/watch")[0].1["create_request"];
    assert_eq!((&watch["key"], &watch["range_end"]), (&range["key"], &range["range_end"]));
    assert_eq!(watch["start_revision"], "8");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_is_not_trusted_for_ever() {
    let gateway = Gateway::new(&[("a", "10.0.0.1:80")]);
    let mut registry = over(&gateway, &["etcd-0"]);
    assert_eq!(set(&mut registry).await, [A]);
    silent(&mut registry, Duration::from_secs(290)).await;
    assert_eq!(gateway.asked("/v3/kv/range").len(), 1);
    gateway.lists(9, &[("b", B_WRITES)]);
    silent(&mut registry, Duration::from_secs(9)).await;
    assert_eq!(set(&mut registry).await, [B]);
    silent(&mut registry, Duration::from_secs(1)).await;
    assert_eq!(gateway.asked("/v3/watch")[1].1["create_request"]["start_revision"], "10");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_hangs_or_refuses_is_left_for_the_next() {
    let gateway = Gateway::new(&[("a", "10.0.0.1:80")]);
    let hosts = ["etcd-0", "etcd-1", "etcd-2"];
    gateway.with(|inner| {
        inner.instead.insert("etcd-0".into(), Instead::Hang);
        inner.instead.insert("etcd-1".into(), Instead::Refuse);
    });
    for seed in 0..6 {
        // Whichever comes first.
        let resilience = resilience().entropy(Entropy::seeded(seed));
        let mut registry = over_with(&gateway, &hosts, resilience);
        assert_eq!(set(&mut registry).await, [A]);
        silent(&mut registry, Duration::from_secs(1)).await;
        assert_eq!(gateway.asked("/v3/watch").last().expect("it watches").0, "etcd-2");
    }
    gateway.with(|inner| inner.instead.insert("etcd-2".into(), Instead::Refuse));
    let mut registry = over(&gateway, &hosts);
    let said = error(&mut registry).await;
    assert!(!said.named_some());
    let text = said.to_string();
    assert!(text.starts_with("etcd at http://etcd-0:2379, http://etcd-1:2379, "), "{text}");
    assert!(text.contains("none of its servers answered; the last was http://etcd-"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_or_fails_leads_to_a_list() {
    let gateway = Gateway::new(&[("a", "10.0.0.1:80")]);
    let mut registry = over(&gateway, &["etcd-0"]);
    assert_eq!(set(&mut registry).await, [A]);
    silent(&mut registry, Duration::from_secs(60)).await;
    gateway.ends();
    let said = error(&mut registry).await;
    assert_eq!(said.kind(), RegistryErrorKind::Unreachable);
    assert!(said.to_string().contains("its watch ended"), "{said}");

    for (line, kind, says) in [
        (
            json!({ "error": { "message": "etcdserver: no leader" } }),
            RegistryErrorKind::Refused,
            "no leader",
        ),
        (
            json!({ "result": { "canceled": true, "cancel_reason": "permission denied" } }),
            RegistryErrorKind::Refused,
            "permission denied",
        ),
        (json!([1, 2]), RegistryErrorKind::Malformed, "no watch"),
    ] {
        assert_eq!(set(&mut registry).await, [A], "it holds");
        silent(&mut registry, Duration::from_secs(60)).await;
        gateway.says(&line);
        let said = error(&mut registry).await;
        assert_eq!(said.kind(), kind, "{said}");
        assert!(said.to_string().contains(says), "{said}");
        assert!(said.to_string().contains("the last good set stays"), "{said}");
    }
    gateway.lists(20, &[("b", B_WRITES)]);
    assert_eq!(set(&mut registry).await, [B]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for prefix in ["", "/", "//", "payments"] {
        assert!(EtcdConfig::new(prefix).is_err(), "{prefix:?}");
    }
    let config = || EtcdConfig::new("payments/").expect("a prefix");
    assert!(config().servers([]).is_err());
    assert!(config().servers(["etcd-0:2379"]).is_err());
    let tls = config().servers(["http://etcd-0:2379", "https://etcd-1:2379"]).expect("servers");
    assert!(Etcd::new(tls).is_err());
}
