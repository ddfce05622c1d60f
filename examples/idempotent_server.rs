//! A server that carries out each idempotency key once, though it is killed in the middle of it:
//! the key's answer is committed together with the work.
//!
//! `cargo run --example idempotent_server`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use buttress::{
    BoxError,
    client::Client,
    endpoint::{Change, Endpoint},
    idempotency::server::{
        Answer, Begin, Claim, Honour, HonourConfig, HonourLayer, Lapse, Outcome, Record, Settled,
        Store, Token,
    },
    retry::RetryConfig,
};
use buttress_examples::support::child::{Child, end_with_parent, say};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, WriteTransaction,
};
use tokio::{net::TcpListener, sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Layer as _, Service};

/// What became of each key.
const KEYS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("keys");
/// The charges, by number.
const CHARGES: TableDefinition<'_, u64, &str> = TableDefinition::new("charges");

/// How long a charge may take. Short, so that this example is: after a crash it is waited for.
const LEASE: Duration = Duration::from_secs(1);

// --- The store, in the same database as the work ----------------------------------------------

/// Keys and charges in one file, so that one transaction can hold both.
#[derive(Clone)]
struct Ledger {
    database: Arc<Database>,
}

impl Ledger {
    fn open(file: &Path) -> Result<Self, BoxError> {
        let ledger = Self { database: Arc::new(Database::create(file)?) };
        let write = ledger.database.begin_write()?;
        write.open_table(CHARGES)?;
        // A server that lives long would do this every hour, by an index of `Record::expires`.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        write.open_table(KEYS)?.retain(|_, bytes| {
            Record::from_bytes(bytes).map_or(true, |record| !record.is_expired(now))
        })?;
        write.commit()?;
        Ok(ledger)
    }

    /// Makes a charge and settles its key, both or neither. `None` if the key is not ours any
    /// more: then nothing was charged.
    fn charge(&self, token: Option<Token>, what: &str) -> Result<Option<Answer>, BoxError> {
        let write = self.database.begin_write()?;
        let number = write.open_table(CHARGES)?.len()? + 1;
        write.open_table(CHARGES)?.insert(number, what)?;
        let answer = Answer::new(StatusCode::CREATED, format!("charge {number}: {what}"));
        if let Some(token) = token {
            let outcome = Outcome::Answered(answer.clone());
            if settle(&write, token, outcome)? == Settled::Superseded {
                write.abort()?;
                return Ok(None);
            }
        }
        // On disk when this returns.
        write.commit()?;
        Ok(Some(answer))
    }

    fn charges(&self) -> Result<u64, BoxError> {
        Ok(self.database.begin_read()?.open_table(CHARGES)?.len()?)
    }
}

impl Store for Ledger {
    type Error = BoxError;

    async fn begin(&self, claim: &Claim) -> Result<Begin, BoxError> {
        let (database, claim) = (Arc::clone(&self.database), claim.clone());
        spawn_blocking(move || {
            // There is one writer at a time: the look and the write that follows are one step.
            let write = database.begin_write()?;
            let (id, now) = (claim.token.id(), claim.since_epoch());
            let held = load(&write, id.as_bytes())?;
            let begin = Record::meet(held.as_ref(), &claim, now);
            if begin == Begin::New {
                let record = Record::new(&claim, now).to_bytes();
                write.open_table(KEYS)?.insert(id.as_bytes(), &record[..])?;
                write.commit()?;
            }
            Ok(begin)
        })
        .await?
    }

    async fn settle(&self, token: Token, outcome: Outcome) -> Result<Settled, BoxError> {
        let database = Arc::clone(&self.database);
        spawn_blocking(move || {
            let write = database.begin_write()?;
            let settled = settle(&write, token, outcome)?;
            write.commit()?;
            Ok(settled)
        })
        .await?
    }
}

fn load(write: &WriteTransaction, id: &[u8; 32]) -> Result<Option<Record>, BoxError> {
    let keys = write.open_table(KEYS)?;
    let held = keys.get(id)?;
    Ok(held.map(|bytes| Record::from_bytes(bytes.value())).transpose()?)
}

/// Settles a key within a transaction, whoever's it is.
fn settle(write: &WriteTransaction, token: Token, outcome: Outcome) -> Result<Settled, BoxError> {
    use buttress::idempotency::server::Change;

    let id = token.id();
    let change = Record::settle(load(write, id.as_bytes())?, token, outcome);
    match &change {
        Change::Save(record) => {
            write.open_table(KEYS)?.insert(id.as_bytes(), &record.to_bytes()[..])?;
        }
        Change::Remove => {
            write.open_table(KEYS)?.remove(id.as_bytes())?;
        }
        // It was settled before, or is not ours any more.
        _ => {}
    }
    Ok(change.settled())
}

// --- The service -------------------------------------------------------------------------------

/// Where a server stops and waits to be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Halt {
    /// The key is taken, and nothing is done.
    Begun,
    /// The work is done, and nothing is answered.
    Done,
}

