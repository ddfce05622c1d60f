//! Lists the keys, watches them, and lists them again.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_core::Stream;
use http::{
    HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::json;

use super::{
    config::{Credentials, EtcdConfig},
    parse::{Authenticated, Listed, parse},
    state::{Keys, Step},
};
use crate::{
    algo::base64::encode,
    discover::{
        error::InvalidDiscover,
        http::{Http, HttpClient, LIMIT, check_plain, malformed, plain, request, secret},
        lines::Lines,
        registry::{Answer, Fault, Registry, RegistryError, RegistryErrorKind, Watched, within},
    },
    endpoint::Change,
    entropy::Entropy,
    time,
};

/// The instances below a prefix in etcd, and every change of them.
///
/// - It says [`Change::Reset`] only when the set differs, and never ends.
/// - If none of the servers answers, that gives a [`RegistryError`], and they are asked anew
///   after a wait with jitter, which doubles while that does not help; the last good set stays.
/// - A key that can't be read is left out and said once.
///
/// # Panics
///
/// When it is polled outside of a tokio runtime with timers. To make one needs none.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Etcd {
    watched: Watched<Cluster>,
}

impl Etcd {
    /// Asks over connections of its own, without TLS.
    ///
    /// # Errors
    ///
    /// If a server's scheme is `https`: see [`Etcd::over`].
    pub fn new(config: EtcdConfig) -> Result<Self, InvalidDiscover> {
        config.servers.iter().try_for_each(check_plain)?;
        Ok(Self::over(config, plain()))
    }

    /// Asks through any HTTP client that is a service: one that speaks TLS, or that carries
    /// what else a request needs. Its requests' targets are absolute. The body of a watch must
    /// come as it is sent, and not be waited for.
    pub fn over<S, B>(config: EtcdConfig, service: S) -> Self
    where
        S: HttpClient<B>,
        B: From<Bytes> + Send + 'static,
    {
        let servers: Vec<_> =
            config.servers.iter().map(|it| it.to_string().trim_end_matches('/').into()).collect();
        let servers: Vec<String> = servers;
        let name = format!("etcd at {} for `{}`", servers.join(", "), config.prefix);
        let entropy = config.resilience.entropy.fork();
        let cluster = Cluster {
            http: Http::new(service, LIMIT),
            // Not all clients at the same member.
            member: entropy.draw() as usize % config.servers.len(),
            servers: config.servers,
            credentials: config.credentials,
            token: None,
            keys: Keys::new(&config.prefix),
            range: Range::of(&config.prefix),
            stage: Stage::List,
            entropy,
        };
        Self { watched: Watched::new(name, cluster, config.resilience) }
    }
}

impl Stream for Etcd {
    type Item = Result<Change, RegistryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.watched.poll_said(cx)
    }
}

struct Cluster {
    http: Http,
    servers: Vec<Uri>,
    /// Which of them is asked.
    member: usize,
    credentials: Option<Credentials>,
    token: Option<HeaderValue>,
    keys: Keys,
    range: Range,
    stage: Stage,
    entropy: Entropy,
}

enum Stage {
    /// Nothing is known, or not enough.
    List,
    /// The watch is to begin.
    Watch,
    Watching {
        lines: Lines,
        until: Instant,
    },
}

/// The keys below a prefix, as etcd is asked for them.
struct Range {
    key: String,
    end: String,
}

impl Range {
    /// `prefix` ends with a slash: what comes after all that it begins ends with the next byte.
    fn of(prefix: &str) -> Self {
        let end = format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix));
        Self { key: encode(prefix.as_bytes()), end: encode(end.as_bytes()) }
    }
}

