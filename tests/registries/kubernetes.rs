//! Kubernetes, played by a server of our own: lists, watches with bookmarks, and versions that
//! are gone, as <https://kubernetes.io/docs/reference/using-api/api-concepts/> has them.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    BoxError,
    discover::{Kubernetes, KubernetesConfig, RegistryErrorKind},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use crate::said::{error, resilience, set, silent};

/// An API server with one collection.
#[derive(Clone, Default)]
struct Api {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    slices: BTreeMap<String, Value>,
    /// Every event with its version, from `oldest` on: what is older is gone.
    events: Vec<(u64, Value)>,
    oldest: u64,
    watches: Vec<mpsc::UnboundedSender<Bytes>>,
    asked: Vec<Asked>,
    refuses: Option<StatusCode>,
    /// Says that a version is gone with an event instead of a status.
    gone_by_event: bool,
    /// Ends each watch at once.
    hangs_up: bool,
}

#[derive(Clone, Debug)]
struct Asked {
    path: String,
    query: HashMap<String, String>,
    token: Option<String>,
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

impl Api {
    fn with<T>(&self, what: impl FnOnce(&mut Inner) -> T) -> T {
        what(&mut self.inner.lock().expect("no test panics with it"))
    }

    /// Writes a slice, as the controller does.
    fn put(&self, name: &str, endpoints: &Value) {
        self.with(|inner| {
            inner.version += 1;
            let version = inner.version;
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": { "name": name, "resourceVersion": version.to_string() },
                "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
            });
            let known = inner.slices.insert(name.to_owned(), slice.clone());
            let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
            inner.happened(kind, slice);
        });
    }

    fn delete(&self, name: &str) {
        self.with(|inner| {
            inner.version += 1;
            let mut slice = inner.slices.remove(name).expect("it was there");
            slice["metadata"]["resourceVersion"] = json!(inner.version.to_string());
            inner.happened("DELETED", slice);
        });
    }

    /// Something else in the cluster happens so often, and watchers hear how far that is.
    fn time_passes(&self, versions: u64) {
        self.with(|inner| {
            inner.version += versions;
            let metadata = json!({
                "resourceVersion": inner.version.to_string(), "creationTimestamp": null,
            });
            let object = json!({
                "kind": "EndpointSlice", "metadata": metadata, "addressType": "",
                "endpoints": null, "ports": null,
            });
            inner.say(&json!({ "type": "BOOKMARK", "object": object }));
        });
    }

    /// Forgets what happened until now.
    fn compacts(&self) {
        self.with(|inner| {
            inner.oldest = inner.version + 1;
            inner.events.clear();
        });
    }

    /// Ends all watches, as at the end of their time.
    fn ends(&self) {
        self.with(|inner| inner.watches.clear());
    }

    fn asked(&self, watches: bool) -> Vec<Asked> {
        let of = |asked: &&Asked| asked.query.contains_key("watch") == watches;
        self.with(|inner| inner.asked.iter().filter(of).cloned().collect())
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body> {
        let pair = |it: &str| {
            let (key, value) = it.split_once('=').unwrap_or((it, ""));
            (key.to_owned(), value.to_owned())
        };
        let query: HashMap<_, _> =
            request.uri().query().unwrap_or_default().split('&').map(pair).collect();
        let token = request.headers().get(AUTHORIZATION);
        let token = token.map(|token| token.to_str().expect("text").to_owned());
        let path = request.uri().path().to_owned();
        self.with(|inner| {
            inner.asked.push(Asked { path, query: query.clone(), token });
            match inner.refuses {
                Some(status) => failed(status, "InternalError"),
                None if query.contains_key("watch") => inner.watch(&query),
                None => inner.list(),
            }
        })
    }
}

impl Inner {
    fn happened(&mut self, kind: &str, object: Value) {
        let event = json!({ "type": kind, "object": object });
        self.say(&event);
        self.events.push((self.version, event));
    }

    fn say(&mut self, event: &Value) {
        let line = Bytes::from(format!("{event}\n"));
        self.watches.retain(|watch| watch.send(line.clone()).is_ok());
    }

    fn list(&self) -> Response<Body> {
        let items: Vec<_> = self.slices.values().collect();
        let metadata = json!({ "resourceVersion": self.version.to_string() });
        let list = json!({ "kind": "EndpointSliceList", "metadata": metadata, "items": items });
        Response::new(whole(list.to_string()))
    }

