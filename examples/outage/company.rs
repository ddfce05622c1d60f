//! The company: its processes, started, made ill, healed and ended, and the list of who serves.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command as Spawn};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::outage::BoxError;
use crate::outage::args::Http;
use crate::outage::ledger::Charge;
use crate::outage::lifeline::{self, Watch, Word};
use crate::outage::payments::Command;
use crate::outage::plan::{Plan, Planned};
use crate::outage::scenario::Kind;

/// How long a child may take to listen, or to end. Far above what they need, on a busy machine too.
const CHILD_PATIENCE: Duration = Duration::from_secs(20);

/// Calls that met a fault, by the number of the fault.
pub(crate) type Met = Arc<Mutex<HashSet<(usize, u64)>>>;

/// The folder of one run.
///
/// The ledger removes it with its last breath; this does so too, for runs that never had a ledger.
pub(crate) struct Folder(PathBuf);

/// An address and whose it was; restarted instances have had several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) address: SocketAddr,
    pub(crate) instance: usize,
    /// The fault that killed it, if one did.
    pub(crate) killed_by: Option<usize>,
}

/// Everybody.
pub(crate) struct Company {
    seed: u64,
    http: Http,
    payments: Vec<Instance>,
    tenants: Vec<Tenant>,
    met: Met,
    warden: Warden,
    ledger: Ledger,
    // Last, so that it goes when nobody writes into it any more.
    folder: Folder,
}

struct Instance {
    process: Process,
    address: SocketAddr,
    listed: bool,
    /// Killed on purpose, and not back yet.
    dead: bool,
    /// Keeps the port of a killed instance from being given to somebody else: a caller of the
    /// dead address must be refused, not be served by a stranger.
    reserved: Option<Socket>,
    /// Faults that the process itself plays, told again to one that was restarted.
    ills: Vec<(usize, Kind)>,
}

struct Ledger {
    process: Process,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

struct Warden {
    process: Process,
}

struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
}

impl Folder {
    /// A new folder, in the folder that the system has for such things.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn create() -> std::io::Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!("outage-{}-{}", std::process::id(), now.as_nanos());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Usually the ledger was faster.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Company {
    /// Starts the ledger, the warden and the instances, and writes the list.
    ///
    /// Must be called on the main thread, which the children outlive by nothing.
    ///
    /// # Errors
    /// A child that does not start or does not listen.
    pub(crate) async fn start(plan: &Plan, http: Http) -> Result<Self, BoxError> {
        let folder = Folder::create()?;
        let met = Met::default();
        let path = folder.path().to_string_lossy().into_owned();
        let mut process =
            Process::start("ledger".to_owned(), &["ledger", "--folder", &path], false)?;
        let address = process.listens(&met).await?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let ledger = Ledger {
            process,
            address,
            client,
        };
        let warden = Warden {
            process: Process::start("warden".to_owned(), &["warden"], false)?,
        };
        let mut payments: Vec<Instance> = Vec::new();
        for (instance, listed) in plan.listed.iter().enumerate() {
            let process = Process::payments(instance, plan.seed, http, address)?;
            payments.push(Instance {
                process,
                address,
                listed: *listed,
                dead: false,
                reserved: None,
                ills: Vec::new(),
            });
        }
        let mut company = Self {
            seed: plan.seed,
            http,
            payments,
            tenants: Vec::new(),
            met,
            warden,
            ledger,
            folder,
        };
        for instance in 0..company.payments.len() {
            company.move_in(instance).await?;
        }
        company.write_list()?;
        Ok(company)
    }