impl Registry for Cluster {
    async fn next(&mut self) -> Result<Answer, Fault> {
        loop {
            // Put back below, unless something went wrong: then it begins with a list.
            match std::mem::replace(&mut self.stage, Stage::List) {
                Stage::List => {
                    self.list().await?;
                    self.stage = Stage::Watch;
                    return Ok(self.keys.answer());
                }
                Stage::Watch => {
                    let lines = self.watch().await.map_err(|fault| self.at_member(fault))?;
                    let span = RESYNC.mul_f64(0.5 + 0.5 * self.entropy.unit());
                    self.stage = Stage::Watching { lines, until: time::after(time::now(), span) };
                }
                Stage::Watching { mut lines, until } => {
                    let left = until.saturating_duration_since(time::now());
                    let Some(line) = within(left, lines.next()).await else { continue };
                    let step = line.and_then(|line| {
                        let ended =
                            || Fault::new(RegistryErrorKind::Unreachable, "its watch ended");
                        self.keys.watched(parse(&line.ok_or_else(ended)?, "watch")?)
                    });
                    match step.map_err(|fault| self.at_member(fault))? {
                        Step::List => {}
                        Step::Nothing => self.stage = Stage::Watching { lines, until },
                        Step::Changed => {
                            self.stage = Stage::Watching { lines, until };
                            return Ok(self.keys.answer());
                        }
                    }
                }
            }
        }
    }
}

impl Cluster {
    /// Asks one member after the other for the list, until one answers.
    async fn list(&mut self) -> Result<(), Fault> {
        let mut last = None;
        for _ in 0..self.servers.len() {
            match self.list_at_member().await {
                Ok(listed) => {
                    self.keys.listed(listed);
                    return Ok(());
                }
                Err(fault) => last = Some(self.at_member(fault)),
            }
        }
        let mut fault = last.expect("there is one member at least");
        if self.servers.len() > 1 {
            fault.text = format!("none of its servers answered; the last was {}", fault.text);
        }
        Err(fault)
    }

    async fn list_at_member(&mut self) -> Result<Listed, Fault> {
        self.token = None;
        if let Some(Credentials { name, password }) = &self.credentials {
            let body = json!({ "name": name, "password": password });
            let asked = self.request("/v3/auth/authenticate", &body)?;
            let whole = self.http.whole(asked, Duration::ZERO).await?;
            let Authenticated { token } = parse(whole.body(), "token")?;
            self.token = Some(secret(&token).map_err(|error| malformed("token", error))?);
        }
        let body = json!({ "key": self.range.key, "range_end": self.range.end });
        let asked = self.request("/v3/kv/range", &body)?;
        parse(self.http.whole(asked, Duration::ZERO).await?.body(), "list of keys")
    }

    async fn watch(&mut self) -> Result<Lines, Fault> {
        let body = json!({ "create_request": {
            "key": self.range.key,
            "range_end": self.range.end,
            "start_revision": self.keys.watch_from().to_string(),
            "progress_notify": true,
        }});
        let mut asked = self.request("/v3/watch", &body)?;
        // As etcd's own clients ask for it (`clientv3.WithRequireLeader`): the gateway makes
        // such a header the call's metadata.
        let wanted = HeaderValue::from_static("true");
        asked.headers_mut().insert("grpc-metadata-hasleader", wanted);
        Ok(self.http.lines(asked).await?)
    }

    fn request(&self, path: &str, body: &serde_json::Value) -> Result<Request<Bytes>, Fault> {
        let body = Bytes::from(body.to_string());
        let mut request = request(Method::POST, &self.servers[self.member], path, body)?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }

    /// The member failed: the next one is asked next.
    fn at_member(&mut self, mut fault: Fault) -> Fault {
        if self.servers.len() > 1 {
            let server = self.servers[self.member].to_string();
            fault.text = format!("{}: {}", server.trim_end_matches('/'), fault.text);
            self.member = (self.member + 1) % self.servers.len();
        }
        fault
    }
}

/// 10 min, the half of it at least: how long a watch is trusted that says nothing, if nobody
/// tells that its connection is gone. etcd itself says a word in so long, to a watch that asks
/// for progress.
const RESYNC: Duration = Duration::from_secs(10 * 60);
