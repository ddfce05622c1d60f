//! Lists the slices, watches them, and lists them again.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_core::Stream;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION},
};
use tokio::task::spawn_blocking;

use super::{
    config::KubernetesConfig,
    parse::parse,
    state::{Slices, Step},
};
use crate::{
    discover::{
        error::InvalidDiscover,
        http::{Http, HttpClient, LIMIT, check_plain, escaped, plain, request, secret},
        lines::Lines,
        registry::{Answer, Fault, Registry, RegistryError, RegistryErrorKind, Watched, within},
    },
    endpoint::Change,
    entropy::Entropy,
    time,
};

/// The endpoints of a Kubernetes service, and every change of them.
///
/// - It says [`Change::Reset`] only when the set differs, and never ends.
/// - A server that can't be reached, or answers with an error, gives a [`RegistryError`] and is
///   asked anew after a wait with jitter, which doubles while that does not help; the last good
///   set stays.
/// - A slice that can't be used, say without the port that is wanted, is left out and said once.
///
/// # Panics
///
/// When it is polled outside of a tokio runtime with timers. To make one needs none.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Kubernetes {
    watched: Watched<Api>,
}

impl Kubernetes {
    /// Asks over connections of its own, without TLS: through `kubectl proxy`, say.
    ///
    /// # Errors
    ///
    /// If the server's scheme is `https`: see [`Kubernetes::over`].
    pub fn new(config: KubernetesConfig) -> Result<Self, InvalidDiscover> {
        check_plain(&config.server)?;
        Ok(Self::over(config, plain()))
    }

    /// Asks through any HTTP client that is a service: one that trusts the cluster's certificate
    /// (`ca.crt`, beside the token), or `kube::Client` in a closure. Its requests' targets are
    /// absolute. The body of a watch must come as it is sent, and not be waited for.
    pub fn over<S, B>(config: KubernetesConfig, service: S) -> Self
    where
        S: HttpClient<B>,
        B: From<Bytes> + Send + 'static,
    {
        let KubernetesConfig { server, namespace, service: name, .. } = &config;
        let name = format!("Kubernetes at {server} for `{name}` in `{namespace}`");
        let api = Api {
            http: Http::new(service, LIMIT),
            target: config.target(),
            entropy: config.resilience.entropy.fork(),
            slices: Slices::new(config.wanted),
            server: config.server,
            token: config.token,
            stage: Stage::List,
        };
        Self { watched: Watched::new(name, api, config.resilience) }
    }
}

impl Stream for Kubernetes {
    type Item = Result<Change, RegistryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.watched.poll_said(cx)
    }
}

struct Api {
    http: Http,
    server: Uri,
    target: String,
    token: Option<PathBuf>,
    slices: Slices,
    stage: Stage,
    entropy: Entropy,
}

enum Stage {
    /// Nothing is known, or not enough.
    List,
    /// A watch is to go on from the version.
    Watch,
    Watching(Watching),
}

struct Watching {
    lines: Lines,
    began: Instant,
    /// Until when it is trusted.
    until: Instant,
}

impl Registry for Api {
    async fn next(&mut self) -> Result<Answer, Fault> {
        loop {
            // Put back below, unless something went wrong: then it begins with a list.
            match std::mem::replace(&mut self.stage, Stage::List) {
                Stage::List => {
                    let request = self.request(&self.target.clone()).await?;
                    let whole = self.http.whole(request, Duration::ZERO).await?;
                    self.slices.listed(parse(whole.body(), "list of EndpointSlices")?)?;
                    self.stage = Stage::Watch;
                    return Ok(self.slices.answer());
                }
                Stage::Watch => {
                    if let Some(watching) = self.watch().await? {
                        self.stage = Stage::Watching(watching);
                    }
                }
                Stage::Watching(watching) => {
                    if self.step(watching).await? == Step::Changed {
                        return Ok(self.slices.answer());
                    }
                }
            }
        }
    }
}

impl Api {
    /// Begins a watch; none if its version is gone.
    async fn watch(&mut self) -> Result<Option<Watching>, Fault> {
        let span = WATCH.mul_f64(1.0 + self.entropy.unit());
        let target = format!(
            "{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
            self.target,
            span.as_secs(),
            escaped(self.slices.version()),
        );
        let request = self.request(&target).await?;
        let began = time::now();
        match self.http.lines(request).await {
            Ok(lines) => {
                Ok(Some(Watching { lines, began, until: time::after(began, span + SLACK) }))
            }
            Err(rejected) if rejected.status == Some(StatusCode::GONE) => {
                self.slices.gone()?;
                Ok(None)
            }
            Err(rejected) => Err(rejected.into()),
        }
    }

    /// Waits for the next event, and says where it leads.
    async fn step(&mut self, mut watching: Watching) -> Result<Step, Fault> {
        let left = watching.until.saturating_duration_since(time::now());
        let Some(line) = within(left, watching.lines.next()).await else {
            // The server would have ended it.
            return Ok(Step::List);
        };
        let Some(line) = line? else {
            if time::now().saturating_duration_since(watching.began) < SHORTEST {
                let text = "its watch ended as soon as it had begun";
                return Err(Fault::new(RegistryErrorKind::Unreachable, text));
            }
            self.stage = Stage::Watch;
            return Ok(Step::Nothing);
        };
        let step = self.slices.watched(parse(&line, "event of a watch")?)?;
        if step != Step::List {
            self.stage = Stage::Watching(watching);
        }
        Ok(step)
    }

    async fn request(&mut self, target: &str) -> Result<Request<Bytes>, Fault> {
        let mut request = request(Method::GET, &self.server, target, Bytes::new())?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(path) = &self.token {
            headers.insert(AUTHORIZATION, bearer(path.clone()).await?);
        }
        Ok(request)
    }
}

/// The token in a file. It is changed while the program runs, so it is not kept.
async fn bearer(path: PathBuf) -> Result<HeaderValue, Fault> {
    let named = path.clone();
    // A disk may take its time: not on the threads that serve calls.
    let read = spawn_blocking(move || read(&path)).await;
    let token = read.unwrap_or_else(|error| Err(io::Error::other(error)));
    let fault = |why: &str| {
        let text = format!("the token in {} {why}", named.display());
        Fault::new(RegistryErrorKind::Refused, text)
    };
    let token = token.map_err(|error| fault("can't be read").because(error.into()))?;
    secret(&format!("Bearer {}", token.trim())).map_err(|_| fault("can't stand in a header"))
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut token = String::new();
    std::fs::File::open(path)?.take(64 * 1024).read_to_string(&mut token)?;
    Ok(token)
}

/// 5 min, and up to twice that: how long the server is asked to let a watch last, as Kubernetes'
/// own clients ask (client-go, `minWatchTimeout`), so that they don't all come back at once.
const WATCH: Duration = Duration::from_secs(5 * 60);

/// 30 s: later than that the server would have ended the watch, so its connection must be gone.
const SLACK: Duration = Duration::from_secs(30);

/// 1 s: a watch that ends sooner did not serve; to begin the next at once would be a loop
/// (client-go calls it a very short watch).
const SHORTEST: Duration = Duration::from_secs(1);
