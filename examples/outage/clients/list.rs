//! The list of who serves, watched in the plainest way: read again every 100 ms.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::outage::BoxError;

const EVERY: Duration = Duration::from_millis(100);

/// The addresses, now and as they change. The watching ends with this.
pub(super) struct List {
    now: watch::Receiver<Vec<SocketAddr>>,
    task: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Form {
    endpoint: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    address: SocketAddr,
}

impl List {
    /// Reads the file, and watches it from then on. A file that can't be read later changes nothing.
    ///
    /// # Errors
    /// The file can't be read now.
    pub(super) fn watch(file: PathBuf) -> Result<Self, BoxError> {
        let (sender, now) = watch::channel(read(&file)?);
        let task = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Ok(addresses) = read(&file) {
                    sender.send_if_modified(|was| {
                        let changed = *was != addresses;
                        *was = addresses;
                        changed
                    });
                }
            }
        });
        Ok(Self { now, task })
    }

    /// The addresses, for one who wants to hear of changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.now.clone()
    }

    /// The address whose turn it is.
    pub(super) fn nth(&self, turn: usize) -> Option<SocketAddr> {
        let addresses = self.now.borrow();
        addresses.get(turn.checked_rem(addresses.len())?).copied()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(file: &Path) -> Result<Vec<SocketAddr>, BoxError> {
    let form: Form = toml::from_str(&std::fs::read_to_string(file)?)?;
    Ok(form.endpoint.into_iter().map(|endpoint| endpoint.address).collect())
}