    /// Begins a fault.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) async fn begin(&mut self, number: usize, fault: &Planned) -> Result<(), BoxError> {
        for place in &fault.instances {
            let instance = &mut self.payments[*place];
            match fault.kind {
                Kind::Kill => {
                    instance.kill().await?;
                    let address = instance.address;
                    let dead = self.tenants.iter_mut().filter(|one| one.address == address);
                    dead.for_each(|one| one.killed_by = Some(number));
                }
                Kind::Hang => {
                    let pid = instance.process.pid()?;
                    // The warden first: a drill that dies between the two leaves nobody stopped.
                    self.warden.tell(&Watch::Stopped(pid)).await?;
                    lifeline::signal(pid, Signal::STOP)?;
                }
                Kind::Leave | Kind::Join => instance.listed = fault.kind == Kind::Join,
                kind => {
                    instance.ills.push((number, kind));
                    instance
                        .tell(&Command::Begin {
                            fault: number,
                            kind,
                        })
                        .await?;
                }
            }
        }
        if fault.kind.changes_the_list() {
            self.write_list()
        } else {
            Ok(())
        }
    }

    /// Ends a fault.
    ///
    /// # Errors
    /// The system refuses, or an instance does not come back.
    pub(crate) async fn end(&mut self, number: usize, fault: &Planned) -> Result<(), BoxError> {
        for place in &fault.instances {
            let instance = &mut self.payments[*place];
            match fault.kind {
                Kind::Kill => {
                    let ledger = self.ledger.address;
                    instance.process = Process::payments(*place, self.seed, self.http, ledger)?;
                }
                Kind::Hang => {
                    let pid = instance.process.pid()?;
                    lifeline::signal(pid, Signal::CONT)?;
                    self.warden.tell(&Watch::Awake(pid)).await?;
                }
                Kind::Leave | Kind::Join => instance.listed = fault.kind == Kind::Leave,
                _ => {
                    instance.ills.retain(|(other, _)| *other != number);
                    instance.tell(&Command::End { fault: number }).await?;
                }
            }
        }
        if fault.kind == Kind::Kill {
            for place in &fault.instances {
                self.move_in(*place).await?;
            }
        }
        if fault.kind == Kind::Kill || fault.kind.changes_the_list() {
            self.write_list()?;
        }
        Ok(())
    }

    /// Finds a child that ended though nobody asked it to.
    ///
    /// # Errors
    /// It is named.
    pub(crate) fn check(&mut self) -> Result<(), BoxError> {
        let alive = self
            .payments
            .iter_mut()
            .filter(|one| !one.dead)
            .map(|one| &mut one.process);
        for process in alive.chain([&mut self.ledger.process, &mut self.warden.process]) {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{} ended on its own: {status}", process.name).into());
            }
        }
        Ok(())
    }

    /// The file of the list that the clients watch.
    pub(crate) fn list(&self) -> PathBuf {
        self.folder.path().join("payments.toml")
    }

    /// Every address that an instance ever had.
    pub(crate) fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// The calls that the instances saw meet a fault. Whole only after [`Self::stop`].
    pub(crate) fn met(&self) -> Met {
        self.met.clone()
    }

    /// Every charge in the ledger, after nothing was added for this long.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn audit(&self, quiet: Duration) -> Result<Vec<Charge>, BoxError> {
        let step = Duration::from_millis(100);
        let (mut count, mut still) = (self.ledger.get::<u64>("count").await?, Duration::ZERO);
        while still < quiet {
            sleep(step).await;
            let now = self.ledger.get::<u64>("count").await?;
            still = if now == count {
                still + step
            } else {
                Duration::ZERO
            };
            count = now;
        }
        self.ledger.get("charges").await
    }

    /// Ends everybody and waits for them.
    ///
    /// # Errors
    /// One can't be ended.
    pub(crate) async fn stop(mut self) -> Result<(), BoxError> {
        for instance in &mut self.payments {
            // A stopped process can be killed, and not asked.
            instance.process.child.start_kill().or_else(gone)?;
        }
        let payments = self
            .payments
            .iter_mut()
            .map(|instance| &mut instance.process);
        for process in payments.chain([&mut self.warden.process, &mut self.ledger.process]) {
            process.stdin = None;
            let ended = timeout(CHILD_PATIENCE, process.child.wait()).await;
            ended.map_err(|_| format!("{} does not end", process.name))??;
            if let Some(listener) = process.listener.take() {
                // What it said last is still in the pipe.
                listener.await?;
            }
        }
        Ok(())
    }

    /// Waits until an instance listens, and enters its address.
    async fn move_in(&mut self, place: usize) -> Result<(), BoxError> {
        let instance = &mut self.payments[place];
        instance.address = instance.process.listens(&self.met).await?;
        instance.dead = false;
        instance.reserved = None;
        let address = instance.address;
        self.tenants.push(Tenant {
            address,
            instance: place,
            killed_by: None,
        });
        for (fault, kind) in instance.ills.clone() {
            instance.tell(&Command::Begin { fault, kind }).await?;
        }
        Ok(())
    }

    /// Replaces the list in one step, so that no reader sees half of it.
    fn write_list(&self) -> Result<(), BoxError> {
        let mut text = String::new();
        for (place, instance) in self
            .payments
            .iter()
            .enumerate()
            .filter(|(_, one)| one.listed)
        {
            let (id, address) = (place + 1, instance.address);
            text += &format!("[[endpoint]]\nid = \"payments-{id}\"\naddress = \"{address}\"\n\n");
        }
        let beside = self.folder.path().join("payments.toml.new");
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, self.list())?;
        Ok(())
    }
}