    fn watch(&mut self, query: &HashMap<String, String>) -> Response<Body> {
        let from: u64 = query["resourceVersion"].parse().expect("a version of ours");
        let (sender, lines) = mpsc::unbounded_channel();
        if from + 1 < self.oldest {
            let status = json!({ "kind": "Status", "code": 410, "reason": "Expired" });
            if !self.gone_by_event {
                return failed(StatusCode::GONE, "Expired");
            }
            let event = json!({ "type": "ERROR", "object": status });
            sender.send(format!("{event}\n").into()).expect("it is held below");
        } else {
            for (version, event) in &self.events {
                if *version > from {
                    sender.send(format!("{event}\n").into()).expect("it is held below");
                }
            }
            if !self.hangs_up {
                self.watches.push(sender);
            }
        }
        let lines = UnboundedReceiverStream::new(lines);
        let frames = lines.map(|line| Ok::<_, BoxError>(Frame::data(line)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn failed(status: StatusCode, reason: &str) -> Response<Body> {
    let body = json!({ "kind": "Status", "code": status.as_u16(), "reason": reason });
    Response::builder().status(status).body(whole(body.to_string())).expect("it is one")
}

fn whole(text: String) -> Body {
    Full::from(text).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn pod(n: u8) -> Value {
    json!({
        "addresses": [format!("10.0.0.{n}")], "zone": "eu-1a", "nodeName": "node-1",
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "targetRef": { "kind": "Pod", "name": format!("payments-{n}"), "namespace": "shop" },
    })
}

fn said(n: u8) -> String {
    format!("payments-{n} 10.0.0.{n}:8080 w1 p0 eu-1a")
}

fn config() -> KubernetesConfig {
    KubernetesConfig::new("shop", "payments").expect("names").resilience(resilience())
}

fn over(api: &Api, config: KubernetesConfig) -> Kubernetes {
    let api = api.clone();
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    Kubernetes::over(config, service)
}

#[tokio::test(start_paused = true)]
async fn slices_are_listed_once_and_watched_from_there() {
    let api = Api::default();
    api.put("a", &json!([pod(1)]));
    let mut registry = over(&api, config());
    assert_eq!(set(&mut registry).await, [said(1)]);
    api.put("b", &json!([pod(2), pod(1)]));
    assert_eq!(set(&mut registry).await, [said(1), said(2)]);
    api.put("a", &json!([]));
    silent(&mut registry, Duration::from_secs(1)).await;
    api.put("b", &json!([pod(2)]));
    assert_eq!(set(&mut registry).await, [said(2)]);
    api.put("c", &json!([pod(3)]));
    assert_eq!(set(&mut registry).await, [said(2), said(3)]);
    api.delete("b");
    assert_eq!(set(&mut registry).await, [said(3)]);

    let (lists, watches) = (api.asked(false), api.asked(true));
    assert_eq!((lists.len(), watches.len()), (1, 1));
    assert_eq!(lists[0].path, "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices");
    assert_eq!(lists[0].query["labelSelector"], "kubernetes.io%2Fservice-name%3Dpayments");
    let query = &watches[0].query;
    assert_eq!(query["labelSelector"], lists[0].query["labelSelector"]);
    assert_eq!((&*query["allowWatchBookmarks"], &*query["resourceVersion"]), ("true", "1"));
    let seconds: u64 = query["timeoutSeconds"].parse().expect("seconds");
    assert!((300..600).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_at_its_end_is_followed_by_one_from_the_last_bookmark() {
    let api = Api::default();
    api.put("a", &json!([pod(1)]));
    let mut registry = over(&api, config());
    assert_eq!(set(&mut registry).await, [said(1)]);
    silent(&mut registry, Duration::from_secs(60)).await;
    api.time_passes(1_000);
    silent(&mut registry, Duration::from_secs(60)).await;
    // All before is forgotten; the bookmark is not.
    api.compacts();
    api.ends();
    api.put("b", &json!([pod(2)]));
    assert_eq!(set(&mut registry).await, [said(1), said(2)]);
    assert_eq!(api.asked(false).len(), 1, "no other list");
    assert_eq!(api.asked(true)[1].query["resourceVersion"], "1001");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_leads_to_a_list_without_a_word() {
    for gone_by_event in [false, true] {
        let api = Api::default();
        api.with(|inner| inner.gone_by_event = gone_by_event);
        api.put("a", &json!([pod(1)]));
        let mut registry = over(&api, config());
        assert_eq!(set(&mut registry).await, [said(1)]);
        silent(&mut registry, Duration::from_secs(60)).await;
        api.ends();
        // While nobody watched, much happened.
        api.delete("a");
        api.put("b", &json!([pod(2)]));
        api.compacts();
        let before = Instant::now();
        let change = crate::said::next(&mut registry).await;
        assert!(change.is_ok(), "{change:?}");
        assert_eq!(before.elapsed(), Duration::ZERO, "at once");
        assert_eq!(api.asked(false).len(), 2);
        api.put("b", &json!([pod(3)]));
        assert_eq!(set(&mut registry).await, [said(3)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_silent_past_its_end_is_not_trusted() {
    let api = Api::default();
    api.put("a", &json!([pod(1)]));
    let mut registry = over(&api, config());
    assert_eq!(set(&mut registry).await, [said(1)]);
    silent(&mut registry, Duration::from_secs(1)).await;
    // The watch's connection is gone, and nobody says so.
    let held = api.with(|inner| std::mem::take(&mut inner.watches));
    api.put("a", &json!([pod(2)]));
    silent(&mut registry, Duration::from_secs(320)).await;
    let before = Instant::now();
    assert_eq!(set(&mut registry).await, [said(2)]);
    assert!(before.elapsed() < Duration::from_secs(320), "{:?}", before.elapsed());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_the_last_good_set_and_is_followed_by_a_list() {
    let api = Api::default();
    api.put("a", &json!([pod(1)]));
    let mut registry = over(&api, config());
    assert_eq!(set(&mut registry).await, [said(1)]);
    silent(&mut registry, Duration::from_secs(60)).await;
    api.with(|inner| inner.refuses = Some(StatusCode::INTERNAL_SERVER_ERROR));
    api.ends();
    let text = error(&mut registry).await.to_string();
    assert!(text.starts_with("Kubernetes at https://kubernetes.default.svc/ for `payments` in"));
    assert!(text.contains("500 Internal Server Error"), "{text}");
    assert!(text.contains("the last good set stays, and it is asked anew in"), "{text}");
    assert_eq!(error(&mut registry).await.kind(), RegistryErrorKind::Refused);
    api.put("b", &json!([pod(2)]));
    api.with(|inner| inner.refuses = None);
    assert_eq!(set(&mut registry).await, [said(1), said(2)]);

    let forbidden = Api::default();
    forbidden.with(|inner| inner.refuses = Some(StatusCode::FORBIDDEN));
    let said = error(&mut over(&forbidden, config())).await;
    assert!(said.to_string().contains("named no endpoint so far"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_on_each_watch_is_asked_less_and_less() {
    let api = Api::default();
    api.put("a", &json!([pod(1)]));
    api.with(|inner| inner.hangs_up = true);
    let mut registry = over(&api, config());
    assert_eq!(set(&mut registry).await, [said(1)]);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let said = error(&mut registry).await;
        assert!(said.to_string().contains("as soon as it had begun"), "{said}");
        waits.push(said.retry_in().expect("it is asked anew"));
        assert_eq!(set(&mut registry).await, [self::said(1)], "the list holds");
    }
    assert!(waits[4] >= Duration::from_millis(1600), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_ready_is_an_empty_answer_which_is_a_decision() {
    let mut unready = pod(1);
    unready["conditions"] = json!({ "ready": false, "serving": false, "terminating": false });
    let api = Api::default();
    api.put("a", &json!([pod(1)]));
    let mut keeps = over(&api, config());
    let mut clears = over(&api, config().resilience(resilience().keep_when_empty(false)));
    assert_eq!(set(&mut keeps).await, [said(1)]);
    assert_eq!(set(&mut clears).await, [said(1)]);
    api.put("a", &json!([unready]));
    let empty = error(&mut keeps).await;
    assert_eq!(empty.kind(), RegistryErrorKind::Empty);
    assert!(empty.to_string().contains("no endpoint of the service is ready"), "{empty}");
    assert_eq!(set(&mut clears).await, [""; 0]);

    let nothing = Api::default();
    let empty = error(&mut over(&nothing, config())).await;
    assert!(empty.to_string().contains("is that its name?"), "{empty}");
}

#[tokio::test]
async fn the_token_is_read_anew_for_each_request() {
    let path = std::env::temp_dir().join(format!("buttress-token-{}", std::process::id()));
    fs::write(&path, "first\n").expect("it can be written");
    let api = Api::default();
    api.put("a", &json!([pod(1)]));
    let mut registry = over(&api, config().token_file(&path));
    assert_eq!(set(&mut registry).await, [said(1)]);
    let watching = async {
        while api.asked(true).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        fs::write(&path, "second").expect("it can be written");
        api.with(|inner| inner.refuses = Some(StatusCode::UNAUTHORIZED));
        api.put("b", &json!([pod(2)]));
        // It did not last, which is an error; and the next list shows the new token.
        api.ends();
    };
    let (both, ()) = tokio::join!(set(&mut registry), watching);
    assert_eq!(both, [said(1), said(2)]);
    error(&mut registry).await;
    assert_eq!(error(&mut registry).await.kind(), RegistryErrorKind::Refused);
    let tokens = |watches: bool| -> Vec<_> {
        api.asked(watches).into_iter().map(|asked| asked.token.expect("it is shown")).collect()
    };
    assert_eq!(tokens(true), ["Bearer first"]);
    assert_eq!(tokens(false), ["Bearer first", "Bearer second"]);
    fs::remove_file(&path).expect("it is ours");
    let said = error(&mut registry).await;
    assert!(said.to_string().contains(&format!("{} can't be read", path.display())), "{said}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for name in ["", "Payments", "payments.shop", "-a", "a-", "a/b", &"a".repeat(64)] {
        assert!(KubernetesConfig::new("shop", name).is_err(), "{name}");
        assert!(KubernetesConfig::new(name, "payments").is_err(), "{name}");
    }
    assert!(config().port(0).is_err());
    let refusal = Kubernetes::new(config()).expect_err("its server speaks TLS");
    assert!(refusal.to_string().contains("`over`"), "{refusal}");
    let proxy = config().server("http://127.0.0.1:8001").expect("a server");
    assert!(Kubernetes::new(proxy).is_ok());
    if !std::path::Path::new("/var/run/secrets/kubernetes.io").exists() {
        let outside = KubernetesConfig::in_cluster("payments").expect_err("this is no pod");
        assert!(outside.to_string().contains("no pod"), "{outside}");
    }
}
