//! Eight instances of a service in this process, and what befalls them.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    endpoint::{Change, Endpoint},
};
use buttress_examples::support::{Server, answer};
use http::StatusCode;
use tokio::{sync::mpsc, time::sleep};

const NAMES: [&str; 8] = ["anna", "bert", "cleo", "dora", "emil", "fred", "gina", "hans"];

const BERT: usize = 1;
const CLEO: usize = 2;
const DORA: usize = 3;
const EMIL: usize = 4;

/// What the registry tells the client.
pub(crate) type Registry = mpsc::UnboundedReceiver<Result<Change, Infallible>>;

/// The instances, and the registry that lists them.
pub(crate) struct Company {
    members: Vec<Member>,
    registry: mpsc::UnboundedSender<Result<Change, Infallible>>,
}

struct Member {
    endpoint: Endpoint,
    ills: Arc<Ills>,
    /// None while it is dead.
    server: Option<Server>,
}

/// What an instance suffers from.
#[derive(Default)]
struct Ills {
    slow: AtomicBool,
    failing: AtomicBool,
    unwell: AtomicBool,
    requests: AtomicU32,
}

impl Company {
    pub(crate) async fn open() -> Result<(Self, Registry), BoxError> {
        let (registry, told) = mpsc::unbounded_channel();
        let mut members = Vec::new();
        for name in NAMES {
            members.push(Member::start(name).await?);
        }
        let list = members.iter().map(|member| member.endpoint.clone()).collect();
        registry.send(Ok(Change::Reset(list)))?;
        Ok((Self { members, registry }, told))
    }

    /// Plays the script again and again.
    pub(crate) async fn play(mut self) -> Result<Infallible, BoxError> {
        loop {
            wait(500).await;
            say("bert takes 80 ms in the place of 2");
            self.members[BERT].ills.slow.store(true, Ordering::Relaxed);
            say("cleo fails every fourth request, which no breaker minds");
            self.members[CLEO].ills.failing.store(true, Ordering::Relaxed);
            wait(500).await;
            say("dora is killed");
            self.members[DORA].server = None;
            wait(500).await;
            say("emil's health page says 503, though his answers are well");
            self.members[EMIL].ills.unwell.store(true, Ordering::Relaxed);
            wait(20_000).await;
            say("all are well again, and dora is back on another port");
            for member in &self.members {
                member.ills.heal();
            }
            let dora = Member::start(NAMES[DORA]).await?;
            let gone = std::mem::replace(&mut self.members[DORA], dora);
            self.registry.send(Ok(Change::Remove(gone.endpoint)))?;
            self.registry.send(Ok(Change::Add(self.members[DORA].endpoint.clone())))?;
            wait(20_000).await;
        }
    }
}

impl Member {
    async fn start(name: &'static str) -> Result<Self, BoxError> {
        let ills = Arc::new(Ills::default());
        let suffered = Arc::clone(&ills);
        let server = Server::start(move |request| {
            let (ills, is_check) = (Arc::clone(&suffered), request.uri().path() == "/health");
            async move { Some(answer(ills.status(is_check).await, name)) }
        })
        .await?;
        Ok(Self { endpoint: Endpoint::new(name, server.address()), ills, server: Some(server) })
    }
}

impl Ills {
    async fn status(&self, is_check: bool) -> StatusCode {
        if is_check {
            let unwell = self.unwell.load(Ordering::Relaxed);
            return if unwell { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        }
        wait(if self.slow.load(Ordering::Relaxed) { 80 } else { 2 }).await;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let fails = self.failing.load(Ordering::Relaxed) && number % 4 == 3;
        if fails { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
    }

    fn heal(&self) {
        for ill in [&self.slow, &self.failing, &self.unwell] {
            ill.store(false, Ordering::Relaxed);
        }
    }
}

async fn wait(milliseconds: u64) {
    sleep(Duration::from_millis(milliseconds)).await;
}

fn say(what: &str) {
    println!("  {what}");
}