impl Instance {
    async fn kill(&mut self) -> Result<(), BoxError> {
        self.dead = true;
        self.process.child.kill().await.or_else(gone)?;
        if let Some(listener) = self.process.listener.take() {
            listener.await?;
        }
        // If somebody was faster, then the address is not dead but foreign; say so.
        let reserved = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        reserved.set_reuse_address(true)?;
        match reserved.bind(&self.address.into()) {
            Ok(()) => self.reserved = Some(reserved),
            Err(error) => {
                lifeline::say(&format!(
                    "the dead address {} was taken: {error}",
                    self.address
                ));
            }
        }
        Ok(())
    }

    async fn tell(&mut self, command: &Command) -> Result<(), BoxError> {
        if self.dead {
            // It is told when it is back.
            return Ok(());
        }
        self.process.tell(&serde_json::to_string(command)?).await
    }
}

impl Warden {
    async fn tell(&mut self, watch: &Watch) -> Result<(), BoxError> {
        self.process.tell(&serde_json::to_string(watch)?).await
    }
}

impl Ledger {
    async fn get<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T, BoxError> {
        let request =
            Request::get(format!("http://{}/{what}", self.address)).body(Full::default())?;
        let whole = async {
            let body = self
                .client
                .request(request)
                .await?
                .into_body()
                .collect()
                .await?;
            Ok::<_, BoxError>(serde_json::from_slice(&body.to_bytes())?)
        };
        timeout(CHILD_PATIENCE, whole)
            .await
            .map_err(|_| "the ledger does not answer")?
    }
}

impl Process {
    /// Starts this program again in another role.
    fn start(name: String, args: &[&str], kill_on_drop: bool) -> Result<Self, BoxError> {
        let mut child = Spawn::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(kill_on_drop)
            .spawn()
            .map_err(|error| format!("{name} can't be started: {error}"))?;
        let stdin = child.stdin.take();
        Ok(Self {
            name,
            child,
            stdin,
            listener: None,
        })
    }

    fn payments(
        instance: usize,
        seed: u64,
        http: Http,
        ledger: SocketAddr,
    ) -> Result<Self, BoxError> {
        let number = instance.to_string();
        let (seed, http, ledger) = (seed.to_string(), http.to_string(), ledger.to_string());
        let name = format!("payments/{}", instance + 1);
        let args = [
            "payments",
            "--instance",
            &number,
            "--seed",
            &seed,
            "--http",
            &http,
        ];
        // Unlike the ledger, which has a folder to put away, these may be dropped at any time.
        Self::start(name, &[&args[..], &["--ledger", &ledger]].concat(), true)
    }

    /// Waits for the child's port, and listens to it from then on.
    async fn listens(&mut self, met: &Met) -> Result<SocketAddr, BoxError> {
        let stdout = self
            .child
            .stdout
            .take()
            .ok_or("a child has one standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(CHILD_PATIENCE, lines.next_line()).await;
        let line = first.map_err(|_| format!("{} does not listen", self.name))??;
        let line = line.ok_or_else(|| format!("{} ended before it listened", self.name))?;
        let Word::Listening(port) = serde_json::from_str(&line)? else {
            return Err(format!("{} said {line} before it listened", self.name).into());
        };
        self.listener = Some(tokio::spawn(listen(lines, met.clone())));
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    async fn tell(&mut self, line: &str) -> Result<(), BoxError> {
        let stdin = self
            .stdin
            .as_mut()
            .ok_or("a child is told nothing after its end")?;
        let sent = stdin.write_all(format!("{line}\n").as_bytes()).await;
        sent.map_err(|error| format!("{} does not listen any more: {error}", self.name).into())
    }

    /// The number of a process that was not waited for, which nobody else can have.
    fn pid(&self) -> Result<u32, BoxError> {
        self.child
            .id()
            .ok_or_else(|| format!("{} has ended", self.name).into())
    }
}

async fn listen(mut lines: Lines<BufReader<ChildStdout>>, met: Met) {
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Word::Met { fault, call }) => {
                met.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert((fault, call));
            }
            // A killed child may be cut off within a line.
            Ok(Word::Listening(_)) | Err(_) => {}
        }
    }
}

/// To kill what has ended is no error.
fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::InvalidInput {
        Ok(())
    } else {
        Err(error)
    }
}
