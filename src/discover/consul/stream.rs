//! Asks an agent again and again.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::Method;

use super::{
    config::ConsulConfig,
    parse::parse,
    state::{Index, Pace},
};
use crate::{
    discover::{
        error::InvalidDiscover,
        http::{Http, HttpClient, LIMIT, check_plain, plain, request},
        registry::{Answer, Fault, Registry, RegistryError, RegistryErrorKind, Watched},
    },
    endpoint::Change,
    time::{self, Sleep},
};

/// The instances of a service, as a Consul agent knows them, and every change of them.
///
/// - It says [`Change::Reset`] only when the set differs, and never ends.
/// - An agent that can't be reached, or answers with an error, gives a [`RegistryError`] and is
///   asked anew after a wait with jitter, which doubles while that does not help; the last good
///   set stays.
/// - An instance that can't be read is left out and said once.
///
/// # Panics
///
/// When it is polled outside of a tokio runtime with timers. To make one needs none.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Consul {
    watched: Watched<Agent>,
}

impl Consul {
    /// Asks over connections of its own, without TLS.
    ///
    /// # Errors
    ///
    /// If the server's scheme is `https`: see [`Consul::over`].
    pub fn new(config: ConsulConfig) -> Result<Self, InvalidDiscover> {
        check_plain(&config.server)?;
        Ok(Self::over(config, plain()))
    }

    /// Asks through any HTTP client that is a service: one that speaks TLS, or that carries
    /// what else a request needs. Its requests' targets are absolute.
    pub fn over<S, B>(config: ConsulConfig, service: S) -> Self
    where
        S: HttpClient<B>,
        B: From<Bytes> + Send + 'static,
    {
        let name = format!("Consul at {} for `{}`", config.server, config.service);
        let agent = Agent {
            http: Http::new(service, LIMIT),
            target: config.target(),
            index: Index::default(),
            pace: Pace::new(config.pace),
            config: Asked {
                server: config.server,
                token: config.token,
                warning: config.warning,
                // The agent adds up to a sixteenth of the wait itself.
                hang: config.wait.saturating_mul(17) / 16,
            },
        };
        Self { watched: Watched::new(name, agent, config.resilience) }
    }
}

impl Stream for Consul {
    type Item = Result<Change, RegistryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.watched.poll_said(cx)
    }
}

struct Agent {
    http: Http,
    target: String,
    index: Index,
    pace: Pace,
    config: Asked,
}

struct Asked {
    server: http::Uri,
    token: Option<http::HeaderValue>,
    warning: bool,
    hang: Duration,
}

impl Registry for Agent {
    async fn next(&mut self) -> Result<Answer, Fault> {
        Sleep::until(self.pace.take(time::now())).await;
        let asked = self.index.asked();
        // Whatever becomes of this question, the next one waits for nothing unless it was
        // answered well.
        self.index.reset();
        let target = match asked {
            Some(index) => format!("{}&index={index}", self.target),
            None => self.target.clone(),
        };
        let mut request = request(Method::GET, &self.config.server, &target, Bytes::new())?;
        if let Some(token) = &self.config.token {
            request.headers_mut().insert("x-consul-token", token.clone());
        }
        let hang = if asked.is_some() { self.config.hang } else { Duration::ZERO };
        let whole = self.http.whole(request, hang).await?;
        let index =
            whole.headers().get("x-consul-index").and_then(|it| it.to_str().ok()?.parse().ok());
        let index: u64 = index.ok_or_else(|| {
            let text = "its answer has no `X-Consul-Index`: is that an agent?";
            Fault::new(RegistryErrorKind::Malformed, text)
        })?;
        let answer = parse(whole.body(), self.config.warning)?;
        if let Some(asked) = asked {
            self.index.answered(asked);
        }
        self.index.answered(index);
        Ok(answer)
    }
}
