//! The company: its processes, started, made ill, healed and ended, and the list of who serves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::time::{sleep, timeout};

use crate::outage::BoxError;
use crate::outage::args::Http;
use crate::outage::ills::Command;
use crate::outage::ledger::Charge;
use crate::outage::lifeline::{self, Watch};
use crate::outage::plan::{Plan, Planned};
use crate::outage::process::{CHILD_PATIENCE, Met, Process};
use crate::outage::scenario::Kind;

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
    /// What a charge takes on average.
    work: Duration,
    http: Http,
    payments: Vec<Instance>,
    tenants: Vec<Tenant>,
    met: Met,
    warden: Process,
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

impl Folder {
    /// A new folder, in the folder that the system has for such things.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn create() -> std::io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
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
        let ledger = Ledger { process, address, client };
        let warden = Process::start("warden".to_owned(), &["warden"], false)?;
        let mut payments: Vec<Instance> = Vec::new();
        for (instance, listed) in plan.listed.iter().enumerate() {
            let process = Process::payments(instance, plan.seed, plan.work, http, address)?;
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
            work: plan.work,
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
                    instance.tell(&Command::Begin { fault: number, kind }).await?;
                }
            }
        }
        if fault.kind.changes_the_list() { self.write_list() } else { Ok(()) }
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
                    instance.process =
                        Process::payments(*place, self.seed, self.work, self.http, ledger)?;
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
        let alive = self.payments.iter_mut().filter(|one| !one.dead).map(|one| &mut one.process);
        let mut all = alive.chain([&mut self.ledger.process, &mut self.warden]);
        all.try_for_each(Process::check)
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
            still = if now == count { still + step } else { Duration::ZERO };
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
            instance.process.start_kill()?;
        }
        let payments = self.payments.iter_mut().map(|instance| &mut instance.process);
        for process in payments.chain([&mut self.warden, &mut self.ledger.process]) {
            process.end().await?;
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
        self.tenants.push(Tenant { address, instance: place, killed_by: None });
        for (fault, kind) in instance.ills.clone() {
            instance.tell(&Command::Begin { fault, kind }).await?;
        }
        Ok(())
    }

    /// Replaces the list in one step, so that no reader sees half of it.
    fn write_list(&self) -> Result<(), BoxError> {
        let mut text = String::new();
        for (place, instance) in self.payments.iter().enumerate().filter(|(_, one)| one.listed) {
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
        self.process.kill().await?;
        // If somebody was faster, then the address is not dead but foreign; say so.
        let reserved = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        reserved.set_reuse_address(true)?;
        match reserved.bind(&self.address.into()) {
            Ok(()) => self.reserved = Some(reserved),
            Err(error) => {
                lifeline::say(&format!("the dead address {} was taken: {error}", self.address));
            }
        }
        Ok(())
    }

    async fn tell(&mut self, command: &Command) -> Result<(), BoxError> {
        if self.dead {
            // It is told when it is back.
            return Ok(());
        }
        self.process.tell(command).await
    }
}

impl Ledger {
    async fn get<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T, BoxError> {
        let request =
            Request::get(format!("http://{}/{what}", self.address)).body(Full::default())?;
        let whole = async {
            let body = self.client.request(request).await?.into_body().collect().await?;
            Ok::<_, BoxError>(serde_json::from_slice(&body.to_bytes())?)
        };
        timeout(CHILD_PATIENCE, whole).await.map_err(|_| "the ledger does not answer")?
    }
}
