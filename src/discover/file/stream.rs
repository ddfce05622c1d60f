//! Reads the file again and again.

use std::{
    fs,
    future::Future,
    io::{self, Read},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    error::FileError,
    state::{Step, Watch},
};
use crate::{
    discover::{config::DAY, error::InvalidDiscover},
    endpoint::Change,
    time::{self, Sleep},
};

/// The endpoints that a TOML file lists, and every change of them:
///
/// ```toml
/// [[endpoint]]
/// id = "payments-1"            # the address, when left out
/// address = "127.0.0.1:40001"
/// weight = 2                   # 1, when left out
/// priority = 1                 # 0, when left out
/// zone = "eu-1a"               # none, when left out
///
/// [[endpoint]]
/// address = "[::1]:40002"
/// ```
///
/// - It is read when the stream is first polled, and then at an [interval](Self::interval).
///   Contents are compared, so it does not matter whether it is written in place or
///   replaced. A change counts when it was read twice the same, 20 ms apart: half of a
///   list is a list too. (Whoever writes slower than that replaces the file by a rename.)
/// - A file that is malformed, missing or without an endpoint, or that lists an id or an
///   address twice, gives a [`FileError`], once; the last good set stays.
/// - It says [`Change::Reset`] only when the set, a weight, a priority or a zone differs, and
///   never ends.
///
/// It is polled, not notified: that works on every file system and through the symbolic
/// links of a mounted Kubernetes volume, where notifications go astray.
///
/// ```
/// use buttress::discover::{Change, File};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), buttress::BoxError> {
/// # let path = std::env::temp_dir().join(format!("buttress-doc-{}.toml", std::process::id()));
/// std::fs::write(&path, "[[endpoint]]\naddress = \"127.0.0.1:40001\"\n")?;
/// let mut file = File::new(&path);
/// let Some(Ok(Change::Reset(endpoints))) = file.next().await else {
///     return Err("it is there and well".into());
/// };
/// assert_eq!(endpoints[0].id(), "127.0.0.1:40001");
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// When it is polled outside of a tokio runtime with timers. To make one needs none.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct File {
    path: Arc<Path>,
    interval: Duration,
    watch: Watch,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Due,
    Reading(JoinHandle<io::Result<Vec<u8>>>),
    // Boxed, so that the stream can be moved; one a reading.
    Waiting(Pin<Box<Sleep>>),
}

impl File {
    /// Watches `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self { path: path.into(), interval: INTERVAL, watch: Watch::default(), stage: Stage::Due }
    }

    /// Reads it this often (default: every 500 ms).
    ///
    /// # Errors
    ///
    /// If it is less than a millisecond or more than a day.
    pub fn interval(mut self, interval: Duration) -> Result<Self, InvalidDiscover> {
        if interval < Duration::from_millis(1) {
            return Err(InvalidDiscover::new("a file's interval must be at least a millisecond"));
        }
        if interval > DAY {
            return Err(InvalidDiscover::new("a file's interval must be at most a day"));
        }
        self.interval = interval;
        Ok(self)
    }
}

impl Stream for File {
    type Item = Result<Change, FileError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let reading = match &mut this.stage {
                Stage::Due => {
                    let path = Arc::clone(&this.path);
                    // A disk may take its time: not on the threads that serve calls.
                    let reading = spawn_blocking(move || read(&path));
                    this.stage = Stage::Reading(reading);
                    continue;
                }
                Stage::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    this.stage = Stage::Due;
                    continue;
                }
                Stage::Reading(reading) => ready!(Pin::new(reading).poll(cx)),
            };
            // The runtime shuts down, or the reading panicked; either way nothing was read.
            let reading = reading.unwrap_or_else(|error| Err(io::Error::other(error)));
            let step = this.watch.read(reading);
            let wait = match step {
                Step::ReadAgain => SETTLE.min(this.interval),
                _ => this.interval,
            };
            this.stage = Stage::Waiting(Box::pin(Sleep::until(time::now() + wait)));
            match step {
                Step::Nothing | Step::ReadAgain => {}
                Step::Set(set) => return Poll::Ready(Some(Ok(Change::Reset(set)))),
                Step::Fault(fault) => {
                    return Poll::Ready(Some(Err(FileError::new(&this.path, fault))));
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before it is opened: to open a pipe waits for its writer, perhaps for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        let text = format!("it has more than {MOST} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// 500 ms: a change is known before a person has looked up from writing it, and well within
/// the grace that deployments give to an instance that leaves. Two reads of a small file a
/// second don't show in any profile.
const INTERVAL: Duration = Duration::from_millis(500);

/// 20 ms: a small file is written in far less.
const SETTLE: Duration = Duration::from_millis(20);

/// 4 MiB, about 80,000 endpoints. More than that is another file, named by mistake.
const MOST: u64 = 4 * 1024 * 1024;
