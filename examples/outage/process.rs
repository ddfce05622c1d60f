//! One child process: started, listened to, told, ended.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command as Spawn};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::outage::BoxError;
use crate::outage::args::Http;
use crate::outage::lifeline::Word;

/// How long a child may take to listen, or to end. Far above what they need, on a busy machine too.
pub(crate) const CHILD_PATIENCE: Duration = Duration::from_secs(20);

/// Calls that met a fault, by the number of the fault.
pub(crate) type Met = Arc<Mutex<HashSet<(usize, u64)>>>;

/// A child, which ends at the latest when its standard input closes.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts this program again in another role.
    pub(crate) fn start(name: String, args: &[&str], kill_on_drop: bool) -> Result<Self, BoxError> {
        let mut child = Spawn::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(kill_on_drop)
            .spawn()
            .map_err(|error| format!("{name} can't be started: {error}"))?;
        let stdin = child.stdin.take();
        Ok(Self { name, child, stdin, listener: None })
    }

    /// Starts an instance of `payments`.
    pub(crate) fn payments(
        instance: usize,
        seed: u64,
        work: Duration,
        http: Http,
        ledger: SocketAddr,
    ) -> Result<Self, BoxError> {
        let number = instance.to_string();
        let (seed, http, ledger) = (seed.to_string(), http.to_string(), ledger.to_string());
        let name = format!("payments/{}", instance + 1);
        let work = work.as_micros().to_string();
        let who = ["payments", "--instance", &number, "--seed", &seed, "--work", &work];
        // Unlike the ledger, which has a folder to put away, these may be dropped at any time.
        Self::start(name, &[&who[..], &["--http", &http, "--ledger", &ledger]].concat(), true)
    }

    /// Finds out whether it ended, though nobody asked it to.
    ///
    /// # Errors
    /// It did.
    pub(crate) fn check(&mut self) -> Result<(), BoxError> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("{} ended on its own: {status}", self.name).into()),
            None => Ok(()),
        }
    }

    /// Kills it and waits for it; what it said is all heard then.
    pub(crate) async fn kill(&mut self) -> Result<(), BoxError> {
        self.start_kill()?;
        self.end().await
    }

    /// Kills it, and does not wait.
    pub(crate) fn start_kill(&mut self) -> Result<(), BoxError> {
        Ok(self.child.start_kill().or_else(gone)?)
    }

    /// Closes its standard input and waits for it.
    pub(crate) async fn end(&mut self) -> Result<(), BoxError> {
        self.stdin = None;
        let ended = timeout(CHILD_PATIENCE, self.child.wait()).await;
        ended.map_err(|_| format!("{} does not end", self.name))??;
        if let Some(listener) = self.listener.take() {
            // What it said last is still in the pipe.
            listener.await?;
        }
        Ok(())
    }

    /// Waits for the child's port, and listens to it from then on.
    pub(crate) async fn listens(&mut self, met: &Met) -> Result<SocketAddr, BoxError> {
        let stdout = self.child.stdout.take().ok_or("a child has one standard output")?;
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

    /// One line to its standard input.
    pub(crate) async fn tell(&mut self, word: &impl Serialize) -> Result<(), BoxError> {
        let stdin = self.stdin.as_mut().ok_or("a child is told nothing after its end")?;
        let line = serde_json::to_string(word)? + "\n";
        let sent = stdin.write_all(line.as_bytes()).await;
        sent.map_err(|error| format!("{} does not listen any more: {error}", self.name).into())
    }

    /// The number of a process that was not waited for, which nobody else can have.
    pub(crate) fn pid(&self) -> Result<u32, BoxError> {
        self.child.id().ok_or_else(|| format!("{} has ended", self.name).into())
    }
}

async fn listen(mut lines: Lines<BufReader<ChildStdout>>, met: Met) {
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Word::Met { fault, call }) => {
                met.lock().unwrap_or_else(PoisonError::into_inner).insert((fault, call));
            }
            // A killed child may be cut off within a line.
            Ok(Word::Listening(_)) | Err(_) => {}
        }
    }
}

/// To kill what has ended is no error.
fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}