#[derive(Clone)]
struct Payments {
    ledger: Ledger,
    halt: Option<Halt>,
    /// Whether it leaves the key out of its transaction, as a service has to whose work is in
    /// another system.
    apart: bool,
}

impl Payments {
    async fn answer<B>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, BoxError> {
        if request.method() != Method::POST {
            let charges = self.ledger.charges()?.to_string();
            return Ok(Response::new(Full::from(charges)));
        }
        self.halt(Halt::Begun).await?;
        let token = request.extensions().get::<Token>().copied().filter(|_| !self.apart);
        let ledger = self.ledger.clone();
        let charged = spawn_blocking(move || ledger.charge(token, "20 EUR")).await??;
        self.halt(Halt::Done).await?;
        Ok(match charged {
            Some(answer) => answer.into_response(),
            // Another attempt took the key, and the layer says so in place of this.
            None => status(StatusCode::CONFLICT),
        })
    }

    /// Says that it is there, and goes no further.
    async fn halt(&self, at: Halt) -> Result<(), BoxError> {
        if self.halt == Some(at) {
            say("halted")?;
            pending::<()>().await;
        }
        Ok(())
    }
}

impl<B: Send + 'static> Service<Request<B>> for Payments {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let answer = this.answer(request).await;
            Ok(answer.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR)))
        })
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// The child: `serve FILE [begun | done] [apart] [lease=SECONDS]`.
async fn serve(args: &[String]) -> Result<(), BoxError> {
    let file = args.first().ok_or("serve needs a file")?;
    let has = |word: &str| args.iter().any(|arg| arg == word);
    let halt = match (has("begun"), has("done")) {
        (true, _) => Some(Halt::Begun),
        (_, true) => Some(Halt::Done),
        _ => None,
    };
    let apart = has("apart");
    let lease = args.iter().find_map(|arg| arg.strip_prefix("lease="));
    let lease = lease.map_or(Ok(LEASE), |seconds| seconds.parse().map(Duration::from_secs))?;
    end_with_parent()?;
    let ledger = Ledger::open(Path::new(file))?;
    let config = HonourConfig::new()
        .required(true)
        .lease(lease)?
        // What has no answer was not done: `charge` sees to that. Apart from the key's record
        // nobody can say so, and nothing may be done again.
        .lapse(if apart { Lapse::Fail } else { Lapse::Execute });
    let layer = HonourLayer::new(config, ledger.clone());
    let service = layer.layer(Payments { ledger, halt, apart });

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    say(&format!("listening {}", listener.local_addr()?))?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service: Honour<Payments, Ledger> = service.clone();
        tokio::spawn(async move {
            let service = TowerToHyperService::new(service);
            // A caller that goes away comes again.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

// --- The story ---------------------------------------------------------------------------------

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((role, rest)) = args.split_first() {
        return if role == "serve" { serve(rest).await } else { Err("there is `serve`".into()) };
    }
    for (halt, when) in [("begun", "before the charge"), ("done", "after the charge")] {
        let name = format!("buttress-{}-{halt}.redb", std::process::id());
        let file = std::env::temp_dir().join(name);
        println!("The server is killed {when}, and started again:");
        let told = tell(&file, halt).await;
        std::fs::remove_file(&file)?;
        told?;
    }
    Ok(())
}

/// One call, whose server is killed in the middle of it.
async fn tell(file: &Path, halt: &str) -> Result<(), BoxError> {
    let (instances, found) = mpsc::unbounded_channel();
    let client = Client::builder("http://payments")
        .discover(UnboundedReceiverStream::new(found))
        .idempotency_keys()
        .retry(RetryConfig::new().max_attempts(10)?)
        .build()?;
    let mut server = start(file, &[halt])?;
    let announce = |address: SocketAddr| {
        let instance = Endpoint::new("payments", address);
        instances.send(Ok::<_, Infallible>(Change::Reset(vec![instance])))
    };
    announce(server.says("listening").await?.parse()?)?;

    let call = tokio::spawn({
        let client = client.clone();
        async move {
            client.send(Request::post("/charges").body("20 EUR")?).await.map_err(BoxError::from)
        }
    });
    server.says("halted").await?;
    server.kill().await?;
    let mut server = start(file, &[])?;
    announce(server.says("listening").await?.parse()?)?;

    let response = call.await??;
    let replayed = response.headers().contains_key("idempotent-replayed");
    let how = if replayed { "told again" } else { "carried out now" };
    let body = response.into_body().collect().await?;
    println!("  the same call got {:?}, {how}", String::from_utf8_lossy(&body));
    let charges = client.send(Request::get("/charges").body("")?).await?;
    let charges = charges.into_body().collect().await?;
    println!("  charges in the ledger: {}", String::from_utf8_lossy(&charges));
    server.end().await?;
    Ok(())
}

/// This program again, as a server on this file.
fn start(file: &Path, args: &[&str]) -> Result<Child, BoxError> {
    let mut all = vec![PathBuf::from("serve"), file.to_path_buf()];
    all.extend(args.iter().map(PathBuf::from));
    Child::start(&std::env::current_exe()?, &all)
}
